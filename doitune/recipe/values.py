"""A node as a value of its field's type: nothing is guessed.

A whole number has no leading zero, no `_`, no point; a truth value is `true` or `false`.
"""

from __future__ import annotations

import math
import re
import types
from contextlib import suppress
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from doitune.recipe.budget import Share
from doitune.recipe.nodes import Items, Node, Scalar

AMOUNT = "a number, all, share or share+K"
"""What an ability of a budget may be given, in words."""

_INT = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[+-]?((0|[1-9][0-9]{0,17})(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,4})?")
_SHARE = re.compile(r"share(\+([1-9][0-9]{0,8}))?")
_TRUTH = {"true": True, "false": False}
_UNIONS = (Union, types.UnionType)


class Unreadable(Exception):
    """A node that its field's type cannot be read from: what was `wanted`, and the words among it."""

    def __init__(self, wanted: str, words: list[str]) -> None:
        super().__init__(wanted)
        self.wanted, self.words = wanted, words


def value_of(kind: Any, node: Node) -> Any:
    """`node` as a value of the type `kind`, never None. Errors: Unreadable."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return value_of(inner[0], node)
    if origin in _UNIONS:
        for one in inner:
            with suppress(Unreadable):
                if one is not types.NoneType:
                    return value_of(one, node)
    elif origin is tuple and isinstance(node, Items):
        return tuple(value_of(inner[0], item) for item in node.items)
    elif isinstance(node, Scalar) and (found := _scalar(kind, node.text)) is not None:
        return found
    example = ", as in [a, b]," if origin is tuple else ""
    raise Unreadable(describe(kind) + example, _words(kind))


def _scalar(kind: Any, text: str) -> Any:
    """The text as a value of `kind`; None where it says none."""
    if kind is str or (get_origin(kind) is Literal and text in get_args(kind)):
        return text
    if kind is bool:
        return _TRUTH.get(text)
    if kind is int and _INT.fullmatch(text):
        return int(text)
    if kind is float and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return None


def amount_of(node: Node) -> int | Literal["all"] | Share:
    """What a budget gives an ability. Errors: Unreadable."""
    text = node.text if isinstance(node, Scalar) else ""
    if share := _SHARE.fullmatch(text):
        return Share(int(share[2] or 0))
    if text == "all":
        return "all"
    if _INT.fullmatch(text) and int(text) >= 0:
        return int(text)
    raise Unreadable(AMOUNT, [])


def amount_text(amount: int | str | Share) -> int | str:
    """The amount as a file holds it."""
    if isinstance(amount, Share):
        return f"share+{amount.extra}" if amount.extra else "share"
    return amount


def describe(kind: Any) -> str:
    """A field's type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return describe(inner[0])
    if origin in _UNIONS:
        return " or ".join(describe(one) for one in inner if one is not types.NoneType)
    if origin is Literal:
        return " or ".join((", ".join(inner[:-1]), inner[-1])) if len(inner) > 1 else str(inner[0])
    if origin is tuple:
        return (
            f"a list of {describe(inner[0]).removeprefix('a ')}s"
            if inner[0] in (int, str)
            else f"a list, each {describe(inner[0])}"
        )
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        kind, "text or a mapping"
    )


def _words(kind: Any) -> list[str]:
    """The words that a single value of `kind` may be."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return list(inner)
    if kind is bool:
        return list(_TRUTH)
    return [word for one in inner for word in _words(one)] if origin in (*_UNIONS, Annotated) else []
