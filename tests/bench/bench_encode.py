"""How long the paper's 41,490 rows take from files to ids: read, checked, encoded and proved, beside a slow
tokenizer, ids identical.
    python tests/bench/bench_encode.py [--tokenizer FOLDER] [--rows-per-cent 100] [--slow-rows 1000]

The rows are generated: as many as the paper's `full` folder has, each ability's rows as long on the mean as
the published file's (its bytes by its rows), in words of common Chinese characters with punctuation, digits
and some English. The tokenizer is a real one of about 50k pieces from a folder (SmolLM2's by default), or
where there is none a byte-level BPE trained here on the bench's own text. The slow side is one row at a time:
transformers' pure-Python byte-level BPE where the tokenizer is of that kind, and the fast tokenizer called
once a message. A folder with tokenizer.model is cut by sentencepiece; beside it stands what its tokenizer.json takes
for the same rows, whose ids may be others. Target: at most 20 s on two cores, at least 5 times the rows a second of the slow tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from doitune.ability import NAMES
from doitune.data.corpus import open_corpus
from doitune.data.example import Example
from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import Encoded
from doitune.prompt.law import prove_law
from doitune.prompt.template import Template, open_template

ROWS = dict(zip(NAMES, (1042, 1893, 4968, 1000, 1450, 4885, 1000, 12751, 11501, 1000), strict=True))
"""Full training rows. Source: the paper's Table 1 less 100 valid and 100 test rows."""
BYTES_A_ROW = dict(zip(NAMES, (527, 681, 2080, 1970, 1366, 534, 1400, 831, 1026, 791), strict=True))
"""Mean bytes of a row. Source: sizes of the published `full` files by their rows (code: `1000`, its
re-upload)."""
ROW_FRAME_BYTES = 110
"""Bytes of a row that are JSON and not text: keys, quotes, roles."""
ANSWER_SHARE = dict(zip(NAMES, (0.03, 0.03, 0.5, 0.85, 0.3, 0.03, 0.7, 0.03, 0.7, 0.6), strict=True))
"""About how much of a row's text is the answer: a letter for the choice questions, most of it for the
written ones."""
TARGET_SECONDS = 20.0
TARGET_TIMES = 5.0
PIECES = 50_000
SMOLLM2 = Path("~/.cache/doitune-dev/smollm2-135m")


class Writer:
    """Endless Chinese-like text: words of one to four common characters drawn by rank, with punctuation,
    numbers and English."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        common = [
            bytes((high, low)).decode("gb2312") for high in range(0xB0, 0xD7) for low in range(0xA1, 0xFF)
        ]
        self.dice.shuffle(common)
        weights = [1 / (rank + 8) for rank in range(len(common))]
        lengths = self.dice.choices((1, 2, 3, 4), (3, 6, 1, 1), k=30_000)
        self.words = ["".join(self.dice.choices(common, weights, k=length)) for length in lengths]
        self.words += [
            " the ",
            " of ",
            " print(",
            "return ",
            "x = ",
            "√2",
            "3.14",
            "2023",
            "100",
            "A. ",
            "B. ",
            "\n",
        ] * 4
        self.dice.shuffle(self.words)
        self.total = [0.0]
        for rank in range(len(self.words)):
            self.total.append(self.total[-1] + 1 / (rank + 20))
        self.total = self.total[1:]

    def text(self, size_bytes: float) -> str:
        """About `size_bytes` of text in UTF-8, at least one word."""
        words = self.dice.choices(self.words, cum_weights=self.total, k=max(1, round(size_bytes / 5.7)))
        for place in range(self.dice.randint(4, 9), len(words), self.dice.randint(6, 11)):
            words[place] += self.dice.choice("，，，，。。？：；、")
        return "".join(words).strip() or "好"


def write_rows(root: Path, per_cent: int) -> int:
    """The corpus in its layout; gives the bytes written."""
    folder = root / "curated" / "full"
    folder.mkdir(parents=True)
    written = 0
    for number, name in enumerate(NAMES):
        writer, lines = Writer(number), []
        for idx in range(ROWS[name] * per_cent // 100):
            size = (BYTES_A_ROW[name] - ROW_FRAME_BYTES) * writer.dice.lognormvariate(-0.125, 0.5)
            answer = "ABCD"[idx % 4] if ANSWER_SHARE[name] < 0.05 else writer.text(size * ANSWER_SHARE[name])
            turns = [
                {"role": "user", "content": writer.text(size * (1 - ANSWER_SHARE[name]))},
                {"role": "assistant", "content": answer},
            ]
            lines.append(json.dumps({"messages": turns, "type": name, "idx": idx}, ensure_ascii=False))
        data = "\n".join(lines).encode()
        written += len(data)
        (folder / f"{name}_full.json").write_bytes(data)
    return written


def trained_tokenizer(folder: Path, texts: Sequence[str]) -> Path:
    """A byte-level BPE of PIECES pieces, trained on `texts`, as a tokenizer folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=special[0], additional_special_tokens=special[1:]
    )
    fast.save_pretrained(folder)
    return folder


def python_tokenizer(folder: Path, scratch: Path) -> Any:
    """transformers' pure-Python byte-level BPE (CLVP's, without its rewriting of English) on the same
    pieces and merges; None where the tokenizer is of another kind."""
    from transformers.models.clvp.tokenization_clvp import ClvpTokenizer

    class PythonBPE(ClvpTokenizer):
        @property
        def normalizer(self) -> Callable[[str], str]:
            return str

    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model, split = document["model"], document["pre_tokenizer"] or {}
    if model["type"] != "BPE" or split.get("type") != "ByteLevel" or split.get("add_prefix_space"):
        return None
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (scratch / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (scratch / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    first = next(iter(model["vocab"]))
    return PythonBPE(
        str(scratch / "vocab.json"),
        str(scratch / "merges.txt"),
        unk_token=first,
        bos_token=first,
        eos_token=first,
        pad_token=first,
    )


def one_at_a_time(
    rows: Sequence[Example], template: Template, text_ids: Callable[[str], list[int]]
) -> list[tuple[int, ...]]:
    """Ids of each row by the paper's turns, a message at a time."""
    found = []
    for row in rows:
        ids: list[int] = []
        for turn in row.messages:
            ids += [
                template.assistant_id if turn.role == "assistant" else template.user_id,
                *text_ids(turn.content.strip()),
                template.end_id,
            ]
        found.append(tuple(ids))
    return found


@dataclass(frozen=True)
class Took:
    """Seconds of the clock, and of all cores together: on a busy machine the two tell apart what was
    waited for."""

    wall: float
    cpu: float

    def __add__(self, other: Took) -> Took:
        return Took(self.wall + other.wall, self.cpu + other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.1f} s (cpu {self.cpu:.1f} s)"


def timed(work: Callable[[], Any]) -> tuple[Any, Took]:
    """What `work` gives, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Took(time.perf_counter() - wall, time.process_time() - cpu)


def report_slow(
    rows: Sequence[Example], encoded: Sequence[Encoded], template: Template, slow: dict[str, Any], rate: float
) -> bool:
    """Print each slow side's rows a second beside ours (`rate`); whether ours is fast enough. Ids are
    asserted identical."""
    expected = [one.ids for one in encoded]
    enough = []
    for what, text_ids in slow.items():
        found, took = timed(lambda text_ids=text_ids: one_at_a_time(rows, template, text_ids))
        assert found == expected, f"{what}: other ids"
        times = rate * took.wall / len(rows)
        enough.append(times >= TARGET_TIMES)
        print(
            f"{what}: {len(rows) / took.wall:,.0f} rows/s on {len(rows)} rows, {took}; ids identical; ours is {times:.1f} times as fast"
        )
    return enough[0]


def main() -> None:
    """Run the bench and print plain figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, default=SMOLLM2, help="a folder with tokenizer.json")
    parser.add_argument("--rows-per-cent", type=int, default=100, help="how much of the 41,490 rows")
    parser.add_argument("--slow-rows", type=int, default=1000, help="rows for the slow side")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(asked.tokenizer.expanduser(), asked.rows_per_cent, asked.slow_rows, Path(scratch))


def run(folder: Path, per_cent: int, slow_rows: int, scratch: Path) -> None:
    """Write, read, encode, compare."""
    from doitune.backends.tokenizer import load_tokenizer
    from doitune.backends.tokenizer_cut import load_cut

    written = write_rows(scratch / "corpus", per_cent)
    if not (folder / "tokenizer.json").is_file():
        texts = [
            turn.content
            for rows in open_corpus(str(scratch / "corpus")).read("curated/full").values()
            for row in rows
            for turn in row.messages
        ]
        folder = trained_tokenizer(scratch / "tokenizer", texts[::4])
    tokenizer = load_tokenizer(folder)
    cut, _ = load_cut(folder, tokenizer)
    template = open_template(tokenizer, kind="doit", tokens="reuse", vocabulary_rows=len(tokenizer), cut=cut)
    load = os.getloadavg()[0]
    rows, reading = timed(
        lambda: [
            row for rows in open_corpus(str(scratch / "corpus")).read("curated/full").values() for row in rows
        ]
    )
    conversations, places = [row.messages for row in rows], [row.place for row in rows]
    encoded, encoding = timed(lambda: encode_all(conversations, template, places))
    _, proving = timed(lambda: prove_law(conversations, encoded, template, places))
    whole, ours = reading + encoding + proving, encoding + proving
    tokens = sum(len(one.ids) for one in encoded)
    print(
        f"{len(rows):,} rows, {written / 1e6:.1f} MB, {tokens:,} tokens ({tokens / len(rows):.0f} a row), tokenizer of {len(tokenizer):,} pieces"
    )
    print(f"cores {len(os.sched_getaffinity(0))}, load of the machine {load:.1f}")
    print(f"read and checked {reading}, encoded {encoding}, proved {proving}")
    print(
        f"all {whole}, target {TARGET_SECONDS:.0f} s; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )
    rate = len(rows) / ours.wall
    print(
        f"ours, encoded and proved: {rate:,.0f} rows/s, {tokens / ours.wall:,.0f} tokens/s; encoded alone {len(rows) / encoding.wall:,.0f} rows/s"
    )
    if cut:
        fast, took = timed(lambda: encode_all(conversations, replace(template, cut=None), places))
        other = sum(one.ids != by_json.ids for one, by_json in zip(encoded, fast, strict=True))
        print(f"by tokenizer.json: encoded {took}; {100 * other / len(rows):.1f} % of rows have other ids")
        print("target:", "met" if whole.wall <= TARGET_SECONDS else "NOT met")
        return
    step = max(1, len(rows) // slow_rows)
    slow = {
        "fast tokenizer, a call for each message": lambda text: tokenizer(text, add_special_tokens=False)[
            "input_ids"
        ]
    }
    if python := python_tokenizer(folder, scratch):
        slow = {
            "transformers' Python BPE, row by row": lambda text: python.convert_tokens_to_ids(
                python.tokenize(text)
            ),
            **slow,
        }
    fast_enough = report_slow(rows[::step], encoded[::step], template, slow, rate)
    print("targets:", "met" if whole.wall <= TARGET_SECONDS and fast_enough else "NOT met")


if __name__ == "__main__":
    main()
