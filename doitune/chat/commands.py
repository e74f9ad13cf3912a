"""What can be typed in a conversation beside questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from doitune.chat.conversation import Conversation, with_system
from doitune.chat.partner import Partner
from doitune.chat.session import Session
from doitune.errors import UsageError
from doitune.system.disk import append_line
from doitune.system.paths import from_home

Open = Callable[[str], Partner]
"""Loads another partner by its name."""


@dataclass(frozen=True)
class Command:
    """`obey` is given the session, what was typed behind the command, and how another partner is loaded; it
    says what was done. Errors: UsageError, and those of loading."""

    takes: str
    about: str
    obey: Callable[[Session, str, Open], str]


def obey(session: Session, line: str, open_other: Open) -> str:
    """Obey a line that begins with `/`; what was done, in words. Errors: those of `Command.obey`."""
    name, _, rest = line.strip().partition(" ")
    if name not in COMMANDS:
        raise UsageError(
            f"there is no command {name}",
            f"{', '.join(COMMANDS)}; a question that begins with / has a space before it",
        )
    return COMMANDS[name].obey(session, rest.strip(), open_other)


def _system(session: Session, text: str, _: Open) -> str:
    session.change(lambda said: Conversation(text, said.turns))
    if not text:
        return "there is no system text"
    why = session.partner.template.manner.no_system
    said = "the system text stands before the conversation"
    return f"{said}, in the first user turn: the template {why}" if why else said


def _reset(session: Session, text: str, _: Open) -> str:
    session.change(lambda said: Conversation(said.system))
    return "every turn is forgotten"


def _undo(session: Session, text: str, _: Open) -> str:
    if not session.said.turns:
        raise UsageError("there is no turn to take back", "ask something first")
    question = session.said.turns[-2].content
    session.change(Conversation.undone)
    return f"taken back: {question}"


def compare(session: Session, target: str, open_other: Open) -> str:
    """Ask `target` beside the session's partner; "" is the partner's own base, or, where something is asked
    beside it, nothing; `off` nothing. What was done, in words. Errors: those of `Command.obey`."""
    if target == "off" or (not target and len(session.sides) > 1):
        session.beside(None)
        return f"{session.partner.name} answers alone"
    if not target and not session.partner.adapted:
        raise UsageError(
            f"{session.partner.name} is a base itself: there is no other one below it",
            "name a run or a model: /compare TARGET",
        )
    session.beside(None)  # gone before the next is loaded
    session.beside(open_other(target) if target else session.partner.base())
    return " and ".join(side.partner.name for side in session.sides) + " answer side by side"


def _save(session: Session, name: str, _: Open) -> str:
    if not name:
        raise UsageError("/save needs the name of a file", "for example /save chats.jsonl")
    if not session.said.turns:
        raise UsageError("nothing was said yet", "ask something first")
    turns = with_system(session.said.system, session.said.turns)
    path = from_home(Path(name))
    append_line(path, {"messages": [{"role": one.role, "content": one.content} for one in turns]})
    return f"{len(turns)} turns are a row of {path} now"


def _help(session: Session, text: str, _: Open) -> str:
    return "\n".join(f"{f'{name} {one.takes}':24}{one.about}" for name, one in COMMANDS.items())


def _exit(session: Session, text: str, _: Open) -> str:
    raise EOFError


COMMANDS = {
    "/system": Command("[TEXT]", "what stands before the conversation from now on; alone: nothing", _system),
    "/reset": Command("", "forget every turn; the system text stays", _reset),
    "/undo": Command("", "take back the last question and its reply", _undo),
    "/compare": Command("[TARGET|off]", "ask the base, or another run or model, the same beside it", compare),
    "/save": Command("FILE", "add the conversation to a JSONL file, as a row to train on", _save),
    "/help": Command("", "these commands", _help),
    "/exit": Command("", "leave, as Ctrl-D does", _exit),
}
