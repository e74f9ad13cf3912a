"""Scan: the rows of a file as examples, and what is wrong with the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from doitune.ability import GENERAL, is_ability_name
from doitune.data.example import SPLITS, Example, Split
from doitune.data.forms import OPEN, read_form, read_own_form
from doitune.data.jsonl import Finding, RowError, numbered_lines, parse_line, shown
from doitune.data.keys import unread_keys
from doitune.data.rows import Rows, RowsWriter
from doitune.data.turns import read_messages, until_learnt
from doitune.system.doing import doing
from doitune.system.scratch import Scratch

_ROW_NAME = re.compile(r"[\w.-]{1,64}")

SAID_EVERY = 5000
"""Rows between two words on how far the reading is."""


@dataclass(frozen=True)
class Scan:
    """What a file holds: its good rows, in file order, and what is wrong with the others (one finding a
    row)."""

    examples: Rows
    findings: tuple[Finding, ...]


AsRow = Callable[[dict[str, object]], dict[str, object]]
Lines = Callable[[Path], Iterator[tuple[int, bytes]]]


def scan_examples(
    path: Path,
    *,
    ability: str | None,
    id_prefix: str,
    split: Split,
    as_row: AsRow | None = None,
    rows: Lines = numbered_lines,
) -> Scan:
    """Every row of one file, in file order, with ids `{id_prefix}/{ability}#{idx}` (`id_prefix` is a
    folder: `curated/1000`); bad rows, and an empty file, as findings.

    `ability` None: each row names its own in the field `ability` (`general` where it is missing), and may
    name its `split` (train where it is missing); rows of another split than `split` are left out. `as_row`
    turns another form of row into ours first; it may raise RowError. `rows` gives the JSON of each row with
    its place; JSONL where it is left out. Errors: DataError when the file can't be read at all.
    """
    reading = Reading(path, ability, id_prefix, split, as_row)
    return reading.scans(rows)[split]


@dataclass(frozen=True)
class Reading:
    """How a file is read, see `scan_examples`. `see` is told of each row as it stands in the file, of one
    that cannot be read as an empty one. `store`: where the rows lie."""

    path: Path
    ability: str | None
    id_prefix: str
    split: Split = "train"
    as_row: AsRow | None = None
    see: Callable[[Mapping[str, object]], None] | None = None
    store: Scratch = field(default_factory=Scratch)

    def scans(self, rows: Lines) -> dict[Split, Scan]:
        """The rows of each split; all of `split`, where the file has an ability."""
        writers = {split: RowsWriter(self.store) for split in SPLITS}
        findings: dict[Split, list[Finding]] = {split: [] for split in SPLITS}
        number = on_line = 0
        for count, (begins, line) in enumerate(rows(self.path)):
            number, on_line = begins, on_line + 1 if begins == number else 1
            if count % SAID_EVERY == 0 and count:
                doing(f"reading {self.path.name}: rows", count)
            concerned: tuple[Split, ...] = SPLITS
            try:
                row = self._row(line)
                concerned = (self.split if self.ability else _own_split(row),)
                place = f"{self.path}:{number}"
                writers[concerned[0]].add(
                    _draft(row, place, self.ability, f"{self.id_prefix}/", concerned[0])
                )
            except RowError as error:
                problem = error.problem if on_line == 1 else f"row {on_line} of this line: {error.problem}"
                for split in concerned:
                    findings[split].append(Finding(error.kind, str(self.path), number, problem, error.hint))
        if not number:
            hint = "fetch or write it again, or delete it"
            empty = Finding("empty_file", str(self.path), 0, "the file holds no row", hint)
            findings = {split: [empty] for split in SPLITS}
        return {split: Scan(writers[split].rows(), tuple(findings[split])) for split in SPLITS}

    def _row(self, line: bytes) -> dict[str, object]:
        """The row of a line in our form. Errors: RowError."""
        row: dict[str, object] = {}
        try:
            row = parse_line(line)
        finally:
            if self.see:
                self.see(row)
        return self.as_row(row) if self.as_row else row


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
