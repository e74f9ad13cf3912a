"""Lengths are counted to the row, a histogram holds every row, and its picture is whole whatever the names
in it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doitune.backends.tokenizer import tokenizer_template
from doitune.base.find import find_base
from doitune.errors import DataError
from doitune.prepare.histogram import histogram, histogram_svg
from doitune.prepare.stats import OVERALL, Stats, measure, stats
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.recipe.fields import PromptSection
from doitune.recipe.resolve import resolve

SVG = "{http://www.w3.org/2000/svg}"


def rows(lengths: Sequence[int]) -> list[Encoded]:
    """Rows of these lengths, of which the last third is trained."""
    return [Encoded(tuple(range(n)), (*[IGNORED] * (n - n // 3), *range(n // 3))) for n in lengths]


lengths = st.lists(st.integers(1, 3000), max_size=30)
corpora = st.dictionaries(st.sampled_from(["math", "code", "ethics", "伦理"]), lengths, min_size=1).filter(
    lambda found: any(found.values())
)


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 3000))
@example({"math": [1]}, 1)
@example({"math": [7] * 5, "code": []}, 7)
@example({"math": [1, 100_000]}, 2048)
@example({"math": list(range(1, 10))}, 5)
def test_every_figure_is_the_rows(found: dict[str, list[int]], limit: int) -> None:
    measured = stats({name: rows(sizes) for name, sizes in found.items()}, max_tokens=limit)
    assert [line.name for line in measured.lines] == [*found, OVERALL]
    everything = [size for sizes in found.values() for size in sizes]
    for line, sizes in zip(measured.lines, [*found.values(), everything], strict=True):
        assert (line.rows, line.tokens) == (len(sizes), sum(sizes))
        assert line.trained_tokens == sum(size // 3 for size in sizes)
        assert line.over_limit == sum(size > limit for size in sizes)
        assert sum(line.counts) == len(sizes)
        bins = zip(measured.edges, measured.edges[1:])
        assert list(line.counts) == [sum(low <= size < high for size in sizes) for low, high in bins]
        if sizes:
            assert (line.shortest, line.longest) == (min(sizes), max(sizes))
            assert line.median == statistics.median(sizes) and line.mean == pytest.approx(
                statistics.fmean(sizes)
            )
            for rank, share in ((line.p90, 0.9), (line.p99, 0.99)):
                assert rank in sizes
                assert (
                    sum(size <= rank for size in sizes)
                    >= share * len(sizes) - 1e-9
                    > sum(size < rank for size in sizes) - 1e-9
                )
        else:
            assert line.trained_share == line.mean == line.longest == 0


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=5))
def test_bin_edges_are_readable_few_and_around_all_rows(sizes: list[int]) -> None:
    measured = stats({"math": [Encoded((0,) * size, (0,) * size) for size in sizes]}, max_tokens=9)
    edges = measured.edges
    assert edges[0] <= min(sizes) and max(sizes) < edges[-1]
    assert list(edges) == sorted(set(edges)) and 1 <= len(edges) - 1 <= 40
    assert measured.overall.counts[0] and measured.overall.counts[-1], "no empty bin at either end"
    step = edges[1] - edges[0]
    if measured.logarithmic:
        assert all(re.fullmatch(r"(0|1|2|4|6|16|25|63)0*", str(edge)) for edge in edges)
    else:
        assert re.fullmatch(r"[125]0*", str(step)) and list(edges) == list(
            range(edges[0] // step * step, edges[-1] + 1, step)
        )


def test_long_tails_get_logarithmic_bins_and_like_lengths_even_ones() -> None:
    tail = stats({"math": rows([20, 90, 100, 2000])}, max_tokens=2048)
    assert tail.logarithmic and tail.edges == (16, 25, 40, 63, 100, 160, 250, 400, 630, 1000, 1600, 2500)
    even = stats({"math": rows([101, 158])}, max_tokens=2048)
    assert not even.logarithmic and even.edges == tuple(range(100, 161, 5))


def test_no_row_at_all_is_refused() -> None:
    for nothing in ({}, {"math": []}):
        with pytest.raises(DataError, match="no row to measure"):
            stats(nothing, max_tokens=1)


def test_the_histogram_in_text_shows_every_bin_and_no_row_is_invisible() -> None:
    measured = stats({"math": rows([20] * 4000 + [60] * 2000 + [2000]), "code": rows([25])}, max_tokens=1024)
    lines = histogram(measured, width=10)
    assert len(lines) == len(measured.edges) + 1
    assert lines[0].split() == ["tokens", "rows"]
    assert [line.strip() for line in lines[1:4]] == [
        "16–24  ██████████ 4,000 (66.6 %)",
        "25–39  ▏ 1 (0.0 %)",
        "40–62  █████ 2,000 (33.3 %)",
    ]
    assert lines[-2].strip() == "1,600–2,499  ▏ 1 (0.0 %)"
    assert lines[-1] == "1 of 6,002 rows is longer than train.max_tokens (1,024)"
    assert lines[4].strip() == "63–99   0"
    assert len({line.index("  ", len(line) - len(line.lstrip())) for line in lines[:-1]}) == 1, (
        "the labels stand in one column"
    )
    of_code = histogram(measured, measured.abilities[1])
    assert (
        sum("█" in line for line in of_code) == 1
        and of_code[-1] == "no row is longer than train.max_tokens (1,024)"
    )


def picture(measured: Stats) -> ElementTree.Element:
    return ElementTree.fromstring(histogram_svg(measured))


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 4000))
@example({"math": [1]}, 1)
@example({"math": [7, 7], "code": []}, 8)
def test_the_picture_holds_every_bin_of_every_ability_inside_its_frame(
    found: dict[str, list[int]], limit: int
) -> None:
    measured = stats({name: rows(sizes) for name, sizes in found.items()}, max_tokens=limit)
    svg = picture(measured)
    bars = [bar for bar in svg.iter(f"{SVG}rect") if bar.get("class") == "bar"]
    assert len(bars) == sum(count > 0 for line in measured.lines for count in line.counts)
    tips = [
        int(re.search(r": ([\d,]+) rows", bar.findtext(f"{SVG}title") or "")[1].replace(",", ""))
        for bar in bars
    ]  # type: ignore[index]
    assert sum(tips) == 2 * measured.overall.rows
    width, height = float(svg.get("width", 0)), float(svg.get("height", 0))
    for bar in bars:
        x, y, wide, high = (float(bar.get(key, -1)) for key in ("x", "y", "width", "height"))
        assert min(x, y) >= 0 and x + wide <= width and y + high <= height and min(wide, high) > 0
    for text in svg.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", -1)) <= width and 0 <= float(text.get("y", -1)) <= height
    said = " ".join("".join(text.itertext()) for text in svg.iter(f"{SVG}text"))
    assert "rows" in said and "length of a row (tokens" in said
    limits = [line for line in svg.iter(f"{SVG}line") if line.get("class") == "limit"]
    assert bool(limits) == (measured.edges[0] <= limit < measured.edges[-1])


HOSTILE = [
    "</text><script>alert(1)</script>",
    "a&b<c>\"d'",
    "]]>",
    "\x00\x1b[31m\ufffe\ud800",
    "\u202eevil\u2066",
    "名" * 200,
    "",
    "<!--",
    "&#0;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_and_nothing_else(name: str) -> None:
    measured = stats({name: rows([10, 20])}, max_tokens=99)
    code = histogram_svg(measured)
    svg = ElementTree.fromstring(code.encode())
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} == {
        "svg",
        "title",
        "style",
        "rect",
        "text",
        "line",
    }
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", code)
    if name.isprintable():
        assert name in [title.text or "" for title in svg.iter(f"{SVG}title")] or not name
    assert max(len("".join(text.itertext()).removeprefix(name)) for text in svg.iter(f"{SVG}text")) < 120


def test_the_picture_needs_nothing_from_elsewhere_and_follows_light_and_dark() -> None:
    code = histogram_svg(stats({"math": rows([10, 20])}, max_tokens=99))
    assert code.count("http") == 1 and 'xmlns="http://www.w3.org/2000/svg"' in code
    assert not re.search(r"href|url\(|@import|<script|<image|on\w+=", code)
    assert "prefers-color-scheme:dark" in code
    light, dark = code.split("@media", 1)
    for style in re.findall(r"\.(\w+)\{(?:fill|stroke):#", light):
        assert f".{style}{{" in dark, f"{style} has no colour in the dark"


def test_a_recipes_rows_are_measured_and_long_ones_counted(tiny_recipe: Path, tiny_base: Path) -> None:
    """Trap: a measure that refuses the rows that one wants to learn the length of."""
    template = tokenizer_template(find_base(str(tiny_base)), PromptSection())
    measured = measure(resolve(str(tiny_recipe), overrides=["train.max_tokens=30"]), template)
    assert [(line.name, line.rows) for line in measured.lines] == [
        ("biology", 8),
        ("history", 8),
        ("code", 8),
        ("math", 8),
        (OVERALL, 32),
    ]
    assert 0 < measured.overall.over_limit < 32
    assert measured.overall.over_limit == sum(line.over_limit for line in measured.abilities)
    assert 0 < measured.overall.trained_share < 1
