"""The program that renders a base's own chat template: started by `rendering`, a process of its own with
nothing in its reach.

Before it reads the template it gives up files, sockets, children and memory beyond a limit; each request has
a limit of CPU time, whose end the kernel enforces by ending the process. The environment is that of
transformers' `apply_chat_template` (sandboxed and immutable; `raise_exception`, `strftime_now`, `tojson`;
loop controls; `generation` blocks), so a template says here what it says there; but for two things: it is
always the same moment, and what draws at random is an error. One JSON line in, one out: first {template,
variables, moment, memory_bytes, seconds}, then {chats: [[turns, opened, tools], ...], seconds, spare,
times} or {shapes: [[turns without contents, opened], ...], seconds, spare} (see `rendering_said`).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a template may raise; anything else ends the process."""


class Generation(Extension):
    """`{% generation %}` blocks mark an assistant's text for masks; here they are read and their text
    stays."""

    tags = {"generation"}  # noqa: RUF012  # jinja's own form

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> str:
        return str(caller())


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja's sandbox, which turns a forbidden attribute into nothing; here it is an error, so that the
    template is refused."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}")


class Clock:
    """One moment for ever. `read`: whether a template has asked for it."""

    def __init__(self, moment: str) -> None:
        self.moment, self.read = datetime.fromisoformat(moment), False

    def strftime(self, form: str) -> str:
        self.read = True
        return self.moment.strftime(form)


def environment(
    clock: Clock, kind: type[ImmutableSandboxedEnvironment] = Sandbox
) -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return clock.strftime(form)

    def at_random(*_: Any, **__: Any) -> NoReturn:
        raise TemplateError("it draws at random, so a chat would be asked otherwise than it was trained")

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    made = kind(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.filters["random"] = at_random
    made.globals["lipsum"] = at_random
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


REHEARSED = (
    "{% for a in 'b\\n' %}{{ a | tojson }}{% endfor %}{{ strftime_now('%Z') }}",
    "{{ raise_exception('x') }}",
    "{{ ''.__class__ }}",
)
"""Templates that make Python and jinja import what they import late."""


def rehearse(made: ImmutableSandboxedEnvironment) -> None:
    """Render once, and fail once, while files can be read."""
    for text in REHEARSED:
        try:
            made.from_string(text).render()
        except TemplateError:
            continue


def confine(memory_bytes: int) -> None:
    """No new file, socket, child or dump, and no more memory than this, until the process ends."""
    limits = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NOFILE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
    }
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))


class _TooLong(RuntimeError):
    pass


Turns = list[dict[str, Any]]


def render(template: Any, chat: tuple[Turns, bool, Any], variables: dict[str, Any], most: int) -> str:
    """The text of one chat, at most `most` characters."""
    turns, opened, tools = chat
    pieces: list[str] = []
    length = 0
    for piece in template.generate(
        messages=turns, tools=tools, documents=None, add_generation_prompt=opened, **variables
    ):
        length += len(piece)
        if length > most:
            raise _TooLong(f"it writes more than {most:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def characters(turns: Turns, _: bool, tools: Any) -> int:
    """About how long a chat's text is."""
    others = [value for turn in turns for key, value in turn.items() if key != "content"]
    plain = all(isinstance(one, str) for one in others) and not tools
    written = sum(map(len, others)) if plain else len(json.dumps([others, tools]))
    return written + sum(len(turn["content"] or "") for turn in turns)


def answer(template: Any, request: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The texts of a request, or the number of the chat that failed and why."""
    texts: list[str] = []
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    try:
        for chat in request["chats"]:
            most = request["spare"] + request["times"] * characters(*chat)
            texts.append(render(template, chat, variables, most))
    except FAULTS as error:
        return {"failed": len(texts), "reason": reason(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"texts": texts}


def beside(name: str) -> Any:
    """The module of this name in this program's folder."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shaped(said: Any, template: Any, request: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The parts of each shape of chats; null where the template looks into a content, or fails."""
    found: list[Any] = []
    for turns, open_turn in request["shapes"]:
        named = {"tools": None, "documents": None, "add_generation_prompt": open_turn, **variables}
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            found.append(said.parts(template, turns, request["spare"], named))
        except (*FAULTS, said.LooksInside):
            found.append(None)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {"parts": found}


def reason(error: BaseException) -> str:
    """An error as a sentence of bounded length."""
    if isinstance(error, MemoryError):
        return "it needs more memory than a template may have"
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    return (str(error).strip() or type(error).__name__)[:500]


def main() -> None:
    """Confine the process, then answer until the input ends."""
    first = json.loads(sys.stdin.buffer.readline())
    os.environ["TZ"] = "UTC0"  # `%s` is the same everywhere
    time.tzset()
    clock = Clock(first["moment"])
    made = environment(clock)
    said = beside("rendering_said")
    watched = said.watch(environment(clock, said.watched(Sandbox)))
    rehearse(made)
    rehearse(watched)
    clock.read = False
    confine(first["memory_bytes"])
    signal.setitimer(signal.ITIMER_PROF, first["seconds"])
    template, mould, reply = None, None, dict[str, Any](texts=[])
    try:
        template = made.from_string(first["template"])
        mould = said.compiled(watched, first["template"])
    except FAULTS as error:
        reply = {"failed": 0, "reason": reason(error)}
    signal.setitimer(signal.ITIMER_PROF, 0)
    while True:
        sys.stdout.buffer.write(json.dumps(reply).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()
        line = sys.stdin.buffer.readline()
        if not line or template is None:
            return
        request = json.loads(line)
        if "shapes" in request:
            reply = shaped(said, mould, request, first["variables"])
        else:
            reply = answer(template, request, first["variables"])
        reply["clock"] = clock.read


if __name__ == "__main__":
    main()
