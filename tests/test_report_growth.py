"""A family's report: every run is shown where it was measured, nothing is smoothed or halved, and what was not
measured is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import growth_worlds as worlds
import numpy as np
import pytest
import small_growth as small
from test_house import loaded_by
from typer.testing import CliRunner

from doitune.cli.app import app
from doitune.console.growth_curves import show_growth_curves
from doitune.errors import CheckpointError
from doitune.evals.compare import Side, compare
from doitune.evals.report import Outcome
from doitune.growth.contrast import Contrast
from doitune.growth.fit.curves import BEYOND
from doitune.growth.folder import read_record
from doitune.growth.measured import Growth, Measured, Member, Score
from doitune.recipe.resolve import freeze, resolve
from doitune.report.drawing import Doublings, wide
from doitune.report.growth import files, papers
from doitune.report.growth.confirmed import Confirmed, confirmed, trying
from doitune.report.growth.document import document
from doitune.report.growth.gallery import figures, sheets, small_multiples
from doitune.report.growth.page import page
from doitune.report.growth.panels import HEIGHT, TOP, WIDTH, axes
from doitune.report.growth.read import GrowthView, of_growth
from doitune.system.disk import write_json

TITLES = {
    "biology": "生物与科学",
    "math": "数学 <script>x</script> & more",
    "ethics": "Ethics as a user calls it in very many words indeed",
}


def family(*, synthetic: bool = False) -> Growth:
    """Forty runs of a simulated world, two seeds of equal budgets, sets out of the domain, one unfinished."""
    world = worlds.World(3, sharing="partners")
    plan = [*worlds.designs(np.random.default_rng(0)), *worlds.single_sources()]
    plan += [one for one in worlds.designs(np.random.default_rng(1)) if one[0] == "equal"]
    found = worlds.growth(world, plan)
    members = [_asked_more(one, sum(one.rows.values())) for one in found.members]
    if synthetic:
        members += [_synthetic(world, rows) for rows in (160, 640, 2560, 4800)]
    base = {name: Score(20.0, 100, 0.25) for name in worlds.NAMES}
    return replace(
        found,
        members=tuple(members),
        titles={**found.titles, **TITLES, "ceval_physician": "Physician"},
        base={"demo": {"valid": base, "test": base}},
        out_of_domain=("ceval_physician",),
        unfinished=(Member("never-made", "equal", "demo", "curated", 4, {"math": 9}),),
    )


def _asked_more(one: Measured, rows: int) -> Measured:
    right = 10.0 + min(20, rows // 200)
    return replace(
        one, scores={**one.scores, "test": {**one.scores["test"], "ceval_physician": Score(right, 40, 0.25)}}
    )


def _synthetic(world: worlds.World, rows: int) -> Measured:
    right = world.run(np.full(10, rows / 80), np.random.default_rng(rows))
    scores = {name: Score(float(hits), 100, 0.25) for name, hits in zip(worlds.NAMES, right, strict=True)}
    member = Member(f"synthetic-{rows}", "equal", "demo", "synthetic", 0, {}, rows)
    return Measured(member, {}, 100, {"valid": scores, "test": scores})


@pytest.fixture(scope="module")
def seen() -> GrowthView:
    return of_growth(family(synthetic=True))


def test_every_run_is_drawn_where_it_was_measured(seen: GrowthView) -> None:
    """Trap (the paper's plots): scores smoothed before they are drawn, runs left out by their name."""
    curves = [one for one in seen.found.curves if one.model == "demo"]
    shared = axes(curves)
    panels = small_multiples(seen, seen.growth.titles)["curves"].panels
    assert len(panels) == len(worlds.NAMES) + 1
    for name, drawn in zip(worlds.NAMES, panels, strict=False):
        marks = "".join(drawn.parts)
        for run in seen.growth.members:
            score = run.scores["test"][name]
            (tip,) = re.findall(rf"<title>{re.escape(run.member.name)}: ([\d.]+) %", marks)
            assert float(tip) == pytest.approx(100 * score.right / score.items, abs=0.06)
        dots = [tuple(map(float, at)) for at in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', marks)]
        points = [p for one in curves if one.name == name for p in one.points if p.design == "equal"]
        places = [shared.at(point.own, point.score) for point in points]
        assert len(dots) == len(points) == 12
        assert dots == [pytest.approx(place, abs=0.06) for place in places]


def test_all_panels_have_the_same_axes(seen: GrowthView) -> None:
    """Trap: synthetic rows counted in another unit than curated ones; a panel stretched to its own range."""
    panels = small_multiples(seen, seen.growth.titles)["curves"].panels
    labels = {tuple(re.findall(r">([\d,]+)</text>", "".join(one.parts))) for one in panels}
    assert len(labels) == 1 and len(next(iter(labels))) > 6
    scale = Doublings(16, 1024, 0, 100)
    assert scale(64) - scale(32) == pytest.approx(scale(1024) - scale(512)) and scale(0) == 0
    budgets = {
        point.rows for one in seen.found.curves for point in one.points if point.run.startswith("synth")
    }
    assert budgets == {16, 64, 256, 480}


def test_a_curve_is_drawn_as_such_to_twice_the_largest_budget(seen: GrowthView) -> None:
    lines = [one.line for one in seen.found.curves if one.line]
    assert len(lines) > 10
    assert max(at.rows for line in lines for at in line) == pytest.approx(BEYOND * 480)
    first = "".join(small_multiples(seen, seen.growth.titles)["curves"].panels[0].parts)
    dashed = re.findall(r'points="([^"]+)" class="line dash', first)
    solid = re.findall(r'points="([^"]+)" class="line s', first)
    assert len(dashed) == len(solid) == 2
    for before, beyond in zip(solid, dashed, strict=True):
        assert before.split()[-1] == beyond.split()[0], "the dashes begin where the measuring ends"


def test_the_mean_is_whole(seen: GrowthView) -> None:
    """Trap (the released scorer): averages divided by twice the number of sets."""
    drawn = "".join(small_multiples(seen, seen.growth.titles)["curves"].panels[-1].parts)
    for run in seen.growth.members[:5]:
        mean = sum(run.scores["test"][name].right for name in worlds.NAMES) / len(worlds.NAMES)
        assert f"{run.member.name}: {mean:.1f} %" in drawn
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)"', drawn)]
    assert ys and min(ys) >= TOP and max(ys) <= HEIGHT


def test_the_page_says_everything_and_nothing_runs(seen: GrowthView) -> None:
    text = page(seen)
    assert "<script" not in text and "&lt;script&gt;" in text and "http-equiv" in text
    for sign in (
        "生物与科学",
        "never-made",
        "Who teaches whom",
        "not known to us",
        "31.59",
        "Out of the domain",
    ):
        assert sign in text, sign
    assert not re.search(r'(?:src|href)="(?!#)', text)
    for one in seen.found.groups:
        assert one.group in text
    assert "points or more" in text, "the thresholds are stated"
    assert "The advised budget" not in text, "no advice was tried"


def test_a_growth_without_runs_has_a_page() -> None:
    bare = replace(family(), members=(), base={}, out_of_domain=())
    text = page(of_growth(bare))
    assert "No run is measured yet" in text and "never-made" in text


def test_too_few_runs_are_said_and_shown() -> None:
    few = family()
    thin = of_growth(replace(few, members=few.members[:2]))
    text = page(thin)
    assert "too few runs for a curve" in text and "a curve needs 3 different budgets" in text
    assert text.count('class="dot s0"') >= 2 * len(worlds.NAMES)


def test_two_models_stand_beside_each_other() -> None:
    one = family()
    other = [
        replace(run, member=replace(run.member, name=f"big-{run.member.name}", model="big/模型"))
        for run in one.members
    ]
    both = of_growth(replace(one, members=(*one.members, *other)), {"demo": 10**6, "big/模型": 8 * 10**6})
    assert len(both.found.sizes) == len(worlds.NAMES)
    text = page(both)
    assert "Models beside each other" in text and "big/模型" in text and "per doubling of weights" in text
    names = sheets(both, both.growth.titles, 720)
    assert {"sizes", "curves-demo", "curves-big-模型"} <= set(names)


def test_the_document_has_every_number(seen: GrowthView) -> None:
    found = json.loads(json.dumps(document(seen, {"path": "x"}), allow_nan=False))
    assert found["schema"] == "doitune.growth-report/1" and found["path"] == "x"
    assert len(found["runs"]) == len(seen.growth.members) > 40
    assert [one["name"] for one in found["unfinished"]] == ["never-made"]
    curves = found["conclusions"]["curves"]
    assert len(curves) == len(seen.found.curves)
    assert curves[0]["points"][0]["score"] == seen.found.curves[0].points[0].score
    assert {"traits", "groups", "partners", "versus", "claim"} <= set(found["conclusions"])
    assert found["paper"]["measured_here"] is False and found["confirmed"] == []


def test_the_papers_tables_agree_with_the_gains_that_it_states() -> None:
    """Of every cell version 1 states the gain over the baseline as well."""
    rows = dict(papers.BUDGETS)
    base, built, most = rows["Baseline (10k)"], rows["Reconstruct (10k)"], rows["Maximum (40k)"]

    def gains(table: tuple[tuple[float, ...], ...]) -> list[float]:
        return [round(a - b, 2) for one, other in zip(table, base) for a, b in zip(one, other)]

    assert gains(built) == [4.23, 0.79, 0.42, 4.95, 1.26, 2.38, 0.31, 0.10, 0.42, 0.62, 0.75, 1.50]
    assert gains(most) == [4.82, 2.97, 4.09, 4.66, 2.56, 3.08, 2.28, 0.53, 1.19, 2.52, 2.02, 2.84]
    assert papers.MIXED[0][1] == most


def confirming(folder: Path, growth: Growth, beside: Path, most: int = 3) -> dict[str, int]:
    """A family that tries an advice of the one in `folder`, both budgets with two seeds; the advised rows."""
    small.write_record(folder, tuple(one.member for one in growth.members), dict(growth.stock))
    advised = {name: 64 * (1 + place % most) for place, name in enumerate(worlds.NAMES)}
    equal = dict.fromkeys(worlds.NAMES, sum(advised.values()) // 10)
    members = [
        Member(f"demo-{design}-s{seed}", design, "demo", "curated", seed, rows)  # type: ignore[arg-type]
        for seed in (1, 2)
        for design, rows in (("equal", equal), ("advised", advised))
    ]
    small.write_record(beside, tuple(members), dict(growth.stock), confirms=folder.name)
    for one in members:
        right = dict.fromkeys(worlds.NAMES, 60 if one.design == "advised" else 50)
        small.write_member(beside, one, {"doit-valid": right, "doit-test": right}, items=100)
    return advised


def contrast_of() -> Contrast:
    def side(right: int) -> Side:
        found = {
            f"{name}#{at}": Outcome(f"{name}#{at}", name, float(at < right), 0.25)
            for name in worlds.NAMES
            for at in range(100)
        }
        return Side("x", "doit-test", 0, found, dict.fromkeys(found, "d"), worlds.NAMES, worlds.NAMES)

    both = compare(side(50), side(60))
    return Contrast((1, 2), both, (both.mean, both.mean))


def test_advice_is_held_against_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth, folder = family(), tmp_path / "grown"
    advised = confirming(folder, growth, tmp_path / "grown-confirm")
    (found,) = confirmed(folder, growth, tmp_path)
    assert isinstance(found, Confirmed) and found.found is None and "evaluat" in found.lacking
    monkeypatch.setattr("doitune.report.growth.confirmed.verdict", lambda _: contrast_of())
    (found,) = confirmed(folder, growth, tmp_path)
    assert found.done == found.planned == 4 and not found.lacking
    assert {one.name: one.advised_rows for one in found.foreseen} == advised
    assert all(one.advised_came == 0.6 and one.equal_came == 0.5 for one in found.foreseen)
    whole = replace(of_growth(growth), confirmed=(found,))
    text = page(whole)
    assert "The advised budget" in text and "Measured on test: +10.0 points" in text and "121 → 192" in text
    assert {"budgets", "confirmed"} <= set(sheets(whole, growth.titles, 720))
    assert json.loads(json.dumps(document(whole, {})))["confirmed"][0]["pairs"][0]["difference"] > 0.09


def test_confirmations_are_found_by_what_they_record(tmp_path: Path) -> None:
    """Trap: a family that `grow confirm --name` called otherwise was never on the page of the growth, and a
    second advice of it neither; another growth's is not."""
    growth, runs = family(), tmp_path / "runs"
    folder = tmp_path / "elsewhere" / "grown"
    assert confirmations_of(folder, growth, runs) == []
    confirming(folder, growth, runs / "tried")
    confirming(folder, growth, folder.with_name("tried-2"), most=2)
    confirming(runs / "other", growth, runs / "grown-confirm")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "growth.json").write_text("{}", encoding="utf-8")
    assert confirmations_of(folder, growth, runs) == [("tried-2", 960), ("tried", 1216)]
    assert confirmations_of(runs / "other", growth, runs) == [("grown-confirm", 1216)]
    both = replace(of_growth(growth), confirmed=confirmed(folder, growth, runs))
    text = page(both)
    for name, rows in (("tried", "192"), ("tried-2", "128")):
        assert text.count(f"The advised budget: {name}<") == 1
        assert f"→ {rows}" in str(figures(both, growth.titles)[f"budgets-{name}"](720).inline())
    assert text.count("960 rows: equal shares grey") == text.count("1,216 rows: equal shares grey") == 1


def confirmations_of(folder: Path, growth: Growth, runs: Path) -> list[tuple[str, int]]:
    """Name and rows of what a report of `folder` shows as its advice's confirmations."""
    if not folder.exists():
        small.write_record(folder, tuple(one.member for one in growth.members), dict(growth.stock))
    return [(one.family, one.total) for one in confirmed(folder, growth, runs)]


def test_advice_is_shown_before_it_is_tried(tmp_path: Path, tiny_recipe: Path) -> None:
    """Both budgets and what is foretold of them; another one than was tried is not called confirmed."""
    growth, folder = family(), tmp_path / "grown"
    tried = confirming(folder, growth, tmp_path / "tried")
    base = freeze(resolve(str(tiny_recipe)))
    for place in (folder, tmp_path / "tried"):
        whole = replace(read_record(place), bases={"demo": base})
        write_json(place / "growth.json", whole.to_json())
    path = tmp_path / "advised.yaml"
    for rows, done in ((tried, 4), (dict.fromkeys(worlds.NAMES, 20) | {"math": 90}, 0)):
        budget = json.dumps(rows).replace('"', "")
        path.write_text(f"extends: own\ndata: {{budget: {budget}}}\n", encoding="utf-8")
        (found,) = confirmed(folder, growth, tmp_path, trying(folder, path))
        assert found.done == done and found.gain is not None
        assert {one.name: one.advised_rows for one in found.foreseen} == rows
    text = page(replace(of_growth(growth), confirmed=(found,)))
    assert "27 → 90" in text and "doitune grow confirm` runs it" in text and "Measured on test" not in text


@pytest.mark.parametrize("width", [380, 720])
def test_figures_are_files_of_their_own(seen: GrowthView, width: int) -> None:
    """Valid XML without a colour of the page's or an address to load from."""
    drawn = sheets(seen, seen.growth.titles, width)
    assert {"curves", "out-of-domain", "traits", "partners", "foretold"} <= set(drawn)
    for name, one in drawn.items():
        text = one.alone()
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg") and float(root.attrib["width"]) >= WIDTH, name
        assert ("var(" not in text and "url(" not in text and "生物与科学" in text) or name == "out-of-domain"


def test_titles_that_no_font_has_are_drawn_by_plain_names(
    seen: GrowthView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a PNG full of boxes where the machine has no Chinese font, without a word."""
    pytest.importorskip("resvg_py")
    rendered: list[str] = []
    monkeypatch.setattr(files, "can_draw", str.isascii)
    monkeypatch.setattr(files, "render", lambda svg: rendered.append(svg) or b"png")
    written = files.write_figures(seen, tmp_path / "figures")
    assert "no font of this machine" in written.notes[0] and "生物与科学" in written.notes[0]
    assert (
        rendered
        and not any("生物" in svg for svg in rendered)
        and any(">biology<" in svg for svg in rendered)
    )
    assert "生物" in (tmp_path / "figures" / "curves.svg").read_text(encoding="utf-8")
    assert {one.suffix for one in written.paths} == {".svg", ".png"} and all(
        one.is_file() for one in written.paths
    )


def test_a_letter_that_nobody_has_cannot_be_drawn() -> None:
    pytest.importorskip("resvg_py")
    assert files.render(files._letter("a"))[:4] == b"\x89PNG"
    assert not files.can_draw(f"a{chr(0xF3C4E)}")
    folders = ("/usr/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
    if not any(list(Path(folder).rglob("*.tt[fc]")) for folder in folders):
        pytest.skip("this machine has no font")
    assert files.can_draw("plain <&> é")


def test_without_any_font_there_is_svg(
    seen: GrowthView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: pictures without a word of text, and nobody is told."""
    renderer = pytest.importorskip("resvg_py")
    plain = renderer.svg_to_bytes
    monkeypatch.setattr(renderer, "svg_to_bytes", lambda **asked: plain(skip_system_fonts=True, **asked))
    files._plain_family.cache_clear()
    written = files.write_figures(seen, tmp_path)
    files._plain_family.cache_clear()
    assert "no" in written.notes[0] and "font" in written.notes[0]
    assert {one.suffix for one in written.paths} == {".svg"}


def test_without_the_renderer_there_is_svg(
    seen: GrowthView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    written = files.write_figures(seen, tmp_path)
    assert "doitune[plots]" in written.notes[0] and {one.suffix for one in written.paths} == {".svg"}


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_terminal_shows_it_in_its_width(
    seen: GrowthView, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Trap: Chinese titles are twice as wide as they are long, and shift what stands beside them."""
    monkeypatch.setattr("doitune.console.screen.PIPED_WIDTH", columns)
    show_growth_curves(seen)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "生物与科学" in printed and "<script>" in printed
    plots = printed.partition("o a run, by its own")[0].splitlines()
    drawn = [line for line in plots if "guessing" not in line and "% right" not in line]
    assert len(drawn) > 50
    assert len({wide(line) for line in drawn}) <= 2, "full rows of plots, and a last one with fewer"
    assert max(map(wide, drawn)) <= columns


def disk(folder: Path) -> Path:
    """A family on disk."""
    growth = family()
    members = growth.members[:4] + growth.members[14:24]
    small.write_record(folder, tuple(one.member for one in members) + growth.unfinished, dict(growth.stock))
    for one in members:
        rights = {
            f"doit-{split}": {name: int(score.right) for name, score in sets.items()}
            for split, sets in one.scores.items()
        }
        small.write_member(folder, one.member, rights, items=100)
    return folder


def command(*words: str) -> Any:
    return CliRunner().invoke(app, ["report", *words])


def test_the_command_writes_page_and_figures(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "我的 family"
    confirming(folder, family(), tmp_path / "runs" / "tried")
    disk(folder)
    done = command(folder.name, "--runs", str(tmp_path / "runs"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert Path(found["path"]) == folder / "report.html" and (folder / "figures" / "curves.svg").is_file()
    assert all(Path(one).is_file() for one in found["figures"]) and len(found["runs"]) == 14
    out = tmp_path / "elsewhere" / "p.html"
    out.parent.mkdir()
    assert command(str(folder), "--out", str(out)).exit_code == 0
    assert [one.name for one in out.parent.iterdir()] == ["p.html"], "no figures where none were asked for"
    shown = command(str(folder), "--text")
    assert (
        shown.exit_code == 0
        and "1,216 rows as advised (tried): Expected of the advice over equal shares" in shown.output
        and "points a doubling" in shown.output
        and "not measured: never-made" in shown.output
    )
    assert not (folder / "confirm").exists()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    folder = str(disk(tmp_path / "family"))
    for words in (
        (folder, "last"),
        (folder, "--text", "--json"),
        ("last", "--text"),
        ("last", "--plots", "x"),
    ):
        done = command(*words)
        assert done.exit_code != 0 and done.exception is not None, words


@pytest.mark.parametrize(
    ("words", "problem"),
    [(("--advice", "missing.yaml"), "there is no such file"), (("--out", "."), "it is a folder")],
)
def test_what_cannot_be_is_said_before_curves_are_fitted(
    words: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap: seconds of fitting, and then a slip in a name."""
    folder = disk(tmp_path / "family")
    whole = replace(read_record(folder), bases={"demo": freeze(resolve(str(tiny_recipe)))})
    write_json(folder / "growth.json", whole.to_json())
    monkeypatch.setattr("doitune.report.growth.read.view", lambda _: pytest.fail("it fits"))
    assert problem in str(command(str(folder), *words).exception)


def test_a_damaged_family_says_which_file(tmp_path: Path) -> None:
    folder = disk(tmp_path / "family")
    (folder / "growth.json").write_text("{}", encoding="utf-8")
    done = command(str(folder))
    assert isinstance(done.exception, CheckpointError) and "growth.json" in str(done.exception)


def test_no_model_library_is_loaded(tmp_path: Path) -> None:
    folder = disk(tmp_path / "family")
    assert not loaded_by("report", str(folder), "--out", str(tmp_path / "p.html")) & {"torch", "transformers"}
