"""Rows that are too long: for the recipe, or for what the base can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.base.context import Context
from doitune.data.rows import taken
from doitune.errors import DataError, Problem
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import EncodedRows, rows_of

if TYPE_CHECKING:
    from doitune.data.example import Example

Rows = Mapping[str, tuple["Example", ...]]

WHY = {
    "error": "it has no positions beyond",
    "switch": "beyond it changes its rotary frequencies for every row of a call: a loss would depend on how "
    "a step is cut",
}


@dataclass(frozen=True)
class Limit:
    """The longest row in tokens; `why` says whose limit it is. `of_base`: the base cannot read more."""

    tokens: int
    why: str
    of_base: bool = False


def row_limit(max_tokens: int, context: Context | None) -> Limit:
    """The recipe's limit, or the base's where that is lower and no row may go beyond it."""
    if context is None or context.beyond == "unseen" or max_tokens <= context.tokens:
        return Limit(max_tokens, f"train.max_tokens {max_tokens}")
    return Limit(context.tokens, f"the base's {context.tokens} ({WHY[context.beyond]})", of_base=True)


def beyond_training(encoded: Sequence[Encoded], context: Context | None) -> tuple[str, ...]:
    """A sentence where rows reach rotary positions that the base never saw; nothing is wrong with that but
    what it learns there."""
    lengths = rows_of(encoded).lengths
    if context is None or not (long := int((lengths > context.tokens).sum())):
        return ()
    return (
        f"{long:,} of {len(encoded):,} rows are longer than the {context.tokens:,} tokens that this "
        f"base was made for (the longest has {lengths.max():,}): an evaluation asks nothing beyond them, "
        f"--set train.max_tokens={context.tokens} refuses such rows",
    )


def fit(
    examples: Sequence[Example], encoded: Sequence[Encoded], limit: Limit, *, drops: bool, of: int = 0
) -> tuple[Sequence[Example], EncodedRows, list[Example]]:
    """Kept examples, their encodings, and the overlong ones that are dropped; DataError where they are not to
    be dropped. `of`: how many rows there are, where `examples` are some of them."""
    rows = rows_of(encoded)
    lengths = rows.lengths
    long = [int(place) for place in (lengths > limit.tokens).nonzero()[0]]
    if long and not drops:
        longest = lengths.max()
        problems = [
            Problem(examples[one].place, f"{lengths[one]} tokens, more than {limit.why}") for one in long[:5]
        ]
        longer = "" if limit.of_base else f"--set train.max_tokens={longest}, or "
        cure = (
            f"{len(long)} of {of or len(examples)} rows are too long (the longest has {longest}): {longer}"
            "drop and count them: --set data.on_overlong=drop; an answer is never cut"
        )
        raise DataError.of([Problem(problems[0].place, problems[0].problem, cure), *problems[1:]])
    if not long:
        return examples, rows, []
    kept = (lengths <= limit.tokens).nonzero()[0]
    return taken(examples, kept), rows.at(kept), [examples[one] for one in long]


def fit_validation(
    valid: Rows, encoded: Mapping[str, tuple[Encoded, ...]], limit: Limit, *, drops: bool
) -> tuple[dict[str, tuple[Example, ...]], dict[str, tuple[Encoded, ...]]]:
    """The validation rows that the base can read, by ability, and their encodings. Errors: as `fit`."""
    kept = {name: fit(rows, encoded[name], limit, drops=drops) for name, rows in valid.items()}
    return (
        {name: tuple(rows) for name, (rows, _, _) in kept.items() if rows},
        {name: tuple(found) for name, (_, found, _) in kept.items() if found},
    )
