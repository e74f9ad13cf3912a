"""What a base's own chat template knows to write beside the turns of user and assistant: found by rendering
probes, each when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doitune.errors import ModelError

Turn = Mapping[str, Any]
"""One turn as a template takes it."""

SYSTEM, ASKED, ANSWERED = "Speak like probe 4711.", "A question of the probe.", "An answer of the probe."
RESULT, THOUGHT = "result 8123 of the probe", "A thought of the probe."
_NAME, _KEY, _VALUE = "probe_tool", "probe_place", "value 5309"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A tool of the probe.",
        "parameters": {
            "type": "object",
            "properties": {_KEY: {"type": "string", "description": "A place."}},
            "required": [_KEY],
        },
    },
}
_USER, _ASSISTANT = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
_ODD_ARGUMENTS = re.compile(rf"""\\["']{_KEY}|'{_KEY}'\s*:""")
"""Arguments that were written as a text within a text, or as Python shows a dict."""


@dataclass(frozen=True)
class CallForm:
    """How a template takes calls: `arguments_as_text`, else as an object; `empty`: the content of a turn that
    says nothing beside them; `ids`: whether it wants one for each call."""

    arguments_as_text: bool
    empty: str | None
    ids: bool


CALL_FORMS = [
    CallForm(text, empty, ids) for ids in (False, True) for empty in ("", None) for text in (False, True)
]
"""In the order in which they are tried; the first that is written rightly is taken."""

CALL_ID = "call{:05d}"
"""An id of nine letters and digits (Mistral's templates take no other)."""


@dataclass(frozen=True)
class Probe:
    """One template, tried. `texts` renders chats (see `Renderer.texts`)."""

    texts: Callable[[Sequence[tuple[Sequence[Turn], bool, Any]]], list[str]]

    def text(self, *turns: Turn, opened: bool = False, tools: Any = None) -> str:
        """The text of one chat; "" where the template refuses it."""
        try:
            return self.texts([(turns, opened, tools)])[0]
        except ModelError:
            return ""


class Repertoire(Probe):
    """Beside tools: a system text, and thoughts."""

    @cached_property
    def tools(self) -> ToolRepertoire:
        return ToolRepertoire(self.texts)

    @cached_property
    def no_system(self) -> str:
        """Why a system text cannot stand in a turn of its own; "" where it can."""
        system = {"role": "system", "content": SYSTEM}
        if SYSTEM not in self.text(system, _USER, opened=True):
            return "has no system turn"
        if self._is_lawful(_USER) and not self._is_lawful(system, _USER):
            return "moves a system text from turn to turn"
        return ""

    def _is_lawful(self, *question: Turn) -> bool:
        """Whether a chat goes on as its first question was asked."""
        asked = self.text(*question, opened=True)
        longer = self.text(*question, _ASSISTANT, _USER, opened=True)
        return bool(asked) and longer.startswith(asked)

    @cached_property
    def thoughts_key(self) -> str:
        """The key under which it reads an assistant turn's thoughts; "" where it reads none."""
        keys = ("reasoning_content", "thinking")
        return next((key for key in keys if THOUGHT in self.text(_USER, {**_ASSISTANT, key: THOUGHT})), "")

    @cached_property
    def reads_inline(self) -> bool:
        """Whether thoughts in `<think>` may stay in the text: not where the template writes these marks
        around those under its key, and does otherwise with a text."""
        keyed = self.text(_USER, {**_ASSISTANT, self.thoughts_key: THOUGHT}) if self.thoughts_key else ""
        return "<think>" not in keyed or keyed == self.text(
            _USER, {**_ASSISTANT, "content": inline(THOUGHT, ANSWERED)}
        )

    @cached_property
    def keeps_earlier_thoughts(self) -> bool:
        """Whether it writes the thoughts of a turn that another question follows."""
        key = self.thoughts_key
        thinker = {**_ASSISTANT, **({key: THOUGHT} if key else {"content": inline(THOUGHT, ANSWERED)})}
        return THOUGHT in self.text(_USER, thinker, _USER, _ASSISTANT)


class ToolRepertoire(Probe):
    """Tools, calls of them, and what they answer."""

    @cached_property
    def offers(self) -> bool:
        """Whether it writes the tools that are offered."""
        text = self.text(_USER, opened=True, tools=[_TOOL])
        return _NAME in text and _KEY in text

    @cached_property
    def call_form(self) -> CallForm | None:
        """How it takes calls of tools; None where it writes none."""
        return next((form for form in CALL_FORMS if self._writes_call(form)), None)

    def _writes_call(self, form: CallForm) -> bool:
        text = self.text(_USER, probe_call(form), tools=self._tools)
        return all(part in text for part in (_NAME, _KEY, _VALUE)) and not _ODD_ARGUMENTS.search(text)

    @property
    def _tools(self) -> Any:
        return [_TOOL] if self.offers else None

    @cached_property
    def writes_results(self) -> bool:
        """Whether it writes what a tool has answered."""
        if self.call_form is None:
            return False
        result = {"role": "tool", "content": RESULT, "name": _NAME, "tool_call_id": CALL_ID.format(0)}
        return RESULT in self.text(_USER, probe_call(self.call_form), result, opened=True, tools=self._tools)


def probe_call(form: CallForm) -> dict[str, Any]:
    """An assistant turn that calls the tool of the probe."""
    arguments = f'{{"{_KEY}": "{_VALUE}"}}' if form.arguments_as_text else {_KEY: _VALUE}
    call = {"type": "function", "function": {"name": _NAME, "arguments": arguments}}
    calls = [{"id": CALL_ID.format(0), **call} if form.ids else call]
    return {"role": "assistant", "content": form.empty, "tool_calls": calls}


def inline(thoughts: str, answer: str) -> str:
    """Thoughts before an answer, in the text."""
    return f"<think>\n{thoughts.strip()}\n</think>\n\n{answer.strip()}"
