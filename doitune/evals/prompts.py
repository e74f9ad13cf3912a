"""Items made ready to be asked: prompts as token ids, under `fixed` and as the released code asks, shots
dropped where a context is too short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from doitune.data.example import Message
from doitune.errors import DataError
from doitune.evals.letters import answer_room
from doitune.evals.task import Count, Item, Reply, ids_digest
from doitune.prompt.encode import encode_all, encode_questions, option_ids
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.template import Template


@dataclass(frozen=True)
class Prompt:
    """One item made ready: `rows` are what the model reads (one prompt, and the released one where that
    differs, or of a free answer the row's own one, labelled; or question and candidate, labelled, for each
    candidate).

    `length` is what the longest row takes, room for the reply included. `shots` are those left in; `too_long`
    says that it cannot be asked. `shared`: how many first tokens its rows have in common with those of all
    prompts that go on from one run of them; `released_shared`: so of its released row alone.
    """

    item: Item
    ids: tuple[int, ...]
    rows: tuple[Encoded, ...]
    length: int
    shots: int
    too_long: bool
    released_shots: int | None = None
    shared: int = 0
    released_shared: int = 0

    def reply(self) -> Reply:
        """A reply with nothing but the prompt."""
        read = (
            [*self.ids, *(token for row in self.rows[1:] for token in (-1, *row.ids))]
            if self.item.way == "letters"
            else self.ids
        )
        return Reply(
            ids_digest(read),
            len(self.ids),
            self.shots,
            too_long=self.too_long,
            released_shots=self.released_shots,
        )


def prepare(items: Sequence[Item], template: Template, context_tokens: int | None = None) -> list[Prompt]:
    """Each item's prompt. A prompt over the context loses shots one by one; one that still does not fit is
    marked, never cut."""
    questions = encode_questions([item.question for item in items], template)
    prompts = _with_own_answers(_rows(items, questions, template), template, context_tokens)
    if context_tokens is not None:
        prompts = [
            prompt if prompt.length <= context_tokens else _shortened(prompt, template, context_tokens)
            for prompt in prompts
        ]
    return _with_released(prompts, template, context_tokens)


def refuse_unaskable(prompts: Sequence[Prompt], context_tokens: int | None) -> None:
    """DataError where the context holds none of the prompts: that would be a score of 0 for nothing asked."""
    if prompts and all(prompt.too_long for prompt in prompts):
        shortest = min(prompt.length for prompt in prompts)
        raise DataError(
            f"none of the {len(prompts):,} questions fits the {context_tokens:,} tokens that the model can "
            f"read: the shortest takes {shortest:,} with its reply",
            "take a base with a longer context, or shorter replies (eval.max_new_tokens in the recipe)",
        )


def _rows(items: Sequence[Item], questions: Sequence[tuple[int, ...]], template: Template) -> list[Prompt]:
    """Prompts of items whose questions are encoded; the candidates of rankings are encoded together."""
    chats = [
        (*item.question, Message("assistant", choice))
        for item in items
        if item.way == "rank"
        for choice in item.choices
    ]
    candidates = iter(encode_all(chats, template))
    room = {
        options: answer_room(option_ids(options, question, template))
        for options, question in _asked_options(items).items()
    }
    prompts = []
    for item, ids in zip(items, questions, strict=True):
        if item.way == "rank":
            rows = tuple(_answer_only(next(candidates), len(ids)) for _ in item.choices)
        else:
            rows = (unlabelled(ids),)
        reply = max(room.get(item.options, 0), item.max_new_tokens if item.way == "write" else 0)
        length = max(len(row.ids) for row in rows) + reply
        prompts.append(Prompt(item, ids, rows, length, item.shots, too_long=False))
    return prompts


def _with_own_answers(
    prompts: Sequence[Prompt], template: Template, context_tokens: int | None
) -> list[Prompt]:
    """The prompts, those of free answers with the row's own one to be measured, where the context holds
    it."""
    free = [prompt.item for prompt in prompts if prompt.item.form == "open"]
    chats = [(*item.question, item.answer or Message("assistant", item.label)) for item in free]
    answered = iter(encode_all(chats, template))
    found = []
    for prompt in prompts:
        if prompt.item.form == "open":
            row = _answer_only(next(answered), len(prompt.ids))
            if context_tokens is None or len(row.ids) <= context_tokens:
                prompt = replace(prompt, rows=(*prompt.rows, row), length=max(prompt.length, len(row.ids)))
        found.append(prompt)
    return found


def _asked_options(items: Sequence[Item]) -> dict[tuple[str, ...], tuple[Message, ...]]:
    """A question for each set of options that is scored."""
    return {item.options: item.question for item in items if item.options and item.way != "rank"}


def refuse_same_letters(items: Sequence[Item], template: Template) -> None:
    """ModelError where options cannot be told apart by their tokens."""
    for options, question in _asked_options(items).items():
        option_ids(options, question, template)


def unlabelled(ids: tuple[int, ...]) -> Encoded:
    """Ids of which none is trained."""
    return Encoded(ids, (IGNORED,) * len(ids))


def _answer_only(whole: Encoded, start: int) -> Encoded:
    """The conversation with the labels of its last answer alone: earlier assistant turns are given, not
    scored."""
    return Encoded(whole.ids, (IGNORED,) * start + whole.labels[start:])


def _shortened(prompt: Prompt, template: Template, context_tokens: int) -> Prompt:
    """The prompt with as many shots as fit, or marked as too long."""
    item = prompt.item
    for shots in range(item.shots - 1, -1, -1) if item.fewer is not None else ():
        assert item.fewer is not None
        fewer = replace(item, question=item.fewer(shots), shots=shots)
        shorter = _rows([fewer], encode_questions([fewer.question], template), template)[0]
        if shorter.length <= context_tokens:
            return replace(shorter, item=item)
    return replace(prompt, too_long=True)


def _with_released(prompts: Sequence[Prompt], template: Template, context_tokens: int | None) -> list[Prompt]:
    """The prompts, with a second row where the released code would ask with other shots.

    A released prompt that the context does not hold has no score of its own: it would be cut in a way that
    nobody chose.
    """
    count = counting(template)
    wanted = [_released(prompt, count) for prompt in prompts]
    ids = iter(encode_questions([question for question, _ in wanted if question is not None], template))
    found = []
    for prompt, (question, shots) in zip(prompts, wanted, strict=True):
        other = next(ids) if question is not None else None
        if other is not None and (context_tokens is None or len(other) <= context_tokens):
            rows = (*prompt.rows, unlabelled(other))
            prompt = replace(prompt, rows=rows, length=max(prompt.length, len(other)), released_shots=shots)
        elif prompt.item.bare:
            prompt = replace(prompt, released_shots=prompt.shots)
        found.append(prompt)
    return found


def _released(prompt: Prompt, count: Count) -> tuple[tuple[Message, ...] | None, int]:
    """The released question and its shots; None where it is the one that is asked anyway."""
    item = prompt.item
    if item.released is None or prompt.too_long:
        return None, prompt.shots
    question, shots = item.released(count)
    asked = item.question if prompt.shots == item.shots or item.fewer is None else item.fewer(prompt.shots)
    return (None if question == asked else question), shots


def counting(template: Template) -> Count:
    """Counts tokens as the tokenizer's plain call does, each text once."""
    added = template.tokenizer.num_special_tokens_to_add(pair=False)
    known: dict[str, int] = {}

    def count(text: str) -> int:
        if text not in known:
            known[text] = len(template.text_ids([text])[0]) + added
        return known[text]

    return count
