"""A chat template rendered once for all chats of a shape: contents are stand-ins (`Said`) that a template may
write, join and strip, but not look into.

What it writes is then the same text around any contents, which is proved and not tried out: each way to look
into a text, or to give it to a function that could, ends the rendering (LooksInside). Questions that a text
answers with no as a rule (does it hold `</think>`?) are answered so and noted: what was written is right for
the contents of which each is untrue. A content is assumed not empty and stripped. This is a part of
`rendering_child` and knows jinja alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from jinja2 import Environment, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.runtime import Macro
from jinja2.utils import Namespace

STAND_IN = "\x00said\x00"
"""What a stand-in is to whoever gets around its methods; it stands in no text that is taken."""

DEEPEST = 8
"""How deep a value is looked through for stand-ins; what lies deeper counts as one."""

Condition = tuple[str, int, str]
"""A question, the number of the content it was asked of, and the text that it was asked about."""


class LooksInside(Exception):
    """A template whose text depends on what a content says."""


class Said(str):
    """Text of contents, by their numbers, and of what a template sets around them. `asked`: where what it
    answers is noted."""

    pieces: tuple[str | int, ...]
    asked: list[Condition]

    @classmethod
    def of(cls, pieces: Iterable[str | int], asked: list[Condition]) -> Said:
        made = cls(STAND_IN)
        made.pieces, made.asked = tuple(pieces), asked
        return made

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Any) -> Any:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str) or (type(other) is str and not other):
            return False
        return _no(self, "==", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: Any) -> bool:
        return _no(self, "in", other)

    def startswith(self, other: Any) -> bool:  # type: ignore[override]
        return _no(self, "startswith", other)

    def endswith(self, other: Any) -> bool:  # type: ignore[override]
        return _no(self, "endswith", other)

    def split(self, sep: Any = None) -> list[Any]:  # type: ignore[override]
        _no(self, "in", sep)
        return [self]

    def replace(self, old: Any, new: Any) -> Said:  # type: ignore[override]
        _no(self, "in", old)
        return self

    def strip(self, chars: Any = None) -> Said:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: Any = None) -> Said:
        return Said.of(_without(self.pieces, chars, "lstrip"), self.asked)

    def rstrip(self, chars: Any = None) -> Said:
        return Said.of(_without(self.pieces[::-1], chars, "rstrip")[::-1], self.asked)


def _no(said: Said, question: str, other: Any) -> bool:
    """No, for the contents of which it is no."""
    if type(other) is not str or not other or len(said.pieces) != 1 or isinstance(said.pieces[0], str):
        raise LooksInside
    said.asked.append((question, said.pieces[0], other))
    return False


def _refused(*_: Any, **__: Any) -> Any:
    raise LooksInside


_OF_ANY_OBJECT = frozenset(dir(object)) - frozenset(
    ["__format__", "__hash__", "__repr__", "__lt__", "__le__", "__gt__", "__ge__"]
)
for _name in [*dir(str), "__rmod__", "__rmul__"]:
    if (_name not in Said.__dict__ or _name == "__hash__") and _name not in _OF_ANY_OBJECT:
        setattr(Said, _name, _refused)


def _without(pieces: tuple[str | int, ...], chars: Any, how: str) -> tuple[str | int, ...]:
    """The pieces stripped at their first; a content has nothing to strip."""
    if chars is not None and (type(chars) is not str or not chars.isspace()):
        raise LooksInside
    while pieces and isinstance(pieces[0], str):
        left = getattr(pieces[0], how)(chars)
        if left:
            return (left, *pieces[1:])
        pieces = pieces[1:]
    return pieces


def joined(values: Iterable[Any]) -> str:
    """Values as one text."""
    pieces: list[str | int] = []
    asked: list[Condition] | None = None
    for value in values:
        text = str(value)
        if isinstance(text, Said):
            pieces += text.pieces
            asked = text.asked
        elif text:
            pieces.append(text)
    return "".join(pieces) if asked is None else Said.of(pieces, asked)  # type: ignore[arg-type]


def holds_said(value: Any, deepest: int = DEEPEST) -> bool:
    """Whether a stand-in may be in a value; what is of no known type may hold one."""
    if isinstance(value, Said) or not deepest:
        return True
    if value is None or isinstance(value, (str, int, float, Undefined, Macro)):
        return False
    if isinstance(value, dict):
        return any(holds_said(one, deepest - 1) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple)):
        return any(holds_said(one, deepest - 1) for one in value)
    return True


class _Looked:
    """What stands right of `in`: a stand-in may not be looked for."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __contains__(self, item: Any) -> bool:
        if holds_said(item):
            raise LooksInside
        return item in self.value


class Compiler(CodeGenerator):
    """jinja's, with the right side of each `in` in a _Looked."""

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        if node.op not in ("in", "notin"):
            self.write(f" {operators[node.op]} ")
            self.visit(node.expr, frame)
            return
        self.write(f" {operators[node.op]} environment.looked(")
        self.visit(node.expr, frame)
        self.write(")")


_OF_JINJA = ("_loop_vars", "_block_vars")
"""What jinja gives to each call beside the template's own arguments."""

_PASSING = frozenset({"default", "d"})
_OF_LISTS = frozenset({"list", "first", "last", "length", "count", "reverse", "map", "select", "reject"}) | {
    "selectattr",
    "rejectattr",
}
_OF_TYPES = frozenset({"string", "defined", "undefined", "none", "mapping", "iterable", "sequence"}) | {
    "boolean",
    "number",
    "integer",
    "float",
    "true",
    "false",
}


def _filter(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of the environment that is given no stand-in but where that is sure not to show."""

    @wraps(plain)
    def filtered(*values: Any, **named: Any) -> Any:
        start = 1 if hasattr(plain, "jinja_pass_arg") else 0
        value = values[start] if len(values) > start else None
        others = (*values[start + 1 :], named)
        if isinstance(value, Said) and name == "trim" and not holds_said(others):
            return value.strip(*values[start + 1 :], **named)
        if isinstance(value, Said) and name == "string":
            return value
        free = name in _PASSING or (name in _OF_LISTS and not isinstance(value, Said))
        if holds_said(others) or not (free or not holds_said(value)):
            raise LooksInside
        return plain(*values, **named)

    return filtered


def _test(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """A test of the environment, likewise."""

    @wraps(plain)
    def tested(*values: Any, **named: Any) -> Any:
        if name in _OF_TYPES and len(values) == 1 and isinstance(values[0], Said):
            return plain("a text")
        if name not in _OF_TYPES and holds_said((values, named)):
            raise LooksInside
        return plain(*values, **named)

    return tested


def watched(environment: type[Environment]) -> type[Environment]:
    """The environment class with every way to a stand-in closed."""

    class Watched(environment):  # type: ignore[valid-type,misc]
        code_generator_class = Compiler
        concat = staticmethod(joined)
        intercepted_binops = frozenset({"%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if holds_said((left, right)):
                raise LooksInside
            return super().call_binop(context, operator, left, right)

        def looked(self, value: Any) -> _Looked:
            return _Looked(value)

        def call(self, context: Any, obj: Any, *values: Any, **named: Any) -> Any:  # type: ignore[override]
            free = isinstance(obj, Macro) or obj is Namespace or obj is dict
            own = {name: one for name, one in named.items() if name not in _OF_JINJA}
            if not free and holds_said((values, own)):
                raise LooksInside
            return super().call(context, obj, *values, **named)

        def getitem(self, obj: Any, argument: Any) -> Any:
            if holds_said(argument):
                raise LooksInside
            return super().getitem(obj, argument)

        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, Said) and attribute not in dir(str):
                raise LooksInside
            return super().getattr(obj, attribute)

    return Watched


def watch(made: Environment) -> Environment:
    """Close the filters and tests of a `watched` environment."""
    made.filters = {name: _filter(name, one) for name, one in made.filters.items()}
    tests: dict[str, Any] = dict(made.tests)
    made.tests = {name: _test(name, one) for name, one in tests.items()}
    return made


def compiled(made: Environment, text: str) -> Any:
    """The template, which joins texts by `joined`."""
    template = made.from_string(text)
    of_markup = dict.fromkeys(("markup_join", "Markup", "escape"), _refused)
    template.root_render_func.__globals__.update(str_join=joined, **of_markup)
    return template


def parts(template: Any, turns: list[dict[str, Any]], most: int, variables: dict[str, Any]) -> Any:
    """What a template writes for turns whose contents are not known: the literal texts, and the number of a
    turn where its content stands; and what must be untrue of the contents. Errors: LooksInside."""
    asked: list[Condition] = []
    said = [{**turn, "content": Said.of([number], asked)} for number, turn in enumerate(turns)]
    pieces: list[str | int] = []
    length = 0
    for text in template.generate(messages=said, **variables):
        new = text.pieces if isinstance(text, Said) else (text,)
        length += sum(len(one) if isinstance(one, str) else 1 for one in new)
        for one in new:
            if isinstance(one, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += one
            elif one != "":
                pieces.append(one)
        if length > most or any(isinstance(one, str) and STAND_IN in one for one in new):
            raise LooksInside
    return {"parts": pieces, "not": asked}
