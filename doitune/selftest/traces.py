"""What a finished run left, byte for byte, without its clocks: two runs that did the same leave the same
traces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

from doitune.base.adapter import WEIGHTS
from doitune.run.folder import Run
from doitune.run.layout import DONE, EXAMPLES, STATE, STATE_TENSORS
from doitune.run.log import STEP, VALIDATION

CLOCKS = ("seconds", "seconds_by_part", "peak_memory_gib")
"""Fields that differ between two runs of the same."""

TENSORS = (WEIGHTS, STATE_TENSORS)
LOGGED = (STEP, VALIDATION)


@dataclass(frozen=True)
class Traces:
    """Parts of a finished run by name: weights, optimiser moments, counters and random state, log, order
    of examples, result."""

    parts: dict[str, bytes]

    @property
    def sha256(self) -> str:
        """One hash of all parts."""
        return sha256(
            b"".join(sha256(name.encode() + part).digest() for name, part in sorted(self.parts.items()))
        ).hexdigest()

    def differing_bytes(self, other: Traces) -> int:
        """Places at which the two differ, over all parts."""
        names = {*self.parts, *other.parts}
        pairs = ((self.parts.get(name, b""), other.parts.get(name, b"")) for name in names)
        return sum(0 if one == two else sum(a != b for a, b in zip_longest(one, two)) for one, two in pairs)


def traces_of(run: Run) -> Traces:
    """The traces of a finished run. Tensors are read as values by sorted name, so that a file's own layout
    does not count."""
    newest = run.checkpoints.all()[-1].folder
    parts = {name: _tensors(newest / name) for name in TENSORS}
    parts[STATE] = _plain(json.loads((newest / STATE).read_text(encoding="utf-8")))
    parts["metrics"] = _plain([line for line in run.log.lines() if line["event"] in LOGGED])
    parts["examples"] = (run.folder / EXAMPLES).read_bytes()
    parts["done"] = _plain(run.read_json(DONE))
    parts["kept"] = _plain([one.step for one in run.checkpoints.all()])
    return Traces(parts)


def _tensors(path: Path) -> bytes:
    from safetensors.numpy import load_file

    found = load_file(path)
    return b"".join(
        name.encode() + str((found[name].dtype, found[name].shape)).encode() + found[name].tobytes()
        for name in sorted(found)
    )


def _plain(document: Any) -> bytes:
    return json.dumps(_without_clocks(document), ensure_ascii=False, sort_keys=True).encode()


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(inner) for key, inner in value.items() if key not in CLOCKS}
    return [_without_clocks(inner) for inner in value] if isinstance(value, (list, tuple)) else value
