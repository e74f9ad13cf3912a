"""What a command says is next runs as it is printed: after a resume, with `--runs`, beside other runs."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from test_cli import Command, run  # noqa: F401  # a fixture
from tiny_runs import make

from doitune.errors import CheckpointError, UsageError
from doitune.evals.find import find_evaluations
from doitune.run.default import RUNS
from doitune.run.find import command, find_run
from doitune.run.folder import Run
from doitune.run.model import checkpoint_step


def next_of(shown: str) -> list[str]:
    """The words of the command that the last line names, without `doitune`."""
    label, line = shown.strip().splitlines()[-1].split(": ", 1)
    words = shlex.split(line)
    assert (label, words[0]) == ("next", "doitune")
    return words[1:]


def test_each_step_names_the_next_one_and_it_runs(run: Command, tiny_recipe: Path, tmp_path: Path) -> None:  # noqa: F811
    """Train, eval, report in a folder of one's own; then a second run is begun, the first one resumed, asked
    and exported. Trap: `doitune eval last` looks in ./runs, and at the newer run."""
    place = "my runs"
    evaluated = next_of(run("train", str(tiny_recipe), "--runs", place))
    assert evaluated == ["eval", "last", "--runs", place]
    reported = next_of(run(*evaluated))
    assert reported == ["report", "last", "--runs", place]
    run(*reported)
    first = find_run("last", tmp_path / place)
    assert (first.folder / "report.html").is_file()

    shutil.rmtree(first.folder / "evals")
    make(tmp_path / place, "other", now=4e9)  # a newer run, of which nothing is trained yet
    evaluated = next_of(run("resume", first.name, "--runs", place))
    assert evaluated == ["eval", first.name, "--runs", place]
    reported = next_of(run(*evaluated))
    assert reported == ["report", first.name, "--runs", place] and (first.folder / "evals").is_dir()
    run(*reported)

    by_folder = next_of(run("resume", str(first.folder)))
    assert by_folder == ["eval", str(first.folder)]
    run(*by_folder)
    checked = next_of(run("export", first.name, "--runs", place, "--out", "my model", "--questions", "0"))
    assert checked == ["base", "check", str(tmp_path / "my model")]
    run(*checked)


def test_what_is_next_is_of_the_run_that_was_asked(
    run: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap: while `eval last` asks, a second run begins, and its resume is called the next step."""
    asked = make(tmp_path / RUNS, "asked", 1e9)

    def evaluate(*_: object, **__: object) -> list[object]:
        make(tmp_path / RUNS, "begun-meanwhile", 4e9)
        return []

    monkeypatch.setattr("doitune.evals.targets.evaluate_target", evaluate)
    assert next_of(run("eval", "last")) == ["resume", asked.name]


def test_a_run_is_named_so_that_it_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `last` only while it is the last; by its folder where its name would mean another, or nothing."""
    monkeypatch.chdir(tmp_path)
    old, new = make(RUNS, "demo", 1e9), make(RUNS, "demo", 1.1e9)
    far = make(Path("-else"), "-odd", 1e9)
    said = {
        command("eval", new, RUNS): (new, RUNS),
        command("eval", old, RUNS): (old, RUNS),
        command("eval", far, RUNS): (far, RUNS),
        command("eval", far, Path("-else")): (far, Path("-else")),
    }
    assert list(said)[:2] == ["doitune eval last", f"doitune eval {old.name}"] and len(said) == 4
    assert shlex.split(command("eval", far, RUNS))[2:] == [str(far.folder)]
    assert command("eval", far, Path("-else")) == "doitune eval last --runs ./-else"
    for line, (wanted, runs) in said.items():
        text = shlex.split(line)[2]
        assert find_run(text, runs).folder.resolve() == wanted.folder.resolve()
    newer = make(Path("-else"), "b", 1.2e9)
    assert newer.folder.is_dir()
    assert shlex.split(command("eval", far, Path("-else")))[2:] == [
        str(far.folder)
    ]  # `-odd/...` is an option


@pytest.mark.parametrize(
    ("suite", "options"),
    [
        ("doit-test", "--suite doit-test"),
        ("cmmlu-5shot", "--suite cmmlu --shots 5"),
        ("cmmlu-5shot-exact", "--suite cmmlu --shots 5 --exact"),
        ("doit-test-exact", "--suite doit-test --exact"),
    ],
)
def test_what_compare_lacks_is_a_command_that_eval_takes(suite: str, options: str, tmp_path: Path) -> None:
    """Trap: `--suite cmmlu-5shot`, which is no suite, in ./runs."""
    from test_cli_help import COMMANDS

    run: Run = make(tmp_path)  # noqa: F811
    with pytest.raises(UsageError) as caught:
        find_evaluations(["last"], suite=suite, runs=tmp_path)
    line = caught.value.hint.split("`")[1]
    assert line == f"doitune eval last {options} --runs {tmp_path}" and run.name in caught.value.problem
    COMMANDS["eval"].make_context("eval", shlex.split(line)[2:])


def test_where_no_run_is_found_the_way_on_looks_in_the_same_folder(tmp_path: Path) -> None:
    """Trap: `doitune runs list` names those of ./runs."""
    from test_cli_help import COMMANDS

    place = tmp_path / "my runs"
    for text, words in (("last", ["train"]), ("x", ["runs", "list"]), ("", ["runs", "list"])):
        with pytest.raises(UsageError) as caught:
            find_run(text, place)
        line = caught.value.hint.removeprefix("start one: ").removeprefix("`").split("`")[0]
        typed = shlex.split(line)[1:]
        assert typed[: len(words)] == words and typed[-2:] == ["--runs", str(place)]
        COMMANDS[" ".join(words)].make_context("", typed[len(words) :])


def test_a_run_without_a_checkpoint_is_gone_on_with(tmp_path: Path) -> None:
    run: Run = make(tmp_path / "my runs")  # noqa: F811
    with pytest.raises(CheckpointError) as caught:
        checkpoint_step(run, "best")
    words = shlex.split(caught.value.hint.removeprefix("go on with it: "))
    assert words[:2] == ["doitune", "resume"] and find_run(words[2], RUNS).name == run.name
