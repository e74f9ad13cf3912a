"""Tools that a row offers and calls of them: the JSON of other trainers, read strictly."""

from __future__ import annotations

import json

from doitune.data.jsonl import RowError, parse_json, shown
from doitune.data.message import ToolCall

_TOOLS = 'write `tools` as a list of {"type": "function", "function": {"name": …, "parameters": {…}}}'
_CALLS = 'write `tool_calls` as a list of {"type": "function", "function": {"name": …, "arguments": {…}}}'


def read_tools(value: object) -> str:
    """The JSON text of the tools that a row offers, given as a list or as JSON text; "" for none.

    Errors: RowError of kind tools.
    """
    if value in (None, "", [], {}):
        return ""
    tools = _parsed(value, "`tools`", "tools", _TOOLS)
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise RowError("tools", f"`tools` is {shown(value)}, not a list", _TOOLS)
    for number, tool in enumerate(tools, 1):
        if not _named(tool):
            raise RowError("tools", f"tool {number} of `tools` is {shown(tool)}: it has no name", _TOOLS)
    return json.dumps(tools, ensure_ascii=False) if tools else ""


def read_calls(value: object, turn: int) -> tuple[ToolCall, ...]:
    """The calls of turn number `turn`: a list (or one object, or either as JSON text) of OpenAI's form or of
    plain name and arguments. Errors: RowError of kind tool_calls."""
    if value in (None, "", [], {}):
        return ()
    calls = _parsed(value, f"the call of turn {turn}", "tool_calls", _CALLS)
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list):
        raise RowError("tool_calls", f"the call of turn {turn} is {shown(value)}, not a list", _CALLS)
    return tuple(_call(call, number, turn) for number, call in enumerate(calls, 1))


def _call(call: object, number: int, turn: int) -> ToolCall:
    name = _named(call)
    if not name or not isinstance(call, dict):
        raise RowError("tool_calls", f"call {number} of turn {turn} is {shown(call)}: no name", _CALLS)
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    arguments = inner.get("arguments", inner.get("parameters"))
    what = f"the arguments of call {number} in turn {turn}"
    read = _parsed(arguments if arguments not in (None, "") else {}, what, "tool_calls", _CALLS)
    if not isinstance(read, dict):
        raise RowError("tool_calls", f"{what} are {shown(arguments)}, not an object", _CALLS)
    given = call.get("id")
    text = arguments.strip() if isinstance(arguments, str) else ""
    return ToolCall(
        name, text or json.dumps(read, ensure_ascii=False), given if isinstance(given, str) else ""
    )


def _named(entry: object) -> str:
    """The name that a tool or a call has in either form; "" where it has none."""
    if not isinstance(entry, dict):
        return ""
    function = entry.get("function")
    name = (function if isinstance(function, dict) else entry).get("name")
    return name if isinstance(name, str) else ""


def _parsed(value: object, what: str, kind: str, hint: str) -> object:
    """A value, or what its JSON text says."""
    if not isinstance(value, str):
        return value

    try:
        return parse_json(value)
    except RowError as error:
        raise RowError(kind, f"{what}: {error.problem}: {shown(value)}", hint) from None
    except ValueError as error:
        raise RowError(kind, f"{what}: no JSON text ({error}): {shown(value)}", hint) from None
