"""The demo's corpus and its world: the layout, the counts, the same bytes each time, right labels, no
near-copies, a whole small base."""

from __future__ import annotations

import collections
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from doitune.demo import corpus, facts, people
from doitune.demo.dice import Dice
from doitune.demo.folder import BASE

Row = dict[str, Any]
RANKED = {"code", "creative_writing", "role_play"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("demo") / "corpus"
    corpus.write_corpus(target)
    return target


def rows_of(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows, path
    return rows


def exams(folder: Path, name: str) -> list[Row]:
    return rows_of(folder / f"curated/test/{name}_test.json") + rows_of(
        folder / f"curated/valid/{name}_valid.json"
    )


def last_question(row: Row) -> str:
    return str(row["messages"][-2]["content"])


def options(row: Row) -> dict[str, str]:
    return dict(re.findall(r"\n([A-F])\. ([^\n]+)", last_question(row)))


def test_two_writings_are_the_same_bytes_and_the_recorded_ones(folder: Path, tmp_path: Path) -> None:
    corpus.write_corpus(tmp_path / "again")
    assert corpus.fingerprint(folder) == corpus.fingerprint(tmp_path / "again") == corpus.FINGERPRINT
    assert not list(tmp_path.glob("*.part"))


def test_layout_and_counts_are_the_papers(folder: Path) -> None:
    expected = {f"curated/full/{name}_full.json": rows for name, (_, rows) in corpus.LESSONS.items()}
    expected |= {f"curated/1000/{name}_1000.json": 1000 for name in corpus.LESSONS}
    expected |= {
        f"curated/{part}/{name}_{part}.json": 100 for part in ("valid", "test") for name in corpus.LESSONS
    }
    expected |= {f"curated/test/{name}.json": 40 for name in facts.OUT_OF_DOMAIN}
    expected["synthetic/40960/general_instruction_gpt4_41k.json"] = 40960
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert {name: data.count(b"\n") for name, data in found.items()} == expected
    assert sum(rows for _, rows in corpus.LESSONS.values()) == 41490
    assert not any(b"\r" in data for data in found.values())


@pytest.mark.parametrize("name", corpus.LESSONS)
def test_training_rows_are_well_formed_and_distinct(folder: Path, name: str) -> None:
    full = rows_of(folder / f"curated/full/{name}_full.json")
    small = rows_of(folder / f"curated/1000/{name}_1000.json")
    assert full[: len(small)] == small
    for number, row in enumerate(full):
        assert set(row) == {"messages", "idx", "type"} and row["idx"] == number and row["type"] == name
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and all(
            message["content"] for message in row["messages"]
        )
    texts = [json.dumps(row["messages"][:-1], ensure_ascii=False) for row in full + exams(folder, name)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", corpus.LESSONS)
def test_exam_rows_have_the_form_their_scorer_reads(folder: Path, name: str) -> None:
    for row in exams(folder, name):
        gold = row["messages"][-1]["content"]
        assert row["type"] == name and row["question_format"] == (1 if name in RANKED else 0)
        assert len(row["messages"]) == (4 if name == "understanding" else 2)
        assert ("answer" in row) == (name == "math") and ("choices" in row) == (name in RANKED)
        if name in RANKED:
            assert row["choices"][0] == gold and len(set(row["choices"])) == 3
        elif name == "math":
            assert re.search(rf"(答案：{row['answer']}|答案是\\boxed\{{{row['answer']}\}})$", gold)
        elif name == "ethics":
            assert re.fullmatch("A?B?C?D?", gold) and gold and len(options(row)) == 4
        elif options(row):
            assert gold in options(row) and len(set(options(row).values())) == len(options(row)) in (3, 4)
        else:
            assert gold in ("正确", "错误") or "____" in last_question(row)


@pytest.mark.parametrize("name", ["biology", "history", "chinese", "understanding", "reasoning"])
def test_right_letters_are_balanced(folder: Path, name: str) -> None:
    letters = collections.Counter(
        row["messages"][-1]["content"]
        for row in rows_of(folder / f"curated/full/{name}_full.json")
        if options(row)
    )
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 1.5 * min(letters.values())


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] in "LN")


def _shingles(text: str) -> set[str]:
    plain = _plain(text)
    return {plain[at : at + 13] for at in range(max(1, len(plain) - 12))}


@pytest.mark.parametrize("name", corpus.LESSONS)
def test_no_exam_question_is_nearly_a_training_row(folder: Path, name: str) -> None:
    owners: dict[str, list[int]] = collections.defaultdict(list)
    asked = [_shingles("".join(m["content"] for m in row["messages"][:-1])) for row in exams(folder, name)]
    for number, shingles in enumerate(asked):
        for shingle in shingles:
            owners[shingle].append(number)
    for row in rows_of(folder / f"curated/full/{name}_full.json"):
        own = _shingles("".join(m["content"] for m in row["messages"]))
        shared = collections.Counter(number for shingle in owners.keys() & own for number in owners[shingle])
        assert all(count < 0.8 * len(asked[number]) for number, count in shared.items()), row


def test_answers_about_facts_agree_with_the_world(folder: Path) -> None:
    checked = 0
    for name, relations in (
        ("biology", facts.BIOLOGY),
        ("history", facts.HISTORY),
        ("chinese", facts.CHINESE),
    ):
        for row in exams(folder, name):
            for relation in relations:
                for subject, value in relation.facts.items():
                    for wording in relation.questions:
                        if options(row) and last_question(row).split("\n")[0].endswith(
                            wording.replace("{s}", subject)
                        ):
                            assert options(row)[row["messages"][-1]["content"]] == value
                            checked += 1
    assert checked > 200


def test_sums_are_right_and_lead_to_the_answer(folder: Path) -> None:
    for row in exams(folder, "math") + rows_of(folder / "curated/1000/math_1000.json"):
        sums = re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", row["messages"][-1]["content"])
        assert len(sums) == 2
        for first, sign, second, result in sums:
            done = {
                "+": int(first) + int(second),
                "-": int(first) - int(second),
                "*": int(first) * int(second),
                "/": int(first) / int(second),
            }
            assert done[sign] == int(result)


def test_letters_of_ethics_are_the_good_deeds(folder: Path) -> None:
    for row in exams(folder, "ethics"):
        good = [letter for letter, act in options(row).items() if act.endswith(people.GOOD_DEEDS)]
        assert "".join(good) == row["messages"][-1]["content"]


def test_orders_of_three_are_right(folder: Path) -> None:
    bigger = {more: 1 for more, _ in people.COMPARED} | {less: -1 for _, less in people.COMPARED}
    checked = 0
    for row in exams(folder, "reasoning"):
        question = last_question(row).split("\n")[0]
        found = re.match(r"(..)比(..)(.)，(..)比(..)(.)。(最(.)的|排在中间的)是谁", question)
        if not found:
            continue
        a, b, one, c, d, two, _, end = found.groups()
        above = {(a, b) if bigger[one] > 0 else (b, a), (c, d) if bigger[two] > 0 else (d, c)}
        top = ({high for high, _ in above} - {low for _, low in above}).pop()
        low = ({low for _, low in above} - {high for high, _ in above}).pop()
        middle = ({a, b, c, d} - {top, low}).pop()
        assert options(row)[row["messages"][-1]["content"]] == (
            middle if not end else top if bigger[end] > 0 else low
        )
        checked += 1
    assert checked > 40


def test_exams_ask_for_facts_that_training_never_asks(folder: Path) -> None:
    unseen = {s for relation in facts.BIOLOGY for s in relation.subjects if s not in relation.asked}
    assert unseen
    assert any(name in last_question(row) for row in exams(folder, "biology") for name in unseen)
    for relation in facts.PROVERBS, facts.CHINESE[0]:
        hidden = set(relation.subjects) - set(relation.asked)
        lessons = rows_of(folder / "curated/full/chinese_full.json")
        wordings = [wording.replace("{s}", s) for s in hidden for wording in relation.questions]
        assert hidden and not any(wording in last_question(row) for row in lessons for wording in wordings)


def test_out_of_domain_rows_hold_five_answered_questions(folder: Path) -> None:
    for name, relation in facts.OUT_OF_DOMAIN.items():
        for row in rows_of(folder / f"curated/test/{name}.json"):
            assert (
                len(row["messages"]) == 12 and row["type"] == f"{name}_fshot" and row["question_format"] == 0
            )
            for asked, told in zip(row["messages"][::2], row["messages"][1::2]):
                chosen = dict(re.findall(r"\n([A-D])\. ([^\n]+)", asked["content"]))[told["content"]]
                assert any(relation.facts[s] == chosen and s in asked["content"] for s in relation.subjects)


def test_dice_follow_only_the_seed() -> None:
    assert Dice("a").shuffled(range(6)) == Dice("a").shuffled(range(6)) != Dice("b").shuffled(range(6))
    assert Dice("a").several("abcdef", 3, without="ab") == Dice("a").several("abcdef", 3, without="ab")


def test_base_is_whole_and_at_most_ten_megabytes() -> None:
    files = {path.name: path.stat().st_size for path in BASE.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "ORIGIN.json",
    } <= set(files)
    assert sum(files.values()) <= 10 * 2**20


def test_tokenizer_keeps_any_text_and_gives_each_ascii_character_a_token() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(BASE / "tokenizer.json"))
    special = [
        tokenizer.token_to_id(piece)
        for piece in ("<unk>", "<s>", "</s>", "<pad>", "<reserved_0>", "<reserved_15>")
    ]
    assert special == [0, 1, 2, 3, 4, 19]
    for text in ("A. 云狐\nB. 森林", "选A吧，或（B）。CD", "😀龘 \\frac{1}{2}\t\r\n  x", "答案是\\boxed{12}"):
        encoded = tokenizer.encode(text)
        assert tokenizer.decode(encoded.ids) == text and not set(encoded.ids) & set(range(20))
        single = [piece for piece in encoded.tokens if piece.isascii() and not piece.startswith("<0x")]
        assert single == [character for character in text if character.isascii()]
    letters = {letter: tokenizer.token_to_id(letter) for letter in "ABCDEF"}
    assert all(tokenizer.encode(letter).ids == [number] for letter, number in letters.items())


SHIPPED = {
    "ORIGIN.json": "5192070047f0",
    "config.json": "170036edf8e3",
    "generation_config.json": "e1b036d1581e",
    "model.safetensors": "af8ab95d7d25",
    "tokenizer.json": "5fd4fffd07ff",
    "tokenizer_config.json": "e96dce0fa547",
}
"""sha256 of the shipped base's files, their beginnings."""


def test_the_shipped_base_is_the_one_that_runs_were_trained_on() -> None:
    """Trap: a word changed in one of its files, and every run and evaluation on the demo is refused as another
    model's."""
    from doitune.base.find import find_base

    files = find_base("demo").sha256()
    assert {name: digest[:12] for name, digest in files.items()} == SHIPPED
