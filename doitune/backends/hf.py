"""The hf backend: transformers, peft and bitsandbytes NF4 with double quantisation, on CUDA and on the CPU.

On the CPU everything computes in fp32: bf16 and fp16 products are about 180 times slower there. The base is
frozen as it is loaded: no fp32 upcast of norms and embeddings (`prepare_model_for_kbit_training` would cost
2.8 GiB on 33b), no cache while training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn import Linear4bit
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import Cache
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from doitune.backends import documents
from doitune.backends.asking import PrefixLayer, WatchedScores, proved_prefix, written
from doitune.backends.dropout import steady
from doitune.backends.four_bits import compute_in, quantisation, quantising_in_pieces
from doitune.backends.loaded import LoadedModel, LoadRequest, Loss, Prefix, Written
from doitune.backends.token_rows import TokenRows, add_rows
from doitune.backends.tokenizer import load_tokenizer
from doitune.errors import CheckpointError, FitError, ModelError
from doitune.prompt.batch import Batch
from doitune.prompt.encoded import IGNORED

if TYPE_CHECKING:
    from doitune.base.folder import Base

LOGITS_AT_ONCE = 1 << 24
"""Logits computed at once by the loss, in elements (64 MiB in fp32): fixes the peak whatever the
vocabulary."""

disable_progress_bar()  # the console shows progress
set_verbosity_error()  # its warnings hold names from the model's files as they are, escape sequences too; what matters is an error here

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


REFUSALS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, SafetensorError, StrictDataclassError,
    TypeError, ValueError,
)  # fmt: skip
"""What transformers raises over a model's files that it cannot use."""


def why_not(base: Base | None = None) -> str | None:
    """This backend serves every machine that torch serves."""
    return None


def load(request: LoadRequest) -> HfModel:
    """The base in 4 bits with a fresh LoRA adapter; the seed is set before the adapter is built."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = compute_dtype(request.compute_dtype, device)
    model = _load_base(request, device, dtype)
    tokenizer = load_tokenizer(request.base.folder)
    _keep_fp32_kernels(model)
    rows = settle(model, request, tokenizer)
    torch.manual_seed(request.seed)
    adapted = get_peft_model(model, _lora(request, model))
    train_adapter(adapted, rows)
    if request.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loaded = HfModel(request.base.name, adapted, tokenizer, device, rows)
    loaded.compute_dtype = str(dtype).removeprefix("torch.")
    loaded.prove_head()
    return loaded


def settle(model: Any, request: LoadRequest, tokenizer: Any) -> TokenRows | None:
    """Freeze the base, take away what its files say of caches and sampling, and give it the token rows
    asked for."""
    model.requires_grad_(False)
    model.config.use_cache = False
    model.name_or_path = (
        request.base.name
    )  # the adapter names its base as the recipe does, not by a folder of some cache
    model.generation_config = (
        GenerationConfig()
    )  # the base's own sampling defaults must not reach an evaluation
    return add_rows(model, request.new_rows, tokenizer) if request.new_rows else None


def train_adapter(adapted: Any, rows: TokenRows | None) -> None:
    """Let the adapter, in fp32, and the token rows be trained: peft froze every parameter that is not its
    own."""
    if rows is not None:
        rows.train()
    for _, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of products: fp32 on the CPU; on CUDA bf16 where the card has it, else fp16."""
    if device.type == "cpu":
        if wanted in ("bf16", "fp16"):
            raise FitError(
                f"{wanted} is about 180 times slower than fp32 on a CPU", "use --set model.compute_dtype=auto"
            )
        return torch.float32
    if wanted == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if wanted == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise FitError("this card only emulates bf16", "use --set model.compute_dtype=fp16")
    return DTYPES[wanted]


@quantising_in_pieces()
def _load_base(request: LoadRequest, device: torch.device, dtype: torch.dtype) -> Any:
    """The base as transformers loads it, in NF4 with nested absmax unless the recipe says otherwise."""
    options: dict[str, Any] = {
        "dtype": dtype,
        **quantisation(request, dtype),
        "device_map": {"": str(device)},
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    folder = str(request.base.folder)
    try:
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation=documents.register(), **options
            )
        except ValueError as error:
            if "attention" not in str(error).lower():
                raise
            model, report = AutoModelForCausalLM.from_pretrained(folder, **options)
    except REFUSALS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise FitError(
                f"{request.base.name} does not fit this card", "`doitune plan` says what would"
            ) from error
        hint = (
            "doitune runs no code from a model's folder"
            if "trust_remote_code" in str(error)
            else "check or copy the model again"
        )
        raise ModelError(f"{folder} cannot be loaded: {first_line(error)}", hint) from error
    lacking = sorted(report["missing_keys"])
    if lacking:  # transformers fills them with random numbers
        raise ModelError(
            f"{folder} lacks {len(lacking)} of its weights, first {lacking[0]}",
            "copy or download the model again",
        )
    compute_in(model, dtype)
    return model


def _keep_fp32_kernels(model: Any) -> None:
    """Keep 4-bit layers trainable after they have been asked.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a layer's weights for bf16 at the first forward in
    eval mode, for good: from then on no gradient flows through the layer and its products are rounded to
    bf16.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _lora(request: LoadRequest, model: Any) -> LoraConfig:
    """peft's configuration of the adapter."""
    return LoraConfig(
        r=request.rank,
        lora_alpha=request.alpha,  # type: ignore[arg-type]
        lora_dropout=request.dropout,
        target_modules=lora_targets(request, model),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=request.base.name,
    )


def lora_targets(request: LoadRequest, model: Any) -> list[str]:
    """The linear layers that get an adapter, by their last name, so that the head stays out. ModelError
    names the unknown ones."""
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    head = model.get_output_embeddings()
    names -= {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is head} | {"base"}
    unknown = [target for target in request.targets if target not in names]
    if not names:
        raise ModelError(
            f"{request.base.name} has no layers to adapt", "its config.json is of another model, or damaged"
        )
    if unknown:
        raise ModelError(
            f"{request.base.name} has no linear layers {unknown}",
            f"it has {', '.join(sorted(names))} (lora.targets)",
        )
    return sorted(request.targets or names)


def first_line(error: BaseException) -> str:
    """The first line of a library's message; the next one too where the first announces it."""
    lines = [line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


class HfModel(LoadedModel):
    """A transformers model with peft's LoRA layers in it."""

    def __init__(
        self, name: str, adapted: PeftModel, tokenizer: Any, device: torch.device, rows: TokenRows | None
    ) -> None:
        self.name, self.adapted, self.tokenizer, self.device, self.rows = (
            name,
            adapted,
            tokenizer,
            device,
            rows,
        )
        self.base = adapted.base_model.model
        self.decoder = self.base.get_decoder()
        self.places = steady(adapted)
        self.packs = self.base.config._attn_implementation == documents.NAME
        config = self.base.config
        self.softcap = getattr(config, "final_logit_softcapping", None)

    @property
    def vocabulary_rows(self) -> int:
        """Rows of the embedding matrix, before any new token rows."""
        return int(self.base.config.vocab_size)

    def _hidden(self, batch: Batch, prefix: Prefix | None = None) -> torch.Tensor:
        """Last hidden states [rows, T, H] of a padded or packed batch, or of what follows `prefix`."""
        if (
            prefix is not None
        ):  # causal attention keeps real tokens from the padding on the right, so no row needs a mask of its own
            places = torch.arange(prefix.tokens, prefix.tokens + batch.ids.shape[1], device=self.device)[None]
            return self.decoder(
                input_ids=batch.ids, position_ids=places, past_key_values=prefix.state, use_cache=True
            ).last_hidden_state
        if not batch.packed:
            return self.decoder(input_ids=batch.ids, use_cache=False).last_hidden_state
        edges = torch.tensor([0, *batch.lengths], device=self.device).cumsum(0).to(torch.int32)
        places = torch.cat([torch.arange(length, device=self.device) for length in batch.lengths])[None]
        longest = max(batch.lengths)
        return self.decoder(
            input_ids=batch.ids,
            position_ids=places,
            # a ready 4D mask is handed on unread: the documents' bounds decide, and no mask of T x T is built
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),
            use_cache=False,
            cu_seq_lens_q=edges,
            cu_seq_lens_k=edges,
            max_length_q=longest,
            max_length_k=longest,
        ).last_hidden_state

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """fp32 logits [n, V] of hidden states [n, H]."""
        logits = self.base.get_output_embeddings()(hidden).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def _token_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self._head(hidden), targets, reduction="none")

    def loss(self, batch: Batch, trained_tokens: int) -> Loss:
        """See LoadedModel. Logits are made for trained positions only, LOGITS_AT_ONCE at a time, and
        recomputed in the backward pass."""
        losses, sums = self._losses(batch.to(self.device), None)
        return Loss(losses.sum() / trained_tokens, sums)

    def _losses(self, batch: Batch, prefix: Prefix | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each trained position, and each example's sum."""
        if self.places is not None and self.adapted.training:
            self.places.put(batch)
        hidden = self._hidden(batch, prefix)[:, :-1]
        targets = batch.labels[:, 1:]
        trained = targets != IGNORED
        rows, wanted = hidden[trained], targets[trained]
        losses = self._position_losses(rows, wanted) if len(wanted) else rows.sum(dim=-1).float()
        sums = torch.zeros(len(batch.lengths), device=self.device)
        sums.index_add_(0, _owners(batch, trained, self.device), losses.detach())
        return losses, sums

    def _position_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """fp32 losses [n] of trained positions: hidden states [n, H] and the tokens that follow."""
        at_once = max(1, LOGITS_AT_ONCE // self.vocabulary_rows)
        pieces = zip(hidden.split(at_once), targets.split(at_once), strict=True)
        return torch.cat([checkpoint(self._token_losses, *piece, use_reentrant=False) for piece in pieces])

    @torch.no_grad()
    def logits(self, batch: Batch, token_ids: Sequence[int], prefix: Prefix | None = None) -> torch.Tensor:
        """See LoadedModel."""
        batch = batch.to(self.device)
        last = torch.tensor(batch.lengths, device=self.device) - 1
        hidden = self._hidden(batch, prefix)[
            torch.arange(len(batch.lengths), device=self.device), last
        ].float()
        weight, bias = self._head_rows(token_ids)
        logits = linear(hidden, weight, bias)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @torch.no_grad()
    def answer_logits(self, batch: Batch) -> torch.Tensor:
        """See LoadedModel."""
        batch = batch.to(self.device)
        return self._head(self._hidden(batch)[:, :-1][batch.labels[:, 1:] != IGNORED])

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Prefix:
        """See LoadedModel. Every layer keeps all positions: sliding windows are a matter of the mask."""
        cache = DynamicCache()
        self.decoder(
            input_ids=torch.tensor([list(ids)], device=self.device), past_key_values=cache, use_cache=True
        )
        return Prefix(len(ids), Cache(layers=[PrefixLayer(layer) for layer in cache.layers]))

    def logits_after(self, prefix: Prefix, batch: Batch, token_ids: Sequence[int]) -> torch.Tensor:
        """See LoadedModel."""
        return self.logits(batch, token_ids, prefix)

    @torch.no_grad()
    def losses_after(self, prefix: Prefix, batch: Batch) -> torch.Tensor:
        """See LoadedModel."""
        return self._losses(batch.to(self.device), prefix)[1]

    @cached_property
    def shares_prefix(self) -> bool:  # type: ignore[override]
        """See `asking.proved_prefix`."""
        return proved_prefix(self, self.vocabulary_rows)

    def _head_rows(self, token_ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """fp32 rows [k, H] of the head for these tokens, and their bias."""
        head = self.base.get_output_embeddings()
        if self.rows is not None:
            return self.rows.head_rows(token_ids).float(), None
        bias = getattr(head, "bias", None)
        return head.weight[list(token_ids)].float(), None if bias is None else bias[list(token_ids)].float()

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        watch_ids: Sequence[int] = (),
    ) -> list[Written]:
        """See LoadedModel. Rows are padded on the left and masked."""
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            mask[row, longest - len(prompt) :] = 1
        watched = WatchedScores(watch_ids, stop_ids)
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0],
            use_cache=True,
        )
        out = self.base.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([watched]),
        )[:, longest:].tolist()
        return [written(row, set(stop_ids), watched.of_row(place)) for place, row in enumerate(out)]

    def training(self, on: bool) -> None:
        """See LoadedModel."""
        self.adapted.train(on)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """See LoadedModel."""
        with self.adapted.disable_adapter():
            if self.rows is None:
                yield
            else:
                with self.rows.first_values():
                    yield

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """See LoadedModel."""
        found = [
            (name, parameter)
            for name, parameter in self.adapted.named_parameters()
            if parameter.requires_grad
        ]
        return sorted(found, key=lambda pair: pair[0])

    def _adapter_state(self) -> dict[str, torch.Tensor]:
        """The adapter's tensors under peft's file names."""
        state = get_peft_model_state_dict(self.adapted, save_embedding_layers=False)
        return {name: tensor for name, tensor in state.items() if "lora_" in name}

    def save_adapter(self, folder: Path) -> None:
        """See LoadedModel; token rows of their own lie beside the adapter."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self._adapter_state().items()}
        save_file(
            dict(sorted(state.items())), folder / "adapter_model.safetensors", metadata={"format": "pt"}
        )
        self.adapted.peft_config["default"].save_pretrained(str(folder))
        if self.rows is not None:
            save_file(self.rows.state(), folder / "token_rows.safetensors")

    def load_adapter(self, folder: Path) -> None:
        """See LoadedModel."""
        try:
            stored = load_file(folder / "adapter_model.safetensors")
            rows = load_file(folder / "token_rows.safetensors") if self.rows is not None else None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the adapter in {folder} cannot be read: {first_line(error)}", "use another checkpoint"
            ) from error
        own = self._adapter_state()
        wrong = sorted(set(stored) ^ set(own)) or [
            name
            for name in own
            if (own[name].shape, own[name].dtype) != (stored[name].shape, stored[name].dtype)
        ]
        if wrong:
            raise CheckpointError(
                f"the adapter in {folder} is not one of this model and recipe: {len(wrong)} tensors differ, first {wrong[0]}",
                "rank, targets and base must be those it was trained with",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(stored[name])
            if self.rows is not None and rows is not None:
                self.rows.load(rows)

    @torch.no_grad()
    def prove_head(self) -> None:
        """Refuse an architecture whose logits are not head(hidden): the loss here would be another than
        the model's own."""
        ids = torch.arange(1, 9, device=self.device)[None] % self.vocabulary_rows
        own = self.base(input_ids=ids, use_cache=False).logits.float()
        ours = self._head(
            self._hidden(Batch(ids, torch.full_like(ids, IGNORED), (8,), (0,), packed=False))[0]
        )[None]
        if not torch.allclose(own, ours, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{self.name}: this architecture changes its logits behind the head in a way that doitune does not know",
                "doitune supports causal language models whose logits are head(hidden), with or without soft-capping",
            )


def _owners(batch: Batch, trained: torch.Tensor, device: torch.device) -> torch.Tensor:
    """For each trained position, in row-major order, the place of its example in the batch."""
    if not batch.packed:
        return trained.nonzero()[:, 0]
    lengths = torch.tensor(batch.lengths, device=device)
    owners = torch.repeat_interleave(torch.arange(len(batch.lengths), device=device), lengths)
    return owners[None, 1:][trained]
