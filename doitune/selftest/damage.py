"""Ways in which a file of a checkpoint goes bad."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from doitune.run.layout import step_folders


def _flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, dice: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size)])


def _zero(path: Path, dice: random.Random) -> None:
    """A hole of zeros, as a disk that lost a block leaves it."""
    data = bytearray(path.read_bytes())
    first = dice.randrange(len(data))
    size = min(4096, len(data) - first)
    blank = bytes(size)
    if data[first : first + size] == blank:
        blank = b"\xff" * size
    data[first : first + size] = blank
    path.write_bytes(data)


def _append(path: Path, dice: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(bytes(dice.randrange(256) for _ in range(dice.randrange(1, 64))))


def _remove(path: Path, dice: random.Random) -> None:
    path.unlink()


def _swap(path: Path, dice: random.Random) -> None:
    """The same file of an older checkpoint; of one that is equal, or alone, a flipped bit instead."""
    others = [
        folder / path.name
        for folder in step_folders(path.parent.parent)
        if folder != path.parent and (folder / path.name).is_file()
    ]
    differing = [other for other in sorted(others) if other.read_bytes() != path.read_bytes()]
    if differing:
        path.write_bytes(dice.choice(differing).read_bytes())
    else:
        _flip(path, dice)


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "zero": _zero,
    "append": _append,
    "remove": _remove,
    "swap": _swap,
}


def spoil(folder: Path, number: int, dice: random.Random) -> str:
    """Damage one file of a checkpoint: the `number`-th pair of file and kind, in turn. Returns which and
    how."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    path = files[number % len(files)]
    kind = list(KINDS)[number // len(files) % len(KINDS)]
    KINDS[kind](path, dice)
    return f"{path.name} {kind}"
