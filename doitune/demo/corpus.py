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
from pathlib import Path
from typing import Any

from doitune.demo import facts, knowledge, thinking, writing
from doitune.demo.dice import Dice
from doitune.demo.questions import Asking, Question

FINGERPRINT = "810fc593cab4f085d4466271f5829b6b082c91f6cd5974b6605bc237093a0da8"
"""sha256 of the whole corpus: of every file in the order of its path, the path, a NUL, the bytes (see
`fingerprint`)."""

_Maker = Callable[[Asking], Question]

LESSONS: dict[str, tuple[_Maker, int]] = {
    "biology": (knowledge.biology, 1042),
    "history": (knowledge.history, 1893),
    "code": (writing.code, 4968),
    "creative_writing": (writing.creative_writing, 1000),
    "chinese": (knowledge.chinese, 1450),
    "understanding": (thinking.understanding, 4885),
    "role_play": (writing.role_play, 1000),
    "reasoning": (thinking.reasoning, 12_751),
    "math": (thinking.math, 11_501),
    "ethics": (thinking.ethics, 1000),
}
"""By ability: the maker of its questions, and the training rows in `full`. Source: the paper's Table 1 less
100 valid and 100 test rows."""
SMALL_ROWS = 1000
EXAM_ROWS = 100
OUT_OF_DOMAIN_ROWS = 40
GENERAL_ROWS = 40960

SHINGLE = 13
NEAR_COPY = 0.7
"""Share of an exam question's shingles at which a training row counts as its near-copy; leak checks
commonly allow up to 0.8."""
_DROPPED = dict.fromkeys(map(ord, " \n\t，。？！：；、“”（）《》.,:?!;()_+-*/={}\\"))
_ROLES = ("user", "assistant")
_to_json = json.JSONEncoder(ensure_ascii=False).encode


def _shingles(plain: str) -> set[str]:
    """All runs of SHINGLE characters; none of a shorter text."""
    return {plain[at : at + SHINGLE] for at in range(len(plain) - SHINGLE + 1)}


class _Exams:
    """The texts of valid and test questions, with and without their answers, to keep near-copies out of
    the training rows."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._owners: dict[str, list[int]] = {}
        self._allowed: list[float] = []
        self._short: set[str] = set()
        for question in questions:
            asked = "".join(question.turns)
            for text in (asked, asked + question.reply):
                self._add(text.translate(_DROPPED))

    def _add(self, plain: str) -> None:
        if len(plain) < 2 * SHINGLE:
            # so few shingles that one more or less decides: a row that holds the whole text is a copy
            self._short.add(plain)
        shingles = _shingles(plain)
        for shingle in shingles:
            self._owners.setdefault(shingle, []).append(len(self._allowed))
        self._allowed.append(max(1.0, NEAR_COPY * len(shingles)))

    def resembled(self, question: Question) -> bool:
        """Whether a training row holds a short exam text, or shares NEAR_COPY or more of some exam text's
        shingles."""
        plain = ("".join(question.turns) + question.reply).translate(_DROPPED)
        if len(plain) < 100 and any(text in plain for text in self._short):
            return True
        shared: dict[int, int] = {}
        for shingle in self._owners.keys() & _shingles(plain):
            for number in self._owners[shingle]:
                shared[number] = shared.get(number, 0) + 1
        return any(count >= self._allowed[number] for number, count in shared.items())


def _questions(
    make: _Maker, seed: str, rows: int, taken: set[str], exams: _Exams | None = None
) -> list[Question]:
    """`rows` questions whose text is not in `taken` yet, which grows by them. With `exams`, training rows
    that resemble none."""
    dice = Dice(seed)
    made: list[Question] = []
    while len(made) < rows:
        question = make(Asking(dice, len(made), exams is None))
        plain = "".join(question.turns).translate(_DROPPED)
        if plain in taken or (exams is not None and exams.resembled(question)):
            continue
        taken.add(plain)
        made.append(question)
    return made


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


def _write_ability(folder: Path, name: str, make: _Maker, rows: int) -> None:
    taken: set[str] = set()
    asked: list[Question] = []
    for part in ("test", "valid"):
        exam = _questions(make, f"{name}/{part}", EXAM_ROWS, taken)
        asked += exam
        _write(
            folder / part / f"{name}_{part}.json",
            [_row(question, at, name, True) for at, question in enumerate(exam)],
        )
    taught = _questions(make, f"{name}/train", rows, taken, _Exams(asked))
    lessons = [_row(question, at, name, False) for at, question in enumerate(taught)]
    _write(folder / "full" / f"{name}_full.json", lessons)
    _write(folder / "1000" / f"{name}_1000.json", lessons[:SMALL_ROWS])


def _write_out_of_domain(folder: Path) -> None:
    for name in facts.OUT_OF_DOMAIN:
        dice = Dice(name)
        rows = [
            _row(knowledge.out_of_domain(name, dice, at), at, name + "_fshot", True)
            for at in range(OUT_OF_DOMAIN_ROWS)
        ]
        _write(folder / "test" / f"{name}.json", rows)


def write_corpus(folder: Path) -> None:
    """Write the whole corpus to `folder`, which must not exist yet; it appears only when it is whole.
    About 3 seconds."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name, (make, rows) in LESSONS.items():
        _write_ability(part / "curated", name, make, rows)
    _write_out_of_domain(part / "curated")
    general = _questions(writing.general, "general", GENERAL_ROWS, set(), _Exams(()))
    _write(
        part / "synthetic" / "40960" / "general_instruction_gpt4_41k.json",
        [_row(asked, at, "general_instruction_gpt4", False) for at, asked in enumerate(general)],
    )
    part.rename(folder)


def conversations(count: int) -> list[str]:
    """The texts of `count` of its lessons, turn under turn, from each ability as many; not the rows of a
    file."""
    texts = []
    for number, (name, (make, _)) in enumerate(LESSONS.items()):
        dice = Dice(f"{name}/texts")
        for serial in range(len(range(number, count, len(LESSONS)))):
            question = make(Asking(dice, serial, False))
            texts.append("\n".join((*question.turns, question.reply)))
    return texts


def fingerprint(folder: Path) -> str:
    """The sha256 of a written corpus, to compare with FINGERPRINT."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).as_posix()):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
