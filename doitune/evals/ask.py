"""A loaded model's replies to questions, many at once: letters by their scores, written replies,
candidates by their losses.

Questions are sorted by length and cut into batches under a token budget, longest first, so that padding costs
least. What the prompts of a set have in common at their start (solved examples) is run once, and its keys and
values serve all of them. The cut depends on the questions alone, so that an interrupted evaluation asks the
very batches of one that ran through. Out of memory halves the budget, for later batches too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, free_cache, memory_for
from doitune.errors import FitError
from doitune.evals.letters import one_each, scored_ids, sequence_scores
from doitune.evals.prompts import Prompt, unlabelled
from doitune.evals.task import Candidate, Item, Reply
from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS, cut_sorted, pad
from doitune.prompt.encode import decode, option_ids
from doitune.prompt.encoded import Encoded
from doitune.prompt.template import Template

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel, Prefix

PREFIX_POSITION = 0.25
"""What a position of a shared prefix takes in a batch, as a share of a position that is run: keys and
values of one layer at a time."""

WORTH_TOKENS = 2 * MICRO_BATCH_COST_TOKENS
"""A prefix is shared where that saves more than this: it costs a forward of its own, and a set's batches
have no other set's questions. Letters' starts are, where a batch costs less, from as much less on."""


@dataclass(frozen=True)
class Limits:
    """How much is asked at once: positions of a batch, padding included; the model's context in tokens (None:
    no limit known).

    `exact` asks one question at a time and shares nothing, so that no figure depends on what shared its
    batch.
    """

    batch_tokens: int = 8192
    context_tokens: int | None = None
    exact: bool = False


@dataclass
class Kept:
    """What is kept between the batches of one model: the prefixes run last, and the budget of positions that
    is left once memory ran out."""

    prefixes: dict[tuple[int, ...], Prefix] = field(default_factory=dict)
    most_positions: float = float("inf")

    def read(self, model: LoadedModel, ids: tuple[int, ...]) -> Prefix:
        """The prefix, run by the model unless it is one of the last two (a set's own and its released
        one)."""
        if ids not in self.prefixes:
            while len(self.prefixes) > 1:
                del self.prefixes[next(iter(self.prefixes))]  # its memory is free before the new one is run
            self.prefixes[ids] = model.read(ids)
        return self.prefixes[ids]


Asked = tuple[Item, Reply]
Ask = Callable[[Sequence[Prompt]], list[Reply]]


def cut(
    prompts: Sequence[Prompt],
    limits: Limits,
    *,
    shares: bool = True,
    cost_tokens: int = MICRO_BATCH_COST_TOKENS,
) -> list[list[Prompt]]:
    """Batches of prompts that can be asked together, longest first: the same way, options and cap, and under
    the token budget.

    `shares`: whether the model can go on from a prefix. The prompts of a batch share the same ones.
    `cost_tokens`: what a batch costs the model besides its positions.
    """
    groups: dict[tuple[object, ...], list[Prompt]] = {}
    for prompt in with_prefixes(prompts, cost_tokens) if shares and not limits.exact else prompts:
        item = prompt.item
        kind: tuple[object, ...] = (
            (item.way, item.options, item.max_new_tokens) if item.way != "rank" else (item.way,)
        )
        groups.setdefault(
            (*kind, prompt.ids[: prompt.shared], prompt.rows[-1].ids[: prompt.released_shared]), []
        ).append(prompt)
    batches: list[list[Prompt]] = []
    for group in sorted(groups.values(), key=lambda group: -max(prompt.length for prompt in group)):
        waiting = sorted(group, key=lambda prompt: (-prompt.length, prompt.item.id))
        sizes = [math.ceil(_positions([prompt])) for prompt in waiting]
        places = (
            [[place] for place in range(len(waiting))]
            if limits.exact
            else cut_sorted(sizes, limits.batch_tokens, cost_tokens)
        )
        batches += [[waiting[place] for place in part] for part in places]
    return batches


def with_prefixes(prompts: Sequence[Prompt], cost_tokens: int) -> list[Prompt]:
    """The prompts with `shared` set: the start that a set's letter questions (of as many shots) have in
    common, or where that is not worth it, all sets' that have none; a ranking's whole question."""
    letters, found = [], []
    alone: list[Prompt] = []
    for prompt in prompts:
        if prompt.item.way == "letters":
            letters.append(prompt)
            continue
        rows = [row.ids for row in prompt.rows] if prompt.item.way == "rank" else []
        found.append(replace(prompt, shared=_worth_sharing(rows, WORTH_TOKENS, len(prompt.ids) - 1)))
    worth = cost_tokens * WORTH_TOKENS // MICRO_BATCH_COST_TOKENS
    for group in _of_a_kind(letters, of_set=True):
        shared = _worth_sharing([prompt.ids for prompt in group], worth)
        released = _worth_sharing([prompt.rows[1].ids for prompt in group if len(prompt.rows) > 1], worth)
        (found if shared else alone).extend(
            replace(prompt, shared=shared, released_shared=released) for prompt in group
        )
    for group in _of_a_kind(alone, of_set=False):
        shared = _worth_sharing([prompt.ids for prompt in group], worth)
        found += [replace(prompt, shared=shared) for prompt in group]
    return found


def _of_a_kind(prompts: Sequence[Prompt], *, of_set: bool) -> list[list[Prompt]]:
    """The prompts by options and shots, and by set."""
    groups: dict[tuple[object, ...], list[Prompt]] = {}
    for prompt in prompts:
        kind = (prompt.item.set if of_set else "", prompt.item.options, prompt.shots, prompt.released_shots)
        groups.setdefault(kind, []).append(prompt)
    return list(groups.values())


def _worth_sharing(rows: Sequence[tuple[int, ...]], worth: int, at_most: int | None = None) -> int:
    """How many first ids all rows have in common, a token of each row left over; 0 where no more than
    `worth` positions would be saved."""
    if len(rows) < 2:
        return 0
    first, last = min(rows), max(rows)  # what the ends of the sorted rows share, all of them do
    top = min(len(row) - 1 for row in rows)
    top = top if at_most is None else min(top, at_most)
    shared = next((place for place in range(top) if first[place] != last[place]), top)
    return shared if shared * (len(rows) - 1) > worth else 0


def _positions(prompts: Sequence[Prompt]) -> float:
    """What a batch of these takes, in positions that are run: rows as wide as the longest, and the shared
    prefix beside each."""
    saved = 1 - PREFIX_POSITION
    if prompts[0].item.way != "letters":
        return sum(len(prompt.rows) for prompt in prompts) * (
            max(prompt.length for prompt in prompts) - prompts[0].shared * saved
        )
    own = [len(prompt.ids) for prompt in prompts]
    released = [len(prompt.rows[1].ids) for prompt in prompts if len(prompt.rows) > 1]
    positions = len(own) * (max(own) - prompts[0].shared * saved)
    return positions + (
        len(released) * (max(released) - prompts[0].released_shared * saved) if released else 0
    )


def ask_batch(
    model: LoadedModel, template: Template, batch: Sequence[Prompt], kept: Kept | None = None
) -> list[Asked]:
    """Replies to a batch that `cut` made, whatever its way. `kept` is handed from batch to batch of one
    model."""
    ways: dict[str, Callable[[LoadedModel, Template, Sequence[Prompt], Kept], list[Asked]]]
    ways = {"letters": rank_letters, "write": write, "rank": rank_choices}
    return ways[batch[0].item.way](model, template, batch, kept or Kept())


def ask(
    model: LoadedModel, template: Template, prompts: Sequence[Prompt], limits: Limits
) -> Iterator[list[Asked]]:
    """Replies in the order of batches, as each one is done; prompts that are too long come first, unasked."""
    refused = [prompt for prompt in prompts if prompt.too_long]
    if refused:
        yield [(prompt.item, prompt.reply()) for prompt in refused]
    kept = Kept()
    asked = [prompt for prompt in prompts if not prompt.too_long]
    for batch in cut(asked, limits, shares=model.shares_prefix, cost_tokens=model.batch_cost_tokens):
        yield ask_batch(model, template, batch, kept)


def rank_letters(model: LoadedModel, template: Template, batch: Sequence[Prompt], kept: Kept) -> list[Asked]:
    """Scores of each item's options (see Reply): one forward, the head's rows of the options only.

    All items of `batch` offer the same options. Where the released code would keep other shots, its prompts
    are a forward of their own, from which the bare letters are read.
    """
    options, bare = scored_ids(batch[0].item, template)
    letters = one_each(options)

    def first_step(rows: Sequence[tuple[int, ...]], shared: int, tokens: Sequence[int]) -> list[list[float]]:
        padded = pad([unlabelled(row[shared:]) for row in rows], pad_id=template.pad_id)
        prefix = kept.read(model, rows[0][:shared]) if shared else None
        return model.logits(padded, tokens, prefix).tolist()

    def taught(rows: Sequence[tuple[int, ...]], shared: int) -> list[list[float]]:
        """The options' scores, and the bare letters' behind them."""
        if letters:
            return first_step(rows, shared, (*letters, *bare))
        prefix = kept.read(model, rows[0][:shared]) if shared else None
        whole = sequence_scores(model, template, [row[shared:] for row in rows], options, prefix)
        return [a + b for a, b in zip(whole, first_step(rows, shared, bare))] if bare else whole

    def scores(part: Sequence[Prompt]) -> list[Reply]:
        own = taught([prompt.ids for prompt in part], part[0].shared)
        twice = [prompt.rows[1].ids for prompt in part if len(prompt.rows) > 1]
        released = iter(first_step(twice, part[0].released_shared, bare) if twice and bare else [])
        lines = [
            (row[: len(options)], next(released, []) if len(prompt.rows) > 1 else row[len(options) :])
            for prompt, row in zip(part, own, strict=True)
        ]
        return [
            replace(prompt.reply(), option_scores=tuple(row), released_scores=tuple(other))
            for prompt, (row, other) in zip(part, lines, strict=True)
        ]

    return _halving(scores, batch, kept)


def write(model: LoadedModel, template: Template, batch: Sequence[Prompt], kept: Kept) -> list[Asked]:
    """Greedy replies, and scores of the options where the items offer any (see Reply), the loss of the row's
    own answer where it is free. One cap for the whole batch."""
    first = batch[0].item
    options = option_ids(first.options, first.question, template) if first.options else ()
    watched = one_each(options)

    def texts(part: Sequence[Prompt]) -> list[Reply]:
        written = model.generate(
            [prompt.ids for prompt in part],
            max_new_tokens=first.max_new_tokens,
            stop_ids=template.stop_ids,
            watch_ids=watched,
        )
        scores: Sequence[Sequence[float]] = [one.first_scores for one in written]
        if options and not watched:
            scores = sequence_scores(model, template, [prompt.ids for prompt in part], options)
        own = [row for prompt in part if prompt.item.form == "open" for row in prompt.rows[1:]]
        losses = iter(_candidates(model, template, own, None) if own else [])
        return [
            replace(
                prompt.reply(),
                text=decode(one.ids, template),
                new_tokens=len(one.ids),
                stopped=one.stopped,
                option_scores=tuple(of_options),
                released_scores=tuple(one.last_scores),
                candidates=tuple(next(losses) for _ in prompt.rows[1:] if prompt.item.form == "open"),
            )
            for prompt, one, of_options in zip(part, written, scores, strict=True)
        ]

    return _halving(texts, batch, kept)


def rank_choices(model: LoadedModel, template: Template, batch: Sequence[Prompt], kept: Kept) -> list[Asked]:
    """Each candidate's own sum of token losses, its end token included; a long question is run once for
    all of its candidates."""

    def losses(part: Sequence[Prompt]) -> list[Reply]:
        shared = part[0].shared
        rows = [Encoded(row.ids[shared:], row.labels[shared:]) for prompt in part for row in prompt.rows]
        prefix = kept.read(model, part[0].ids[:shared]) if shared else None
        found = iter(_candidates(model, template, rows, prefix))
        return [
            replace(prompt.reply(), candidates=tuple(next(found) for _ in prompt.rows)) for prompt in part
        ]

    return _halving(losses, batch, kept)


def _candidates(
    model: LoadedModel, template: Template, rows: Sequence[Encoded], prefix: Prefix | None
) -> list[Candidate]:
    """Each labelled row's loss, by one forward."""
    import torch

    trained = [row.trained for row in rows]
    with torch.no_grad():
        sums = model.loss(pad(rows, pad_id=template.pad_id), max(1, sum(trained)), prefix).sums.tolist()
    return [Candidate(loss, tokens) for loss, tokens in zip(sums, trained, strict=True)]


def _halving(run: Ask, batch: Sequence[Prompt], kept: Kept) -> list[Asked]:
    """`run` over the batch; over its halves where memory runs out or ran out over as much. FitError where
    a single question does not fit."""
    replies: list[Reply] = []
    if len(batch) == 1 or _positions(batch) <= kept.most_positions:
        try:
            with memory_for("batch of questions"):
                replies = run(batch)
        except OutOfMemory:
            kept.most_positions = min(kept.most_positions, _positions(batch) / 2)
    if not replies:
        free_cache()
        if len(batch) > 1:
            middle = len(batch) // 2
            return _halving(run, batch[:middle], kept) + _halving(run, batch[middle:], kept)
        replies = _single(run, batch[0], kept)
    return [(prompt.item, reply) for prompt, reply in zip(batch, replies, strict=True)]


def _single(run: Ask, prompt: Prompt, kept: Kept) -> list[Reply]:
    """One question whole, with no prefix in memory. FitError where that does not fit either."""
    kept.prefixes.clear()
    free_cache()
    try:
        with memory_for("question"):
            return run([replace(prompt, shared=0, released_shared=0)])
    except OutOfMemory:
        raise FitError(
            f"no memory for one question of {prompt.length} tokens ({prompt.item.id})",
            "free the card, or take a smaller model",
        ) from None
