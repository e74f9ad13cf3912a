"""Run directories made on the spot, with checkpoints of a few bytes."""

from __future__ import annotations

import json
from pathlib import Path

from doitune.run.folder import Run, create_run, save_checkpoint


def make(runs: Path, name: str = "demo", now: float = 1_000_000.0) -> Run:
    run = create_run(runs, name, now)
    run.write("recipe.yaml", "x: 1\n")
    return run


def checkpoint(run: Run, step: int) -> None:
    def fill(folder: Path) -> None:
        (folder / "state.json").write_text(json.dumps({"step": step}))
        (folder / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 100)

    save_checkpoint(run, step, fill)


def steps(run: Run) -> list[int]:
    return [found.step for found in run.checkpoints.all()]


def validation(run: Run, step: int, epoch: float, loss: float, score: float | None) -> None:
    run.log.add({"event": "validation", "step": step, "epoch": epoch, "loss": loss, "score": score})


def step_line(step: int) -> dict[str, object]:
    return {"event": "step", "step": step, "loss": 1 / step, "grad_norm": 1.0}
