"""What a corpus counts is remembered while its files are the same, and only then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from doitune.errors import DoituneError
from doitune.memory import counted
from doitune.memory.counted import REMEMBERED, Counted, count
from doitune.memory.hours import work_of
from doitune.recipe.resolve import resolve
from doitune.system.scratch import cache_folder

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each reading of a corpus."""
    done: list[Any] = []
    read = counted._read
    monkeypatch.setattr(counted, "_read", lambda recipe: done.append(recipe) or read(recipe))
    return done


def write_rows(path: Path, rows: int, letter: str = "a") -> None:
    said = [{"instruction": f"{letter} {number:04}?", "output": "b"} for number in range(rows)]
    path.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")


def counted_of(corpus: Path, *sets: str) -> Counted:
    return count(resolve("own", model="demo", corpus=str(corpus), overrides=sets).recipe)


def test_a_corpus_that_was_seen_is_not_read_again(tmp_path: Path, reads: list[Any]) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 40)
    first = counted_of(path)
    assert counted_of(path) == first and len(reads) == 1
    assert first.rows == first.turns // 2 > 30
    kept = (cache_folder() / "counts.json").read_text("utf-8")
    assert str(first.characters) in kept and "0001" not in kept, "numbers, no text"


def test_another_file_setting_or_base_is_counted_anew(tmp_path: Path, reads: list[Any]) -> None:
    """Also one of the same size and time of change; a file beside it in a folder; a seed; a tokenizer."""
    folder = tmp_path / "rows"
    folder.mkdir()
    path = folder / "rows.jsonl"
    write_rows(path, 40)
    counted_of(folder)
    before = path.stat()
    write_rows(path, 40, "c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    counted_of(folder)
    assert len(reads) == 2
    write_rows(folder / "more.jsonl", 9, "d")
    assert counted_of(folder).rows > 40 and len(reads) == 3
    counted_of(folder, "data.seed=3")
    assert len(reads) == 4
    count(resolve("own", model="7b", corpus=str(folder)).recipe)
    assert len(reads) == 5


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 40)
    read = counted._read

    def slow(recipe: Any) -> Counted:
        found = read(recipe)
        write_rows(path, 60)
        return found

    monkeypatch.setattr(counted, "_read", slow)
    assert counted_of(path).rows < 45
    monkeypatch.setattr(counted, "_read", read)
    assert counted_of(path).rows > 50


def test_what_cannot_serve_is_said_each_time_and_never_remembered(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a"}\n', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(DoituneError):
            counted_of(path)
        work = work_of(resolve("own", model="demo", corpus=str(path)).recipe)
        assert "the corpus cannot serve" in work.how


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"NAME": 3}', '{"NAME": {"rows": 1}}', '{"NAME": null}', "[" * 100_000]
)
def test_a_damaged_cache_costs_a_reading(damage: str, tmp_path: Path, reads: list[Any]) -> None:
    path, kept = tmp_path / "rows.jsonl", cache_folder() / "counts.json"
    write_rows(path, 40)
    first = counted_of(path)
    name = next(iter(json.loads(kept.read_text("utf-8"))))
    kept.write_text(damage.replace("NAME", name), encoding="utf-8")
    assert counted_of(path) == first and len(reads) == 2


def test_the_newest_counts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 40)
    monkeypatch.setattr(counted, "_read", lambda recipe: Counted(1, 2, 3, 0.5, ""))
    for seed in range(REMEMBERED + 3):
        counted_of(path, f"data.seed={seed}")
    assert len(json.loads((cache_folder() / "counts.json").read_text("utf-8"))) == REMEMBERED
