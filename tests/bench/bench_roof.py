"""What a card's roof allows by count: every kernel of a micro-batch of 2,048 tokens of 33b takes its arithmetic at
the card's full rate, or its bytes at 85 % of the card's bandwidth, whichever is longer. No card is asked.
    python tests/bench/bench_roof.py [--card "RTX 4090"]

hf: the backend's own code under fake tensors. unsloth: the model of its block that simulations have, where what
one of its kernels does counts as one. The roof is `doitune plan`'s: products and dequantisation alone. A launch
takes 5 µs of this process, beside the card's work or (at worst) after it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from launches import Count, by_layer

from doitune.memory.hours import BANDWIDTH_REACHED, tokens_per_second
from doitune.memory.known import CARDS, KnownCard
from doitune.memory.setting import Setting
from doitune.selftest.gpu_part import architecture_of

TOKENS, LAUNCH, AIM = 2048, 5e-6, 0.65
CASES: dict[str, dict[str, Any]] = {
    "hf": {"backend": "hf"},
    "hf, dropout 0.05": {"backend": "hf", "dropout": 0.05},
    "unsloth": {"backend": "unsloth"},
}


def whole(layers: int, layer: Count, beside: Count, card: KnownCard, rate: float, *, work: bool) -> float:
    """Seconds of a micro-batch with products at a share `rate` of the card's arithmetic."""
    rates = rate * card.tflops, BANDWIDTH_REACHED * card.gb_per_second
    return layers * layer.seconds(*rates, work=work) + beside.seconds(*rates, work=work)


def needed(seconds: float, *counted: Any) -> float:
    """The share of the card's arithmetic at which all of it takes `seconds`; above 1 where none does."""
    low, high = 0.01, 10.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        taken = sum(whole(*counted, middle, work=work) for work in (True, False))
        low, high = (middle, high) if taken > seconds else (low, middle)
    return high


def told(name: str, case: dict[str, Any], card: KnownCard) -> str:
    shape = architecture_of("33b")
    layer, beside = by_layer(shape, (TOKENS,), **case)
    setting = Setting(shape, tokens=TOKENS, **case)
    roof = TOKENS / tokens_per_second(setting, card, row_tokens=TOKENS, efficiency=1.0)
    counted = shape.layers, layer, beside, card
    work, rest = (whole(*counted, 1.0, work=work) for work in (True, False))
    launches = shape.layers * layer.launches + beside.launches
    traffic = shape.layers * layer.traffic + beside.traffic
    shares = [roof / one for one in (max(work + rest, LAUNCH * launches), work + rest + LAUNCH * launches)]
    return (
        f"{name:17} {launches:7,} {traffic:6.0f} {roof:6.2f} {work:6.2f} {rest:6.2f} {LAUNCH * launches:6.2f} "
        f"{shares[0]:8.0%} {shares[1]:8.0%} {needed(roof / AIM, *counted):8.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--card", default="RTX 4090")
    asked = parser.parse_args()
    (card,) = [one for one in CARDS if one.name == asked.card]
    assert isinstance(card, KnownCard), "its rates are not known"
    print(
        f"33b, {TOKENS} tokens, {card.name}: {card.tflops} TFLOP/s, {card.gb_per_second} GB/s; no card was asked"
    )
    print(
        f"{'':17} kernels     GB roof s work s rest s launch share of roof    rate that\n"
        f"{'':17} {'':35}       beside    after  {AIM:.0%} needs"
    )
    for name, case in CASES.items():
        print(told(name, case, card), flush=True)


if __name__ == "__main__":
    main()
