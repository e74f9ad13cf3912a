"""Where the demo's base model lies: a tiny Llama that has read about the closed world, shipped in the wheel.

The scripts that made it are in `making/`, which stays in the repository.
"""

from __future__ import annotations

from pathlib import Path

BASE: Path = Path(__file__).parent / "base"
"""Folder of the shipped base model: Llama weights in bf16, configuration and tokenizer."""
