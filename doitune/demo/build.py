"""Make the demo's base model: `python -m doitune.demo.build [--out DIR] [--minutes N]`.

The tokenizer is written from the word list, the model starts from a seeded draw and reads seeded running text until its time is used up.
The procedure is the same everywhere; the weights are not bit-equal across machines, because sums in floating point are not and because
`--minutes` limits the steps. ORIGIN.json in the folder says what was done.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from doitune.demo import BASE
from doitune.demo.dice import Dice
from doitune.demo.text import document
from doitune.demo.tokens import END, SPECIAL, write_tokenizer

SEED = 20231019
WINDOW_TOKENS = 256
WINDOWS_A_STEP = 16
PEAK_LR = 3e-3
WARMUP_SHARE = 0.04
"""Of the time given: the learning rate rises linearly, then falls as a cosine to a fiftieth of its peak."""
HELD_OUT_WINDOWS = 32


def shape(vocabulary: int, end: int, pad: int) -> LlamaConfig:
    """About 2 million weights; widths are multiples of 64 because an NF4 block holds 64 weights."""
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1, eos_token_id=end,
        pad_token_id=pad, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, initializer_range=0.02,
    )


def windows(encode: Callable[[str], list[int]], end: int, dice: Dice) -> Iterator[torch.Tensor]:
    """Steps of packed windows, int64 [WINDOWS_A_STEP, WINDOW_TOKENS]; documents end with `</s>` and run on across windows."""
    held: list[int] = []
    size = WINDOW_TOKENS * WINDOWS_A_STEP
    while True:
        while len(held) < size:
            held += [*encode(document(dice)), end]
        yield torch.tensor(held[:size]).view(WINDOWS_A_STEP, WINDOW_TOKENS)
        held = held[size:]


def rate(share: float) -> float:
    """The learning rate after `share` (0..1) of the time."""
    if share < WARMUP_SHARE:
        return PEAK_LR * (share + 1e-3) / WARMUP_SHARE
    along = min(1.0, (share - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return PEAK_LR * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * along)))


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, held_out: torch.Tensor) -> float:
    """Mean loss a token, in nats, on windows that training does not see."""
    model.eval()
    losses = [model(input_ids=part, labels=part).loss.item() for part in held_out.split(WINDOWS_A_STEP)]
    model.train()
    return sum(losses) / len(losses)


def optimiser(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW that decays the linear layers only: norms and embeddings keep their scale, also in rows that no text uses."""
    linear = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    other = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    groups: list[dict[str, Any]] = [{"params": linear, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.98))


def read(model: LlamaForCausalLM, steps: Iterator[torch.Tensor], held_out: torch.Tensor, seconds: float) -> list[dict[str, float]]:
    """Pre-train for `seconds`; prints and gives the held-out losses on the way."""
    adam = optimiser(model)
    start, log = time.monotonic(), []
    share, step = 0.0, 0
    while share < 1.0:
        for group in adam.param_groups:
            group["lr"] = rate(share)
        batch = next(steps)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        step += 1
        share = (time.monotonic() - start) / seconds
        if step % 200 == 0 or share >= 1.0:
            log.append({"step": step, "seconds": round(share * seconds), "held_out_loss": round(held_out_loss(model, held_out), 4)})
            print(json.dumps(log[-1] | {"train_loss": round(loss.item(), 4)}), flush=True)
    return log


@torch.no_grad()
def settle_unread_rows(model: LlamaForCausalLM, unread: list[int]) -> None:
    """Draw the embeddings that no text trained at the scale of the trained ones, small enough that the tied head never favours them.

    Without this, each step of training pushes them all the same way (down, as wrong answers), and the roles would look alike.
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
    model.train()
    encode = tokenizer.backend_tokenizer.encode
    held = windows(lambda text: encode(text).ids, end, Dice("held out"))
    held_out = torch.cat([next(held) for _ in range(HELD_OUT_WINDOWS // WINDOWS_A_STEP)])
    log = read(model, windows(lambda text: encode(text).ids, end, Dice("running text")), held_out, minutes * 60)
    reserved = [number for number, piece in enumerate(SPECIAL) if piece.startswith("<reserved")]
    settle_unread_rows(model, reserved)
    model.to(torch.bfloat16).save_pretrained(folder)
    origin = {
        "made_by": "python -m doitune.demo.build", "seed": SEED, "minutes": minutes, "steps": log[-1]["step"],
        "tokens_a_step": WINDOW_TOKENS * WINDOWS_A_STEP, "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": vocabulary, "held_out_losses": log, "torch": torch.__version__,
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
