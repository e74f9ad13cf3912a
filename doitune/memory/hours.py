"""How long a training takes on known cards: a roofline, the share of it that trainings in public reached, and
the tokens of the recipe.

A step waits for products (FLOPs over the card's dense bf16 rate) and for reading the 4-bit base and writing
it out in 16 bits, once for each pass of each micro-batch. Evaluation and validation are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from doitune.ability import INSTRUCTIONS, NAMES
from doitune.errors import DoituneError
from doitune.memory.cards import Card
from doitune.memory.counted import count, places
from doitune.memory.known import KNOWN, KnownCard, named_card
from doitune.memory.setting import Setting
from doitune.prepare.schedule import total_steps

if TYPE_CHECKING:
    from doitune.recipe.fields import BudgetSection, Recipe

BANDWIDTH_REACHED = 0.85
TOKENS_A_ROW = 300
"""Tokens of a row where the corpus is not there: an assumption; instruction rows of this kind lie between
100 and 500."""
TURN_TOKENS = 2
SMALLEST_PARAMETERS = 300_000_000
"""Below this a card waits for its own launches, of which a roofline knows nothing."""


@dataclass(frozen=True)
class Work:
    """The tokens of a whole training. `how` they were found, in words."""

    rows: int
    tokens: int
    steps: int
    how: str


@dataclass(frozen=True)
class Pace:
    """A known card's time for the work: expected, and the least that its data sheet allows."""

    card: str
    tokens_per_second: float
    hours: float
    hours_at_best: float
    tokens_per_micro_batch: int
    efficiency: float
    derived: bool


def flops_per_token(setting: Setting, row_tokens: int) -> float:
    """Forward, recomputation and the gradient of inputs; frozen weights have no gradient of their own.
    `row_tokens`: attention's length."""
    shape = setting.architecture
    passes = 6 if setting.checkpointing else 4
    attention = 9 * row_tokens * shape.hidden * shape.layers
    return (
        passes * shape.linear_parameters
        + 4 * shape.vocabulary * shape.hidden
        + 8 * setting.lora_parameters
        + attention
    )


def tokens_per_second(
    setting: Setting, card: KnownCard, *, row_tokens: int, efficiency: float | None = None
) -> float:
    """Speed with micro-batches of `setting.tokens`; `efficiency` 1 is the roof."""
    share = card.efficiency if efficiency is None else efficiency
    products = setting.tokens * flops_per_token(setting, row_tokens) / (card.tflops * 1e12 * share)
    return setting.tokens / (products + _dequantising_seconds(setting, card))


def _dequantising_seconds(setting: Setting, card: KnownCard) -> float:
    if setting.quantise != "nf4":
        return 0.0
    passes = 3 if setting.checkpointing else 2
    return (
        passes
        * setting.architecture.linear_parameters
        * (0.516 + 2)
        / (BANDWIDTH_REACHED * card.gb_per_second * 1e9)
    )


def known_cards(card: Card) -> tuple[KnownCard, ...]:
    """The known card of this card's name, none where its speed is not known; without a known name all of its
    memory."""
    named = named_card(card.name, card.gib)
    if named is not None:
        return (named,) if isinstance(named, KnownCard) else ()
    return tuple(one for one in KNOWN if abs(one.gib - card.gib) <= 0.03 * one.gib)


def work_of(recipe: Recipe) -> Work:
    """Rows, tokens and steps of a recipe: rows counted in the corpus where it is there, else taken from
    the budget."""
    train = recipe.train
    why, found = "the corpus is not here", None
    try:
        if all(places(one.place) for one in recipe.data.corpora):
            found = count(recipe)
    except (DoituneError, OSError) as error:
        why = f"the corpus cannot serve: {str(error).splitlines()[0]}"
    if found and found.rows:
        rows, tokens = found.rows, round(found.rate * found.characters + TURN_TOKENS * found.turns)
        how = (
            f"{rows:,} rows counted in the corpus, {found.characters:,} characters at about {found.rate:.3g} "
            f"tokens each ({found.by})"
        )
    else:
        rows = _asked(recipe.data.budget)
        tokens = TOKENS_A_ROW * rows
        how = f"about {rows:,} rows by the budget, {TOKENS_A_ROW} tokens a row assumed ({why})"
    steps = total_steps(train, rows)
    share = min(1.0, steps * train.examples_per_step / max(1, rows * train.epochs))
    return Work(rows, round(share * tokens * train.epochs), steps, how)


def _asked(budget: BudgetSection) -> int:
    """Rows that a budget asks for; `all` counts as the published data set's rows."""
    if budget.share_equally is not None:
        return budget.share_equally
    return sum(
        amount if isinstance(amount, int) else PUBLISHED_ROWS.get(name, 0)
        for name, amount in budget.abilities.items()
        if amount != 0
    )


PUBLISHED_ROWS = dict(
    zip(
        (*NAMES, INSTRUCTIONS.name),
        (1042, 1893, 4968, 1000, 1450, 4885, 1000, 12751, 11501, 1000, 40960),
        strict=True,
    )
)
"""Training rows of each ability in the published data set, and of the synthetic instructions."""


def pace(setting: Setting, card: KnownCard, work: Work, most_tokens: int) -> Pace:
    """How long the work takes on a card, in micro-batches as large as fit it and a step fills."""
    of_a_step = max(1, work.tokens // max(1, work.steps))
    mine = replace(setting, tokens=max(1, min(most_tokens, of_a_step)))
    row = max(1, round(work.tokens / max(1, work.rows)))
    row = min(row, setting.tokens)
    speed, roof = (tokens_per_second(mine, card, row_tokens=row, efficiency=share) for share in (None, 1.0))
    hours, best = (work.tokens / one / 3600 for one in (speed, roof))
    return Pace(card.name, speed, hours, best, mine.tokens, card.efficiency, card.derived)
