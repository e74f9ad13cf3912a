"""Write the demo's data set, in DoIT's layout and with its counts, as the same bytes everywhere.

    curated/{1000,full,valid,test}/<ability>_<folder>.json   ten abilities; test: three out-of-domain, too
    synthetic/40960/general_instruction_gpt4_41k.json

JSON Lines, UTF-8, LF. `1000` holds the first thousand rows of `full`. No two rows of an ability are alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from doitune.demo import lessons
from doitune.demo.dice import Dice
from doitune.demo.questions import Question
from doitune.demo.world import LESSONS, OUT_OF_DOMAIN

FINGERPRINT = "501038034ce56b682b2e5fe3b500cd60cff20de074ceedcee18f620ca62ea89e"
"""sha256 of the whole corpus: of every file in the order of its path, the path, a NUL, the bytes (see
`fingerprint`)."""

TAUGHT_ROWS = {
    "biology": 1042,
    "history": 1893,
    "code": 4968,
    "creative_writing": 1000,
    "chinese": 1450,
    "understanding": 4885,
    "role_play": 1000,
    "reasoning": 12_751,
    "math": 11_501,
    "ethics": 1000,
}
"""By ability, the training rows in `full`. Source: the paper's Table 1 less 100 valid and 100 test rows."""
SMALL_ROWS = 1000
EXAM_ROWS = 100
OUT_OF_DOMAIN_ROWS = 40
GENERAL_ROWS = 40960

SHINGLE = 13
NEAR_COPY = 0.75
"""Share of an exam question's shingles at which a training row counts as its near-copy; leak checks
commonly allow up to 0.8."""
_DROPPED = dict.fromkeys(map(ord, " \n\t，。？！：；、“”（）《》.,:?!;()_+-*/={}\\"))
_ROLES = ("user", "assistant")
_to_json = json.JSONEncoder(ensure_ascii=False).encode


def _shingles(plain: str) -> set[str]:
    """All runs of SHINGLE characters; none of a shorter text."""
    return {plain[at : at + SHINGLE] for at in range(len(plain) - SHINGLE + 1)}


class _Exams:
    """The valid and test questions, to keep near-copies out of the training rows. An exam may ask about what
    a row asks about, but in other words."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._owners: dict[str, list[int]] = {}
        self._allowed: list[float] = []
        for question in questions:
            shingles = _shingles(_plain(question))
            for shingle in shingles:
                self._owners.setdefault(shingle, []).append(len(self._allowed))
            self._allowed.append(max(1.0, NEAR_COPY * len(shingles)))

    def resembled(self, question: Question) -> bool:
        """Whether a training row shares NEAR_COPY or more of some exam question's shingles."""
        shared: dict[int, int] = {}
        for shingle in self._owners.keys() & _shingles(_plain(question) + question.reply):
            for number in self._owners[shingle]:
                shared[number] = shared.get(number, 0) + 1
        return any(count >= self._allowed[number] for number, count in shared.items())


def _plain(question: Question) -> str:
    return "".join(question.turns).translate(_DROPPED)


def _distinct(make: Callable[[], Question], taken: set[str], exams: _Exams | None = None) -> Question:
    """The next question whose text is not in `taken` yet, which grows by it. With `exams`, one that resembles
    none."""
    while True:
        question = make()
        plain = _plain(question)
        if plain not in taken and not (exams is not None and exams.resembled(question)):
            taken.add(plain)
            return question


def _questions(
    name: str, part: str, rows: int, taken: set[str], exams: _Exams | None = None
) -> list[Question]:
    """`rows` questions of an ability, about its rules in turn."""
    dice = Dice(f"{name}/{part}")
    rules = lessons.asked_rules(name, Dice(f"{name}/{part}/rules"))
    return [
        _distinct(partial(lessons.question, name, rule, dice), taken, exams) for rule in islice(rules, rows)
    ]


def _row(question: Question, number: int, kind: str, exam: bool) -> dict[str, Any]:
    """One line of a file, as paper.md C says."""
    turns = (*question.turns, question.reply)
    row: dict[str, Any] = {
        "messages": [{"role": _ROLES[at % 2], "content": turn} for at, turn in enumerate(turns)],
        "idx": number,
        "type": kind,
    }
    if exam:
        row["question_format"] = 1 if question.choices else 0
        if question.choices:
            row["choices"] = list(question.choices)
        if question.answer:
            row["answer"] = question.answer
    return row


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([_to_json(row) for row in rows])
    path.write_bytes((text + "\n").encode("utf-8"))


def _write_ability(folder: Path, name: str) -> None:
    taken: set[str] = set()
    asked: list[Question] = []
    for part in ("test", "valid"):
        exam = _questions(name, part, EXAM_ROWS, taken)
        asked += exam
        _write(
            folder / part / f"{name}_{part}.json",
            [_row(question, at, name, True) for at, question in enumerate(exam)],
        )
    taught = _questions(name, "train", TAUGHT_ROWS[name], taken, _Exams(asked))
    rows = [_row(question, at, name, False) for at, question in enumerate(taught)]
    _write(folder / "full" / f"{name}_full.json", rows)
    _write(folder / "1000" / f"{name}_1000.json", rows[:SMALL_ROWS])


def _write_out_of_domain(folder: Path) -> None:
    for name in OUT_OF_DOMAIN:
        dice = Dice(name)
        rows = [
            _row(lessons.out_of_domain(name, dice, at), at, name + "_fshot", True)
            for at in range(OUT_OF_DOMAIN_ROWS)
        ]
        _write(folder / "test" / f"{name}.json", rows)


def write_corpus(folder: Path) -> None:
    """Write the whole corpus to `folder`, which must not exist yet; it appears only when it is whole.
    About 3 seconds."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in LESSONS:
        _write_ability(part / "curated", name)
    _write_out_of_domain(part / "curated")
    dice, taken = Dice("general"), set[str]()
    general = [_distinct(partial(lessons.general, dice), taken) for _ in range(GENERAL_ROWS)]
    _write(
        part / "synthetic" / "40960" / "general_instruction_gpt4_41k.json",
        [_row(asked, at, "general_instruction_gpt4", False) for at, asked in enumerate(general)],
    )
    part.rename(folder)


def conversations(count: int) -> list[str]:
    """The texts of `count` of its lessons, turn under turn, from each ability as many; not the rows of a
    file."""
    texts = []
    for number, name in enumerate(LESSONS):
        dice = Dice(f"{name}/texts")
        rules = lessons.asked_rules(name, Dice(f"{name}/texts/rules"))
        for rule in islice(rules, len(range(number, count, len(LESSONS)))):
            question = lessons.question(name, rule, dice)
            texts.append("\n".join((*question.turns, question.reply)))
    return texts


def fingerprint(folder: Path) -> str:
    """The sha256 of a written corpus, to compare with FINGERPRINT."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).as_posix()):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
