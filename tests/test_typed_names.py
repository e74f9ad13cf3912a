"""Names and numbers on the command line that no command can use: one message at the door, before a model is
looked for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from test_cli_errors import World, assert_clear, run, train, world  # noqa: F401  # a fixture

from doitune.errors import DataError, UsageError
from doitune.recipe.budget import Budget, account
from doitune.recipe.resolve import resolve
from doitune.run.find import find_run

LONG = "x" * 300
COMMANDS = {
    "train a recipe": ("train", f"{LONG}.yaml"),
    "train on a corpus": ("train", "demo", "--corpus", LONG),
    "train a model": ("train", "demo", "--model", LONG),
    "train a field": ("train", "demo", "--set", f"model.name={LONG}"),
    "train to runs": ("train", "demo", "--runs", LONG),
    "resume": ("resume", LONG),
    "eval": ("eval", LONG),
    "eval a corpus": ("eval", "demo", "--corpus", LONG),
    "score": ("score", LONG),
    "compare": ("compare", LONG),
    "report": ("report", LONG),
    "report out": ("report", "last", "--out", LONG),
    "export": ("export", LONG, "--out", "x"),
    "export out": ("export", "last", "--out", LONG),
    "plan": ("plan", "demo", "--model", LONG),
    "data draw": ("data", "draw", "demo", "--out", LONG),
    "data check": ("data", "check", LONG),
    "data fetch": ("data", "fetch", "doit", "--from", f"/{LONG}"),
    "data preview": ("data", "preview", f"./{LONG}"),
    "base check": ("base", "check", LONG),
    "base fetch": ("base", "fetch", LONG),
    "runs": ("runs", "list", "--runs", LONG),
    "recipes": ("recipes", "show", f"{LONG}.yaml"),
    "recipes copy": ("recipes", "copy", "demo", f"{LONG}.yaml"),
}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_name_that_no_file_has_is_one_message(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: OSError 36 escaped from whichever `is_file` came first."""
    monkeypatch.chdir(tmp_path)
    said = run(capsys, monkeypatch, *COMMANDS[name])
    assert said.code in (2, 65, 74), said.err
    assert said.err.count("error: ") == 1 and "Traceback" not in said.err and "bug in" not in said.err, (
        said.err
    )


@pytest.mark.parametrize(
    "words",
    [
        ("train", "demo", "--corpus", "~nosuchuser/x"),
        ("train", "demo", "--model", "~nosuchuser/x"),
        ("plan", "demo", "--model", "~nosuchuser/x"),
        ("data", "check", "~nosuchuser/x"),
        ("data", "fetch", "doit", "--from", "~nosuchuser/x"),
        ("base", "check", "~nosuchuser/x"),
        ("eval", "~nosuchuser/x"),
        ("base", "make", "7b", "--from", "x", "--out", "~nosuchuser/x"),
    ],
    ids=" ".join,
)
def test_a_user_who_is_not_there_is_named(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(capsys, monkeypatch, *words)
    assert said.code in (2, 65) and said.err.count("error: ") == 1 and "nosuchuser" in said.err, said.err


@pytest.mark.parametrize("limit", ["inf", "nan", "0", "-1", "1.5", "-inf"])
def test_a_limit_that_is_none_is_refused_at_the_door(
    limit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: 37 s of loading before the refusal, and `inf` a traceback."""
    from doitune.evals import targets

    monkeypatch.setattr(targets, "evaluate_target", lambda *_, **__: pytest.fail("something was loaded"))
    assert_clear(run(capsys, monkeypatch, "eval", "demo", f"--limit={limit}"), 2, "limit")


@pytest.mark.parametrize(
    "words",
    [("train", "demo", "--wait-for-disk=nan"), ("resume", "last", "--wait-for-disk=inf")]
    + [("compare", "last", f"--margin={one}") for one in ("nan", "inf")],
    ids=" ".join,
)
def test_a_number_that_is_none_is_refused(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_clear(run(capsys, monkeypatch, *words), 2, "not a number")


@pytest.mark.parametrize("text", ["", " ", "/", "//", ".", "..", "./"])
def test_a_name_that_says_nothing_names_no_run(text: str, tmp_path: Path) -> None:
    """Trap: "" is a part of every name, so `resume ''` went on with the only run."""
    folder = tmp_path / "runs" / "demo" / "20260101-120000"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("x")
    assert find_run("demo", tmp_path / "runs").folder == folder
    assert find_run("demo/20260101-120000/", tmp_path / "runs").folder == folder
    with pytest.raises(UsageError):
        find_run(text, tmp_path / "runs")


def test_a_separator_behind_a_source_says_nothing() -> None:
    assert resolve("demo", overrides=["data.source=curated/full/"]).recipe.data.source == "curated/full"
    for wrong in ("/", "../x/", "~/x"):
        with pytest.raises(Exception, match="inside the corpus"):
            resolve("demo", overrides=[f"data.source={wrong}"])


def test_a_corpus_of_other_abilities_is_one_sentence() -> None:
    """Trap: ten errors "asked for 480 rows, found 0" for a file whose rows are all called `general`."""
    with pytest.raises(DataError) as caught:
        account(Budget({}, share_equally=4800), {"general": 4800, "poems": 3})
    assert len(caught.value.problems) == 1
    assert "general (4,800), poems (3)" in caught.value.problem and "math" in caught.value.problem
    with pytest.raises(DataError) as short:  # a corpus that is only too small is counted as before
        account(Budget({"math": 4, "ethics": 5}), {"math": 3, "poems": 1})
    assert sorted(one.problem for one in short.value.problems) == [
        "asked for 4 rows, found 3",
        "asked for 5 rows, found 0",
    ]


def test_a_dry_run_looks_for_the_trackers(
    world: World,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from doitune.train import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    said = run(capsys, monkeypatch, *train(world, "--dry-run", "--set", "train.trackers=[wandb]"))
    assert_clear(said, 78, "pip install wandb")


def test_tries_of_the_hub_client_are_not_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: "Retrying in 1s [Retry 1/5]" five times before the error that says what to do."""
    from huggingface_hub.utils import logging as client

    from doitune.base.fetch import hub_errors
    from doitune.data.hubs import _hub_errors

    for opened in (hub_errors, _hub_errors):
        client.set_verbosity_warning()
        monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
        with opened("owner/name"):
            assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
        client.set_verbosity_warning()
        monkeypatch.setenv("HF_HUB_VERBOSITY", "warning")
        with opened("owner/name"):
            assert logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
    client.set_verbosity_error()
