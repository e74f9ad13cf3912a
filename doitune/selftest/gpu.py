"""The test of a card: Unsloth's kernels beside plain torch, both backends beside each other, the memory plan
beside what is measured.

One document comes of it, to send in. Every part has a process of its own (Unsloth and the hf backend never
share one) and a time limit; a part that fails stops no other.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doitune.base.named import model_section
from doitune.data.cache import corpora_folder
from doitune.doctor.diagnosis import diagnose
from doitune.errors import DiskError, FitError
from doitune.memory.cards import Card, find_card
from doitune.memory.levers import high_gib
from doitune.memory.setting import Setting
from doitune.memory.shape import find_shape
from doitune.system.secrets import redact

SIZES = ("7b", "13b", "33b")
TOKENS, STEPS = 2048, 20
NEAR_LOSS, NEAR_PLAN = 0.02, 0.10
"""Largest relative difference of the backends' losses, and of the measured peak from the plan's."""
NEAR_KERNEL = {"fp32": 1e-4, "bf16": 3e-2}
"""Largest difference of a kernel from plain torch, as a share of the largest value; bf16 keeps 8 bits, and
a LoRA layer rounds several times."""

KERNEL_SECONDS, LEARN_SECONDS, MEASURE_SECONDS = 300.0, 300.0, 600.0


@dataclass(frozen=True)
class Part:
    """A process: its name in the document, the words that it is given, and its time limit."""

    name: str
    words: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = MEASURE_SECONDS


def selftest_gpu(
    runs: Path,
    *,
    quick: bool = False,
    on_part: Callable[[str, int, int], None] = lambda *_: None,
    on_document: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """The whole test. FitError (exit 78) without a card, before anything heavy is imported.

    `on_document` is given the document as far as it has come, after each part: a machine that stops in the
    middle leaves what was measured.
    """
    card = find_card()
    if card is None:
        hint = "`doitune doctor` says what is there; on the CPU: `doitune selftest crash`"
        raise FitError("there is no CUDA card here to be tested, or no driver for it", hint)
    machine = diagnose(runs).to_json()
    serves = [name for name, reason in machine["machine"]["backends"].items() if reason is None]
    folder = _room()
    try:
        planned = plan_parts(card, serves, folder, quick=quick)
        parts: dict[str, dict[str, Any]] = {}
        for name, answer in run_parts(planned, folder, on_part):
            parts[name] = answer
            rest = [one.name for one in planned if one.name not in parts]
            if rest:
                on_document(unfinished(assemble(card, parts, machine), rest))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return assemble(card, parts, machine)


def _room() -> Path:
    """A new folder in the user's cache for bases of random weights. Not the system's temporary folder:
    that may lie in main memory, where the holes of a sparse file take room as they are read. Errors:
    DiskError."""
    parent = corpora_folder().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="selftest-gpu-", dir=parent))
    except OSError as error:
        raise DiskError(
            f"cannot write in {parent}: {error.strerror}", "set XDG_CACHE_HOME to a folder elsewhere"
        ) from error


def plan_parts(card: Card, serves: Sequence[str], folder: Path, *, quick: bool) -> list[Part]:
    """What is run on a card: Unsloth's kernels, 20 steps of each backend, then the sizes that fit it (with
    `quick` the smallest alone)."""
    learn = {"part": "learn", "adapter": str(folder / "adapter"), "base": "demo", "steps": STEPS}
    found = [Part("kernels", {"part": "kernels"}, KERNEL_SECONDS)] if "unsloth" in serves else []
    found += [Part(f"learn {name}", {**learn, "backend": name}, LEARN_SECONDS) for name in serves]
    for size in SIZES[:1] if quick else SIZES:
        for name in serves:
            setting = Setting(
                find_shape(model_section(size)).architecture, backend=name, rank=16, tokens=TOKENS
            )
            words = {
                "part": "measure",
                "size": size,
                "backend": name,
                "tokens": TOKENS,
                "gib": card.gib,
                "name": card.name,
            }
            if high_gib(setting) <= card.usable_gib:
                found.append(Part(f"plan {size} {name}", {**words, "folder": str(folder / f"{size}-{name}")}))
    return found


def run_parts(
    parts: Sequence[Part], folder: Path, on_part: Callable[[str, int, int], None] = lambda *_: None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part's name and answer, with its seconds; {"error": ...} where it failed or ran out of time."""
    for number, part in enumerate(parts, 1):
        on_part(part.name, number, len(parts))
        began = time.monotonic()
        answer = _run(part, folder / f"part-{number}.json")
        yield part.name, {**answer, "seconds": round(time.monotonic() - began, 1)}


def _run(part: Part, result: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "doitune.selftest.gpu_part", json.dumps(dict(part.words)), str(result)]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=part.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {part.seconds:g} s"}
    if done.returncode or not result.exists():
        last = ([line for line in done.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        return {"error": f"exit {done.returncode}: {last.strip()[:300]}"}
    answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return answer


def unfinished(document: dict[str, Any], rest: Sequence[str]) -> dict[str, Any]:
    """The document of a test that has parts to come: it has not passed."""
    said = f"not finished, still to come: {', '.join(rest)}; so far {document['said']}"
    return {**document, "verdict": "unfinished", "said": said, "passed": False}


def assemble(card: Card, parts: Mapping[str, dict[str, Any]], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The document, without paths and secrets. The verdict is `passed` only where every part passed and
    there was one."""
    judged = {
        name: {**dict(zip(("verdict", "said"), judge(answer), strict=True)), **answer}
        for name, answer in parts.items()
    }
    curves = [one for name, one in parts.items() if name.startswith("learn")]
    if len(curves) == 2 and all("losses" in one for one in curves):
        apart = max(
            abs(one - other) / abs(other)
            for one, other in zip(curves[0]["losses"], curves[1]["losses"], strict=True)
        )
        verdict = "passed" if apart <= NEAR_LOSS else "FAILED"
        judged["backends agree"] = {
            "verdict": verdict,
            "said": f"losses {100 * apart:.2f} % apart at most",
            "apart": apart,
            "seconds": 0.0,
        }
    else:
        judged["backends agree"] = {
            "verdict": "skipped",
            "said": "only one backend's losses are there",
            "seconds": 0.0,
        }
    failed = [name for name, one in judged.items() if one["verdict"] == "FAILED"]
    skipped = [name for name, one in judged.items() if one["verdict"] == "skipped"]
    passed = not failed and any(one["verdict"] == "passed" for one in judged.values())
    rest = f"; skipped: {', '.join(skipped)}" if skipped else ""
    said = f"failed: {', '.join(failed)}" if failed else f"{len(judged) - len(skipped)} parts passed{rest}"
    whole = {
        "schema": "doitune.selftest-gpu/1",
        "verdict": "passed" if passed else "FAILED",
        "said": said,
        "passed": passed,
    }
    cleaned: dict[str, Any] = clean(
        {
            **whole,
            "card": {"name": card.name, "gib": round(card.gib, 2)},
            "parts": judged,
            "machine": dict(machine),
        }
    )
    return cleaned


def judge(answer: Mapping[str, Any]) -> tuple[str, str]:
    """Verdict and sentence on one part's answer."""
    if "error" in answer:
        return "FAILED", str(answer["error"])
    if "kernels" in answer:
        return _judge_kernels(answer["kernels"])
    losses = answer["losses"]
    if not all(loss == loss and abs(loss) < 1e6 for loss in losses):
        return "FAILED", "a loss is not finite"
    if "ratio" in answer:
        near = abs(answer["ratio"] - 1) <= NEAR_PLAN and answer["reserved_gib"] <= answer["planned_high_gib"]
        roof = (
            f", {100 * answer['share_of_roof']:.0f} % of the roof"
            if answer["share_of_roof"]
            else ", no roof known for this card"
        )
        text = f"{answer['allocated_gib']:.2f} GiB measured, {answer['planned_gib']:.2f} planned; "
        return ("passed" if near else "FAILED"), f"{text}{answer['tokens_per_second']:,} tokens/s{roof}"
    if losses[-1] >= losses[0]:
        return "FAILED", f"the loss did not fall: {losses[0]:.3f} to {losses[-1]:.3f}"
    if not answer["packed"]:
        return "FAILED", "packed rows are not exact"
    return "passed", f"loss {losses[0]:.3f} to {losses[-1]:.3f}, packed rows exact"


def _judge_kernels(found: Mapping[str, Mapping[str, float]]) -> tuple[str, str]:
    """Every kernel within its dtype's bound; a NaN is not."""
    far = [
        f"{name} in {dtype}: {value:.1e}"
        for dtype, values in found.items()
        for name, value in values.items()
        if not value <= NEAR_KERNEL[dtype]
    ]
    if far or not all(found.get(dtype) for dtype in NEAR_KERNEL):
        return "FAILED", f"far from plain torch: {', '.join(far)}" if far else "not every dtype was compared"
    worst = ", ".join(f"{max(values.values()):.1e} in {dtype}" for dtype, values in found.items())
    return "passed", f"{len(found['fp32'])} kernels, at most {worst} from plain torch"


def clean(value: Any) -> Any:
    """A document without secrets and folders: of a path only its last part stays. A number that is none is
    said in words: JSON knows none."""
    if isinstance(value, Mapping):
        return {key: clean(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return (
        re.sub(r"(?<![\w:/.])[~.]*/[^\s'\",;:)]*/([^\s/'\",;:)]+)", r".../\1", redact(value))
        if isinstance(value, str)
        else value
    )
