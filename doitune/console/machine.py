"""What the doctor and the test of a card found, as tables. A part of the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doitune.console.screen import duration, say, show_table

if TYPE_CHECKING:
    from doitune.doctor.checks import Diagnosis


def show_diagnosis(found: Diagnosis, *, commands: bool) -> None:
    """A line for each check with its cure; with `commands` what mends it, to be copied."""
    rows = [
        [one.state, one.name, one.text + (f"\n-> {one.cure}" if one.cure else "")] for one in found.checks
    ]
    show_table(["", "check", "found"], rows)
    if commands:
        for line in found.commands or ("# no command is needed",):
            say(line)
    verdicts = {
        "ok": "all is well",
        "warning": "training is possible; see the warnings",
        "problem": "no training is possible here: see the problems",
    }
    say(
        verdicts[found.state]
        + ("" if commands or not found.commands else " (--fix-hint prints the commands)")
    )


def show_gpu(document: Mapping[str, Any], written: str) -> None:
    """The verdict on each part, and where the document lies."""
    rows = [
        [part["verdict"], name, part["said"], duration(part["seconds"])]
        for name, part in document["parts"].items()
    ]
    show_table(
        ["", "part", "found", "time"],
        rows,
        title=f"{document['card']['name']}, {document['card']['gib']:.1f} GiB",
        right=(3,),
    )
    say(f"{document['verdict']}: {document['said']}")
    if written:
        say(f"wrote {written}: please send it in with an issue, it holds no names, paths or secrets")
