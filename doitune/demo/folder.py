"""The demo: a small closed world, a tiny base model that has read about it, and a data set in DoIT's layout
that asks about it.

This module stays light: importing it loads neither torch nor transformers, and makes nothing. The order in
which the abilities are meant to need fine-tuning rows, fewest first, is `LEARNING_NEED`: what pre-training
has already shown as prose (personas, good and bad acts, themed verse) needs few rows, because only the form
of the answer is new; facts asked for with option letters need some; a skill that prose shows only in pieces
(chains of comparisons, word problems in several steps) needs hundreds.

Measured on the shipped base (NF4, LoRA r 16, one seed, 16 / 160 / 640 rows of each ability), the order holds
only in part: biology, history, understanding and ethics rise all the way, chinese is done by 160; role_play,
code and math have hardly moved by 640 rows, because the base has read too little of them.
"""

from __future__ import annotations

from pathlib import Path

BASE: Path = Path(__file__).parent / "base"
"""Folder of the shipped base model: Llama weights in bf16, configuration and tokenizer."""

LEARNING_NEED: tuple[tuple[str, ...], ...] = (
    ("ethics", "role_play", "creative_writing"),
    ("biology", "history", "chinese", "understanding", "code"),
    ("reasoning", "math"),
)
"""The abilities in the order of their intended need of rows: tens, about a hundred, several hundred."""
