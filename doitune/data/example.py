"""Example: one conversation, the ability it teaches or tests, and how its answer is read.

Example is the noun that travels from a corpus file to a step of training or a question of an evaluation. It
never holds token ids. Rows are the released data's: `messages` of alternating turns (`turns`); valid and test
rows add `question_format` and what it needs (`forms`), which those of one's own may leave out. `idx`
names the row where it is unique; which other keys may stand in a row and a turn, `keys` says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from doitune.ability import GENERAL, Form, is_ability_name
from doitune.data.forms import OPEN, read_form, read_own_form
from doitune.data.jsonl import Finding, RowError, numbered_lines, parse_line, shown
from doitune.data.keys import unread_keys
from doitune.data.message import Message as Message
from doitune.data.message import content_key
from doitune.data.turns import read_messages, until_learnt
from doitune.errors import DataError, Problem

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
MAX_SHOWN_PROBLEMS = 20

_ROW_NAME = re.compile(r"[\w.-]{1,64}")


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


@dataclass(frozen=True)
class Scan:
    """What a file holds: its good rows, in file order, and what is wrong with the others (one finding a
    row)."""

    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]


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


AsRow = Callable[[dict[str, object]], dict[str, object]]


def scan_examples(
    path: Path,
    *,
    ability: str | None,
    id_prefix: str,
    split: Split,
    as_row: AsRow | None = None,
    rows: Callable[[Path], Iterator[tuple[int, bytes]]] = numbered_lines,
) -> Scan:
    """Every row of one file, in file order, with ids `{id_prefix}/{ability}#{idx}` (`id_prefix` is a
    folder: `curated/1000`); bad rows, and an empty file, as findings.

    `ability` None: each row names its own in the field `ability` (`general` where it is missing), and may
    name its `split` (train where it is missing); rows of another split than `split` are left out. `as_row`
    turns another form of row into ours first; it may raise RowError. `rows` gives the JSON of each row with
    its place; JSONL where it is left out. Errors: DataError when the file can't be read at all.
    """
    drafts: list[Example] = []
    findings: list[Finding] = []
    number = 0
    for number, line in rows(path):
        try:
            row = parse_line(line)
            row = as_row(row) if as_row else row
            if ability is None and _own_split(row) != split:
                continue
            drafts.append(_draft(row, f"{path}:{number}", ability, f"{id_prefix}/", split))
        except RowError as error:
            findings.append(Finding(error.kind, str(path), number, error.problem, error.hint))
    if not number:
        findings.append(
            Finding(
                "empty_file", str(path), 0, "the file holds no row", "fetch or write it again, or delete it"
            )
        )
    return Scan(tuple(_named(drafts)), tuple(findings))


def own_example(row: dict[str, object], place: str) -> Example:
    """One's own row in our form as an example, whose id says its ability alone. Errors: RowError."""
    return _draft(row, place, None, "", _own_split(row))


def _draft(row: dict[str, object], place: str, ability: str | None, prefix: str, split: Split) -> Example:
    """The row with `prefix/ability#idx` for an id, `prefix/ability#` where the row has no usable `idx`.
    `ability` None: the row is one's own, and names it."""
    read, ability = (read_form, ability) if ability else (read_own_form, _own_ability(row))
    messages, unread = read_messages(row), _unread(row)
    if split == "train":
        messages = until_learnt(messages)
    elif not messages[-1].learnt:
        raise RowError(
            "mark",
            f"the last turn of this {split} row is marked as not learnt, but it is the answer compared",
            "drop the mark, or the row",
        )
    reading = OPEN if split == "train" else read(row, ability, messages[-2].content, messages[-1].answer)
    idx = row.get("idx")
    name = str(idx) if isinstance(idx, int) and not isinstance(idx, bool) else idx
    known = isinstance(name, str) and _ROW_NAME.fullmatch(name)
    row_id = f"{prefix}{ability}#{name if known else ''}"
    return Example(
        row_id,
        ability,
        messages,
        reading.form,
        place,
        reading.label,
        reading.options,
        reading.choices,
        unread,
    )


def _unread(row: dict[str, object]) -> tuple[str, ...]:
    """The keys of the row and of its turns that are neither read nor harmless, each once."""
    turns = row["messages"]
    assert isinstance(turns, list)
    found = unread_keys(row)
    for number, turn in enumerate(turns, 1):
        found += unread_keys(turn, number)
    return tuple(dict.fromkeys(found))


def _named(drafts: list[Example]) -> list[Example]:
    """The drafts with unique ids: those without an `idx` of their own get 16 hex digits of their content,
    repeated rows `-2`, `-3`."""
    count = Counter(draft.id for draft in drafts)
    taken = {name for name, times in count.items() if times == 1 and not name.endswith("#")}
    named: list[Example] = []
    for draft in drafts:
        if draft.id not in taken:
            stem = f"{draft.id.partition('#')[0]}#{content_key(draft.messages).hex()[:16]}"
            name, repeat = stem, 1
            while name in taken:
                repeat += 1
                name = f"{stem}-{repeat}"
            taken.add(name)
            draft = replace(draft, id=name)
        named.append(draft)
    return named


def _own_ability(row: dict[str, object]) -> str:
    """The ability that the row names; `general` where it names none."""
    name = row.get("ability")
    if name is None:
        return GENERAL.name
    if not isinstance(name, str) or not is_ability_name(name):
        raise RowError(
            "ability",
            f"`ability` is {shown(name)}, not a name",
            "name the ability in letters, digits, _ and -, or leave the key out",
        )
    return name


def _own_split(row: dict[str, object]) -> Split:
    name = "train" if row.get("split") is None else row["split"]
    for split in SPLITS:
        if name == split:
            return split
    raise RowError("split", f"`split` is {shown(name)}", "write train, valid or test, or leave the key out")
