"""The keys of a row and of its turns beside the text: marks of what is learnt, keys that would change what
the row says, keys that change nothing.

Other trainers write more into a row than its text. Marks are obeyed; what carries meaning and is not read is
refused, since the row would teach something else than its author wrote; a key that is not known here is
counted and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from doitune.data.jsonl import RowError, shown

LEARNT = ("weight", "train", "training", "loss")
"""Marks of a turn: 1 or true is learnt, 0 or false is not. Sources: `weight` of OpenAI's chat format, `train`
and `training` of axolotl, `loss` of ms-swift."""

THINKING = ("reasoning_content", "thinking", "reasoning")
"""Fields of an assistant turn that hold what it thought. Sources: `reasoning_content` of DeepSeek's and
Qwen's templates, `thinking` of gpt-oss's, `reasoning` of vLLM."""

_OF_A_ROW = frozenset(
    ("messages", "system", "tools", "ability", "split", "type", "idx", "question_format", "choices", "answer")
)
_OF_A_TURN = frozenset(("role", "content", *LEARNT))
_OF_A_ROLE = {
    "assistant": _OF_A_TURN | {"tool_calls", *THINKING},
    "tool": _OF_A_TURN | {"name", "tool_call_id"},
}
"""What a turn of this role may hold; of another, _OF_A_TURN."""

_HARMLESS_WORDS = """
    id uid uuid hash index row_id prompt_id conversation_id message_id source origin dataset url license
    author lang language locale category topic subject domain subdomain subset task tag tags label difficulty
    quality
    score rating votes rank level grade comment note notes meta metadata info extra model generator created
    created_at updated_at date time timestamp version tokens token_count num_tokens num_turns length
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
"""Keys that say where a row is from or what somebody thinks of it: never named."""

_TOOLS = "`tools` of the row, `tool_calls` of an assistant turn and a turn of role `tool` are read"
_THOUGHTS = f"thoughts of an assistant turn are read as {THINKING[0]} or within <think> in its content"
_MEDIA = "doitune trains on text alone: drop the row"
_SYSTEM = "write it as `system` of the row, or as a first turn of role `system`"
_MARKS = f"mark the turns that are not to be learnt, each by itself: one of {', '.join(LEARNT)}"
_MEANING = {
    **dict.fromkeys(("system", "system_prompt", "system_message", "developer"), _SYSTEM),
    **dict.fromkeys(
        ("tools", "tool_choice", "functions", "tool_calls", "tool_call_id", "function_call"), _TOOLS
    ),
    "history": "write the earlier turns into the row, in their order",
    **dict.fromkeys((*THINKING, "thoughts", "thought"), _THOUGHTS),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), _MEDIA),
    "documents": "put their text into the first user turn",
    **dict.fromkeys(
        (*LEARNT, "weights", "loss_mask", "mask", "masked", "train_detail", "training_detail"), _MARKS
    ),
    **dict.fromkeys(("loss_scale", "loss_weight"), "turns are learnt or not, nothing between: drop the key"),
    "prefix": "a prefilled answer is not read: put its text into the turn's content, or drop the key",
}
"""Keys that change what a row says or how it is learnt, and what to do about each."""


def unread_keys(keyed: Mapping[str, object], turn: int = 0) -> tuple[str, ...]:
    """The keys of a row, or of its turn number `turn` (from 1), that doitune neither reads nor knows to be
    harmless; an empty value says nothing.

    Errors: RowError of kind meaning for a key that would change what the row says.
    """
    own = _OF_A_ROLE.get(str(keyed.get("role")), _OF_A_TURN) if turn else _OF_A_ROW
    if keyed.keys() <= own:
        return ()
    unread = []
    for key, value in keyed.items():
        name = key.lower()
        if key in own or name in _HARMLESS or _says_nothing(value) or (name in LEARNT and value == 1):
            continue
        if name in _MEANING:
            where = f"turn {turn} has" if turn else "the row has"
            raise RowError(
                "meaning", f"{where} `{shown(key)[1:-1]}`, which doitune does not read", _MEANING[name]
            )
        unread.append(key)
    return tuple(unread)


def is_learnt(turn: Mapping[str, object], role: str, number: int) -> bool:
    """Whether a turn is learnt by its marks; an assistant turn without one is.

    Errors: RowError of kind mark for a mark that is neither yes nor no, for two that disagree, and for a user
    turn that is to be learnt.
    """
    if turn.keys().isdisjoint(LEARNT):
        return role == "assistant"
    said: dict[str, bool] = {}
    for key in LEARNT:
        value = turn.get(key)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise RowError(
                "mark",
                f"`{key}` of turn {number} is {shown(value)}, neither 0 nor 1",
                "a turn is learnt (1, true) or not (0, false); nothing between is read",
            )
        said[key] = bool(value)
    if len(set(said.values())) > 1:
        raise RowError("mark", f"the marks {', '.join(said)} of turn {number} disagree", "keep one of them")
    if role != "assistant" and any(said.values()):
        raise RowError(
            "mark",
            f"turn {number} is the {role}'s and is marked to be learnt ({', '.join(said)})",
            "only the assistant's turns are learnt: drop the mark",
        )
    return role == "assistant" and all(said.values())


def name_unread(rows: Iterable[tuple[str, Sequence[str]]]) -> tuple[str, ...]:
    """A sentence for each unread key, of rows given by their place (`file:line`) and their unread keys."""
    places: dict[str, list[str]] = {}
    for place, keys in rows:
        for key in keys:
            places.setdefault(key, []).append(place)
    return tuple(
        f"the key {shown(key)} is not read ({len(found):,} row{'s'[: len(found) > 1]}, first {found[0]})"
        for key, found in places.items()
    )


def _says_nothing(value: object) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}
