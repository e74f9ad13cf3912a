"""The page of runs: what it must say, and that no text of a model, a row or a name becomes more than text."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hostile import XSS
from patience import HANGS

from doitune.errors import CheckpointError
from doitune.report.html import CONTENT_POLICY, tag, text
from doitune.report.page import page
from doitune.run.folder import Run
from doitune.system.visible import visible

TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "b",
        "span",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
    ),
    *(
        "td",
        "figure",
        "figcaption",
        "svg",
        "line",
        "text",
        "circle",
        "polyline",
        "g",
        "details",
        "summary",
        "ul",
        "li",
        "pre",
        "dl",
        "dt",
        "dd",
        "a",
    ),
}
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "id",
        "href",
        "open",
        "viewbox",
        "role",
        "aria-label",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
    ),
    *("cx", "cy", "r", "points", "text-anchor", "stroke-width"),
}


class Reader(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    return reader


def make_run(folder: Path, said: str) -> Run:
    """A finished run that says `said` wherever a run can say something, but for the names of its files."""
    folder.mkdir(parents=True)
    quoted = json.dumps(said)
    (folder / "recipe.yaml").write_text(f"summary: {quoted}\nmodel:\n  name: {quoted}\n", encoding="utf-8")
    (folder / "origin.json").write_text(
        json.dumps({
            "base": {"name": said, "revision": said, "files": {said: said}}, "data": {"corpus": said, "leaks": said, "files": {said: said}},
            "versions": {said: said}, "platform": said, "command": [said], "backend": said, "device": said, "encoder": {"fingerprint": said},
        })
    )  # fmt: skip
    (folder / "ledger.json").write_text(
        json.dumps({said: dict.fromkeys(("asked", "found", "kept", "truncated", "trained"), 8)})
    )
    steps = [
        {
            "event": "step",
            "step": n,
            "loss": 3 / n,
            "grad_norm": 1.0,
            "seconds": 1.0,
            "peak_memory_gib": 7.5,
            "trained_tokens": 100,
            "epoch": n / 10,
        }
        for n in range(1, 21)
    ]
    checks = [
        {
            "event": "validation",
            "step": n,
            "epoch": n / 10,
            "loss": 3 / n,
            "score": n / 40,
            "loss_by_ability": {said: 1.0, "math": 2.0},
        }
        for n in (10, 20)
    ]
    trial = {"event": "trial", "step": 0, "peak_gib": 7.0, "planned_gib": 7.9}
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [trial, *steps, *checks])
    )
    (folder / "done.json").write_text(
        json.dumps({"final_step": 20, "best_step": 20, "seconds": 20.0, "stopped_early": False})
    )
    for number, checkpoint in enumerate(("base", "step-000020")):
        _evaluation(folder / "evals" / "doit-test" / checkpoint, said, number)
    return Run(folder)


def _evaluation(folder: Path, said: str, right: int) -> None:
    """Replies of one side to four questions: as saved replies are, then scored as saved replies are."""
    from doitune.data.example import Message
    from doitune.evals import saved
    from doitune.evals.evaluate import score_folder
    from doitune.evals.task import Item, Reply, Task, Verdict

    asked = (Message("user", f"{said}\nA. x\nB. y"),)
    items = tuple(
        Item(f"{said}{n}", said, "single_choice", "write", asked, "A", ("A", "B"), max_new_tokens=4)
        for n in range(4)
    )
    task = Task("doit-test", items, (said,))
    saved.write_manifest(folder, saved.Manifest.of(task, {"model": said}, said))
    none = {"fixed": Verdict(None, 0.0, said), "paper": Verdict(None, 0.0, said)}
    chances = {"fixed": 0.5, "paper": 0.5}
    replies = [Reply(one.id, 1, text="A" if right and n else said) for n, one in enumerate(items)]
    saved.append_lines(
        folder, [saved.Line(one, f"d{n}", "m", replies[n], none, chances) for n, one in enumerate(items)]
    )
    score_folder(folder)


def assert_only_text(document: str) -> Reader:
    """No element, attribute, address or style but the page's own."""
    reader = read(document)
    assert (
        set(reader.tags) <= TAGS
        and reader.tags.count("style")
        == reader.tags.count("head")
        == reader.tags.count("title") - _svg_titles(reader)
        == 1
    )
    assert {name.lower() for name, _ in reader.attributes} <= ATTRIBUTES
    assert all(value.startswith("#run-") for name, value in reader.attributes if name == "href")
    assert ("content", CONTENT_POLICY) in reader.attributes
    assert "script" not in reader.tags and "url(" not in document.partition("</style>")[0]
    return reader


def _svg_titles(reader: Reader) -> int:
    return reader.tags.count("title") - 1


@pytest.mark.parametrize("start", range(0, len(XSS), 18))
def test_hostile_text_stays_text(tmp_path: Path, start: int) -> None:
    """Trap: `</script>` in an evaluation's output ran in other tools' reports. Each text stands in every
    place that a run can fill."""
    for number, said in enumerate(XSS[start : start + 18]):
        reader = assert_only_text(page([make_run(tmp_path / f"r{number}" / "x", said)]))
        shown = "".join(reader.said)
        assert visible(said) in shown


def test_a_run_whose_name_is_markup(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "<img src=x onerror=alert(1)>" / name, "x") for name in ("<script>alert(1)<", "b")
    ]
    assert "<img src=x onerror=alert(1)>" in "".join(assert_only_text(page(runs)).said)


def test_the_page_says_what_a_reader_needs(tmp_path: Path) -> None:
    said = "".join(read(page([make_run(tmp_path / "demo" / "20260101-120000", "math")])).said)
    for needed in (
        "demo/20260101-120000",
        "7.5 GiB",
        "planned 7.9 GiB",
        "20",
        "step-000020 against the base",
        "COT for Grad-Math",
        "Wrong answers to read",
        "Where it comes from",
        "Recipe",
    ):
        assert needed in said, needed
    assert "75.0" in said and "[25.1–100.0]" in said and "≈ guessing" in said, (
        "three of four right, with its interval and chance"
    )


def test_a_run_that_was_never_evaluated_or_ended_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "demo" / "a", "math")
    shutil.rmtree(run.folder / "evals")
    for name in ("done.json", "metrics.jsonl", "ledger.json", "origin.json"):
        (run.folder / name).unlink()
        assert "Not evaluated yet" in "".join(assert_only_text(page([run])).said)


@pytest.mark.parametrize(
    "name",
    [
        "origin.json",
        "ledger.json",
        "done.json",
        "metrics.jsonl",
        "evals/doit-test/base/report.json",
        "evals/doit-test/base/outcomes.jsonl",
    ],
)
@pytest.mark.parametrize(
    "bad",
    [
        "[]",
        "{",
        '{"math": 1}',
        '{"event": "step", "step": "<b>", "loss": "<b>"}\n{}',
        "\udcff",
        '{"tables": [{"protocol": 1}]}',
        "null",
    ],
)
def test_a_damaged_run_is_one_clear_error_or_shown_as_far_as_it_is_whole(
    tmp_path: Path, name: str, bad: str
) -> None:
    """Trap: a run from a stranger whose report.json holds texts for numbers."""
    run = make_run(tmp_path / "demo" / "a", "math")
    (run.folder / name).write_bytes(bad.encode("utf-8", "surrogateescape"))
    try:
        assert_only_text(page([run]))
    except CheckpointError as error:
        assert error.hint


def test_elements_take_no_handler_and_no_address() -> None:
    for wrong in (
        {"onclick": "x"},
        {"src": "x"},
        {"href": "https://example.org"},
        {"href": "javascript:1"},
        {"action": "x"},
    ):
        with pytest.raises(ValueError, match="the page"):
            tag("a", **wrong)
    assert text("<&>\"'`") == "&lt;&amp;&gt;&quot;&#x27;`"


CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


class _Watch(SimpleHTTPRequestHandler):
    """Serves the page without a policy of its own and notes whatever else is asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Watch", (_Watch,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def browse(address: str, profile: Path) -> tuple[str, str]:
    """The page as a browser holds it after its scripts had their time, and what the browser's console
    said."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0",
         "--virtual-time-budget=2000", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom", address],
        capture_output=True, text=True, timeout=HANGS, check=False,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_nothing_runs_and_nothing_is_asked_for(
    tmp_path: Path, served: tuple[str, list[str]]
) -> None:
    """All hostile texts, in headless Chromium: no dialog, no request, no word on the console; and a page
    that does run shows that we would see it."""
    address, asked = served
    control = "<script>document.title='ran';fetch('/stolen').catch(()=>0);console.log('spoke')</script><img src=/stolen.png>"
    (tmp_path / "control.html").write_text(f"<!doctype html><title>x</title>{control}", encoding="utf-8")
    dom, console = browse(f"{address}/control.html", tmp_path / "profile")
    assert "<title>ran</title>" in dom and "spoke" in console and "/stolen.png" in asked, (
        "this test can see a script"
    )
    asked.clear()
    places = [
        "<script>document.title='ran';fetch('/stolen')</script>", "<img src=/stolen onerror=\"document.title='ran'\">", *XSS,
    ]  # fmt: skip
    runs = [make_run(tmp_path / "runs" / f"r{number}", said) for number, said in enumerate(places)]
    (tmp_path / "page.html").write_text(page(runs), encoding="utf-8")
    dom, console = browse(f"{address}/page.html", tmp_path / "profile")
    assert "<title>ran</title>" not in dom and "</main>" in dom
    assert not console, console
    assert set(asked) <= {"/page.html", "/favicon.ico"}, asked
