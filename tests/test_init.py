"""`doitune init`: five answers, or flags, become a recipe that checks, says what it means, and trains."""

from __future__ import annotations

import json
import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest
from patience import HANGS
from test_cli import Command, run  # noqa: F401  # a fixture

from doitune.memory.cards import read_card
from doitune.memory.first_recipe import FEW_STEPS, STEP_SIZES
from doitune.memory.suggest import PREFERRED, TRIAL, TUNED, fitting, proposed
from doitune.recipe.field_help import default_of
from doitune.recipe.resolve import diff, resolve
from doitune.recipe.starter import OFFERED


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A pretty-printed Alpaca array of two abilities: 120 and 40 rows."""
    own = [
        {"instruction": f"第{n}个客户问退货", "output": f"{n % 7 + 1}天内寄回", "ability": "客服"}
        for n in range(120)
    ]
    own += [{"instruction": f"select {n}", "output": f"SELECT {n};", "ability": "sql"} for n in range(40)]
    path = tmp_path / "my rows.json"
    path.write_text(json.dumps(own, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def test_flags_make_a_recipe_that_checks_and_trains(
    run: Command,  # noqa: F811
    rows: Path,
    tiny_base: Path,
) -> None:
    """Trap: a recipe that only the folder in which it was written can read."""
    said = run("init", "--corpus", rows.name, "--model", str(tiny_base), "--set", "train.max_steps=2")
    path = Path("my rows.yaml")
    assert "next: doitune train 'my rows.yaml'" in said and "客服 114" in said
    run("recipes", "check", str(path))
    found = resolve(str(path)).recipe
    asked = ["train.max_steps=2", "train.examples_per_step=8"]
    same = resolve("own", model=str(tiny_base), corpus=str(rows), overrides=asked).recipe
    assert [one.field for one in diff(found, same)] == ["summary"]
    assert Path(found.data.corpus) == rows and found.prompt.template == "auto"
    text = path.read_text("utf-8")
    assert "#   rank: 16" in text and "every row is learnt from" not in text, "no budget is written"
    trained = json.loads(run("train", str(path), "--json"))
    assert trained["done"]["final_step"] == 2


def test_a_row_that_a_training_would_refuse_is_told_at_once(
    run: Command,  # noqa: F811
    rows: Path,
    tiny_base: Path,
) -> None:
    """Trap: the recipe is written and checks, and the first training ends at its longest row."""
    own = json.loads(rows.read_text("utf-8"))
    own.append({"instruction": "讲", "output": "很长的回答。" * 400, "ability": "sql"})
    rows.write_text(json.dumps(own, ensure_ascii=False), "utf-8")
    words = ["init", "--force", "--corpus", rows.name, "--card", "none"]
    said = run(*words, "--model", str(tiny_base))
    place = json.loads(run("train", "my rows.yaml", "--dry-run", "--json", code=65))["problem"]
    assert "tokens, more than" in place
    assert f"warning: a training would refuse this: {place}" in said and "hint: 1 of" in said
    found = json.loads(run(*words, "--model", str(tiny_base), "--json"))
    assert found["lengths_checked"] and found["too_long"] == [place]
    for set_here in ("data.on_overlong=drop", "train.max_tokens=9000"):
        found = json.loads(run(*words, "--model", str(tiny_base), "--set", set_here, "--json"))
        assert (found["lengths_checked"], found["too_long"]) == (True, []), set_here
    assert "not checked, as the base is not here" in run(*words, "--model", "qwen3-4b")
    assert "lengths" in run("recipes", "check", "my rows.yaml")


def test_answers_without_a_terminal_are_flags_or_defaults(run: Command, rows: Path) -> None:  # noqa: F811
    words = ["init", "x.yaml", "--corpus", str(rows), "--abilities", "sql", "--rows", "20", "--card", "24gb"]
    found = json.loads(run(*words, "--json"))
    assert found["learnt"] == {"sql": 20} and found["abilities"] == {"客服": 120, "sql": 40}
    assert found["model"].startswith(PREFERRED) and found["fits"] and 1 < found["needs_gib"] < 22.5
    assert resolve("x.yaml").recipe.data.budget.abilities == {"sql": 20}
    before = Path("x.yaml").read_bytes()
    run(*words, code=65)
    assert Path("x.yaml").read_bytes() == before, "nothing is written over"
    run(*words[:-4], "--force")
    assert resolve("x.yaml").recipe.data.budget.abilities == {"sql": "all"}
    assert resolve("x.yaml").recipe.train.examples_per_step == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--corpus", "nowhere.json"], 65),
        (["--corpus", "demo"], 2),
        (["--corpus", "my rows.json", "--abilities", "客户"], 2),
        (["--corpus", "my rows.json", "--rows", "0"], 2),
        (["--corpus", "my rows.json", "--card", "99zb"], 2),
        (["--corpus", "my rows.json", "--model", "qwen33"], 65),
        (["--corpus", "my rows.json", "--set", "lora.rnk=2"], 65),
        (["x.txt", "--corpus", "my rows.json"], 65),
    ],
)
def test_a_wrong_answer_writes_nothing(run: Command, rows: Path, words: list[str], code: int) -> None:  # noqa: F811
    run("init", *words, code=code)
    assert [path.name for path in rows.parent.iterdir()] == [rows.name]


def test_five_questions_are_asked_and_wrong_answers_are_asked_again(rows: Path) -> None:
    """At a real terminal. Trap: one slip in the fourth answer, and all is to be typed again."""
    answers = ["nowhere.json", rows.name, "客服,foo", "客服", "0", "50", "99zb", "12gb", ""]
    child, terminal = pty.fork()
    if not child:  # pragma: no cover
        os.chdir(rows.parent)
        os.execv(sys.executable, [sys.executable, "-m", "doitune", "init", "talked.yaml"])
    shown = ""
    for answer in ["", *answers]:
        if answer or shown:
            os.write(terminal, f"{answer}\n".encode())
        before = shown.count("]: ") + shown.count("them: ")
        end = time.monotonic() + HANGS
        while time.monotonic() < end and select.select([terminal], [], [], HANGS)[0]:
            try:
                shown += os.read(terminal, 1 << 16).decode("utf-8", "replace")
            except OSError:  # it has ended
                break
            if shown.count("]: ") + shown.count("them: ") > before:
                break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert shown.count("error:") == 4 and "known models that fit" in shown
    found = resolve(str(rows.parent / "talked.yaml")).recipe
    assert found.data.budget.abilities == {"客服": 50} and PREFERRED in found.model.name.lower()


def test_what_is_proposed_fits_and_what_is_offered_exists() -> None:
    small, large = (fitting("own", read_card(text)) for text in ("6gb", "24gb"))
    assert {one.name for one in small} < {one.name for one in large}
    assert [one.gib for one in large] == sorted((one.gib for one in large), reverse=True)
    assert proposed(large, read_card("24gb")).startswith(PREFERRED) and proposed(large, None) == TRIAL
    assert proposed(large, read_card("24gb")).endswith(TUNED), (
        "rows of one's own go onto a model tuned for chat"
    )
    assert all(str(default_of(name)) != "PydanticUndefined" for name in OFFERED)
    assert list(STEP_SIZES) == sorted(STEP_SIZES, reverse=True) and FEW_STEPS > 1
