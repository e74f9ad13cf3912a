"""Rows of one's own kept out of training: seeded, nested, never given away by another row, written into the run."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from doitune.data.compared import Compared
from doitune.data.corpus import open_corpus
from doitune.data.example import Example, Message
from doitune.data.forms import implied_form
from doitune.data.holdout import Holdout, part
from doitune.data.leaks import (
    _NOT_PLAIN,
    _table,
    leaks_of,
    normalised,
    normalised_all,
    whole_text,
    whole_texts,
)
from doitune.data.scan import scan_examples
from doitune.data.sources import SMALL, TEST, VALID
from doitune.errors import DataError
from doitune.prepare.draw import draw
from doitune.recipe.resolve import resolve


def row(ability: str, number: int, question: str = "", answer: str = "") -> dict[str, object]:
    dice = random.Random(f"{ability}{number}")
    said = "".join(chr(dice.randrange(0x4E00, 0x9000)) for _ in range(30))
    turns = [
        {"role": "user", "content": question or f"第{number}号：{said}"},
        {"role": "assistant", "content": answer or f"答{number}：{said[::-1]}"},
    ]
    return {"messages": turns, "ability": ability}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def examples(tmp_path: Path, counts: dict[str, int]) -> dict[str, list[Example]]:
    rows = [row(name, number) for name, count in counts.items() for number in range(count)]
    scan = scan_examples(write(tmp_path / "x.jsonl", rows), ability=None, id_prefix="x", split="train")
    assert not scan.findings
    return {name: [one for one in scan.examples if one.ability == name] for name in counts}


def ids(rows: dict[str, tuple[Example, ...]], name: str) -> list[str]:
    return [one.id for one in rows[name]]


def test_what_is_kept_out_is_a_share_of_each_ability_and_in_no_other_part(tmp_path: Path) -> None:
    rows = examples(tmp_path, {"客服": 100, "摘要": 30, "诗": 6})
    found = part(rows, Holdout(0.05, 200, 0))
    assert {name: len(kept) for name, kept in found.kept_out.items()} == {"客服": 5, "摘要": 2}
    assert {name: len(kept) for name, kept in found.learnt.items()} == {"客服": 95, "摘要": 28, "诗": 6}
    kept = {one.id for some in found.kept_out.values() for one in some}
    learnt = {one.id for some in found.learnt.values() for one in some}
    assert not kept & learnt and len(kept | learnt) == 136
    assert part(rows, Holdout(0.5, 3, 0)).kept_out.keys() == {"客服", "摘要", "诗"}
    assert all(len(some) == 3 for some in part(rows, Holdout(0.5, 3, 0)).kept_out.values())
    assert not part(rows, Holdout(0.0, 200, 0))


def test_a_smaller_share_is_within_a_larger_and_the_order_of_rows_says_nothing(tmp_path: Path) -> None:
    rows = examples(tmp_path, {"客服": 100})
    small = ids(part(rows, Holdout(0.05, 200, 0)).kept_out, "客服")
    large = ids(part(rows, Holdout(0.2, 200, 0)).kept_out, "客服")
    assert large[: len(small)] == small and len(large) == 20
    backwards = {"客服": rows["客服"][::-1]}
    assert ids(part(backwards, Holdout(0.2, 200, 0)).kept_out, "客服") == large
    assert ids(part(rows, Holdout(0.2, 200, 1)).kept_out, "客服") != large


def test_no_row_is_kept_out_that_another_gives_away(tmp_path: Path) -> None:
    """Trap: a copy in the training set, or the same question with another answer, is a score for nothing."""
    long = "请问一共有多少个苹果在桌子上面放着，没有被小朋友们吃掉"
    rows = [row("客服", number) for number in range(30)]
    rows += [row("客服", 90, f"{long}？第{number % 10}题", f"答案{number}") for number in range(20)]
    rows += [row("摘要", 1), row("摘要", 1), *(row("摘要", number) for number in range(2, 12))]
    scan = scan_examples(write(tmp_path / "x.jsonl", rows), ability=None, id_prefix="x", split="train")
    of = {name: [one for one in scan.examples if one.ability == name] for name in ("客服", "摘要")}
    found = part(of, Holdout(0.3, 200, 0))
    kept = [one for some in found.kept_out.values() for one in some]
    learnt = [one for some in found.learnt.values() for one in some]
    assert len(kept) > 6 and not leaks_of(learnt, {"x": kept})
    for number, one in enumerate(kept):
        assert not leaks_of(kept[:number] + kept[number + 1 :], {"x": [one]})
    # rows alike that nobody keeps out are found by the same measure
    assert leaks_of([one for one in learnt if long in one.question[-1].content][:1], {"x": learnt})


@pytest.mark.parametrize(
    ("question", "answer", "form", "label"),
    [
        ("选一项\nA. 甲\nB. 乙\nC. 丙\nD. 丁", "B", "single_choice", "B"),
        ("选几项\nA. 甲\nB. 乙\nC. 丙\nD. 丁", "CA", "multi_choice", "AC"),
        ("对吗？", "正确。", "tf", "T"),
        ("对吗？", "错", "tf", "F"),
        ("维生素里哪一种？", "A", "open", "A"),
        ("Which?", "T", "open", "T"),
        ("写一句", " 春天来了。 ", "open", "春天来了。"),
    ],
)
def test_the_form_of_answer_goes_with_the_row(question: str, answer: str, form: str, label: str) -> None:
    found = implied_form(question, answer)
    assert (found.form, found.label) == (form, label)


def test_a_corpus_with_a_holdout(tmp_path: Path) -> None:
    rows = write(tmp_path / "own.jsonl", [row("客服", number) for number in range(60)])
    plain, parted = open_corpus(str(rows)), open_corpus(str(rows), holdout=Holdout(0.1, 200, 0))
    assert TEST not in plain.sources() and VALID not in plain.sources()
    assert {VALID, TEST} <= set(parted.sources()) and len(parted.parted.kept_out["客服"]) == 6
    found = {source: [one.id for one in parted.read(source)["客服"]] for source in (SMALL, VALID, TEST)}
    assert [len(found[source]) for source in (SMALL, VALID, TEST)] == [54, 3, 3]
    assert len({one for some in found.values() for one in some}) == 60
    assert all(one.form == "open" and one.label == one.answer for one in parted.read(TEST)["客服"])
    # one's own valid or test rows are used as they are
    has_test = [*(row("客服", number) for number in range(60)), {**row("客服", 70), "split": "valid", "question_format": 1,
                "choices": [row("客服", 70)["messages"][1]["content"], "不知道", "没有"]}]  # fmt: skip
    own = open_corpus(str(write(tmp_path / "own2.jsonl", has_test)), holdout=Holdout(0.1, 200, 0))
    assert not own.parted and len(own.read(SMALL)["客服"]) == 60


def test_a_budget_that_the_holdout_leaves_short_says_so(tmp_path: Path) -> None:
    rows = write(tmp_path / "own.jsonl", [row("客服", number) for number in range(60)])

    def drawn(*overrides: str) -> int:
        return len(draw(resolve("own", corpus=str(rows), overrides=list(overrides)).recipe)[0].examples)

    assert (drawn(), drawn("data.holdout=0"), drawn("data.budget={客服: 57}")) == (57, 60, 57)
    with pytest.raises(DataError) as caught:
        drawn("data.budget={客服: 60}")
    (problem,) = caught.value.problems  # no second one, which would be no error
    assert problem.hint.endswith("客服 3 (data.holdout)")
    assert drawn("data.budget={客服: 60}", "data.holdout=0") == 60


def test_a_recipe_of_before_keeps_nothing_out(tmp_path: Path) -> None:
    """Trap: an older run's recipe.yaml does not name the field; its resume would learn from other rows."""
    rows = write(tmp_path / "own.jsonl", [row("客服", number) for number in range(60)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: demo}}\ndata: {{corpus: {rows}, budget: {{客服: all}}}}\n", encoding="utf-8"
    )
    assert len(draw(resolve(str(recipe)).recipe)[0].examples) == 60


def test_a_question_of_several_turns_is_read_by_its_last() -> None:
    talk = (
        Message("user", "先问"),
        Message("assistant", "先答"),
        Message("user", "对吗"),
        Message("assistant", "对"),
    )
    one = Example("x#1", "客服", talk, "open", "x:1")
    found = part({"客服": [one, *(_other(number) for number in range(40))]}, Holdout(0.5, 200, 0))
    kept = {row.id: row for row in found.kept_out["客服"]}
    assert len(kept) == 20
    if "x#1" in kept:
        assert (kept["x#1"].form, kept["x#1"].label) == ("tf", "T")


def _other(number: int) -> Example:
    said = Message("user", str(row("x", number)["messages"])), Message("assistant", f"是{number}")
    return Example(f"o#{number}", "客服", said, "open", f"x:{number}")


def test_a_short_question_is_not_asked_that_another_row_asks(tmp_path: Path) -> None:
    """Trap: texts of less than a shingle are compared as a whole, question and answer together."""
    said = [
        (f"什么是{word}？", f"{word}是{what}")
        for word in "甲乙丙丁戊己庚辛壬癸"
        for what in ("一种鸟", "一条河")
    ]
    rows = [row("客服", 0, ask, answer) for ask, answer in said] + [row("客服", n) for n in range(20)]
    corpus = open_corpus(str(write(tmp_path / "x.jsonl", rows)), holdout=Holdout(0.3, 200, 0))
    asked = {one.question[-1].content for name in (TEST, VALID) for one in corpus.read(name)["客服"]}
    learnt = {one.question[-1].content for one in corpus.read(SMALL)["客服"]}
    assert len(asked) >= 6 and not asked & learnt


def test_files_of_one_stem_keep_their_rows_apart(tmp_path: Path) -> None:
    """Trap: equal `idx` in sales.jsonl and sales.json were one id, and training rows vanished."""
    folder = tmp_path / "two"
    folder.mkdir()
    for name, start in (("sales.jsonl", 0), ("sales.json", 500)):
        write(folder / name, [{**row("客服", start + n), "idx": n} for n in range(50)])
    corpus = open_corpus(str(folder), holdout=Holdout(0.1, 200, 0))
    found = [one for name in (SMALL, TEST, VALID) for one in corpus.read(name)["客服"]]
    assert len(found) == 100 == len({one.id for one in found}) == len({one.place for one in found})


def test_free_answers_choose_a_checkpoint_by_their_loss(tmp_path: Path) -> None:
    """Trap: hundreds of replies of hundreds of tokens written after every epoch. No model is even asked."""
    from doitune.evals.suites.doit import validation_score

    rows = {
        name: list(found)
        for name, found in part(examples(tmp_path, {"客服": 40}), Holdout(0.5, 9, 0)).kept_out.items()
    }
    assert len(rows["客服"]) == 9 and all(row.form == "open" for row in rows["客服"])
    assert validation_score(None, None, rows) == {}  # type: ignore[arg-type]


def test_rows_of_one_line_are_kept_out_and_given_away_one_by_one(tmp_path: Path) -> None:
    """Trap: a JSON array that is not indented has every row at the same place."""
    rows = [row("客服", number) for number in range(40)]
    twins = [row("客服", 99, answer="甲"), row("客服", 99, answer="乙")]
    path = tmp_path / "x.json"
    path.write_text(json.dumps([*rows, *twins]), encoding="utf-8")
    found = draw(resolve("own", model="demo", corpus=str(path), overrides=["data.holdout=0.2"]).recipe)
    assert len({example.place for example in found[0].examples}) == 1
    assert len(found[1].parted.kept_out["客服"]) == 9 and len(found[0].examples) == 42 - 9
    whole = {example.id for example in found[0].examples}
    assert not whole & {one for some in found[1].parted.ids().values() for one in some}

    entry = f"data.corpus=[{{from: {path}, budget: 7}}]"
    budgeted = draw(resolve("own", model="demo", overrides=["data.holdout=0.2", entry]).recipe)
    assert {example.id for example in budgeted[0].examples} < whole and len(budgeted[0].examples) == 7

    said = "一段很长的话，两行都说到它，所以知道一行就知道另一行"
    told = [row("客服", 1, question=said), row("客服", 2, question=said + "吗呢")]
    path.write_text(json.dumps(told), encoding="utf-8")
    alone = draw(resolve("own", model="demo", corpus=str(path), overrides=["data.holdout=0.5"]).recipe)
    assert alone[1].parted.short == ("客服",) and len(alone[0].examples) == 2


def test_a_check_says_a_cure_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from doitune.console.examples import show_check
    from doitune.data.check import check

    path = tmp_path / "faq.csv"
    path.write_text("ticket,reply\n" + "a,b\n" * 9, encoding="utf-8")
    show_check(check(open_corpus(str(path))))
    said = " ".join(capsys.readouterr().out.split())
    assert (
        said.count("no known form of row") == 5 and said.count("name the fields of question and answer") == 1
    )


def test_texts_that_are_normalised_together_are_as_each_by_itself() -> None:
    """Traps: marks that compose or change places, Hangul, a character that becomes several, none left."""
    dice = random.Random(3)
    table = _table()
    plain = [code for code in range(len(table)) if table[code] != _NOT_PLAIN]
    assert len(plain) > 29_000
    texts = ["".join(map(chr, dice.choices(plain, k=dice.randrange(80)))) for _ in range(300)]
    texts += [
        "e\u0301",
        "か\u3099",
        "q\u0307\u0323",
        "\u1100\u1161",
        "㎡…",
        "",
        " \n",
        "ẞ",
        "\udcff",
        "Ｗhat 1+1？",
    ]
    assert normalised_all(texts) == [normalised(text) for text in texts]
    assert normalised_all([]) == []
    small = [chr(code) for code in plain if code < 0x3400]
    for first in small[:: len(small) // 200]:
        assert normalised_all([first + one for one in small]) == [normalised(first + one) for one in small]


def test_what_rows_say_is_compared_as_it_was_written(tmp_path: Path) -> None:
    """The texts of `Compared` are `whole_text`, a system text left out, over several blocks."""
    turns = (Message("system", "框"), Message("user", "e"), Message("assistant", "\u0301 Ａ。"))
    examples = [Example(str(n), "qa", turns if n % 3 else turns[1:], "open", f"x:{n}") for n in range(2500)]
    found = Compared()
    found.add(examples[:7])
    found.add(examples[7:])
    assert list(found.texts()) == [whole_text(one) for one in examples] == list(whole_texts(examples))
    assert not found.asked_once().any()
    once = Compared()
    once.add([examples[0], examples[1], replace(examples[2], messages=(Message("user", "另"), turns[2]))])
    assert once.asked_once().tolist() == [False, False, True]
