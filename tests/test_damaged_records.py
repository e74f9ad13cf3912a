"""A run whose records went through an editor, or came from a stranger: an error with file and cure, or the
work goes on without what is damaged.

Trap: JSON that parses is not yet a record; `null`, a list or a text where a number was are all valid JSON.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from forked import Desk, assert_same

from doitune.data.example import Message
from doitune.errors import CheckpointError
from doitune.evals import saved
from doitune.evals.task import Item, Reply, Verdict
from doitune.run.checkpoint import manifest_text
from doitune.run.folder import Run
from doitune.run.layout import EVALUATION, OUTCOMES
from doitune.run.records import FORMS, is_line, read_record
from doitune.run.summary import summarise
from doitune.system.json_records import object_of

ORIGIN = {"base": {"name": "demo"}, "encoder": {"fingerprint": "f"}, "data": {"leaks": 0}}
DONE = {"final_step": 8, "best_step": 4, "stopped_early": False, "seconds": 1.5}
WHOLE: dict[str, dict[str, Any]] = {"origin.json": ORIGIN, "done.json": DONE}

TEXTS = [
    "",
    "{",
    "[]",
    "null",
    "5",
    '"x"',
    '{"a": NaN}',
    '{"a": 1e999}',
    "[" * 100_000,
    '{"a": ' + "9" * 5000 + "}",
    "\udcff",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", list(FORMS))
def test_a_record_that_is_none_names_its_file_and_the_cure(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=name) as caught:
        read_record(tmp_path / name)
    assert caught.value.exit_code == 65 and caught.value.hint == FORMS[name][1]


@pytest.mark.parametrize("name", list(FORMS))
def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="it is no file"):
        read_record(tmp_path / name)


@pytest.mark.parametrize("value", [None, "x", [1], {"a": "b"}, -1, float("inf"), True])
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, whole in WHOLE.items() for key in whole])
def test_a_field_of_another_kind_is_named(name: str, key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(WHOLE[name]))
    assert read_record(path) == WHOLE[name], "as it was written it can be read"
    path.write_text(json.dumps({**WHOLE[name], key: value}))
    fits = (
        (key == "stopped_early" and value is True)
        or (key == "seconds" and value == -1)
        or (key in ORIGIN and isinstance(value, dict))
    )
    if fits:
        return
    with pytest.raises(CheckpointError, match=f"`{key}`|no number"):
        read_record(path)
    path.write_text(json.dumps({inner: kept for inner, kept in WHOLE[name].items() if inner != key}))
    with pytest.raises(CheckpointError, match=f"`{key}` is missing"):
        read_record(path)


NO_LINES = [
    "[]", "null", "5", '{"event": "step"}', '{"event": "step", "step": "x", "loss": 1, "grad_norm": 1}', '{"event": "step", "step": null, "loss": 1, "grad_norm": 1}',
    '{"event": "step", "step": 2}', '{"event": "step", "step": 2, "loss": {}, "grad_norm": 1}', '{"event": "step", "step": 1e999, "loss": 1, "grad_norm": 1}',
    '{"event": "step", "step": -5, "loss": 1, "grad_norm": 1}', '{"event": "step", "step": true, "loss": 1, "grad_norm": 1}', '{"event": [], "step": 3}', '{"step": 3}',
    '{"event": "validation", "step": 3}', '{"event": "validation", "step": 3, "epoch": "a", "loss": 1, "score": 1}',
    '{"event": "validation", "step": 3, "epoch": 1, "loss": null, "score": null}', '{"event": "validation", "step": 3, "epoch": 1, "loss": 1, "score": [1]}',
    '{"event": "validation", "step": 3, "epoch": 1, "loss": NaN, "score": NaN}', '{"event": "validation", "step": 3.5, "epoch": 1, "loss": 1, "score": 1}',
    '{"event": "skipped", "step": "x"}',
]  # fmt: skip


@pytest.mark.parametrize("line", NO_LINES)
def test_a_line_that_no_run_writes_is_none(line: str) -> None:
    found = object_of(line.encode())
    assert found is None or not is_line(found)


def test_lines_as_a_run_writes_them_are_lines() -> None:
    for line in (
        {"event": "step", "step": 1, "loss": 0.0, "grad_norm": 1.0}, {"event": "validation", "step": 1, "epoch": 0.5, "loss": 1.0, "score": None},
        {"event": "trial", "step": 0, "planned_gib": None}, {"event": "skipped", "step": 3, "loss": "nan", "grad_norm": "nan", "rows": []},
    ):  # fmt: skip
        assert is_line(object_of(json.dumps(line).encode()) or {})


MANIFEST = saved.Manifest(
    "doit-valid", 0, "d", {"base": "x"}, "f", ("a",), {"a": 1}, {"g": ("a",)}, {"A": 5}, {"A": 6}
)


@pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": [2]}, float("nan"), True])
@pytest.mark.parametrize("key", list(asdict(MANIFEST)))
def test_an_evaluation_by_another_hand_is_none(key: str, value: Any, tmp_path: Path) -> None:
    """Trap: a field of another kind is found where it is used, by a traceback."""
    saved.write_manifest(tmp_path, MANIFEST)
    assert saved.read_manifest(tmp_path) == MANIFEST
    path = tmp_path / EVALUATION
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, key: value}))
    if key == "option_tokens" and value == {"a": [2]}:
        assert saved.read_manifest(tmp_path)
        return
    no_text = key == "moment"  # a template is given it
    if isinstance(value, type(whole[key])) and not isinstance(value, (bool, list, dict)) and not no_text:
        assert saved.read_manifest(tmp_path)
        return
    with pytest.raises(CheckpointError, match=r"evaluation\.json is not an evaluation"):
        saved.read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "null", '{"id": []}', '{"id": "a"}'], ids=lambda text: text[:10]
)
def test_an_outcome_by_another_hand_names_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / OUTCOMES).write_text(f"{text}\n{text}\n")
    with pytest.raises(CheckpointError, match=r"outcomes\.jsonl:1: not an outcome"):
        saved.read_lines(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("correct", None),
        ("correct", "x"),
        ("correct", [1]),
        ("correct", 2),
        ("note", None),
        ("parsed", 5),
        ("parsed", [5]),
        ("label", 1),
        ("choices", 10_000_000_000),
        ("choices", -5),
        ("choices", "3"),
        ("choices", 2.5),
        ("shots", 10**9),
        ("shots", -1),
        ("chance", float("nan")),
        ("chance", 1e308),
        ("chance", -0.5),
        ("chance", "0.5"),
        ("form", [1]),
        ("form", "essay"),
        ("way", {"a": 1}),
        ("reply", [1]),
        ("options", "AB"),
        ("cluster", None),
    ],
)
def test_a_verdict_of_another_kind_names_its_line(key: str, value: Any, tmp_path: Path) -> None:
    item = Item("a#1", "a", "single_choice", "letters", (Message("user", "?"),), "A", ("A", "B"))
    line = saved.Line(item, "d", "m", Reply("p", 3), {"fixed": Verdict("A", True)}, {"fixed": 0.5})
    saved.append_lines(tmp_path, [line, line])
    path = tmp_path / OUTCOMES
    assert list(saved.read_lines(tmp_path)) == ["a#1"]
    path.write_text(
        "".join(json.dumps({**json.loads(row), key: value}) + "\n" for row in path.read_text().splitlines())
    )
    with pytest.raises(CheckpointError, match=r"outcomes\.jsonl:1: not an outcome"):
        saved.read_lines(tmp_path)


# The whole way, in processes


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("records"))
    assert made.do(*made.train("whole")).code == 0
    stopped = made.do(*made.train("half"), fault="step.logged:5:sigterm")
    assert stopped.code == 143, stopped.said
    return made


def _copy(desk: Desk, kind: str, name: str) -> Run:
    shutil.copytree(desk.folder / kind, desk.folder / name)
    run = desk.run(name)
    assert run is not None
    return run


def _commands(runs: str) -> list[tuple[str, ...]]:
    return [
        ("runs", "list", "--runs", runs),
        ("report", "last", "--runs", runs, "--out", f"{runs}.html"),
        ("eval", "last", "--runs", runs, "--suite", "doit-valid", "--limit", "1"),
    ]


@pytest.mark.parametrize("kind", ["half", "whole"])
def test_a_damaged_record_ends_every_command_with_a_cure(kind: str, desk: Desk) -> None:
    for number, text in enumerate(("null", '{"final_step": 8}')):
        for name in FORMS:
            runs = f"{kind}-{number}-{name}"
            run = _copy(desk, kind, runs)
            (run.folder / name).write_text(text)
            for command in (*_commands(str(desk.folder / runs)), desk.resume(runs)):
                said = desk.do(*command)
                assert said.code in (0, 65) and "Traceback" not in said.said, (command, said.said)
                if command[0] in ("eval", "resume") and (name, command[0]) != ("origin.json", "resume"):
                    assert said.code == 65 and name in said.said and FORMS[name][1] in said.said, said.said


def test_deleting_a_damaged_end_is_the_cure_it_is_said_to_be(desk: Desk) -> None:
    run = _copy(desk, "whole", "cured")
    before = (run.folder / "done.json").read_bytes()
    (run.folder / "done.json").unlink()
    said = desk.do(*desk.resume("cured"))
    assert said.code == 0, said.said
    again, old = run.done(), json.loads(before)
    assert again is not None and {
        key: value for key, value in again.items() if not key.startswith("seconds")
    } == {key: value for key, value in old.items() if not key.startswith("seconds")}


def test_a_log_with_foreign_lines_is_resumed_to_the_same_end(desk: Desk) -> None:
    run = _copy(desk, "half", "edited")
    lines = run.log.path.read_text(encoding="utf-8").splitlines()
    spoilt = (
        [text for pair in zip(lines, NO_LINES) for text in pair]
        + lines[len(NO_LINES) :]
        + NO_LINES[len(lines) :]
    )
    run.log.path.write_text("\n".join(spoilt) + "\n", encoding="utf-8")
    said = desk.do(*desk.resume("edited"))
    assert said.code == 0, said.said
    assert f"{len(NO_LINES)} lines that no run writes" in said.said
    assert_same(desk.traces("whole"), desk.traces("edited"))
    aside = (run.folder / "metrics.superseded.jsonl").read_text(encoding="utf-8")
    assert aside.count('"unread"') == len(NO_LINES), "nothing of a user's is thrown away"


MANIFESTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a size as text": lambda files: files["state.json"].update(bytes="5"),
    "no size": lambda files: files["state.json"].update(bytes=None),
    "a sum as a number": lambda files: files["state.json"].update(sha256=5),
    "a name with NUL": lambda files: files.update({"a\0b": {"bytes": 1, "sha256": "x"}}),
    "a name too long": lambda files: files.update({"a" * 5000: {"bytes": 1, "sha256": "x"}}),
    "the folder itself": lambda files: files.update({"..": {"bytes": 1, "sha256": "x"}}),
}


@pytest.mark.parametrize("how", list(MANIFESTS))
def test_a_manifest_by_another_hand_is_set_aside(how: str, desk: Desk) -> None:
    name = f"manifest {how}"
    run = _copy(desk, "half", name)
    for found in run.checkpoints.all():
        files = json.loads((found.folder / "MANIFEST.json").read_text())["files"]
        MANIFESTS[how](files)
        (found.folder / "MANIFEST.json").write_text(manifest_text(found.step, files), encoding="utf-8")
    said = desk.do(*desk.resume(name))
    assert (
        said.code == 65 and "all its checkpoints are damaged" in said.said and "Traceback" not in said.said
    ), said.said


def test_a_best_checkpoint_that_is_gone_is_not_another_one(desk: Desk) -> None:
    """Trap: `best` that quietly becomes `last` puts one checkpoint's name on another's scores."""
    run = _copy(desk, "whole", "no best")
    best = summarise(run)["best"]
    shutil.rmtree(run.checkpoints.of_step(best).folder)
    runs = str(desk.folder / "no best")
    if not run.checkpoints.all():
        pytest.fail("the world keeps more than its best checkpoint")
    said = desk.do("eval", "last", "--runs", runs, "--suite", "doit-valid", "--limit", "1")
    assert said.code == 65 and f"step {best}, is gone" in said.said and "--checkpoint last" in said.said, (
        said.said
    )
    for odd in ("²", "٣", "-1", "99999999999999999999", "x"):
        said = desk.do("eval", "last", "--runs", runs, "--checkpoint", odd, "--suite", "doit-valid")
        assert said.code == 65 and "Traceback" not in said.said, said.said
