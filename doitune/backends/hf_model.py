"""A transformers model with peft's LoRA layers in it: every verb of LoadedModel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import Cache

from doitune.backends import documents
from doitune.backends.adapter import Adapter
from doitune.backends.finite import refuse_not_finite
from doitune.backends.head import Head
from doitune.backends.kept_whole import ANSWERING, TRAINING, keep_whole
from doitune.backends.loaded import LoadedModel, LoadRequest, Loss, Prefix, Tokens
from doitune.backends.lora import again
from doitune.backends.loss import batch_loss
from doitune.backends.prefix import PrefixLayer, proved_prefix
from doitune.backends.reply import ReplyWatcher
from doitune.errors import ModelError
from doitune.prompt.batch import Batch, sent
from doitune.prompt.encoded import IGNORED


class HfModel(LoadedModel):
    """A model whose decoder transformers runs. UnslothModel runs the decoder in its own way."""

    def __init__(self, name: str, adapter: Adapter, device: torch.device) -> None:
        self.name, self.adapter, self.device = name, adapter, device
        self.base = adapter.peft.base_model.model
        self.decoder = self.base.get_decoder()
        self.head = Head(self.base, adapter.rows)
        self.packs = self.base.config._attn_implementation == documents.NAME

    def renewed(self, request: LoadRequest) -> LoadedModel | None:
        return _renewed(self, request)

    def training(self, on: bool) -> None:
        super().training(on)
        if self.device.type == "cpu":
            keep_whole(self.base, TRAINING if on else ANSWERING)

    def hidden(self, batch: Batch, prefix: Prefix | None = None) -> torch.Tensor:
        """Last hidden states [rows, T, H] of a padded or packed batch, or of what follows `prefix`."""
        return self.decoder(input_ids=batch.ids, **_arrangement(batch, prefix)).last_hidden_state

    def loss(self, batch: Batch, trained_tokens: int, prefix: Prefix | None = None) -> Loss:
        there = batch.to(self.device)
        self.adapter.see(there)
        return batch_loss(batch, self.hidden(there, prefix), self.head, trained_tokens)

    @torch.no_grad()
    def logits(self, batch: Batch, token_ids: Sequence[int], prefix: Prefix | None = None) -> torch.Tensor:
        last = torch.tensor(batch.lengths, device=self.device) - 1
        rows = torch.arange(len(batch.lengths), device=self.device)
        return self.head.logits_of(self.hidden(batch.to(self.device), prefix)[rows, last], token_ids)

    @torch.no_grad()
    def log_probs(self, batch: Batch, token_ids: Tokens = None, prefix: Prefix | None = None) -> torch.Tensor:
        batch = batch.to(self.device)
        hidden = self.hidden(batch, prefix)[:, :-1][batch.labels[:, 1:] != IGNORED]
        return self.head.log_probs(hidden, token_ids)

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Prefix:
        cache = DynamicCache()  # every layer keeps all positions: sliding windows are a matter of the mask
        whole = torch.tensor([list(ids)], device=self.device)
        self.decoder(input_ids=whole, past_key_values=cache, use_cache=True)
        return Prefix(len(ids), Cache(layers=[PrefixLayer(layer) for layer in cache.layers]))

    @cached_property
    def shares_prefix(self) -> bool:  # type: ignore[override]
        return proved_prefix(self, self.head.vocabulary_rows)

    @torch.no_grad()
    def continued(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, watcher: ReplyWatcher
    ) -> torch.Tensor:
        ids, mask = (one.to(self.device) for one in _left_padded(prompts))
        how = _greedy(max_new_tokens, watcher)
        out: torch.Tensor = self.base.generate(input_ids=ids, attention_mask=mask, **how)
        return out[:, ids.shape[1] :]


def _renewed(spent: HfModel, request: LoadRequest) -> HfModel | None:
    if request.new_rows or spent.adapter.rows is not None:
        return None  # added rows stand in the base's own embedding and head
    adapter = again(spent.adapter, request)
    model = type(spent)(spent.name, adapter, spent.device)
    model.compute_dtype = spent.compute_dtype
    model.context_tokens, model.window_tokens = spent.context_tokens, spent.window_tokens
    prove_head(model)
    return model


def _arrangement(batch: Batch, prefix: Prefix | None) -> dict[str, Any]:
    """Which position each token has and which tokens it sees, in the decoder's keywords."""
    device = batch.ids.device
    if prefix is not None:
        # causal attention keeps real tokens from the padding on the right: no row needs a mask of its own
        places = torch.arange(prefix.tokens, prefix.tokens + batch.ids.shape[1], device=device)[None]
        return {"position_ids": places, "past_key_values": prefix.state, "use_cache": True}
    if not batch.packed:
        return {"use_cache": False}
    # the bounds stay in main memory: every layer's attention reads them as numbers
    edges = torch.tensor([0, *batch.lengths]).cumsum(0).to(torch.int32)
    places = sent(torch.cat([torch.arange(length) for length in batch.lengths])[None], device)
    return {
        "position_ids": places,
        # a ready 4D mask is handed on unread: the documents' bounds decide, and no mask of T x T is built
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "use_cache": False,
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": max(batch.lengths),
        "max_length_k": max(batch.lengths),
    }


def _greedy(max_new_tokens: int, watcher: ReplyWatcher) -> dict[str, Any]:
    """How transformers generates: the likeliest token each time, until a stop token."""
    stop_ids = watcher.stop_ids
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stop_ids,
        pad_token_id=stop_ids[0],
        use_cache=True,
    )
    return {"generation_config": config, "logits_processor": LogitsProcessorList([watcher])}


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [rows, T] with each prompt at the right, and their mask."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


@torch.no_grad()
def prove_head(model: HfModel) -> None:
    """ModelError for a base whose logits are not finite, or an architecture whose logits are not
    head(hidden): the loss here would be another than the model's own. Leaves the model in evaluation mode."""
    model.training(False)
    ids = torch.arange(1, 9, device=model.device)[None] % model.head.vocabulary_rows
    own = model.base(input_ids=ids, use_cache=False).logits.float()
    silent = Batch(ids, torch.full_like(ids, IGNORED), (8,), (0,), packed=False)
    ours = model.head.logits(model.hidden(silent)[0])[None]
    refuse_not_finite(model.base, model.name, own)
    if not torch.allclose(own, ours, rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"{model.name}: this architecture changes its logits behind the head in a way that doitune does "
            "not know",
            "doitune supports causal language models whose logits are head(hidden), with or without "
            "soft-capping",
        )
