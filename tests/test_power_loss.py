"""Power loss: what is not flushed is gone, what is not flushed may be there. SIGKILL cannot show that; a
model of the disk can.

Every change that the writer makes is recorded, with the bytes of each file. Then, for every prefix of the
record, the power fails: a write that was not flushed may be missing, half there or zeros; a name that was
given, changed or taken may be so or not, as long as the folder was not flushed. Whatever the disk chose, at
least one valid checkpoint must be there once there was one.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doitune.run.checkpoints import keep
from doitune.run.folder import Run, create_run, save_checkpoint, sweep_run
from doitune.system.disk import traced


@dataclass
class Op:
    """One change: what, where (relative), to which name, with which bytes."""

    kind: str
    path: str
    target: str = ""
    data: bytes = b""


@dataclass
class Recorder:
    """Listens to the writer."""

    root: Path
    ops: list[Op] = field(default_factory=list)

    def __call__(self, kind: str, path: Path, target: Path | None) -> None:
        data = path.read_bytes() if kind == "write" else b""
        inner = str(path.relative_to(self.root)) if path.is_relative_to(self.root) else ""
        if inner:
            self.ops.append(Op(kind, inner, str(target.relative_to(self.root)) if target else "", data))


@dataclass
class Disk:
    """A disk after a prefix of changes: durable names and bytes, and what hangs in the air.

    A name's durable state is what the last flush of its folder saw; a file's durable bytes what its last
    flush saw.
    """

    now: dict[str, int] = field(default_factory=dict)  # path -> file number; -1 for a folder
    durable_names: dict[str, int] = field(default_factory=dict)
    bytes_now: dict[int, bytes] = field(default_factory=dict)
    bytes_durable: dict[int, bytes] = field(default_factory=dict)
    changes: list[tuple[str, str, str, int]] = field(
        default_factory=list
    )  # not flushed: (folder, kind, path, number)
    files: int = 0

    def apply(self, op: Op) -> None:
        if op.kind == "mkdir":
            self._link(op.path, -1)
        elif op.kind == "write":
            if op.path not in self.now:
                self.files += 1
                self._link(op.path, self.files)
            self.bytes_now[self.now[op.path]] = op.data
        elif op.kind == "sync":
            self.bytes_durable[self.now[op.path]] = self.bytes_now[self.now[op.path]]
        elif op.kind == "sync_folder":
            self._flush(op.path)
        elif op.kind == "rename":
            self.changes.append((str(Path(op.path).parent), "rename", op.path, 0))
            self.changes[-1] = (str(Path(op.path).parent), f"rename {op.target}", op.path, 0)
            _move(self.now, op.path, op.target)
        elif op.kind == "remove":
            self.changes.append((str(Path(op.path).parent), "remove", op.path, 0))
            _drop(self.now, op.path)

    def _link(self, path: str, number: int) -> None:
        self.now[path] = number
        self.changes.append((str(Path(path).parent), "link", path, number))

    def _flush(self, folder: str) -> None:
        """The folder's own names become durable, in order; a rename out of or into it with them."""
        rest = []
        for change in self.changes:
            if change[0] == folder:
                _replay(self.durable_names, change)
            else:
                rest.append(change)
        self.changes = rest

    def after_power_loss(
        self, names: Callable[[int], bool], data: Callable[[int], str]
    ) -> dict[str, bytes | None]:
        """What is found: `names(n)` says whether the n-th unflushed change of names took place,
        `data(file)` what became of unflushed bytes."""
        found = dict(self.durable_names)
        for number, change in enumerate(self.changes):
            if names(number):
                _replay(found, change)
        contents: dict[str, bytes | None] = {}
        for path, number in found.items():
            if number == -1:
                contents[path] = None
                continue
            whole, kept = self.bytes_now.get(number, b""), self.bytes_durable.get(number)
            how = "kept" if kept == whole else data(number)
            contents[path] = {
                "kept": kept if kept is not None else b"",
                "zeros": bytes(len(whole)),
                "half": whole[: len(whole) // 2],
                "all": whole,
            }[how]
        return contents


def _replay(names: dict[str, int], change: tuple[str, str, str, int]) -> None:
    _, kind, path, number = change
    if kind == "link":
        names[path] = number
    elif kind == "remove":
        _drop(names, path)
    else:
        _move(names, path, kind.partition(" ")[2])


def _move(names: dict[str, int], path: str, target: str) -> None:
    for name in [name for name in names if name == path or name.startswith(path + "/")]:
        names[target + name[len(path) :]] = names.pop(name)


def _drop(names: dict[str, int], path: str) -> None:
    for name in [name for name in names if name == path or name.startswith(path + "/")]:
        del names[name]


def _record(tmp_path: Path, saves: int) -> tuple[Recorder, str]:
    """A run that saves, logs and clears away as a training does."""
    recorder = Recorder(tmp_path)
    with traced(recorder):
        run = create_run(tmp_path / "runs", "demo", 1_000_000.0)
        recorder.ops.insert(0, Op("mkdir", str(run.folder.relative_to(tmp_path))))
        recorder.ops.insert(1, Op("sync_folder", str(run.folder.parent.relative_to(tmp_path))))
        for step in range(1, saves + 1):
            run.log.add({"event": "step", "step": step})

            def fill(folder: Path, step: int = step) -> None:
                (folder / "adapter_model.safetensors").write_bytes(bytes([step]) * 300)
                (folder / "state.json").write_text(json.dumps({"step": step}))

            save_checkpoint(run, step, fill)
            keep(run.checkpoints, {step, step - 1})
        save_checkpoint(run, saves, fill)  # the same step again
    return recorder, str(run.folder.relative_to(tmp_path))


def _survivors(root: Path, found: dict[str, bytes | None], run: str) -> list[int]:
    """Valid checkpoints on the disk that was found, after the next start has cleared it."""
    shutil.rmtree(root, ignore_errors=True)
    for path in sorted(found):
        content = found[path]
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    at = Run(root / run)
    if not at.folder.is_dir():
        return []
    sweep_run(at)
    return [one.step for one in at.checkpoints.all() if not one.verify()]


def _prove(tmp_path: Path, saves: int, subsets: int) -> tuple[int, int]:
    """Every prefix, with the worst choices and `subsets` random ones; returns prefixes and disks looked
    at."""
    recorder, run = _record(tmp_path / "real", saves)
    disk, dice = Disk(), random.Random(0)
    newest = looked = 0
    ends = [
        number
        for number, op in enumerate(recorder.ops)
        if op.kind == "sync_folder" and op.path.endswith("checkpoints")
    ]
    assert len(ends) >= saves and len(recorder.ops) > 15 * saves
    for number, op in enumerate(recorder.ops):
        disk.apply(op)
        pending = len(disk.changes)
        choices: list[tuple[Callable[[int], bool], Callable[[int], str]]] = [
            (lambda n: False, lambda f: "kept"),
            (lambda n: True, lambda f: "zeros"),
            (lambda n: True, lambda f: "half"),
            (lambda n: True, lambda f: "all"),
        ]
        for _ in range(subsets):
            taken = [dice.random() < 0.5 for _ in range(pending)]
            choices.append(
                (lambda n, taken=taken: taken[n], lambda f: dice.choice(["kept", "zeros", "half", "all"]))
            )  # type: ignore[misc]
        for names, data in choices:
            looked += 1
            left = _survivors(tmp_path / "found", disk.after_power_loss(names, data), run)
            assert not newest or left, (
                f"after {number + 1} of {len(recorder.ops)} changes ({op.kind} {op.path}) no valid checkpoint is left"
            )
            assert not newest or max(left) >= newest, f"step {newest} was durable and is lost: {left}"
        if op.kind == "sync_folder" and op.path.endswith("checkpoints"):
            newest = max(
                [
                    newest,
                    *_survivors(
                        tmp_path / "found", disk.after_power_loss(lambda n: False, lambda f: "kept"), run
                    ),
                ]
            )
    assert newest == saves
    return len(recorder.ops), looked


def test_a_few_saves_survive_power_loss_at_every_prefix(tmp_path: Path) -> None:
    prefixes, looked = _prove(tmp_path, saves=3, subsets=2)
    assert prefixes > 60 and looked > 300


@pytest.mark.slow
def test_every_prefix_of_a_long_log(tmp_path: Path) -> None:
    prefixes, looked = _prove(tmp_path, saves=18, subsets=8)
    print(f"power loss: {prefixes} prefixes, {looked} disks, a valid checkpoint in each")
    assert prefixes > 300 and looked > 3_500


def _swap_order(ops: list[Op], kind: str) -> list[Op]:
    """A writer that forgets every flush of this kind."""
    return [op for op in ops if op.kind != kind]


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_the_model_finds_a_writer_that_forgets_to_flush(forgotten: str, tmp_path: Path) -> None:
    """The test can fail: without the flushes of files, or of folders, some disk holds no valid checkpoint
    though two were published."""
    recorder, run = _record(tmp_path / "real", 3)
    disk = Disk()
    for op in _swap_order(recorder.ops, forgotten):
        disk.apply(op)
    worst = [
        _survivors(
            tmp_path / "found", disk.after_power_loss(lambda n, some=some: some, lambda f: "zeros"), run
        )  # type: ignore[misc]
        for some in (False, True)
    ]
    assert [] in worst
