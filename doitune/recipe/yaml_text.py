"""Recipe files as text: a strict subset of YAML, read as events, and the writer that goes with it.

Every scalar stays text with its place (`file:line`); what it means is decided by the field it is written to,
so `2e-4` is a number because the field holds a number and `no` is never a truth value by accident. Anchors,
aliases, tags, merge keys, duplicate keys, several documents, deep nesting and big files are refused.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from doitune.errors import Problem, RecipeError
from doitune.recipe.nodes import NULLS, Fields, Items, Node, Scalar, quote

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 100
"""A file of garbage is reported up to here, then by a count."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


@lru_cache(64)  # a list of recipes reads their parents again and again
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
    tree = _read(_Text(text.removeprefix("\ufeff"), shown))
    if not isinstance(tree, Fields):
        raise RecipeError(
            "a recipe is a mapping of sections", "start with `extends: _base`", place=f"{shown}:1"
        )
    return tree


def read_value(text: str, place: str) -> Node:
    """The value of `--set key=value`: a list, mapping or quoted text where it starts like one, else the
    text as it stands."""
    text = text.strip()
    if not text.startswith(("[", "{", '"', "'")):
        return Scalar(text, place)
    return _read(_Text(text, place, fixed_place=True))


def raise_all(problems: list[Problem]) -> None:
    """Raise the problems as one RecipeError, if there are any."""
    if len(problems) > MAX_PROBLEMS:
        rest = len(problems) - MAX_PROBLEMS
        problems = [*problems[:MAX_PROBLEMS], Problem("", f"and {rest} more problems")]
    if problems:
        raise RecipeError.of(problems)


class _TooDeep(Exception):
    """Nesting beyond MAX_DEPTH: nothing behind it is read."""


class _Text:
    """A text that is being read: its events, and the problems found so far."""

    def __init__(self, text: str, shown: str, *, fixed_place: bool = False) -> None:
        self.problems: list[Problem] = []
        self.shown = shown
        self.events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._line_starts = None if fixed_place else [match.end() for match in re.finditer("\n", text)]

    def report(self, place: str, problem: str, hint: str = "") -> None:
        self.problems.append(Problem(place, problem, hint))

    def place(self, mark: Any) -> str:
        """Lines as editors count them: YAML would also count U+0085, U+2028 and U+2029."""
        if self._line_starts is None or mark is None:
            return self.shown
        return f"{self.shown}:{bisect.bisect_right(self._line_starts, mark.index) + 1}"

    def report_depth(self, place: str) -> None:
        self.report(place, f"nested deeper than {MAX_DEPTH} levels", "a recipe has sections and fields")


def _read(text: _Text) -> Node:
    """The one document of a text; an empty mapping where there is none. Syntax errors and depth end the
    reading. Errors: RecipeError with every problem."""
    tree: Node = Fields({}, text.shown)
    try:
        tree = _document(text)
    except _TooDeep:
        pass
    except yaml.MarkedYAMLError as error:
        place = text.place(error.problem_mark or error.context_mark)
        if "nesting depth" in str(error.problem):  # PyYAML from 6.0.4 on has a bound of its own
            text.report_depth(place)
        else:
            problem = f"not readable as YAML: {error.problem or error.context}"
            text.report(place, problem, "see the line and the one before")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError: the pure-Python scanner, for impossible escapes
        text.report(text.shown, f"not readable as YAML: {quote(str(error), 120)}")
    raise_all(text.problems)
    return tree


def _document(text: _Text) -> Node:
    tree: Node | None = None
    for event in text.events:
        if isinstance(event, yaml.DocumentStartEvent):
            if tree is not None:
                place = text.place(event.start_mark)
                text.report(place, "a second document starts here", "one file holds one recipe")
                break
            tree = _node(text, next(text.events), "", 0)
    return Fields({}, text.shown) if tree is None else tree


def _node(text: _Text, event: Any, path: str, depth: int, place: str = "") -> Node:
    """The node that starts with `event`; `place` is its key's, where it has one."""
    place = place or text.place(event.start_mark)
    if isinstance(event, yaml.AliasEvent):
        text.report(place, f"alias `*{event.anchor}` is not allowed in a recipe", "write the value out")
        return Scalar("", place)
    if event.anchor is not None:
        text.report(place, f"anchor `&{event.anchor}` is not allowed in a recipe", "write the value out")
    if event.tag is not None:
        problem = f"tag {quote(event.tag)} is not allowed in a recipe"
        text.report(place, problem, "the field decides what a value means")
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(event.value, place, quoted=event.style not in (None, ""))
    if depth >= MAX_DEPTH:
        text.report_depth(place)
        raise _TooDeep
    if isinstance(event, yaml.SequenceStartEvent):
        return _items(text, path, depth, place)
    return _fields(text, path, depth, place)


def _items(text: _Text, path: str, depth: int, place: str) -> Items:
    found: list[Node] = []
    for event in text.events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        found.append(_node(text, event, path, depth + 1))
    return Items(tuple(found), place)


def _fields(text: _Text, path: str, depth: int, place: str) -> Fields:
    entries: dict[str, Node] = {}
    lines: dict[str, str] = {}
    for event in text.events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        key_place = text.place(event.start_mark)
        key = _key(text, event, path, depth)
        dotted = f"{path}.{key}" if path else str(key)
        value = _node(text, next(text.events), dotted, depth + 1, key_place)
        if key in lines:
            first = lines[key].rpartition(":")[2]
            problem = f"{quote(dotted)} is given twice, first in line {first}"
            text.report(key_place, problem, "keep one of them")
        elif key is not None:
            entries[key], lines[key] = value, key_place
    return Fields(entries, place)


def _key(text: _Text, event: Any, path: str, depth: int) -> str | None:
    """The text of a key; None, and a problem, for one that no recipe can have."""
    node = _node(text, event, path, depth + 1)
    if not isinstance(node, Scalar):
        text.report(node.place, "a key must be a name, not a list or mapping")
        return None
    if node.text == "<<" and not node.quoted:
        text.report(node.place, "merge key `<<` is not allowed in a recipe", "use `extends: PARENT`")
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
            lines.append(f"{head} {write_leaf(value)}\n")
    return "".join(lines)


def write_leaf(value: Any) -> str:
    """A value on one line, as `write_tree` writes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{write_text(key)}: {write_leaf(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(write_leaf(item) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return write_text(value) if isinstance(value, str) else repr(value)


def write_text(text: str) -> str:
    """A text as a YAML scalar: plain where nothing in it could be read otherwise, else in double quotes."""
    if _PLAIN.fullmatch(text) and text not in NULLS:
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
