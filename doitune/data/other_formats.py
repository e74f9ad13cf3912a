"""Own rows in the forms that other trainers read: messages, Alpaca, ShareGPT; each becomes a row of ours
(`example`).

Nothing is merged, cut or guessed: a row with a system text, a tool call or a history that its form has no
place for is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from doitune.data.jsonl import RowError, shown

OwnForm = Literal["messages", "alpaca", "sharegpt"]

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
}
_TAKEN: dict[OwnForm, tuple[str, ...]] = {
    "messages": (),
    "alpaca": ("instruction", "input", "output", "text"),
    "sharegpt": ("conversations",),
}
"""The keys of each form that its turns are made of; `text` of Alpaca's own file is the same once more, as a
prompt."""


@dataclass(frozen=True)
class RowForm:
    """How own rows are written.

    messages: `messages` of role and content. alpaca: `instruction`, `input` (may be missing or empty; it
    follows the instruction on a line of its own), `output`. sharegpt: `conversations` of from (human, gpt, or
    the roles' names) and value. `ability` is the ability of every row; empty: each row names its own in the
    field `ability`.
    """

    form: OwnForm
    ability: str = ""

    def as_row(self, row: dict[str, object]) -> dict[str, object]:
        """The row in our form, its other keys as they were. Errors: RowError of kind messages, role,
        content or ability."""
        read = {"messages": _messages, "alpaca": _alpaca, "sharegpt": _sharegpt}[self.form]
        turns = read(row)
        own = row.get("ability")
        if self.ability and own not in (None, self.ability):
            raise RowError(
                "ability",
                f"`ability` is {shown(own)}, but every row was declared {self.ability}",
                "declare one of the two",
            )
        others = {key: value for key, value in row.items() if key not in _TAKEN[self.form]}
        return {**others, "messages": turns, **({"ability": self.ability} if self.ability else {})}


def _messages(row: dict[str, object]) -> object:
    if "messages" not in row:
        raise RowError("messages", "no `messages`", "declare the form that the rows have: alpaca or sharegpt")
    return row["messages"]


def _alpaca(row: dict[str, object]) -> object:
    for key in ("history", "system"):
        if row.get(key):
            raise RowError(
                "messages",
                f"an Alpaca row with `{key}` is not read",
                f"write the row as `messages`, or drop `{key}`",
            )
    texts = {key: row.get(key) for key in ("instruction", "input", "output")}
    texts["input"] = "" if texts["input"] is None else texts["input"]
    for key, text in texts.items():
        if not isinstance(text, str):
            what = "missing" if key not in row else shown(text)
            raise RowError(
                "content",
                f"`{key}` is {what}, not a text",
                "write the text, or declare the form that the rows have",
            )
    asked = (
        f"{texts['instruction']}\n{texts['input']}" if str(texts["input"]).strip() else texts["instruction"]
    )
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": texts["output"]}]


def _sharegpt(row: dict[str, object]) -> object:
    turns = row.get("conversations")
    if not isinstance(turns, list):
        what = "missing" if "conversations" not in row else shown(turns)
        raise RowError(
            "messages",
            f"`conversations` is {what}, not a list of turns",
            "declare the form that the rows have",
        )
    if row.get("system"):
        raise RowError(
            "role",
            "a ShareGPT row with `system` is not read",
            "put the system text into the first human turn",
        )
    return [_turn(turn, number) for number, turn in enumerate(turns, 1)]


def _turn(turn: object, number: int) -> dict[str, object]:
    if not isinstance(turn, dict):
        raise RowError(
            "messages", f"turn {number} is {shown(turn)}, not an object", 'write {"from": …, "value": …}'
        )
    speaker = turn.get("from")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        said = shown(speaker) if "from" in turn else "missing"
        raise RowError(
            "role",
            f"`from` of turn {number} is {said}",
            "human and gpt are read; put a system text into the first human turn",
        )
    others = {key: value for key, value in turn.items() if key not in ("from", "value", "role", "content")}
    return {**others, "role": _SPEAKERS[speaker], "content": turn.get("value")}
