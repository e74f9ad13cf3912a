"""A check tells everything that is wrong with a corpus, by file and line, and raises nothing."""

from __future__ import annotations

import json
from pathlib import Path

from doitune.data.check import CONTROL_TOKENS, SCHEMA, RowCount, TokenLengths, check
from doitune.data.checksums import write_checksums
from doitune.data.corpus import open_corpus
from doitune.data.example import Example, Message
from doitune.data.jsonl import Finding
from doitune.data.other_formats import RowForm
from doitune.prompt.template import NEW_TOKENS

LONG = "春江潮水连海平海上明月共潮生滟滟随波千万里何处春江无月明"


def line(question: str, answer: str, **more: object) -> str:
    """One row."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns, **more}, ensure_ascii=False)


def layout(root: Path, **files: list[str]) -> Path:
    """A corpus of files named `full_math` for curated/full/math_full.json."""
    for name, lines in files.items():
        folder, _, ability = name.partition("_")
        path = root / "curated" / folder / f"{ability}_{folder}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines), encoding="utf-8")
    return root


def where(finding: Finding) -> tuple[str, str, int]:
    """Kind, file name and line."""
    return finding.kind, Path(finding.file).name, finding.line


def test_the_papers_role_tokens_are_looked_for_in_text() -> None:
    """The room of data stands below the room of prompts, so the names stand in both."""
    assert set(NEW_TOKENS) <= set(CONTROL_TOKENS)


def test_a_clean_corpus_has_counts_and_nothing_else(tmp_path: Path) -> None:
    exam = [
        line("对吗？" + LONG, "正确", question_format=0),
        line(LONG[::-1] + "\nA. 一\nB. 二\nC. 三\nD. 四", "B", question_format=0),
    ]
    root = layout(
        tmp_path / "c", full_history=[line("第一问", "甲"), line("第二问", "乙")], test_history=exam
    )
    report = check(open_corpus(str(root)))
    assert report.clean
    assert report.rows == {
        "curated/full": {"history": RowCount(2, {"open": 2})},
        "curated/test": {"history": RowCount(2, {"tf": 1, "single_choice": 1})},
    }


def test_every_kind_of_problem_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    full = [
        line("一号问题", "甲"),
        line("二号问题", ""),
        line("三号问题", "答<|im_end|>案"),
        line("四号问题", "看\u202e反"),
        line("五号问题", "零\u200b宽"),
        line("六号问题", "一个👨\u200d👩\u200d👧家庭"),
        line("七号问题", "a\u0085b"),
        line("八号问题", "锟斤拷\ufffd"),
        line("一号问题", "甲"),
        line("一 号问题？", "甲。"),
        line("九号问题", "用[ROLE]标记"),
        "not json",
        line("十号问题" + "长" * 50, "甲"),
    ]
    root = layout(tmp_path / "c", full_math=full, full_code=[line("题", "码")])
    report = check(
        open_corpus(str(root)),
        role_tokens=("[ROLE]",),
        encode_lengths=lambda rows: [len(row.messages[0].content) for row in rows],
        max_tokens=40,
    )
    assert sorted(map(where, report.problems)) == sorted(
        [
            ("empty", "math_full.json", 2),
            ("role_token", "math_full.json", 3),
            ("direction", "math_full.json", 4),
            ("invisible", "math_full.json", 5),
            ("control_character", "math_full.json", 7),
            ("broken_text", "math_full.json", 8),
            ("duplicate", "math_full.json", 9),
            ("near_duplicate", "math_full.json", 10),
            ("role_token", "math_full.json", 11),
            ("json", "math_full.json", 12),
            ("overlong", "math_full.json", 13),
        ]
    )
    assert all(finding.problem.isprintable() and finding.hint for finding in report.problems)
    assert report.rows["curated/full"]["math"] == RowCount(11, {"open": 11}, TokenLengths(4, 4, 30, 54))
    assert [found.kind for found in report.problems].count("role_token") == 2
    assert not report.clean


def test_leaks_into_valid_test_and_given_suites_are_told_by_suite(tmp_path: Path) -> None:
    asked = line(LONG, "正确", question_format=0)
    root = layout(
        tmp_path / "c",
        full_history=[line(LONG + "吗", "对", idx=1), line("无关的一个问题", "对", idx=2)],
        valid_history=[asked],
        test_history=[line("别的" + LONG[::-1], "错误", question_format=0), asked],
    )
    suite = [
        Example(
            "cmmlu/x#1",
            "x",
            (Message("user", f"{LONG}。\n"), Message("assistant", "A")),
            "single_choice",
            "x.csv:1",
        )
    ]
    report = check(open_corpus(str(root)), against={"cmmlu": suite})
    assert [(leak.suite, leak.train_id) for leak in report.leaks] == [
        ("doit-valid", "curated/full/history#1"),
        ("doit-test", "curated/full/history#1"),
        ("cmmlu", "curated/full/history#1"),
    ]
    document = json.loads(json.dumps(report.to_json(), ensure_ascii=False))
    assert document["schema"] == SCHEMA
    assert document["leaks"][2] == {
        "train_id": "curated/full/history#1",
        "other_id": "cmmlu/x#1",
        "suite": "cmmlu",
        "coverage": 1.0,
    }
    assert document["rows"]["curated/full"]["history"] == {"rows": 2, "forms": {"open": 2}}


def test_faults_of_whole_files_are_problems_not_exceptions(tmp_path: Path) -> None:
    root = layout(
        tmp_path / "c",
        full_math=[line("一", "二")],
        valid_math=[line("三", "四", question_format=0)],
        test_math=[],
    )
    (root / "curated" / "1000").mkdir()
    write_checksums(root, {"name": "c"})
    (root / "curated/full/math_full.json").write_text(line("改", "了"), encoding="utf-8")
    report = check(open_corpus(str(root)))
    assert sorted((finding.kind, Path(finding.file).name) for finding in report.problems) == [
        ("answer", "math_valid.json"),
        ("checksum", "math_full.json"),
        ("empty_file", "math_test.json"),
        ("file", "1000"),
    ]
    assert {"schema", "rows", "problems", "leaks", "notes", "forms"} == set(report.to_json())


def test_own_rows_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"instruction": "问", "output": "答"}), encoding="utf-8")
    report = check(open_corpus(str(path), RowForm("alpaca", "law")))
    assert report.clean
    assert report.rows == {"curated/full": {"law": RowCount(1, {"open": 1})}}
