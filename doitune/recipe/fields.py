"""Recipe: all that a run is asked to do. Every field with its type, default, limit and meaning, once.

A recipe is data: there is no field for code to load, for a command, a hook, an environment variable or a
secret. The meaning written beside a field is its help everywhere (`field_help`). Files are read by
`recipe.text`, turned into these sections by `recipe.read`, and found and layered by `cookbook`.
"""

from __future__ import annotations

import re
import types
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticUndefined

from doitune.ability import GENERAL, NAMES
from doitune.data.suites import SUITES
from doitune.recipe.budget import Budget, Share

BUDGET_NAMES: tuple[str, ...] = (*NAMES, GENERAL.name)
"""Keys that a budget may hold beside its own fields: the ten abilities and the synthetic instructions."""


@dataclass(frozen=True)
class Contradiction:
    """Two fields of a section that cannot both hold; `field` is the one to change."""

    field: str
    problem: str
    hint: str


class Section(BaseModel):
    """A part of a recipe: frozen, no unknown field, no conversion behind the reader's back."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """What the fields say against each other."""
        return iter(())

    @model_validator(mode="after")
    def _agree(self) -> Section:
        found = tuple(self.contradictions())
        if found:
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": "; ".join(c.problem for c in found), "found": found}
            )
        return self


def _printable(text: str) -> str:
    """No control characters, no half of a surrogate pair."""
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
        raise ValueError("holds a control character")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text:
        raise ValueError("must be one line")
    return _printable(text)


def _no_address(text: str) -> str:
    """A recipe names things on this machine or on the hub; it fetches from no other place."""
    if "://" in text:
        raise ValueError("is a web address; a hub name or a folder is wanted")
    return _one_line(text)


def _inside(text: str) -> str:
    """A folder inside the corpus, whatever the system's separator."""
    parts = re.split(r"[/\\]", text)
    if ".." in parts or parts[0] in ("", "~") or ":" in parts[0]:
        raise ValueError("must be a folder inside the corpus, without `..`")
    return _one_line(text)


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(items)) != len(items):
        raise ValueError("names something twice")
    return items


Text = Annotated[str, AfterValidator(_printable)]
Token = Annotated[str, AfterValidator(_one_line)]
Location = Annotated[str, AfterValidator(_no_address), Field(min_length=1)]
InnerFolder = Annotated[str, AfterValidator(_inside), Field(min_length=1)]
Commit = Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]
Count = Annotated[int, Field(ge=0)]
Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share01 = Annotated[float, Field(ge=0, lt=1)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
Modules = Annotated[tuple[ModuleName, ...], Field(min_length=1), AfterValidator(_distinct)]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
if TYPE_CHECKING:
    Suite: TypeAlias = str
else:
    Suite = Literal[tuple(SUITES)]


class ArchitectureSection(Section):
    """The sizes of the base, so that its memory is known before it is downloaded. All or nothing; unset,
    its config.json says them."""

    hidden: Natural | None = Field(
        default=None, description="width of the hidden states; with it, all other sizes must be written"
    )
    intermediate: Natural | None = Field(default=None, description="width of the gated feed-forward")
    layers: Natural | None = Field(default=None, description="blocks")
    heads: Natural | None = Field(default=None, description="attention heads")
    key_value_heads: Natural | None = Field(
        default=None, description="heads of keys and values; unset: as many as heads"
    )
    head_size: Natural | None = Field(default=None, description="width of one head; unset: hidden / heads")
    vocabulary: Natural | None = Field(default=None, description="rows of the embedding")
    tied: bool = Field(default=False, description="the head shares the embedding's matrix")

    def contradictions(self) -> Iterator[Contradiction]:
        sizes = {
            name: getattr(self, name) for name in ("hidden", "intermediate", "layers", "heads", "vocabulary")
        }
        lacking = [name for name, value in sizes.items() if value is None]
        said = (
            len(lacking) < len(sizes)
            or self.key_value_heads is not None
            or self.head_size is not None
            or self.tied
        )
        if said and lacking:
            problem = f"an architecture without {', '.join(lacking)}"
            yield Contradiction(
                lacking[0], problem, "write all sizes, or none: the base's config.json says them"
            )


class ModelSection(Section):
    """The base model and how it is held."""

    name: Location = Field(
        description="the base model: a name of recipes/models, a repository on the hub, a folder, or demo (built in)"
    )
    revision: Commit = Field(
        default="", description="the commit of the hub repository, 40 hex digits; empty: pinned at first use"
    )
    family: Text = Field(
        default="", description="the architecture, for the reader: llama, baichuan, qwen2, ..."
    )
    quantise: Literal["nf4", "none"] = Field(
        default="nf4", description="nf4: the base in 4 bits with double quantisation; none: 16 or 32 bits"
    )
    backend: Literal["auto", "hf", "unsloth"] = Field(
        default="auto", description="the library that holds the model; auto: the first that can"
    )
    compute_dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="the type of arithmetic; auto: bf16 where the card has it, fp16 on older cards, fp32 on a CPU",
    )
    architecture: ArchitectureSection = Field(
        default_factory=ArchitectureSection, description="the base's sizes, for `doitune plan`"
    )
    note: Text = Field(default="", description="what a reader should know about this base")


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

    template: Literal["doit", "model"] = Field(
        default="doit", description="doit: the paper's turns; model: the base's own chat template"
    )
    tokens: Literal["reuse", "new"] = Field(
        default="reuse",
        description="role tokens: reuse unused tokens of the vocabulary, or train three new rows as the paper does",
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

    def contradictions(self) -> Iterator[Contradiction]:
        named = [token for token in (self.user_token, self.assistant_token, self.end_token) if token]
        if len(set(named)) != len(named):
            yield Contradiction(
                "user_token",
                f"the role tokens {', '.join(named)} are not different",
                "name three different tokens",
            )


Amount = Count | Literal["all"] | Share


class BudgetSection(Section):
    """How many examples of each ability. In a file it is flat: the abilities' names stand beside
    `share_equally` and `leftover`."""

    share_equally: Natural | None = Field(
        default=None,
        description="all examples together: abilities not named, or named `share`, get equal parts of what the numbers and `all` leave",
    )
    leftover: Literal["spread", "drop"] = Field(
        default="spread",
        description="units that do not divide: one each to the sharing abilities in their order, or not used",
    )
    abilities: dict[str, Amount] = Field(
        default_factory=dict,
        description="a number, `all`, `share` or `share+K`; an ability that is not named gets 0, or its share",
    )

    def to_budget(self) -> Budget:
        """The rule that `budget.pick` follows."""
        return Budget(dict(self.abilities), self.share_equally, self.leftover)

    def contradictions(self) -> Iterator[Contradiction]:
        total = self.share_equally
        if total is None and not any(self.abilities.values()):
            yield Contradiction(
                "", "the budget asks for no example", "write `share_equally: 160`, or a number for an ability"
            )
        numbers = sum(amount for amount in self.abilities.values() if isinstance(amount, int))
        if total is not None and numbers > total:
            problem = f"the numbers ask for {numbers} examples, more than share_equally {total}"
            yield Contradiction("share_equally", problem, "raise the total or lower the numbers")
        for name, amount in self.abilities.items():
            if name not in BUDGET_NAMES:
                yield Contradiction(
                    name, f"no ability `{name}`", f"the abilities are {', '.join(BUDGET_NAMES)}"
                )
            elif isinstance(amount, Share) and name == GENERAL.name:
                yield Contradiction(
                    name, "`synthetic` is no ability and has no share", "write a number or `all`"
                )
            elif isinstance(amount, Share) and total is None:
                yield Contradiction(
                    name, f"`{name}` asks for a share of nothing", "write `share_equally: TOTAL` beside it"
                )


class DataSection(Section):
    """Which examples are learnt from."""

    corpus: Location = Field(
        description="where rows come from: doit, demo, a fetched corpus's name, or a path"
    )
    rows: Literal["doit", "messages", "alpaca", "sharegpt"] = Field(
        default="doit",
        description="how the rows are written: the data set's own form, or one that other trainers read, for rows of your own",
    )
    rows_ability: Token = Field(
        default="",
        description="the ability of every row of your own; empty: each row names its own in the field `ability`",
    )
    source: InnerFolder = Field(
        default="curated/1000",
        description="the corpus's folder that the ten abilities are drawn from; synthetic rows have their own",
    )
    budget: BudgetSection = Field(description="examples of each ability")
    select: Literal["nested", "paper"] = Field(
        default="nested",
        description="nested: a smaller budget's examples are among a larger one's; paper: the released procedure on sorted files",
    )
    seed: Seed = Field(default=0, description="seed of the selection")
    on_shortfall: Literal["stop", "take_all"] = Field(
        default="stop", description="a budget that the corpus cannot meet: stop, or take what is there"
    )
    on_overlong: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="a row longer than train.max_tokens: refuse to train, or drop and count it; an answer is never cut",
    )
    allow_leaks: bool = Field(
        default=False,
        description="train although chosen rows leak into evaluation sets; every score then says so",
    )

    def contradictions(self) -> Iterator[Contradiction]:
        if self.rows_ability and self.rows_ability not in BUDGET_NAMES:
            problem = f"no ability `{self.rows_ability}`"
            yield Contradiction("rows_ability", problem, f"the abilities are {', '.join(BUDGET_NAMES)}")
        if self.rows_ability and self.rows == "doit":
            yield Contradiction(
                "rows_ability",
                "rows_ability is for rows of your own",
                "write data.rows: messages, alpaca or sharegpt",
            )


class TrainSection(Section):
    """The optimiser's steps, validation and checkpoints."""

    examples_per_step: Natural = Field(
        default=64, description="examples of one optimiser step, whatever the micro-batches"
    )
    epochs: Natural = Field(default=3, le=1000, description="passes over the chosen examples")
    max_steps: Natural | None = Field(
        default=None, description="stop after this many steps if the epochs have not ended before"
    )
    learning_rate: Rate = Field(
        default=2e-4,
        description="the peak rate; QLoRA's authors use 2e-4 up to 13b and 1e-4 for 33b and 65b (arXiv 2305.14314)",
    )
    end_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default_factory=lambda data: data.get("learning_rate", 1.0) / 10,
        description="the rate at the last step; unless written, a tenth of learning_rate (the paper: 1e-5 to 1e-6)",
    )
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        default="linear", description="the way from learning_rate to end_rate"
    )
    polynomial_power: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="the power of the polynomial schedule"
    )
    warmup_steps: Count = Field(
        default=0, description="steps in which the rate grows from near zero to learning_rate"
    )
    optimizer: Literal["adamw_8bit", "adamw", "paged_adamw_8bit"] = Field(
        default="adamw_8bit",
        description="8 bit: state in an eighth of the memory; paged: state may move to main memory",
    )
    beta1: Share01 = Field(default=0.9, description="decay of the gradient's mean")
    beta2: Share01 = Field(default=0.999, description="decay of the gradient's square")
    eps: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1e-8, description="added to the root of the gradient's square"
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="decoupled weight decay, of the adapter's weights"
    )
    clip_norm: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="largest norm of a step's gradient; 0: no clipping"
    )
    max_tokens: Natural = Field(
        default=2048, description="the longest example, in tokens, roles and end tokens included"
    )
    tokens_per_micro_batch: Natural | None = Field(
        default=None, description="token budget of one micro-batch; unset: what the card holds"
    )
    arrangement: Literal["auto", "packed", "sorted"] = Field(
        default="auto",
        description="micro-batches: packed rows where a probe proves them exact, else sorted by length; auto decides",
    )
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="recompute activations to save memory; auto: only where the memory is needed",
    )
    seed: Seed = Field(default=0, description="seed of the adapter, the order of examples and dropout")
    validate_every: Literal["epoch"] | Natural = Field(
        default="epoch", description="validate after each epoch, or after this many steps"
    )
    validation_rows_per_ability: Count = Field(
        default=100, description="validation rows of each ability asked and scored; 0: no validation"
    )
    select_after_epoch: Count = Field(
        default=0,
        description="the best checkpoint is chosen among those after this epoch; a run that has none chooses among all and says so",
    )
    patience: Count = Field(
        default=0, description="stop after this many validations without a better score; 0: never"
    )
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="minutes between checkpoints within an epoch"
    )
    keep_checkpoints: Natural = Field(default=2, description="newest checkpoints kept beside the best one")
    trackers: Annotated[tuple[Tracker, ...], AfterValidator(_distinct)] = Field(
        default=(), description="services that are sent the metrics"
    )

    def contradictions(self) -> Iterator[Contradiction]:
        if self.schedule != "constant" and self.end_rate > self.learning_rate:
            problem = f"end_rate {self.end_rate:g} is above learning_rate {self.learning_rate:g}"
            yield Contradiction(
                "end_rate",
                problem,
                f"a tenth of it is {self.learning_rate / 10:g}; the default when not written",
            )
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            problem = f"warmup_steps {self.warmup_steps} leaves no step of max_steps {self.max_steps} at the full rate"
            yield Contradiction("warmup_steps", problem, "write fewer warm-up steps")
        if self.tokens_per_micro_batch is not None and self.tokens_per_micro_batch < self.max_tokens:
            problem = f"tokens_per_micro_batch {self.tokens_per_micro_batch} cannot hold one example of max_tokens {self.max_tokens}"
            yield Contradiction("tokens_per_micro_batch", problem, "raise it, or lower max_tokens")
        if self.patience and not self.validation_rows_per_ability:
            problem = (
                f"patience {self.patience} needs a validation score, but validation_rows_per_ability is 0"
            )
            yield Contradiction("patience", problem, "ask for validation rows, or set patience to 0")


class EvalSection(Section):
    """What the result is asked, unless the command line says otherwise."""

    suite: Annotated[tuple[Suite, ...], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default=("doit-test",), description=f"sets of questions: {', '.join(SUITES)}"
    )
    shots: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default=(0,),
        description="solved examples shown before a question; each number is an evaluation of its own",
    )
    max_new_tokens: Natural | None = Field(
        default=None, description="longest reply in tokens; unset: by the form of the question"
    )
    tokens_per_batch: Natural | None = Field(
        default=None, description="token budget of one batch of questions; unset: what the card holds"
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


@dataclass(frozen=True)
class FieldHelp:
    """One field for `--help`, documents and error messages; `default` is text, empty where the field must
    be written."""

    name: str
    kind: str
    default: str
    meaning: str


def field_help(section: type[Section] = Recipe, prefix: str = "") -> tuple[FieldHelp, ...]:
    """Every field in file order, with its dotted name."""
    found: list[FieldHelp] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found += field_help(inner, f"{prefix}{name}.")
        elif section is BudgetSection and name == "abilities":
            found += [
                FieldHelp(
                    prefix + ability, "a number, all, share or share+K", "unset", info.description or ""
                )
                for ability in BUDGET_NAMES
            ]
        else:
            found.append(
                FieldHelp(prefix + name, describe(inner), _default_text(info.default), info.description or "")
            )
    return tuple(found)


def _default_text(default: Any) -> str:
    if default is PydanticUndefined:
        return ""
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return "unset" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def describe(kind: Any) -> str:
    """A field's type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return describe(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(one) for one in inner if one is not type(None))
    if origin is Literal:
        return " or ".join((", ".join(inner[:-1]), inner[-1])) if len(inner) > 1 else str(inner[0])
    if origin is tuple:
        return (
            f"a list of {describe(inner[0]).removeprefix('a ')}s"
            if inner[0] in (int, str)
            else f"a list, each {describe(inner[0])}"
        )
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
