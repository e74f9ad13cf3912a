"""Where the time of a training went."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from doitune.console.training import beside_the_steps, show_run
from doitune.recipe.resolve import resolve
from doitune.system import spent
from doitune.system.spent import REST, STEPS, Spent, counting_time, spent_on, spent_so_far
from doitune.train.session import start

PARTS = {
    "reading the rows", "loading the base", "proving padded batches", "proving packed rows", "trying what takes most",
    STEPS, "saving checkpoints", "validating", "asking for replies", REST,
}  # fmt: skip


def test_each_moment_counts_for_one_part() -> None:
    """The parts add up to the whole, however they lie in each other and end. Traps: an inner part that counts for
    the outer one, too; a part that an error ends."""
    ticks = count()
    found = Spent(lambda: float(next(ticks)))  # a second passes at each look
    with found.on("outer"), found.on("inner"):
        pass
    with pytest.raises(ValueError), found.on("outer"):
        raise ValueError
    seconds = found.seconds()
    assert list(seconds) == ["outer", "inner", REST] and sum(seconds.values()) == next(ticks) - 1
    assert seconds == {"outer": 3.0, "inner": 1.0, REST: 3.0}


def test_nobody_needs_to_count() -> None:
    with spent_on("a part"):
        assert spent_so_far() == {}
    with counting_time(), spent_on("a part"):
        assert set(spent_so_far()) == {REST, "a part"}
    assert spent_so_far() == {}


def test_every_part_of_a_training_is_named_and_they_are_the_whole(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In done.json, in the log, and where the training says that it is done. Trap: half of the time of a run that no
    line explains."""
    ticks: list[float] = []

    def clock() -> float:
        ticks.append(float(len(ticks)))
        return ticks[-1]

    real = Spent.__init__
    monkeypatch.setattr(spent.Spent, "__init__", lambda self: real(self, clock))
    overrides = ["train.max_steps=2", "train.validation_rows_per_ability=2"]
    run = start(
        resolve(str(tiny_recipe), overrides=overrides),
        runs=tmp_path,
        scorer=None,
        on_event=lambda event: None,
    )
    parts = (run.done() or {})["seconds_by_part"]
    assert set(parts) == PARTS and sum(parts.values()) == ticks[-1]
    assert [line["seconds_by_part"] for line in run.log.lines("parts")] == [parts]
    show_run(run, tmp_path, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {seconds:.1f}" in said for name, seconds in parts.items() if name != STEPS)
    assert "beside the steps" in said and f"{STEPS} {parts[STEPS]:.1f}" not in said
    older = json.loads((run.folder / "done.json").read_text(encoding="utf-8"))
    del older["seconds_by_part"]
    run.write_json("done.json", older)
    show_run(run, tmp_path, as_json=False)
    assert "beside the steps" not in capsys.readouterr().out, "a run of before has no parts"


def test_what_took_no_time_is_not_named() -> None:
    text = beside_the_steps({"loading the base": 8.04, STEPS: 100.0, "validating": 0.01, REST: 1.0})
    assert text == "beside the steps 9s (loading the base 8.0, the rest 1.0, in seconds)"
