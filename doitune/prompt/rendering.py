"""A base's own chat template, which is a program by somebody else: rendered in a child process that can do no
harm.

jinja's sandbox stops attributes, not time and memory: two nested loops of 99,999 run for minutes, `'a' *
1000000000` holds a gigabyte. So the child (`rendering_child`) has limits of CPU time, wall time, memory and
output, no file, no socket, no child of its own, and none of our environment variables. One child serves a
template for as long as it is used; it ends when its input does, also after our own death.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any
from weakref import finalize

from doitune.errors import ModelError
from doitune.prompt.moment import now
from doitune.prompt.parts import Parts
from doitune.prompt.repertoire import Repertoire
from doitune.system import confined

MEMORY_BYTES = 256 << 20
"""Address space of the child."""

CPU_SECONDS = 1.0
"""CPU time of a request, and CHAT_SECONDS more for each chat in it (a chat takes about 0.1 ms)."""

CHAT_SECONDS = 0.01
CHATS_A_REQUEST = 64

WALL_SECONDS = 30.0
"""The end of a request on a machine that is busy with other things."""

SPARE_CHARACTERS = 1 << 16
"""What a template may write beside OUTPUT_TIMES the text of the chat: a system prompt, role markers."""

OUTPUT_TIMES = 4

CURE = "use the recipe's: --set prompt.template=doit"
"""What helps where a base's own chat template does not serve."""

Chat = tuple[Sequence[Mapping[str, Any]], bool, Any]
"""Turns as templates take them, whether the opening of an assistant turn follows, and the list of tools (None
without any)."""


class RenderingError(ModelError):
    """A template that failed or went beyond its limits; `number` is the place of the chat it failed at."""

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(f"the base's chat template cannot be rendered: {reason}", CURE)
        self.number = number


class Renderer:
    """Renders chats with one template. `variables`: the special tokens that templates name (`bos_token`,
    ...). `moment`: what it takes for now; by default the clock's. `reads_clock`: whether it has asked."""

    def __init__(self, template: str, variables: Mapping[str, Any], moment: str = "") -> None:
        self.template, self.variables, self.moment = template, dict(variables), moment or now()
        self.reads_clock = False
        self._child: _Child | None = None

    def at(self, moment: str) -> Renderer:
        """The same template in another process, at `moment`."""
        other = Renderer(self.template, self.variables, moment)
        other.reads_clock = self.reads_clock
        return other

    @cached_property
    def repertoire(self) -> Repertoire:
        """What the template knows to write."""
        return Repertoire(self.texts)

    def texts(self, chats: Sequence[Chat]) -> list[str]:
        """The text of each chat. Errors: RenderingError."""
        found: list[str] = []
        for start in range(0, len(chats), CHATS_A_REQUEST):
            part = [[list(one[0]), *one[1:]] for one in chats[start : start + CHATS_A_REQUEST]]
            asked = {"seconds": CPU_SECONDS + CHAT_SECONDS * len(part), "spare": SPARE_CHARACTERS}
            reply = self._ask({"chats": part, "times": OUTPUT_TIMES, **asked})
            if "failed" in reply:
                raise RenderingError(reply["reason"], start + reply["failed"])
            found += reply["texts"]
        return found

    def parts(self, turns: Sequence[Mapping[str, Any]], opened: bool) -> Parts | None:
        """What the template writes for `turns` whatever their contents (not empty, stripped); None where
        that depends on them, or fails."""
        shapes = [[list(turns), opened]]
        try:
            reply = self._ask({"shapes": shapes, "seconds": CPU_SECONDS, "spare": SPARE_CHARACTERS})
        except RenderingError:
            return None
        return _as_parts(reply["parts"][0])

    def _ask(self, request: Mapping[str, Any]) -> Any:
        if self._child is None or self._child.ended:
            self._child = _Child()
            first = {
                "template": self.template,
                "variables": self.variables,
                "moment": self.moment,
                "memory_bytes": MEMORY_BYTES,
                "seconds": CPU_SECONDS,
            }
            reply = self._child.exchange(first)
            if "failed" in reply:
                self._child.end()
                raise RenderingError(reply["reason"])
        reply = self._child.exchange(request)
        self.reads_clock |= reply["clock"]
        return reply


def _as_parts(found: Mapping[str, Any] | None) -> Parts | None:
    """As the child says it; None where a content stands more often than a template may repeat it."""
    if found is None:
        return None
    numbers = [one for one in found["parts"] if isinstance(one, int)]
    if any(numbers.count(one) > OUTPUT_TIMES for one in numbers):
        return None
    return Parts(tuple(found["parts"]), tuple((*one,) for one in found["not"]))


class _Child:
    """The process that renders; it ends with this object, or where it goes beyond a limit."""

    def __init__(self) -> None:
        self.process = _start()
        self.end = finalize(self, _end, self.process)

    @property
    def ended(self) -> bool:
        return not self.end.alive

    def exchange(self, document: Mapping[str, Any]) -> Any:
        """One line to the process and its answer. Errors: RenderingError where it ended."""
        pipe, answers = self.process.stdin, self.process.stdout
        assert pipe is not None and answers is not None
        timer = Timer(WALL_SECONDS, self.process.kill)
        timer.start()
        try:
            pipe.write(json.dumps(document).encode("ascii") + b"\n")
            pipe.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        self.end()
        raise RenderingError(
            f"it used more than {CPU_SECONDS:g} s or {MEMORY_BYTES >> 20} MiB, or broke its process"
        )


def _start() -> subprocess.Popen[bytes]:
    """The child, with Python's own library and jinja's folder, and nothing else of this process."""
    return confined.start(Path(__file__).with_name("rendering_child.py"), _homes())


def _homes() -> Iterator[str]:
    """The folders of jinja and what it imports."""
    for name in ("jinja2", "markupsafe"):
        found = find_spec(name)
        if found is None:
            raise ModelError("chat templates need jinja2, which is not installed", "pip install jinja2")
        yield from found.submodule_search_locations or ()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
