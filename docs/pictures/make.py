"""The pictures of the manual, from real runs: a terminal as SVG by rich, the report's page by Chromium.

    doitune grow demo --quick && doitune train demo && doitune eval last
    python docs/pictures/make.py

in the folder that has `runs/`; the demo after the family, as `last` is the newest run. Nothing in a picture
is fetched: rich's SVG names a font of another server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from terminal import until_closed  # noqa: E402

MOST_BYTES = 150_000

PAPER = TerminalTheme(
    (250, 250, 248),
    (36, 41, 47),
    [
        (36, 41, 47),
        (179, 29, 40),
        (17, 99, 41),
        (125, 78, 0),
        (3, 80, 168),
        (111, 45, 168),
        (8, 105, 124),
        (110, 119, 129),
    ],
    [
        (110, 119, 129),
        (207, 34, 46),
        (26, 127, 55),
        (154, 103, 0),
        (9, 105, 218),
        (130, 80, 223),
        (17, 130, 150),
        (87, 96, 106),
    ],
)
"""Read on a light page and on a dark one."""

TERMINALS = {
    "eval": (80, "doitune eval last", r"^ set [\s\S]*^ mean of 10 .*$"),
    "compare": (142, "doitune compare last", r"^ set [\s\S]*^ ethics .*$"),
    "plan": (112, "doitune plan own --model qwen3-8b-instruct --card 12gb", r"^own: [\s\S]*^largest .*$"),
    "growth": (150, "doitune report demo-quick --text", r"^demo-quick: [\s\S]*?(?=^Role-play)"),
    "advice": (100, "doitune advise demo-quick --total 640 --force", r"^ ability [\s\S]*^It costs .*?\)\."),
}
"""By name: columns, the command, and which part of what it says is shown."""


def said(command: str, columns: int) -> str:
    """What a command prints on a terminal of so many columns, its colours included."""
    reader, writer = os.openpty()
    words = [sys.executable, "-m", *command.split()]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", "LINES": "60"}
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(writer)
        seen = until_closed(reader)
    os.close(reader)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seen.decode("utf-8").replace("\r\n", "\n")


def terminal(name: str, columns: int, command: str, part: str) -> Path:
    """The picture of a command and of a part of what it says."""
    text = Text.from_ansi(said(command, columns))
    found = re.search(part, text.plain, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{command} says nothing like {part}")
    console = Console(
        file=StringIO(), record=True, width=columns, force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "dim"), (command.removesuffix(" --force"), "bold")))
    for line in text[found.start() : found.end()].split("\n"):
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    console.print()  # else the last line is cut at its feet
    drawn = console.export_svg(title="doitune", theme=PAPER, unique_id=name)
    path = HERE / f"{name}.svg"
    drawn = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    path.write_text(drawn, encoding="utf-8")
    return path


def report() -> Path | None:
    """The head of the report's page; None without Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "report.html"), Path(folder, "report.png")
        subprocess.run([sys.executable, "-m", "doitune", "report", "last", "--out", page], check=True)
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,1100"]
        subprocess.run(
            [browser, *flags, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True
        )
        return Path(shutil.copy(shot, HERE / "report.png"))


def main() -> None:
    """Make them all, and say how large they are."""
    made = [terminal(name, *about) for name, about in TERMINALS.items()]
    made += [one for one in [report()] if one]
    for path in made:
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
        if path.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{path.name} is too large to be shown in a page")


if __name__ == "__main__":
    main()
