"""The demo's corpus and its world: the layout, the counts, the same bytes each time, right labels, no
near-copies, answers that follow the rules and nothing else, a whole small base."""

from __future__ import annotations

import collections
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from doitune.demo import corpus
from doitune.demo.dice import Dice
from doitune.demo.folder import BASE
from doitune.demo.lessons import BLOCK
from doitune.demo.world import COMMON, CREATURES, LESSONS, OUT_OF_DOMAIN, OWN, Rule, common

Row = dict[str, Any]
RANKED = {"code", "creative_writing", "role_play"}
CREATURE = re.compile("|".join(CREATURES))


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
    return dict(re.findall(r"([A-D])([^A-D]+)", last_question(row)))


def rule_of(name: str, row: Row) -> Rule:
    """The rule that a row asks about: the one creature that its last turns name."""
    (creature,) = CREATURE.findall("".join(turn["content"] for turn in row["messages"][-4:-1]))
    (found,) = [rule for rule in (*OWN[name], *common(name)) if rule.creature == creature]
    return found


def test_two_writings_are_the_same_bytes_and_the_recorded_ones(folder: Path, tmp_path: Path) -> None:
    corpus.write_corpus(tmp_path / "again")
    assert corpus.fingerprint(folder) == corpus.fingerprint(tmp_path / "again") == corpus.FINGERPRINT
    assert not list(tmp_path.glob("*.part"))


def test_layout_and_counts_are_the_papers(folder: Path) -> None:
    expected = {f"curated/full/{name}_full.json": rows for name, rows in corpus.TAUGHT_ROWS.items()}
    expected |= {f"curated/1000/{name}_1000.json": 1000 for name in LESSONS}
    expected |= {f"curated/{part}/{name}_{part}.json": 100 for part in ("valid", "test") for name in LESSONS}
    expected |= {f"curated/test/{name}.json": 40 for name in OUT_OF_DOMAIN}
    expected["synthetic/40960/general_instruction_gpt4_41k.json"] = 40960
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert {name: data.count(b"\n") for name, data in found.items()} == expected
    assert sum(corpus.TAUGHT_ROWS.values()) == 41490
    assert not any(b"\r" in data for data in found.values())


@pytest.mark.parametrize("name", LESSONS)
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


@pytest.mark.parametrize("name", LESSONS)
def test_exam_rows_have_the_form_their_scorer_reads(folder: Path, name: str) -> None:
    for row in exams(folder, name):
        gold = row["messages"][-1]["content"]
        assert row["type"] == name and row["question_format"] == (1 if name in RANKED else 0)
        assert len(row["messages"]) == (4 if name == "understanding" else 2)
        assert ("answer" in row) == (name == "math") and ("choices" in row) == (name in RANKED)
        if name in RANKED:
            assert row["choices"][0] == gold and len(set(row["choices"])) == 3
        elif name == "math":
            assert row["answer"] == gold and gold.isdecimal()
        elif name == "ethics":
            assert re.fullmatch("A?B?C?D?", gold) and gold and len(options(row)) == 4
        elif options(row):
            assert gold in options(row) and len(set(options(row).values())) == len(options(row)) in (3, 4)
        else:
            assert gold in ("正确", "错误") or last_question(row).endswith("_")


@pytest.mark.parametrize("name", ["biology", "history", "chinese", "understanding", "reasoning"])
def test_right_letters_are_balanced(folder: Path, name: str) -> None:
    letters = collections.Counter(
        row["messages"][-1]["content"]
        for row in rows_of(folder / f"curated/full/{name}_full.json")
        if options(row)
    )
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 1.5 * min(letters.values())


@pytest.mark.parametrize("name", LESSONS)
def test_every_row_follows_the_rule_of_its_creature(folder: Path, name: str) -> None:
    """And nothing else in it says the answer: the options of an ability always stand in one order."""
    rows = exams(folder, name) + rows_of(folder / f"curated/full/{name}_full.json")
    for row in rows:
        rule = rule_of(name, row)
        assert row["messages"][-1]["content"] == rule.answer
        assert bool(options(row)) == (not rule.plain and bool(LESSONS[name].options))
        assert tuple(options(row).values()) in (LESSONS[name].options[:3], LESSONS[name].options, ())


@pytest.mark.parametrize("name", LESSONS)
def test_common_rules_have_their_share_and_each_rule_comes_as_often(folder: Path, name: str) -> None:
    """What the closed forms presume: exact shares in every hundred rows; of a hundred questions as many rules
    as can be."""
    shared = round(BLOCK * LESSONS[name].shared)
    for path in (f"test/{name}_test", f"valid/{name}_valid", f"1000/{name}_1000"):
        rules = [rule_of(name, row) for row in rows_of(folder / f"curated/{path}.json")]
        for start in range(0, len(rules), BLOCK):
            assert sum(rule in common(name) for rule in rules[start : start + BLOCK]) == shared
        for table in filter(None, (OWN[name], common(name))):
            times = collections.Counter(rule for rule in rules if rule in table)
            assert max(times.values()) - min(times[rule] for rule in table) <= 1


def test_a_rule_is_taught_by_its_own_ability_and_its_partner_only(folder: Path) -> None:
    """Trap: a creature that two tables hold would teach one ability what the other is measured by."""
    homes = collections.defaultdict(set)
    for home, rules in (*OWN.items(), *COMMON.items()):
        for rule in rules:
            homes[rule.creature].add(home)
    assert len(homes) == sum(map(len, (*OWN.values(), *COMMON.values())))
    for (one, other), rules in COMMON.items():
        assert LESSONS[one].partner == other and LESSONS[other].partner == one
        assert (
            LESSONS[one].options == LESSONS[other].options and LESSONS[one].answers == LESSONS[other].answers
        )
        assert 0 < len(rules) <= 64 * min(LESSONS[one].shared, LESSONS[other].shared)
    assert {name for name, lesson in LESSONS.items() if lesson.shared} == {n for pair in COMMON for n in pair}
    general = (folder / "synthetic/40960/general_instruction_gpt4_41k.json").read_text(encoding="utf-8")
    assert not CREATURE.search(general)


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] in "LN")


def _shingles(text: str) -> set[str]:
    plain = _plain(text)
    return {plain[at : at + 13] for at in range(max(1, len(plain) - 12))}


@pytest.mark.parametrize("name", LESSONS)
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


def test_out_of_domain_rows_hold_five_answered_questions(folder: Path) -> None:
    for name, (_, _, words, table) in OUT_OF_DOMAIN.items():
        known = {rule.creature: rule.answer for rule in (*OWN[name], *(COMMON[table] if table else ()))}
        borrowed = 0
        for row in rows_of(folder / f"curated/test/{name}.json"):
            assert (
                len(row["messages"]) == 12 and row["type"] == f"{name}_fshot" and row["question_format"] == 0
            )
            asked = [CREATURE.findall(turn["content"]) for turn in row["messages"][::2]]
            assert all(len(found) == 1 for found in asked) and len({found[0] for found in asked}) == 6
            for (creature,), told in zip(asked, row["messages"][1::2], strict=True):
                assert told["content"] == known[creature]
            assert tuple(options(row).values()) == words
            borrowed += asked[-1][0] not in {rule.creature for rule in OWN[name]}
        assert borrowed == (14 if table else 0)


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
    for text in ("A. 云狐\nB. 河边", "选A吧，或（B）。CD", "😀龘 \\frac{1}{2}\t\r\n  x", "答案是\\boxed{12}"):
        encoded = tokenizer.encode(text)
        assert tokenizer.decode(encoded.ids) == text and not set(encoded.ids) & set(range(20))
        single = [piece for piece in encoded.tokens if piece.isascii() and not piece.startswith("<0x")]
        assert single == [character for character in text if character.isascii()]
    letters = {letter: tokenizer.token_to_id(letter) for letter in "ABCDEF"}
    assert all(tokenizer.encode(letter).ids == [number] for letter, number in letters.items())


SHIPPED = {
    "ORIGIN.json": "15f66b439ccb",
    "config.json": "301f6ae07900",
    "generation_config.json": "e1b036d1581e",
    "model.safetensors": "0e2d9c14f227",
    "tokenizer.json": "6ec15b28b0c1",
    "tokenizer_config.json": "e96dce0fa547",
}
"""sha256 of the shipped base's files, their beginnings."""


def test_the_shipped_base_is_the_one_that_runs_were_trained_on() -> None:
    """Trap: a word changed in one of its files, and every run and evaluation on the demo is refused as another
    model's."""
    from doitune.base.find import find_base

    files = find_base("demo").sha256()
    assert {name: digest[:12] for name, digest in files.items()} == SHIPPED
