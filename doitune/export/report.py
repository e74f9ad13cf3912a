"""export.json: what is known of an exported model, and whether it may be called the trained one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.folder import REPORT
from doitune.base.record import check_folder
from doitune.errors import ModelError, ParityError, Problem
from doitune.system.disk import write_json
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.export.trial import Trial

SCHEMA = "doitune.export/1"

_UNKNOWN = {"schema": SCHEMA, "same": None, "problems": ["not measured yet: the same command goes on"]}
NOT_MEASURED = (json.dumps(_UNKNOWN) + "\n").encode()
"""export.json as long as nothing is known: a folder whose files are whole is no promise yet."""


@dataclass(frozen=True)
class Export:
    """A finished export: its folder and what export.json says. `again`: it was finished before, and
    nothing was done."""

    folder: Path
    document: Mapping[str, Any]
    again: bool = False

    @property
    def same(self) -> bool:
        """Whether the exported model may be called the trained one."""
        return bool(self.document["same"])

    def refuse_other(self) -> None:
        """ParityError where the exported model is another than the trained one; the folder stays, and its
        export.json says so."""
        if not self.same:
            problems, cure = self.document["problems"], self.document["cure"]
            raise ParityError.of(Problem(str(self.folder), problem, cure) for problem in problems)


def finished(out: Path, trial: Trial) -> Export | None:
    """The export in `out`, whose files are all there, if it was measured with the same questions; else None.
    ModelError where it was changed."""
    if wrong := check_folder(out).differences:
        place = f"{out / wrong[0].file}" if wrong[0].file else str(out)
        problem = f"not as it was exported: {wrong[0].problem}"
        raise ModelError(problem, "delete the folder and export again", place=place)
    document: Any = None
    with suppress(OSError, ValueError):
        document = json.loads((out / REPORT).read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("trial") != trial.identity:
        return None
    return Export(out, document, again=True) if isinstance(document.get("same"), bool) else None


def work_folder(out: Path, what: str) -> Path:
    """Where replies are kept while `what` is measured, beside the folder."""
    return out.with_name(f".{out.name}.parity-{what}")


def finish(out: Path, document: Mapping[str, Any]) -> Export:
    """Write export.json, without secrets, and delete what was kept to measure it."""
    kept = redacted(document)
    write_json(out / REPORT, kept)
    for folder in out.parent.iterdir():
        if folder.name.startswith(work_folder(out, "").name):
            shutil.rmtree(folder, ignore_errors=True)
    return Export(out, kept)
