"""Values of mathematical expressions: exact fractions as long as an expression is rational, else complex
floats.

A `Node` is an expression that was read: from the values of its variables to its value. Each function here
makes one out of others. What has no value raises ArithmeticError or ValueError when it is worked out, never
before.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

Value = Fraction | complex
Node = Callable[[Mapping[str, Value]], Value]

MAX_POWER_BITS = 4096
"""Bits that an exact power may have; larger ones are computed as floats."""

MAX_FACTORIAL = 170
MAX_CHOICE = 1000
"""The largest n and k of a binomial coefficient."""

TOLERANCE = 1e-9
"""Relative difference under which two floats are one value."""

FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "\\sin": cmath.sin,
    "\\cos": cmath.cos,
    "\\tan": cmath.tan,
    "\\cot": lambda x: 1 / cmath.tan(x),
    "\\sec": lambda x: 1 / cmath.cos(x),
    "\\csc": lambda x: 1 / cmath.sin(x),
    "\\arcsin": cmath.asin,
    "\\arccos": cmath.acos,
    "\\arctan": cmath.atan,
    "\\ln": cmath.log,
    "\\log": cmath.log,
    "\\lg": cmath.log10,
    "\\exp": cmath.exp,
}
CONSTANTS: dict[str, Value] = {"\\pi": complex(math.pi), "e": complex(math.e), "i": 1j}


def close(left: Value, right: Value) -> bool:
    """Exact for fractions, TOLERANCE for floats; what is not finite is close to nothing."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    first, second = complex(left), complex(right)
    if not (cmath.isfinite(first) and cmath.isfinite(second)):
        return False
    return abs(first - second) <= max(TOLERANCE * max(abs(first), abs(second)), 1e-14)


def constant(value: Value) -> Node:
    """The same value at every point."""
    return lambda point: value


def negative(inner: Node) -> Node:
    """-inner"""
    return lambda point: -inner(point)


def plus(left: Node, right: Node) -> Node:
    """left + right"""
    return _combined(operator.add, left, right)


def times(left: Node, right: Node) -> Node:
    """left * right"""
    return _combined(operator.mul, left, right)


def over(left: Node, right: Node) -> Node:
    """left / right"""
    return _combined(operator.truediv, left, right)


def _combined(operation: Callable[..., Value], left: Node, right: Node) -> Node:
    """Of two fractions a fraction, else a complex number."""

    def node(point: Mapping[str, Value]) -> Value:
        first, second = left(point), right(point)
        if isinstance(first, Fraction) and isinstance(second, Fraction):
            return operation(first, second)
        return operation(complex(first), complex(second))

    return node


def power(left: Node, right: Node) -> Node:
    """left ** right, exact for a fraction to a whole number of at most MAX_POWER_BITS bits."""

    def node(point: Mapping[str, Value]) -> Value:
        base, exponent = left(point), right(point)
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
            if bits <= MAX_POWER_BITS:
                return base**exponent.numerator
        return complex(base) ** complex(exponent)

    return node


def square_root(inner: Node) -> Node:
    """The principal square root, exact where it is rational."""

    def node(point: Mapping[str, Value]) -> Value:
        value = inner(point)
        if isinstance(value, Fraction) and value >= 0:
            upper, lower = math.isqrt(value.numerator), math.isqrt(value.denominator)
            if upper * upper == value.numerator and lower * lower == value.denominator:
                return Fraction(upper, lower)
        return cmath.sqrt(complex(value))

    return node


def root(inner: Node, degree: Node) -> Node:
    """The principal root of a degree; an odd root of a negative fraction is the real one."""

    def node(point: Mapping[str, Value]) -> Value:
        value, order = inner(point), degree(point)
        odd = isinstance(order, Fraction) and order.denominator == 1 and order.numerator % 2 == 1
        if odd and isinstance(value, Fraction) and value < 0:
            return complex(-(abs(complex(value)) ** (1 / complex(order))))
        return complex(value) ** (1 / complex(order))

    return node


def applied(name: str, inner: Node, base: Node | None = None) -> Node:
    """A function of FUNCTIONS; `base` is a logarithm's."""
    function = FUNCTIONS[name]

    def node(point: Mapping[str, Value]) -> Value:
        value = function(complex(inner(point)))
        return value if base is None else value / cmath.log(complex(base(point)))

    return node


def factorial(inner: Node) -> Node:
    """inner!"""
    return lambda point: Fraction(math.factorial(_whole(inner(point), MAX_FACTORIAL)))


def choose(upper: Node, lower: Node) -> Node:
    """The binomial coefficient."""
    return lambda point: Fraction(
        math.comb(_whole(upper(point), MAX_CHOICE), _whole(lower(point), MAX_CHOICE))
    )


def _whole(value: Value, most: int) -> int:
    """The value as a whole number in 0..most; ValueError otherwise."""
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value.numerator <= most:
        return value.numerator
    raise ValueError("not a small whole number")
