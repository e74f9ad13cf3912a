"""A base's tokenizer.json is tried in a child process with limits before this process loads it: see
`tokenizer_child`."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from doitune.errors import ModelError
from doitune.system.confined import start

MOST_FILE_BYTES = 256 << 20
"""The largest known tokenizer.json has about 35 MB."""

MEMORY_BYTES = 384 << 20
"""Address space of the child, and MEMORY_TIMES the size of the file more (measured: a file of 17 MB needs
about 11 times its size)."""
MEMORY_TIMES = 24
MOST_MEMORY_BYTES = 960 << 20

CPU_SECONDS = 4.0
"""CPU time of loading and trying, and SECONDS_A_MIB more for each MiB of the file."""
SECONDS_A_MIB = 0.2
WALL_SECONDS = 60.0
"""The end on a machine that is busy with other things."""

SPARE, TIMES = 1024, 24
"""Characters or tokens that a text may become: SPARE, and TIMES its length (compatibility forms make up to 18
characters of one, four bytes a token each)."""

MOST_GAP = 1 << 17
"""Ids may leave gaps (reserved rows), but not more of them than this."""

CURE = "copy the tokenizer's files again, or take them from the model's publisher"


@lru_cache(maxsize=64)
def _tried(path: str, size: int, changed: int) -> str:
    """What is wrong with the file, or ""; it is tried once as long as it stays the same."""
    data = Path(path).read_bytes()
    wish = {
        "path": path,
        "texts": _texts(data),
        "spare": SPARE,
        "times": TIMES,
        "memory_bytes": min(MEMORY_BYTES + MEMORY_TIMES * size, MOST_MEMORY_BYTES),
        "seconds": CPU_SECONDS + SECONDS_A_MIB * (size >> 20),
    }
    line = _answer(json.dumps(wish).encode("ascii") + b"\n")
    if not line.endswith(b"\n"):
        return (
            f"it used more than {wish['seconds']:.3g} s or {int(str(wish['memory_bytes'])) >> 20} MiB "
            "for a few short texts, or broke its process"
        )
    reply = json.loads(line)
    if "failed" in reply:
        return str(reply["failed"])
    if not reply["entries"]:
        return "its vocabulary is empty"
    if reply["smallest"] < 0 or reply["largest"] > reply["entries"] + MOST_GAP:
        return f"it has {reply['entries']:,} tokens, and one of them has the id {reply['largest']:,}"
    return ""


def refuse_wild(folder: Path) -> None:
    """ModelError where the folder has a tokenizer.json that cannot be loaded, takes too much for short texts
    or has no vocabulary."""
    path = folder / "tokenizer.json"
    try:
        about = path.stat()
        if about.st_size > MOST_FILE_BYTES or not path.is_file():
            raise ModelError(f"no file of at most {MOST_FILE_BYTES >> 20} MiB", CURE, place=str(path))
        problem = _tried(str(path.resolve()), about.st_size, about.st_mtime_ns)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", "check its rights", place=str(path)) from error
    if problem:
        raise ModelError(f"the tokenizer cannot be loaded: {problem}", CURE, place=str(path))


def _texts(data: bytes) -> list[str]:
    """What a tokenizer is tried with: plain texts, and runs of each character that its regular expressions
    name, which is what a catastrophic one needs."""
    patterns = re.findall(rb'"Regex"\s*:\s*"((?:[^"\\]|\\.){0,2000})"', data)
    named = {one for pattern in patterns for one in pattern.decode("utf-8", "replace") if one.isalnum()}
    runs = [*"a1 \n中.-", *sorted(named)[:48]]
    plain = [
        "",
        "Hello, world! 3.14",
        "你好，世界。「因为」",
        "naïve café — \ufdfa 😀\u200d👩",
        "\x00\x7f\ufffd",
        "0" * 500,
    ]
    return [*plain, *(text for one in runs for text in (one * 40 + "!", one * 400 + "\u3042"))]


def _answer(wish: bytes) -> bytes:
    """The child's line; not whole where it ended before."""
    found = find_spec("tokenizers")
    if found is None:
        raise ModelError("the package tokenizers is not installed", "pip install tokenizers")
    child = start(
        Path(__file__).with_name("tokenizer_child.py"),
        found.submodule_search_locations or (),
        {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"},
    )
    timer = Timer(WALL_SECONDS, child.kill)
    timer.start()
    try:
        return child.communicate(wish)[0]
    finally:
        timer.cancel()
        child.kill()
        child.wait()
