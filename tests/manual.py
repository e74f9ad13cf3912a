"""The manual as tests read it: README and docs/, in English and Chinese, in sections and fenced blocks."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

STAMP = re.compile(r"<!-- en: ([0-9a-f]{10}) -->\n?")
"""Beside each Chinese section: which state of the English one it says."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """The English pages."""
    found = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
    assert len(found) > 10, "docs/ is not where this test looks for it"
    return found


def in_chinese(page: Path) -> Path:
    """The same page in Chinese."""
    return ROOT / "README.zh-CN.md" if page.name == "README.md" else DOCS / "zh-CN" / page.name


def every_page() -> list[Path]:
    """In both languages."""
    return [one for page in pages() for one in (page, in_chinese(page)) if one.exists()]


def shown(page: Path) -> str:
    """A page's name below the checkout."""
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line in the page."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def place(self) -> str:
        return f"{shown(self.page)}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, one[1], one[2], text.count("\n", 0, one.start()) + 2) for one in FENCE.finditer(text)
    ]
    return [one for one in found if language in (None, one.language)]


@dataclass(frozen=True)
class Section:
    """From one heading of the second level to the next; what stands before the first is the page's head."""

    title: str
    text: str

    @property
    def digest(self) -> str:
        """Of its title and text, blanks at the ends of lines left out."""
        lines = [line.rstrip() for line in (self.title, *STAMP.sub("", self.text).strip().split("\n"))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:10]

    @property
    def stamp(self) -> str | None:
        """The digest that stands in it."""
        found = STAMP.search(self.text)
        return found[1] if found else None


def sections(page: Path) -> list[Section]:
    """The head of a page and its sections."""
    found: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in page.read_text(encoding="utf-8").split("\n"):
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            found.append((line[3:].strip(), []))
        else:
            found[-1][1].append(line)
    return [Section(title, "\n".join(lines)) for title, lines in found]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text: rows of cells, without the line below the head."""
    found: list[list[list[str]]] = []
    before = False
    for line in FENCE.sub("", text).split("\n"):
        here = line.startswith("|")
        if here and not before:
            found.append([])
        if here and not re.fullmatch(r"[|\-: ]+", line):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        before = here
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `doitune ...` of a block of shell lines, as the program gets them."""
    joined = text.replace("\\\n", " ")
    for line in joined.split("\n"):
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            if word == "doitune" and (start == 0 or words[start - 1] in ("&&", "|", ";", "-m")):
                rest = words[start + 1 :]
                ends = [at for at, one in enumerate(rest) if one in ("&&", "|", ";", ">", "<")]
                yield rest[: ends[0]] if ends else rest


def inline(text: str) -> list[str]:
    """What stands between single backquotes, outside fenced blocks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCE.sub("", text))
