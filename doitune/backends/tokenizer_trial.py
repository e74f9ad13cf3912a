"""A base's tokenizer.json and tokenizer.model are tried in a child process with limits before this process
loads them: see `tokenizer_child`."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from doitune.base.sentencepiece import MODEL_FILE, MOST_PIECE, are_ranks
from doitune.errors import ModelError
from doitune.system.confined import start

TRIED = {"tokenizer.json": "tokenizers", MODEL_FILE: "sentencepiece"}
"""Files, and the library that reads each."""

MOST_FILE_BYTES = 256 << 20
"""The largest known tokenizer.json has about 35 MB."""

MOST_PIECES = 1 << 21
"""Of a sentencepiece model: eight times as many as the largest known vocabulary."""

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

PLANE = 1 << 16
"""Code points that a sentencepiece model is tried with, whose table of replacements is looked up by
character."""


@lru_cache(maxsize=64)
def _tried(path: str, library: str, size: int, changed: int) -> str:
    """What is wrong with the file, or ""; it is tried once as long as it stays the same."""
    data = Path(path).read_bytes()
    if library == "sentencepiece" and are_ranks(data):  # it is not read at all
        return ""
    wish = {
        "path": path,
        "library": library,
        "texts": [*_texts(data), *(_plane() if library == "sentencepiece" else ())],
        "spare": SPARE,
        "times": TIMES,
        "longest_piece": MOST_PIECE,
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
    if library == "sentencepiece" and reply["entries"] > MOST_PIECES:
        return f"it has {reply['entries']:,} pieces"
    if reply["smallest"] < 0 or reply["largest"] > reply["entries"] + MOST_GAP:
        return f"it has {reply['entries']:,} tokens, and one of them has the id {reply['largest']:,}"
    return ""


def refuse_wild(folder: Path) -> None:
    """ModelError where the folder has a tokenizer.json or tokenizer.model that cannot be loaded, takes too
    much for short texts or has no vocabulary."""
    for name, library in TRIED.items():
        _refuse_wild_file(folder / name, library)


def _refuse_wild_file(path: Path, library: str) -> None:
    try:
        about = path.stat()
        if about.st_size > MOST_FILE_BYTES or not path.is_file():
            raise ModelError(f"no file of at most {MOST_FILE_BYTES >> 20} MiB", CURE, place=str(path))
        problem = _tried(str(path.resolve()), library, about.st_size, about.st_mtime_ns)
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


def _plane() -> list[str]:
    """Every character of the basic plane, a thousand at a time."""
    known = [chr(number) for number in range(1, PLANE) if not 0xD800 <= number < 0xE000]
    return ["".join(known[start : start + 1024]) for start in range(0, len(known), 1024)]


def _answer(wish: bytes) -> bytes:
    """The child's line; not whole where it ended before."""
    packages: list[str] = []
    for name in TRIED.values():
        found = find_spec(name)
        if found is None:
            raise ModelError(f"the package {name} is not installed", f"pip install {name}")
        packages += found.submodule_search_locations or ()
    child = start(
        Path(__file__).with_name("tokenizer_child.py"),
        packages,
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
