"""Whether the rows of a recipe are short enough to be trained on, as far as this machine can say it before a
training. Nothing is fetched, and a tokenizer is loaded only for rows that may be too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.tokenizer import tokenizer_template
from doitune.base.context import context_of
from doitune.base.folder import Base, read_config
from doitune.base.known import folder_here
from doitune.errors import DataError, ModelError
from doitune.prepare.draw import draw
from doitune.prepare.encoding import encode_rows
from doitune.prepare.row_lengths import fit, row_limit
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.recipe.fields import Recipe

AROUND_TURNS = 256
"""Tokens that a template may write around a short conversation (a system text of its own, role markers)."""

AROUND_A_TURN = 16


@dataclass(frozen=True)
class Lengths:
    """`checked`: whether it is certain; `too_long`: what a training would refuse, in its words."""

    checked: bool
    too_long: DataError | None = None


def lengths_of(recipe: Recipe) -> Lengths:
    """Of the rows that the recipe draws. Errors: those of `draw`."""
    if recipe.data.on_overlong == "drop":
        return Lengths(True)
    doing("looking for rows that are too long")
    chosen, _ = draw(recipe)
    folder = folder_here(recipe.model.name, recipe.model.revision)
    try:
        config = read_config(folder) if folder else {}
    except ModelError:
        folder, config = None, {}
    limit = row_limit(recipe.train.max_tokens, context_of(config))
    long = [one for one in chosen.examples if _most_tokens(one) > limit.tokens]
    if not long:
        return Lengths(True)
    if folder is None:
        return Lengths(False)
    try:
        template = tokenizer_template(Base(recipe.model.name, folder, recipe.model.revision), recipe.prompt)
        fit(long, encode_rows(long, template), limit, drops=False, of=len(chosen.examples))
    except ModelError:  # a part of a base: no tokenizer, or none that this can be learnt from
        return Lengths(False)
    except DataError as error:
        return Lengths(True, error)
    return Lengths(True)


def _most_tokens(example: Example) -> int:
    """No tokenizer makes more tokens of a text than it has bytes."""
    texts = [message.said + message.tools for message in example.messages]
    return AROUND_TURNS + sum(len(text.encode("utf-8", "surrogatepass")) + AROUND_A_TURN for text in texts)
