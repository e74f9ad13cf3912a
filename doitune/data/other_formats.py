"""Own rows in the forms that other trainers read: messages, Alpaca, ShareGPT, question and answer in a field
each; every row becomes a row of ours (`example`).

The form is recognised by a row's keys (in capitals, too), or declared. Nothing is merged, cut or guessed: a
row that no form has is refused, and what a form says in its own way (a history, a call of a tool) stands in
its turns afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache, partial
from typing import Literal

from doitune.data.jsonl import RowError, shown

OwnForm = Literal["auto", "messages", "alpaca", "sharegpt", "pairs"]

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
_TAKEN: dict[str, tuple[str, ...]] = {
    "messages": (),
    "alpaca": ("instruction", "input", "output", "history", "text"),
    "sharegpt": ("conversations",),
}
"""The keys of each form that its turns are made of; `text` of Alpaca's own file is the same once more, as a
prompt."""

SHOWN_BY = {"messages": "messages", "conversations": "sharegpt", "instruction": "alpaca"}
"""The form that a key shows."""

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
    ("instruction", "response"),
    ("问题", "回答"),
    ("问题", "答案"),
)
"""Fields of a question and of its answer, as people call them."""

CONTEXT = "context"
"""The field beside them with the text that is asked about; it stands before the question."""

_USUAL = frozenset(
    [*SHOWN_BY, *_TAKEN["alpaca"], *(name for pair in PAIRS for name in pair), CONTEXT, "ability", "split"]
)
"""Keys that are also read where they are written in capitals."""

NOT_LEARNT = {
    frozenset({"text"}): "a ready-rendered `text` does not say which part is the answer: write `messages`: a "
    "list of user and assistant turns",
    frozenset({"label"}): "rows that say whether an answer is good are not read: keep the good ones, without "
    "`label`",
    frozenset({"prompt", "chosen"}): "preference pairs are not read: write the chosen answer as an assistant "
    "turn of `messages`",
}
"""Rows of another kind of training, by the keys that show them, and what to do about each."""

EXAMPLES = {
    "messages": '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
    "alpaca": '{"instruction": "…", "output": "…"}',
    "pairs": '{"question": "…", "answer": "…"}',
    "sharegpt": '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}',
}
"""A row of each form."""


@dataclass(frozen=True)
class RowForm:
    """How own rows are written.

    messages: `messages` of role and content. alpaca: `instruction`, `input` (may be missing or empty; it
    follows the instruction on a line of its own), `output`, `history` (earlier pairs). sharegpt:
    `conversations` of from (human, gpt, system, function_call, observation, or the roles' names) and value.
    pairs: a field with the question and one with the answer, `columns` or one of PAIRS. auto: what each row's
    keys say. `ability` is the ability of every row; empty: each row names its own in the field
    `ability_column` (empty: `ability`).
    """

    form: OwnForm = "auto"
    ability: str = ""
    columns: tuple[str, str] = ("", "")
    ability_column: str = ""

    def of(self, row: Mapping[str, object]) -> str:
        """The form of a row: the declared one, or the one that its keys show. Errors: RowError of kind
        form."""
        if self.form != "auto":
            return self.form
        if all(self.columns):
            return "pairs"
        row = self.named(row)
        for key, form in SHOWN_BY.items():
            if key in row and not (form == "alpaca" and "output" not in row and "response" in row):
                return form
        if _pair(row) is not None and "chosen" not in row and not isinstance(row.get("label"), bool):
            return "pairs"
        raise _unknown(row)

    def named(self, row: Mapping[str, object]) -> Mapping[str, object]:
        """The row under the names that are read: known keys in small letters, its ability under `ability`."""
        names = self._names(tuple(row))
        if names is None:
            return row
        own = {"ability": row[self.ability_column]} if self.ability_column in row else {}
        return {new: row[old] for old, new in names} | own

    @cached_property
    def _names(self) -> Callable[[tuple[str, ...]], tuple[tuple[str, str], ...] | None]:
        return lru_cache(maxsize=1024)(partial(_names, self))  # rows have the same few sets of keys

    def as_row(self, row: dict[str, object]) -> dict[str, object]:
        """The row in our form, its other keys as they were. Errors: RowError of kind form, messages, role,
        content or ability."""
        if self.ability_column and self.ability_column not in row:
            problem = f"no `{self.ability_column}` (the row has {_keys(row)})"
            raise RowError("ability", problem, "name the column that the rows have: data.ability_column")
        row = dict(self.named(row))
        form = self.of(row)
        read = {"messages": _messages, "alpaca": _alpaca, "sharegpt": _sharegpt}.get(form)
        turns, taken = (read(row), _TAKEN[form]) if read else _pairs(row, self.columns)
        own = row.get("ability")
        if self.ability and own not in (None, self.ability):
            problem = f"`ability` is {shown(own)}, but every row was declared {self.ability}"
            raise RowError("ability", problem, "declare one of the two")
        others = {key: value for key, value in row.items() if key not in taken}
        return {**others, "messages": turns, **({"ability": self.ability} if self.ability else {})}


def say_form(form: RowForm, row: Mapping[str, object]) -> str:
    """The form of a row in words, with what is read otherwise than it stands there. Errors: as `of`."""
    kind = form.of(row)
    notes = [f"`{old}` as `{new}`" for old, new in form._names(tuple(row)) or () if old != new]
    if kind == "pairs" and not all(form.columns) and form.named(row).get(CONTEXT):
        notes.append(f"`{CONTEXT}` before the question")
    return f"{kind} ({', '.join(notes)})" if notes else kind


def _names(form: RowForm, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...] | None:
    """Each key of a row, but that of the ability's own column, with the name that it is read by; None where
    every key is read as it is."""
    names = tuple((key, _usual(form, key, keys)) for key in keys if key != form.ability_column)
    return None if names == tuple((key, key) for key in keys) else names


def _usual(form: RowForm, key: str, row: Collection[str]) -> str:
    """A known key in small letters; another one, and one that was declared, as it is."""
    usual = key.strip().lower()
    if usual == key or usual not in _USUAL or key in (*form.columns, form.ability_column):
        return key
    return key if any(one != key and one.strip().lower() == usual for one in row) else usual


def _pairs(
    row: Mapping[str, object], columns: tuple[str, str]
) -> tuple[list[dict[str, object]], tuple[str, ...]]:
    """The turns of a question and an answer, and the fields that they stand in."""
    names = columns if all(columns) else _pair(row)
    lacking = [name for name in names or () if name not in row]
    if names is None or lacking:
        what = f"no `{lacking[0]}`" if lacking else "no field of a question and its answer that is known"
        raise RowError(
            "form",
            f"{what} (the row has {_keys(row)})",
            "name the two: --set data.question_column=... --set data.answer_column=...",
        )
    question, answer = (row[name] for name in names)
    context = None if all(columns) else row.get(CONTEXT)
    if context and not isinstance(context, str):
        hint = "write the text that is asked about, or name the two columns that are read"
        raise RowError("content", f"`{CONTEXT}` is {shown(context)}, not a text", hint)
    if context and isinstance(question, str):
        question = f"{context}\n{question}"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns, names if all(columns) else (*names, CONTEXT)


def _pair(row: Mapping[str, object]) -> tuple[str, str] | None:
    """The fields of the row that hold a question and its answer."""
    return next((pair for pair in PAIRS if all(name in row for name in pair)), None)


def _refused(row: Mapping[str, object]) -> str:
    """What to do about a row of a kind that is not learnt from; "" where it is of no such kind."""
    return next((hint for keys, hint in NOT_LEARNT.items() if keys <= row.keys()), "")


def _unknown(row: Mapping[str, object]) -> RowError:
    """The error for a row whose keys show no form, with the three nearest."""
    if hint := _refused(row):
        return RowError("messages", f"no `messages` (the row has {_keys(row)})", hint)
    wanted = {"messages": {"messages"}, "sharegpt": {"conversations"}, "alpaca": {"instruction", "output"}}
    wanted["pairs"] = {"question", "answer", "prompt", "completion"}

    def likeness(form: str) -> float:
        pairs = [(one, other) for one in wanted[form] for other in row]
        return max((SequenceMatcher(None, one, other).ratio() for one, other in pairs), default=0.0)

    near = sorted(EXAMPLES, key=likeness, reverse=True)[:3]
    return RowError(
        "form",
        f"no known form of row: it has {_keys(row)}",
        "name the fields of question and answer (--set data.question_column=... "
        f"--set data.answer_column=...), or write rows as {' or '.join(EXAMPLES[form] for form in near)}",
    )


def _keys(row: Mapping[str, object]) -> str:
    return ", ".join(map(shown, list(row)[:6])) + (", …" if len(row) > 6 else "") if row else "no key"


def _messages(row: dict[str, object]) -> object:
    if "messages" not in row:
        raise RowError("messages", "no `messages`", "declare the form that the rows have: alpaca or sharegpt")
    return row["messages"]


def _alpaca(row: dict[str, object]) -> object:
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
    pairs = [*_history(row.get("history")), (asked, texts["output"])]
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _history(value: object) -> list[tuple[object, object]]:
    """The earlier questions and answers of an Alpaca row."""
    pairs = value or []
    if isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return [(asked, answered) for asked, answered in pairs]
    raise RowError(
        "messages",
        f"`history` is {shown(value)}, not a list of pairs",
        "write [[question, answer], …], or the row as `messages`",
    )


def _sharegpt(row: dict[str, object]) -> object:
    turns = row.get("conversations")
    if not isinstance(turns, list):
        what = "missing" if "conversations" not in row else shown(turns)
        raise RowError(
            "messages",
            f"`conversations` is {what}, not a list of turns",
            "declare the form that the rows have",
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
            f"read are {', '.join(_SPEAKERS)}",
        )
    others = {key: value for key, value in turn.items() if key not in ("from", "value", "role", "content")}
    value = turn.get("value")
    spoken = {"content": None, "tool_calls": value} if speaker == "function_call" else {"content": value}
    return {**others, "role": _SPEAKERS[speaker], **spoken}
