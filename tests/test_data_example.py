"""One JSONL line is one Example, or one problem with its file and line; never a traceback, never a row
that vanishes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soon import soon

from doitune.data.example import (
    MAX_SHOWN_PROBLEMS,
    Example,
    Message,
    Split,
    refuse,
)
from doitune.data.jsonl import parse_line, shown
from doitune.data.message import content_key
from doitune.data.scan import scan_examples
from doitune.errors import DataError, DoituneError

USER = {"role": "user", "content": "问"}
ANSWER = {"role": "assistant", "content": "答"}
FOUR = "问\nA. 一\nB. 二\nC. 三\nD. 四"
MIB = 1024 * 1024


def read_rows(path: Path, *, ability: str, id_prefix: str, split: Split) -> list[Example]:
    """The rows of one file, as `Corpus.read` reads each. Errors: DataError with every bad row."""
    scan = scan_examples(path, ability=ability, id_prefix=id_prefix, split=split)
    refuse(scan.findings)
    return list(scan.examples)


def row(*turns: object, **more: object) -> str:
    """One line of a train file."""
    return json.dumps({"messages": list(turns), **more}, ensure_ascii=False)


def exam(question: str = FOUR, gold: str = "A", **more: object) -> str:
    """One line of a valid or test file."""
    return row(
        {"role": "user", "content": question},
        {"role": "assistant", "content": gold},
        **{"question_format": 0, **more},
    )


def reply(content: object) -> str:
    """One line whose answer is `content`."""
    return row(USER, {"role": "assistant", "content": content})


def ranked(choices: object) -> str:
    """One line of a ranking of three, gold "A"."""
    return exam(question_format=1, choices=choices)


def deep(levels: int) -> str:
    """A line of lists in lists."""
    return '{"x": ' + "[" * levels + "]" * levels + "}"


BAD: list[tuple[str, str | None, str | bytes, str]] = [
    ("train", "math", '{"messages": [', "not JSON: Expecting value at character 15"),
    ("train", "math", "not json", "not JSON: Expecting value at character 1"),
    ("train", "math", '{"a": 1} {"b": 2}', "not JSON: Extra data at character 10"),
    (
        "train",
        "math",
        "{'messages': []}",
        "not JSON: Expecting property name enclosed in double quotes at character 2",
    ),
    ("train", "math", "[", "not a JSON row: Expecting value at character 2"),
    ("train", "math", "\u2028", "not JSON: Expecting value at character 1"),
    ("train", "math", '[{"messages": []}]', "a row must be a JSON object, this is a list"),
    ("train", "math", '"text"', "a row must be a JSON object, this is a text"),
    ("train", "math", "17", "a row must be a JSON object, this is a number"),
    ("train", "math", "null", "a row must be a JSON object, this is null"),
    ("train", "math", "true", "a row must be a JSON object, this is true or false"),
    ("train", "math", '{"messages": NaN}', "NaN is not JSON"),
    ("train", "math", '{"messages": [], "x": -Infinity}', "-Infinity is not JSON"),
    ("train", "math", '{"messages": [], "x": 1e999}', "the number '1e999' is too large"),
    ("train", "math", '{"x": ' + "9" * 5000 + "}", "a number with too many digits"),
    ("train", "math", '{"messages": [], "messages": []}', "the key 'messages' stands twice in one object"),
    (
        "train",
        "math",
        '{"messages": [{"role": "user", "role": "user"}]}',
        "the key 'role' stands twice in one object",
    ),
    ("train", "math", '{"x": "\\ud800"}', "\\ud800 is half a character"),
    ("train", "math", '{"\\udfff": 1}', "\\udfff is half a character"),
    ("train", "math", deep(33), "objects or lists nested deeper than 32"),
    ("train", "math", deep(100_000), "objects or lists nested deeper than 32"),
    ("train", "math", b'{"x": "\xff"}', "byte 8 of the line (0xff) is not UTF-8"),
    ("train", "math", b'{"x": "caf\xe9"}', "byte 11 of the line (0xe9) is not UTF-8"),
    ("train", "math", b"\xff\xfe{\x00}\x00", "byte 1 of the line (0xff) is not UTF-8; it looks like UTF-16"),
    ("train", "math", '{"x": "' + "a" * 4 * MIB + '"}', "the line is longer than 4 MiB"),
    ("train", "math", '{"x": "a\tb"}', "not JSON: Invalid control character at at character 9"),
    ("train", "math", "version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the data"),
    ("train", "math", "{}", "no `messages`"),
    ("train", "math", '{"instruction": "问", "input": "", "output": "答"}', "no `messages`"),
    ("train", "math", '{"messages": null}', "`messages` is null, not a list of turns"),
    ("train", "math", '{"messages": "问"}', "`messages` is '问', not a list of turns"),
    ("train", "math", '{"messages": []}', "`messages` has no turns"),
    ("train", "math", row(USER), "`messages` has 1 turn"),
    ("train", "math", row(USER, "答"), "turn 2 is '答', not an object"),
    ("train", "math", row(USER, {"content": "答"}), "the role of turn 2 is missing"),
    ("train", "math", row(USER, {"role": None, "content": "答"}), "the role of turn 2 is null"),
    (
        "train",
        "math",
        row(USER, {"role": "system", "content": "s"}, ANSWER),
        "turn 2 is a system text behind other turns",
    ),
    ("train", "math", row(USER, {"role": "assitant", "content": "答"}), "the role of turn 2 is 'assitant'"),
    ("train", "math", row(USER, {"role": "Assistant", "content": "答"}), "the role of turn 2 is 'Assistant'"),
    (
        "train",
        "math",
        row(USER, {"role": ["assistant"], "content": "答"}),
        "the role of turn 2 is ['assistant']",
    ),
    ("train", "math", row(USER, USER, ANSWER), "turn 2 is the user's, the assistant's is due"),
    ("train", "math", row(ANSWER, USER), "turn 1 is the assistant's, the user's is due"),
    ("train", "math", row(USER, ANSWER, ANSWER), "turn 3 is the assistant's, the user's is due"),
    ("train", "math", row(USER, ANSWER, USER), "the last turn is the user's"),
    ("train", "math", row(USER, {"role": "assistant"}), "the content of turn 2 is missing, not a text"),
    ("train", "math", reply(None), "the content of turn 2 is null, not a text"),
    ("train", "math", reply(7), "the content of turn 2 is 7, not a text"),
    ("train", "math", reply(["答"]), "a part of turn 2 is '答', not a part of text"),
    ("train", "math", reply(""), "turn 2 says nothing ('')"),
    (
        "train",
        "math",
        row({"role": "user", "content": " \n\t\u3000"}, ANSWER),
        "turn 1 says nothing (' \\n\\t\\u3000')",
    ),
    ("train", "math", reply("\u200b\ufeff"), "turn 2 says nothing ('\\u200b\\ufeff')"),
    ("train", "math", reply("答\x00"), "turn 2 has the control character U+0000 at character 2"),
    ("train", "math", reply("\x1b[2J答"), "turn 2 has the control character U+001B at character 1"),
    ("test", "biology", row(USER, ANSWER), "`question_format` is missing, not 0 or 1"),
    ("test", "biology", exam(question_format="0"), "`question_format` is '0', not 0 or 1"),
    ("test", "biology", exam(question_format=True), "`question_format` is true, not 0 or 1"),
    ("test", "biology", exam(question_format=2), "`question_format` is 2, not 0 or 1"),
    ("test", "biology", exam(type=3), "`type` is 3, not a text"),
    (
        "test",
        "biology",
        exam(type="history"),
        "a row of history (`type` 'history') among the rows of biology",
    ),
    ("test", "biology", exam(gold="E"), "the answer 'E' is not one letter of A, B, C, D"),
    ("test", "biology", exam(gold="答案是A"), "the answer '答案是A' is not one letter of A, B, C, D"),
    ("test", "biology", exam("问"), "the question offers no options for the answer 'A'"),
    (
        "test",
        "understanding",
        exam("问\nA. 一\nB. 二\nC. 三", "D"),
        "the answer 'D' is not among the options A, B, C",
    ),
    (
        "test",
        "history",
        exam(gold="也许"),
        "the answer '也许' is not one letter of A, B, C, D or true or false (正确, 错误)",
    ),
    ("test", "ethics", exam(gold="都对"), "the answer '都对' is not letters of A to F"),
    ("test", "ethics", exam(gold="AE"), "the answer 'AE' is not among the options A, B, C, D"),
    ("test", "ethics", exam("问", "AB"), "the question offers no options for the answer 'AB'"),
    (
        "test",
        "code",
        exam(),
        "`question_format` 0 asks code for an exact answer, but code is only asked by ranking",
    ),
    ("test", "math", exam(gold="过程"), "`answer` is missing, not a text"),
    ("test", "math", exam(gold="过程", answer=" "), "`answer` is ' ', not a text"),
    ("test", "math", exam(gold="过程", answer=3), "`answer` is 3, not a text"),
    ("valid", "code", exam(question_format=1), "`choices` is missing, not a list of three texts"),
    ("valid", "code", ranked("A"), "`choices` is 'A', not a list of three texts"),
    ("valid", "code", ranked(["A", "B"]), "`choices` has 2 candidates, not three"),
    ("valid", "code", ranked(["A", "B", None]), "choice 3 is null, not a text"),
    ("valid", "code", ranked(["A", "B", " "]), "choice 3 is ' ', not a text"),
    ("valid", "code", ranked(["A", "B", "B "]), "two of the three `choices` are the same"),
    ("valid", "code", ranked(["B", "A", "C"]), "the first choice 'B' is not the answer 'A'"),
    ("train", None, row(USER, ANSWER, ability=""), "`ability` is '', not a name"),
    ("train", None, row(USER, ANSWER, ability="a/b"), "`ability` is 'a/b', not a name"),
    ("train", None, row(USER, ANSWER, ability="math", split="dev"), "`split` is 'dev'"),
]


def good(split: str, ability: str | None) -> str:
    """A line that every case of BAD may stand beside."""
    return exam(question_format=1, choices=["A", "B", "C"], ability=ability or "math", split=split)


def test_there_are_sixty_kinds_of_bad_rows() -> None:
    assert len({problem for *_, problem in BAD}) >= 60


@pytest.mark.parametrize(
    ("split", "ability", "line", "problem"), BAD, ids=[f"{n}-{case[3][:30]}" for n, case in enumerate(BAD)]
)
def test_a_bad_row_is_refused_with_its_file_line_and_problem(
    tmp_path: Path, split, ability, line, problem
) -> None:
    path = tmp_path / "某些 数据.json"
    beside = good(split, ability).encode()
    path.write_bytes(
        beside + b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n" + beside + b"\n"
    )
    scan = scan_examples(path, ability=ability, id_prefix="curated/test", split=split)
    assert [(finding.place, finding.problem) for finding in scan.findings] == [(f"{path}:2", problem)]
    assert scan.findings[0].hint
    assert len(scan.examples) == 2


def test_a_file_of_every_kind_of_bad_row_loses_none_and_keeps_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "math_1000.json"
    bad = [
        line if isinstance(line, bytes) else line.encode()
        for split, ability, line, _ in BAD
        if (split, ability) == ("train", "math")
    ]
    fine = row(USER, ANSWER).encode()
    path.write_bytes(b"\n".join(part for line in bad for part in (line, fine)))
    scan = scan_examples(path, ability="math", id_prefix="c", split="train")
    assert len(bad) > 45
    assert [finding.line for finding in scan.findings] == [2 * number + 1 for number in range(len(bad))]
    assert [example.place for example in scan.examples] == [
        f"{path}:{2 * number + 2}" for number in range(len(bad))
    ]


def test_all_problems_come_at_once_the_first_ones_whole_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "math_1000.json"
    path.write_text("\n".join([reply("")] * 25 + ["{}"] * 3 + [row(USER, ANSWER)]), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_rows(path, ability="math", id_prefix="curated/1000", split="train")
    problems = caught.value.problems
    assert len(problems) == MAX_SHOWN_PROBLEMS + 1
    assert problems[19].place == f"{path}:20"
    assert problems[-1].problem == "and 8 more: 5 x empty, 3 x messages"
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    ("ability", "line", "form", "label", "options", "choices"),
    [
        ("biology", exam(gold="B"), "single_choice", "B", "ABCD", ()),
        ("biology", exam("选一个：A．一 B．二 C．三 D．四", "D"), "single_choice", "D", "ABCD", ()),
        ("biology", exam("关于A、B、C三物：A.甲 B.乙 C.丙 D.丁", "D"), "single_choice", "D", "ABCD", ()),
        ("biology", exam("选 A 甲 B 乙 C 丙 D 丁", "C"), "single_choice", "C", "ABCD", ()),
        ("understanding", exam("问\nA. 一\nB. 二\nC. 三", "C"), "single_choice", "C", "ABC", ()),
        ("ceval_physician", exam(type="ceval_physician_fshot"), "single_choice", "A", "ABCD", ()),
        ("history", exam("对吗", "正确"), "tf", "T", "", ()),
        ("history", exam("对吗", "×"), "tf", "F", "", ()),
        ("history", exam("对吗", "对。"), "tf", "T", "", ()),
        ("history", exam(gold="D"), "single_choice", "D", "ABCD", ()),
        ("chinese", exam("春眠不觉____", "晓"), "cloze", "晓", "", ()),
        ("ethics", exam(gold="C、A"), "multi_choice", "AC", "ABCD", ()),
        ("ethics", exam(gold="(B)(D)"), "multi_choice", "BD", "ABCD", ()),
        ("ethics", exam(gold="答案：ABC"), "multi_choice", "ABC", "ABCD", ()),
        ("math", exam("1+1", "所以得 2", answer="2"), "math", "2", "", ()),
        ("code", exam(question_format=1, choices=["A", "B", "C"]), "ppl_rank", "A", "", ("A", "B", "C")),
        ("own_law", exam("法?", "宪法"), "cloze", "宪法", "", ()),
    ],
)
def test_a_test_row_says_how_its_answer_is_read(
    tmp_path: Path, ability, line, form, label, options, choices
) -> None:
    path = tmp_path / "x.json"
    path.write_text(line, encoding="utf-8")
    (example,) = read_rows(path, ability=ability, id_prefix="curated/test", split="test")
    assert (example.form, example.label, "".join(example.options), example.choices) == (
        form,
        label,
        options,
        choices,
    )


def test_a_train_row_is_open_whatever_else_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        row(USER, {**ANSWER, "weight": 1}, idx=7, type="anything", question_format="?"), encoding="utf-8"
    )
    messages = (Message("user", "问"), Message("assistant", "答"))
    expected = Example("curated/full/math#7", "math", messages, "open", f"{path}:1")
    assert read_rows(path, ability="math", id_prefix="curated/full", split="train") == [expected]
    assert expected.source == "curated/full"


def test_ids_are_the_idx_where_unique_and_else_come_from_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    rows = [
        row(USER, {"role": "assistant", "content": text}, **more)
        for text, more in [
            ("a", {"idx": 1}),
            ("b", {"idx": 2}),
            ("c", {"idx": 2}),
            ("d", {}),
            ("d", {}),
            ("e", {"idx": "x\ny"}),
            ("f", {"idx": "q-3"}),
        ]
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    examples = read_rows(path, ability="math", id_prefix="c", split="train")
    names = [example.id.removeprefix("c/math#") for example in examples]
    assert names[0] == "1" and names[6] == "q-3"
    assert names[1] == content_key(examples[1].messages).hex()[:16]
    assert names[4] == names[3] + "-2"
    assert len(set(names)) == 7
    path.write_text("\n".join(reversed(rows)), encoding="utf-8")
    again = read_rows(path, ability="math", id_prefix="c", split="train")
    assert {example.id: example.answer for example in again} == {
        example.id: example.answer for example in examples
    }


def test_line_ends_marks_and_final_blank_lines_change_nothing_but_inner_blank_lines_are_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.json"
    lines = [reply(text) for text in ("一\u2028二", "三\u0085四", "五\r\n六")]
    forms = [
        "\n".join(lines),
        "\n".join(lines) + "\n",
        "\r\n".join(lines) + "\r\n",
        "\ufeff" + "\n".join(lines) + "\n\n \n",
    ]
    read = []
    for text in forms:
        path.write_bytes(text.encode())
        read.append(read_rows(path, ability="math", id_prefix="c", split="train"))
    assert len(read[0]) == 3
    assert read == [read[0]] * 4
    path.write_text(f"{lines[0]}\n\n\n{lines[1]}\n", encoding="utf-8")
    scan = scan_examples(path, ability="math", id_prefix="c", split="train")
    assert [(finding.line, finding.kind) for finding in scan.findings] == [
        (2, "blank_line"),
        (3, "blank_line"),
    ]
    assert scan.examples[1].place.endswith(":4")


def test_a_missing_file_a_folder_an_empty_file_and_a_device_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_bytes(b"\n")
    places = {
        tmp_path / "no.json": "no such file",
        tmp_path: "is a folder, not a file",
        tmp_path / "empty.json": "the file holds no row",
        Path("/dev/zero"): "is not a plain file",
    }
    for path, problem in places.items():
        with pytest.raises(DataError, match=problem):
            read_rows(path, ability="math", id_prefix="c", split="train")


def test_a_line_of_many_mebibytes_costs_one_problem_not_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"{" + b"a" * 20 * MIB + b"\n" + reply("好").encode() + b"\n")
    scan = scan_examples(path, ability="math", id_prefix="c", split="train")
    assert [(finding.line, finding.kind) for finding in scan.findings] == [(1, "line_too_long")]
    assert scan.examples[0].place.endswith(":2")


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_problems(data: bytes) -> None:
    for line in data.split(b"\n"):
        try:
            parse_line(line)
        except Exception as error:
            assert type(error).__name__ == "RowError" and error.problem and error.hint, error


def test_twenty_thousand_mutated_lines_never_trace_back_and_none_is_lost(tmp_path: Path) -> None:
    dice = random.Random(20_000)
    seeds = [line if isinstance(line, bytes) else line.encode() for *_, line, _ in BAD if len(line) < 500]
    seeds += [good("test", "math").encode(), exam(type="math").encode(), row(USER, ANSWER, idx=3).encode()]
    lines = [_mutated(dice, dice.choice(seeds)) for _ in range(20_000)]
    path = tmp_path / "x.json"
    path.write_bytes(b"\n".join([*lines, b"{}"]))
    scan = soon(lambda: scan_examples(path, ability="biology", id_prefix="c", split="test"), 20)
    assert len(scan.examples) + len(scan.findings) == 20_001
    assert all(finding.line and finding.problem.isprintable() and finding.hint for finding in scan.findings)


def _mutated(dice: random.Random, line: bytes) -> bytes:
    data = bytearray(line)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(data) + 1)
        kind = dice.randrange(4)
        if kind == 0:
            data[place : place + dice.randint(1, 5)] = b""
        elif kind == 1:
            data[place:place] = dice.choice(
                [b'"', b"{", b"]", b"\\", b"\\u", b"\\ud83d", b"NaN", b"\xff", b"\x00", b"null", b"1e9999"]
            )
        elif kind == 2 and place < len(data):
            data[place] = dice.choice([value for value in range(256) if value != 10])
        else:
            data[place:place] = data[: dice.randint(0, 30)]
    return bytes(data).replace(b"\n", b"") or b"x"


def test_reading_never_raises_anything_but_our_own_errors_on_random_text_files(tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(200):
        path = tmp_path / "x.json"
        path.write_bytes(dice.randbytes(dice.randint(0, 300)))
        try:
            read_rows(path, ability="math", id_prefix="c", split="train")
        except DoituneError as error:
            assert error.problems[0].place.startswith(str(path))


def test_shown_values_are_short_and_on_one_line() -> None:
    assert shown("a\u202eb\n") == "'a\\u202eb\\n'"
    assert len(shown("x" * 10_000)) == 40
