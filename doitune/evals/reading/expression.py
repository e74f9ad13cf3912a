"""A small reader of mathematical expressions in LaTeX or plain text: enough to say whether two answers are
one value.

Recursive descent: a sum of products of signed powers of atoms. Values are exact fractions where an expression
is rational, else complex floats at fixed sample points for the variables.
"""

from __future__ import annotations

import re
from fractions import Fraction

from doitune.evals.reading import values
from doitune.evals.reading.tokens import Tokens, Unreadable, is_number, tokens_of
from doitune.evals.reading.values import CONSTANTS, FUNCTIONS, Node, Value

MAX_DEPTH = 40
"""Brackets within brackets."""

SAMPLES = (0.7390851, 1.3247179, 2.2360679)
"""Where variables are tried: each variable takes sample * a factor of its own, so that no two of them
coincide."""

NAMED = re.compile(
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau"
    r"|(?:var)?phi|chi|psi|omega|Delta|Omega|infty|emptyset|varnothing)"
)
"""Commands that stand for a name."""

MIXED_PART = re.compile(r"\\frac(\d\d|\{\d+\}\{\d+\})")
"""The fraction of a mixed number, behind its whole number."""

RANGE = re.compile(r"\d+(?:\.\d+)?\s*-\s*\d+(?:\.\d+)?")
"""From one number to another, or a difference that was not worked out: no value."""

NAMES = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
PRODUCTS = re.compile("[a-d]+|[s-z]+|[k-np-r]+|[a-z]*[xy][a-z]?|[A-Z]{2}|[a-z]{2}")
"""Letters side by side that may be a product."""

SHORT_WORDS = re.compile("a[mnst]|b[ey]|do|go|h[ei]|i[fnst]|m[ey]|no|o[fknr]|so|to|u[ps]|we")
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
TIMES = frozenset({"*", "\\cdot", "\\times"})
DIVIDE = frozenset({"/", "\\div", ":"})
CLOSERS = {"(": ")", "[": "]", "{": "}"}


def read(text: str) -> tuple[Node, frozenset[str]]:
    """The expression and the names of its variables. Raises Unreadable."""
    tokens = tokens_of(text)
    if DATE.fullmatch(text) or RANGE.fullmatch(text):
        raise Unreadable("a date or a range")
    for name in NAMES.findall(text):
        if SHORT_WORDS.fullmatch(name.lower()) or not PRODUCTS.fullmatch(name):
            raise Unreadable("a word")
    node = _sum(tokens)
    if tokens.peek():
        raise Unreadable(f"{tokens.peek()!r} is left over")
    return node, frozenset(tokens.variables)


def same(left: str, right: str) -> bool:
    """Whether two expressions are one value at every point where their variables are tried. Raises
    Unreadable."""
    (first, these), (second, those) = read(left), read(right)
    names = these | those
    for sample in SAMPLES if names else SAMPLES[:1]:
        point: dict[str, Value] = {
            name: complex(sample * (1 + place / 7)) for place, name in enumerate(sorted(names))
        }
        try:
            if not values.close(first(point), second(point)):
                return False
        except (ArithmeticError, ValueError) as error:
            raise Unreadable(str(error)) from None
    return True


def _sum(tokens: Tokens) -> Node:
    """product (+ product | - product)*"""
    tokens.depth += 1
    if tokens.depth > MAX_DEPTH:
        raise Unreadable("nested too deeply")
    node = _product(tokens)
    while tokens.peek() in ("+", "-"):
        plus = tokens.take() == "+"
        term = _product(tokens)
        node = values.plus(node, term if plus else values.negative(term))
    tokens.depth -= 1
    return node


def _product(tokens: Tokens) -> Node:
    """signed (times signed | divided by signed | power)*"""
    node = _signed(tokens)
    while token := tokens.peek():
        if token in TIMES:
            tokens.take()
            node = values.times(node, _signed(tokens))
        elif token in DIVIDE:
            tokens.take()
            node = values.over(node, _signed(tokens))
        elif is_number(token) and is_number(tokens.last()):
            raise Unreadable("two numbers side by side")
        elif token[0].isalnum() or token in ("(", "{") or (token[0] == "\\" and token != "\\}"):
            node = values.times(node, _power(tokens))
        else:
            break
    return node


def _signed(tokens: Tokens) -> Node:
    """-signed | +signed | power"""
    if tokens.peek() == "-":
        tokens.take()
        return values.negative(_signed(tokens))
    if tokens.peek() == "+":
        tokens.take()
        return _signed(tokens)
    return _power(tokens)


def _power(tokens: Tokens) -> Node:
    """atom, then ! and ^ exponent"""
    node = _atom(tokens)
    while tokens.peek() in ("!", "^"):
        if tokens.take() == "!":
            node = values.factorial(node)
        else:
            node = values.power(node, _whole_argument(tokens))
    return node


def _argument(tokens: Tokens) -> Node:
    r"""What \frac and \sqrt take: a group, a command, a letter or one digit."""
    token = tokens.peek()
    if is_number(token) and len(token) > 1:
        tokens.cut_first_digit()
    return _group(tokens) if token == "{" else _atom(tokens)


def _whole_argument(tokens: Tokens) -> Node:
    """What ^ and _ take: as `_argument`, but all the digits of a number (`2^10`), and a sign before it."""
    if tokens.peek() == "-":
        tokens.take()
        return values.negative(_whole_argument(tokens))
    return _group(tokens) if tokens.peek() == "{" else _atom(tokens)


def _group(tokens: Tokens) -> Node:
    """( sum ), [ sum ] or { sum }"""
    opener = tokens.take()
    node = _sum(tokens)
    tokens.take(CLOSERS[opener])
    return node


def _atom(tokens: Tokens) -> Node:
    """A number, a group, a constant, a function or a variable."""
    if tokens.peek() in CLOSERS:
        return _group(tokens)
    token = tokens.take()
    if is_number(token):
        return _number(tokens, token)
    if token == "\\frac":
        return values.over(_argument(tokens), _argument(tokens))
    if token == "\\binom":
        return values.choose(_argument(tokens), _argument(tokens))
    if token == "\\sqrt":
        degree = _group(tokens) if tokens.peek() == "[" else None
        inner = _argument(tokens)
        return values.square_root(inner) if degree is None else values.root(inner, degree)
    if token in FUNCTIONS:
        return _function(tokens, token)
    if token in CONSTANTS:
        return values.constant(CONSTANTS[token])
    if (token.isalpha() and token.isascii()) or NAMED.fullmatch(token):
        return _variable(tokens, token)
    raise Unreadable(f"{token!r} is not known")


def _number(tokens: Tokens, token: str) -> Node:
    r"""A decimal number; a mixed number where a fraction of two whole numbers follows a whole one:
    1\frac{1}{2}."""
    whole = values.constant(Fraction(token.rstrip(".")))
    if token.isdigit() and MIXED_PART.match("".join(tokens.parts[tokens.at : tokens.at + 7])):
        return values.plus(whole, _atom(tokens))
    return whole


def _variable(tokens: Tokens, name: str) -> Node:
    """A letter with its subscript."""
    if tokens.peek() == "_":
        tokens.take()
        if tokens.peek() == "{":
            tokens.take()
            while tokens.peek() != "}":
                name += tokens.take()
            tokens.take("}")
        else:
            name += tokens.take()
    tokens.variables.add(name)
    return lambda point: point[name]


def _function(tokens: Tokens, name: str) -> Node:
    r"""\sin x, \sin(x), \sin^2 x, \log_2 8"""
    base = exponent = None
    if tokens.peek() == "_":
        tokens.take()
        base = _whole_argument(tokens)
    if tokens.peek() == "^":
        tokens.take()
        exponent = _whole_argument(tokens)
    node = values.applied(name, _power(tokens), base)
    return node if exponent is None else values.power(node, exponent)
