"""What an exported model is asked beside the model as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from doitune.backends.probe import read_probe
from doitune.errors import DataError, UsageError
from doitune.evals.request import Request, corpus_task
from doitune.export.parity import ROWS
from doitune.export.tokenizer import CHATS
from doitune.prepare.draw import recipe_corpus, validation_rows
from doitune.prompt.encode import encode_all
from doitune.run.places import at_its_corpus

if TYPE_CHECKING:
    from doitune.backends.probe import Probe
    from doitune.data.example import Example, Message
    from doitune.evals.task import Task
    from doitune.export.source import Source
    from doitune.prompt.encoded import Encoded

SUITE = "doit-valid"
QUESTIONS = 200
"""Scored before and after: the default of `--questions`."""

PROVED_ROWS = 50
"""Rows of the run on which prompts are compared, beside CHATS."""


@dataclass(frozen=True)
class Trial:
    """What is asked. `chats` prove the prompt; `rows` are answers whose distributions are compared, those
    of the checkpoint's probe first; `task` is scored. `left_out`: why something is not asked."""

    chats: tuple[Sequence[Message], ...]
    probe: Probe
    rows: tuple[Encoded, ...]
    task: Task | None
    left_out: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Hash of all that is asked: another one is another measurement."""
        asked = repr([[row.ids for row in self.rows], self.task.document if self.task else ""])
        return sha256(asked.encode()).hexdigest()


def choose_trial(source: Source, questions: int) -> Trial:
    """What to ask: validation rows of the run's corpus, where it can be read, beside the checkpoint's probe;
    `questions` of them are scored.

    Errors: CheckpointError for a checkpoint without a probe.
    """
    probe = read_probe(source.checkpoint.folder)
    rows, encoded, left_out = _validation(source)
    task, why = _task(source, questions) if not left_out else (None, "")
    chats = CHATS if source.template.kind == "doit" else CHATS[1:]
    return Trial(
        (*chats, *(row.messages for row in rows[:PROVED_ROWS])),
        probe,
        (*(one.row for one in probe.rows), *encoded),
        task,
        tuple(text for text in (left_out, why) if text),
    )


def _validation(source: Source) -> tuple[list[Example], list[Encoded], str]:
    """Validation rows in turn from each ability, their encodings, and why there are none."""
    section = source.recipe.data
    try:
        section = at_its_corpus(source.run, source.recipe).data
        found = [list(rows) for rows in validation_rows(recipe_corpus(section), ROWS, section.seed).values()]
        rows = [group[turn] for turn in range(ROWS) for group in found if turn < len(group)][:ROWS]
        encoded = encode_all([row.messages for row in rows], source.template, [row.place for row in rows])
    except (DataError, UsageError) as error:
        return [], [], f"the run's corpus was not asked: {error.problems[0]}"
    none = "the run's corpus has no validation rows: only the checkpoint's probe is compared, and no score"
    return rows, encoded, "" if rows else none


def _task(source: Source, questions: int) -> tuple[Task | None, str]:
    """At most `questions` validation questions, as many of each ability; and why there are none."""
    if not questions:
        return None, "no questions were asked (--questions 0)"
    try:
        whole = corpus_task(SUITE, at_its_corpus(source.run, source.recipe), Request())
    except (DataError, UsageError) as error:
        return None, f"no questions were asked: {error.problems[0]}"
    some = whole.limited(max(1, questions // len(whole.sets)), source.recipe.data.seed)
    return replace(some, items=some.items[:questions]), ""
