"""Questions to a loaded model, many at once: letters by first-step scores, written replies, candidates by their losses.

Questions are sorted by length and cut into batches under a token budget, longest first. The cut depends on the questions alone, so that an
interrupted evaluation asks the very batches of one that ran through. Out of memory halves the budget and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from doitune.batch import IGNORED, pad
from doitune.errors import FitError
from doitune.evals.task import Candidate, Item, Reply, ids_digest
from doitune.example import Message
from doitune.prompt import Encoded, Template, decode, encode_all, option_ids, questions_ids

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel


@dataclass(frozen=True)
class Limits:
    """How much is asked at once: positions of a batch, padding included; the model's context (None: no limit known).

    `exact` asks one question at a time, so that no figure depends on what shared its batch.
    """

    batch_tokens: int = 8192
    context_tokens: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Prompt:
    """One item made ready: `rows` are what the model reads (one prompt; or question and candidate, labelled, for each candidate).

    `length` is what the longest row takes, room for the reply included. `shots` are those left in; `too_long` says that it cannot be asked.
    """

    item: Item
    ids: tuple[int, ...]
    rows: tuple[Encoded, ...]
    length: int
    shots: int
    too_long: bool

    @property
    def positions(self) -> int:
        """Positions that this item adds to a batch of its own length."""
        return self.length * len(self.rows)

    def reply(self) -> Reply:
        """A reply that holds nothing yet but the prompt."""
        return Reply(ids_digest(self.ids), len(self.ids), self.shots, too_long=self.too_long)


Asked = tuple[Item, Reply]
Ask = Callable[[Sequence[Prompt]], list[Reply]]


def prepare(items: Sequence[Item], template: Template, context_tokens: int | None = None) -> list[Prompt]:
    """Each item's prompt. A prompt over the context loses shots one by one; one that still does not fit is marked, never cut."""
    questions = questions_ids([item.question for item in items], template)
    prompts = _rows(items, questions, template)
    if context_tokens is None:
        return prompts
    return [prompt if prompt.length <= context_tokens else _shortened(prompt, template, context_tokens) for prompt in prompts]


def _rows(items: Sequence[Item], questions: Sequence[tuple[int, ...]], template: Template) -> list[Prompt]:
    """Prompts of items whose questions are encoded; the candidates of rankings are encoded together."""
    chats = [(*item.question, Message("assistant", choice)) for item in items if item.way == "rank" for choice in item.choices]
    candidates = iter(encode_all(chats, template))
    prompts = []
    for item, ids in zip(items, questions, strict=True):
        if item.way == "rank":
            rows = tuple(_answer_only(next(candidates), len(ids)) for _ in item.choices)
        else:
            rows = (Encoded(ids, (IGNORED,) * len(ids)),)
        length = max(len(row.ids) for row in rows) + (item.max_new_tokens if item.way == "write" else 0)
        prompts.append(Prompt(item, ids, rows, length, item.shots, too_long=False))
    return prompts


def _answer_only(whole: Encoded, start: int) -> Encoded:
    """The conversation with the labels of its last answer alone: earlier assistant turns are given, not scored."""
    return Encoded(whole.ids, (IGNORED,) * start + whole.labels[start:])


def _shortened(prompt: Prompt, template: Template, context_tokens: int) -> Prompt:
    """The prompt with as many shots as fit, or marked as too long."""
    item = prompt.item
    for shots in range(item.shots - 1, -1, -1) if item.fewer is not None else ():
        assert item.fewer is not None
        fewer = replace(item, question=item.fewer(shots), shots=shots)
        shorter = _rows([fewer], questions_ids([fewer.question], template), template)[0]
        if shorter.length <= context_tokens:
            return replace(shorter, item=item)
    return replace(prompt, too_long=True)


def cut(prompts: Sequence[Prompt], limits: Limits) -> list[list[Prompt]]:
    """Batches of prompts that can be asked together, longest first: the same way, options and cap, and under the token budget."""
    groups: dict[tuple[object, ...], list[Prompt]] = {}
    for prompt in prompts:
        item = prompt.item
        kind = (item.way, item.options, item.max_new_tokens) if item.way != "rank" else (item.way,)
        groups.setdefault(kind, []).append(prompt)
    batches: list[list[Prompt]] = []
    for group in groups.values():
        waiting = sorted(group, key=lambda prompt: (-prompt.length, prompt.item.id))
        while waiting:
            count = 1 if limits.exact else _how_many(waiting, limits.batch_tokens)
            batches.append(waiting[:count])
            waiting = waiting[count:]
    return batches


def _how_many(waiting: Sequence[Prompt], budget_tokens: int) -> int:
    """How many of `waiting` (longest first) fit a batch as wide as the first; at least one."""
    width, rows = waiting[0].length, 0
    for count, prompt in enumerate(waiting):
        rows += len(prompt.rows)
        if rows * width > budget_tokens and count:
            return count
    return len(waiting)


def ask_batch(model: LoadedModel, template: Template, batch: Sequence[Prompt]) -> list[Asked]:
    """Replies to a batch that `cut` made, whatever its way."""
    ways: dict[str, Callable[[LoadedModel, Template, Sequence[Prompt]], list[Asked]]]
    ways = {"letters": rank_letters, "write": write, "rank": rank_choices}
    return ways[batch[0].item.way](model, template, batch)


def ask(model: LoadedModel, template: Template, prompts: Sequence[Prompt], limits: Limits) -> Iterator[list[Asked]]:
    """Replies in the order of batches, as each one is done; prompts that are too long come first, unasked."""
    refused = [prompt for prompt in prompts if prompt.too_long]
    if refused:
        yield [(prompt.item, prompt.reply()) for prompt in refused]
    for batch in cut([prompt for prompt in prompts if not prompt.too_long], limits):
        yield ask_batch(model, template, batch)


def rank_letters(model: LoadedModel, template: Template, batch: Sequence[Prompt]) -> list[Asked]:
    """First-step scores of each item's options: one forward, the head's rows of the options only.

    All items of `batch` offer the same options. Their ids are those that `encode` gives the letters as an answer.
    """
    letters = option_ids(batch[0].item.options, batch[0].item.question, template)

    def scores(part: Sequence[Prompt]) -> list[Reply]:
        found = model.logits(pad([prompt.rows[0] for prompt in part], pad_id=template.pad_id), letters).tolist()
        return [replace(prompt.reply(), option_scores=tuple(row)) for prompt, row in zip(part, found, strict=True)]

    return _halving(scores, batch)


def write(model: LoadedModel, template: Template, batch: Sequence[Prompt]) -> list[Asked]:
    """Greedy replies, and the first step's log-probabilities of the options where the items offer any. One cap for the whole batch."""
    first = batch[0].item
    watched = option_ids(first.options, first.question, template) if first.options else ()

    def texts(part: Sequence[Prompt]) -> list[Reply]:
        written = model.generate([prompt.ids for prompt in part], max_new_tokens=first.max_new_tokens, stop_ids=template.stop_ids, watch_ids=watched)
        return [
            replace(
                prompt.reply(),
                text=decode(one.ids, template),
                new_tokens=len(one.ids),
                stopped=one.stopped,
                option_scores=tuple(one.first_scores),
            )
            for prompt, one in zip(part, written, strict=True)
        ]

    return _halving(texts, batch)


def rank_choices(model: LoadedModel, template: Template, batch: Sequence[Prompt]) -> list[Asked]:
    """Each candidate's own sum of token losses, its end token included."""
    import torch

    @torch.no_grad()
    def losses(part: Sequence[Prompt]) -> list[Reply]:
        rows = [row for prompt in part for row in prompt.rows]
        trained = [row.trained for row in rows]
        sums = model.loss(pad(rows, pad_id=template.pad_id), max(1, sum(trained))).sums.tolist()
        found = iter([Candidate(loss, tokens) for loss, tokens in zip(sums, trained, strict=True)])
        return [replace(prompt.reply(), candidates=tuple(next(found) for _ in prompt.rows)) for prompt in part]

    return _halving(losses, batch)


def _halving(run: Ask, batch: Sequence[Prompt]) -> list[Asked]:
    """`run` over the batch; where memory runs out, over its halves. FitError where a single question does not fit."""
    import torch

    try:
        replies = run(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise FitError(
                f"no memory for one question of {batch[0].length} tokens ({batch[0].item.id})",
                "free the card, or take a smaller model",
            ) from None
        replies = []
    if replies:
        return [(prompt.item, reply) for prompt, reply in zip(batch, replies, strict=True)]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _halving(run, batch[:middle]) + _halving(run, batch[middle:])
