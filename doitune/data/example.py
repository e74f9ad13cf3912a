"""Example: one conversation, the ability it teaches or tests, and how its answer is read.

Example is the noun that travels from a corpus file to a step of training or a question of an evaluation. It
never holds token ids. Rows are the released data's: `messages` of alternating turns (`turns`); valid and test
rows add `question_format` and what it needs (`forms`), which those of one's own may leave out. `idx`
names the row where it is unique; which other keys may stand in a row and a turn, `keys` says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from doitune.ability import Form
from doitune.data.jsonl import Finding
from doitune.data.message import Message as Message
from doitune.errors import DataError, Problem

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
MAX_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Example:
    """One conversation, which starts with a system text or a user turn and ends with the assistant turn that
    is learnt or asked for.

    `id` is stable: `curated/1000/math#17` (folder, ability and the row's `idx`; without a unique `idx`, a
    hash of the content). `form` is "open" for training rows whose answer has no question form to be scored
    by. `options` are the letters a choice question offers ("A", "B", ...), empty otherwise. `choices` are the
    three candidates of a ppl_rank question, the right one first, empty otherwise. `label` is what a scorer
    compares with: a letter, sorted letters ("ACD"), "T" or "F", a text, a LaTeX answer; "" where open.
    `place` is `file:line`, for messages. `unread`: keys of the row and its turns that doitune does not know.
    """

    id: str
    ability: str
    messages: tuple[Message, ...]
    form: Form
    place: str
    label: str = ""
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def question(self) -> tuple[Message, ...]:
        """Every turn but the last."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """What the last turn says, without the thoughts before it."""
        return self.messages[-1].answer

    @property
    def source(self) -> str:
        """The folder that the row came from: `curated/1000`."""
        return self.id.partition("#")[0].rpartition("/")[0]


def refuse(findings: tuple[Finding, ...]) -> None:
    """Nothing without findings, else a DataError: MAX_SHOWN_PROBLEMS problems as they are, the others
    counted by kind."""
    if not findings:
        return
    problems = [finding.as_problem() for finding in findings[:MAX_SHOWN_PROBLEMS]]
    if hidden := findings[MAX_SHOWN_PROBLEMS:]:
        kinds = ", ".join(
            f"{count} x {kind}" for kind, count in Counter(finding.kind for finding in hidden).most_common()
        )
        problems.append(
            Problem("", f"and {len(hidden)} more: {kinds}", "`doitune data check` lists them all")
        )
    raise DataError.of(problems)
