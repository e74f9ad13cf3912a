"""What a template is given of a conversation: its system text, its tools and its thoughts as the template can
write them. What it cannot write is refused, with the row.

Nothing depends on the last assistant turn, so that a question is given as the whole conversation was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from doitune.data.message import Message, ToolCall, split_thoughts
from doitune.errors import DataError
from doitune.prompt.repertoire import CALL_ID, CallForm, Repertoire, inline
from doitune.system.units import several

Thinking = Literal["auto", "keep", "drop", "last"]
Learn = Literal["all", "last"]

_TOOLS_CURE = (
    "take a model whose own chat template knows tools (--set prompt.template=model), or drop the row's tools"
)
_SHORT_ID = re.compile("[A-Za-z0-9]{9}")
_MARK = re.compile("</?think>")


@dataclass(frozen=True)
class Manner:
    """How a template speaks. `repertoire`: what the base's own knows to write; None for the recipe's, which
    knows users and assistants alone. `thinking`, `learn`: the recipe's `prompt.thinking` and `prompt.learn`.
    """

    repertoire: Repertoire | None
    thinking: Thinking = "auto"
    learn: Learn = "all"

    @property
    def no_system(self) -> str:
        """Why a system text is put into the first user turn; "" where it has a turn of its own."""
        return self.repertoire.no_system if self.repertoire else "has no system turn"

    @property
    def thoughts_key(self) -> str:
        """The key of an assistant turn's thoughts; "" where they stand in its text."""
        return self.repertoire.thoughts_key if self.repertoire else ""


def spoken(messages: Sequence[Message], manner: Manner, place: str = "") -> tuple[Message, ...]:
    """The conversation as a template writes it: a system text that has no turn of its own in the first user
    turn, thoughts as `prompt.thinking` says. Errors: DataError for what the template cannot write."""
    found = tuple(messages)
    if any(one.tools or one.calls or one.role == "tool" for one in found):
        _refuse_tools(found, manner.repertoire, place)
    if found[0].role == "system" and manner.no_system:
        found = _merged(found)
    if any(one.thinking or "<think>" in one.content for one in found if one.role == "assistant"):
        found = _with_thoughts(found, manner, place)
    if manner.learn == "last":
        found = (*(replace(one, learnt=one.role != "assistant") for one in found[:-1]), found[-1])
    return found


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system text before the first user's, an empty line between them."""
    system, user, *others = messages
    text = "\n\n".join(part for part in (system.content.strip(), user.content.strip()) if part)
    return (replace(user, content=text, tools=system.tools), *others)


def _refuse_tools(messages: tuple[Message, ...], known: Repertoire | None, place: str) -> None:
    """DataError where a row has tools, calls or results that the template does not write."""
    tools = known.tools if known else None
    whose = "the base's own chat template" if known else "the recipe's template (prompt.template: doit)"

    def refused(what: str) -> DataError:
        return DataError(f"this row has {what}, which {whose} does not write", _TOOLS_CURE, place=place)

    if messages[0].tools and not (tools and tools.offers):
        raise refused("`tools`")
    if any(one.calls for one in messages) and not (tools and tools.call_form):
        raise refused("calls of tools")
    if any(one.role == "tool" for one in messages) and not (tools and tools.writes_results):
        raise refused("results of tools")


def _with_thoughts(messages: tuple[Message, ...], manner: Manner, place: str) -> tuple[Message, ...]:
    """Each assistant turn with its thoughts where they belong, or without."""
    asked = last_question(messages)
    found = []
    for at, one in enumerate(messages):
        if one.role == "assistant":
            if manner.thinking == "drop" or (manner.thinking == "last" and at < asked):
                one = _silent(one, place)
            else:
                one = _placed(one, manner)
            if manner.thinking == "keep" and at < asked:
                _refuse_lost(one, manner.repertoire, place)
        found.append(one)
    return tuple(found)


def _placed(message: Message, manner: Manner) -> Message:
    """The turn with its thoughts where the template reads them: under a key, or in the text."""
    if message.thinking and not manner.thoughts_key:
        return replace(message, content=inline(message.thinking, message.content), thinking="")
    if message.thinking or not manner.repertoire or manner.repertoire.reads_inline:
        return message
    thoughts, answer = split_thoughts(message.content)
    return replace(message, content=answer, thinking=thoughts) if thoughts else message


def last_question(messages: Sequence[Message]) -> int:
    """The place of the last user turn."""
    return max(at for at, one in enumerate(messages) if one.role == "user")


def _silent(message: Message, place: str) -> Message:
    answer = split_thoughts(message.content)[1]
    if not answer.strip() and not message.calls:
        raise DataError(
            "an assistant turn of this row holds thoughts alone: without them nothing is left",
            "write the answer behind the thoughts, or keep them: --set prompt.thinking=keep",
            place=place,
        )
    return replace(message, content=answer, thinking="")


def _refuse_lost(message: Message, known: Repertoire | None, place: str) -> None:
    """DataError where the template takes out thoughts that are to be kept, of a turn that another question
    follows."""
    thinks = message.thinking or split_thoughts(message.content)[0]
    if thinks and known and not known.keeps_earlier_thoughts:
        raise DataError(
            "prompt.thinking is keep, but the base's own chat template takes the thoughts out of a turn that "
            "another question follows",
            "let it: --set prompt.thinking=auto; or take the recipe's: --set prompt.template=doit",
            place=place,
        )


def say_spoken(conversations: Iterable[Sequence[Message]], manner: Manner) -> tuple[str, ...]:
    """A sentence for each thing that rows say otherwise than they are written, and how many rows do."""
    merged, inlined, lost = 0, 0, 0
    for messages in conversations:
        merged += messages[0].role == "system" and bool(manner.no_system)
        thinkers = [at for at, one in enumerate(messages) if one.thinking or split_thoughts(one.content)[0]]
        inlined += any(messages[at].thinking for at in thinkers) and not manner.thoughts_key
        lost += _loses(messages, thinkers, manner)
    how = "as the base's own chat template does" if manner.thinking == "auto" else "as the recipe says"
    notes = {
        f"the system text of {several(merged, 'row')} is put into the first user turn: the template "
        f"{manner.no_system}": merged,
        f"thoughts are written into the answer, in <think> ({several(inlined, 'row')})": inlined,
        f"thoughts are left out of answers in {several(lost, 'row')}, {how} "
        f"(prompt.thinking: {manner.thinking})": lost,
    }
    return tuple(note for note, count in notes.items() if count)


def _loses(messages: Sequence[Message], thinkers: Sequence[int], manner: Manner) -> bool:
    """Whether thoughts are left out of a conversation's answers, which stand at `thinkers`."""
    if not thinkers or manner.thinking == "drop":
        return bool(thinkers)
    if thinkers[0] > last_question(messages):
        return False
    known = manner.repertoire
    return manner.thinking == "last" or (known is not None and not known.keeps_earlier_thoughts)


def as_turns(messages: Sequence[Message], manner: Manner) -> tuple[list[dict[str, Any]], Any]:
    """The turns and the tools of a conversation that is `spoken`, as templates take them; None without
    tools."""
    tools = json.loads(messages[0].tools) if messages and messages[0].tools else None
    if tools is None and all(one.role in ("user", "system") or _is_plain(one) for one in messages):
        return [{"role": one.role, "content": one.content.strip()} for one in messages], None
    assert manner.repertoire is not None
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for one in messages:
        turns.append(_turn(one, manner.repertoire, names))
    return turns, tools


def _is_plain(message: Message) -> bool:
    return message.role == "assistant" and not message.calls and not message.thinking


def _turn(message: Message, known: Repertoire, names: dict[str, str]) -> dict[str, Any]:
    """One turn. `names`: of the calls before it that have no result yet, the ids that the template is given,
    by the row's."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content.strip()}
    if message.thinking:
        turn[known.thoughts_key] = message.thinking.strip()
    if message.name:
        turn["name"] = message.name
    if message.role == "tool" and (
        name := names.pop(message.call_id, "") or _first(names) or message.call_id
    ):
        turn["tool_call_id"] = name
    if message.calls:
        form = known.tools.call_form
        assert form is not None
        turn["content"] = turn["content"] or form.empty
        ids = [_id(call.id, number, form) for number, call in enumerate(message.calls)]
        names.clear()
        if form.ids:
            names.update((call.id or name, name) for call, name in zip(message.calls, ids, strict=True))
        turn["tool_calls"] = [_call(*pair, form) for pair in zip(message.calls, ids, strict=True)]
    return turn


def _first(names: dict[str, str]) -> str:
    """The id of the first call that has no result yet; "" where calls have none."""
    return names.pop(next(iter(names))) if names else ""


def _id(given: str, number: int, form: CallForm) -> str:
    """The id of a call: the row's own, but where the template wants nine characters and it has others."""
    return CALL_ID.format(number) if form.ids and not _SHORT_ID.fullmatch(given) else given


def _call(call: ToolCall, name: str, form: CallForm) -> dict[str, Any]:
    arguments = call.arguments if form.arguments_as_text else json.loads(call.arguments)
    function = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": name, **function} if name else function


def says(text: str, message: Message, *, may_lose_thoughts: bool) -> bool:
    """Whether a trained text is what an assistant turn says: its words, with the thoughts before them or,
    where it may lose them, without; of calls their names and the names of their arguments."""
    if not (message.calls or message.thinking) and text.strip() == message.content.strip():
        return True
    bare, answer = _bare(text), _bare(split_thoughts(message.content)[1])
    whole = _bare(inline(message.thinking, message.content) if message.thinking else message.content)
    if not message.calls:
        return bare == whole or (may_lose_thoughts and bare == answer)
    said = [call.name for call in message.calls]
    said += [key for call in message.calls for key in json.loads(call.arguments)]
    return (answer if may_lose_thoughts else whole) in bare and all(part in text for part in said)


def _bare(text: str) -> str:
    """A text without the marks of thinking and the blanks around them."""
    return "\n".join(part.strip() for part in _MARK.split(text)).strip()
