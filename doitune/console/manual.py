"""The manual's pages, `docs/` of the checkout or of the wheel: styled on a terminal, as they are written in a
pipe."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from doitune.console.screen import out, safe, say, show_table

Language = Literal["en", "zh"]

CHINESE = "zh-CN"
"""The folder of the Chinese pages, below the English ones."""
MOST_COLUMNS = 110
"""Wider lines are hard to read."""


@dataclass(frozen=True)
class Topic:
    """A page: its name, its title, what it answers."""

    name: str
    title: str
    answers: str
    path: Path


def docs_folder() -> Path:
    """The pages: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "docs" if (package / "docs").is_dir() else package.parent / "docs"


def locale_language() -> Language:
    """Chinese where the locale is. Source: POSIX's order of the variables."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.startswith("zh") else "en"


def topic_names() -> list[str]:
    """The names of the pages."""
    return sorted(path.stem for path in docs_folder().glob("*.md"))


def topics(language: Language) -> tuple[Topic, ...]:
    """The pages; one that is not translated is the English one."""
    found = []
    for name in topic_names():
        path = docs_folder() / f"{name}.md"
        chinese = docs_folder() / CHINESE / f"{name}.md"
        if language == "zh" and chinese.is_file():
            path = chinese
        title, _, answers = path.read_text(encoding="utf-8").split("\n", 3)[:3]
        found.append(Topic(name, title.removeprefix("# "), answers, path))
    return tuple(found)


def text_of(topic: Topic) -> str:
    """A page without what only a browser or a translator reads: pictures, comments, links between pages."""
    text = re.sub(r"<!--.*?-->\n?", "", topic.path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]*)\]\((?!http)[^)]*?([\w-]+)\.md(?:#[^)]*)?\)", _link, text)


def _link(found: re.Match[str]) -> str:
    """A link to another page as what to type, to any other file as its name."""
    said, name = found[1], found[2]
    if name not in topic_names():
        return said
    return f"`doitune help {name}`" if said == name else f"{said} (`doitune help {name}`)"


def show_topics(found: Sequence[Topic]) -> None:
    """The list of pages."""
    show_table(["topic", "what it answers"], [[one.name, one.answers] for one in found])
    say("`doitune help TOPIC` shows a page, `doitune help COMMAND` a command's options")


def show_page(topic: Topic) -> None:
    """A page; on a terminal through the reader's own pager."""
    screen = out()
    if not screen.is_terminal:
        say(text_of(topic).rstrip())
        return
    from rich.markdown import Markdown
    from rich.theme import Theme

    screen.width = min(screen.width, MOST_COLUMNS)
    # rich's own has black behind code, which is a bar on a light terminal
    theme = Theme({"markdown.code": "bold cyan", "markdown.code_block": "cyan"})
    with screen.use_theme(theme), screen.capture() as captured:
        screen.print(Markdown(safe(text_of(topic)), code_theme="ansi_dark", hyperlinks=False))
    _page("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _page(text: str) -> None:
    """Text that is ours, with its colours, through the pager; Ctrl-C is the pager's meanwhile."""
    import pydoc
    import signal

    os.environ.setdefault("LESS", "-FRX")  # colours, and no pager for what fits the screen; as git does
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pydoc.pager(text)
    finally:
        signal.signal(signal.SIGINT, before)
