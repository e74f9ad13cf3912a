"""How long the rows are: tokens by ability and overall, the share that is trained, rows over the limit, and a
histogram as text or a picture.

Lengths are in tokens of one encoded conversation, role and end tokens included.
"""

from __future__ import annotations

import statistics
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from doitune.errors import DataError
from doitune.prepare.draw import draw
from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import Encoded
from doitune.prompt.template import Template
from doitune.system.visible import visible

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
_BLOCKS = " ▏▎▍▌▋▊▉█"


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
    chosen, _ = draw(resolved.recipe.data)
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


def histogram(found: Stats, line: Lengths | None = None, *, width: int = 40) -> list[str]:
    """Lines of a histogram of all rows, or of one of `found.lines`: tokens, a bar of at most `width` columns,
    rows and their share.

    A bin that holds a row always shows a bar.
    """
    line = line or found.overall
    labels = [_range(low, high) for low, high in zip(found.edges, found.edges[1:])]
    column = max(map(len, labels))
    most = max(1, *line.counts)
    lines = [f"{'tokens':>{column}}  rows"]
    for label, count in zip(labels, line.counts):
        share = f"{count:,} ({100 * count / line.rows:.1f} %)" if count else "0"
        lines.append(f"{label:>{column}}  {_bar(count / most, width) if count else ''} {share}".rstrip())
    return [*lines, _limit_text(found, line)]


def _range(low: int, high: int) -> str:
    return f"{low:,}" if high == low + 1 else f"{low:,}–{high - 1:,}"


def _bar(share: float, width: int) -> str:
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def _limit_text(found: Stats, line: Lengths) -> str:
    """How many rows are over the limit, in words."""
    limit = f"train.max_tokens ({found.max_tokens:,})"
    if not line.over_limit:
        return f"no row is longer than {limit}"
    return f"{line.over_limit:,} of {line.rows:,} rows {'is' if line.over_limit == 1 else 'are'} longer than {limit}"


_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.title{font-size:14px;font-weight:600}"
    ".paper{fill:#ffffff}.bar{fill:#2f6feb}.line{stroke:#d0d7de}.median{stroke:#bc4c00;stroke-width:2}.limit{stroke:#cf222e;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.paper{fill:#0d1117}.bar{fill:#4493f8}.line{stroke:#3d444d}"
    ".median{stroke:#f0883e}.limit{stroke:#f85149}}"
)
_LEFT, _WIDTH, _RIGHT = 170, 560, 220
_TOP, _HIGH, _STRIP = 60, 180, 34


def histogram_svg(found: Stats) -> str:
    """One self-contained SVG picture: the histogram of all rows, and below it a strip for each ability over
    the same lengths.

    Each strip has its own scale of rows, an orange line at its median, and its figures beside it. It follows
    the reader's light or dark scheme. Names are escaped; hidden characters, and with them all that XML cannot
    hold, are shown as their codes.
    """
    height = _TOP + _HIGH + 46 + _STRIP * len(found.abilities) + 18
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {height}" '
        f'width="{_LEFT + _WIDTH + _RIGHT}" height="{height}" role="img" aria-labelledby="t">',
        f'<title id="t">Lengths of {found.overall.rows:,} rows in tokens</title><style>{_STYLE}</style>',
        '<rect class="paper" width="100%" height="100%"/>',
        _text(16, 24, f"Lengths of {found.overall.rows:,} rows in tokens", "title"),
        _text(16, 42, _limit_text(found, found.overall), "small"),
        *_panel(found, found.overall, _TOP, _HIGH),
        *_axes(found),
    ]
    for number, line in enumerate(found.abilities):
        parts += _strip(found, line, _TOP + _HIGH + 46 + number * _STRIP)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(found: Stats, line: Lengths, top: int, high: int) -> Iterator[str]:
    """Bars of one line, its median, and the limit where it lies among the lengths."""
    bins, most = len(line.counts), max(1, *line.counts)
    for number, count in enumerate(line.counts):
        if count:
            size = max(1.0, high * count / most)
            tip = escape(f"{_range(found.edges[number], found.edges[number + 1])} tokens: {count:,} rows")
            where = f'x="{_LEFT + number * _WIDTH / bins + 0.5:.1f}" y="{top + high - size:.1f}" width="{_WIDTH / bins - 1:.1f}"'
            yield f'<rect class="bar" {where} height="{size:.1f}"><title>{tip}</title></rect>'
    yield f'<line class="line" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{top + high}" y2="{top + high}"/>'
    marks = [("median", line.median, "median")] if line.rows else []
    marks += (
        [("limit", found.max_tokens, "train.max_tokens")]
        if found.edges[0] <= found.max_tokens < found.edges[-1]
        else []
    )
    for style, tokens, what in marks:
        at = _across(found, tokens)
        tip = f"{what}: {tokens:,.0f} tokens"
        yield f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + high}"><title>{tip}</title></line>'


def _axes(found: Stats) -> Iterator[str]:
    """Numbers and units of both axes of the first panel."""
    most, bottom = max(found.overall.counts), _TOP + _HIGH
    for rows in (0, most // 2, most) if most > 1 else (0, most):
        yield _text(_LEFT - 8, bottom - _HIGH * rows / most + 4, f"{rows:,} rows", "small", "end")
    every = -(-len(found.edges) // 14)
    for edge in found.edges[::every]:
        yield _text(_across(found, edge), bottom + 15, f"{edge:,}", "small", "middle")
    scale = ", logarithmic" if found.logarithmic else ""
    legend = f"length of a row (tokens{scale}); orange: median; dashed: train.max_tokens, where in range"
    yield _text(_LEFT + _WIDTH / 2, bottom + 31, legend, "small", "middle")


def _strip(found: Stats, line: Lengths, top: int) -> Iterator[str]:
    """One ability: its name, its bars, its figures."""
    base = top + _STRIP - 6
    yield _text(_LEFT - 8, base - 4, _short(visible(line.name, kept="")), "", "end", full=line.name)
    yield from _panel(found, line, top + 4, _STRIP - 10)
    yield _text(_LEFT + _WIDTH + 8, base - 12, f"{line.rows:,} rows", "small")
    yield _text(
        _LEFT + _WIDTH + 8,
        base,
        f"median {line.median:,.0f} tokens, {100 * line.trained_share:.0f} % trained",
        "small",
    )


def _across(found: Stats, tokens: float) -> float:
    """Where a length lies: bins are equally wide, lengths spread evenly within one."""
    bins = len(found.edges) - 1
    place = min(max(bisect_right(found.edges, tokens) - 1, 0), bins - 1)
    low, high = found.edges[place], found.edges[place + 1]
    return _LEFT + _WIDTH * (place + min(1.0, (tokens - low) / (high - low))) / bins


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start", *, full: str = "") -> str:
    tip = f"<title>{_shown(full)}</title>" if full else ""
    styled = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{tip}{_shown(text)}</text>'


def _shown(text: str) -> str:
    return escape(visible(text, kept=""))


def _short(name: str, columns: int = 22) -> str:
    """The name, cut to so many columns (a wide character takes two)."""
    ends = list(accumulate(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in name))
    return name if not ends or ends[-1] <= columns else name[: bisect_right(ends, columns - 1)] + "…"
