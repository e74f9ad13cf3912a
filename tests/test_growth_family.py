"""A family of runs: what a plan asks for, that each member is the run that `doitune train` makes of its recipe, and
that no end before the last changes what comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from doitune.base.adapter import WEIGHTS
from doitune.errors import DataError, LockedError, RecipeError, UsageError
from doitune.growth.family.designs import Named, members_of
from doitune.growth.family.expand import changes, expand, recipe_of
from doitune.growth.family.outlook import look_ahead
from doitune.growth.family.plan import PlanSection, plan_names, read_plan, text_of
from doitune.growth.family.run import begin, held
from doitune.growth.family.work import Piece, do, is_done, pieces_of
from doitune.growth.folder import Record, read_growth, read_record
from doitune.growth.table import tables
from doitune.run.find import find_run, list_runs
from doitune.run.layout import METRICS, RECIPE, step_name
from doitune.system.disk import file_sha256

FOUR = ("biology", "history", "code", "math")


def section(**designs: object) -> PlanSection:
    return PlanSection.model_validate({"designs": designs}, strict=False)


@pytest.fixture
def plan_file(tmp_path: Path, tiny_recipe: Path) -> Path:
    """A plan of two budgets and the four abilities left out one by one, on the tiny base and corpus."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "summary: a tiny family\n"
        f"recipe: {tiny_recipe}\n"
        "set: [train.epochs=100, train.max_steps=4, train.validate_every=2]\n"
        "designs:\n  equal: [2, 8]\n  single_source: 4\n",
        encoding="utf-8",
    )
    return path


def family(path: Path, runs: Path) -> tuple[Path, Record]:
    """The family of a plan, begun."""
    plan = read_plan(str(path))
    growth = runs / plan.name
    with held(growth):
        return growth, begin(growth, expand(plan, growth.name), text_of(plan))


def test_a_latin_square_gives_each_ability_each_number_once() -> None:
    """Trap: the same number for all abilities in a run, which a curve has already."""
    levels = (0, 4, 16, 64)
    planned = members_of(section(latin=levels), ["demo"], FOUR)
    rows = [one.member.rows for one in planned]
    assert len(rows) == 4
    for name in FOUR:
        assert sorted(one.get(name, 0) for one in rows) == sorted(levels)
    assert all(sorted(one.get(name, 0) for name in FOUR) == sorted(levels) for one in rows)
    again = members_of(section(latin=levels), ["demo"], FOUR)
    other = members_of(section(latin=levels).model_copy(update={"seeds": (1,)}), ["demo"], FOUR)
    assert planned == again and [one.member.rows for one in other] != rows


def test_designs_say_what_is_left_out_and_what_is_alone() -> None:
    planned = members_of(section(leave_one_out=8, single_source=4, equal=[2]), ["demo"], FOUR)
    found = {one.member.name: one.member for one in planned}
    assert found["demo-without-code-8-s0"].rows == {"biology": 8, "history": 8, "math": 8}
    assert found["demo-only-code-4-s0"].rows == {"code": 4}
    assert found["demo-equal-2-s0"].rows == dict.fromkeys(FOUR, 2)
    assert len(found) == 9
    none = members_of(section(leave_one_out=8), ["demo"], ("math",))
    assert not none, "without its only ability a run has nothing to learn"


def test_names_are_unique_and_do_not_depend_on_what_else_is_planned() -> None:
    """Trap: a second seed is added, and the runs of the first are other ones."""
    small = section(equal=[2, 4], mix={"rows": 2, "synthetic": [8]}, synthetic=[8])
    large = small.model_copy(update={"seeds": (0, 1)})
    first = [one.member for one in members_of(small, ["7b", "a/b"], FOUR)]
    second = [one.member for one in members_of(large, ["7b", "a/b", "13b"], FOUR)]
    assert len({one.name for one in second}) == len(second) == 24
    assert {one.name: one for one in second}.items() >= {one.name: one for one in first}.items()
    assert all("/" not in one.name for one in second)


def test_a_recipe_of_equal_rows_is_a_point_of_the_curve() -> None:
    named = {
        "curated-40": Named(dict.fromkeys(FOUR, 10), 0),
        "synthetic-40": Named({}, 40),
        "./mine/by-need.yaml": Named({"math": 30, "code": 10}, 0),
        "mix-8": Named(dict.fromkeys(FOUR, 10), 8),
    }
    found = [one.member for one in members_of(section(recipes=list(named)), ["7b"], FOUR, named)]
    kinds = [(one.name, one.design, one.construction) for one in found]
    assert kinds == [
        ("7b-curated-40-s0", "equal", "curated"),
        ("7b-synthetic-40-s0", "equal", "synthetic"),
        ("7b-by-need-s0", "recipe", "curated"),
        ("7b-mix-8-s0", "equal", "mix"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "problem", "hint"),
    [
        ("recipe: own\ndesign: {equal: [4]}\n", 2, "no field `design`", "did you mean `designs`"),
        ("recipe: own\ndesigns:\n  equal: [4, four]\n", 3, "`designs.equal`", ""),
        ("recipe: own\ndesigns:\n  equal: [0]\n", 3, "must be at least 1", ""),
        ("recipe: own\n", 0, "asks for no run", "equal"),
        ("designs: {equal: [4]}\nset: [train.seed=3]\n", 2, "the plan decides", "seeds"),
        ("designs: {equal: [4]}\nset: [lora.rank]\n", 2, "key=value", ""),
        ("designs:\n  settings: {each: [lora.rank=4]}\n", 2, "at how many rows", "rows"),
        ("designs: {equal: [4]}\nsuites: [doit-tset]\n", 2, "doit-test", ""),
    ],
)
def test_a_wrong_plan_says_where(tmp_path: Path, text: str, line: int, problem: str, hint: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        read_plan(str(path))
    said = " ".join(f"{one.problem} {one.hint}" for one in error.value.problems)
    assert problem in said and hint in said
    assert not line or any(one.place.endswith(f"wrong.yaml:{line}") for one in error.value.problems)


def test_a_plan_that_nobody_has_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="demo"):
        read_plan("dem")


def test_what_a_plan_sets_is_refused_at_its_line(tmp_path: Path, tiny_recipe: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"recipe: {tiny_recipe}\ndesigns: {{equal: [2]}}\nset:\n  - lora.rnk=4\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError) as error:
        expand(read_plan(str(path)), "small")
    assert error.value.problems[0].place == f"{path}:4" and "mean `rank`" in error.value.problem


def test_more_rows_than_there_are_are_refused_before_the_first_run(tmp_path: Path, tiny_recipe: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"recipe: {tiny_recipe}\ndesigns:\n  equal: [2, 400]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"plan.yaml:3.*400 rows of biology, the corpus has 40"):
        expand(read_plan(str(path)), "small")


def test_every_plan_that_is_shipped_can_be_read_whole_and_short() -> None:
    names = plan_names()
    assert {"demo", "pilot", "paper"} <= set(names)
    for name in names:
        assert read_plan(name).section.summary
        if name == "demo":
            assert read_plan(name, quick=True).name == "demo-quick"


def test_a_plan_is_written_as_it_reads(plan_file: Path, tmp_path: Path) -> None:
    plan = read_plan(str(plan_file))
    (tmp_path / "again.yaml").write_text(text_of(plan), encoding="utf-8")
    assert read_plan(str(tmp_path / "again.yaml")).section == plan.section


def test_smaller_budgets_are_among_larger_ones_whatever_the_others_get(plan_file: Path) -> None:
    """Trap: points of a curve that differ by their rows, too."""
    from doitune.data.rows import ids_of
    from doitune.prepare.draw import draw

    record = expand(read_plan(str(plan_file)), "small")
    drawn = {
        name: set(ids_of(draw(recipe_of(text, name).recipe)[0].examples))
        for name, text in record.recipes.items()
    }
    two, eight = drawn["base-equal-2-s0"], drawn["base-equal-8-s0"]
    assert len(two) == 8 and two < eight
    for name in FOUR:
        only = drawn[f"base-only-{name}-4-s0"]
        assert len(only) == 4 and only < eight


def test_another_plan_in_the_same_place_is_refused_with_what_differs(plan_file: Path, tmp_path: Path) -> None:
    growth, record = family(plan_file, tmp_path / "runs")
    text = plan_file.read_text()
    plan_file.write_text(text.replace("[2, 8]", "[2, 8, 16]"))
    assert len(family(plan_file, tmp_path / "runs")[1].members) == len(record.members) + 1, "one is added"
    for was, now, said in (
        ("equal: [2, 8]", "equal: [8, 16]", "base-equal-2-s0"),
        ("max_steps=4", "max_steps=6", "train.max_steps is 6, was 4"),
    ):
        plan_file.write_text(text.replace(was, now))
        with pytest.raises(UsageError, match=said) as error:
            family(plan_file, tmp_path / "runs")
        assert "--name" in error.value.hint
    assert read_record(growth).recipes.items() >= record.recipes.items()
    assert not changes(record, record)


def test_one_process_works_on_a_family(plan_file: Path, tmp_path: Path) -> None:
    growth, _ = family(plan_file, tmp_path / "runs")
    with held(growth), pytest.raises(LockedError, match="growth small"), held(growth):
        pass


def test_an_outlook_needs_no_run(plan_file: Path, tmp_path: Path) -> None:
    record = expand(read_plan(str(plan_file)), "small")
    found = look_ahead(tmp_path / "runs" / "small", record, "here", 2)
    assert [one.steps for one in found.members] == [4] * 6 and found.bases == 1 and not found.done
    assert found.disk_bytes > 0 and len(found.hours) == 1
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The tiny family, made in this process on one loaded base."""
    from doitune.run.model import one_base

    root = tmp_path_factory.mktemp("family 族")
    base, corpus = request.getfixturevalue("tiny_base"), request.getfixturevalue("tiny_corpus")
    (root / "tiny.yaml").write_text(
        f"model:\n  name: {base}\nlora:\n  rank: 4\n  dropout: 0.1\n"
        f"data:\n  corpus: {corpus}\ntrain:\n  examples_per_step: 8\n  max_tokens: 256\n  learning_rate: 1e-2\n"
        "  validation_rows_per_ability: 3\n",
        encoding="utf-8",
    )
    (root / "small.yaml").write_text(
        f"recipe: {root / 'tiny.yaml'}\nset: [train.epochs=100, train.max_steps=4, train.validate_every=2]\n"
        "designs:\n  equal: [2, 8]\n  settings: {rows: 4, each: [lora.rank=8]}\n",
        encoding="utf-8",
    )
    growth, record = family(root / "small.yaml", root / "runs")
    with one_base():
        for piece in pieces_of(record):
            do(growth, record, piece)
    yield growth


def adapter(run: Path, step: int) -> str:
    return file_sha256(run / "checkpoints" / step_name(step) / WEIGHTS)


def test_a_member_is_the_run_that_a_training_alone_makes(made: Path, tmp_path: Path) -> None:
    """Trap: the second member on a shared base starts from the first one's adapter, or from other random
    numbers: each has another rank or other rows than the one before it."""
    from doitune.evals.suites.doit import validation_score
    from doitune.train.session import start

    members = read_record(made).members
    assert [one.settings for one in members][-1] == ("lora.rank=8",) and len(members) == 4
    for member in members[1:]:
        resolved = recipe_of(read_record(made).recipes[member.name], member.name)
        alone = start(resolved, runs=tmp_path, scorer=validation_score, on_event=lambda event: None)
        assert adapter(made / member.name, 4) == adapter(alone.folder, 4), member.name
        assert (made / member.name / RECIPE).read_text().count("\n") > 50
        same = [
            [
                line["loss"]
                for line in map(json.loads, path.read_text().splitlines())
                if line["event"] == "step"
            ]
            for path in (made / member.name / METRICS, alone.folder / METRICS)
        ]
        assert same[0] == same[1] and len(same[0]) == 4


def test_a_family_is_measured_on_both_splits_and_found_as_runs(made: Path) -> None:
    found = read_growth(made)
    assert not found.unfinished and len(found.members) == 4 and len(found.base) == 1
    assert found.abilities == FOUR and found.stock == dict.fromkeys(FOUR, 40)
    for one in found.members:
        assert one.step in (2, 4) and one.rows == one.member.rows
        assert {split: set(sets) for split, sets in one.scores.items()} == {"valid": {*FOUR}, "test": {*FOUR}}
        assert one.scores["valid"]["math"].items == 6 and one.scores["test"]["math"].items == 8
    (base,) = found.base.values()
    assert base["test"]["biology"].items == 8
    (table,) = tables(found)
    assert table.budgets == ("2", "8") and [line.set for line in table.lines] == list(FOUR)
    assert all(
        cell is not None and cell.low <= cell.score <= cell.high
        for line in table.lines
        for cell in line.cells
    )
    names = {run.name for run in list_runs(made.parent)}
    assert names == {f"small/{one.member.name}" for one in found.members}
    assert find_run("last", made.parent).folder.name == found.members[-1].member.name


def test_what_is_done_is_left_alone(made: Path) -> None:
    record = read_record(made)
    assert all(is_done(made, record, piece) for piece in pieces_of(record))
    before = {
        path: path.stat().st_mtime_ns
        for path in made.rglob("*")
        if path.is_file() and path.name != "said.txt"
    }
    for piece in pieces_of(record):
        do(made, record, piece)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_scores_that_are_lost_are_asked_again_and_nothing_is_trained(made: Path, tmp_path: Path) -> None:
    growth = tmp_path / "runs" / "small"
    shutil.copytree(made, growth)
    record = read_record(growth)
    piece = Piece(record.members[0].name)
    shutil.rmtree(growth / piece.name / "evals" / "doit-test")
    assert not is_done(growth, record, piece) and len(read_growth(growth).unfinished) == 1
    log = (growth / piece.name / METRICS).read_bytes()
    do(growth, record, piece)
    assert is_done(growth, record, piece) and (growth / piece.name / METRICS).read_bytes() == log
    assert read_growth(growth).members == read_growth(made).members


def test_advice_is_confirmed_by_runs_of_its_own(made: Path, tmp_path: Path) -> None:
    from doitune.growth.family.confirm import confirming, verdict
    from doitune.run.model import one_base

    advice = tmp_path / "advised.yaml"
    advice.write_text("extends: own\ndata: {budget: {biology: 12, code: 4}}\n", encoding="utf-8")
    growth = tmp_path / "runs" / "small-confirm"
    with held(growth):
        record = begin(growth, confirming(made, str(advice), name=growth.name, seeds=1), "# advised\n")
    with one_base():
        for piece in pieces_of(record):
            do(growth, record, piece)
    found, measured = verdict(growth), read_growth(growth)
    assert found.seeds == (1,) and found.together.mean.n == 32 and not measured.unfinished
    shares = {one.member.design: dict(one.rows) for one in measured.members}
    assert shares == {"equal": dict.fromkeys(FOUR, 4), "advised": {"biology": 12, "code": 4}}
    rights = [sum(score.right for score in one.scores["test"].values()) for one in measured.members]
    assert found.together.mean.difference == pytest.approx((rights[1] - rights[0]) / 32)
    assert found.to_json(growth)["pairs"][0]["set"] == "mean"
