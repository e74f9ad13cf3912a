"""A corpus is opened by name or path, read by ability, and hashed at every use."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from doitune.ability import NAMES
from doitune.data.cache import corpora_folder
from doitune.data.checksums import CHECKSUMS, read_checksums, write_checksums
from doitune.data.corpus import open_corpus
from doitune.data.fetch import fetch
from doitune.data.sources import SOURCES
from doitune.errors import DataError, DiskError


def line(text: str, **more: object) -> str:
    """A row that answers `text`."""
    turns = [{"role": "user", "content": f"说{text}"}, {"role": "assistant", "content": text}]
    return json.dumps({"messages": turns, **more}, ensure_ascii=False)


def write_layout(root: Path, rows: int = 3) -> Path:
    """A small corpus in the layout: ten abilities in four folders, an out-of-domain test file, the
    synthetic file."""
    for folder in ("1000", "full", "valid", "test"):
        (root / "curated" / folder).mkdir(parents=True)
        for name in NAMES:
            lines = [
                line(f"{name}{folder}{n}", idx=n, question_format=1, choices=[f"{name}{folder}{n}", "x", "y"])
                for n in range(rows)
            ]
            (root / "curated" / folder / f"{name}_{folder}.json").write_text(
                "\n".join(lines), encoding="utf-8"
            )
    for stem in ("ceval_physician", "ceval_teacher_qualification"):
        text = line("A", question_format=1, choices=["A", "x", "y"], type=f"{stem}_fshot")
        (root / "curated" / "test" / f"{stem}.json").write_text(text, encoding="utf-8")
    (root / "synthetic" / "40960").mkdir(parents=True)
    (root / "synthetic" / "40960" / "general_instruction_gpt4_41k.json").write_text(
        "\n".join(map(line, "甲乙丙")), encoding="utf-8"
    )
    (root / "README.md").write_text("# data", encoding="utf-8")
    return root


def test_a_folder_in_the_layout_is_read_by_ability_in_the_order_of_the_ten(tmp_path: Path) -> None:
    corpus = open_corpus(str(write_layout(tmp_path / "我的 数据")))
    assert corpus.name == "我的 数据"
    assert corpus.sources() == SOURCES
    rows = corpus.read("curated/1000")
    assert tuple(rows) == NAMES
    assert [example.id for example in rows["role_play"]] == [f"curated/1000/role_play#{n}" for n in range(3)]
    assert all(example.form == "open" for examples in rows.values() for example in examples)
    assert tuple(corpus.read("curated/test")) == (*NAMES, "ceval_physician", "ceval_teacher_qualification")
    assert {example.form for example in corpus.read("curated/valid")["creative_writing"]} == {"ppl_rank"}
    assert {name: len(examples) for name, examples in corpus.read("synthetic/40960").items()} == {
        "synthetic": 3
    }


def test_digests_are_by_relative_path_and_follow_the_bytes(tmp_path: Path) -> None:
    root = write_layout(tmp_path / "c")
    before = open_corpus(str(root)).sha256("curated/full")
    assert len(before) == 10 and "curated/full/math_full.json" in before
    (root / "curated/full/math_full.json").write_text(line("别的"), encoding="utf-8")
    after = open_corpus(str(root)).sha256("curated/full")
    assert [path for path in before if before[path] != after[path]] == ["curated/full/math_full.json"]


def test_recorded_checksums_are_compared_at_every_use(tmp_path: Path) -> None:
    root = write_layout(tmp_path / "c")
    write_checksums(root, {"name": "c"})
    assert len(read_checksums(root)) == 43
    corpus = open_corpus(str(root))
    corpus.read("curated/full")
    path = root / "curated/full/math_full.json"
    good, stamp = path.read_bytes(), path.stat()
    path.write_bytes(good.replace(b"full1", b"full7"))
    import os

    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match=r"math_full\.json: its sha256 \w+… is not the recorded \w+…"):
        corpus.read("curated/full")
    corpus.read("curated/1000")
    path.write_bytes(good + b"\n")
    with pytest.raises(DataError, match=r"math_full\.json: [\d,]+ bytes, [\d,]+ were recorded"):
        corpus.read("curated/full")
    path.write_bytes(good)
    (root / "curated/full/law_full.json").write_text(line("法"), encoding="utf-8")
    with pytest.raises(DataError, match=r"law_full\.json: not in checksums\.json"):
        corpus.read("curated/full")
    (root / "curated/full/law_full.json").unlink()
    (root / "curated/full/math_full.json").unlink()
    with pytest.raises(DataError, match=r"math_full\.json: recorded in checksums\.json, but missing"):
        corpus.read("curated/full")
    (root / CHECKSUMS).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="damaged list of checksums"):
        corpus.read("curated/full")


def test_every_wrong_place_has_its_problem_and_its_cure(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    half = write_layout(tmp_path / "half")
    for path in (half / "curated" / "full").iterdir():
        path.unlink()
    twice = write_layout(tmp_path / "twice")
    (twice / "synthetic/40960/more.json").write_text(line("x"), encoding="utf-8")
    (twice / "curated/valid/math_valid.json").write_text("\n", encoding="utf-8")
    odd = write_layout(tmp_path / "odd")
    (odd / "curated/1000/my math_1000.json").write_text(line("x"), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(line("x", ability="math"), encoding="utf-8")
    cases = [
        ("nowhere", "curated/full", "no corpus `nowhere`: neither a known name \\(demo, doit\\) nor a path"),
        ("doit", "curated/full", "the DoIT data are not on this machine"),
        ("/dev/null", "curated/full", "neither a folder nor a plain file"),
        (str(tmp_path / "empty"), "curated/full", "the folder is not in the corpus layout"),
        (str(half), "curated/full", "no .json file in the folder"),
        (str(half), "curated/2000", "corpus `half` has no curated/2000"),
        (str(odd), "curated/1000", "`my math` is not a name for an ability"),
        (
            str(twice),
            "synthetic/40960",
            "two files of synthetic: general_instruction_gpt4_41k.json and more.json",
        ),
        (str(twice), "curated/valid", "math_valid.json: the file holds no row"),
        (str(tmp_path / "rows.jsonl"), "curated/valid", "no row for curated/valid"),
    ]
    for name, source, problem in cases:
        with pytest.raises(DataError, match=problem) as caught:
            open_corpus(name).read(source)
        assert caught.value.hint, problem


def test_bad_rows_of_several_files_come_in_one_error(tmp_path: Path) -> None:
    root = write_layout(tmp_path / "c")
    for name in ("math", "code"):
        (root / f"curated/1000/{name}_1000.json").write_text(line("好") + "\n{}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        open_corpus(str(root)).read("curated/1000")
    assert [Path(problem.place).name for problem in caught.value.problems] == [
        "code_1000.json:2",
        "math_1000.json:2",
    ]


def test_one_file_with_an_ability_field_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "我的 rows.jsonl"
    rows = [
        line("一", ability="math", idx=1),
        line("二", ability="law"),
        line("三", ability="math", idx=2),
        line("四", ability="math", split="test", question_format=1, choices=["四", "五", "六"]),
        line("七", ability="synthetic"),
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    corpus = open_corpus(str(path))
    assert corpus.sources() == ("curated/1000", "curated/full", "curated/test", "synthetic/40960")
    for source in ("curated/1000", "curated/full"):
        assert {name: len(examples) for name, examples in corpus.read(source).items()} == {
            "math": 2,
            "law": 1,
        }
    assert corpus.read("curated/full")["math"][1].id == "我的 rows/math#2"
    assert corpus.read("curated/test")["math"][0].choices == ("四", "五", "六")
    assert corpus.read("synthetic/40960")["synthetic"][0].answer == "七"
    assert list(corpus.sha256("curated/full")) == [path.name]


@pytest.fixture
def demo_maker(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A stand-in for the demo's maker; lists the folders that it was asked to write."""
    written: list[Path] = []

    def write_corpus(folder: Path) -> None:
        write_layout(folder)
        written.append(folder)

    module = types.ModuleType("doitune.demo.corpus")
    module.FINGERPRINT = "0123456789abcdef0123"  # type: ignore[attr-defined]
    module.write_corpus = write_corpus  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "doitune.demo.corpus", module)
    return written


def test_the_demo_is_made_once_in_the_cache_and_a_half_made_one_is_made_again(
    tmp_path: Path, monkeypatch, demo_maker
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "缓存 cache"))
    first, second = open_corpus("demo"), open_corpus("demo")
    assert first == second and len(demo_maker) == 1
    assert first.root == corpora_folder() / "demo-0123456789abcdef"
    assert tuple(first.read("curated/1000")) == NAMES
    (first.root / CHECKSUMS).unlink()
    (first.root / "curated/1000/math_1000.json").unlink()
    assert "math" in open_corpus("demo").read("curated/1000")
    assert len(demo_maker) == 2
    assert [path.name for path in corpora_folder().iterdir()] == ["demo-0123456789abcdef"]


def test_a_cache_that_cannot_be_written_is_a_problem_of_the_disk(
    tmp_path: Path, monkeypatch, demo_maker
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for use in (lambda: open_corpus("demo"), lambda: fetch(source=str(write_layout(tmp_path / "c")))):
        with pytest.raises(DiskError, match="cannot write in") as caught:
            use()
        assert caught.value.exit_code == 74 and "XDG_CACHE_HOME" in caught.value.hint


def test_a_cache_named_by_a_relative_path_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corpora_folder() == tmp_path / ".cache" / "doitune" / "corpora"
