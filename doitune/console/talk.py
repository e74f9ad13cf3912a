"""A conversation on a terminal: lines are edited, replies are shown as they are written."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from doitune.console.screen import note, safe, show_error
from doitune.errors import DoituneError
from doitune.system.secrets import known
from doitune.system.signals import Break

if TYPE_CHECKING:
    from doitune.chat.commands import Open
    from doitune.chat.partner import Partner
    from doitune.chat.reply import Reply, Style
    from doitune.chat.session import Said, Session

PROMPT = "> "

_WORD = re.compile(r"[!-~]*\u200d?\Z")
"""The end of a text that may go on as a longer word, in which a secret could stand, or as a longer emoji."""

_BEGUN = 40
"""Characters of a token by which `safe` knows it, at most; more of a long word is not held back."""

_ENDLESS = re.compile(r"://|eyJ")
"""What begins a secret that may show itself only after any number of characters."""


class SafeWriter:
    """Writes a text that comes in pieces as `safe` writes the whole: only what no later piece can change."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self._line, self._shown = "", 0

    def take(self, piece: str) -> None:
        """A next piece."""
        *whole, line = (self._line + piece).split("\n")
        for one in whole:
            self.write(safe(one)[self._shown :] + "\n")
            self._shown = 0
        self._line = line
        self._show(line[: _sure(line)])

    def end(self) -> None:
        """Nothing more comes."""
        self._show(self._line)
        self._line, self._shown = "", 0

    def _show(self, sure: str) -> None:
        if len(safe(sure)) > self._shown:
            self.write(safe(sure)[self._shown :])
            self._shown = len(safe(sure))


def _sure(line: str) -> int:
    """How many characters of a line can be shown: up to its last word, and the start of a long one."""
    word = len(line) - len(_WORD.search(line)[0])  # type: ignore[index]  # it matches always
    long = len(line) - max([_BEGUN, *map(len, known()[:1])])
    if long <= word or _ENDLESS.search(line, word):
        return word
    return long if safe(line).startswith(safe(line[:long])) else word


class Screen:
    """Shows replies as they come. `figures`: a line after each says how much was written, and how fast."""

    def __init__(self, stopping: Break, *, figures: bool) -> None:
        self.stopping, self.figures = stopping, figures
        self._writer, self._begun = SafeWriter(_put), False

    def begins(self, name: str) -> None:
        """See `Listener`."""
        if name:
            _put(f"{safe(name)}:\n")
        self._writer, self._begun = SafeWriter(_put), False

    def text(self, piece: str) -> None:
        """See `Listener`; spaces before the first word are not shown."""
        piece = piece if self._begun else piece.lstrip()
        self._begun = self._begun or bool(piece)
        self._writer.take(piece)

    def ends(self, reply: Reply, dropped: int) -> None:
        """See `Listener`."""
        self._writer.end()
        _put("\n")
        if not self._begun and reply.finish == "stop":
            note("an empty reply: the model ended its turn at once")
        if dropped:
            note(f"the oldest {dropped} turns no longer fit the context and were left out")
        if self.figures:
            note(figures(reply))

    def over(self) -> bool:
        """See `Listener`."""
        return self.stopping.asked()


def figures(reply: Reply) -> str:
    """How much was written, how fast, and why it ended where that is not the model's own end."""
    speed = reply.tokens / reply.seconds if reply.seconds else 0.0
    ended = {"stop": "", "length": "; cut at its longest", "broken off": "; broken off"}[reply.finish]
    return f"{reply.prompt_tokens} + {reply.tokens} tokens, {speed:.1f} tokens/s{ended}"


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def converse(session: Session, open_other: Open) -> None:
    """Ask what is typed until the reader leaves: by Ctrl-D, or /exit. Ctrl-C ends a reply."""
    stopping = Break()
    screen = Screen(stopping, figures=True)
    note("/help lists the commands, Ctrl-C ends a reply, Ctrl-D leaves")
    with stopping.heard():
        read = _reader()
        while True:
            try:
                line = read()
            except EOFError:
                return
            except KeyboardInterrupt:
                note("Ctrl-D or /exit leaves")
                continue
            try:
                if line.strip():
                    _answer(session, line, screen, open_other)
            except EOFError:
                return


def _answer(session: Session, line: str, screen: Screen, open_other: Open) -> None:
    """One line of the reader's: a command, or a question. EOFError where the reader leaves."""
    from doitune.chat.commands import obey

    try:
        with screen.stopping.piece():
            if line.startswith("/"):
                note(obey(session, line, open_other))
            elif len(session.ask(line, screen)) < len(session.sides):
                note("the turn is not kept: not every side has answered")
    except KeyboardInterrupt:
        _put("\n")
        note("stopped; the turn is not kept")
    except DoituneError as error:
        if error.kind == "stopped":
            raise
        show_error(error, as_json=False)


def _reader() -> Callable[[], str]:
    """Reads a line: edited, with those of before, by prompt_toolkit; plainly on a terminal that cannot move
    its cursor."""
    if os.environ.get("TERM", "dumb") == "dumb" or importlib.util.find_spec("prompt_toolkit") is None:
        return lambda: input(PROMPT)
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.key_binding import KeyBindings

    from doitune.chat.commands import COMMANDS

    keys = KeyBindings()
    keys.add("enter")(lambda event: event.current_buffer.validate_and_handle())
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    completer = WordCompleter(list(COMMANDS), sentence=True)
    session: Any = PromptSession(
        completer=completer, complete_while_typing=False, key_bindings=keys, multiline=True
    )
    return lambda: str(session.prompt(PROMPT))


class Unseen(Screen):
    """Shows nothing: what was said is a document later."""

    def __init__(self) -> None:
        super().__init__(Break(), figures=False)

    def begins(self, name: str) -> None:
        pass

    def text(self, piece: str) -> None:
        pass

    def ends(self, reply: Reply, dropped: int) -> None:
        pass


def follow(session: Session, turns: Sequence[str], open_other: Open | None, *, shown: bool) -> list[Said]:
    """Ask each turn of a script, up to its /exit; those that begin with / are commands where another partner
    may be loaded. All that was said."""
    from doitune.chat.commands import obey

    screen = Screen(Break(), figures=False) if shown else Unseen()
    found: list[Said] = []
    with suppress(EOFError):
        for line in turns:
            if line.startswith("/") and open_other is not None:
                note(obey(session, line, open_other))
            elif line.strip():
                found += session.ask(line, screen)
    return found


def introduce(partners: Sequence[Partner], style: Style) -> None:
    """Who answers, and how, on stderr."""
    from doitune.chat.sampling import in_words

    for one in partners:
        note("; ".join([one.name, *one.notes]))
    drawn, first = in_words(style.sampling), partners[0]
    own = style.sampling == replace(first.own, seed=style.sampling.seed)
    note(f"{drawn} ({first.own_why})" if own else drawn)


def record(session: Session, said: Sequence[Said]) -> Mapping[str, Any]:
    """What was said, as `--json` gives it."""
    style = session.style
    return {
        "target": session.partner.name,
        "sampling": asdict(style.sampling),
        "max_new_tokens": style.max_new_tokens,
        "replies": [_reply(one) for one in said],
    }


def _reply(said: Said) -> Mapping[str, Any]:
    reply = said.reply
    return {
        "target": said.name,
        "prompt": said.question,
        "text": reply.text,
        "finish": reply.finish,
        "prompt_tokens": reply.prompt_tokens,
        "tokens": reply.tokens,
        "dropped_turns": said.dropped,
        "seconds": round(reply.seconds, 3),
    }
