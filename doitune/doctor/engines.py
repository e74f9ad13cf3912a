"""torch and the backends, asked in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from doitune.doctor.check import Check

ASK_SECONDS = 180


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


def torch_checks(asked: Mapping[str, Any], has_card: bool) -> Iterator[Check]:
    if "error" in asked:
        yield Check(
            "torch",
            "problem",
            str(asked["error"]),
            "install torch again",
            ("pip install --force-reinstall --no-deps 'torch>=2.10,<2.14'",),
        )
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
        command = "pip install --force-reinstall 'torch>=2.10,<2.14' --index-url https://download.pytorch.org/whl/cu128"
        yield Check(
            "torch",
            "warning",
            f"torch {torch['version']} is built without CUDA, but a card is here",
            "install a build with CUDA",
            (command,),
        )
    else:
        yield Check(
            "torch",
            "warning",
            f"torch {torch['version']} is built for CUDA {torch['built_for']} and sees no card, "
            f"though the driver does: {torch['why'] or 'no reason given'}",
            "update the driver; look at CUDA_VISIBLE_DEVICES",
        )


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
            state = "problem" if none_serves else "warning" if has_card else "ok"
            yield Check(
                f"backend {name}",
                state,
                f"not used here, and not needed: {reason}" if state == "ok" else f"cannot be used: {reason}",
                "" if state == "ok" else "see the lines above",
                install,
            )
