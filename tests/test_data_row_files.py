"""Files of one's own rows as people have them: the same rows whatever they are written in, and one message with
place and cure for a file that is broken."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from doitune.data.corpus import open_corpus
from doitune.data.example import Message
from doitune.data.other_formats import RowForm
from doitune.data.row_files import numbered_rows
from doitune.errors import DataError
from doitune.prepare.draw import row_form, say_forms

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
    "two members.csv.gz": gzip.compress(table(PAIRS)[:60].encode())
    + gzip.compress(table(PAIRS)[60:].encode()),
    "semicolons.csv": table(PAIRS, ";"),
    "tabs.csv": table(PAIRS, "\t"),
    "capitals.csv": table([{key.capitalize(): text for key, text in row.items()} for row in PAIRS]),
    "CAPITALS.jsonl": lines([{key.upper(): text for key, text in row.items()} for row in ALPACA]),
    "wrapped.json": json.dumps({"data": PAIRS}),
    "squad.json": json.dumps({"version": "1.1", "n": 7, "data": ALPACA}, ensure_ascii=False, indent=2),
    "no data.jsonl": lines([{"id": 1, **row} for row in MESSAGES]),
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


def test_what_columns_fill_in_is_no_argument_of_a_call(tmp_path: Path) -> None:
    """Trap: in a column each object has every key that any has; `"days": null` was learnt."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def row(**arguments: object) -> dict[str, object]:
        calls = [{"function": {"name": "f", "arguments": arguments}}]
        asked = {"role": "user", "content": "?", "tool_calls": None}
        return {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": calls}]}

    parquet.write_table(pyarrow.Table.from_pylist([row(a="x", n=[1]), row(b=2)]), tmp_path / "calls.parquet")
    [rows] = open_corpus(str(tmp_path / "calls.parquet")).read("curated/full").values()
    assert [one.messages[-1].calls[0].arguments for one in rows] == ['{"a": "x", "n": [1]}', '{"b": 2}']


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
    [found] = open_corpus(str(path), row_form("doit", "", ("用户", "助手"))).read("curated/full").values()
    assert [(row.question[-1], row.answer) for row in found] == [(Message("user", a), b) for a, b in TURNS]
    with pytest.raises(DataError, match="no `助理`"):
        open_corpus(str(path), row_form("doit", "", ("用户", "助理"))).read("curated/full")


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
        monkeypatch.setattr("doitune.data.json_values._CHUNK", size)
        assert list(numbered_rows(path)) == whole


def test_zstd_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pack = pyarrow.Codec("zstd").compress
    text = lines(PAIRS).encode()
    assert read(write(tmp_path / "x.jsonl.zst", pack(text, asbytes=True))) == TURNS
    frames = [pack(part, asbytes=True) for part in (text[:50], text[50:])]
    assert read(write(tmp_path / "y.jsonl.zst", b"".join(frames))) == TURNS
    assert read(write(tmp_path / "z.csv.zst", pack(table(ALPACA).encode(), asbytes=True))) == TURNS


def test_a_cell_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    """The csv module's own limit is 131,072 characters."""
    path = write(tmp_path / "x.csv", f"question,answer\n{'问' * 200_000},答\n")
    [[row]] = open_corpus(str(path)).read("curated/full").values()
    assert len(row.question[0].content) == 200_000


def test_an_empty_cell_says_nothing_and_changes_no_form(tmp_path: Path) -> None:
    """A column fixes the form of every row: an empty `instruction` does not make a row one of pairs."""
    text = "Instruction,input,output,ability,split,idx,label\na,,b,,,,\nc,d,e,sql,,7,x\n"
    rows = open_corpus(str(write(tmp_path / "x.csv", text))).read("curated/full")
    assert {
        name: [(row.question[0].content, row.answer) for row in found] for name, found in rows.items()
    } == {
        "general": [("a", "b")],
        "sql": [("c\nd", "e")],
    }
    path = write(tmp_path / "y.csv", "instruction,input,output\n,ask,answer\n")
    with pytest.raises(DataError, match="`instruction` is null, not a text"):
        open_corpus(str(path)).read("curated/full")


def test_a_context_stands_before_its_question_and_is_said(tmp_path: Path) -> None:
    rows = [
        {"context": "鲸是兽。", "question": "鲸是鱼吗", "answer": "不是"},
        {"question": "q", "answer": "a"},
    ]
    corpus = open_corpus(str(write(tmp_path / "x.jsonl", lines(rows))))
    [found] = corpus.read("curated/full").values()
    assert [row.question[0].content for row in found] == ["鲸是兽。\n鲸是鱼吗", "q"]
    assert found[0].unread == ()
    assert say_forms(corpus) == [
        "rows read as pairs (`context` before the question): 1",
        "rows read as pairs: 1",
    ]
    dolly = {"instruction": "q", "context": "c", "response": "a", "category": "x"}
    [found] = open_corpus(str(write(tmp_path / "y.jsonl", lines([dolly])))).read("curated/full").values()
    assert (found[0].question[0].content, found[0].answer) == ("c\nq", "a")
    declared = RowForm(columns=("question", "answer"))
    [found] = open_corpus(str(tmp_path / "x.jsonl"), declared).read("curated/full").values()
    assert (found[0].question[0].content, found[0].unread) == ("鲸是鱼吗", ("context",))


def test_the_column_of_the_ability_has_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "question,answer,类别\na,b,客服\nc,d,synthetic\ne,f,\n")
    corpus = open_corpus(str(path), RowForm(ability_column="类别"))
    assert corpus.sources() == ("curated/1000", "curated/full", "synthetic/40960")
    assert {name: len(rows) for name, rows in corpus.read("curated/full").items()} == {
        "客服": 1,
        "general": 1,
    }
    assert list(corpus.read("synthetic/40960")) == ["synthetic"]
    with pytest.raises(DataError, match="no `种类`"):
        open_corpus(str(path), RowForm(ability_column="种类")).read("curated/full")


def test_capitals_are_said_and_two_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    row = {"Question": "a", "Answer": "b"}
    corpus = open_corpus(str(write(tmp_path / "x.jsonl", lines([row]))))
    corpus.read("curated/full")
    assert say_forms(corpus) == ["rows read as pairs (`Question` as `question`, `Answer` as `answer`): 1"]
    twice = write(tmp_path / "y.jsonl", lines([{"question": "a", "Question": "b", "answer": "c"}]))
    [[found]] = open_corpus(str(twice)).read("curated/full").values()
    assert (found.question[0].content, found.unread) == ("a", ("Question",))


ROW = '{"question": "q", "answer": "a"}'
GB = "问题,回答\n你好啊，世界,很高兴见到你\n".encode("gb18030")
GB_LINES = lines(PAIRS).encode("gb18030")
PLAIN = lines(PAIRS).encode()
BROKEN: dict[str, tuple[str | bytes | None, str]] = {
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
    "no object.json": ("[1]", "a row must be a JSON object"),
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
    "empty answer.csv": ("question,answer\na,\n", ":2: the content of turn 2 is null, not a text"),
    "empty.jsonl": ("", "the file holds no row"),
    "blank.jsonl": ("\n\n \n", "the file holds no row"),
    "zeros.jsonl": (b"\0" * 5000, "the file holds only NUL bytes"),
    "nul.jsonl": ('{"question": "q", "answer": "a\0b"}\n', ":1: not JSON: Invalid control character"),
    "nul.csv": ("question,answer\nq,a\0b\n", ":2: "),
    "control.jsonl": (
        '{"question": "q", "answer": "a\\u0000b"}\n',
        ":1: turn 2 has the control character U+0000",
    ),
    "half.jsonl": ('{"question": "q", "answer": "\\ud83d"}\n', ":1: \\ud83d is half a character"),
    "long number.json": (f'[{{"question": "q", "answer": "a", "n": {"1" * 5000}}}]', "too many digits"),
    "long number.jsonl": (
        f'{{"question": "q", "answer": "a", "n": {"1" * 5000}}}\n',
        ":1: a number with too many digits",
    ),
    "infinite.jsonl": (
        '{"question": "q", "answer": "a", "n": 1e999}\n',
        ":1: the number '1e999' is too large",
    ),
    "blank between.jsonl": (f"{ROW}\n\n{ROW}\n", ":2: a blank line between rows"),
    "cut.jsonl": (f'{ROW}\n{{"question": "q", "ans', ":2: not JSON"),
    "python.jsonl": ("{'question': 'q', 'answer': 'a'}\n", ":1: not JSON"),
    "comma behind.jsonl": (f"{ROW},\n", ":1: not JSON"),
    "list.jsonl": (f"{ROW}\n[1]\n", ":2: a row must be a JSON object"),
    "several lines.jsonl": (json.dumps(PAIRS[0], indent=2), ":1: rows over several lines"),
    "table.jsonl": ("question,answer\nq,a\n", ":1: the first line is no row of JSON: 'question,answer'"),
    "prose.jsonl": ("\n\nonce upon a time\n" * 30, ":3: the first line is no row of JSON: 'once upon"),
    "rows.csv": (lines(PAIRS), ":1: rows of JSON in a table"),
    "array.csv": (json.dumps(PAIRS), ":1: rows of JSON in a table"),
    "more behind.json": (f'{{"data": [{ROW}], "version": 1}}', ":1: behind the list of rows, ','"),
    "open object.json": (f'{{"data": [{ROW}]', ":1: the object around the rows is open"),
    "mixed.jsonl": (PLAIN + GB_LINES, ":8: a byte"),
    "gb.jsonl": (GB_LINES, ":1: a byte (0xb5) is not UTF-8; it may be GB18030"),
    "gb.json": (json.dumps(PAIRS, ensure_ascii=False, indent=1).encode("gb18030"), ":3: a byte"),
    "on one line.json": (
        f'[{ROW}, {ROW}, {{"question": 5, "answer": "a"}}]',
        ":1: row 3 of this line: ",
    ),
    "utf16 be.jsonl": (b"\xfe\xff" + lines(PAIRS).encode("utf-16-be"), "the file is UTF-16"),
    "utf16 bare.jsonl": (lines([{"question": "q", "answer": "a"}]).encode("utf-16-le"), "looks like UTF-16"),
    "utf32.json": (json.dumps(PAIRS).encode("utf-32"), "the file is UTF-32"),
    "mark inside.jsonl": (f"{ROW}\n\ufeff{ROW}\n", ":2: "),
    "sheet.csv": (b"PK\x03\x04" + b"\0" * 60, "an Excel workbook"),
    "sheet.jsonl": (b"\xd0\xcf\x11\xe0" + b"\0" * 60, "an old Excel workbook"),
    "really.csv": (gzip.compress(table(PAIRS).encode()), "the file is packed with gzip"),
    "zstd.jsonl": (b"\x28\xb5\x2f\xfd" + b"x" * 30, "the file is packed with zstd"),
    "bzip2.jsonl": (b"BZh9" + b"x" * 30, "the file is packed with bzip2"),
    "xz.jsonl": (b"\xfd7zXZ\0" + b"x" * 30, "the file is packed with xz"),
    "twice packed.jsonl.gz": (gzip.compress(gzip.compress(PLAIN)), "the file is packed with gzip"),
    "behind.jsonl.gz": (gzip.compress(PLAIN) + b"garbage", "cut short or damaged"),
    "empty.jsonl.gz": (gzip.compress(b""), "the file holds no row"),
    "nothing.jsonl.gz": (b"", "the file holds no row"),
    "parquet.jsonl": (b"PAR1" + b"x" * 30, "the file is Parquet"),
    "arrow.jsonl": (b"ARROW1\0\0" + b"x" * 30, "the file is Arrow"),
    "x.parquet.gz": (gzip.compress(b"PAR1"), "packed inside already"),
    "database.jsonl": (b"SQLite format 3\0" + b"x" * 30, "a SQLite database"),
    "pickle.jsonl": (b"\x80\x04\x95" + b"x" * 30, "a Python pickle"),
    "page.jsonl": ("<!DOCTYPE html><html>not found</html>", "a web page or XML"),
    "pdf.json": (b"%PDF-1.7 x", "the file is a PDF"),
    "lfs.jsonl": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "open quote.csv": ('question,answer\nq,a\n"a,b\n' + "c,d\n" * 9, ":3: not a table"),
    "quote inside.csv": ('question,answer\nq,a\n"a"b,c\n', ":3: not a table"),
    "context.jsonl": (
        '{"question": "q", "context": ["c"], "answer": "a"}\n',
        ":1: `context` is ['c'], not a text",
    ),
    "squad.jsonl": (
        '{"question": "q", "context": "c", "answers": {"text": ["a"]}}\n',
        ":1: no known form of row",
    ),
    "ability.csv": ("question,answer,ability\nq,a,客服 咨询\n", ":2: `ability` is '客服 咨询', not a name"),
    "split.jsonl": ('{"question": "q", "answer": "a", "split": "dev"}\n', ":1: `split` is 'dev'"),
    "cut.jsonl.zst": (None, "cut short or damaged"),
    "damaged.jsonl.zst": (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "cut short or damaged"),
    "unpacked.jsonl.zst": (lines(PAIRS), "cut short or damaged"),
    "not.parquet": ("hello", "not a readable parquet file"),
    "empty.parquet": ("", "not a readable parquet file"),
    "not.arrow": ("hello", "not a readable arrow file"),
    "cut.arrow": (b"ARROW1\0\0" + b"x" * 40, "not a readable arrow file"),
    "cut.parquet": (None, "not a readable parquet file"),
    "cut stream.arrow": (None, "not a readable arrow file"),
    "nested.parquet": (None, ":1: the content of turn 1 is {'text': 'q'}, not a text"),
    "bytes.parquet": (None, ":1: a value of the type bytes"),
    "decimal.parquet": (None, ":2: a value of the type Decimal"),
    "null.parquet": (None, ":2: the content of turn 2 is null, not a text"),
    "same column.parquet": (None, ":1: the column 'question' stands twice"),
    "no column.parquet": (None, "the file holds no row"),
}
"""Files by name: what is in them (None: made by `made`), and what is said of them."""


def made(path: Path) -> None:
    """A broken file that only pyarrow can write."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    columns: dict[str, dict[str, list[object]]] = {
        "nested": {"question": [{"text": "q"}], "answer": ["a"]},
        "bytes": {"question": ["q"], "answer": ["a"], "image": [b"\x89PNG"]},
        "decimal": {"question": ["q", "r"], "answer": ["a", "b"], "price": [None, Decimal("1.5")]},
        "null": {"question": ["q", "r"], "answer": ["a", None]},
        "no column": {},
    }
    name = path.name.partition(".")[0]
    data = pyarrow.table(columns.get(name, {"question": ["q"] * 900, "answer": ["a"] * 900}))
    if path.suffix == ".zst":
        path.write_bytes(pyarrow.Codec("zstd").compress(PLAIN * 50, asbytes=True)[:-9])
    elif path.suffix == ".arrow":
        with ipc.new_stream(str(path), data.schema) as writer:
            writer.write_table(data)
        path.write_bytes(path.read_bytes()[:-300])
    else:
        if name == "same column":
            data = pyarrow.table([["q"], ["a"], ["r"]], names=["question", "answer", "question"])
        parquet.write_table(data, path)
        if name == "cut":
            path.write_bytes(path.read_bytes()[:-5])


def test_the_table_has_sixty_kinds_of_bad_files() -> None:
    assert len(BROKEN) + len(NO_FILES) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_message_with_its_place(tmp_path: Path, name: str) -> None:
    if name.endswith((".parquet", ".arrow", ".zst")):
        pytest.importorskip("pyarrow")
    text, problem = BROKEN[name]
    path = tmp_path / name
    made(path) if text is None else write(path, text)
    with pytest.raises(DataError) as caught:
        open_corpus(str(path)).read("curated/full")
    [first] = caught.value.problems
    assert problem in f"{first.place.removeprefix(str(path))}: {first.problem}" and first.place.startswith(
        str(path)
    )
    assert caught.value.exit_code == 65 and caught.value.hint


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.jsonl")


def _out(path: Path) -> None:
    outside = path.parent.parent / "outside.jsonl"
    path.symlink_to(write(outside, lines(PAIRS)))


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (_folder, "is a folder, not a file"),
    "pipe": (os.mkfifo, "is not a plain file"),
    "loop": (_loop, "a link that leads nowhere"),
    "dangling": (_dangling, "a link that leads nowhere"),
    "out": (_out, "a link that leads out of the corpus"),
}
"""What bears a file's name in a folder of rows and is none."""


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_named_and_not_passed_over(tmp_path: Path, name: str) -> None:
    make, problem = NO_FILES[name]
    folder = tmp_path / "rows"
    folder.mkdir()
    write(folder / "a.jsonl", lines(PAIRS))
    make(folder / "b.jsonl")
    with pytest.raises(DataError, match=problem) as caught:
        open_corpus(str(folder)).read("curated/full")
    [found] = caught.value.problems
    assert found.place == str(folder / "b.jsonl") and found.hint
    if name not in ("folder", "out"):
        with pytest.raises(DataError) as caught:
            open_corpus(str(folder / "b.jsonl")).read("curated/full")
        assert str(folder / "b.jsonl") in str(caught.value) and caught.value.hint


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = write(tmp_path / "x.jsonl", lines(PAIRS)), Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied") as caught:
        open_corpus(str(path)).read("curated/full")
    assert caught.value.problems[0].place == str(path)


def test_a_line_that_never_ends_is_not_taken_into_memory(tmp_path: Path) -> None:
    row = b'[{"question": "' + b"a" * (9 << 20)
    with pytest.raises(DataError, match="longer than 4 MiB"):
        list(numbered_rows(write(tmp_path / "x.json", row)))
    with pytest.raises(DataError, match="longer than 4 MiB"):
        list(numbered_rows(write(tmp_path / "x.csv", b"question,answer\n" + b"a" * (9 << 20))))
