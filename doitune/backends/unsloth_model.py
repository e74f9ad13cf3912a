"""A model that Unsloth computes, with the verbs of every other one.

Unsloth keeps a transformers model with peft's layers on it and puts its own forward under the decoder. The
decoder is therefore called directly, in the keywords that Unsloth's forward knows (`UnslothDecoder`), and the
head and the loss are this project's. Unsloth's own loss is not used: it gives one number for a whole batch
and sizes its pieces by the memory that happens to be free, it makes logits for positions that aren't trained,
and it reads the head's matrix alone, so that added token rows would have no logits. Its `generate` isn't used
either: it decodes by other kernels under autocast, and for one row by the head's matrix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest, Loss, Prefix
from doitune.backends.reply import ReplyWatcher
from doitune.errors import ModelError
from doitune.prompt.batch import Batch, pad, sent
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.streams import quiet

Cached = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values [rows, kv heads, places, d] of every layer."""


@dataclass(frozen=True)
class UnslothDecoder:
    """The `decoder` of `model`, in the keywords of Unsloth's own forward: `packed_seq_lengths` for packed
    rows, a plain tuple of keys and values as a cache."""

    name: str
    model: torch.nn.Module
    decoder: Any

    def run(self, ids: torch.Tensor, **keywords: Any) -> tuple[torch.Tensor, Cached | None]:
        """Hidden states [rows, T, H] of padded rows and, with `use_cache`, keys and values."""
        # packed_seq_lengths is named even where there is none: without the keyword, rows longer than the
        # context that Unsloth loaded the base for are cut, with a warning only
        out = self.decoder(input_ids=ids, **{"use_cache": False, "packed_seq_lengths": None, **keywords})
        if out.last_hidden_state.shape[:2] != ids.shape:
            raise ModelError(
                f"{self.name}: Unsloth cut rows of {ids.shape[1]} tokens to {out.last_hidden_state.shape[1]}",
                "use --set model.backend=hf",
            )
        return out.last_hidden_state, out.past_key_values

    def packed(self, batch: Batch) -> torch.Tensor:
        """Hidden states [1, T, H] of a packed batch."""
        places = sent(torch.cat([torch.arange(length) for length in batch.lengths])[None], batch.ids.device)
        lengths = torch.tensor(batch.lengths, dtype=torch.int32)
        return self.run(batch.ids, position_ids=places, packed_seq_lengths=lengths)[0]

    def after(self, prefix: Prefix, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states [rows, T, H] of rows that each go on from `prefix`."""
        rows, length = ids.shape
        whole = prefix.tokens + length
        places = torch.arange(prefix.tokens, whole, device=ids.device)[None].expand(rows, -1)
        read = tuple(
            (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in prefix.state
        )
        seen = torch.ones(rows, whole, dtype=torch.long, device=ids.device)
        with self.evaluating():
            return self.run(ids, position_ids=places, past_key_values=read, attention_mask=seen)[0]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the model is in evaluation mode: in training mode Unsloth's decoder drops every mask and
        keeps no cache."""
        before = self.model.training
        self.model.train(False)
        try:
            yield
        finally:
            self.model.train(before)


class UnslothModel(HfModel):
    """A transformers model with peft's LoRA layers, whose decoder Unsloth runs."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.engine = UnslothDecoder(self.name, self.adapter.peft, self.decoder)
        self.packs = True

    def renewed(self, request: LoadRequest) -> None:
        """Unsloth's forward stands in the layers that it has patched for one adapter."""

    def hidden(self, batch: Batch, prefix: Prefix | None = None) -> torch.Tensor:
        if prefix is not None:
            return self.engine.after(prefix, batch.ids)
        return self.engine.packed(batch) if batch.packed else self.engine.run(batch.ids)[0]

    def loss(self, batch: Batch, trained_tokens: int, prefix: Prefix | None = None) -> Loss:
        with quiet():  # Unsloth's first steps print about buffers
            return super().loss(batch, trained_tokens, prefix)

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Prefix:
        with self.engine.evaluating():
            return Prefix(
                len(ids), self.engine.run(torch.tensor([list(ids)], device=self.device), use_cache=True)[1]
            )

    @torch.no_grad()
    def continued(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, watcher: ReplyWatcher
    ) -> torch.Tensor:
        batch = pad([Encoded(tuple(prompt), (IGNORED,) * len(prompt)) for prompt in prompts]).to(self.device)
        with self.engine.evaluating():
            return _greedy(self, batch, max_new_tokens, watcher)


def _greedy(model: UnslothModel, batch: Batch, max_new_tokens: int, watcher: ReplyWatcher) -> torch.Tensor:
    """[rows, new tokens]: the likeliest token each time, until every row has a stop token.

    Rows are padded on the right and the padding's keys masked, so that no place ever sees nothing.
    """
    lengths = torch.tensor(batch.lengths, device=model.device)[:, None]
    seen = (torch.arange(batch.ids.shape[1], device=model.device)[None] < lengths).long()
    stops = torch.tensor(watcher.stop_ids, device=model.device)
    chosen = batch.ids
    ended = torch.zeros(len(batch.lengths), dtype=torch.bool, device=model.device)
    hidden, past = model.engine.run(batch.ids, use_cache=True)
    hidden = hidden.gather(1, (lengths - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
    for place in range(max_new_tokens):
        scores = watcher(chosen, model.head.logits(hidden[:, -1]))
        chosen = torch.cat([chosen, scores.argmax(dim=-1, keepdim=True)], dim=1)
        ended |= torch.isin(chosen[:, -1], stops)
        if ended.all() or place + 1 == max_new_tokens:
            break
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        hidden, past = model.engine.run(
            chosen[:, -1:],
            position_ids=lengths + place,
            past_key_values=past,
            attention_mask=seen,
            use_cache=True,
        )
    return chosen[:, batch.ids.shape[1] :]
