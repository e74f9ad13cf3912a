"""The program that tries a tokenizer.json or a tokenizer.model: started by `tokenizer_trial`, a process of
its own, so that what the file does to time and memory ends here.

A tokenizer.json is a program, too: normalizers may multiply a text, regular expressions may take for ever,
and the library's own code panics at some of them. sentencepiece is C++ that reads tables of offsets. One JSON
line in ({path, library, texts, spare, times, longest_piece, memory_bytes, seconds}), one out ({entries,
smallest, largest} or {failed}).
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any


def confine(memory_bytes: int, seconds: float) -> None:
    """No new file, dump or child, no more memory and CPU time than this, until the process ends."""
    limits = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NOFILE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
    }
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    signal.setitimer(signal.ITIMER_PROF, seconds)


def tried(data: bytes, wish: dict[str, Any]) -> dict[str, Any]:
    """Load it and encode every text; no text may become longer than `times` its own length and `spare`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(data)
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    for text in wish["texts"]:
        most = wish["spare"] + wish["times"] * len(text)
        if tokenizer.normalizer is not None:
            length = len(tokenizer.normalizer.normalize_str(text))
            if length > most:
                return {"failed": f"its normalizer makes {length:,} characters of {len(text):,}"}
        count = len(tokenizer.encode(text, add_special_tokens=True).ids)
        if count > most:
            return {"failed": f"it makes {count:,} tokens of {len(text):,} characters"}
    return {"entries": len(ids), "largest": max(ids, default=-1), "smallest": min(ids, default=0)}


def tried_model(data: bytes, wish: dict[str, Any]) -> dict[str, Any]:
    """The same for a sentencepiece model."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=data)
    for text in wish["texts"]:
        count = len(processor.encode(text))
        if count > wish["spare"] + wish["times"] * len(text):
            return {"failed": f"it makes {count:,} tokens of {len(text):,} characters"}
    count = processor.get_piece_size()
    longest = max(len(processor.id_to_piece(number)) for number in range(count))
    if longest > wish["longest_piece"]:
        return {"failed": f"it has a piece of {longest:,} characters"}
    return {"entries": count, "largest": count - 1, "smallest": 0}


def main() -> None:
    """Read, confine the process, try, answer."""
    wish = json.loads(sys.stdin.buffer.readline())
    importlib.import_module(wish["library"])  # no file can be opened later
    data = Path(wish["path"]).read_bytes()
    confine(wish["memory_bytes"], wish["seconds"])
    try:
        reply = (tried_model if wish["library"] == "sentencepiece" else tried)(data, wish)
    except BaseException as error:  # a panic of the library's own code is no Exception
        reply = {"failed": str(error)[:300] or type(error).__name__}
    sys.stdout.buffer.write(json.dumps(reply).encode("ascii") + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
