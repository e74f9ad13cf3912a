"""The encoder that a run was trained with, found again: the moment that its prompts may name, and the proof
that questions get the ids that training gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from doitune.base.sentencepiece import MODEL_FILE
from doitune.errors import CheckpointError
from doitune.prompt.encode import fingerprint
from doitune.prompt.moment import now
from doitune.run.folder import NAME_FORM, Run
from doitune.run.layout import ORIGIN

if TYPE_CHECKING:
    from doitune.prompt.template import Template


def moment_of(run: Run) -> str:
    """What the base's chat template took for now in this run. Of a run that did not record it: the time in
    its folder's name, else now."""
    return str(run.read_json(ORIGIN).get("moment") or "") or _in_name(run) or now()


def _in_name(run: Run) -> str:
    """The moment that the folder is named after; "" where it is named otherwise."""
    try:
        return datetime.strptime(run.folder.name[:15], NAME_FORM).isoformat(timespec="seconds")
    except ValueError:
        return ""


def refuse_lost_moment(run: Run, template: Template) -> None:
    """CheckpointError where the base's chat template prints the time and nobody knows which it printed in
    this run: it did not record it, and its folder's name is another time."""
    if not template.reads_clock or run.read_json(ORIGIN).get("moment"):
        return
    if _trained(run) != fingerprint(template):
        raise CheckpointError(
            f"{run.name} cannot be asked as it was trained: the base's chat template prints the time, and "
            f"this run is of an older doitune, which did not record it ({template.moment} is another)",
            f'write the time of its start into its {ORIGIN} by hand: "moment": "2025-03-01T09:30:00"',
        )


def refuse_other_encoder(run: Run, template: Template) -> None:
    """CheckpointError where questions would not be encoded as the run's training was."""
    refuse_lost_moment(run, template)
    trained, here = _trained(run), fingerprint(template)
    if trained == here:
        return
    problem = f"{run.name} was trained with another encoder: fingerprint {trained[:12]}, here {here[:12]}"
    if template.cut and trained == fingerprint(replace(template, cut=None)):
        raise CheckpointError(
            f"{problem}: its texts were cut by the base's tokenizer.json, here they are by its {MODEL_FILE}",
            f"train it again, or use it with the doitune that trained it: versions in its {ORIGIN}",
        )
    raise CheckpointError(
        problem, f"use the base, tokenizer files and library versions named in its {ORIGIN}"
    )


def _trained(run: Run) -> str:
    """The fingerprint of the run's encoder."""
    encoder: Mapping[str, str] = run.read_json(ORIGIN).get("encoder", {})
    return str(encoder.get("fingerprint"))
