"""Where runs are unless a command says otherwise. Nothing else stands here: every start of a command reads
it."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")
