"""What card.sh found, a line for each step: `python tests/gpu/card_summary.py FOLDER...` (later folders win)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def said(answer: dict[str, Any]) -> str:
    """The figures of a part's answer; those that it has."""
    if "error" in answer:
        return str(answer["error"])
    names = (
        "allocated_gib", "reserved_gib", "planned_gib", "planned_high_gib", "ratio", "tokens_per_second",
        "share_of_roof", "packed", "packing", "compute_dtype", "device", "fitted_tokens", "lacked_tokens",
        "limit", "kernels",
    )  # fmt: skip
    found = [f"{name} {answer[name]}" for name in names if answer.get(name) is not None]
    if "top" in answer:
        idle = 1 - min(1.0, answer["busy_ms"] / answer["profiled_ms"])
        found += [
            f"{answer['kernels']} kernels in {answer['profiled_ms']:.0f} ms, the card idle for {idle:.0%}"
        ]
        found += [f"{ms:.1f} ms {count} x {name[:40]}" for ms, count, name in answer["top"][:3]]
    losses = answer.get("losses") or []
    return "; ".join([*found, *([f"loss {losses[0]:.4f} to {losses[-1]:.4f}"] if losses else [])])


def apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The largest relative difference of two curves."""
    pairs = zip(one["losses"], other["losses"], strict=True)
    return f"{100 * max(abs(a - b) / abs(b) for a, b in pairs):.3f} % apart at most"


def driver_gib(path: Path) -> str:
    """The most memory that the driver saw in use, of all programs."""
    if not path.exists():
        return ""
    numbers = [int(line) for line in path.read_text(encoding="utf-8").split() if line.isdecimal()]
    return f"; driver {max(numbers) / 1024:.2f} GiB at most" if numbers else ""


def summary(folders: list[Path]) -> list[str]:
    """A line for each step that has ended in any of the folders."""
    ended = {path.stem: path for folder in folders for path in sorted(folder.glob("*.rc"))}
    lines, answers = [], {}
    for name, path in ended.items():
        answer, text = path.with_suffix(".json"), ""
        if answer.exists() and name != "evaluate":
            answers[name] = json.loads(answer.read_text(encoding="utf-8"))
            text = said(answers[name])
        driver = driver_gib(path.with_suffix(".driver_mib"))
        lines.append(f"{name}: exit {path.read_text(encoding='utf-8').strip()}{driver}; {text}".rstrip("; "))
    curves = [answers.get(f"learn-{name}", {}) for name in ("unsloth", "hf")]
    if all("losses" in one for one in curves):
        lines.append(f"losses of unsloth and hf: {apart(*curves)}")
    return lines


if __name__ == "__main__":
    print("\n".join(summary([Path(name) for name in dict.fromkeys(sys.argv[1:])])))
