"""Seconds to find leaks of 40,000 train rows into 15,000 judged rows, beside the plain way: a dictionary of
shingles.
    python tests/bench/bench_leaks.py [train rows] [judged rows]

The plain way runs on a tenth of both, for its dictionary of every shingle would need gigabytes; its time
grows at least in proportion. The bound to keep: 30 s. Measured on two shared, busy cores: 3 to 9 s and 0.5
GiB; the plain way 2.3 s for the tenth.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter, defaultdict

from doitune.data.example import Example, Message
from doitune.data.leaks import leaks_of, normalised, whole_text
from doitune.data.shingles import COVERAGE, SHINGLE_CHARACTERS

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
BOUND_SECONDS = 30


def rows(dice: random.Random, name: str, count: int) -> list[Example]:
    """Rows of log-normal length; every tenth asks with a stem that is common to many (as exam questions
    do)."""
    stem = "以下哪项如果为真，最能支持上述论证？"
    made = []
    for number in range(count):
        question, answer = (
            "".join(dice.choices(HAN, k=10 + min(2000, int(dice.lognormvariate(4.4, 0.9))))) for _ in range(2)
        )
        turns = (Message("user", question + (stem if number % 10 == 0 else "")), Message("assistant", answer))
        made.append(Example(f"{name}#{number}", "math", turns, "open", f"{name}:{number + 1}"))
    return made


def planted(train: list[Example], judged: list[Example]) -> set[str]:
    """Put an exact, a recased and a near copy of a judged row among the train rows; the ids of what they
    give away."""
    for place, (number, change) in enumerate(
        [(3, str), (5, lambda text: "，".join(text)), (8, lambda text: text[:40] + "改" + text[41:])]
    ):
        source = judged[number]
        question = judged[number].messages[0].content * (2 if place == 2 else 1)
        judged[number] = Example(
            source.id, source.ability, (Message("user", question), source.messages[1]), "open", source.place
        )
        turns = (Message("user", change(question)), source.messages[1])
        train[place * 100] = Example(f"copy#{place}", "math", turns, "open", "copy:1")
    return {judged[number].id for number in (3, 5, 8)}


def plain(train: list[Example], judged: list[Example]) -> set[str]:
    """The same question by a dictionary from every shingle of the train rows to the rows that hold it."""

    def shingles(text: str) -> set[str]:
        return {
            text[place : place + SHINGLE_CHARACTERS] for place in range(len(text) - SHINGLE_CHARACTERS + 1)
        }

    holders = defaultdict(list)
    for place, row in enumerate(train):
        for shingle in shingles(whole_text(row)):
            holders[shingle].append(place)
    found = set()
    for row in judged:
        mine = shingles(normalised(row.messages[0].content))
        counts = Counter(place for shingle in mine for place in holders.get(shingle, ()))
        if counts and max(counts.values()) >= COVERAGE * len(mine):
            found.add(row.id)
    return found


def main(train_rows: int, judged_rows: int) -> None:
    """Print both figures; fail where a planted row is missed, another one is reported, or the bound is broken."""
    dice = random.Random(0)
    train, judged = rows(dice, "train", train_rows), rows(dice, "judged", judged_rows)
    expected = planted(train, judged)
    small_train, small_judged = train[: train_rows // 10], judged[: judged_rows // 10]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = {leak.other_id for leak in leaks_of(train, {"judged": judged})}
    seconds = time.perf_counter() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    started = time.perf_counter()
    found_plainly = plain(small_train, small_judged)
    plain_seconds = time.perf_counter() - started
    characters = sum(len(turn.content) for row in (*train, *judged) for turn in row.messages)
    print(
        f"{train_rows:,} train rows against {judged_rows:,} judged rows, {characters / 1e6:.1f} million characters"
    )
    print(
        f"index           {seconds:6.2f} s, {memory:.2f} GiB more, planted {len(expected)}, found {len(found)}"
    )
    print(
        f"dictionary      {plain_seconds:6.2f} s on a tenth of both (about {10 * plain_seconds:.0f} s on all), found {len(found_plainly)}"
    )
    assert found == expected, found ^ expected
    assert seconds < BOUND_SECONDS


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (40_000, 15_000))
