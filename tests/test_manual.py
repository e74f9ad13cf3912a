"""`doitune help`: the pages of docs/ in the terminal, and what a near miss is answered."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from manual import DOCS, ROOT
from terminal import until_closed
from typer.testing import CliRunner

from doitune.cli.app import app
from doitune.console import manual
from doitune.errors import UsageError

NAMES = [path.stem for path in sorted(DOCS.glob("*.md"))]


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["help", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_list_has_every_page() -> None:
    assert len(NAMES) > 8 and "growth" in NAMES
    listed = json.loads(said("--json", "--language", "en"))["topics"]
    assert [one["name"] for one in listed] == NAMES
    assert all(one["answers"] in said("--language", "en") for one in listed)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_gets_the_page_as_it_is_written(name: str) -> None:
    """Without pictures and translators' marks, and links say what can be typed: a path into docs/ leads
    nowhere for who has the wheel alone."""
    for language in ("en", "zh"):
        text = said(name, "--language", language)
        assert text.startswith("# ") and "\x1b" not in text and "<!--" not in text
        assert ".md)" not in text.replace("README.md)", "")
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page.split("\n")[0] in said(name, "--language", "en")


def test_a_link_says_what_to_type() -> None:
    assert "`doitune help evaluation`" in said("reliability", "--language", "en")


def test_a_commands_options() -> None:
    assert "--shots" in said("eval") and "--max-tokens" in said("data", "check")


@pytest.mark.parametrize(
    "typed, near",
    [
        ("evalution", "help evaluation"),
        ("trian", "help train"),
        ("data chek", "help data check"),
        ("gguf", "`doitune help export` speaks of it"),
        ("qqqq", "`doitune help` lists the pages"),
    ],
)
def test_a_near_miss_is_named(typed: str, near: str) -> None:
    with pytest.raises(UsageError) as found:
        said(*typed.split())
    assert near in found.value.hint
    with pytest.raises(UsageError, match="not written in"):
        said("growth", "--language", "fr")


def test_the_locale_says_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert manual.locale_language() == "en"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert manual.locale_language() == "zh"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert manual.locale_language() == "en"


def test_a_terminal_gets_a_page_through_its_pager() -> None:
    """In colours, as wide as is read well, and nothing heavy is loaded for it."""
    reader, writer = pty.openpty()
    code = (
        "import sys; sys.argv[1:] = ['help', 'growth', '--language', 'en']\n"
        "from doitune.__main__ import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'pydantic', 'yaml'} & set(sys.modules)"
    )
    environment = {**os.environ, "PAGER": "cat", "TERM": "xterm-256color", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=writer,
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    os.close(writer)
    seen = until_closed(reader)
    assert process.wait(60) == 0, process.stderr.read() if process.stderr else b""
    text = seen.decode("utf-8")
    assert "\x1b[" in text and "resistant" in text and "40m" not in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert 90 < max(map(len, plain.splitlines())) <= manual.MOST_COLUMNS


@pytest.mark.slow
def test_the_wheel_holds_the_pages(tmp_path: Path) -> None:
    """And neither pictures nor what made the demo; under 5 MB."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 5_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"doitune/docs/{name}.md" for name in NAMES} <= set(names) and "doitune/recipes/own.yaml" in names
    assert not [one for one in names if "demo/making" in one or "pictures" in one or one.startswith("docs/")]
