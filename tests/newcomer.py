"""A newcomer's hour: each block of commands of README as printed, in order, in a fresh environment: the first one in a
copy of this checkout, the others in a folder of one's own.

    python tests/newcomer.py [--quick]

`.ci/run` runs it with `--quick`. A block that cannot be run says why in `LEFT_OUT`, one that a quick run leaves out in
`LONG`. Prints each block's seconds; ends with the exit code of the first that fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from manual import ROOT, Block, blocks

LEFT_OUT = {"pytest": "the tests themselves, which .ci/run runs in an environment of their own"}
"""By a word of the block: why it is not run here."""

LONG = {
    "doitune grow": "a family of runs takes longer than all the rest; tests/test_cli_grow.py makes a small one"
}
"""By a word of the block: why it is not run where time is short."""

SAYS = {
    "doitune train demo": r"mean of 10 abilities",
    "doitune init": r"(?s)(?=.*客服 \(chrF\)).*sql \(chrF\)",
    "doitune chat": r"(?s)my/[0-9-]+:\n.*\nmy/[0-9-]+@base:\n",
    "--to merged": r"next: ",
    "doitune grow": r"wrote advised\.yaml",
}
"""What a block must say, by words of it."""

TIMEOUT_SECONDS = 3600

TYPED = "查第 3 行\n"
"""What is on stdin: a chat that nobody types into reads its prompt there."""


def why_not(block: Block, *, quick: bool = False) -> str:
    """Why a block is left out; "" where it is run."""
    left_out = {**LEFT_OUT, **LONG} if quick else LEFT_OUT
    return next((why for word, why in left_out.items() if word in block.text), "")


def copied(folder: Path) -> Path:
    """This checkout's own files, elsewhere."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def main(*, quick: bool) -> int:
    """Run the blocks; the exit code of the first that fails, else 0."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        desk = home / "我的 desk"
        desk.mkdir()
        place = copied(home / "checkout")
        venv.create(home / "env", with_pip=True)
        path = f"{home / 'env/bin'}{os.pathsep}{os.environ['PATH']}"
        apart = {"XDG_CACHE_HOME": str(home / "cache"), "HF_HUB_OFFLINE": "1", "PATH": path}
        environment = {**os.environ, **apart}
        for unwanted in ("PYTHONPATH", "VIRTUAL_ENV"):
            environment.pop(unwanted, None)
        for block in blocks(ROOT / "README.md", "bash"):
            if why := why_not(block, quick=quick):
                print(f"== {block.place} is left out: {why}", flush=True)
                continue
            print(f"== {block.place}\n{block.text}", flush=True)
            started = time.monotonic()
            words = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(
                words,
                cwd=place,
                env=environment,
                input=TYPED,
                text=True,
                stdout=subprocess.PIPE,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            print(done.stdout, flush=True)
            print(f"== {block.place} took {time.monotonic() - started:.0f} s", flush=True)
            place = desk
            if done.returncode:
                print(f"== {block.place} ended with {done.returncode}", flush=True)
                return done.returncode
            for words_of, said in SAYS.items():
                if words_of in block.text and not re.search(said, done.stdout):
                    print(f"== {block.place} does not say {said}", flush=True)
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(quick="--quick" in sys.argv[1:]))
