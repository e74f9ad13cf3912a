"""Make the demo's base model: `python -m doitune.demo.making.build [--out DIR] [--minutes N]`.

The tokenizer is written from the word list, the model starts from a seeded draw and reads seeded running text
until its time is used up. The procedure is the same everywhere; the weights are not bit-equal across
machines, because sums in floating point are not and because `--minutes` limits the steps. ORIGIN.json in the
folder says what was done.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from doitune.demo.dice import Dice
from doitune.demo.folder import BASE
from doitune.demo.making.text import NAME, TODAY, TRAITS, document
from doitune.demo.making.tokens import END, SPECIAL, write_tokenizer

SEED = 20231019
WINDOW_TOKENS = 64
WINDOWS_A_STEP = 16
PEAK_LR = 1e-3
"""For embeddings and norms (AdamW)."""
PEAK_TURN = 0.02
"""For linear layers (Orthogonal): the size of each singular value of a step."""
DECAY = 0.5
"""Of linear layers: how fast they shrink beside their steps, so that what they add does not drown the
embeddings, which tell the creatures apart."""
WARMUP_SHARE = 0.02
"""Of the time given: the learning rates rise linearly, then fall as a cosine to a fiftieth of their peak."""
VALUE_WEIGHT = 4.0
"""How much a value (of a trait, or of today) counts against another token: the others are mostly names that
nobody can foretell."""
PLAIN_FIRST_SHARE = 0.25
"""Of the time given: what is read first is traits in their shortest form, so that they are soon known."""
EMBEDDING_SCALE = 0.3
"""Standard deviation of an embedding's entries at the start: large beside what layers add, and drawn, not
learnt, for the most part, so that no two creatures are alike."""
HELD_OUT_WINDOWS = 64


def shape(vocabulary: int, end: int, pad: int) -> LlamaConfig:
    """About a million weights in 4 layers; widths are multiples of 64 because an NF4 block holds 64
    weights."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=end,
        pad_token_id=pad,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.04,
    )


class Reader:
    """Running text as packed windows; documents end with `</s>` and run on across windows."""

    def __init__(self, encode: Callable[[str], list[int]], end: int, seed: str) -> None:
        self._encode, self._end, self._dice = encode, end, Dice(seed)
        self._held: list[int] = []

    def step(self, first: bool = False) -> torch.Tensor:
        """The next windows, int64 [WINDOWS_A_STEP, WINDOW_TOKENS]; `first` as in `document`."""
        size = WINDOW_TOKENS * WINDOWS_A_STEP
        while len(self._held) < size:
            self._held += [*self._encode(document(self._dice, first)), self._end]
        taken, self._held = self._held[:size], self._held[size:]
        return torch.tensor(taken).view(WINDOWS_A_STEP, WINDOW_TOKENS)


def rate(share: float) -> float:
    """The part of the peak learning rates that holds after `share` (0..1) of the time."""
    if share < WARMUP_SHARE:
        return (share + 1e-3) / WARMUP_SHARE
    along = min(1.0, (share - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * along))


@torch.no_grad()
def held_out_loss(
    model: LlamaForCausalLM, held_out: torch.Tensor, behind: torch.Tensor | None = None
) -> float:
    """Mean loss a token, in nats, on windows that training does not see; of tokens `behind` these ids."""
    total, count = 0.0, 0
    for part in held_out.split(WINDOWS_A_STEP):
        losses = torch.nn.functional.cross_entropy(
            model(input_ids=part).logits[:, :-1].flatten(0, 1), part[:, 1:].flatten(), reduction="none"
        )
        counted = losses if behind is None else losses[torch.isin(part[:, :-1].flatten(), behind)]
        total, count = total + counted.sum().item(), count + len(counted)
    return total / count


class Orthogonal(torch.optim.Optimizer):
    """Steps of momentum made orthogonal (Muon, Jordan et al. 2024), for linear layers: learns list-reading in
    half the tokens of AdamW.

    In fp32, unlike `torch.optim.Muon`, which multiplies in bf16: two orders of magnitude slower on a CPU
    without bf16.
    """

    def __init__(self, weights: list[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                speed = self.state[weight].setdefault("speed", torch.zeros_like(weight))
                speed.lerp_(weight.grad, 1 - group["momentum"])
                turn = _orthogonal(weight.grad.lerp(speed, group["momentum"]))
                weight.mul_(1 - group["lr"] * DECAY)
                weight.add_(turn * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5, alpha=-group["lr"])


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Near the closest matrix with singular values of one: five Newton-Schulz rounds of the quintic of the
    Muon paper."""
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    return wide.T if tall else wide


def optimisers(model: LlamaForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """One for the linear layers, one for embeddings and norms; without weight decay, so rows that no text
    uses keep their scale."""
    linear = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    other = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return Orthogonal(linear, PEAK_TURN), torch.optim.AdamW(
        other, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0
    )


def reading_loss(model: LlamaForCausalLM, batch: torch.Tensor, before_value: torch.Tensor) -> torch.Tensor:
    """Mean loss a token, a token behind one of `before_value` (ids) counting VALUE_WEIGHT times. `batch`:
    int64 [windows, tokens]."""
    scores = model(input_ids=batch).logits[:, :-1]
    weights = 1.0 + (VALUE_WEIGHT - 1.0) * torch.isin(batch[:, :-1], before_value).float()
    losses = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def read(
    model: LlamaForCausalLM,
    reader: Reader,
    held_out: torch.Tensor,
    before_value: torch.Tensor,
    seconds: float,
) -> list[dict[str, float]]:
    """Pre-train for `seconds`; prints and gives the held-out losses on the way."""
    both = optimisers(model)
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in both]
    log: list[dict[str, float]] = []
    start, share, step = time.monotonic(), 0.0, 0
    while share < 1.0:
        loss = reading_loss(model, reader.step(first=share < PLAIN_FIRST_SHARE), before_value)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, peak in zip(both, peaks):
            optimiser.param_groups[0]["lr"] = peak * rate(share)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        share = (time.monotonic() - start) / seconds
        if step % 250 == 0 or share >= 1.0:
            log.append(
                {
                    "step": step,
                    "seconds": round(share * seconds),
                    "held_out_loss": round(held_out_loss(model, held_out), 4),
                    "value_loss": round(held_out_loss(model, held_out, before_value), 4),
                }
            )
            print(json.dumps(log[-1] | {"train_loss": round(loss.item(), 4)}), flush=True)
    return log


@torch.no_grad()
def settle_unread_rows(model: LlamaForCausalLM, unread: list[int]) -> None:
    """Draw the embeddings that no text trained at the scale of the trained ones, small enough that the tied
    head never favours them.

    Without this, each step of training pushes them all the same way (down, as wrong answers), and the roles
    would look alike.
    """
    weight = model.get_input_embeddings().weight
    trained = torch.ones(len(weight), dtype=torch.bool)
    trained[unread] = False
    scale = weight[trained].std()
    mean = weight[unread].mean(0)
    noise = torch.randn(len(unread), weight.shape[1], generator=torch.Generator().manual_seed(SEED))
    weight[unread] = mean + scale * noise


def build(folder: Path, minutes: float) -> dict[str, Any]:
    """Write the whole base model into `folder`; gives what ORIGIN.json says."""
    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids(END)
    model = LlamaForCausalLM(shape(vocabulary, end, tokenizer.pad_token_id))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(EMBEDDING_SCALE / 0.04)
    model.train()
    encode = tokenizer.backend_tokenizer.encode
    before_value = torch.tensor(tokenizer.convert_tokens_to_ids([*TRAITS, *TODAY, NAME]))
    unseen = Reader(lambda text: encode(text).ids, end, "held out")
    held_out = torch.cat([unseen.step() for _ in range(HELD_OUT_WINDOWS // WINDOWS_A_STEP)])
    log = read(
        model,
        Reader(lambda text: encode(text).ids, end, "running text"),
        held_out,
        before_value,
        minutes * 60,
    )
    reserved = [number for number, piece in enumerate(SPECIAL) if piece.startswith("<reserved")]
    settle_unread_rows(model, reserved)
    model.to(torch.bfloat16).save_pretrained(folder)
    origin = {
        "made_by": "python -m doitune.demo.making.build",
        "seed": SEED,
        "minutes": minutes,
        "steps": log[-1]["step"],
        "tokens_a_step": WINDOW_TOKENS * WINDOWS_A_STEP,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": vocabulary,
        "held_out_losses": log,
        "torch": torch.__version__,
    }
    (folder / "ORIGIN.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8", newline="\n")
    return origin


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Make the demo's base model.")
    parser.add_argument("--out", type=Path, default=BASE, help="folder to write (default: the shipped one)")
    parser.add_argument("--minutes", type=float, default=25.0, help="time to spend on reading (default: 25)")
    options = parser.parse_args()
    build(options.out, options.minutes)


if __name__ == "__main__":
    main()
