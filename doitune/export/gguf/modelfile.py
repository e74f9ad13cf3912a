"""Ollama's Modelfile beside a GGUF. Its templates are another language than jinja, so the texts around the
turns are read off the chat template and written anew; on how many chats that comes to the same text is
counted.

Source: Ollama's docs, Modelfile and template pages. Written for it, not tried in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.data.example import Message
from doitune.errors import ModelError
from doitune.export.tokenizer import rendered_text

if TYPE_CHECKING:
    from doitune.prompt.template import Template

MODELFILE = "Modelfile"

ROLES = ("system", "user", "assistant")
_MARKS = ("\u0001one\u0001", "\u0001two\u0001", "\u0001three\u0001")


@dataclass(frozen=True)
class Frame:
    """What a chat template writes around the contents of turns. `between`: by the role before ("" at the
    start) and the role after; `opened`: after a last user turn, before the reply."""

    between: dict[tuple[str, str], str]
    opened: str

    def text(self, messages: Sequence[Message]) -> str:
        """A question as the Modelfile's template writes it."""
        before, found = "", []
        for one in messages:
            found += [self.between.get((before, one.role), ""), one.content]
            before = one.role
        return "".join((*found, self.opened))


def read_frame(template: Template) -> Frame:
    """The frame of a chat template, read off chats of marked contents. ModelError where it writes them
    otherwise."""
    first, second, third = _MARKS
    plain = _pieces(template, [("user", first), ("assistant", second), ("user", third)])
    between = {("", "user"): plain[0], ("user", "assistant"): plain[1], ("assistant", "user"): plain[2]}
    told = _pieces(template, [("system", first), ("user", second)])
    between |= {("", "system"): told[0], ("system", "user"): told[1]}
    return Frame(between, plain[3])


def _chat(turns: Sequence[tuple[str, str]]) -> list[Message]:
    return [Message(role, content) for role, content in turns]  # type: ignore[arg-type]


def _pieces(template: Template, turns: Sequence[tuple[str, str]]) -> list[str]:
    """What stands before, between and after the contents."""
    text, found = rendered_text(template, _chat(turns), True), []
    for _, mark in turns:
        before, there, text = text.partition(mark)
        if not there:
            raise ModelError(
                "the chat template does not write every turn as it is, so Ollama has none like it",
                "--to gguf",
            )
        found.append(before)
    return [*found, text]


def modelfile(file: str, frame: Frame, stops: Sequence[str], context_tokens: int) -> str:
    """The text of the Modelfile for a GGUF beside it. ModelError where a text cannot stand in a template."""
    for text in (*frame.between.values(), frame.opened):
        if "{{" in text or "}}" in text or '"""' in text:
            raise ModelError(
                "the chat template writes marks that Ollama's templates take for their own", "--to gguf"
            )
    turns: list[str] = []
    for role in ROLES:
        cases = [(before, text) for (before, after), text in frame.between.items() if after == role]
        written = "".join(
            f"{{{{ {'else if' if number else 'if'} eq $before {json.dumps(before)} }}}}{text}"
            for number, (before, text) in enumerate(cases)
        )
        turns.append(
            f"{{{{ {'else if' if turns else 'if'} eq .Role {json.dumps(role)} }}}}{written}{{{{ end }}}}"
        )
    each = f"{''.join(turns)}{{{{ end }}}}{{{{ .Content }}}}{{{{ $before = .Role }}}}"
    text = f'{{{{ $before := "" }}}}{{{{ range .Messages }}}}{each}{{{{ end }}}}{frame.opened}'
    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{text}"""',
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops),
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {context_tokens}",
    ]
    return "\n".join(lines) + "\n"


def count_unlike(frame: Frame, template: Template, chats: Sequence[Sequence[Message]]) -> int:
    """How many questions Ollama would be asked otherwise: its templates cannot trim, and know no tools
    here."""
    return sum(frame.text(chat[:-1]) != rendered_text(template, chat[:-1], True) for chat in chats)
