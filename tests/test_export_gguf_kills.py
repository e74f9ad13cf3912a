"""An export to GGUF is killed at fifty points, begun again each time, and ends in the bytes of one that nobody
disturbed; what was whole is not written again. Slow; children are forked from this process, which has no threads."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from doitune.export.gguf import export as exporting
from doitune.export.gguf import file as writing
from doitune.export.gguf import place as placing
from doitune.export.merged import Wish
from doitune.recipe.resolve import resolve
from doitune.selftest.child import Blow, Died, live_through, warm_up
from doitune.selftest.world import make_world
from doitune.system import faults
from doitune.train.session import start

KILLS, OF_THE_WHOLE = 50, 8
"""So many begin with the merge, the others where it is finished: they are of files for llama.cpp."""
NAMES = ("model-f16.gguf", "model-q8_0.gguf")

SAID = {
    "same": True,
    "problems": [],
    "prompt": {"chats": 1, "rendered": 1, "rendered_alike": 1},
    "parity": {"agreement": 1.0, "kl_nats": 0.0, "most_kl_nats": 0.0},
    "evaluation": None,
}
"""What is told of a file where llama.cpp is not asked."""


@contextmanager
def killed_at(arrival: int) -> Iterator[list[str]]:
    """This process ends itself at the `arrival`-th of all its steps: every fault point, every tensor, every file's
    name given, every proof. The list is what it came past."""
    past: list[str] = []

    def at(what: str) -> None:
        past.append(what)
        if len(past) == arrival:
            os.kill(os.getpid(), signal.SIGKILL)

    def told(where: Any, name: str) -> None:
        wrapped = getattr(where, name)

        def stepping(*given: Any, **more: Any) -> Any:
            at(f"before {name}")
            found = wrapped(*given, **more)
            at(f"after {name}")
            return found

        setattr(where, name, stepping)

    for where, name in (
        (writing, "_add"), (placing, "sync_file"), (placing, "rename"), (placing, "sync_folder"), (exporting, "measure_file"),
    ):  # fmt: skip
        told(where, name)
    with faults.watched(at):
        yield past


class Export:
    """One export, in a folder of its own, of the demo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        world = make_world(folder / "world")
        recipe = resolve(str(world.recipe), overrides=["model.name=demo", "train.max_steps=2"])
        self.runs = folder / "runs"
        died = self.life(lambda: start(recipe, runs=self.runs, scorer=None, on_event=lambda event: None))
        assert not died.code, died.said
        warm_up(folder)

    def life(self, work: Callable[[], Any]) -> Died:
        return live_through(lambda watch: work(), self.folder, Blow())

    def made(self, out: Path, arrival: int, real: bool = False) -> Died:
        """A life of the export that ends at an arrival (0: at its own end). `real`: llama.cpp is asked."""

        def work() -> None:
            from doitune.run.find import list_runs

            if not real:  # what llama.cpp says has tests of its own; here it takes no time
                exporting.Bench = Quick  # type: ignore[assignment,misc]
                exporting.measure_file = lambda *given: {**SAID, "quant": given[1]}  # type: ignore[assignment]
            with killed_at(arrival) as past:
                wish = Wish(list_runs(self.runs)[-1], out, questions=0)
                exporting.export_gguf(exporting.Files(wish, ("f16", "q8_0")))
            (self.folder / "past.txt").write_text("\n".join(past))

        return self.life(work)

    def past(self) -> list[str]:
        return (self.folder / "past.txt").read_text().split("\n")


class Quick:
    """No model is loaded to be compared."""

    @classmethod
    def of(cls, *_: Any) -> Quick:
        return cls()

    def clear(self) -> None:
        pass


def weights_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "gguf").glob("model*.gguf"))}


@pytest.mark.slow
def test_fifty_kills_end_in_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    export, dice, merged = Export(tmp_path), random.Random(0), tmp_path / "merged"
    died = export.made(tmp_path / "whole", 0, real=True)
    assert not died.code, died.said
    warm_up(tmp_path)
    wanted, whole = weights_in(tmp_path / "whole"), len(export.past())
    assert sorted(wanted) == [*NAMES] and whole > 100
    shutil.copytree(tmp_path / "whole" / "merged", merged)
    assert not export.made(copied(merged, tmp_path / "short"), 0).code
    short = len(export.past())
    kills, trials, kept = 0, 0, 0
    while kills < KILLS:
        trials += 1
        of_all = kills < OF_THE_WHOLE
        out = tmp_path / "out" if of_all else copied(merged, tmp_path / "out")
        while (died := export.made(out, dice.randint(1, whole if of_all else short), real=of_all)).killed:
            kills += 1
            there = weights_in(out)
            kept += bool(there)
            assert all(wanted[name] == content for name, content in there.items()), "half a file has a name"
            assert kills < 2 * KILLS
        assert not died.code, died.said
        assert weights_in(out) == wanted, f"after {kills} kills"
        left = [path.name for path in out.rglob(".*")] + [path.name for path in out.parent.glob(".out*")]
        assert not left, "something of a killed process is left"
        shutil.rmtree(out)
    assert kept > 3 and trials > 3, "some died behind a finished file, some before"


def copied(merged: Path, out: Path) -> Path:
    shutil.copytree(merged, out / "merged")
    return out


@pytest.mark.slow
def test_what_was_whole_is_not_written_again(tmp_path: Path) -> None:
    """Killed while llama.cpp was asked, the file that was written is taken up."""
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    export, out = Export(tmp_path), tmp_path / "out"
    assert not export.made(tmp_path / "whole", 0).code
    past = export.past()
    asked = [number for number, what in enumerate(past, 1) if what == "before measure_file"]
    assert len(asked) == 2
    assert export.made(out, asked[1]).killed
    hidden = [path.name for path in (out / "gguf").glob(".*.whole")]
    assert len(hidden) == 1 and hidden[0].startswith(".model-q8_0.gguf.")
    assert [path.name for path in (out / "gguf").glob("model*")] == ["model-f16.gguf"]
    assert not export.made(out, 0).code
    assert "before _add" in past and "before _add" not in export.past(), "not a tensor was written again"
    assert weights_in(out) == weights_in(tmp_path / "whole")
