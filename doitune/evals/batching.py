"""Whether replies depend on what is in their batch: at the start of an evaluation a few questions of each way
of asking are asked together and one at a time.

Padding on the wrong side, a mask that a kernel ignores or a cache that rows share show in no error, only in
other replies. Rounding alone may part two replies where two tokens are nearly as likely; both tokens' losses
distinguish such a tie from a fault.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from doitune.backends.out_of_memory import in_parts, once_more
from doitune.errors import CheckpointError, FitError
from doitune.evals.ask import Kept, ask_batch, with_prefixes
from doitune.prompt.batch import pad
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.run.layout import BATCHING
from doitune.system.disk import write_json
from doitune.system.doing import counted, doing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.backends.written import Written
    from doitune.evals.prompts import Prompt
    from doitune.evals.task import Item, Reply
    from doitune.prompt.template import Template

Asked: TypeAlias = "list[tuple[Item, Reply]]"
SCHEMA = "doitune.batching/1"
SCORED = ("letters", "rank")
QUESTIONS, TOKENS = 8, 32
SPREAD = 1.5
"""The longest scored question over the shortest: padding up to a third of a row, and little work."""
TIE_NATS = {"float32": 1e-3}
TIE_NATS_HALF = 0.25
"""Two tokens whose losses are no further apart are a tie, by the dtype of the products; so are two options by
their scores, two candidates by their loss a token."""


@dataclass(frozen=True)
class Batching:
    """Of the questions `asked` both ways: replies that are the same, those that part at a tie, and the ids
    of those that part without one."""

    asked: int
    same: int
    ties: int
    parted: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The same as a sentence; "" where every reply is the same."""
        if self.same == self.asked:
            return ""
        text = (
            f"{self.asked} questions asked together and one at a time: {self.same} replies are the same, "
            f"{self.ties} part at a tie"
        )
        if self.parted:
            text += f", {len(self.parted)} differ ({', '.join(self.parted)}): all were asked one at a time"
        return text


def proved_batching(
    folder: Path,
    model: LoadedModel,
    template: Template,
    prompts: Sequence[Prompt],
    batch_tokens: int,
    keep: Callable[[Asked], None],
) -> Batching:
    """What the folder's evaluation found at its start; found now where it has found nothing yet. `keep` is
    given the whole replies of those asked together, where batches can be trusted. Leaves the model in
    evaluation mode."""
    found = read_batching(folder)
    if found is None:
        found, together = compare_batching(model, template, prompts, batch_tokens)
        if not found.parted:
            keep(together)
        write_json(folder / BATCHING, {"schema": SCHEMA, **asdict(found)})
    return found


def whole_replies(prompts: Sequence[Prompt], batch_tokens: int) -> set[str]:
    """The ids of the questions that `proved_batching` keeps the replies of: scored ones."""
    chosen = [one for way in SCORED for one in _choose(prompts, way, batch_tokens)]
    return {one.item.id for one in chosen}


def read_batching(folder: Path) -> Batching | None:
    """What `proved_batching` wrote, None where it has not. CheckpointError where it cannot be read."""
    path = folder / BATCHING
    if not path.is_file():
        return None
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if read["schema"] != SCHEMA:
            raise ValueError(f"its schema is {read['schema']!r}")
        return Batching(
            int(read["asked"]), int(read["same"]), int(read["ties"]), tuple(map(str, read["parted"]))
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "delete it: it is found again") from None


def compare_batching(
    model: LoadedModel, template: Template, prompts: Sequence[Prompt], batch_tokens: int
) -> tuple[Batching, Asked]:
    """Up to QUESTIONS questions of each way of asking, of different lengths, together and one at a time:
    greedy replies of at most TOKENS tokens, the options' scores, the candidates' losses; and the replies of
    the scored ones, together. Leaves the model in evaluation mode."""
    model.training(False)
    found = [_compare_written(model, template, _choose(prompts, "write", batch_tokens))]
    replies: Asked = []
    for way in SCORED:
        one, together = _compare_scored(model, template, _choose(prompts, way, batch_tokens))
        found.append(one)
        replies += together
    whole = Batching(
        sum(one.asked for one in found),
        sum(one.same for one in found),
        sum(one.ties for one in found),
        tuple(name for one in found for name in one.parted),
    )
    return whole, replies


_SAYING = "asking a few questions together and one at a time"


def _compare_written(model: LoadedModel, template: Template, chosen: Sequence[Prompt]) -> Batching:
    if len(chosen) < 2:
        return Batching(0, 0, 0)
    room = min(TOKENS, *(prompt.item.max_new_tokens for prompt in chosen))

    def written(part: Sequence[Prompt]) -> list[Written]:
        return once_more(
            lambda: model.generate(
                [prompt.ids for prompt in part], max_new_tokens=room, stop_ids=template.stop_ids
            )
        )

    doing(_SAYING)
    together = in_parts(written, chosen)
    apart = [written([prompt])[0] for prompt in counted(_SAYING, chosen)]
    same, ties, parted = 0, 0, []
    for prompt, one, other in zip(chosen, together, apart, strict=True):
        if _whole(one) == _whole(other):
            same += 1
        elif _is_tie(model, template, prompt.ids, one, other):
            ties += 1
        else:
            parted.append(prompt.item.id)
    return Batching(len(chosen), same, ties, tuple(parted))


def _compare_scored(
    model: LoadedModel, template: Template, chosen: Sequence[Prompt]
) -> tuple[Batching, Asked]:
    """The chosen as an evaluation asks them, from the start that they share, and each by itself: whole; in
    fp32, where every score tells, only the first of a start whole, and the others from there."""
    if len(chosen) < 2:
        return Batching(0, 0, 0), []
    try:
        return _both_ways(model, template, chosen)
    except FitError:  # of one question: the evaluation says it, once what fits is answered
        return Batching(0, 0, 0), []


def _both_ways(model: LoadedModel, template: Template, chosen: Sequence[Prompt]) -> tuple[Batching, Asked]:
    doing(_SAYING)
    starts: dict[tuple[object, ...], list[Prompt]] = {}
    for prompt in with_prefixes(chosen, model.batch_cost_tokens) if model.shares_prefix else chosen:
        start = (prompt.ids[: prompt.shared], prompt.rows[-1].ids[: prompt.released_shared])
        starts.setdefault(start, []).append(prompt)
    kept = Kept()
    asked = [pair for part in starts.values() for pair in ask_batch(model, template, part, kept)]
    together = {item.id: reply for item, reply in asked}
    exact = model.compute_dtype in TIE_NATS
    ones = [
        prompt if place and exact else replace(prompt, shared=0, released_shared=0)
        for part in starts.values()
        for place, prompt in enumerate(part)
    ]
    counts, parted = Counter[str](), []
    for prompt in counted(_SAYING, ones):
        [(item, alone)] = ask_batch(model, template, [prompt], kept)
        verdict = _alike(_scores(together[item.id]), _scores(alone), model.compute_dtype)
        counts[verdict] += 1
        parted += [item.id] if verdict == "parted" else []
    return Batching(len(chosen), counts["same"], counts["tie"], tuple(parted)), asked


def _scores(reply: Reply) -> list[tuple[float, ...]]:
    """What decides, the more the better: of the options, of the bare letters, of the candidates."""
    candidates = tuple(-one.loss / max(1, one.tokens) for one in reply.candidates)
    return [row for row in (reply.option_scores, reply.released_scores, candidates) if row]


def _alike(one: list[tuple[float, ...]], other: list[tuple[float, ...]], dtype: str) -> str:
    """same, tie or parted: in fp32 by every score, in half precision by the best one."""
    nats, found = TIE_NATS.get(dtype, TIE_NATS_HALF), "same"
    for row, again in zip(one, other, strict=True):
        if dtype in TIE_NATS:
            if not all(abs(a - b) <= nats for a, b in zip(row, again, strict=True)):
                return "parted"
        elif (best := row.index(max(row))) != (now := again.index(max(again))):
            if not (row[best] - row[now] <= nats and again[now] - again[best] <= nats):
                return "parted"
            found = "tie"
    return found


def _choose(prompts: Sequence[Prompt], way: str, batch_tokens: int) -> list[Prompt]:
    """Questions of one way, of a kind that can be asked together, from the shortest to the longest that all
    fit a batch of the evaluation, of scored ones to SPREAD times the shortest: of one set, whose start may be
    shared, where it has enough."""
    sets: dict[tuple[object, ...], list[Prompt]] = {}
    kinds: dict[tuple[object, ...], list[Prompt]] = {}
    for one in prompts:
        if one.item.way == way and not one.too_long:
            kind = (one.item.options, one.shots, one.released_shots) if way == "letters" else ()
            kinds.setdefault(kind, []).append(one)
            sets.setdefault((one.item.set, *kind), []).append(one)
    largest = max((*sets.values(), []), key=len)
    if len(largest) < QUESTIONS or way != "letters":
        largest = max((*kinds.values(), []), key=len)
    some = sorted(largest, key=lambda one: (one.length, one.item.id))
    rows = max((len(one.rows) for one in some), default=1)
    fitting = [one for one in some if rows * one.length * QUESTIONS <= batch_tokens]
    if len(fitting) < QUESTIONS:
        most = max((one.length for one in some), default=0)
        return some[:QUESTIONS] if rows * len(some) * most <= batch_tokens else fitting
    if way != "write":
        near = sum(one.length <= SPREAD * fitting[0].length for one in fitting)
        fitting = fitting[: max(near, QUESTIONS)]
    return [fitting[place * (len(fitting) - 1) // (QUESTIONS - 1)] for place in range(QUESTIONS)]


_END = -1
"""Stands for the stop token that ended a reply."""


def _whole(reply: Written) -> tuple[int, ...]:
    return (*reply.ids, _END) if reply.stopped else reply.ids


def _is_tie(
    model: LoadedModel, template: Template, prompt: tuple[int, ...], one: Written, other: Written
) -> bool:
    """Whether the first tokens at which two replies part are as likely as each other, but for rounding."""
    ways = [_whole(one), _whole(other)]
    place = next((at for at, pair in enumerate(zip(*ways)) if pair[0] != pair[1]), None)
    if place is None:  # one is the start of the other: no token of a greedy reply explains that
        return False
    losses = [_loss(model, template, (*prompt, *way[:place]), way[place]) for way in ways]
    return abs(losses[0] - losses[1]) <= TIE_NATS.get(model.compute_dtype, TIE_NATS_HALF)


def _loss(model: LoadedModel, template: Template, before: tuple[int, ...], token: int) -> float:
    """The loss of a token in nats, of the likeliest stop token where it stands for one."""
    import torch

    tokens = template.stop_ids if token == _END else (token,)
    rows = [Encoded((*before, one), (*[IGNORED] * len(before), one)) for one in tokens]

    @torch.no_grad()
    def least() -> float:
        return min(float(model.loss(pad([row]), 1).sums[0]) for row in rows)

    return once_more(least)
