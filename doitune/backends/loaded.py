"""What every backend offers: a model in memory that gives losses, logits and text, and whose adapter can be
saved.

Two verbs and not one, because Unsloth's fused path gives a loss and no logits: `loss` for training,
validation and ranking, `logits` for option letters. No caller asks for both of one batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from doitune.base.folder import Base
    from doitune.prompt.batch import Batch


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
class Written:
    """One generated reply: new token ids without the stop token, whether a stop token ended it, and the
    log-probabilities of the `watch_ids` asked for (nats, over the whole vocabulary) at the first step and at
    the last, the one that wrote the stop token."""

    ids: tuple[int, ...]
    stopped: bool
    first_scores: tuple[float, ...]
    last_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """The start of several prompts, run once: how many tokens, and what the model that ran it kept of them.

    It can go before any number of batches; it holds only as long as the model's weights stay as they were.
    """

    tokens: int
    state: Any


class LoadedModel(ABC):
    """A base model with one LoRA adapter on it, on one device."""

    name: str
    device: torch.device
    tokenizer: Any  # a fast tokenizer of transformers
    compute_dtype: str  # "float32", "bfloat16" or "float16": the dtype of products
    packs: bool  # whether this model can be given packed batches (the probe of a run still has to prove it exact)
    shares_prefix: bool = (
        False  # whether `read`, `logits_after` and `losses_after` are there, and proved exact on this model
    )

    @abstractmethod
    def loss(self, batch: Batch, trained_tokens: int) -> Loss:
        """Token losses of `batch`; under `torch.no_grad()` no graph is kept."""

    @abstractmethod
    def logits(self, batch: Batch, token_ids: Sequence[int]) -> torch.Tensor:
        """[rows, len(token_ids)] fp32: next-token logits after each row's last real token, without gradient.

        `batch` is a padded one (not packed). Only the asked rows of the head are computed.
        """

    def answer_logits(self, batch: Batch) -> torch.Tensor:
        """[n, V] fp32: the whole vocabulary's logits for each trained position of a padded batch, in
        row-major order, without gradient."""
        raise NotImplementedError

    def read(self, ids: Sequence[int]) -> Prefix:
        """Run a prefix, without gradient, for `logits_after` and `losses_after`. Only where
        `shares_prefix`."""
        raise NotImplementedError

    def logits_after(self, prefix: Prefix, batch: Batch, token_ids: Sequence[int]) -> torch.Tensor:
        """`logits` of rows that each go on from `prefix`; the batch holds what follows it, at least a
        token a row."""
        raise NotImplementedError

    def losses_after(self, prefix: Prefix, batch: Batch) -> torch.Tensor:
        """[rows] fp32: each row's sum of token losses in nats after `prefix`, without gradient. A row's
        first token has no loss: it has to be one that isn't trained."""
        raise NotImplementedError

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        watch_ids: Sequence[int] = (),
    ) -> list[Written]:
        """Greedy replies to a batch of prompts (token ids, any lengths), in their order."""

    @abstractmethod
    def training(self, on: bool) -> None:
        """Switch dropout and gradient checkpointing for training, or off for asking."""

    @abstractmethod
    def without_adapter(self) -> AbstractContextManager[None]:
        """Inside, the model is the untrained base (token rows of `tokens: new` at their first values)."""

    @abstractmethod
    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The trained parameters by a stable name, sorted."""

    @abstractmethod
    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's own form (safetensors and JSON) into an existing folder."""

    @abstractmethod
    def load_adapter(self, folder: Path) -> None:
        """Read what `save_adapter` wrote into this model; every key, shape and rank must agree
        (CheckpointError)."""


@dataclass(frozen=True)
class LoadRequest:
    """All that a backend needs to hold a model. `targets` empty means every linear layer but the head.

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
        """A sentence on why this machine cannot use it (for `base`, if given), or None. Never imports what
        it asks about."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """The base in memory with a fresh adapter on it. Errors: ModelError, FitError."""
