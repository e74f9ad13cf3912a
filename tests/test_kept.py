"""Prepared rows are taken from the cache where nothing that they are made of has changed, and nowhere else."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

from doitune.prepare import kept, material
from doitune.recipe.resolve import resolve
from doitune.train.plan import plan_training


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty rows of two abilities; whatever their size, they are kept."""
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"第{n}个问题是什么？", "answer": f"答{n}", "ability": ("甲", "乙")[n % 2]}, ensure_ascii=False) + "\n"
            for n in range(60)
        )
    )  # fmt: skip
    return path


def planned(rows: Path, base: Path, *sets: str) -> Any:
    return plan_training(resolve("own", corpus=str(rows), model=str(base), overrides=sets)).material


def said(found: Any) -> list[Any]:
    parts = [found.examples, found.encoded, found.ledger.to_json(), found.valid, found.valid_encoded]
    parts += [found.leaks, found.kept_out, found.data_sha256, found.judged_sha256, found.course.ids.tolist()]
    return [list(one) if index < 2 else one for index, one in enumerate(parts)]


def folders(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache" / "doitune" / "rows").iterdir())


def test_the_same_rows_are_taken_from_the_cache(
    rows: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(rows, tiny_base)
    assert len(first.examples) == 56 and first.valid and len(folders(tmp_path)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(material, "draw", lambda recipe: pytest.fail("it was read again"))
        again = planned(rows, tiny_base)
        assert said(again) == said(first)
        assert again.notes[:-1] == first.notes and "56 rows are taken from the cache" in again.notes[-1]
        more_epochs = planned(rows, tiny_base, "train.epochs=7", "lora.rank=4")
        assert more_epochs.course.total_steps > again.course.total_steps


@pytest.mark.parametrize("change", ["data", "recipe", "moved", "encoder", "code"])
def test_another_thing_that_rows_are_made_of_makes_them_anew(
    rows: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    before = planned(rows, tiny_base)
    sets: list[str] = []
    if change == "data":
        text, when = rows.read_text(), rows.stat()
        rows.write_text(text.replace("答7", "答8", 1))
        os.utime(rows, ns=(when.st_atime_ns, when.st_mtime_ns))  # trap: same size, same time
    elif change == "moved":
        rows = rows.rename(tmp_path / "other.jsonl")
    elif change == "recipe":
        sets = ["data.seed=5"]
    elif change == "encoder":
        sets = ["prompt.tokens=new"]
    else:
        monkeypatch.setattr(kept, "_code", lambda: "another")
    after = planned(rows, tiny_base, *sets)
    assert len(folders(tmp_path)) == 2 and "cache" not in "".join(after.notes)
    assert (said(after) == said(before)) == (change == "code")


@pytest.mark.parametrize("damage", ["a byte", "cut", "lost", "no manifest", "manifest"])
def test_damaged_rows_are_made_anew(rows: Path, tiny_base: Path, tmp_path: Path, damage: str) -> None:
    first = planned(rows, tiny_base)
    (folder,) = folders(tmp_path)
    (tokens,) = folder.glob("trained.tokens*")
    if damage == "a byte":
        data = bytearray(tokens.read_bytes())
        data[len(data) // 2] ^= 1
        tokens.write_bytes(data)
    elif damage == "cut":
        tokens.write_bytes(tokens.read_bytes()[:-2])
    elif damage == "lost":
        tokens.unlink()
    elif damage == "manifest":
        (folder / kept.MANIFEST).write_text("{}")
    else:
        (folder / kept.MANIFEST).unlink()
    assert said(planned(rows, tiny_base)) == said(first)
    assert said(planned(rows, tiny_base)) == said(first)
    assert (folder / kept.MANIFEST).is_file() and len(folders(tmp_path)) == 1


def test_what_a_killed_process_left_is_cleared(rows: Path, tiny_base: Path, tmp_path: Path) -> None:
    first = planned(rows, tiny_base)
    (folder,) = folders(tmp_path)
    folder.rename(folder.with_name(f".staging-{folder.name}-1"))
    again = planned(rows, tiny_base)
    assert said(again) == said(first) and folders(tmp_path) == [folder]


KEEPS = """
import sys, time
from pathlib import Path
from doitune.prepare import kept, material
from doitune.recipe.resolve import resolve
from doitune.train.plan import plan_training

rows, base, me, other = sys.argv[1:]
kept.LEAST_BYTES = 0
keep = material.keep

def together(*given):
    Path(me).touch()
    while not Path(other).exists():
        time.sleep(0.001)
    return keep(*given)

material.keep = together
found = plan_training(resolve("own", corpus=rows, model=base)).material
print(found.encoded.digest(), [one.id for one in found.examples])
"""


@pytest.mark.slow
def test_two_processes_that_prepare_the_same_rows_at_once_both_end_right(
    rows: Path, tiny_base: Path, tmp_path: Path
) -> None:
    marks = [str(tmp_path / "one"), str(tmp_path / "other")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", KEEPS, str(rows), str(tiny_base), *pair],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,  # the doitune of this process, not that of a checkout beside it
        )
        for pair in (marks, marks[::-1])
    ]
    printed = {one.communicate(timeout=HANGS)[0] for one in both}
    assert [one.returncode for one in both] == [0, 0] and len(printed) == 1
    (folder,) = folders(tmp_path)
    assert (folder / kept.MANIFEST).is_file()
    found = planned(rows, tiny_base)
    assert "taken from the cache" in found.notes[-1] and len(found.examples) == 56
    assert printed == {f"{found.encoded.digest()} {[one.id for one in found.examples]}\n"}


def test_without_room_nothing_is_kept_and_training_goes_on(
    rows: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept, "_write", full)
    found = planned(rows, tiny_base)
    assert len(found.examples) == 56 and "not kept in the cache: cannot write in" in found.notes[-1]
    assert folders(tmp_path) == []


def test_a_folder_that_is_not_asked_for_may_be_broken(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: every file of a corpus is hashed, also of sources that nobody reads."""
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "c" / "curated" / "1000").mkdir(parents=True)
    (tmp_path / "c" / "curated" / "extra").mkdir()
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    row = json.dumps({"messages": turns}, ensure_ascii=False)
    (tmp_path / "c" / "curated" / "1000" / "math_1000.json").write_text(f"{row}\n{row}\n")
    resolved = resolve(
        "baseline", corpus=str(tmp_path / "c"), model=str(tiny_base), overrides=["data.on_shortfall=take_all"]
    )
    assert len(plan_training(resolved).material.examples) == 2


def test_what_was_not_used_for_longest_goes_first(
    rows: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(rows, tiny_base)
    (first,) = folders(tmp_path)
    planned(rows, tiny_base, "data.seed=5")
    os.utime(first / kept.MANIFEST, (1, 1))
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * sum(path.stat().st_size for path in first.iterdir()) + 2000)
    planned(rows, tiny_base, "data.seed=6")
    assert len(folders(tmp_path)) == 2 and first not in folders(tmp_path)
