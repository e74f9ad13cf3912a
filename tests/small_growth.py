"""A family of runs on disk as `doitune grow` leaves it, without a model: what each member scored is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from doitune.evals.report import Outcome, Report, tabulate
from doitune.growth.folder import GROWTH, Record, base_folder
from doitune.growth.measured import Member
from doitune.run.layout import BASE, DONE, LEDGER, RECIPE, REPORT, evaluation_folder, step_name

SUITES = ("doit-valid", "doit-test")
Right = Mapping[str, int]
"""Right answers by set."""


def write_report(place: Path, suite: str, checkpoint: str, right: Right, items: int, asked: int = 0) -> None:
    """report.json of an evaluation with `items` questions a set, the first `right` of them answered; `asked`
    fewer than `items`: it was left partial."""
    outcomes = [
        Outcome(f"{name}#{number}", name, float(number < right[name]), 0.25)
        for name in right
        for number in range(asked or items)
    ]
    table = tabulate("fixed", outcomes, order=list(right), totals=dict.fromkeys(right, items))
    report = Report(suite, 0, {}, (table,), len(outcomes), items * len(right), tuple(right))
    folder = evaluation_folder(place, suite, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(json.dumps(report.to_json(), ensure_ascii=False), encoding="utf-8")


def write_member(
    folder: Path, member: Member, scores: Mapping[str, Right], items: int, step: int = 40
) -> None:
    """A finished run: what it learnt from, its best step, and its evaluation on each suite."""
    run = folder / member.name
    run.mkdir(parents=True)
    rows = dict(member.rows) | ({"synthetic": member.synthetic} if member.synthetic else {})
    ledger = {
        name: {"asked": count, "found": count, "kept": count, "truncated": 0, "trained": count}
        for name, count in rows.items()
    }
    done = {"final_step": step + 8, "best_step": step, "stopped_early": False, "seconds": 1.0}
    (run / LEDGER).write_text(json.dumps(ledger), encoding="utf-8")
    (run / RECIPE).write_text("model: {name: demo}\ndata: {corpus: demo}\n", encoding="utf-8")
    (run / DONE).write_text(json.dumps({"schema": "doitune.done/1", **done}), encoding="utf-8")
    for suite, right in scores.items():
        write_report(run, suite, step_name(step), right, items)


def write_record(
    folder: Path, members: tuple[Member, ...], stock: Mapping[str, int], *, confirms: str = ""
) -> None:
    """growth.json of a family called as its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder.name, tuple(stock), {}, stock, SUITES, members, confirms=confirms)
    (folder / GROWTH).write_text(json.dumps(record.to_json(), ensure_ascii=False), encoding="utf-8")


def write_base(folder: Path, model: str, scores: Mapping[str, Right], items: int) -> None:
    """The evaluation of the untrained model."""
    for suite, right in scores.items():
        write_report(base_folder(folder, model), suite, BASE, right, items)
