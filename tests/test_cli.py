"""The commands end to end, in this process: text and JSON on a tiny base, as a user would type
them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmarks import make_cmmlu

from doitune.__main__ import main

Command = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Types a command in an empty folder; gives stdout; any other exit code than `code` fails."""
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["doitune", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        assert left.value.code == code, shown.err
        return shown.out

    return typed


def _json(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def test_train_eval_compare_score_and_runs(run: Command, tiny_recipe: Path) -> None:
    """README's way through: each step finds what the one before it left, and says the same in JSON."""
    trained = _json(run("train", str(tiny_recipe), "--json"))
    assert trained["state"] == "done" and trained["done"]["final_step"] == 8
    found = _json(run("eval", "last", "--json"))["evaluations"]
    assert [one["checkpoint"] for one in found] == ["base", f"step-{trained['best']:06d}"]
    assert {line["name"] for line in found[0]["sets"]} == {"biology", "history", "code", "math"}
    assert all(
        0 <= line["low"] <= line["score"] <= line["high"] <= 1 for one in found for line in one["sets"]
    )
    table = run("eval", "last")
    assert "STEM - Biology" in table and "mean of 4 sets (macro)" in table and "protocol fixed" in table
    pairs = _json(run("compare", "last", "--json"))["pairs"]
    assert (
        pairs[0]["set"] == "mean"
        and pairs[0]["n"] == 32
        and {"holm_p", "mcnemar_p", "flips_up", "smallest_detectable"} <= set(pairs[0])
    )
    folder = Path(trained["path"]) / "evals" / "doit-test" / "base"
    assert "delta" in run("score", str(folder), "--wrong", "1") and (folder / "report.md").is_file()
    runs = _json(run("runs", "list", "--json"))["runs"]
    assert (
        len(runs) == 1
        and runs[0]["state"] == "done"
        and set(runs[0]["scores"]["doit-test"]) == {one["checkpoint"] for one in found}
    )
    assert "already whole" not in run("resume", "last")  # a note goes to stderr


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("doitune.prepare.draw.drawn", ("data", "draw", "demo", "--out", ".")),
        ("doitune.prepare.stats.measure", ("data", "stats", "demo", "--picture", ".")),
        ("doitune.selftest.gpu.selftest_gpu", ("selftest", "gpu", "--out", ".")),
    ],
)
def test_a_name_that_takes_no_result_is_refused_before_the_work(
    run: Command, monkeypatch: pytest.MonkeyPatch, work: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it works"))
    assert "it is a folder" in _json(run(*words, "--json", code=74))["problem"]


def test_draw_preview_and_stats_of_a_recipe(run: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    drawn = _json(run("data", "draw", str(tiny_recipe), "--json"))
    assert len(drawn["ids"]) == 32 and drawn["ledger"]["math"]["asked"] == 8
    run("data", "draw", str(tiny_recipe), "--out", "ids.txt")
    assert (tmp_path / "ids.txt").read_text(encoding="utf-8").split() == drawn["ids"]
    shown = run("data", "preview", str(tiny_recipe), "--ability", "math")
    assert "<reserved_0>:user>" in shown and "[[" in shown and "</s>:end>]]" in shown
    assert "over the limit" in run("data", "stats", str(tiny_recipe), "--picture", "lengths.svg")
    assert (tmp_path / "lengths.svg").read_text(encoding="utf-8").startswith("<svg")


def test_rows_of_ones_own_are_declared_or_recognised(run: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    """Alpaca rows train and are checked; declared as what they are not they are refused with file and line."""
    rows = [{"instruction": f"{n}+1=?", "input": "", "output": str(n + 1)} for n in range(6)]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sets = [
        "--set",
        "data.rows=alpaca",
        "--set",
        "data.rows_ability=math",
        "--set",
        "data.budget={math: all, biology: 0, history: 0, code: 0}",
    ]
    plan = _json(run("train", str(tiny_recipe), "--corpus", str(own), *sets, "--dry-run", "--json"))
    assert plan["examples"] == 6 and plan["ledger"]["math"]["trained"] == 6
    assert "0 problems" in run("data", "check", str(own), "--rows", "alpaca", "--ability", "math")
    assert "0 problems" in run("data", "check", str(own))
    assert "own.jsonl:1" in run("data", "check", str(own), "--rows", "sharegpt", code=65)


def test_a_benchmark_is_fetched_from_a_folder_and_searched_for_leaks(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a training row that is a public test question."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = make_cmmlu(tmp_path / "CMMLU")
    assert "licence" in run("data", "fetch", "cmmlu", "--from", str(folder))
    with (folder / "test" / "agronomy.csv").open(encoding="utf-8", newline="") as stream:
        _, question, *options, answer = list(csv.reader(stream))[1]
    text = question + "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
    row = {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}],
        "ability": "biology",
    }
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert not _json(run("data", "check", str(own), "--json"))["leaks"]
    found = _json(run("data", "check", str(own), "--against", "cmmlu", "--json", code=65))
    assert [leak["suite"] for leak in found["leaks"]] == ["cmmlu"]
