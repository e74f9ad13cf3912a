"""A small reader and evaluator of mathematical expressions in LaTeX or plain text: enough to say whether two
answers are one value.

Exact fractions where an expression is rational, else complex floats at fixed sample points for the variables.
The work is bounded by construction: MAX_CHARACTERS, MAX_DEPTH and MAX_POWER_BITS are refused with Unreadable,
so no clock is needed.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

MAX_CHARACTERS = 400
MAX_DEPTH = 40
MAX_POWER_BITS = 4096
"""Bits that an exact power may have; larger ones are computed as floats."""

MAX_FACTORIAL = 170

SAMPLES = (0.7390851, 1.3247179, 2.2360679)
"""Where variables are tried: each variable takes sample * a factor of its own, so that no two of them
coincide."""

TOLERANCE = 1e-9
"""Relative difference under which two floats are one value."""

Value = Fraction | complex
Node = Callable[[Mapping[str, Value]], Value]
"""A read expression: the values of its variables -> its value."""

TOKEN = re.compile(r"\s+|(\d+\.\d+|\.\d+|\d+\.?|\\[a-zA-Z]+|[a-zA-Z]|.)", re.DOTALL | re.ASCII)
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
NAMED = re.compile(
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|chi|psi|omega"
    r"|Delta|Omega|infty|emptyset|varnothing)"
)
"""Commands that stand for a name."""

DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
TIMES = frozenset({"*", "\\cdot", "\\times"})
DIVIDE = frozenset({"/", "\\div", ":"})
CLOSERS = {"(": ")", "[": "]", "{": "}"}


class Unreadable(ValueError):
    """The text is no expression that this module knows."""


def read(text: str) -> tuple[Node, frozenset[str]]:
    """The expression and the names of its variables. Raises Unreadable."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable("too long")
    if DATE.fullmatch(text):
        raise Unreadable("a date")
    reader = _Reader([token for token in TOKEN.findall(text) if token])
    node = reader.sum()
    if reader.peek():
        raise Unreadable(f"{reader.peek()!r} is left over")
    return node, frozenset(reader.variables)


def same(left: str, right: str) -> bool:
    """Whether two expressions are one value, wherever their variables are tried. Raises Unreadable."""
    (first, these), (second, those) = read(left), read(right)
    names = these | those
    for sample in SAMPLES if names else SAMPLES[:1]:
        point: dict[str, Value] = {
            name: complex(sample * (1 + place / 7)) for place, name in enumerate(sorted(names))
        }
        try:
            if not close(first(point), second(point)):
                return False
        except (ArithmeticError, ValueError) as error:
            raise Unreadable(str(error)) from None
    return True


def close(left: Value, right: Value) -> bool:
    """Exact for fractions, TOLERANCE for floats."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    first, second = complex(left), complex(right)
    if not (cmath.isfinite(first) and cmath.isfinite(second)):
        return False
    return abs(first - second) <= max(TOLERANCE * max(abs(first), abs(second)), 1e-14)


def _is_number(token: str) -> bool:
    """Whether a token is a decimal number; not every digit of Unicode is one: ①, ²."""
    return token.lstrip(".")[:1] in tuple("0123456789")


class _Reader:
    """Recursive descent over the tokens: sum, product, signed, power, atom."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.variables: set[str] = set()

    def peek(self) -> str:
        """The next token, "" at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        """The next token, which must be `wanted` where that is given."""
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted or 'more'} expected, {token or 'end'} found")
        self.at += 1
        return token

    def sum(self) -> Node:
        """product (+ product | - product)*"""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        node = self.product()
        while self.peek() in ("+", "-"):
            node = _plus(node, self.product()) if self.take() == "+" else _minus(node, self.product())
        self.depth -= 1
        return node

    def product(self) -> Node:
        """signed (times signed | divided by signed | power)*"""
        node = self.signed()
        while token := self.peek():
            if token in TIMES:
                self.take()
                node = _times(node, self.signed())
            elif token in DIVIDE:
                self.take()
                node = _over(node, self.signed())
            elif _is_number(token) and _is_number(self.tokens[self.at - 1]):
                raise Unreadable("two numbers side by side")
            elif token[0].isalnum() or token in ("(", "{") or (token[0] == "\\" and token not in ("\\}",)):
                node = _times(node, self.power())
            else:
                break
        return node

    def signed(self) -> Node:
        """-signed | +signed | power"""
        if self.peek() == "-":
            self.take()
            node = self.signed()
            return lambda point: -node(point)
        if self.peek() == "+":
            self.take()
            return self.signed()
        return self.power()

    def power(self) -> Node:
        """atom, then ! and ^ exponent"""
        node = self.atom()
        while self.peek() in ("!", "^"):
            if self.take() == "!":
                node = _factorial(node)
            else:
                node = _power(node, self.argument(whole_number=True))
        return node

    def argument(self, *, whole_number: bool = False) -> Node:
        r"""What \frac, \sqrt and ^ take: a group, a command, a letter, or a digit (a whole number where
        asked for: `2^10`)."""
        token = self.peek()
        if token == "{":
            return self.group()
        if token == "-" and whole_number:
            self.take()
            node = self.argument(whole_number=True)
            return lambda point: -node(point)
        if _is_number(token) and len(token) > 1 and not whole_number:
            self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
        return self.atom()

    def group(self) -> Node:
        """( sum ), [ sum ] or { sum }"""
        opener = self.take()
        node = self.sum()
        self.take(CLOSERS[opener])
        return node

    def atom(self) -> Node:
        """A number, a group, a constant, a function or a variable."""
        token = self.peek()
        if token in CLOSERS:
            return self.group()
        self.take()
        if _is_number(token):
            return self.number(token)
        if token in ("\\frac", "\\binom"):
            first, second = self.argument(), self.argument()
            return _over(first, second) if token == "\\frac" else _choose(first, second)
        if token == "\\sqrt":
            degree = self.group() if self.peek() == "[" else None
            return _root(self.argument(), degree)
        if token in FUNCTIONS:
            return self.function(token)
        if token in CONSTANTS:
            constant = CONSTANTS[token]
            return lambda point: constant
        if (token.isalpha() and token.isascii()) or NAMED.fullmatch(token):
            return self.variable(token)
        raise Unreadable(f"{token!r} is not known")

    def number(self, token: str) -> Node:
        r"""A decimal number; a mixed number where a fraction of two whole numbers follows a whole one:
        1\frac{1}{2}."""
        value = Fraction(token.rstrip(".") if token != "." else "0")
        rest = "".join(self.tokens[self.at : self.at + 7])
        if token.isdigit() and re.match(r"\\frac(\d\d|\{\d+\}\{\d+\})", rest):
            part = self.atom()
            return lambda point: value + part(point)
        return lambda point: value

    def variable(self, name: str) -> Node:
        """A letter with its subscript."""
        if self.peek() == "_":
            self.take()
            if self.peek() == "{":
                self.take()
                while self.peek() != "}":
                    name += self.take()
                self.take("}")
            else:
                name += self.take()
        self.variables.add(name)
        return lambda point: point[name]

    def function(self, token: str) -> Node:
        r"""\sin x, \sin(x), \sin^2 x, \log_2 8"""
        base = exponent = None
        if self.peek() == "_":
            self.take()
            base = self.argument(whole_number=True)
        if self.peek() == "^":
            self.take()
            exponent = self.argument(whole_number=True)
        inner, apply = self.power(), FUNCTIONS[token]

        def node(point: Mapping[str, Value]) -> Value:
            value = apply(complex(inner(point)))
            return value if base is None else value / cmath.log(complex(base(point)))

        return node if exponent is None else _power(node, exponent)


def _plus(left: Node, right: Node) -> Node:
    return lambda point: _add(left(point), right(point))


def _minus(left: Node, right: Node) -> Node:
    return lambda point: _add(left(point), -right(point))


def _add(left: Value, right: Value) -> Value:
    """Fractions stay exact."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left + right
    return complex(left) + complex(right)


def _times(left: Node, right: Node) -> Node:
    def node(point: Mapping[str, Value]) -> Value:
        first, second = left(point), right(point)
        if isinstance(first, Fraction) and isinstance(second, Fraction):
            return first * second
        return complex(first) * complex(second)

    return node


def _over(left: Node, right: Node) -> Node:
    def node(point: Mapping[str, Value]) -> Value:
        first, second = left(point), right(point)
        if isinstance(first, Fraction) and isinstance(second, Fraction):
            return first / second
        return complex(first) / complex(second)

    return node


def _power(left: Node, right: Node) -> Node:
    def node(point: Mapping[str, Value]) -> Value:
        base, exponent = left(point), right(point)
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
            if bits <= MAX_POWER_BITS:
                return base**exponent.numerator
        return complex(base) ** complex(exponent)

    return node


def _root(inner: Node, degree: Node | None) -> Node:
    def node(point: Mapping[str, Value]) -> Value:
        value = inner(point)
        if degree is None:
            return _exact_root(value)
        power = degree(point)
        if (
            isinstance(value, Fraction)
            and value < 0
            and isinstance(power, Fraction)
            and power.numerator % 2
            and power.denominator == 1
        ):
            return complex(-(abs(complex(value)) ** (1 / complex(power))))
        return complex(value) ** (1 / complex(power))

    return node


def _exact_root(value: Value) -> Value:
    """The square root, exact where it is rational."""
    if isinstance(value, Fraction) and value >= 0:
        upper, lower = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if upper * upper == value.numerator and lower * lower == value.denominator:
            return Fraction(upper, lower)
    return cmath.sqrt(complex(value))


def _whole(value: Value, most: int) -> int:
    """The value as a whole number in 0..most; ValueError otherwise."""
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value.numerator <= most:
        return value.numerator
    raise ValueError("not a small whole number")


def _factorial(inner: Node) -> Node:
    return lambda point: Fraction(math.factorial(_whole(inner(point), MAX_FACTORIAL)))


def _choose(upper: Node, lower: Node) -> Node:
    return lambda point: Fraction(math.comb(_whole(upper(point), 1000), _whole(lower(point), 1000)))
