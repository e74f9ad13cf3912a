"""What every backend offers: a model in memory that gives losses, logits and text, and an adapter to save.

Two verbs and not one, because no logits are kept for a loss: `loss` for training, validation and ranking,
`logits` for option letters. No caller asks for both of one batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from doitune.backends.writer import Writer
from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS

if TYPE_CHECKING:
    import torch

    from doitune.backends.adapter import Adapter
    from doitune.base.folder import Base
    from doitune.prompt.batch import Batch


CPU_COST_TOKENS = 32
"""What a batch costs a CPU besides its positions, as MICRO_BATCH_COST_TOKENS says it of a card: a batch of
one position took as long as about 30 more in a long one, with 4-bit matrices kept whole
(`tests/bench/bench_kept_whole.py`)."""

Tokens = Sequence[int] | None
"""Ids of some tokens; None for the whole vocabulary."""


@dataclass(frozen=True)
class Loss:
    """`value`: scalar with gradient, the sum of the batch's token losses divided by the `trained_tokens`
    asked for.

    `sums`: [examples] fp32, without gradient: each example's own sum of token losses in nats, in the batch's
    order.
    """

    value: torch.Tensor
    sums: torch.Tensor


@dataclass(frozen=True)
class Prefix:
    """The start of several prompts, run once: how many tokens, and what the model that ran it kept of them.

    It can go before any number of batches, as long as the model's weights stay as they were. Such a batch
    holds what follows it, at least a token a row; a row's first token then has no loss and must not be a
    trained one, and no gradient flows.
    """

    tokens: int
    state: Any


class LoadedModel(Writer):
    """A base model with one LoRA adapter on it, on one device: how it computes is the backend's."""

    name: str
    device: torch.device
    tokenizer: Any  # a fast tokenizer of transformers
    adapter: Adapter
    compute_dtype: str  # "float32", "bfloat16" or "float16": the dtype of products
    packs: bool  # whether it takes packed batches (the probe of a run still has to prove them exact)
    context_tokens: int | None = None  # the longest row that the base was made for, where it says so
    window_tokens: int | None = None  # how far back attention reaches in some layer, where it ends
    shares_prefix: bool  # whether a prefix is proved exact on this model

    @abstractmethod
    def loss(self, batch: Batch, trained_tokens: int, prefix: Prefix | None = None) -> Loss:
        """Token losses of `batch`; under `torch.no_grad()` no graph is kept."""

    @abstractmethod
    def logits(self, batch: Batch, token_ids: Sequence[int], prefix: Prefix | None = None) -> torch.Tensor:
        """[rows, len(token_ids)] fp32: next-token logits after each row's last real token of a padded
        batch, without gradient. Only these rows of the head are computed."""

    @abstractmethod
    def log_probs(self, batch: Batch, token_ids: Tokens = None, prefix: Prefix | None = None) -> torch.Tensor:
        """[n, k] fp32: in nats over the whole vocabulary, for each trained position of a padded batch."""

    @abstractmethod
    def read(self, ids: Sequence[int]) -> Prefix:
        """Run a prefix, without gradient. Only where `shares_prefix`."""

    @property
    def batch_cost_tokens(self) -> int:
        """What a batch costs besides its positions, in positions."""
        return CPU_COST_TOKENS if self.device.type == "cpu" else MICRO_BATCH_COST_TOKENS

    def renewed(self, request: LoadRequest) -> LoadedModel | None:
        """The same base, as it was loaded, with the fresh adapter of another request; this one is spent.
        None, and nothing has changed, where the backend cannot give the base back as it was."""
        return None

    def training(self, on: bool) -> None:
        """Training mode, with dropout and gradient checkpointing, or evaluation mode."""
        self.adapter.peft.train(on)

    def without_adapter(self) -> AbstractContextManager[None]:
        """Inside, the model is the untrained base (token rows of `tokens: new` at their first values)."""
        return self.adapter.removed()

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The trained parameters by a stable name, sorted."""
        return self.adapter.trainable()

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's own form (safetensors and JSON) into an existing folder."""
        self.adapter.save(folder)

    def load_adapter(self, folder: Path) -> None:
        """Read what `save_adapter` wrote; every name, shape and dtype must agree (CheckpointError)."""
        self.adapter.load(folder)


@dataclass(frozen=True)
class LoadRequest:
    """All that a backend needs to load a model. `targets` empty means every linear layer but the head.

    `quantise`: "nf4" or "none". `compute_dtype`: "auto", "fp32", "bf16", "fp16". `new_rows`: token rows of
    their own (0 or 3). `seed` fixes the adapter's first values. `max_tokens` is the longest example.
    """

    base: Base
    quantise: str = "nf4"
    compute_dtype: str = "auto"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    new_rows: int = 0
    seed: int = 0
    max_tokens: int = 2048
    gradient_checkpointing: bool = False


class Backend(Protocol):
    """A module of this folder."""

    def why_not(self, base: Base | None = None) -> str | None:
        """A sentence on why this machine cannot use it (for `base`, if given), or None. Never imports the
        library in question."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """The base in memory with a fresh adapter on it. Errors: ModelError, FitError."""
