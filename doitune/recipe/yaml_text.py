"""Recipe files as text: a strict subset of YAML, read as events, and the writer that goes with it.

Every scalar stays text with its place (`file:line`); what it means is decided by the field it is written to,
so `2e-4` is a number because the field holds a number and `no` is never a truth value by accident. Anchors,
aliases, tags, merge keys, duplicate keys, several documents, deep nesting and big files are refused. Source
of the list: reliability notes, section 1c, and the promise S7.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from doitune.errors import Problem, RecipeError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 100
"""A file of garbage is reported up to here, then by a count."""

_NULLS = frozenset({"", "null", "~"})
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Scalar:
    """A text and where it stands; `quoted` also for block text (`|`, `>`)."""

    text: str
    place: str
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Nothing is written: empty, `null` or `~` without quotes."""
        return not self.quoted and self.text in _NULLS


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: str


@dataclass(frozen=True)
class Fields:
    """A mapping. The `place` of a value is the line of its key."""

    entries: dict[str, Node] = field(default_factory=dict)
    place: str = ""


Node = Scalar | Items | Fields


def read_file(path: Path, shown: str) -> Fields:
    """The tree of a recipe file; `shown` is its name in places. Errors: RecipeError with every problem of
    the text."""
    try:
        if not path.is_file():
            raise RecipeError("is a folder" if path.is_dir() else "there is no such file", place=shown)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"cannot be read: {reason}", place=shown) from error
    return read_bytes(data, shown)


def read_bytes(data: bytes, shown: str) -> Fields:
    """The tree of a recipe's bytes. Errors: RecipeError with every problem of the text."""
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"is larger than {MAX_BYTES // 1024} KiB", "a recipe is a page of text", place=shown
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise RecipeError(problem, "save the file as UTF-8", place=f"{shown}:{line}") from error
    reader = _Reader(text.removeprefix("\ufeff"), shown)
    tree = reader.document()
    if not reader.problems and not isinstance(tree, Fields):
        reader.report(f"{shown}:1", "a recipe is a mapping of sections", "start with `extends: _base`")
    raise_all(reader.problems)
    assert isinstance(tree, Fields)
    return tree


def read_value(text: str, place: str) -> Node:
    """The value of `--set key=value`: a list, mapping or quoted text where it starts like one, else the
    text as it stands."""
    text = text.strip()
    if not text.startswith(("[", "{", '"', "'")):
        return Scalar(text, place)
    reader = _Reader(text, place, fixed_place=True)
    tree = reader.document()
    raise_all(reader.problems)
    return tree


def raise_all(problems: list[Problem]) -> None:
    """Raise the problems as one RecipeError, if there are any."""
    if len(problems) > MAX_PROBLEMS:
        rest = len(problems) - MAX_PROBLEMS
        problems = [*problems[:MAX_PROBLEMS], Problem("", f"and {rest} more problems")]
    if problems:
        raise RecipeError.of(problems)


def quote(text: str, most: int = 60) -> str:
    """`text` as messages show it: what cannot be printed is escaped, what is long is cut."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:most]
    )
    return f"`{shown}{'...' if len(text) > most else ''}`"


class _TooDeep(Exception):
    """Nesting beyond MAX_DEPTH: nothing behind it is read."""


class _Reader:
    """Events -> nodes, gathering problems; syntax errors and depth end the reading."""

    def __init__(self, text: str, shown: str, *, fixed_place: bool = False) -> None:
        self.problems: list[Problem] = []
        self._text, self._shown, self._fixed_place = text, shown, fixed_place
        self._line_starts = [match.end() for match in re.finditer("\n", text)]
        self._events: Iterator[Any] = iter(())

    def report(self, place: str, problem: str, hint: str = "") -> None:
        self.problems.append(Problem(place, problem, hint))

    def _place(self, mark: Any) -> str:
        """Lines as editors count them: YAML would also count U+0085, U+2028 and U+2029."""
        if self._fixed_place or mark is None:
            return self._shown
        return f"{self._shown}:{bisect.bisect_right(self._line_starts, mark.index) + 1}"

    def document(self) -> Node:
        """The one document of the text; an empty mapping where there is none."""
        tree: Node = Fields({}, self._shown)
        try:
            self._events = yaml.parse(self._text, Loader=_LOADER)
            documents = 0
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self.report(
                            self._place(event.start_mark),
                            "a second document starts here",
                            "one file holds one recipe",
                        )
                        break
                    tree = self._node(next(self._events), "", 0)
        except _TooDeep:
            pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if "nesting depth" in str(error.problem):  # PyYAML from 6.0.4 on has a bound of its own
                self._report_depth(self._place(mark))
            else:
                self.report(
                    self._place(mark),
                    f"not readable as YAML: {error.problem or error.context}",
                    "see the line and the one before",
                )
        except (
            yaml.YAMLError,
            ValueError,
            OverflowError,
        ) as error:  # ValueError: the pure-Python scanner, for impossible escapes
            self.report(self._shown, f"not readable as YAML: {quote(str(error), 120)}")
        return tree

    def _node(self, event: Any, path: str, depth: int, place: str = "") -> Node:
        place = place or self._place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.report(place, f"alias `*{event.anchor}` is not allowed in a recipe", "write the value out")
            return Scalar("", place)
        if event.anchor is not None:
            self.report(place, f"anchor `&{event.anchor}` is not allowed in a recipe", "write the value out")
        if event.tag is not None:
            self.report(
                place,
                f"tag {quote(event.tag)} is not allowed in a recipe",
                "the field decides what a value means",
            )
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(event.value, place, quoted=event.style not in (None, ""))
        if depth >= MAX_DEPTH:
            self._too_deep(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(path, depth, place)
        return self._fields(path, depth, place)

    def _too_deep(self, place: str) -> NoReturn:
        self._report_depth(place)
        raise _TooDeep

    def _report_depth(self, place: str) -> None:
        self.report(place, f"nested deeper than {MAX_DEPTH} levels", "a recipe has sections and fields")

    def _items(self, path: str, depth: int, place: str) -> Items:
        found: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._node(event, path, depth + 1))
        return Items(tuple(found), place)

    def _fields(self, path: str, depth: int, place: str) -> Fields:
        entries: dict[str, Node] = {}
        lines: dict[str, str] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key_place = self._place(event.start_mark)
            key = self._key(event, path, depth)
            dotted = f"{path}.{key}" if path else str(key)
            value = self._node(next(self._events), dotted, depth + 1, key_place)
            if key in lines:
                first = lines[key].rpartition(":")[2]
                self.report(
                    key_place, f"{quote(dotted)} is given twice, first in line {first}", "keep one of them"
                )
            elif key is not None:
                entries[key], lines[key] = value, key_place
        return Fields(entries, place)

    def _key(self, event: Any, path: str, depth: int) -> str | None:
        """The text of a key; None, and a problem, for one that no recipe can have."""
        node = self._node(event, path, depth + 1)
        if not isinstance(node, Scalar):
            self.report(node.place, "a key must be a name, not a list or mapping")
            return None
        if node.text == "<<" and not node.quoted:
            self.report(node.place, "merge key `<<` is not allowed in a recipe", "use `extends: PARENT`")
            return None
        return node.text


def write_tree(tree: dict[str, Any], indent: int = 0) -> str:
    """A tree of mappings, lists, texts, numbers, truth values and None as recipe text that this module
    reads back the same."""
    lines = []
    for key, value in tree.items():
        head = "  " * indent + write_text(key) + ":"
        if isinstance(value, dict) and value:
            lines.append(f"{head}\n{write_tree(value, indent + 1)}")
        else:
            lines.append(f"{head} {_write_leaf(value)}\n")
    return "".join(lines)


def _write_leaf(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_write_leaf(item) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return write_text(value) if isinstance(value, str) else repr(value)


def write_text(text: str) -> str:
    """A text as a YAML scalar: plain where nothing in it could be read otherwise, else in double quotes."""
    if _PLAIN.fullmatch(text) and text not in _NULLS:
        return text
    escaped = (char if char.isprintable() and char not in '"\\' else _escape(char) for char in text)
    return f'"{"".join(escaped)}"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    number = ord(char)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
