"""Before step 1: what the run will need at most is tried once, and nothing is changed by it.

The peak of a run lies in the largest micro-batch of all its steps, with gradients and moments already there.
That micro-batch goes forward and backward, the optimiser takes a step at rate 0, one batch of validation rows
is measured and the longest question asked; then weights, moments and random states are put back. A run that
cannot take a step or be validated says so before its first hour.

On the CPU, where a step takes minutes and memory does not end at a card's edge, less is enough: where the
next step makes a micro-batch as large as any (LIKE), or memory is free for more than the largest (ROOM),
that step is the trial, and what it finds is answered as a trial's would be; of the validation rows the
shortest is measured and asked, for the start of a reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, memory_for
from doitune.errors import DoituneError
from doitune.prompt.batch import cut, positions_of
from doitune.system.doing import doing
from doitune.system.ram import ram
from doitune.system.spent import spent_on
from doitune.system.units import GIB
from doitune.train.gradient import Gradients
from doitune.train.loop import Training, lead
from doitune.train.peak import card_gib, peak_memory_gib, reset_peak
from doitune.train.shares import Order, largest, share
from doitune.train.state import Standing
from doitune.train.weights import Aside

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prepare.material import Material
    from doitune.prompt.encoded import Encoded


LIKE = 0.9
"""A micro-batch of this share of the largest one's positions stands for it on the CPU."""

ROOM, KEPT_BYTES = 0.75, 12
"""The share of the free memory that the largest micro-batch may take untried on the CPU, and what is kept of
a position for each number that goes into or out of a layer with an adapter: twice what SmolLM2 takes in fp32.
"""

TRIED_TOKENS = 8
"""How much of a reply the question gets on the CPU."""


@dataclass(frozen=True)
class Trial:
    """What was tried: the step (from 1) and the positions of its largest micro-batch, the memory at its peak,
    and what the plan had said. `apart`: before that step was made; else the step itself is the trial.

    Peaks: what the allocator of a card had reserved; on the CPU the process's largest resident size so far.
    `card_gib`: the whole card.
    """

    of_step: int
    positions: int
    tokens_per_micro_batch: int
    peak_gib: float
    evaluation_peak_gib: float
    planned_gib: float | None
    card_gib: float | None
    apart: bool = True


@spent_on("trying what takes most")
def try_out(training: Training) -> Trial:
    """Try the largest micro-batch of the run, a step of the optimiser, and evaluation, and change nothing but
    the token budget; logs what it took.

    Errors: FitError where the run does not fit even one example at a time.
    """
    setup, model, before = training.setup, training.setup.model, training.weights.aside()
    training.weights.untrained = before if training.at.step == 0 else None
    with same_random_state(model):
        largest, peak = _try_longest(training, before)
        reset_peak(model)
        _try_evaluation(training)
    trial = Trial(
        of_step=largest.order.step + 1,
        positions=largest.positions,
        tokens_per_micro_batch=training.at.tokens_per_micro_batch,
        peak_gib=peak,
        evaluation_peak_gib=peak_memory_gib(model),
        planned_gib=setup.allowance.planned_gib if setup.allowance else None,
        card_gib=card_gib(model),
        apart=largest.order.trial,
    )
    reset_peak(model)
    setup.run.log.add({"event": "trial", "step": training.at.step, **asdict(trial)})
    return trial


@dataclass(frozen=True)
class Largest:
    """A step's largest micro-batch, and how to have it made: in a trial, or in the step itself."""

    order: Order
    positions: int


def _try_longest(training: Training, before: Aside) -> tuple[Largest, float]:
    """What takes most, and its peak; with less to a micro-batch each time that memory runs out."""
    model, weights = training.setup.model, training.weights
    while True:
        found = longest_step(training.gradients, training.at)
        if (met := _met_at_once(training, found)) is not None:
            return met, peak_memory_gib(model)
        doing(f"trying the largest micro-batch, {found.positions:,} tokens of step {found.order.step + 1}")
        reset_peak(model)
        try:
            lead(training.gradients, found.order)
            weights.clip()
            weights.move(rate=0.0)
            return found, peak_memory_gib(model)
        except OutOfMemory:
            pass
        finally:
            training.gradients.release()
            weights.put_back(before)
        training.at = training.recovery.with_less(training.at, "trial", found.order.step)


def _met_at_once(training: Training, found: Largest) -> Largest | None:
    """The next step's largest micro-batch, where it stands for the one that was found."""
    at = training.at
    if training.setup.model.device.type != "cpu" or at.step >= at.total_steps:
        return None
    own = _largest_of(training.gradients, Order(at.step, at.tokens_per_micro_batch, at.packed))
    stands = own.positions >= LIKE * found.positions or _has_room(training.setup.model, found.positions)
    return own if stands else None


def _has_room(model: LoadedModel, positions: int) -> bool:
    """Whether the free memory holds a micro-batch of so many positions by far. An adapter's two halves are
    [rank, in] and [out, rank]."""
    kept = sum(max(parameter.shape) for _, parameter in model.trainable())
    return positions * kept * KEPT_BYTES <= ROOM * ram()[1] * GIB


def _try_evaluation(training: Training) -> None:
    """One batch of validation rows, and a question, on a card the longest; what fails is said, and does not
    stop a run."""
    setup, at = training.setup, training.at
    rows, tokens = largest_batch(setup.material.valid_encoded, at), None
    asked = row_by_length(setup.material, longest=True)
    if setup.model.device.type == "cpu":
        asked, tokens = row_by_length(setup.material, longest=False), TRIED_TOKENS
        rows = sorted(rows, key=lambda row: len(row.ids))[:1]
    try:
        with setup.signals.at_once(), memory_for("validation question"):
            training.validation.losses(rows, at)
            if setup.scorer and asked:
                setup.scorer(setup.model, setup.material.template, asked, most_new_tokens=tokens)
    except DoituneError as error:
        setup.note(f"validation failed when it was tried: {error.problem}")
    training.gradients.release()


def longest_step(gradients: Gradients, at: Standing) -> Largest:
    """The trial of the step whose largest micro-batch is the run's: every step is cut, none is guessed at."""
    orders = [
        Order(step, at.tokens_per_micro_batch, at.packed, trial=True)
        for step in range(gradients.course.total_steps)
    ]
    return max((_largest_of(gradients, order) for order in orders), key=lambda found: found.positions)


def _largest_of(gradients: Gradients, order: Order) -> Largest:
    """The largest micro-batch of the order's step."""
    lengths = gradients.lengths[list(gradients.course.members(order.step))].tolist()
    group = largest(lengths, share(lengths, order, gradients.team.size), packed=order.packed)
    return Largest(order, positions_of([lengths[place] for place in group], packed=order.packed))


def largest_batch(rows: Mapping[str, Sequence[Encoded]], at: Standing) -> list[Encoded]:
    """The validation rows of the batch that takes most; empty without validation rows."""
    encoded = [one for part in rows.values() for one in part]
    lengths = [len(one.ids) for one in encoded]
    groups = cut(lengths, at.tokens_per_micro_batch, packed=at.packed) if encoded else []
    return [
        encoded[place]
        for place in max(
            groups,
            key=lambda group: positions_of([lengths[place] for place in group], packed=at.packed),
            default=[],
        )
    ]


def row_by_length(material: Material, *, longest: bool) -> dict[str, list[Example]]:
    """The longest or the shortest validation row under its ability's name; empty without validation rows."""
    rows = [
        (len(one.ids), name, place)
        for name, part in material.valid_encoded.items()
        for place, one in enumerate(part)
    ]
    found = sorted(rows)[-1:] if longest else sorted(rows)[:1]
    return {name: [material.valid[name][place]] for _, name, place in found}


@contextmanager
def same_random_state(model: LoadedModel) -> Iterator[None]:
    """Put torch's random states back on leaving, whatever happened."""
    import torch

    before = torch.get_rng_state()
    card = torch.cuda.get_rng_state() if model.device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if card is not None:
            torch.cuda.set_rng_state(card)
