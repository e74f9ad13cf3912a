"""Rows a second of the strict reader, beside json.loads alone (which accepts NaN, repeated keys, half
characters and any turn order).
    python tests/bench/bench_read.py [rows]

Measured on two shared, busy cores, 41,490 rows, 42 MB: 49,000 to 66,000 rows a second strict, 102,000 by
json.loads alone.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from doitune.data.scan import scan_examples

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def write(path: Path, rows: int) -> None:
    """Rows of log-normal length (median 90 characters a turn, sigma 1)."""
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            texts = [
                "".join(dice.choices(HAN, k=min(2000, 1 + int(dice.lognormvariate(4.5, 1)))))
                for _ in range(2)
            ]
            turns = [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), texts, strict=True)
            ]
            file.write(
                json.dumps({"messages": turns, "idx": number, "type": "math"}, ensure_ascii=False) + "\n"
            )


def main(rows: int) -> None:
    """Print both figures, the best of three."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "math_full.json"
        write(path, rows)
        strict, loose = [], []
        for _ in range(3):
            started = time.perf_counter()
            examples = scan_examples(path, ability="math", id_prefix="curated/full", split="train").examples
            strict.append(time.perf_counter() - started)
            started = time.perf_counter()
            with path.open(encoding="utf-8") as file:
                plain = [json.loads(line) for line in file]
            loose.append(time.perf_counter() - started)
        assert len(examples) == len(plain) == rows
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        print(f"strict reader   {min(strict):6.2f} s  {rows / min(strict):9,.0f} rows/s")
        print(
            f"json.loads only {min(loose):6.2f} s  {rows / min(loose):9,.0f} rows/s  (ratio {min(strict) / min(loose):.1f})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 41_490)
