"""Text to HTML, escaped by construction: whatever is not `Html` is text, and only this module makes `Html`.

Texts of models, data and names can hold markup, scripts, secrets and hidden characters: markup is escaped,
secrets are left out, hidden characters are shown as their codes. The page has no scripts and no event
handlers, so there is nothing to escape for them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from doitune.system.secrets import redact
from doitune.system.visible import visible

CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""What a browser may load for the page: nothing but the style inside it."""

SHOWN_CHARACTERS = 1_500
"""Of one question, reply or recipe; longer ones are cut with a count."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_VOID = {"meta"}
_LOADING = ("src", "srcdoc", "action", "formaction")


class Html(str):
    """A piece of HTML; every text in it is escaped."""


def text(value: object) -> Html:
    """A text as the page shows it."""
    return Html(html.escape(visible(redact(str(value)))))


def percent(share: float) -> str:
    """A share of 0..1 in %, without the sign."""
    return f"{100 * share:.1f}"


def cut(value: str) -> str:
    """The text, or its first SHOWN_CHARACTERS and how long it is."""
    if len(value) <= SHOWN_CHARACTERS:
        return value
    return f"{value[:SHOWN_CHARACTERS]} … ({len(value):,} characters)"


def tag(element: str, *children: object, **attributes: object) -> Html:
    """An element. Children that are no `Html` are texts; a trailing `_` of an attribute is dropped, other `_`
    are hyphens.

    ValueError for an attribute that could run or load something: names are written in the program, never
    taken from data.
    """
    parts = []
    for name, value in attributes.items():
        written = name.rstrip("_").replace("_", "-")
        runs = written.lower().startswith("on")
        if runs or written in _LOADING or not _NAME.fullmatch(written):
            raise ValueError(f"the page has no attribute {written}")
        if written == "href" and not str(value).startswith("#"):
            raise ValueError("the page leads nowhere but to itself")
        parts.append(f' {written}="{text(value)}"')
    head = f"<{element}{''.join(parts)}>"
    return Html(head) if element in _VOID else Html(f"{head}{join(children)}</{element}>")


def join(children: Iterable[object]) -> Html:
    """Pieces one behind the other."""
    return Html("".join(child if isinstance(child, Html) else text(child) for child in children))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]], *, left: int = 1) -> Html:
    """A table whose first `left` columns are texts and whose others are figures."""

    def cells(kind: str, row: Iterable[object]) -> Html:
        return tag(
            "tr",
            *(tag(kind, cell, class_="text" if place < left else "figure") for place, cell in enumerate(row)),
        )

    body = [cells("td", row) for row in rows]
    return tag("div", tag("table", tag("thead", cells("th", columns)), tag("tbody", *body)), class_="wide")


def document(title: str, style: str, body: Html) -> str:
    """A whole page. `style` is the program's own."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"
