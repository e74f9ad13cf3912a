"""The turns of a row as messages: who may speak when, and what a turn may hold beside its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from doitune.data.jsonl import RowError, shown
from doitune.data.keys import THINKING, is_learnt
from doitune.data.message import Message, Role, split_thoughts
from doitune.data.other_formats import NOT_LEARNT
from doitune.data.tools import read_calls, read_tools

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_WRITE_MESSAGES = "write `messages`: a list of user and assistant turns"
_OTHER_FORMS = {
    frozenset({"instruction"}): "rows in Alpaca or ShareGPT form are declared in the recipe",
    frozenset({"conversations"}): "rows in Alpaca or ShareGPT form are declared in the recipe",
    frozenset(
        {"prompt", "completion"}
    ): "put the prompt into a user turn and the completion into an assistant turn of `messages`",
    **NOT_LEARNT,
}
"""What to do with rows of other trainers, by the keys that show them."""

_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_NEXT: Mapping[str, tuple[Role, ...]] = {
    "": ("user", "system"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("assistant", "tool"),
}
"""Who may speak after whom, first who is due. `call`: an assistant turn that calls tools; "": nobody yet."""

_MEDIA = {"image": "image", "video": "video", "audio": "audio", "file": "file"}
"""What the type of a part starts with, with or without `input_`, where it is no text."""


def read_messages(row: Mapping[str, object]) -> tuple[Message, ...]:
    """The turns of a row in our form, its system text and tools with them.

    Errors: RowError of kind messages, role, turn_order, content, empty, media, control_character, tools,
    tool_calls, thinking or mark.
    """
    turns = row.get("messages")
    if "messages" not in row:
        raise RowError(
            "messages",
            "no `messages`",
            next((hint for keys, hint in _OTHER_FORMS.items() if keys <= row.keys()), _WRITE_MESSAGES),
        )
    if not isinstance(turns, list):
        raise RowError(
            "messages",
            f"`messages` is {shown(turns)}, not a list of turns",
            "write a list of user and assistant turns",
        )
    if len(turns) < 2:
        problem = f"`messages` has {len(turns) or 'no'} turn{'' if turns else 's'}"
        raise RowError("messages", problem, "a row needs a user turn and an assistant turn at least")
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        messages.append(_message(turn, number, messages))
    if messages[-1].role != "assistant":
        problem = f"the last turn is the {messages[-1].role}'s"
        raise RowError("turn_order", problem, "end the row with the assistant's answer")
    return _with_row(row, messages)


def until_learnt(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns up to the last one that is learnt: those behind it stand before nothing that is trained."""
    last = max(
        (at for at, turn in enumerate(messages) if turn.role == "assistant" and turn.learnt), default=-1
    )
    if last < 0:
        raise RowError(
            "mark",
            "every assistant turn is marked as not learnt",
            "drop the row, or mark what is to be learnt",
        )
    return messages[: last + 1]


def _with_row(row: Mapping[str, object], messages: list[Message]) -> tuple[Message, ...]:
    """The turns with the system text and the tools that stand beside them in the row."""
    system = row.get("system")
    if system:
        if messages[0].role == "system":
            raise RowError(
                "role", "`system` of the row and a system turn: two system texts", "keep one of them"
            )
        messages.insert(0, Message("system", _checked_text(system, "`system`")))
    tools = read_tools(row.get("tools"))
    return (replace(messages[0], tools=tools), *messages[1:]) if tools else tuple(messages)


def _message(turn: object, number: int, before: list[Message]) -> Message:
    if not isinstance(turn, dict):
        raise RowError(
            "messages", f"turn {number} is {shown(turn)}, not an object", 'write {"role": …, "content": …}'
        )
    role = _role(turn, number, before[-1] if before else None)
    learnt = is_learnt(turn, role, number)
    if role != "assistant":
        text = _text(turn, number, may_be_empty=role != "user")
        if role != "tool":
            return Message(role, text)
        return Message(role, text, name=_name(turn, "name"), call_id=_call_id(turn, number, before))
    calls = read_calls(turn.get("tool_calls"), number)
    content = _text(turn, number, may_be_empty=bool(calls))
    thinking = _thinking(turn, content, number)
    return Message(role, content, learnt, thinking, calls)


def _role(turn: Mapping[str, object], number: int, last: Message | None) -> Role:
    """Who speaks. RowError where nobody is named, or another is due."""
    role = turn.get("role")
    if role not in _ROLES:
        said = shown(turn.get("role")) if "role" in turn else "missing"
        known = f"{', '.join(f'`{one}`' for one in _ROLES[:-1])} and `{_ROLES[-1]}`"
        raise RowError("role", f"the role of turn {number} is {said}", f"roles are {known}")
    due = _NEXT[("call" if last.calls else last.role) if last else ""]
    if role in due:
        return role
    if role == "system":
        raise RowError(
            "turn_order",
            f"turn {number} is a system text behind other turns",
            "one system text stands first: put this one into the user turn that follows it",
        )
    if role == "tool":
        raise RowError(
            "turn_order",
            f"turn {number} is a tool's result, but no call stands before it",
            "write the call as `tool_calls` of the assistant turn before it",
        )
    hint = "user and assistant take turns, the user first"
    hint = "a call is followed by the results of its tools" if due[0] == "tool" else hint
    raise RowError("turn_order", f"turn {number} is the {role}'s, the {due[0]}'s is due", hint)


def _text(turn: Mapping[str, object], number: int, *, may_be_empty: bool) -> str:
    """The text of a turn: a text, or a list of parts, which stand on lines of their own."""
    content = turn.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(part, number) for part in content)
    if content is None and may_be_empty:
        return ""
    if not isinstance(content, str):
        said = shown(content) if "content" in turn else "missing"
        raise RowError(
            "content",
            f"the content of turn {number} is {said}, not a text",
            "write the text, or drop the row",
        )
    if not content.strip().strip(_INVISIBLE) and not may_be_empty:
        raise RowError(
            "empty", f"turn {number} says nothing ({shown(content)})", "write the text, or drop the row"
        )
    return _checked_text(content, f"turn {number}")


def _checked_text(text: object, what: str) -> str:
    """A text without control characters."""
    if not isinstance(text, str):
        raise RowError("content", f"{what} is {shown(text)}, not a text", "write the text, or drop the row")
    if control := _CONTROL.search(text):
        code, at = ord(control[0]), control.start() + 1
        raise RowError(
            "control_character",
            f"{what} has the control character U+{code:04X} at character {at}",
            "delete it",
        )
    return text


def _part(part: object, number: int) -> str:
    """The text of one part of a turn."""
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else None
    if isinstance(text, str) and kind in ("text", "input_text", "output_text"):
        return text
    named = str(kind).removeprefix("input_")
    if medium := next((word for start, word in _MEDIA.items() if named.startswith(start)), ""):
        raise RowError(
            "media", f"turn {number} holds a part of type {shown(kind)}: {medium}s are not read",
            "doitune trains on text alone: drop the row",
        )  # fmt: skip
    raise RowError(
        "content",
        f"a part of turn {number} is {shown(part)}, not a part of text",
        'write it as {"type": "text", "text": …}, or drop the row',
    )


def _thinking(turn: Mapping[str, object], content: str, number: int) -> str:
    """The thoughts that stand in a field of their own."""
    said = {key: turn[key] for key in THINKING if turn.get(key)}
    if len(said) > 1 and len(set(map(str, said.values()))) > 1:
        raise RowError("thinking", f"{', '.join(said)} of turn {number} disagree", "keep one of them")
    for key, text in said.items():
        if split_thoughts(content)[0]:
            raise RowError(
                "thinking", f"turn {number} has `{key}` and thoughts in its content", "keep one of the two"
            )
        return _checked_text(text, f"`{key}` of turn {number}")
    return ""


def _name(turn: Mapping[str, object], key: str) -> str:
    value = turn.get(key)
    return value if isinstance(value, str) else ""


def _call_id(turn: Mapping[str, object], number: int, before: list[Message]) -> str:
    """The call that a result answers. RowError where no call has its id."""
    found = _name(turn, "tool_call_id")
    last = next((one for one in reversed(before) if one.calls), None)
    known = [call.id for call in last.calls if call.id] if last else []
    if found and known and found not in known:
        raise RowError(
            "tool_calls",
            f"turn {number} is the result of call {shown(found)}, which is not among {', '.join(known)}",
            "write the call's `id` as the result's `tool_call_id`",
        )
    return found
