"""What an export is not written into is named, with what would help, in every format alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doitune.errors import UsageError
from doitune.export import adapter, merged
from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, MERGED
from doitune.export.gguf.place import refuse_foreign
from doitune.export.out import FORMATS, resolved_out

REFUSERS = {
    MERGED: merged._folder,
    ADAPTER: adapter._folder,
    GGUF: lambda out: refuse_foreign(resolved_out(out), GGUF),
    GGUF_ADAPTER: lambda out: refuse_foreign(resolved_out(out), GGUF_ADAPTER),
}


def refusal(to: str, out: Path) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        REFUSERS[to](out)
    return caught.value.problem, caught.value.hint


def exported(folder: Path, to: str, **more: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "export.json").write_text(json.dumps({"to": to, **more}))
    return folder


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_of_exports_says_where_the_one_that_is_meant_is(to: str, tmp_path: Path) -> None:
    """Trap: `--to gguf --out X` writes X/merged, and `--to merged --out X` was told of no export there at all."""
    out = tmp_path / "my files"
    for one in (MERGED, GGUF):
        exported(out / one, one)
    problem, hint = refusal(to, out)
    assert problem == f"{out} is there already, and holds exports in folders of their own: merged, gguf"
    assert f"--out '{out / to}'" in hint and ("that you ask for" in hint) == (to in (MERGED, GGUF))


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_of_another_kind_is_called_what_it_is(to: str, tmp_path: Path) -> None:
    others = [one for one in FORMATS if one != to]
    assert len(others) == 3
    for one in others:
        problem, hint = refusal(to, exported(tmp_path / one, one))
        assert problem.endswith(f"is an export to {one}, not to {to}") and "--out DIR" in hint


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_no_export_is_named(to: str, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    REFUSERS[to](out)  # an empty folder serves
    for name in ("a", "b", "c", "d", "e"):
        (out / name).write_text("")
    assert refusal(to, out)[0].endswith(f"is no export of doitune to {to}: it holds a, b, c and 2 more")
    for where in (out / "a", out / "a" / "below"):
        assert refusal(to, where)[0] == f"{out / 'a'} is there already, and is a file"
