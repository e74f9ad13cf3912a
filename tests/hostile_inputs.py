"""Corpora, recipes, names, edited evaluations and `--set` values that are broken or mean harm."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doitune.demo.corpus import write_corpus
from doitune.recipe.resolve import resolve
from doitune.recipe.tree import as_tree, flatten

Make = Callable[[Path], Path]
"""Puts something under a folder; its path."""

DEEP = "[" * 100_000 + "]" * 100_000
DEEP_MAP = '{"a":' * 50_000 + "1" + "}" * 50_000
ROW = {
    "messages": [{"role": "user", "content": "1+1=?"}, {"role": "assistant", "content": "2"}],
    "ability": "math",
}


def row(**more: Any) -> str:
    return json.dumps({**ROW, **more}, ensure_ascii=False)


def _file(content: str | bytes, name: str = "own.jsonl") -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return make


def _layout(change: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Path:
        root = folder / "corpus"
        write_corpus(root)
        change(next(iter(sorted((root / "curated" / "1000").glob("math*.json")))))
        return root

    return make


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "own.jsonl")
    return folder / "own.jsonl"


def _circle(folder: Path) -> Path:
    (folder / "own.jsonl").symlink_to(folder / "other")
    (folder / "other").symlink_to(folder / "own.jsonl")
    return folder / "own.jsonl"


def _in_place_of(kind: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        kind(path)

    return change


_TURN: dict[str, Any] = {"role": "user", "content": "?"}
CORPORA: dict[str, Make] = {
    **{
        f"bytes {number}": _file(content)
        for number, content in enumerate((
            b"", b"\n\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\x00" * 4096, row().encode("utf-16"), row().encode("utf-8-sig"),
            b"\x1f\x8b\x08\x00" + b"\x00" * 64, b"PK\x03\x04", b"{", b"[", b"null", b"1", b'"x"', b"{}", b"[]", DEEP.encode(), DEEP_MAP.encode(),
            b"[" * 1_000_000, b"9" * 5_000_000, b'{"messages":' + DEEP.encode() + b"}", row().encode()[:-5], b"a,b,c\n1,2,3\n", b"- a: 1\n",
        ))
    },
    **{
        f"row {number}": _file(text + "\n" + row() + "\n")
        for number, text in enumerate((
            row(messages=None), row(messages=5), row(messages=[]), row(messages=[None]), row(messages=[[]]), row(messages={"role": "user"}),
            row(messages=[_TURN]), row(messages=[_TURN, _TURN]), row(messages=[{"role": 5, "content": 5}]), row(messages=[{"role": "user"}]),
            row(ability=None), row(ability=5), row(ability="../x"), row(ability="x" * 300), row(ability="\u202e"), row(ability=""), row(id=[1]), row(id="\x1b[2J"),
            row(question_format="essay"), row(choices="A"), row(choices=["A"] * 100_000), row(split="other"), row(split=5), row(label={}),
            '{"messages": NaN}', '{"messages": 1e999}', '{"a": 1, "a": 2}', '{"messages": "\\ud800"}', row(messages=[{"role": "user", "content": "x" * 3_000_000}, ROW["messages"][1]]),
        ))
    },
    "a pipe": _pipe,
    "a circle of links": _circle,
    "a device": lambda folder: Path("/dev/zero"),
    "nothing": lambda folder: folder / "nothing",
    "an empty folder": lambda folder: folder,
    "a folder in the place of a file": _layout(_in_place_of(lambda path: path.mkdir())),
    "a pipe in the place of a file": _layout(_in_place_of(os.mkfifo)),
    "a file that is deep": _layout(lambda path: path.write_text(DEEP)),
    "deep checksums": _layout(lambda path: (path.parents[2] / "checksums.json").write_text(DEEP)),
    "checksums of another kind": _layout(lambda path: (path.parents[2] / "checksums.json").write_text('{"files": [1]}')),
}  # fmt: skip
assert len(CORPORA) >= 60

_HEAD = "summary: x\nmodel: {name: demo}\n"
RECIPES: dict[str, str | bytes] = {
    f"recipe {number}": content
    for number, content in enumerate((
        b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 100_000, b"{" * 100_000, b"- " * 100_000, b"a: " * 10_000, b"? " * 10_000, b"null", b"5", b"[]", b"'", b"\t",
        "&a [*a]", "a: &a 1\nb: *a", "<<: {a: 1}", "!!python/object/apply:os.system ['id']", "--- \n---\n", "%YAML 9.9\n---\n", "extends: x", "extends: ../../etc/passwd", "extends: [a]",
        "extends: " + "x" * 300, "summary: [1]", "summary: " + "x" * 1_000_000, _HEAD, _HEAD + "data: 5", _HEAD + "data: {budget: 5}", _HEAD + "data: {budget: {math: 1e999}}",
        _HEAD + "data: {budget: {math: .nan}}", _HEAD + "data: {budget: {math: -1}}", _HEAD + "data: {budget: {math: " + "9" * 5000 + "}}", _HEAD + "data: {budget: {" + "x" * 300 + ": 1}}",
        _HEAD + 'data: {corpus: "a\\0b", budget: {math: 1}}', _HEAD + "data: {corpus: " + "x" * 300 + ", budget: {math: 1}}", _HEAD + "data: {corpus: ~nosuchuser/x, budget: {math: 1}}",
        'summary: x\nmodel: {name: "a\\0b"}\nextends: demo', "summary: x\nmodel: {name: " + "x" * 300 + "}\nextends: demo", "summary: x\nmodel: {name: ''}\nextends: demo",
        "summary: x\nmodel: {name: ../../..}\nextends: demo", "summary: x\nmodel: {name: /dev/null}\nextends: demo", "extends: demo\ntrain: {epochs: 0}", "extends: demo\ntrain: {epochs: 1000000000}",
        "extends: demo\nlora: {rank: 1000000000}", "extends: demo\ntrain: {max_tokens: 1000000000}", "extends: demo\ntrain: {seed: -1}",
        "extends: demo\nprompt: {user_token: ''}", 'extends: demo\nprompt: {user_token: "\\0"}', "extends: demo\neval: {suite: [x]}", "extends: demo\neval: {shots: [100000]}",
    ))
}  # fmt: skip

LONG, BYTES = "x" * 300, "模" * 90
NAMES = (
    *("", " ", "/", "//", ".", "..", "-", "~", "~nosuchuser/x", "\n", "\x1b[2J", "\u202e", "a/b/c/d", "*", "?", "[", "%00"),
    *("/dev/null", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/self/environ", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x", "C:\\x", "..\\..\\x", "../" * 2000),
    *(LONG, BYTES, f"{LONG}/x", f"x/{LONG}", f"{LONG}.yaml", f"./{BYTES}", "\udcff", "\udcff/x"),
    *("last@", "@base", "last@9999999999999999999", "nan"),
)  # fmt: skip
assert len(RECIPES) + len(NAMES) >= 90

EDITS: tuple[tuple[str, Any], ...] = (
    *(("choices", value) for value in (10_000_000_000, -5, "3", 2.5, None, [1])),
    *(("chance", value) for value in (float("nan"), 1e308, -1, None, "x", float("inf"))),
    *(("form", value) for value in ([1], "essay", None, 5)),
    *(("way", value) for value in ({}, "x", None)),
    *(("shots", value) for value in (-1, 10**12, "1")),
    *(("reply", value) for value in (None, [], {}, "x", {"text": 5})),
    *(("options", value) for value in (5, "AB", [1])),
    *(("id", value) for value in (None, 5)),
    *(("correct", value) for value in (2, None, float("nan"))),
)
"""One key of a line of outcomes.jsonl, and what it is edited to."""
assert len(EDITS) >= 30


def settings() -> list[str]:
    """At least 130 `KEY=VALUE`: every field of a recipe with two values in turn, and keys that are none."""
    values = (
        "1e999",
        "nan",
        "-1",
        "[[[",
        "{a: 1}",
        "null",
        "9" * 400,
        "x" * 300,
        "0",
        "1000000000000",
        "[]",
        "~nosuchuser/x",
        "''",
        "'\\0'",
        "!!x y",
        "*a",
        "true",
        "\u202e",
    )
    keys = list(flatten(as_tree(resolve("demo").recipe)))
    found = [
        f"{key}={values[(5 * number + turn * 7) % len(values)]}"
        for turn in (0, 1)
        for number, key in enumerate(keys)
    ]
    wrong = ("", "=", "=1", "a", "a=", ".=1", "..=1", "train.=1", ".train=1", "train..epochs=1", f"{LONG}=1", "train=5", "train=[1]", "train={}", "model=x", "data=~", "data.budget=5",
             "data.budget={math: -1}", "data.budget.math=1e999", "data.budget.x=1", "\x1b[2J=1", "\u202e=1", "a.b.c.d.e=1", "__class__=1", "train.__dict__=1")  # fmt: skip
    return [*wrong, *found]
