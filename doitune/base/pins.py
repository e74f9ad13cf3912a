"""Which commit a hub name meant the first time, and what its files were: a name that moves later is an error,
not another model.

`pins.json` in the cache has, by name, the commit of the first use and the size of every file, with the
sha256 of the small ones and the hub's own name for the content of the large ones (its cache files them under
their sha256; a run records the sha256 of every byte).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.errors import DiskError, ModelError
from doitune.system.disk import file_sha256, write_json
from doitune.system.lock import Wait
from doitune.system.publish import alone

SCHEMA = "doitune.pins/1"
SMALL_BYTES = 64 << 20


def pins_path() -> Path:
    """The file of pins in the user's cache."""
    return corpora_folder().parent / "pins.json"


def pinned_commit(name: str) -> str:
    """The commit that `name` meant at its first use; "" for a new name. ModelError for a damaged file of
    pins."""
    entry = _read().get(name)
    return str(entry["revision"]) if entry else ""


def pin(name: str, revision: str, files: list[Path]) -> None:
    """Write down a name's first use; the next ones must find the same. ModelError where a pinned commit
    has other files than then."""
    now = {path.name: _content(path) for path in files}
    entry = _read().get(name)
    if entry is None:
        entry = _add(name, {"revision": revision, "files": now})
    if entry["revision"] == revision:
        changed = sorted(
            file for file in entry["files"].keys() | now.keys() if entry["files"].get(file) != now.get(file)
        )
        if changed:
            raise ModelError(
                f"{name} at commit {revision[:12]} has other files than at its first use: "
                f"{', '.join(changed[:5])}",
                "the cache or the hub was tampered with or damaged: delete the model from the hub's cache, "
                f"and its entry in {pins_path()}",
            )


def _content(path: Path) -> dict[str, Any]:
    """Size and digest of a file; of a large one the name that the hub's cache gives its content."""
    size = path.stat().st_size
    return {"bytes": size, "content": file_sha256(path) if size <= SMALL_BYTES else path.resolve().name}


def _read() -> dict[str, Any]:
    path = pins_path()
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        pins = dict(document["pins"])
        if document["schema"] != SCHEMA or not all(
            isinstance(one["revision"], str) and isinstance(one["files"], dict) for one in pins.values()
        ):
            raise ValueError("another form")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"the list of pinned models is damaged: {error!r}"
        raise ModelError(
            problem, "look at it, and delete it to trust the hub again", place=str(path)
        ) from None
    return pins


def _add(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What is pinned for `name` from now on: `entry`, unless another process was quicker."""
    path = pins_path()
    try:
        with alone(path, "the list of pinned models", Wait(seconds=30.0)):
            pins = _read()
            found: dict[str, Any] = pins.setdefault(name, entry)
            write_json(path, {"schema": SCHEMA, "pins": pins})
            return found
    except DiskError as error:
        raise DiskError(error.problem, CACHE_CURE) from error
