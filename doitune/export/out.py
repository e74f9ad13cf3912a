"""The folder of an export, `--out`; and, where it holds something else, what that is and what would help."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from doitune.base.folder import REPORT
from doitune.errors import UsageError
from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, MERGED
from doitune.system.paths import as_argument, from_home

FORMATS = (MERGED, ADAPTER, GGUF, GGUF_ADAPTER)
"""What an export.json is of, and what the folder of one of several exports is called."""

NEW = "name a new or an empty folder: --out DIR"

SHOWN = 3
"""Names of files that an error lists."""


def resolved_out(wanted: Path) -> Path:
    """`--out` as a whole path. UsageError for what can be no folder."""
    try:
        out = from_home(wanted).resolve()
        there = next(one for one in (out, *out.parents) if one.exists())
        if out.is_dir():
            next(out.iterdir(), None)  # of a folder that may not be read, too, it is said here
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user, a null byte
        reason = getattr(error, "strerror", None) or error
        problem = f"--out {str(wanted)!r} cannot be written: {reason}"
        raise UsageError(problem, "name a folder of yours") from None
    if not there.is_dir():
        raise UsageError(f"{there} is there already, and is a file", NEW)
    return out


def read_export(folder: Path) -> dict[str, Any] | None:
    """What the export.json of a folder says; None where there is none that can be read."""
    with suppress(OSError, ValueError):
        said = json.loads((folder / REPORT).read_text("utf-8"))
        return said if isinstance(said, dict) else None
    return None


def taken(out: Path, to: str, strange: Sequence[str] = ()) -> UsageError:
    """Why an export to `to` is not written into `out`, which is a folder. `strange`: names of files in it, of
    such an export, that doitune did not write so."""
    there = f"{out} is there already"
    if strange:
        return UsageError(f"{there}, and not all of it is as doitune exported it: {_some(strange)}", NEW)
    if kind := (read_export(out) or {}).get("to"):
        return UsageError(f"{there}, and is an export to {kind}, not to {to}", NEW)
    if below := [one for one in FORMATS if read_export(out / one) is not None]:
        problem = f"{there}, and holds exports in folders of their own: {', '.join(below)}"
        where = "the one that you ask for is" if to in below else "there is room beside them"
        return UsageError(problem, f"{where} in {out.name}/{to}: --out {shlex.quote(as_argument(out / to))}")
    names = sorted(path.name for path in out.iterdir())
    return UsageError(f"{there}, and is no export of doitune to {to}: it holds {_some(names)}", NEW)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
