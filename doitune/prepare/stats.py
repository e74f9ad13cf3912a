"""How long the rows are: tokens by ability and overall, the share that is trained, rows over the limit, and
the bins of a histogram.

Lengths are in tokens of one encoded conversation, role and end tokens included.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.errors import DataError
from doitune.prepare.draw import draw
from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import Encoded
from doitune.prompt.template import Template
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.recipe.resolve import Resolved

OVERALL = "all"
"""The name of the line over all abilities."""

SPREAD_FOR_LOG = 10
"""The histogram is logarithmic where the longest row is this many times as long as the shortest."""

_LOG_STEPS = (
    1.0,
    1.6,
    2.5,
    4.0,
    6.3,
)  # ISO 3's preferred numbers: readable, and bins of one width on a logarithmic axis
_LINEAR_BINS = 16


@dataclass(frozen=True)
class Lengths:
    """The rows of one ability, or of all. Token figures are of one row, but for `tokens` and
    `trained_tokens`, which are sums.

    `median` is the mean of the middle two where there are two; `p90` and `p99` are lengths of rows (nearest
    rank). `over_limit` counts rows of more than `Stats.max_tokens`. `counts` are rows in each bin of
    `Stats.edges`. All are 0 where there is no row.
    """

    name: str
    rows: int
    tokens: int
    trained_tokens: int
    shortest: int
    median: float
    mean: float
    p90: int
    p99: int
    longest: int
    over_limit: int
    counts: tuple[int, ...]

    @property
    def trained_share(self) -> float:
        """Trained tokens by all tokens, in 0..1."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Stats:
    """Lengths by ability, in the order given, and overall. Bin i holds lengths from edges[i] up to, not
    including, edges[i + 1]."""

    abilities: tuple[Lengths, ...]
    overall: Lengths
    edges: tuple[int, ...]
    logarithmic: bool
    max_tokens: int

    @property
    def lines(self) -> tuple[Lengths, ...]:
        """Every ability, then all together."""
        return (*self.abilities, self.overall)


def measure(resolved: Resolved, template: Template) -> Stats:
    """The lengths of the rows that a recipe draws; rows over its limit are counted here, not refused.
    Errors: as drawing and encoding."""
    chosen, _ = draw(resolved.recipe)
    doing(f"encoding {len(chosen.examples):,} rows")
    encoded = encode_all(
        [one.messages for one in chosen.examples], template, [one.place for one in chosen.examples]
    )
    by_ability: dict[str, list[Encoded]] = {}
    for example, one in zip(chosen.examples, encoded, strict=True):
        by_ability.setdefault(example.ability, []).append(one)
    return stats(by_ability, max_tokens=resolved.recipe.train.max_tokens)


def stats(encoded: Mapping[str, Sequence[Encoded]], *, max_tokens: int) -> Stats:
    """The lengths of encoded rows by ability; `max_tokens` is the limit of one row. Errors: DataError
    where there is no row at all."""
    sizes = {name: sorted(len(one.ids) for one in rows) for name, rows in encoded.items()}
    trained = {name: sum(one.trained for one in rows) for name, rows in encoded.items()}
    together = sorted(size for found in sizes.values() for size in found)
    if not together:
        raise DataError("there is no row to measure", "choose a recipe or a source that has rows")
    logarithmic = together[-1] >= SPREAD_FOR_LOG * max(1, together[0])
    edges = _log_edges(together[0], together[-1]) if logarithmic else _linear_edges(together[0], together[-1])
    lines = tuple(_lengths(name, found, trained[name], edges, max_tokens) for name, found in sizes.items())
    return Stats(
        lines,
        _lengths(OVERALL, together, sum(trained.values()), edges, max_tokens),
        edges,
        logarithmic,
        max_tokens,
    )


def _lengths(name: str, sizes: Sequence[int], trained: int, edges: Sequence[int], max_tokens: int) -> Lengths:
    """The figures of sorted `sizes`."""
    if not sizes:
        return Lengths(name, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0, 0, (0,) * (len(edges) - 1))
    places = [bisect_right(sizes, edge - 1) for edge in edges]
    return Lengths(
        name=name,
        rows=len(sizes),
        tokens=sum(sizes),
        trained_tokens=trained,
        shortest=sizes[0],
        median=float(statistics.median(sizes)),
        mean=sum(sizes) / len(sizes),
        p90=_rank(sizes, 90),
        p99=_rank(sizes, 99),
        longest=sizes[-1],
        over_limit=len(sizes) - bisect_right(sizes, max_tokens),
        counts=tuple(after - before for before, after in zip(places, places[1:])),
    )


def _rank(sizes: Sequence[int], per_cent: int) -> int:
    """The least size that at least `per_cent` of the rows do not exceed."""
    return sizes[-(-per_cent * len(sizes) // 100) - 1]


def _log_edges(least: int, most: int) -> tuple[int, ...]:
    """1, 2, 4, 6, 10, 16, 25, 40, 63, 100, 160, ... around `least` and beyond `most`."""
    found: list[int] = [0] if least < 1 else []
    decade = 1
    while not found or found[-1] <= most:
        found += sorted({round(step * decade) for step in _LOG_STEPS})
        decade *= 10
    return _around(found, least, most)


def _linear_edges(least: int, most: int) -> tuple[int, ...]:
    """Multiples of 1, 2 or 5 times a power of ten, for about _LINEAR_BINS bins."""
    step, power = 1, 1
    while (most - least + 1) / step > _LINEAR_BINS:
        power = power * 10 if step == 5 * power else power
        step = next(one * power for one in (1, 2, 5) if one * power > step)
    return _around(list(range(least // step * step, most + step + 1, step)), least, most)


def _around(edges: Sequence[int], least: int, most: int) -> tuple[int, ...]:
    """The edges from the last that is not above `least` to the first above `most`."""
    first = bisect_right(edges, least) - 1
    return tuple(edges[first : bisect_right(edges, most) + 1])
