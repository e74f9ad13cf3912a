"""How many tokens a base can read at once, and what happens beyond: an error of its table of positions,
rotary positions that it never saw, or other frequencies for every row of the call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from doitune.base.families import FAMILIES, decoder_part, names_of

Beyond = Literal["error", "unseen", "switch"]

_OTHER_NAMES = ("n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
"""Names of the longest context in families that the table does not know."""

_WITHOUT_TABLE = ("rope", "rotary", "alibi")
"""What a key of config.json starts with where positions are computed and not looked up in a table."""


@dataclass(frozen=True)
class Context:
    """The longest row in tokens, and what lies `beyond`: "error" (learned positions end), "unseen" (rotary
    positions that the base never saw), "switch" (scaled rotary positions whose frequencies the longest row of
    a call chooses for all rows of it, so that a loss would depend on how a step is cut)."""

    tokens: int
    beyond: Beyond


def context_of(config: Mapping[str, Any]) -> Context | None:
    """The context that a config.json states; None where it states none. Source: transformers'
    modeling_rope_utils for `longrope` and `dynamic`."""
    part = decoder_part(config)
    model_type = str(config.get("model_type", ""))
    longest = next(
        (
            part[key]
            for key in (names_of(model_type).positions, *_OTHER_NAMES)
            if type(part.get(key)) is int and part[key] > 0
        ),
        0,
    )
    if switches := [found for scaling in _scalings(part) if (found := _switch(scaling, part, longest))]:
        return Context(min(switches), "switch")
    if not longest:
        return None
    known = model_type in (*FAMILIES, "bloom", "mpt")
    computed = known or any(key.startswith(_WITHOUT_TABLE) and part[key] for key in part)
    return Context(longest, "unseen" if computed else "error")


def window_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens back attention reaches, in the layers where it reaches least; None where it reaches
    all. Source: transformers' masking_utils."""
    part = decoder_part(config)
    keys = ("attention_chunk_size", *(("sliding_window",) if part.get("use_sliding_window", True) else ()))
    return min((part[key] for key in keys if type(part.get(key)) is int and part[key] > 0), default=None)


def _scalings(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions: one, or one for each kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        found = part.get(key)
        if isinstance(found, Mapping):
            yield from (found, *(one for one in found.values() if isinstance(one, Mapping)))


def _switch(scaling: Mapping[str, Any], part: Mapping[str, Any], longest: int) -> int:
    """The longest row that is computed with the first frequencies; 0 where they never change."""
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind == "dynamic":
        return longest
    if kind not in ("longrope", "su"):
        return 0
    named = (one.get("original_max_position_embeddings") for one in (scaling, part))
    return next((one for one in named if type(one) is int and one > 0), longest)
