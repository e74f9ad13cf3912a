"""The recipe's `data`: which examples are learnt from, and how many of each ability."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model

from doitune.ability import GENERAL, INSTRUCTIONS, NAMES, is_ability_name
from doitune.data.other_formats import OwnForm
from doitune.data.sources import SMALL
from doitune.recipe.budget import Budget, Leftover, Select, Share, Shortfall
from doitune.recipe.section import (
    Contradiction,
    Count,
    InnerFolder,
    Location,
    Natural,
    Section,
    Seed,
    Share01,
    Token,
)

BUDGET_NAMES: tuple[str, ...] = (*NAMES, INSTRUCTIONS.name, GENERAL.name)
"""Abilities that a budget may name whatever the corpus: the ten, the synthetic instructions, and rows that
name none. Abilities of one's own stand beside them."""

Amount = Count | Literal["all"] | Share


class BudgetSection(Section):
    """How many examples of each ability; where nothing is written, every row. In a file it is flat: the
    abilities' names stand beside `share_equally` and `leftover`."""

    share_equally: Natural | None = Field(
        default=None,
        description="all examples together: abilities not named, or named `share`, get equal parts of what "
        "the numbers and `all` leave; of rows of your own: the abilities that they have",
    )
    leftover: Leftover = Field(
        default="spread",
        description="units that do not divide: one each to the sharing abilities in their order, or not used",
    )
    abilities: dict[str, Amount] = Field(
        default_factory=dict,
        description="a number, `all`, `share` or `share+K`; an ability that is not named gets 0, "
        "or its share; with no number at all every row is taken",
    )

    def to_budget(self) -> Budget:
        """The rule that `budget.pick` follows."""
        return Budget(dict(self.abilities), self.share_equally, self.leftover)

    def contradictions(self) -> Iterator[Contradiction]:
        total = self.share_equally
        if total is None and self.abilities and not any(self.abilities.values()):
            yield Contradiction(
                "", "the budget asks for no example", "write `share_equally: 160`, or a number for an ability"
            )
        numbers = sum(amount for amount in self.abilities.values() if isinstance(amount, int))
        if total is not None and numbers > total:
            problem = f"the numbers ask for {numbers} examples, more than share_equally {total}"
            yield Contradiction("share_equally", problem, "raise the total or lower the numbers")
        for name, amount in self.abilities.items():
            if isinstance(amount, Share) and name == INSTRUCTIONS.name:
                yield Contradiction(
                    name, "`synthetic` is no ability and has no share", "write a number or `all`"
                )
            elif isinstance(amount, Share) and total is None:
                yield Contradiction(
                    name, f"`{name}` asks for a share of nothing", "write `share_equally: TOTAL` beside it"
                )


if TYPE_CHECKING:
    _From = Section
else:  # `from` is no name that Python allows in a class
    _From = create_model(
        "_From", __base__=Section, **{"from": (Location, Field(description="a name or path, as data.corpus"))}
    )


class CorpusEntry(_From):
    """One of several corpora: `from`, and how its rows are read; what is left out is as for all of them."""

    ability: Token = Field(default="", description="the ability of every row of this corpus")
    budget: Count | None = Field(
        default=None, description="rows learnt from of this corpus, before data.budget chooses; unset: all"
    )
    rows: Literal["doit", OwnForm] | None = Field(default=None, description="as data.rows, for this corpus")
    question_column: Token = Field(default="", description="as data.question_column, for this corpus")
    answer_column: Token = Field(default="", description="as data.answer_column, for this corpus")
    ability_column: Token = Field(default="", description="as data.ability_column, for this corpus")

    @property
    def place(self) -> str:
        """The corpus's name or path."""
        return str(getattr(self, "from"))

    def contradictions(self) -> Iterator[Contradiction]:
        yield from _names_that_fail(self, "ability")


def _names_that_fail(section: "CorpusEntry | DataSection", ability: str) -> Iterator[Contradiction]:
    """What the names of abilities and columns say against each other; `ability`: the field of the ability."""
    name = getattr(section, ability)
    if name and not is_ability_name(name):
        yield Contradiction(
            ability, f"`{name}` is no name for an ability", "letters, digits, _ and -, at most 64"
        )
    if name and section.ability_column:
        problem = f"beside `{ability}`, which gives every row its ability, no column is read for it"
        yield Contradiction("ability_column", problem, "write one of the two")
    if bool(section.question_column) != bool(section.answer_column):
        lacking = "answer_column" if section.question_column else "question_column"
        yield Contradiction(lacking, f"`{lacking}` is not named", "name both columns, or neither")


class DataSection(Section):
    """Which examples are learnt from."""

    corpus: Location | Annotated[tuple[CorpusEntry, ...], Field(min_length=1)] = Field(
        description="where rows come from: doit, demo, a fetched corpus's name, or a path; or a list of "
        "these, each alone or as {from: PATH, ability: NAME, budget: ROWS}"
    )
    rows: Literal["doit", OwnForm] = Field(
        default="doit",
        description="how the rows are written: the data set's own form (rows of your own: as their keys "
        "show), or the one form that rows of your own have (pairs: question and answer in a field each)",
    )
    question_column: Token = Field(
        default="", description="with rows in pairs or a table: the field or column of the question"
    )
    answer_column: Token = Field(default="", description="the field or column of its answer")
    ability_column: Token = Field(
        default="", description="the field or column with each row's ability; empty: `ability`"
    )
    rows_ability: Token = Field(
        default="",
        description="the ability of every row of your own; empty: each row names its own",
    )
    source: InnerFolder = Field(
        default=SMALL,
        description="the corpus's folder that the ten abilities are drawn from; synthetic rows have theirs",
    )
    budget: BudgetSection = Field(default_factory=BudgetSection, description="examples of each ability")
    select: Select = Field(
        default="nested",
        description="nested: a smaller budget's examples are among a larger one's; paper: the released "
        "procedure on sorted files",
    )
    seed: Seed = Field(default=0, description="seed of the selection")
    on_shortfall: Shortfall = Field(
        default="stop", description="a budget that the corpus cannot meet: stop, or take what is there"
    )
    on_overlong: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="a row longer than train.max_tokens: refuse to train, or drop and count it; an answer "
        "is never cut",
    )
    holdout: Share01 = Field(
        default=0.0,
        description="of rows of your own without valid and test rows: the share of each ability that is kept "
        "out of training, half to validate on, half to be judged by",
    )
    holdout_rows: Count = Field(default=200, description="the most rows of an ability that are kept out")
    allow_leaks: bool = Field(
        default=False,
        description="train although chosen rows leak into judged sets; every score then says so",
    )

    def contradictions(self) -> Iterator[Contradiction]:
        yield from _names_that_fail(self, "rows_ability")

    @property
    def corpora(self) -> tuple[CorpusEntry, ...]:
        """The corpora, each with what is said of it alone."""
        return (entry_of(self.corpus),) if isinstance(self.corpus, str) else self.corpus


def entry_of(place: str) -> CorpusEntry:
    """The corpus at a place, of which nothing else is said."""
    return CorpusEntry(**{"from": place})
