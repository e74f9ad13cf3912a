"""A model that Unsloth holds, as every other room sees it: HfModel's verbs over Unsloth's own decoder.

Unsloth keeps a transformers model with peft's layers on it and puts its own forward under the decoder. The
decoder is therefore asked directly, in the words that Unsloth's forward knows (`packed_seq_lengths` for
packed rows, a plain tuple of keys and values as a cache), and the head and the loss are this project's.
Unsloth's own loss is not used: it gives one number for a whole batch and sizes its pieces by the memory that
happens to be free, it makes logits for positions that aren't trained, and it reads the head's matrix alone,
so that added token rows would have no logits. Its `generate` isn't used either: it decodes by other kernels
under autocast, and for one row by the head's matrix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from unsloth import FastLanguageModel

from doitune.backends.asking import WatchedScores, written
from doitune.backends.four_bits import compute_in, quantisation
from doitune.backends.head_loss import HeadLoss
from doitune.backends.hf import (
    LOGITS_AT_ONCE,
    REFUSALS,
    HfModel,
    compute_dtype,
    first_line,
    lora_targets,
    settle,
    train_adapter,
)
from doitune.backends.loaded import LoadRequest, Loss, Prefix, Written
from doitune.backends.token_rows import TokenRows
from doitune.backends.tokenizer import load_tokenizer
from doitune.errors import FitError, ModelError
from doitune.prompt.batch import Batch, pad
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.streams import quiet

Cached = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values [rows, kv heads, places, d] of every layer."""


def hold(request: LoadRequest) -> UnslothModel:
    """The base as Unsloth loads it, with a fresh adapter; nothing but the adapter (and token rows of their
    own) is trained."""
    dtype = compute_dtype(request.compute_dtype, torch.device("cuda"))
    tokenizer = load_tokenizer(request.base.folder)
    with quiet():
        model = _load_base(request, dtype)
        rows = settle(model, request, tokenizer)
        adapted = FastLanguageModel.get_peft_model(model, **peft_words(request, lora_targets(request, model)))
    train_adapter(adapted, rows)
    refuse_other_training(adapted, rows)
    loaded = UnslothModel(
        request.base.name, adapted, tokenizer, model.get_input_embeddings().weight.device, rows
    )
    loaded.compute_dtype = str(dtype).removeprefix("torch.")
    loaded.prove_head()
    return loaded


def base_words(request: LoadRequest, dtype: torch.dtype) -> dict[str, Any]:
    """What Unsloth's from_pretrained is told: this folder and no other name, one card, nothing resized,
    extended or moved by free memory."""
    return {
        "model_name": str(request.base.folder),
        "max_seq_length": request.base.size("positions") or request.max_tokens,  # more would rescale them
        "dtype": dtype,
        "load_in_4bit": request.quantise == "nf4",
        "device_map": {"": "cuda:0"},
        "fix_tokenizer": False,
        "trust_remote_code": False,
        "use_gradient_checkpointing": "unsloth" if request.gradient_checkpointing else False,
        "use_exact_model_name": True,
        "offload_embedding": False,
        "random_state": request.seed,
        "local_files_only": True,
        "use_safetensors": True,
    }


def peft_words(request: LoadRequest, targets: list[str]) -> dict[str, Any]:
    """What Unsloth's get_peft_model is told."""
    return {
        "r": request.rank,
        "target_modules": targets,
        "lora_alpha": request.alpha,
        "lora_dropout": request.dropout,
        "bias": "none",
        "use_gradient_checkpointing": "unsloth" if request.gradient_checkpointing else False,
        "random_state": request.seed,
    }


def _load_base(request: LoadRequest, dtype: torch.dtype) -> Any:
    """The base on the card. Errors: FitError where it does not fit, ModelError where it cannot be read or
    is not what its folder says."""
    folder, name = request.base.folder, request.base.name
    quantisation(request, dtype)  # refuses a base that is quantised in another way
    try:
        model, _ = FastLanguageModel.from_pretrained(**base_words(request, dtype))
    except torch.OutOfMemoryError as error:
        raise FitError(f"{name} does not fit this card", "`doitune plan` says what would") from error
    except REFUSALS as error:
        raise ModelError(
            f"{folder} cannot be loaded by Unsloth: {first_line(error)}", "use --set model.backend=hf"
        ) from error
    wanted, found = request.base.size("vocabulary"), len(model.get_input_embeddings().weight)
    if found != wanted:  # a tokenizer without padding is given a token, and the matrix a row
        raise ModelError(
            f"Unsloth made {found} rows of the {wanted} of {name}",
            "give its tokenizer a pad_token, or use --set model.backend=hf",
        )
    if hasattr(model, "_need_to_train_embeddings"):
        raise ModelError(
            f"tokens were added to {name} by Unsloth's own helper, which trains the whole embedding",
            "use prompt.tokens: new",
        )
    lacking = _lacking(model, folder)
    if lacking:  # transformers fills them with random numbers
        raise ModelError(
            f"{folder} lacks {len(lacking)} of its weights, first {lacking[0]}",
            "copy or download the model again",
        )
    compute_in(model, dtype)
    return model


def _lacking(model: Any, folder: Path) -> list[str]:
    """Names of the model's weights that the folder's files do not hold; tied ones count once."""
    stored: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            stored |= set(weights.keys())
    return sorted(name for name, _ in model.named_parameters() if name not in stored)


def refuse_other_training(adapted: Any, rows: TokenRows | None) -> None:
    """FitError where anything but LoRA matrices and token rows is trained: an embedding or a head takes
    gigabytes of gradients."""
    own = set() if rows is None else {id(rows.embedding.rows), id(rows.head.rows)}
    foreign = [
        name
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and ".lora_" not in name and id(parameter) not in own
    ]
    if foreign:
        raise FitError(
            f"Unsloth would train {foreign[0]}" + (f" and {len(foreign) - 1} more" if foreign[1:] else ""),
            "use --set model.backend=hf",
        )


class UnslothModel(HfModel):
    """A transformers model with peft's LoRA layers, computed by Unsloth."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.packs = True

    def _hidden(self, batch: Batch, prefix: Prefix | None = None) -> torch.Tensor:
        """Last hidden states [rows, T, H] of a padded or packed batch, or of what follows `prefix`."""
        if prefix is not None:
            return self._after(prefix, batch.ids)
        if not batch.packed:
            return self._run(batch.ids)[0]
        places = torch.cat([torch.arange(length, device=self.device) for length in batch.lengths])[None]
        return self._run(
            batch.ids, position_ids=places, packed_seq_lengths=torch.tensor(batch.lengths, dtype=torch.int32)
        )[0]

    def _run(self, ids: torch.Tensor, **words: Any) -> tuple[torch.Tensor, Cached | None]:
        """Hidden states and, with `use_cache`, keys and values. `packed_seq_lengths` is named even where
        there is none: without the word, rows longer than the context that Unsloth was loaded for are cut,
        with a warning only."""
        out = self.decoder(input_ids=ids, **{"use_cache": False, "packed_seq_lengths": None, **words})
        if out.last_hidden_state.shape[:2] != ids.shape:
            raise ModelError(
                f"{self.name}: Unsloth cut rows of {ids.shape[1]} tokens to {out.last_hidden_state.shape[1]}",
                "use --set model.backend=hf",
            )
        return out.last_hidden_state, out.past_key_values

    def _after(self, prefix: Prefix, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states of rows that go on from `prefix`."""
        rows, length = ids.shape
        places = torch.arange(prefix.tokens, prefix.tokens + length, device=self.device)[None].expand(
            rows, -1
        )
        read = tuple(
            (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in prefix.state
        )
        seen = torch.ones(rows, prefix.tokens + length, dtype=torch.long, device=self.device)
        with self._asking():
            return self._run(ids, position_ids=places, past_key_values=read, attention_mask=seen)[0]

    def loss(self, batch: Batch, trained_tokens: int) -> Loss:
        """See LoadedModel. Logits are made for trained positions only, LOGITS_AT_ONCE at a time."""
        with quiet():  # the first steps tell of buffers
            return super().loss(batch, trained_tokens)

    def _position_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """[n] fp32 losses of trained positions, in pieces of LOGITS_AT_ONCE logits."""
        head = self.base.get_output_embeddings()
        rows = None if self.rows is None else self.rows.head.rows
        at_once = max(1, LOGITS_AT_ONCE // self.vocabulary_rows)
        return HeadLoss.apply(hidden, targets, head.weight, rows, at_once)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Prefix:
        """See LoadedModel."""
        with self._asking():
            return Prefix(
                len(ids), self._run(torch.tensor([list(ids)], device=self.device), use_cache=True)[1]
            )

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        watch_ids: Sequence[int] = (),
    ) -> list[Written]:
        """See LoadedModel. Rows are padded on the right and the padding's keys masked, so that no place
        ever sees nothing."""
        batch = pad([Encoded(tuple(prompt), (IGNORED,) * len(prompt)) for prompt in prompts]).to(self.device)
        lengths = torch.tensor(batch.lengths, device=self.device)[:, None]
        seen = (torch.arange(batch.ids.shape[1], device=self.device)[None] < lengths).long()
        watched, stops = WatchedScores(watch_ids, stop_ids), torch.tensor(list(stop_ids), device=self.device)
        chosen = batch.ids
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        with self._asking():
            hidden, past = self._run(batch.ids, use_cache=True)
            hidden = hidden.gather(1, (lengths - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
            for place in range(max_new_tokens):
                scores = watched(chosen, self._head(hidden[:, -1]))
                chosen = torch.cat([chosen, scores.argmax(dim=-1, keepdim=True)], dim=1)
                ended |= torch.isin(chosen[:, -1], stops)
                if ended.all() or place + 1 == max_new_tokens:
                    break
                seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
                hidden, past = self._run(
                    chosen[:, -1:],
                    position_ids=lengths + place,
                    past_key_values=past,
                    attention_mask=seen,
                    use_cache=True,
                )
        replies = chosen[:, batch.ids.shape[1] :].tolist()
        return [written(row, set(stop_ids), watched.of_row(place)) for place, row in enumerate(replies)]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Inside, the model asks: while it trains, Unsloth's decoder drops every mask and keeps no cache."""
        before = self.adapted.training
        self.adapted.train(False)
        try:
            yield
        finally:
            self.adapted.train(before)
