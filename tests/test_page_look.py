"""How the page looks: in headless Chromium at a screen's width and a phone's, light and dark, nothing runs over
its box, no word or number is broken, no text lies on another."""

from __future__ import annotations

import json
import random
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS
from test_page import CHROMIUM, make_run, served
from test_report_growth import confirming, contrast_of, family

from doitune.ability import NAMES, OUT_OF_DOMAIN
from doitune.data.example import Message
from doitune.evals import saved
from doitune.evals.evaluate import score_folder
from doitune.evals.task import Item, Reply, Task, Verdict
from doitune.report.growth.confirmed import confirmed
from doitune.report.growth.page import page as growth_page
from doitune.report.growth.read import of_growth
from doitune.report.page import page
from doitune.report.style import STYLE
from doitune.run.folder import Run

assert served  # a fixture

SETS = (*NAMES, *(one.name for one in OUT_OF_DOMAIN))
WIDTHS, SCHEMES = (1300, 400), {"light": 1, "dark": 0}

MEASURE = """
const said = {over: [], broken: [], touching: [], dark: false, wide: 0, titles: 0};
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const style = one => view.getComputedStyle(one);
  for (const one of page.querySelectorAll('details')) one.open = true;
  said.dark = view.matchMedia('(prefers-color-scheme: dark)').matches;
  const seen = [...page.querySelectorAll('body, body *')].filter(one => one.getClientRects().length);
  const name = one => one.tagName + '.' + (one.getAttribute('class') || '') + ' ' + one.textContent.slice(0, 40);
  for (const one of seen.filter(one => !one.closest('svg'))) {
    if (one.matches('.wide')) { said.wide += one.scrollWidth > one.clientWidth + 1; continue; }
    const box = style(one).display !== 'inline';
    if (box && one.scrollWidth > one.clientWidth + 1) said.over.push(name(one));
    const rect = one.getBoundingClientRect();
    if (!one.closest('.wide') && (rect.left < -1 || rect.right > view.innerWidth + 1)) said.over.push(name(one));
  }
  for (const cell of seen.filter(one => one.matches('td, th'))) {
    const walk = page.createTreeWalker(cell, 4);
    for (let text; text = walk.nextNode();) for (const word of text.data.matchAll(/[^\\s-]{1,24}/g)) {
      if (text.data.length > 60) continue;
      const range = page.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(one => Math.round(one.top))).size > 1) said.broken.push(word[0]);
    }
  }
  const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  for (const picture of seen.filter(one => one.matches('svg'))) {
    const frame = picture.getBoundingClientRect();
    const texts = [...picture.querySelectorAll('text')];
    const boxes = texts.map(one => one.getBoundingClientRect());
    boxes.forEach((box, at) => {
      if (box.right > frame.right + 1 || box.left < frame.left - 1) said.over.push(name(texts[at]));
      boxes.slice(at + 1).forEach(other => { if (meets(box, other)) said.touching.push(name(texts[at])); });
    });
    const title = picture.querySelector('.title');
    if (!title) continue;
    said.titles += 1;
    const own = title.getBoundingClientRect();
    for (const mark of picture.querySelectorAll('line, polyline, circle')) {
      const box = mark.getBoundingClientRect();
      const grown = {left: box.left - 1, right: box.right + 1, top: box.top - 1, bottom: box.bottom + 1};
      if (meets(own, grown)) said.touching.push(name(title));
    }
  }
  document.querySelector('pre').textContent = JSON.stringify(said);
};
"""
"""Looks at the page in the frame beside it, and writes down what is wrong. `wide`: boxes that are declared to
scroll, and do."""


def wide_run(folder: Path, seed: int) -> Run:
    """A run of 450 steps that was asked all thirteen sets, before and after."""
    run, dice = make_run(folder, "math"), random.Random(seed)
    steps = [
        {
            "event": "step",
            "step": n,
            "loss": 0.7 + 4 / n + dice.random() / 3,
            "grad_norm": 1.0,
            "epoch": n / 150,
            "seconds": 0.2,
            "peak_memory_gib": 0.7,
            "trained_tokens": 325,
        }
        for n in range(1, 451)
    ]
    checks = [
        {
            "event": "validation",
            "step": n,
            "epoch": n / 150,
            "loss": 1 + 20 / n,
            "score": n / 1000,
            "loss_by_ability": {name: dice.random() + 20 / n for name in NAMES},
        }
        for n in (150, 300, 450)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*steps, *checks]))
    (folder / "evals" / "doit-test").rename(folder / "evals" / "doit-valid")
    for checkpoint, share in (("base", 0.25), ("step-000450", 0.6)):
        _answer(folder / "evals" / "doit-test" / checkpoint, share, dice)
    return run


def _answer(folder: Path, share: float, dice: random.Random) -> None:
    """Forty replies of each set, about `share` of them right."""
    items = tuple(
        Item(
            f"{name}#{n}", name, "single_choice", "write", (Message("user", f"{name} {n}"),), "A", ("A", "B", "C", "D"), max_new_tokens=4
        )
        for name in SETS
        for n in range(40)
    )  # fmt: skip
    task = Task("doit-test", items, NAMES)
    saved.write_manifest(folder, saved.Manifest.of(task, {"model": "demo"}, "fingerprint"))
    none = {"fixed": Verdict(None, 0.0, ""), "paper": Verdict(None, 0.0, "")}
    replies = [Reply(one.id, 1, text="A" if dice.random() < share else "B") for one in items]
    saved.append_lines(
        folder,
        [
            saved.Line(one, f"d{at}", "m", replies[at], none, {"fixed": 0.25, "paper": 0.25})
            for at, one in enumerate(items)
        ],
    )
    score_folder(folder)


def look(address: str, folder: Path, width: int, scheme: str) -> dict[str, Any]:
    """What MEASURE finds of page.html in a frame of that width."""
    assert CHROMIUM is not None
    frame = f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    (folder / "look.html").write_text(
        f"<!doctype html>{frame}<pre></pre><script>{MEASURE}</script>", encoding="utf-8"
    )
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / f'profile-{width}'}", "--virtual-time-budget=4000",
         f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--window-size=1400,1000",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom", f"{address}/look.html"],
        capture_output=True, text=True, timeout=HANGS, check=False,
    )  # fmt: skip
    found = re.search(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stderr[-500:]
    return dict(json.loads(unescape(found[1])))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_nothing_runs_over_breaks_or_touches(
    tmp_path: Path, served: tuple[str, list[str]], scheme: str
) -> None:
    """Traps: a table of ten columns that is cut at the page's edge, `Understandi ng`, a small plot's title on
    its uppermost line, a last label beyond the picture."""
    runs = [wide_run(tmp_path / "runs" / "demo" / f"2026010{seed}-120000", seed) for seed in (1, 2, 3)]
    (tmp_path / "page.html").write_text(page(runs), encoding="utf-8")
    for width in WIDTHS:
        found = look(served[0], tmp_path, width, scheme)
        assert found["dark"] is (scheme == "dark") and found["titles"] == 3 * len(NAMES), found
        assert not found["over"] and not found["broken"] and not found["touching"], (width, found)
        assert found["wide"] == 0 if width > 1000 else found["wide"] > 3, (width, found["wide"])


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_familys_page_neither(
    tmp_path: Path, served: tuple[str, list[str]], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps: a number of a scatter on another, rows of a budget beyond the picture, a title of 50 letters."""
    monkeypatch.setattr("doitune.report.growth.confirmed.verdict", lambda _: contrast_of())
    growth = family(synthetic=True)
    for name, most in (("tried", 3), ("tried-2", 2)):
        confirming(tmp_path / "grown", growth, tmp_path / name, most)
    whole = replace(of_growth(growth), confirmed=confirmed(tmp_path / "grown", growth, tmp_path))
    (tmp_path / "page.html").write_text(growth_page(whole), encoding="utf-8")
    for width in WIDTHS:
        found = look(served[0], tmp_path, width, scheme)
        panels = len(growth.abilities) + 1 + len(growth.out_of_domain)
        assert found["dark"] is (scheme == "dark") and found["titles"] == panels, found
        assert not found["over"] and not found["broken"] and not found["touching"], (width, found)
        assert found["wide"] == 0 if width > 1000 else found["wide"] > 3, (width, found["wide"])


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_on_paper_no_table_is_cut(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    """Trap: a box that scrolls on a screen ends at the edge of A4 (718 pixels between usual margins)."""
    text = growth_page(of_growth(family()))
    assert text.count("@media print{.wide{overflow:visible}") == 1
    printed = text.replace("@media print{.wide{overflow:visible}", "@media all{")
    (tmp_path / "page.html").write_text(printed, encoding="utf-8")
    found = look(served[0], tmp_path, 718, "light")
    assert found["wide"] == 0 and not found["over"] and not found["touching"], found


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_look_is_seen_to_be_wrong(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    """The trap of the test above: one that cannot fail."""
    wrong = (
        "<div style='width:100px'><table><tr><td style='width:40px;max-width:40px;overflow-wrap:anywhere'>Understanding</td></tr></table>"
        "<p style='width:50px;white-space:nowrap'>a line too long for it</p></div>"
        "<svg viewBox='0 0 100 50' style='width:100px'><text class='title' x='5' y='12'>title</text><line x1='0' x2='90' y1='10' y2='10'/>"
        "<text x='95' y='40'>500</text></svg>"
    )
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{wrong}", encoding="utf-8")
    found = look(served[0], tmp_path, 400, "light")
    assert found["broken"] == ["Understanding"] and found["touching"] and len(found["over"]) >= 2, found


def _contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours `#rgb` or `#rrggbb`."""
    lights = []
    for colour in (one, other):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("number", [0, 1])
def test_colours_can_be_told_from_the_paper(number: int) -> None:
    """Texts 4.5 to 1 on paper and panel, marks of plots 3 to 1, light and dark (WCAG 2)."""
    colours = dict(re.findall(r"--(\w+):(#\w+)", re.findall(r":root\{(.*?)\}", STYLE, re.DOTALL)[number]))
    assert len(colours) == 10
    for name in ("ink", "soft", "good", "bad", "mark", "tuned"):
        for ground in ("paper", "panel"):
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert _contrast(colours["base"], colours["paper"]) >= 3
