"""The recipe's `model`: the base model and its sizes."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from doitune.recipe.section import Commit, Contradiction, Count, Location, Natural, Section, Text


class ArchitectureSection(Section):
    """The sizes of the base, so that its memory is known before it is downloaded. All or nothing; unset:
    those of its config.json."""

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
    beside: Count = Field(
        default=0, description="weights that are loaded, too, and take no part in text (a model's eyes)"
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """A size is written, and another one that has no default is not."""
        needed = ("hidden", "intermediate", "layers", "heads", "vocabulary")
        lacking = [name for name in needed if getattr(self, name) is None]
        if lacking and any(getattr(self, name) for name in type(self).model_fields):
            yield Contradiction(
                lacking[0],
                f"an architecture without {', '.join(lacking)}",
                "write all sizes, or none: the base's config.json says them",
            )


class ModelSection(Section):
    """The base model and how it is loaded."""

    name: Location = Field(
        description="the base model: a name of recipes/models, a repository on the hub, a folder, "
        "or demo (built in)"
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
        default="auto", description="the library that loads the model; auto: the first that can"
    )
    compute_dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="the type of arithmetic; auto: bf16 where the card has it, fp16 on older cards, "
        "fp32 on a CPU",
    )
    architecture: ArchitectureSection = Field(
        default_factory=ArchitectureSection, description="the base's sizes, for `doitune plan`"
    )
    note: Text = Field(default="", description="what a reader should know about this base")
