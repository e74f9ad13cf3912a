"""Statistics against values computed by hand, closed formulas, and simulation."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import combinations

import pytest

from doitune.data.example import Message
from doitune.errors import CheckpointError, DataError, UsageError
from doitune.evals.compare import Side, compare, read_side
from doitune.evals.evaluate import outcomes
from doitune.evals.find import find_evaluations
from doitune.evals.markdown import answers_markdown, escape, notes, report_markdown
from doitune.evals.paired import holm, mcnemar, paired_test, smallest_detectable
from doitune.evals.reading.answers import judge
from doitune.evals.report import Mean, Outcome, Report, effective_n, macro, micro, score_set, tabulate
from doitune.evals.saved import Line
from doitune.evals.task import Item, Reply
from doitune.run.folder import Run


def side(name: str, answers: dict[str, list[float]], clusters: int = 0, suite: str = "s") -> Side:
    """A side from the credits of each set's questions; `clusters` questions share a passage."""
    found = {}
    for label, credits in answers.items():
        for n, credit in enumerate(credits):
            key = f"{label}#{n:04d}"
            found[key] = Outcome(
                key, label, credit, 0.25, cluster=f"{label}/{n // clusters}" if clusters else ""
            )
    return Side(name, suite, 0, found, dict.fromkeys(found, "d"), tuple(answers), tuple(answers))


def pair_of(up: int, down: int, both: int = 30, none: int = 30, name: str = "x") -> tuple[Side, Side]:
    a = [0.0] * up + [1.0] * down + [1.0] * both + [0.0] * none
    b = [1.0] * up + [0.0] * down + [1.0] * both + [0.0] * none
    return side("a", {name: a}), side("b", {name: b})


@pytest.mark.parametrize(
    "up, down, p",
    [
        (0, 0, 1.0),
        (15, 5, 0.041389),
        (14, 6, 0.115318),
        (27, 13, 0.038477),
        (26, 14, 0.080689),
        (0, 6, 0.03125),
        (1, 7, 0.0703125),
    ],
)
def test_mcnemar_by_hand(up, down, p):
    assert mcnemar(up, down) == mcnemar(down, up) == pytest.approx(p, abs=1e-5)


def test_mcnemar_is_the_binomial_test():
    stats = pytest.importorskip(
        "scipy.stats", reason="scipy is not a dependency; the hand-made values above need none"
    )
    for up in range(0, 40, 3):
        for down in range(1, 40, 4):
            assert mcnemar(up, down) == pytest.approx(stats.binomtest(up, up + down).pvalue, rel=1e-9)
    assert 0 <= mcnemar(4000, 4100) <= 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_holm_is_the_closed_test_of_bonferroni():
    """An independent definition: a hypothesis's corrected p is the largest that Bonferroni gives to any
    family that holds it."""
    dice = random.Random(3)
    for _ in range(30):
        values = [dice.choice([dice.random(), dice.random() ** 4, 0.01]) for _ in range(dice.randint(1, 7))]
        families = [
            family for size in range(1, len(values) + 1) for family in combinations(range(len(values)), size)
        ]
        closed = [
            max(min(1.0, len(f) * min(values[j] for j in f)) for f in families if i in f)
            for i in range(len(values))
        ]
        assert holm(values) == pytest.approx(closed)


def test_smallest_detectable_by_hand():
    assert (smallest_detectable(20), smallest_detectable(40)) == (10, 14)
    assert smallest_detectable(0) == smallest_detectable(5) == 6, "six to none is the least that 5 % can show"
    assert paired_test([1.0] * 3 + [-1.0] * 17, 1.0) == (mcnemar(3, 17), 10)
    assert paired_test([], 0.25) == (1.0, 1.5) and paired_test([0.0, 0.0], 0.25) == (1.0, 1.5)


@pytest.mark.parametrize("up, down", [(u, d) for u in (0, 3, 8, 15, 30) for d in (0, 2, 5, 9, 14, 30)])
def test_thirty_pairs_with_known_answers(up, down):
    a, b = pair_of(up, down)
    row = compare(a, b).sets[0]
    n = 60 + up + down
    assert (row.flips_up, row.flips_down, row.n) == (up, down, n)
    assert row.difference == pytest.approx((up - down) / n)
    assert (
        row.mcnemar_p
        == row.holm_p
        == pytest.approx(
            min(1, 2 * sum(math.comb(up + down, k) for k in range(min(up, down) + 1)) / 2 ** (up + down))
        )
    )
    spread = math.sqrt(((up + down) / n - ((up - down) / n) ** 2) / n)
    assert row.low == pytest.approx(row.difference - 1.96 * spread, abs=0.05)
    assert row.high == pytest.approx(row.difference + 1.96 * spread, abs=0.05)
    assert (row.mcnemar_p < 0.05) == (not row.low <= 0 <= row.high), "the interval and the test say the same"
    wanted = "better" if up > down else "worse"
    assert row.verdict == (
        wanted if row.mcnemar_p < 0.05 else "no difference" if up + down == 0 else "no difference shown"
    )
    assert abs(row.difference) < row.smallest_detectable or row.mcnemar_p < 0.05


def test_clusters_count_as_a_whole():
    dice = random.Random(2)
    a, b = ([float(dice.random() < 0.5) for _ in range(50)] for _ in range(2))
    lone = compare(side("a", {"x": a}), side("b", {"x": b})).sets[0]
    four = [[value for value in side_ for _ in range(4)] for side_ in (a, b)]
    clustered = compare(side("a", {"x": four[0]}, clusters=4), side("b", {"x": four[1]}, clusters=4)).sets[0]
    naive = compare(side("a", {"x": four[0]}), side("b", {"x": four[1]})).sets[0]
    assert clustered.high - clustered.low == pytest.approx(lone.high - lone.low, rel=0.1)
    assert clustered.mcnemar_p == pytest.approx(lone.mcnemar_p) != naive.mcnemar_p
    assert naive.high - naive.low < 0.6 * (clustered.high - clustered.low), (
        "the trap: copies make it look sure"
    )
    assert clustered.clustered and not naive.clustered


def test_effective_n_counts_passages():
    alone = [Outcome(str(n), "x", float(n % 2), 0.25) for n in range(40)]
    assert effective_n(alone) == 40
    copies = [replace(one, id=f"{one.id}/{k}", cluster=one.id) for one in alone for k in range(5)]
    assert effective_n(copies) == pytest.approx(40)
    assert score_set("x", copies).low == pytest.approx(score_set("x", alone).low, abs=0.02)


def test_the_mean_is_over_sets_and_its_error_is_by_hand():
    asked = [Outcome(f"a{n}", "a", float(n < 80), 0.25) for n in range(100)] + [
        Outcome(f"b{n}", "b", float(n < 6), 0.0) for n in range(10)
    ]
    table = tabulate("fixed", asked, order=("b", "a"))
    assert [one.name for one in table.sets] == ["b", "a"]
    assert table.mean.score == pytest.approx(0.7) and table.micro.score == pytest.approx(86 / 110)
    assert table.mean.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 99 + 0.6 * 0.4 / 9) / 2)
    assert table.mean.low < 0.7 < table.mean.high and table.mean.chance == pytest.approx(0.125)
    assert tabulate("paper", asked, order=()).mean_as_released == pytest.approx(0.35), (
        "the released scorer halves it"
    )
    assert table.mean_as_released is None
    sure = [score_set(name, [Outcome(f"{name}{n}", name, 1.0, 0.25) for n in range(10)]) for name in "cd"]
    assert macro(sure).standard_error == 0 and macro(sure).low < 1, "a perfect small set is not certain"
    assert isinstance(micro(sure), Mean)


def test_chance_inside_the_interval_is_marked():
    table = tabulate("fixed", [Outcome(f"{n}", "x", float(n % 4 == 0), 0.25) for n in range(40)], order=())
    assert table.sets[0].within_chance and any("Guessing" in note for note in notes(table))


def test_identical_sides_differ_in_nothing():
    """Trap: an interval of no width, as if so many questions could exclude every difference."""
    a, b = pair_of(10, 4)
    same = compare(a, replace(a, name="again")).mean
    assert same.verdict == "no difference" and same.mcnemar_p == 1 and same.difference == 0
    assert same.low == pytest.approx(-same.high) and 0.01 < same.high < 0.05
    assert compare(a, b) == compare(a, b)
    back, forth = compare(b, a).mean, compare(a, b).mean
    assert back.difference == -forth.difference and (back.flips_up, back.flips_down) == (4, 10)
    assert (back.low, back.high) == pytest.approx(
        (-forth.high, -forth.low)
    ) and back.mcnemar_p == forth.mcnemar_p


def test_holm_is_over_the_sets():
    first, second = {}, {}
    for n in range(10):
        a, b = pair_of(9 if n == 0 else 3, 1 if n == 0 else 3, name=f"s{n}")
        first |= {f"s{n}": [a.outcomes[key].correct for key in a.outcomes]}
        second |= {f"s{n}": [b.outcomes[key].correct for key in b.outcomes]}
    found = compare(side("a", first), side("b", second))
    assert (
        found.sets[0].mcnemar_p < 0.05 < found.sets[0].holm_p == pytest.approx(10 * found.sets[0].mcnemar_p)
    )
    assert found.sets[0].verdict == "no difference shown"


def test_the_mean_is_not_called_better_for_a_handful_of_flips():
    row = compare(*pair_of(5, 0, both=60, none=35)).mean
    assert row.mcnemar_p > 0.05 and row.verdict == "no difference shown", "the trap: few flips, all one way"
    assert row.low <= 0, "the interval must not exclude what the test does not"


def test_the_mean_is_tested_as_it_is_computed():
    """The trap: 60 questions lost in a large set and 20 gained in a small one are 40 lost in all, while the
    mean over sets rises; the test pooled the questions and the verdict went with the mean."""
    a = side("a", {"large": [1.0] * 60 + [0.0] * 340, "small": [0.0] * 20})
    b = side("b", {"large": [0.0] * 400, "small": [1.0] * 20})
    row = compare(a, b).mean
    assert row.difference == pytest.approx((1 - 60 / 400) / 2) and row.verdict == "better"
    assert 2e-5 < row.mcnemar_p < 1e-4, "hand-made: 18 or more of 20 signs, some with the help of the others"
    few = side("b", {"large": [0.0] * 400, "small": [1.0] * 4 + [0.0] * 16})
    row = compare(a, few).mean
    assert row.difference > 0 and mcnemar(4, 60) < 1e-9, "pooled, nothing is surer than that b is worse"
    assert row.mcnemar_p > 0.2 and row.low < 0 < row.high and row.verdict == "no difference shown"


def test_passages_that_change_as_a_whole_are_not_evidence_by_the_question():
    """Null data: each of 60 passages of five gains or loses as a whole, by a coin. McNemar's test over the
    questions calls 36 % of such comparisons better or worse."""
    dice, rounds = random.Random(0), 200
    naive = called = 0
    for _ in range(rounds):
        ways = [dice.choice((0.0, 1.0)) for _ in range(60)]
        after = [way for way in ways for _ in range(5)]
        row = compare(side("a", {"x": [1 - x for x in after]}, 5), side("b", {"x": after}, 5)).sets[0]
        naive += mcnemar(row.flips_up, row.flips_down) < 0.05
        called += row.verdict in ("better", "worse")
    assert naive / rounds > 0.3 and called / rounds <= 0.06


def test_no_interval_has_no_width():
    """The trap: five of five questions flipped, and the interval was [-100, -100]; of credits, [-25, -25]."""
    for lost in (1.0, 0.25):
        row = compare(side("a", {"x": [lost] * 5}), side("b", {"x": [0.0] * 5})).sets[0]
        assert row.low <= row.difference == -lost < row.high and row.high - row.low > 0.5
        assert row.mcnemar_p == 0.0625 and row.verdict == "no difference shown"


def test_a_share_of_credit_counts_as_a_share():
    """The trap: a tie of four options is worth a quarter, and was one flip like any other."""
    a, b = side("a", {"x": [0.0] * 40 + [1.0] * 8}), side("b", {"x": [0.25] * 40 + [0.0] * 8})
    row = compare(a, b).sets[0]
    assert (row.flips_up, row.flips_down) == (40, 8) and row.difference == pytest.approx(2 / 48)
    assert mcnemar(40, 8) < 1e-5 < 0.4 < row.mcnemar_p, "10 points up and 8 down are no sure gain"
    shared = score_set("x", list(b.outcomes.values()))
    assert shared.score == pytest.approx(10 / 48)


def test_a_margin_says_no_worse_or_equivalent():
    a = [1.0, 0.0] * 500
    b = [0.0, 1.0, *a[2:]]
    near = compare(side("a", {"x": a}), side("b", {"x": b}), margin=0.03).mean
    assert near.no_worse is True and near.equivalent is True
    few = compare(side("a", {"x": a[:20]}), side("b", {"x": b[:20]}), margin=0.03).mean
    assert few.no_worse is False and few.equivalent is False, "twenty questions show nothing about 3 points"
    better = compare(side("a", {"x": [0.0] * 200}), side("b", {"x": [1.0] * 200}), margin=0.03).mean
    assert better.no_worse is True and better.equivalent is False
    assert compare(side("a", {"x": a}), side("b", {"x": b})).mean.no_worse is None


def test_a_margin_is_answered_on_the_page_and_one_that_is_none_is_refused(capsys):
    """Trap: a margin that only the JSON answers."""
    from doitune.console.scores import show_comparisons

    a, b = side("a", {"x": [1.0] * 200}), side("b", {"x": [1.0] * 200})
    found = compare(a, b, margin=0.02)
    show_comparisons([found])
    assert "worse by at most 2" in (shown := capsys.readouterr().out) and "equivalent" in shown
    worse = compare(a, side("b", {"x": [0.0] * 100 + [1.0] * 100}), margin=0.02)
    assert worse.against_margin(worse.mean) == "not shown" and compare(a, b).against_margin(found.mean) == ""
    for margin in (-0.01, float("nan"), 1.0, float("inf")):
        with pytest.raises(UsageError, match="margin"):
            compare(a, b, margin=margin)


def test_one_evaluation_alone_stands_beside_its_base(tmp_path):
    """Trap: `RUN@20` alone was looked up as `RUN@20@base`."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "outcomes.jsonl").write_text("", encoding="utf-8")
    for text in (str(tmp_path / "here"), "last@base"):
        with pytest.raises(UsageError, match="nothing beside it"):
            find_evaluations([text], suite="doit-test", runs=tmp_path)
    run = Run(tmp_path / "runs" / "demo" / "20260101-000000")
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.yaml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="no evaluation doit-test of base"):
        find_evaluations([f"{run.folder}@20"], suite="doit-test", runs=tmp_path / "runs")


def test_only_the_same_questions_are_paired(tmp_path):
    a, b = side("a", {"x": [1.0] * 10}), side("b", {"x": [1.0] * 12})
    assert compare(a, b).mean.n == 10 and compare(a, b).unpaired == 2
    other = replace(b, documents=dict.fromkeys(b.documents, "another"))
    with pytest.raises(DataError, match="share no question"):
        compare(a, other)
    with pytest.raises(DataError, match="t with 0"):
        compare(a, side("b", {"x": [1.0]}, suite="t"))
    with pytest.raises(CheckpointError, match="no evaluation"):
        read_side(tmp_path)


def test_rows_are_what_scripts_rely_on():
    a, b = pair_of(5, 1)
    rows = compare(a, b).rows()
    wanted = {
        "a",
        "b",
        "set",
        "n",
        "difference",
        "low",
        "high",
        "mcnemar_p",
        "holm_p",
        "flips_up",
        "flips_down",
        "smallest_detectable",
    }
    assert [row["set"] for row in rows] == ["mean", "x"] and all(wanted <= set(row) for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "| a | b |\n|---|",
        "**bold** [x](y)",
        "`code` ![i](j)",
        "a\u202eb\x1b[31m",
        "# head\n- item",
    ],
)
def test_text_of_models_is_shown_and_never_markup(text):
    shown = escape(text)
    assert "\n" not in shown and "<" not in shown and "\x1b" not in shown and "\u202e" not in shown
    for mark in "`*_[]()#|!":
        at = [n for n, character in enumerate(shown) if character == mark]
        assert all(shown[n - 1] == "\\" for n in at), shown


def test_a_report_reads_as_markdown():
    asked = [Outcome(f"{n}", "x|y", float(n % 2), 0.25, read=n > 5) for n in range(40)]
    tables = tuple(tabulate(protocol, asked, order=(), headline=()) for protocol in ("fixed", "paper"))
    report = Report("doit-test", 5, {"base": "<b>"}, tables, 40, 80, ())
    page = report_markdown(report)
    assert "Partial: 40 of 80" in page and "x\\|y" in page and "5 shots" in page and "&lt;b&gt;" in page
    assert "held no answer" in page and "half of the mean" in page


def test_a_tie_was_read_and_says_its_share():
    """Trap: a tie earns a quarter and was counted among the replies that could not be read and score nothing."""
    item = Item(
        "x#0", "x", "single_choice", "letters", (Message("user", "?"),), "A", options=("A", "B", "C", "D")
    )
    for scores, credit in (([1.0] * 4, 0.25), ([1.0, 1.0, 0.0, 0.0], 0.5), ([0.0, 1.0, 1.0, 0.0], 0.0)):
        verdict = judge("single_choice", None, "A", protocol="fixed", option_scores=scores)
        line = Line(
            item, "", "", Reply("", 1, option_scores=tuple(scores)), {"fixed": verdict}, {"fixed": 0.25}
        )
        [outcome] = outcomes([line], "fixed")
        assert outcome.correct == credit and outcome.read and outcome.chosen == ""
        page = answers_markdown([line])
        assert "tie of" in page and (f"{100 * credit:.0f} % of the credit" in page) == (0 < credit < 1)
    assert not judge("single_choice", "?", "A", protocol="fixed").found
