"""What a plan of memory depends on: a base, an engine, and what a recipe asks of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from doitune.base.architecture import Architecture

WHAT_IFS = {
    "full-logits": "the logits of all tokens at once, in fp32",
    "fp32-upcast": "embeddings, norms and the residual stream in fp32, as peft's "
    "prepare_model_for_kbit_training leaves them",
    "trained-embeddings": "the whole embedding and head trained (modules_to_save)",
    "unsloth-new-tokens": "tokens added through Unsloth's own helper, which then trains the whole embedding "
    "and head",
    "no-double-quant": "NF4 scales in 32 bits instead of 8",
    "fused-loss": "the logits of all tokens at once in fp32, and their gradient by a fused kernel",
    "no-checkpointing": "every block keeps its activations, and nothing is recomputed",
    "flash-attention": "attention by the FlashAttention package: no scores are kept, which holds of torch's "
    "own attention, too, as it is counted",
    "checkpoints-on-card": "Unsloth's checkpoints kept on the card instead of in main memory",
    "bf16-lora": "the adapter's weights and gradients in bf16",
    "fp32-adapter": "peft's own layers: each adapter's input and output in fp32, as hf has them in fp16",
}
"""What other trainers do and doitune does not, for `doitune plan --what-if`."""


@dataclass(frozen=True)
class Setting:
    """All that memory depends on. `tokens`: positions of one micro-batch. `targets` empty: every linear layer
    of a block.

    `checkpointing`: blocks are recomputed in the backward pass. `number_bytes`: of the dtype of products.
    `nested`: NF4 scales in 8 bits. `wide`: linear layers that a ready-made 4-bit base keeps in 16 bits, by
    name, each with the number of blocks in which it does.
    """

    architecture: Architecture
    backend: str = "unsloth"
    rank: int = 16
    tokens: int = 2048
    quantise: str = "nf4"
    optimizer: str = "adamw_8bit"
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    checkpointing: bool = True
    new_rows: int = 0
    number_bytes: int = 2
    nested: bool = True
    wide: tuple[tuple[str, int], ...] = ()
    what_if: frozenset[str] = field(default_factory=frozenset)

    @property
    def adapted(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of the linear layers of a block that get an adapter."""
        return {
            name: shape
            for name, shape in self.architecture.linears.items()
            if not self.targets or name in self.targets
        }

    @property
    def lora_shapes(self) -> list[int]:
        """Elements of each adapter matrix of one block."""
        return [size * self.rank for outputs, inputs in self.adapted.values() for size in (inputs, outputs)]

    @property
    def lora_parameters(self) -> int:
        """Trained weights of the adapter."""
        return self.architecture.layers * sum(self.lora_shapes)

    @property
    def trains_matrices(self) -> bool:
        """Whether the whole embedding and head are trained."""
        return bool(self.what_if & {"trained-embeddings", "unsloth-new-tokens"})

    @property
    def recomputes(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return self.checkpointing and "no-checkpointing" not in self.what_if

    @property
    def fused(self) -> bool:
        """Whether Unsloth's own backward passes serve: dropout in the adapter turns them off in many
        releases."""
        return self.backend == "unsloth" and not self.dropout
