"""A newcomer's hour: each block of commands of README, in order, from a built wheel in a fresh environment.

    python tests/newcomer.py

`.ci/run` runs it. A block that cannot be run says why in `LEFT_OUT`. Prints each block's seconds; ends with
the exit code of the first that fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from manual import ROOT, Block, blocks

LEFT_OUT = {"pytest": "the tests themselves, which .ci/run runs in an environment of their own"}
"""By a word of the block: why it is not run here."""

SAYS = {
    "doitune train demo": r"mean of 10 abilities",
    "doitune init": r"(?s)客服 \(chrF\).*sql \(chrF\)",
    "doitune chat": r"(?s)my/[0-9-]+:\n.*\nmy/[0-9-]+@base:\n",
    "--to merged": r"next: ",
    "doitune grow": r"wrote advised\.yaml",
}
"""What a block must say, by words of it."""

TIMEOUT_SECONDS = 1200

TYPED = "查第 3 行\n"
"""What is on stdin: a chat that nobody types into reads its prompt there."""


def why_not(block: Block) -> str:
    """Why a block is left out; "" where it is run."""
    return next((why for word, why in LEFT_OUT.items() if word in block.text), "")


def built(folder: Path) -> Path:
    """The wheel of this checkout."""
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(words, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> int:
    """Run the blocks; the exit code of the first that fails, else 0."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        desk = home / "我的 desk"
        desk.mkdir()
        wheel = built(home)
        venv.create(home / "env", with_pip=True)
        path = f"{home / 'env/bin'}{os.pathsep}{os.environ['PATH']}"
        apart = {"XDG_CACHE_HOME": str(home / "cache"), "HF_HUB_OFFLINE": "1", "PATH": path}
        environment = {**os.environ, **apart}
        for unwanted in ("PYTHONPATH", "VIRTUAL_ENV"):
            environment.pop(unwanted, None)
        for block in blocks(ROOT / "README.md", "bash"):
            if why := why_not(block):
                print(f"== {block.place} is left out: {why}", flush=True)
                continue
            typed = block.text.replace("pip install .", f"pip install -q {wheel}")
            print(f"== {block.place}\n{block.text}", flush=True)
            started = time.monotonic()
            words = ["bash", "-euo", "pipefail", "-c", typed]
            done = subprocess.run(
                words,
                cwd=desk,
                env=environment,
                input=TYPED,
                text=True,
                stdout=subprocess.PIPE,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            print(done.stdout, flush=True)
            print(f"== {block.place} took {time.monotonic() - started:.0f} s", flush=True)
            if done.returncode:
                print(f"== {block.place} ended with {done.returncode}", flush=True)
                return done.returncode
            for words_of, said in SAYS.items():
                if words_of in block.text and not re.search(said, done.stdout):
                    print(f"== {block.place} does not say {said}", flush=True)
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
