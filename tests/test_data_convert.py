"""Rows of one's own in doitune's form: they say the same, nothing is lost or written by halves; rows from stdin
are a file like any other afterwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

from doitune.data.convert import convert
from doitune.data.corpus import Corpus, open_corpus
from doitune.data.other_formats import RowForm
from doitune.data.piped import keep_stdin
from doitune.errors import DataError, UsageError

ROWS: list[dict[str, object]] = [
    {
        "instruction": "问\u2028一",
        "input": "甲",
        "output": "答“1”",
        "ability": "客服",
        "idx": 7,
        "source": "x",
    },
    {"question": "1+1=?\nA. 1\nB. 2", "answer": "B", "split": "test", "ability": "sql"},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 1}]},
    {
        "messages": [{"role": "user", "content": "哪个"}, {"role": "assistant", "content": "x"}],
        "split": "valid",
        "question_format": 1,
        "choices": ["x", "y", "z"],
    },
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def said(corpus: Corpus) -> list[object]:
    found = []
    for source in corpus.sources():
        for rows in corpus.read(source).values():
            found += [(source, one.ability, one.messages, one.form, one.label, one.choices) for one in rows]
    return found


@pytest.mark.parametrize("name", ["out.jsonl", "out.json.gz"])
def test_the_rows_say_the_same_in_our_form(tmp_path: Path, name: str) -> None:
    source = open_corpus(str(write(tmp_path / "rows.jsonl", ROWS)))
    found = convert(source, tmp_path / name)
    assert (found.rows, found.refused) == (4, ()) and found.abilities == {"客服": 1, "sql": 1, "general": 2}
    assert found.forms == {"alpaca": 1, "pairs": 1, "sharegpt": 1, "messages": 1}
    again = open_corpus(str(tmp_path / name))
    assert said(again) == said(source) and len(said(source)) == 6
    assert again.forms == {"messages": 4}
    data = (tmp_path / name).read_bytes()
    rows = [
        json.loads(line) for line in (gzip.decompress(data) if name.endswith("gz") else data).splitlines()
    ]
    assert rows[0]["idx"] == 7 and rows[0]["source"] == "x" and "instruction" not in rows[0]
    assert all(list(row)[:2] == ["messages", "ability"] for row in rows)
    assert convert(again, tmp_path / "twice.jsonl").rows == 4
    assert said(open_corpus(str(tmp_path / "twice.jsonl"))) == said(source)


def test_columns_and_abilities_are_as_they_are_declared(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("问,答,类,note\nq,a,sql,\nr,b,,n\n", encoding="utf-8")
    form = RowForm(columns=("问", "答"), ability_column="类")
    convert(open_corpus(str(table), form), tmp_path / "o.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]
    assert [row["ability"] for row in rows] == ["sql", "general"]
    assert [set(row) for row in rows] == [{"messages", "ability"}, {"messages", "ability", "note"}]


def test_what_cannot_be_read_is_named_and_nothing_is_written_by_halves(tmp_path: Path) -> None:
    bad: list[dict[str, object]] = [{"question": "q", "answer": " "}, {"who": "knows"}]
    source = open_corpus(str(write(tmp_path / "rows.jsonl", [ROWS[0], *bad, ROWS[1]])))
    with pytest.raises(DataError) as caught:
        convert(source, tmp_path / "o.jsonl")
    assert [problem.place.rpartition(":")[2] for problem in caught.value.problems] == ["2", "3"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    found = convert(source, tmp_path / "o.jsonl", leave_out=True)
    assert found.rows == 2 and [one.line for one in found.refused] == [2, 3]
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "q", "answer": "a"}\n' * 9000)[:-30])
    with pytest.raises(DataError, match="cut short"):
        convert(open_corpus(str(tmp_path / "cut.jsonl.gz")), tmp_path / "p.jsonl", leave_out=True)
    for text in ("", json.dumps({"who": "knows"})):
        (tmp_path / "none.jsonl").write_text(text)
        with pytest.raises(DataError, match="no row can be written"):
            convert(open_corpus(str(tmp_path / "none.jsonl")), tmp_path / "p.jsonl", leave_out=True)
    assert not (tmp_path / "p.jsonl").exists() and not list(tmp_path.glob(".*"))


def test_a_file_that_is_there_is_written_over_only_on_demand(tmp_path: Path, tiny_corpus: Path) -> None:
    source = open_corpus(str(write(tmp_path / "rows.jsonl", ROWS)))
    there = write(tmp_path / "o.jsonl", [{"precious": 1}])
    before = there.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(there)
    (tmp_path / "folder.jsonl").mkdir()
    for name, force in (
        ("o.jsonl", False),
        ("link.jsonl", True),
        ("folder.jsonl", True),
        ("rows.jsonl", False),
    ):
        with pytest.raises(UsageError, match="is there already"):
            convert(source, tmp_path / name, force=force)
    assert there.read_bytes() == before
    convert(source, there, force=True)
    assert said(open_corpus(str(there))) == said(source)
    with pytest.raises(UsageError, match="is not the name of a file of rows"):
        convert(source, tmp_path / "o.csv")
    with pytest.raises(UsageError, match="already"):
        convert(open_corpus(str(tiny_corpus)), tmp_path / "p.jsonl")
    folder = tmp_path / "rows"
    folder.mkdir()
    write(folder / "a.jsonl", ROWS)
    with pytest.raises(UsageError, match="lies in the folder"):
        convert(open_corpus(str(folder)), folder / "o.jsonl")


LINE = b'{"question": "q", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        (LINE, ".jsonl"),
        (b"\xef\xbb\xbf [" + LINE + b"]", ".jsonl"),
        (b"question,answer\nq,a\n", ".csv"),
        (b"question\tanswer\nq\ta\n", ".tsv"),
        (gzip.compress(LINE, mtime=0), ".jsonl.gz"),
    ],
)
def test_rows_from_stdin_are_a_file_named_after_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, ending: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = keep_stdin(io.BytesIO(data))
    assert path.name.endswith(ending) and path.read_bytes() == data and path.is_absolute()
    assert keep_stdin(io.BytesIO(data)) == path and list(path.parent.iterdir()) == [path]
    assert len(open_corpus(str(path)).read("curated/full")["general"]) == 1
    with pytest.raises(DataError, match="nothing came"):
        keep_stdin(io.BytesIO())
    assert list(path.parent.iterdir()) == [path]


def test_a_command_reads_stdin_and_its_recipe_names_the_file(tmp_path: Path) -> None:
    """Trap: a resume that cannot read stdin again; a closed stdout that hides what was found."""
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def doitune(words: str, data: bytes = LINE) -> subprocess.CompletedProcess[bytes]:
        script = f"{sys.executable} -m doitune {words}"
        return subprocess.run(["bash", "-c", script], env=env, input=data, capture_output=True, timeout=HANGS)

    shown = doitune("recipes show own --corpus - --json")
    path = Path(json.loads(shown.stdout)["recipe"]["data"]["corpus"])
    assert path.read_bytes() == LINE and str(path).encode() in shown.stderr
    assert doitune("data check - --json").returncode == 0
    assert doitune("data check - >&-").returncode == 74
    for words, code in (("data check -", 65), ("data draw --corpus - --corpus -", 2)):
        ended = doitune(words, b"")
        assert ended.returncode == code and b"Traceback" not in ended.stderr, ended.stderr
