"""Several corpora are one: every row of each, under an id that says its file, with what is said of its corpus
alone; what would count a row twice is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from doitune.cli.options import resolved as from_command_line
from doitune.data.check import check
from doitune.errors import CheckpointError, DataError, RecipeError, Stopped
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.prepare.draw import draw, recipe_corpus, validation_rows
from doitune.recipe.resolve import Resolved, freeze, resolve
from doitune.recipe.tree import as_tree
from doitune.run.find import list_runs
from doitune.run.folder import Run, resolved
from doitune.run.places import at_its_corpus
from doitune.train.events import Event, StepLog
from doitune.train.session import resume, start


def rows(path: Path, first: int, count: int, **more: object) -> Path:
    """`count` rows that ask about numbers from `first` on, in words that share no run with another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [
        {"question": f"{n}号{chr(0x4E00 + 37 * n)}{chr(0x5E00 + 11 * n)}?", "answer": f"答{n}", **more}
        for n in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in texts), encoding="utf-8")
    return path


def several(*entries: object, **overrides: object) -> Resolved:
    sets = {"data.corpus": list(entries), "data.holdout": 0.0, **overrides}
    return resolve(
        "own", model="demo", overrides=[f"{key}={json.dumps(value)}" for key, value in sets.items()]
    )


def counts(recipe: Resolved) -> dict[str, int]:
    picked, _ = draw(recipe.recipe)
    return {name: line.kept for name, line in picked.ledger.lines.items()}


@pytest.mark.slow
def test_each_row_is_there_once_and_its_id_says_its_file(tmp_path: Path) -> None:
    a, b = rows(tmp_path / "x" / "a.jsonl", 0, 4), rows(tmp_path / "y" / "a.jsonl", 10, 5)
    folder = rows(tmp_path / "more" / "c.jsonl", 20, 6).parent
    recipe = several(str(a), {"from": str(b), "ability": "客服"}, str(folder), "demo")
    picked, corpus = draw(several(str(a), {"from": str(b), "ability": "客服"}, str(folder)).recipe)
    ids = [example.id for example in picked.examples]
    assert len(set(ids)) == 15
    assert {name.partition("#")[0] for name in ids} == {
        "x/a.jsonl/general",
        "y/a.jsonl/客服",
        "more/c/general",
    }
    assert counts(recipe)["客服"] == 5 and counts(recipe)["general"] == 10
    keys = ["x/a.jsonl/a.jsonl", "y/a.jsonl/a.jsonl", "more/c.jsonl"]
    assert list(corpus.sha256("curated/1000")) == keys == list(corpus.files("curated/1000"))


def test_a_flag_given_twice_names_both_and_a_recipe_reads_back_the_same(tmp_path: Path) -> None:
    """Trap: the last one wins."""
    a, b = rows(tmp_path / "a.jsonl", 0, 3), rows(tmp_path / "b.jsonl", 10, 4)
    both = from_command_line(None, "demo", [str(a), str(b)], ["data.holdout=0"])
    assert counts(both) == {"general": 7}
    assert both.origins["data.corpus"] == "--corpus"
    recipe = several(str(a), {"from": str(b), "ability": "客服", "budget": 2})
    assert as_tree(recipe.recipe)["data"]["corpus"] == [
        str(a),
        {"from": str(b), "ability": "客服", "budget": 2},
    ]
    (tmp_path / "frozen.yaml").write_text(freeze(recipe), encoding="utf-8")
    assert resolve(str(tmp_path / "frozen.yaml")).recipe == recipe.recipe
    one = from_command_line(None, "demo", [str(a)])
    assert one.recipe.data.corpus == str(a), "one corpus is recorded as it was before there were several"


def test_what_is_said_of_one_corpus_is_of_its_rows_alone(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("问句,答句,类\nq,a,sql\n", encoding="utf-8")
    a = rows(tmp_path / "a.jsonl", 0, 3, ability="math")
    columns = {"question_column": "问句", "answer_column": "答句", "ability_column": "类"}
    assert counts(several(str(a), {"from": str(table), **columns})) == {"math": 3, "sql": 1}
    every = several(str(a), {"from": str(table), **columns}, **{"data.rows_ability": "math"})
    assert counts(every) == {"math": 3, "sql": 1}
    with pytest.raises(RecipeError, match=r"data\.corpus\.2\.answer_column"):
        several(str(a), {"from": str(table), "question_column": "问句"})
    with pytest.raises(RecipeError, match=r"no field `data\.corpus\.1\.abilty`; did you mean `ability`"):
        several({"from": str(a), "abilty": "x"})
    with pytest.raises(RecipeError, match=r"`data\.corpus\.1\.ability`: `a b` is no name"):
        several({"from": str(a), "ability": "a b"})


def test_a_corpus_has_a_budget_and_a_smaller_one_is_within_a_larger(tmp_path: Path) -> None:
    a, b = rows(tmp_path / "a.jsonl", 0, 20), rows(tmp_path / "b.jsonl", 50, 9, ability="客服")
    taken = {}
    for budget in (0, 4, 12):
        picked, _ = draw(several({"from": str(a), "budget": budget}, str(b)).recipe)
        ids = {example.id for example in picked.examples}
        assert len(ids) == budget + 9 and sum(name.startswith("b/客服#") for name in ids) == 9
        taken[budget] = ids
    assert taken[0] < taken[4] < taken[12]
    with pytest.raises(DataError, match=r"a\.jsonl has 20 rows to learn from, its budget asks for 21"):
        draw(several({"from": str(a), "budget": 21}, str(b)).recipe)
    assert counts(several({"from": str(a), "budget": 21}, **{"data.on_shortfall": "take_all"})) == {
        "general": 20
    }


def test_what_would_count_twice_is_refused(tmp_path: Path, tiny_corpus: Path) -> None:
    a = rows(tmp_path / "f" / "a.jsonl", 0, 3)
    (tmp_path / "link.jsonl").symlink_to(a)
    for other in (a, tmp_path / "link.jsonl", a.parent):
        with pytest.raises(DataError, match=r"is named twice|lie in each other"):
            recipe_corpus(several(str(a), str(other)).recipe.data)
    copy = shutil.copytree(tiny_corpus, tmp_path / "copy")
    with pytest.raises(DataError, match="both in the data set's layout"):
        recipe_corpus(several(str(tiny_corpus), str(copy)).recipe.data)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="the file holds no row"):
        draw(several(str(a), str(tmp_path / "empty.jsonl")).recipe)


def test_own_rows_stand_beside_a_corpus_in_the_layout(tmp_path: Path, tiny_corpus: Path) -> None:
    a = rows(tmp_path / "a.jsonl", 0, 40, ability="客服")
    recipe = several(str(tiny_corpus), str(a), **{"data.holdout": 0.1})
    picked, corpus = draw(recipe.recipe)
    kept = {name: line.kept for name, line in picked.ledger.lines.items()}
    assert kept == {"biology": 40, "history": 40, "code": 40, "math": 40, "客服": 36}
    valid = validation_rows(corpus, 100, 0)
    assert {name: len(found) for name, found in valid.items()}["客服"] == 2 and len(valid["math"]) == 6
    assert len(corpus.read("curated/test")["客服"]) == 2 and len(corpus.read("curated/test")["math"]) == 8
    assert {name for found in corpus.parted.ids().values() for name in found} <= {
        row.id for row in corpus.parted.kept_out["客服"]
    }
    assert check(corpus).clean


def test_no_row_is_kept_out_that_a_row_of_another_corpus_or_a_synthetic_one_gives_away(
    tmp_path: Path,
) -> None:
    """Trap: each corpus parted by itself, and synthetic rows not looked at."""
    a, b = rows(tmp_path / "a.jsonl", 0, 40), rows(tmp_path / "b.jsonl", 0, 30)
    c = rows(tmp_path / "c.jsonl", 30, 8, ability="synthetic")
    _, corpus = draw(several(str(a), str(b), str(c), **{"data.holdout": 0.2}).recipe)
    kept = [row.question[0].content for found in corpus.parted.kept_out.values() for row in found]
    assert kept and {text.partition("号")[0] for text in kept} <= {"38", "39"}


def test_synthetic_rows_are_kept_out_too(tmp_path: Path) -> None:
    a = rows(tmp_path / "a.jsonl", 0, 40, ability="synthetic")
    picked, corpus = draw(resolve("own", model="demo", corpus=str(a)).recipe)
    assert len(picked.examples) == 38 and corpus.parted.sources() == ("curated/valid", "curated/test")
    assert {name: len(found) for name, found in corpus.read("curated/test").items()} == {"synthetic": 1}


@pytest.fixture
def home(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    shutil.copytree(tiny_base, home / "base")
    rows(home / "a.jsonl", 0, 20)
    rows(home / "b.jsonl", 50, 20)
    monkeypatch.chdir(home)
    return home


def _stop_after_one(event: Event) -> None:
    if isinstance(event, StepLog) and event.step == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_of_several_is_resumed_and_asked_wherever_it_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "r.yaml").write_text(
        "summary: x\nmodel:\n  name: ./base\ndata:\n  corpus:\n    - a.jsonl\n    - from: b.jsonl\n"
        "      ability: 客服\n      budget: 12\n  holdout: 0.1\n"
        "lora:\n  rank: 2\ntrain:\n  examples_per_step: 10\n  epochs: 1\n  max_tokens: 256\n"
    )
    with pytest.raises(Stopped):
        start(resolve("r.yaml"), runs=home / "runs", scorer=None, on_event=_stop_after_one)
    [run] = list_runs(home / "runs")
    origin = json.loads((run.folder / "origin.json").read_text())
    assert origin["data"]["corpus"] == ["a.jsonl", {"from": "b.jsonl", "ability": "客服", "budget": 12}]
    assert set(origin["data"]["files"]) == {"a/a.jsonl", "b/b.jsonl"}
    assert origin["places"]["corpus"] == [str(home / "a.jsonl"), str(home / "b.jsonl")]
    whole = (home / "b.jsonl").read_text()
    (home / "b.jsonl").write_text(whole.replace("答51", "答15"))
    with pytest.raises(CheckpointError, match=r"b/b\.jsonl"):
        resume(Run(run.folder), scorer=None, on_event=lambda _: None)
    (home / "b.jsonl").write_text(whole)
    done = resume(Run(run.folder), scorer=None, on_event=lambda _: None)
    assert done.done() is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    request = Request(("doit-test",), with_base=False)
    [found] = evaluate_target(str(run.folder), request, runs=home / "runs", on_progress=lambda *_: None)
    assert found.target == run.name
    (home / "b.jsonl").unlink()
    with pytest.raises(DataError, match="no longer at"):
        at_its_corpus(run, resolved(run).recipe)
