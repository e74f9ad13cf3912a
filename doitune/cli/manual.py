"""`doitune help`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doitune.cli import completion
from doitune.cli.options import Json
from doitune.errors import UsageError

if TYPE_CHECKING:
    from doitune.console.manual import Language, Topic

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TOPIC]", help="A page of the manual, or a command.", autocompletion=completion.topics
    ),
]


def manual(
    ctx: typer.Context,
    topic: Words = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="en|zh", help="Default: the locale's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the manual: the list of its pages, one of them, or the options of a command.

    Example: doitune help evaluation
    """
    from doitune.console import manual, screen

    found = manual.topics(_language(language))
    words = topic or []
    page = next((one for one in found if [one.name] == words), None)
    if not words and as_json:
        listed = [{"name": one.name, "title": one.title, "answers": one.answers} for one in found]
        screen.show_json({"schema": "doitune.help/1", "topics": listed})
    elif not words:
        manual.show_topics(found)
    elif page is None:
        screen.say(_options(ctx, words, found))
    elif as_json:
        screen.show_json({"schema": "doitune.help/1", "name": page.name, "text": manual.text_of(page)})
    else:
        manual.show_page(page)


def _language(asked: str | None) -> Language:
    """What was asked for, else the locale's. UsageError for another one."""
    from doitune.console.manual import locale_language

    if asked is None:
        return locale_language()
    if asked[:2] not in ("en", "zh"):
        raise UsageError(f"the manual is not written in {asked!r}", "--language en, or --language zh")
    return "zh" if asked.startswith("zh") else "en"


def _options(ctx: typer.Context, words: list[str], pages: Sequence[Topic]) -> str:
    """The help of the command that words name. UsageError with the nearest name."""
    above: Any = ctx.find_root()
    command: Any = above.command
    for depth, word in enumerate(words):
        known = getattr(command, "commands", {})
        if word not in known:
            said = " ".join(words[: depth + 1])
            names = [*(" ".join((*words[:depth], one)) for one in known), *(page.name for page in pages)]
            raise UsageError(
                f"no page and no command {said!r}", _nearest(said, names) or _telling(said, pages)
            )
        command = known[word]
        above = command.make_context(word, [], parent=above, resilient_parsing=True)
    return str(command.get_help(above))


def _nearest(word: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word.lower()[:80], names, 1, 0.5)
    return f"did you mean `doitune help {near[0]}`?" if near else ""


def _telling(word: str, pages: Sequence[Topic]) -> str:
    """The page that says a word most often."""
    times = {page.name: page.path.read_text(encoding="utf-8").lower().count(word.lower()) for page in pages}
    most = max(times, key=lambda name: times[name])
    return f"`doitune help {most}` speaks of it" if times[most] else "`doitune help` lists the pages"
