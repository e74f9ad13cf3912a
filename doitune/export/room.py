"""How much room a server of an export is asked to have: said once, for every program that its card names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doitune.base.context import context_of
from doitune.export.gguf.sizes import context_length

if TYPE_CHECKING:
    from doitune.export.source import Source

MOST_TOKENS = 4096
"""Room is memory: no more is asked for, unless longer rows were learned from."""


def room_tokens(source: Source, *, in_gguf: bool) -> int:
    """Tokens of a conversation with its reply: what the base can read, up to MOST_TOKENS or its longest rows;
    of a base that does not say, as many as its rows could have. `in_gguf`: llama.cpp has no more than the
    file says, see `context_length`."""
    learned, context = source.recipe.train.max_tokens, context_of(source.base.config)
    able = context.tokens if context else learned
    if in_gguf:
        able = min(able, context_length(source.base.config))
    return min(able, max(MOST_TOKENS, learned))
