"""A histogram of the rows' lengths, as lines of text or as a picture."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from html import escape
from itertools import accumulate

from doitune.prepare.stats import Lengths, Stats
from doitune.system.visible import visible

_BLOCKS = " ▏▎▍▌▋▊▉█"


def histogram(found: Stats, line: Lengths | None = None, *, width: int = 40) -> list[str]:
    """Lines of a histogram of all rows, or of one of `found.lines`: tokens, a bar of at most `width` columns,
    rows and their share.

    A bin with a row in it always shows a bar.
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
    verb = "is" if line.over_limit == 1 else "are"
    return f"{line.over_limit:,} of {line.rows:,} rows {verb} longer than {limit}"


_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}"
    ".title{font-size:14px;font-weight:600}.paper{fill:#ffffff}.bar{fill:#2f6feb}.line{stroke:#d0d7de}"
    ".median{stroke:#bc4c00;stroke-width:2}.limit{stroke:#cf222e;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.paper{fill:#0d1117}"
    ".bar{fill:#4493f8}.line{stroke:#3d444d}.median{stroke:#f0883e}.limit{stroke:#f85149}}"
)
_LEFT, _WIDTH, _RIGHT = 170, 560, 220
_TOP, _HIGH, _STRIP = 60, 180, 34


def histogram_svg(found: Stats) -> str:
    """One self-contained SVG picture: the histogram of all rows, and below it a strip for each ability over
    the same lengths.

    Each strip has its own scale of rows, an orange line at its median, and its figures beside it. It follows
    the reader's light or dark scheme. Names are escaped; hidden characters, and with them all that XML does
    not allow, are shown as their codes.
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
    """Bars of one line, its median, and the limit where it is among the lengths."""
    bins, most = len(line.counts), max(1, *line.counts)
    for number, count in enumerate(line.counts):
        if count:
            size = max(1.0, high * count / most)
            tip = escape(f"{_range(found.edges[number], found.edges[number + 1])} tokens: {count:,} rows")
            corner = f'x="{_LEFT + number * _WIDTH / bins + 0.5:.1f}" y="{top + high - size:.1f}"'
            size_text = f'width="{_WIDTH / bins - 1:.1f}" height="{size:.1f}"'
            yield f'<rect class="bar" {corner} {size_text}><title>{tip}</title></rect>'
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
        ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + high}"'
        yield f'<line class="{style}" {ends}><title>{tip}</title></line>'


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
    """Where a length is: bins are equally wide, lengths spread evenly within one."""
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
