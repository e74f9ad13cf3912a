"""The recipe's `train`: steps, learning rate, micro-batches, validation and checkpoints.

In a file the section is flat; here its fields stand in groups by what they are about.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from doitune.recipe.section import Contradiction, Count, Distinct, Natural, Rate, Section, Seed, Share01

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]


class Length(Section):
    """How much a run learns from."""

    examples_per_step: Natural = Field(
        default=64, description="examples of one optimiser step, whatever the micro-batches"
    )
    epochs: Natural = Field(default=3, le=1000, description="passes over the chosen examples")
    max_steps: Natural | None = Field(
        default=None, description="stop after this many steps if the epochs have not ended before"
    )


class Learning(Section):
    """The learning rate and the optimiser."""

    learning_rate: Rate = Field(
        default=2e-4,
        description="the peak rate; QLoRA's authors use 2e-4 up to 13b and 1e-4 for 33b and 65b "
        "(arXiv 2305.14314)",
    )
    end_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default_factory=lambda data: data.get("learning_rate", 1.0) / 10,
        description="the rate at the end; unless written, a tenth of learning_rate (the paper: 1e-5 to 1e-6)",
    )
    end_rate_at: Literal["last_step", "after_last_step"] = Field(
        default_factory=lambda data: "last_step" if data.get("end_rate") else "after_last_step",
        description="where end_rate is reached: unless written, at the last step; one step after it, as "
        "transformers has it, where end_rate is 0, as a step at rate 0 learns nothing",
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


class MicroBatches(Section):
    """How long examples may be, and how a step is cut to fit the memory."""

    max_tokens: Natural = Field(
        default=2048, description="the longest example, in tokens, roles and end tokens included"
    )
    tokens_per_micro_batch: Natural | None = Field(
        default=None, description="token budget of one micro-batch; unset: what the card holds"
    )
    arrangement: Literal["auto", "packed", "sorted"] = Field(
        default="auto",
        description="micro-batches: packed rows where a probe proves them exact, else sorted by length; "
        "auto decides",
    )
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="recompute activations to save memory; auto: only where the memory is needed",
    )
    seed: Seed = Field(default=0, description="seed of the adapter, the order of examples and dropout")


class Validation(Section):
    """When a run is validated, and which checkpoint is the best."""

    validate_every: Literal["epoch"] | Natural = Field(
        default="epoch", description="validate after each epoch, or after this many steps"
    )
    validation_rows_per_ability: Count = Field(
        default=100, description="validation rows of each ability asked and scored; 0: no validation"
    )
    select_after_epoch: Count = Field(
        default=0,
        description="the best checkpoint is chosen among those after this epoch; a run that has none "
        "chooses among all and says so",
    )
    patience: Count = Field(
        default=0, description="stop after this many validations without a better score; 0: never"
    )


class TrainSection(Validation, MicroBatches, Learning, Length):
    """The optimiser's steps, validation and checkpoints. (The fields of the last base come first.)"""

    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="minutes between checkpoints within an epoch"
    )
    keep_checkpoints: Natural = Field(default=2, description="newest checkpoints kept beside the best one")
    trackers: Annotated[tuple[Tracker, ...], Distinct] = Field(
        default=(), description="services that are sent the metrics"
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """Rates, warm-up, micro-batch and patience that the other fields leave no room for."""
        if self.schedule != "constant" and self.end_rate > self.learning_rate:
            yield Contradiction(
                "end_rate",
                f"end_rate {self.end_rate:g} is above learning_rate {self.learning_rate:g}",
                f"a tenth of it is {self.learning_rate / 10:g}; the default when not written",
            )
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            yield Contradiction(
                "warmup_steps",
                f"warmup_steps {self.warmup_steps} leaves no step of max_steps {self.max_steps} "
                "at the full rate",
                "write fewer warm-up steps",
            )
        if self.tokens_per_micro_batch is not None and self.tokens_per_micro_batch < self.max_tokens:
            yield Contradiction(
                "tokens_per_micro_batch",
                f"tokens_per_micro_batch {self.tokens_per_micro_batch} cannot hold one example "
                f"of max_tokens {self.max_tokens}",
                "raise it, or lower max_tokens",
            )
        if self.patience and not self.validation_rows_per_ability:
            yield Contradiction(
                "patience",
                f"patience {self.patience} needs a validation score, but validation_rows_per_ability is 0",
                "ask for validation rows, or set patience to 0",
            )
