"""Recipe: all that a run is asked to do. Every field with its type, default, limit and meaning, once.

A recipe is data: there is no field for code to load, for a command, a hook, an environment variable or a
secret. The meaning written beside a field is its help everywhere (`field_help`). Files are read by
`yaml_text`, turned into these sections by `typed`, found by `files` and layered by `resolve`. The larger
sections have files of their own (`model_section`, `data_section`, `train_section`); all are imported from
here.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from doitune.ability import Form
from doitune.data.suites import DEFAULT_SUITE, SUITES
from doitune.recipe.data_section import BUDGET_NAMES, BudgetSection, DataSection
from doitune.recipe.model_section import ArchitectureSection, ModelSection
from doitune.recipe.section import (
    Contradiction,
    Count,
    Distinct,
    Modules,
    Natural,
    Section,
    Share01,
    Text,
    Token,
)
from doitune.recipe.train_section import TrainSection

__all__ = [
    "BUDGET_NAMES",
    "AbilitySection",
    "ArchitectureSection",
    "BudgetSection",
    "DataSection",
    "EvalSection",
    "LoraSection",
    "ModelSection",
    "PromptSection",
    "Recipe",
    "Section",
    "TrainSection",
]

OwnForms = Literal["open", "single_choice", "multi_choice", "tf", "cloze", "math"]
"""Forms that an ability may declare; a ranking needs candidates in each row."""

if TYPE_CHECKING:
    Suite: TypeAlias = str
else:
    Suite = Literal[tuple(SUITES)]


class LoraSection(Section):
    """The adapter that is trained."""

    rank: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="rank of the adapter; memory grows with it (33b on 24 GB: at most 32)",
    )
    alpha: float = Field(default=32.0, gt=0, description="the adapter's output is scaled by alpha / rank")
    dropout: Share01 = Field(
        default=0.0,
        description="share of the adapter's inputs dropped while training; above 0 the fast kernels are off",
    )
    targets: Literal["all-linear"] | Modules = Field(
        default="all-linear",
        description="layers that get an adapter: every linear layer of a block, or a list of layer names",
    )


class PromptSection(Section):
    """How a conversation becomes tokens."""

    template: Literal["auto", "doit", "model"] = Field(
        default="auto",
        description="doit: the paper's turns; model: the base's own chat template; auto: its own where it "
        "was tuned for chat",
    )
    tokens: Literal["reuse", "new"] = Field(
        default="reuse",
        description="role tokens: reuse unused tokens of the vocabulary, or train three new rows "
        "as the paper does",
    )
    user_token: Token = Field(
        default="",
        description="the vocabulary's token that starts a user turn; empty: chosen by the tokenizer",
    )
    assistant_token: Token = Field(
        default="", description="the vocabulary's token that starts an answer; empty: chosen by the tokenizer"
    )
    end_token: Token = Field(
        default="", description="the vocabulary's token that ends a turn; empty: the tokenizer's end token"
    )
    learn: Literal["all", "last"] = Field(
        default="all", description="the assistant's turns that are learnt: all of a row, or its last alone"
    )
    thinking: Literal["auto", "keep", "drop", "last"] = Field(
        default="auto",
        description="an answer's thoughts (<think>, reasoning_content): auto: as the template writes them; "
        "keep: in every turn; drop: in none; last: in those after the last question",
    )

    def contradictions(self) -> Iterator[Contradiction]:
        named = [token for token in (self.user_token, self.assistant_token, self.end_token) if token]
        if len(set(named)) != len(named):
            yield Contradiction(
                "user_token",
                f"the role tokens {', '.join(named)} are not different",
                "name three different tokens",
            )


class EvalSection(Section):
    """What the result is asked, unless the command line says otherwise."""

    suite: Annotated[tuple[Suite, ...], Field(min_length=1), Distinct] = Field(
        default=(DEFAULT_SUITE,), description=f"sets of questions: {', '.join(SUITES)}"
    )
    shots: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = Field(
        default=(0,),
        description="solved examples shown before a question; each number is an evaluation of its own",
    )
    max_new_tokens: Natural | None = Field(
        default=None, description="longest reply in tokens; unset: by the form of the question"
    )
    tokens_per_batch: Natural | None = Field(
        default=None, description="token budget of one batch of questions; unset: what the card holds"
    )


class AbilitySection(Section):
    """An ability of one's own, by its name in the rows."""

    title: Token = Field(default="", description="what reports call it; empty: its name")
    chance: Share01 | None = Field(
        default=None, description="what guessing scores, 0 to 1; unset: by the form of each question"
    )
    forms: Annotated[tuple[OwnForms, ...], Distinct] = Field(
        default=(), description="how its answers are read; empty: as each row's own answer shows"
    )


class Recipe(Section):
    """All that a run is asked to do."""

    summary: Text = Field(default="", description="one sentence for the list of recipes; not inherited")
    alias_of: Text | None = Field(
        default=None, description="the recipe that this one only renames; not inherited"
    )
    model: ModelSection = Field(description="the base model")
    lora: LoraSection = Field(default_factory=LoraSection, description="the adapter")
    prompt: PromptSection = Field(default_factory=PromptSection, description="tokens of a conversation")
    data: DataSection = Field(description="the examples")
    train: TrainSection = Field(default_factory=TrainSection, description="the training")
    eval: EvalSection = Field(default_factory=EvalSection, description="the evaluation")
    abilities: dict[str, AbilitySection] = Field(
        default_factory=dict, description="abilities of your own; one that is only in the rows needs no entry"
    )

    @property
    def declared_forms(self) -> dict[str, tuple[Form, ...]]:
        """The forms of each ability that declares any."""
        return {name: tuple(section.forms) for name, section in self.abilities.items() if section.forms}
