"""torch and the backends, asked in a process of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from doitune.doctor.check import Check
from doitune.doctor.known_errors import AGAIN, TORCH, explain

ASK_SECONDS = 180
OLDEST_DRIVERS = {"12": 525, "13": 580}
"""Major versions of the driver for Linux by CUDA's. Source: NVIDIA, CUDA compatibility, minor versions."""


def ask_engines() -> dict[str, Any]:
    """What torch and the backends say, from a process of its own; {"error": sentence} where it fails."""
    words = [sys.executable, "-m", "doitune.doctor.ask"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"torch and the backends did not answer within {ASK_SECONDS} s"}
    except OSError as error:
        return {"error": f"no process can be started: {error.strerror}"}
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
        return said if isinstance(said, dict) else {"error": "torch's process said something else"}
    except (IndexError, ValueError):
        last = ([line for line in done.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        return {"error": f"the process that imports torch ended with {done.returncode}: {last.strip()}"}


def torch_checks(asked: Mapping[str, Any], has_card: bool, driver: str = "") -> Iterator[Check]:
    """What torch says of itself and the card; `driver`: its version, as the driver has it."""
    if "error" in asked:
        known = explain(str(asked["error"]))
        cure = known.cure if known else "install torch again"
        again = f"pip install --force-reinstall --no-deps {TORCH}"
        yield Check("torch", "problem", str(asked["error"]), cure, () if known else (again,))
        return
    torch = asked["torch"]
    if torch["cuda"]:
        cards_text = ", ".join(
            f"{one['name']} (sm_{one['capability']}{', bf16' if one['bf16'] else ', no bf16'})"
            for one in torch["cards"]
        )
        yield Check("torch", "ok", f"torch {torch['version']}, CUDA {torch['built_for']}: {cards_text}")
    elif not has_card:
        yield Check("torch", "ok", f"torch {torch['version']} on the CPU")
    elif not torch["built_for"]:
        yield Check(
            "torch",
            "warning",
            f"torch {torch['version']} is built without CUDA, but a card is here",
            "install a build with CUDA",
            (AGAIN,),
        )
    else:
        yield _blind(torch, driver)


def _blind(torch: Mapping[str, Any], driver: str) -> Check:
    """A card that the driver has and torch does not see."""
    text = (
        f"torch {torch['version']} is built for CUDA {torch['built_for']} and sees no card, "
        f"though the driver{f' {driver}' if driver else ''} does: {torch['why'] or 'no reason given'}"
    )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        cure = f"CUDA_VISIBLE_DEVICES={hidden!r} may hide it"
        return Check("torch", "warning", text, cure, ("unset CUDA_VISIBLE_DEVICES",))
    needed = OLDEST_DRIVERS.get(str(torch["built_for"]).partition(".")[0], 0)
    have = int(found[0]) if (found := re.match(r"\d+", driver)) else 0
    if 0 < have < needed:
        cure = f"CUDA {torch['built_for']} needs driver {needed} or later: update it"
        older = have >= OLDEST_DRIVERS["12"]
        return Check(
            "torch",
            "warning",
            text,
            f"{cure}{', or take a build for CUDA 12' if older else ''}",
            (AGAIN,) * older,
        )
    known = explain(str(torch["why"]))
    return Check("torch", "warning", text, known.cure if known else "update the driver, then restart")


def backend_checks(asked: Mapping[str, Any], has_card: bool) -> Iterator[Check]:
    said: Mapping[str, Any] = asked.get("backends", {})
    none_serves = bool(said) and all(reason is not None for reason in said.values())
    for name, reason in said.items():
        if reason is None:
            yield Check(f"backend {name}", "ok", "can be used")
        else:
            install = (
                ("pip install 'doitune[gpu]'",) if name == "unsloth" and "not installed" in reason else ()
            )
            known = explain(reason)
            state = "problem" if none_serves else "warning" if has_card else "ok"
            yield Check(
                f"backend {name}",
                state,
                f"not used here, and not needed: {reason}" if state == "ok" else f"cannot be used: {reason}",
                "" if state == "ok" else known.cure if known else "see the lines above",
                install,
            )
