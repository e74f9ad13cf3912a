"""AGIEval v1 as a task: ten Chinese sets with four options, zero-shot or with solved examples as earlier
turns, from its JSON lines.

Only questions with exactly one right letter are kept, as the reference protocol does (3,269 of 4,299). The
text is the reference's under both protocols, its numbering included: an example keeps its number when
examples with several letters were dropped, the question is numbered by how many are left. Version 1.1 has
other questions and is another suite. Licences differ by set (`data/v1/LICENSE`): LogiQA is CC BY-NC-SA 4.0,
JEC-QA for academic research only; none is bundled.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doitune.data.example import Message
from doitune.errors import DataError
from doitune.evals.reading.paper import keeps
from doitune.evals.task import Count, Item, Released, Task, digest

SUITE = "agieval-v1"
SETS = (
    "logiqa-zh", "gaokao-chinese", "gaokao-geography", "gaokao-history", "gaokao-biology",
    "gaokao-chemistry", "gaokao-mathqa", "jec-qa-kd", "jec-qa-ca", "gaokao-physics",
)  # fmt: skip
"""The sets of the reference protocol, in its order; those in English, gaokao-english and gaokao-mathcloze
are none of them."""

EXAMPLES = "few_shot_prompts.csv"
FILES = re.compile(rf"v1/(?:{'|'.join(SETS)})\.jsonl|v1/LICENSE|few_shot_prompts\.csv")
LAYOUT = f"v1/<set>.jsonl and {EXAMPLES}"
LETTERS = ("A", "B", "C", "D")
RELEASED_TOKENS, SPARE_TOKENS = 2048, 48
"""The reference's longest prompt, and what it keeps free of examples besides the question."""

_CURE = f"name the folder that holds v1 and {EXAMPLES}: --data {SUITE}=PATH"


class Row(NamedTuple):
    """One question or example. `number` counts from 0: the line of the file, or the example's place among
    all of its set."""

    number: int
    passage: str
    question: str
    options: tuple[str, ...]
    label: str

    @property
    def stem(self) -> str:
        """For people to read."""
        return "\n".join(part for part in (self.passage, self.question, *self.options) if part)

    def zero_shot(self) -> str:
        """The turn of a question without examples."""
        return f"{self.passage}问题：{self.question} 选项：{' '.join(self.options)}\n答案：从A到D, 我们应选择"

    def numbered(self, number: int, last: str = "D") -> str:
        """The turn of an example or of a question that follows examples. `last`: the last option's letter."""
        options = " ".join(self.options)
        return (
            f"问题 {number}.   {self.passage} {self.question}\n"
            f"从以下选项中选择:    {options}\n答案：从A到{last}, 我们应选择"
        )

    def as_example(self) -> tuple[Message, Message]:
        """The two turns of an example; options in a single text stand for four."""
        count = 4 if len(self.options) == 1 else len(self.options)
        return Message("user", self.numbered(self.number + 1, "ABCDEFG"[count - 1])), Message(
            "assistant", self.label
        )


def read_rows(path: Path) -> list[Row]:
    """The questions of a set that are kept. Errors: DataError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError("no such file", _CURE, place=str(path)) from None
    found = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        row = _row(line, number, f"{path}:{number + 1}")
        if row is not None:
            found.append(row)
    if not found:
        raise DataError("no question with one right letter", "fetch the data again", place=str(path))
    return found


def _row(line: str, number: int, place: str) -> Row | None:
    """One record; None where it has not exactly one right letter."""
    try:
        read = json.loads(line)
        row = _made(read, number) if keeps(read["label"]) else None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"not a record of AGIEval v1: {error!r}", "fetch the data again", place=place
        ) from None
    if row is not None and (len(row.options) != 4 or row.label not in LETTERS):
        raise DataError(
            f"{len(row.options)} options and the label {row.label!r}",
            "questions of these sets have four options",
            place=place,
        )
    return row


def _made(read: Mapping[str, Any], number: int) -> Row:
    return Row(
        number, read["passage"] or "", read["question"], tuple(read["options"] or ()), str(read["label"][0])
    )


def read_examples(path: Path, name: str) -> list[Row]:
    """The usable examples of a set, in order: those with one right letter. Errors: DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = list(csv.reader(stream))
        column = table[0].index(name)
        cells = [row[column] for row in table[1::2] if row[column]]  # every other row explains the one before
        read = [ast.literal_eval(cell) for cell in cells]
        return [_made(one, place) for place, one in enumerate(read) if keeps(one["label"])]
    except FileNotFoundError:
        raise DataError("no such file", _CURE, place=str(path)) from None
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError, csv.Error) as error:
        raise DataError(
            f"no examples of {name} can be read: {error!r}", "fetch the data again", place=str(path)
        ) from error


def task(folder: Path, shots: int = 0) -> Task:
    """The task over the sets that `folder` has (`v1/<set>.jsonl`), with at most `shots` examples each
    (`few_shot_prompts.csv`).

    A set may have fewer usable ones. Headline: the mean over the sets. Errors: DataError.
    """
    names = [name for name in SETS if (folder / "v1" / f"{name}.jsonl").is_file()]
    if not names:
        raise DataError("no file v1/<set>.jsonl of the ten Chinese sets", _CURE, place=str(folder))
    items = tuple(item for name in names for item in _items(folder, name, shots))
    return Task(SUITE, items, headline=tuple(names), shots=shots)


def _items(folder: Path, name: str, shots: int) -> Iterator[Item]:
    rows = read_rows(folder / "v1" / f"{name}.jsonl")
    turns = (
        [example.as_example() for example in read_examples(folder / EXAMPLES, name)[:shots]] if shots else []
    )
    shared = Counter(_shares(row) for row in rows)
    for row in rows:
        cluster = f"{name}:{_shares(row)}" if shared[_shares(row)] > 1 else ""
        yield _item(name, row, turns, cluster)


def _shares(row: Row) -> str:
    """What questions share that aren't independent: their passage; without one, the whole question (a
    duplicate)."""
    return digest([row.passage] if row.passage else [row.question, *row.options])


def _item(name: str, row: Row, turns: Sequence[tuple[Message, Message]], cluster: str) -> Item:
    def fewer(count: int) -> tuple[Message, ...]:
        return (*(turn for pair in turns[:count] for turn in pair), Message("user", row.numbered(count + 1)))

    return Item(
        id=f"{SUITE}/{name}#{row.number}",
        set=name,
        form="single_choice",
        way="letters",
        question=fewer(len(turns)) if turns else (Message("user", row.zero_shot()),),
        label=row.label,
        options=LETTERS,
        cluster=cluster,
        shots=len(turns),
        fewer=fewer if turns else None,
        stem=row.stem,
        bare=True,
        released=_released(row, turns) if turns else None,
    )


def _released(row: Row, turns: Sequence[tuple[Message, Message]]) -> Released:
    """The reference's way with long prompts: examples are added in order until their joined text outgrows
    what the question leaves.

    Source: DoIT evaluate/agieval/src/dataset_loader.py; same counts.
    """

    def question(count: Count) -> tuple[tuple[Message, ...], int]:
        room = RELEASED_TOKENS - SPARE_TOKENS - count(row.passage + row.question + " ".join(row.options))
        kept, text = 0, ""
        for asked, answered in turns:
            text += asked.content + answered.content
            if count(text) > room:
                break
            kept += 1
        return (
            *(turn for pair in turns[:kept] for turn in pair),
            Message("user", row.numbered(kept + 1)),
        ), kept

    return question
