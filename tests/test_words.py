"""What is said is what is so: hints that lead somewhere, counts and sizes that a person reads, and a command
typed a little wrong answered by the right one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import Command, run  # noqa: F401  # a fixture
from test_cli_next import next_of
from test_own_template import rows_of

from doitune.data.jsonl import RowError, parse_line
from doitune.doctor.engines import backend_checks
from doitune.system.units import GIB, KIB, MIB, several, size_of


def test_what_follows_a_training_can_be_done(run: Command, tmp_path: Path, tiny_base: Path) -> None:  # noqa: F811
    """Trap: `next: doitune eval last` where no row was kept out to be asked. And evaluations by their run's
    name: scored, compared with the right test's name."""
    rows = rows_of(tmp_path / "own.jsonl")
    words = ["train", "--corpus", str(rows), "--model", str(tiny_base), "--set", "train.max_steps=2"]
    said = run(*words, "--set", "data.holdout=0")
    assert next_of(said) == ["report", "last"] and "no row was kept out" in said
    run(*next_of(said))
    assert next_of(run(*words, "--set", "data.holdout=0.2")) == ["eval", "last"]
    run("score", "last", code=2)
    run("eval", "last", "--limit", "2")
    found = json.loads(run("score", "last", "--json"))["evaluations"]
    assert list(dict.fromkeys(one["checkpoint"] for one in found)) == ["base", "step-000002"]
    assert "eneral instructions (chrF)" in run("score", "last")
    compared = run("compare", "last")
    assert "credit is chrF" in compared and "McNemar" not in compared
    assert json.loads(run("compare", "last", "--json"))["pairs"][0]["free"] == 2


def test_rows_in_the_place_of_a_recipe_and_a_model_that_nobody_named(
    run: Command,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows_of(tmp_path / "my own.jsonl")
    for command in ("train", "plan"):
        error = json.loads(run(command, "my own.jsonl", "--json", code=2))
        assert "holds rows" in error["problem"] and "--corpus 'my own.jsonl'" in error["hint"]
    from doitune.cli.options import resolved

    resolved(None, None, "my own.jsonl")
    assert "no model is named, so it is minlik/chinese-llama-plus-7b-merged" in capsys.readouterr().err
    resolved(None, None, "my own.jsonl", ["model.name=demo"])
    resolved(None, "demo", "my own.jsonl")
    resolved("baseline", None)
    assert not capsys.readouterr().err


def test_a_training_says_when_it_saves(tiny_recipe: Path) -> None:
    from doitune.recipe.resolve import resolve
    from doitune.train.events import Note
    from doitune.train.session import start

    notes: list[str] = []
    start(
        resolve(str(tiny_recipe), overrides=["train.max_steps=1"]),
        runs=tiny_recipe.parent / "runs",
        scorer=None,
        on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    (habit,) = [text for text in notes if text.startswith("checkpoints:")]
    assert "each epoch (4 steps) and 10 minutes" in habit and "the newest 2 and the best" in habit
    assert any("32 examples, 1 step, " in text for text in notes)


def test_counts_and_sizes_in_words() -> None:
    assert [several(n, "problem") for n in (0, 1, 2_000)] == ["0 problems", "1 problem", "2,000 problems"]
    sizes = [size_of(n) for n in (2 * GIB, 0.05 * GIB, 0.5 * MIB, 3 * KIB)]
    assert sizes == ["2.0 GiB", "51.2 MiB", "0.5 MiB", "3.0 KiB"]


def test_a_small_model_s_memory_is_not_nothing(run: Command) -> None:  # noqa: F811
    said = run("plan", "demo", "--card", "8gb")
    assert "million weights" in said and " MiB" in said and not re.search(r"lora +0\.0", said)


def test_a_broken_row_is_said_once() -> None:
    """Trap: Python's own `Unterminated string starting at`, and a place behind it: `at at`."""
    with pytest.raises(RowError) as caught:
        parse_line(b'{"a": "b')
    assert "starting at at" not in str(caught.value) and "Unterminated string at character 7" in str(
        caught.value
    )


def test_a_backend_that_is_not_needed_is_well() -> None:
    asked = {"backends": {"unsloth": "it needs a CUDA card", "hf": None}}
    unsloth, _ = backend_checks(asked, has_card=False)
    assert unsloth.state == "ok" and unsloth.text.startswith("not used here, and not needed")
    unsloth, _ = backend_checks(asked, has_card=True)
    assert unsloth.state == "warning" and unsloth.text.startswith("cannot be used")


def test_free_answers_have_a_table_of_their_measures_and_no_word_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Trap: a paragraph on chrF for each model, and protocols compared that read a text alike."""
    from doitune.console.scores import show_evaluations
    from doitune.evals.evaluation import Evaluation
    from doitune.evals.report import Outcome, Report, tabulate

    measures = {"exact": 0.0, "rouge_l": 0.25, "loss": 1.5}
    asked = [Outcome(f"{n}", "客服", 0.5, 0.0, free=True, measures=measures) for n in range(4)]
    tables = tuple(tabulate(protocol, asked, order=()) for protocol in ("fixed", "paper"))
    report = Report("doit-test", 0, {}, tables, 4, 4, ())
    show_evaluations([Evaluation("run", name, report) for name in ("base", "step-000004")])
    shown = capsys.readouterr().out
    assert shown.count("shares with the row's own answer") == 1 and "delta" not in shown
    assert shown.count("25.0") == 2 and shown.count("1.500") == 2
