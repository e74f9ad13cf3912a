"""Files of one's own rows as people have them: the same rows whatever they are written in, and one message with
place and cure for a file that is broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from doitune.data.corpus import open_corpus
from doitune.data.example import Message
from doitune.data.other_formats import RowForm
from doitune.data.row_files import numbered_rows
from doitune.errors import DataError
from doitune.prepare.draw import own_corpus, say_forms

TURNS = [(f"第{n}问，“怎么\n样”, ok?", f"答{n}: 1,2\t3") for n in range(7)]
ALPACA = [{"instruction": ask, "output": answer, "ability": "客服"} for ask, answer in TURNS]
PAIRS = [{"question": ask, "answer": answer, "ability": "客服"} for ask, answer in TURNS]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": answer}], "ability": "客服"}
    for ask, answer in TURNS
]
MESSAGES = [
    {
        "messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}],
        "ability": "客服",
    }
    for ask, answer in TURNS
]


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[dict[str, object]], delimiter: str = ",") -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def read(path: Path, form: RowForm | None = None) -> list[tuple[str, str]]:
    [rows] = open_corpus(str(path), form).read("curated/full").values()
    assert {row.ability for row in rows} == {"客服"}
    return [(row.question[-1].content, row.answer) for row in rows]


FILES = {
    "messages.jsonl": lines(MESSAGES),
    "sharegpt.jsonl": lines(SHAREGPT),
    "alpaca.jsonl": lines(ALPACA),
    "crlf.jsonl": lines(PAIRS).replace("\n", "\r\n"),
    "pretty.json": json.dumps(ALPACA, ensure_ascii=False, indent=2),
    "compact.json": json.dumps(PAIRS),
    "bom.json": "\ufeff" + json.dumps(SHAREGPT, indent=1),
    "rows.csv": table(ALPACA),
    "bom.csv": "\ufeff" + table(PAIRS),
    "rows.tsv": table(PAIRS, "\t"),
    "packed.jsonl.gz": gzip.compress(lines(MESSAGES).encode()),
    "packed.json.gz": gzip.compress(json.dumps(MESSAGES, indent=4).encode()),
    "packed.csv.gz": gzip.compress(table(PAIRS).encode()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_same_rows_whatever_it_is_written_in(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, FILES[name])) == TURNS


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "stream.arrow"])
@pytest.mark.parametrize("rows", [MESSAGES, ALPACA], ids=["nested", "flat"])
def test_columns_give_the_same_rows(tmp_path: Path, suffix: str, rows: list[dict[str, object]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    data = pyarrow.Table.from_pylist([{**row, "note": None} for row in rows])
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet.write_table(data, path)
    else:
        opened = ipc.new_stream if suffix.startswith("stream") else ipc.new_file
        with opened(str(path), data.schema) as writer:
            writer.write_table(data, max_chunksize=3)
    assert read(path) == TURNS


def test_a_folder_of_many_kinds_is_one_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder / "a.csv", table(ALPACA))
    write(folder / "b.json", json.dumps(SHAREGPT))
    write(folder / "notes.txt", "no rows")
    [rows] = open_corpus(str(folder)).read("curated/full").values()
    assert len(rows) == 2 * len(TURNS) == len({row.id for row in rows})
    assert {row.place.rpartition("/")[2].partition(":")[0] for row in rows} == {"a.csv", "b.json"}


def test_the_form_is_said(tmp_path: Path) -> None:
    mixed = write(tmp_path / "x.jsonl", lines([*ALPACA, *MESSAGES[:2], *PAIRS[:1]]))
    assert sorted(say_forms(open_corpus(str(mixed)))) == ["rows read as alpaca: 7", "rows read as pairs: 1"]
    assert say_forms(open_corpus(str(write(tmp_path / "y.jsonl", lines(MESSAGES))))) == []


def test_columns_of_any_name_are_named_in_the_recipe(tmp_path: Path) -> None:
    rows = [{"用户": ask, "助手": answer, "ability": "客服"} for ask, answer in TURNS]
    path = write(tmp_path / "x.csv", table(rows))
    with pytest.raises(DataError) as caught:
        open_corpus(str(path)).read("curated/full")
    assert "it has '用户', '助手', 'ability'" in caught.value.problems[0].problem
    [found] = own_corpus(str(path), "doit", "", ("用户", "助手")).read("curated/full").values()
    assert [(row.question[-1], row.answer) for row in found] == [(Message("user", a), b) for a, b in TURNS]
    with pytest.raises(DataError, match="no `助理`"):
        own_corpus(str(path), "doit", "", ("用户", "助理")).read("curated/full")


def test_places_are_lines(tmp_path: Path) -> None:
    pretty = write(tmp_path / "x.json", json.dumps(ALPACA, ensure_ascii=False, indent=2))
    assert [place for place, _ in numbered_rows(pretty)] == [2 + 5 * n for n in range(7)]
    rows = write(tmp_path / "x.csv", 'question,answer\n"a\nb",c\n\nd,e\n')
    assert [place for place, _ in numbered_rows(rows)] == [2, 5]


def test_an_array_is_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any cut of the file gives the same rows: between bytes of a character, inside of a number, a word."""
    rows = [{"question": "问😀", "answer": "答", "n": 12345, "ok": True}] * 3
    path = write(tmp_path / "x.json", " \n" + json.dumps(rows, ensure_ascii=False, indent=1) + "\n ")
    whole = list(numbered_rows(path))
    assert len(whole) == 3
    for size in range(1, 40):
        monkeypatch.setattr("doitune.data.row_files._CHUNK", size)
        assert list(numbered_rows(path)) == whole


ROW = '{"question": "q", "answer": "a"}'
GB = "问题,回答\n你好啊，世界,很高兴见到你\n".encode("gb18030")
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "cut.jsonl.gz": (gzip.compress(lines(PAIRS).encode())[:-20], "cut short or damaged"),
    "damaged.jsonl.gz": (gzip.compress(lines(PAIRS).encode())[:20] + b"\0" * 90, "cut short or damaged"),
    "unpacked.jsonl.gz": (lines(PAIRS), "cut short or damaged"),
    "comma.json": (f"[{ROW},\n{ROW},\n]", ":3: a comma before the array's end"),
    "no comma.json": (f"[{ROW}\n{ROW}]", ":2: after a row, '{'"),
    "two commas.json": (f"[{ROW},\n,{ROW}]", ":2: a comma without a row"),
    "first comma.json": (f"[,{ROW}]", ":1: a comma without a row"),
    "open.json": (f"[{ROW},\n{ROW}", ":2: the array does not end"),
    "open row.json": (f"[{ROW},\n{ROW[:-1]}", ":2: not JSON"),
    "behind.json": (f"[{ROW}]\n{ROW}", ":2: text after the array's end"),
    "quotes.json": ("[{'question': 'q'}]", ":1: not JSON"),
    "twice.json": ('[{"question": "q", "question": "r", "answer": "a"}]', "the key 'question' stands twice"),
    "no object.json": ("[1, 2]", "a row must be a JSON object"),
    "nan.json": ('[{"question": "q", "answer": NaN}]', "NaN is not JSON"),
    "deep.json": ("[" + "[" * 200_000, ":1: "),
    "empty.json": ("[]", "the file holds no row"),
    "latin.json": (b'[{"question": "\xe9t\xe9", "answer": "a"}]', ":1: a byte (0xe9) is not UTF-8"),
    "utf16.jsonl": (lines(PAIRS).encode("utf-16"), "UTF-16"),
    "utf16.csv": (table(PAIRS).encode("utf-16"), "UTF-16"),
    "gb.csv": (GB, ":1: a byte (0xce) is not UTF-8; it may be GB18030"),
    "gb later.csv": (b"question,answer\na,b\n" + "你好,世界\n".encode("gb18030"), ":3: a byte"),
    "four.csv": ("question,answer,note\na,b,c\na,b,c,d\n", ":3: 4 cells, the header has 3"),
    "three.csv": ("question,answer,note\na,b,c\na,b\n", ":3: 2 cells, the header has 3"),
    "same.csv": ("question,question\na,b\n", ":1: the column 'question' stands twice"),
    "nameless.csv": ("question,answer,\na,b,c\n", ":1: a column without a name"),
    "quote.csv": ('question,answer\n"a,b\n', "not a table"),
    "header.csv": ("question,answer\n", "the file holds no row"),
    "other.csv": ("ask,reply\na,b\n", "no known form of row: it has 'ask', 'reply'"),
    "text.jsonl": ('{"text": "你好"}\n', "no `messages`"),
    "pairs.jsonl": ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "no `messages`"),
    "empty answer.csv": ("question,answer\na,\n", "no known form of row: it has 'question'"),
    "not.parquet": ("hello", "not a readable parquet file"),
    "empty.parquet": ("", "not a readable parquet file"),
    "not.arrow": ("hello", "not a readable arrow file"),
    "cut.arrow": (b"ARROW1\0\0" + b"x" * 40, "not a readable arrow file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_message_with_its_place(tmp_path: Path, name: str) -> None:
    if name.endswith((".parquet", ".arrow")):
        pytest.importorskip("pyarrow")
    text, problem = BROKEN[name]
    path = write(tmp_path / name, text)
    with pytest.raises(DataError) as caught:
        open_corpus(str(path)).read("curated/full")
    first = caught.value.problems[0]
    assert problem in f"{first.place.removeprefix(str(path))}: {first.problem}" and first.place.startswith(
        str(path)
    )
    assert caught.value.exit_code == 65 and caught.value.hint


def test_a_line_that_never_ends_is_not_taken_into_memory(tmp_path: Path) -> None:
    row = b'[{"question": "' + b"a" * (9 << 20)
    with pytest.raises(DataError, match="longer than 4 MiB"):
        list(numbered_rows(write(tmp_path / "x.json", row)))
    with pytest.raises(DataError, match="longer than 4 MiB"):
        list(numbered_rows(write(tmp_path / "x.csv", b"question,answer\n" + b"a" * (9 << 20))))


def test_a_nested_value_that_no_row_can_hold_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"question": ["a"], "answer": ["b"], "image": [b"\x89PNG"]}), path)
    with pytest.raises(DataError, match="a value of the type bytes") as caught:
        open_corpus(str(path)).read("curated/full")
    assert caught.value.problems[0].place == f"{path}:1"
