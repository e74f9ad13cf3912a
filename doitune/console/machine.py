"""What this machine can and does: the doctor's checks, the test of a card, the crash test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doitune.console.screen import duration, say, show_table

if TYPE_CHECKING:
    from doitune.doctor.diagnosis import Diagnosis
    from doitune.doctor.known_errors import KnownError
    from doitune.selftest.crash_report import Report

VERDICTS = {
    "ok": "all is well",
    "warning": "training is possible; see the warnings",
    "problem": "no training is possible here: see the problems",
}

FIRST_FAILURES = 5
"""How many are shown; all are counted."""


def show_diagnosis(found: Diagnosis, *, commands: bool) -> None:
    """A line for each check with its cure; with `commands` what repairs it, to be copied."""
    rows = [
        [one.state, one.name, one.text + (f"\n-> {one.cure}" if one.cure else "")] for one in found.checks
    ]
    show_table(["", "check", "found"], rows)
    if commands:
        for line in found.commands or ("# no command is needed",):
            say(line)
    more = "" if commands or not found.commands else " (--fix-hint prints the commands)"
    say(VERDICTS[found.state] + more)


def show_known_error(known: KnownError | None) -> None:
    """What a message means, or that nobody here knows it."""
    if known is None:
        say("not one of the errors that are known; `doitune doctor` looks at this machine")
    else:
        say(f"{known.problem}\n-> {known.cure}")


def show_gpu(document: Mapping[str, Any], written: str) -> None:
    """The verdict on each part of a document of `selftest.gpu`. `written`: its file, or empty."""
    rows = [
        [part["verdict"], name, part["said"], duration(part["seconds"])]
        for name, part in document["parts"].items()
    ]
    title = f"{document['card']['name']}, {document['card']['gib']:.1f} GiB"
    show_table(["", "part", "found", "time"], rows, title=title, right=(3,))
    say(f"{document['verdict']}: {document['said']}")
    if written:
        say(f"wrote {written}: please send it in with an issue, it holds no names, paths or secrets")


def show_crash_report(report: Report) -> None:
    """What the crash test counted, and its verdict."""
    during = f"{report.kills} kills, {report.kills_during_save} of them while a checkpoint was being written"
    place = f"{duration(report.seconds)} on {report.filesystem or 'this disk'}"
    say(f"{during}; {report.runs} runs, {report.processes} processes, {place}")
    lost = f"steps lost beyond a checkpoint interval: {report.steps_lost_beyond}"
    say(f"{lost}; differing bytes: {report.differing_bytes}")
    if report.corruptions:
        say(f"damaged checkpoints: {report.corruptions}, found and survived: {report.corruptions_found}")
    if report.commands:
        kills = ", ".join(f"{one.command} {one.kills}" for one in report.commands)
        say(f"other commands killed, and begun again to the same bytes: {kills}")
    for text in report.failures[:FIRST_FAILURES]:
        say(f"failure: {text}")
    failed = f"FAILED: {len(report.failures)} failures"
    say("passed: a run survives being killed here" if report.passed else failed)
