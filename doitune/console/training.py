"""What a training would do, what it left, and the runs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doitune.console.examples import show_ledger
from doitune.console.screen import duration, say, show_json, show_table
from doitune.system.spent import STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from doitune.run.folder import Run
    from doitune.train.plan import Plan

RUN_SCHEMA = "doitune.run/1"

LEAST_NAMED = 0.05
"""Seconds of a part that is named."""


def show_plan(plan: Plan) -> None:
    """What a training would do: the ledger, tokens and steps."""
    from doitune.train.plan import describe

    found, train = describe(plan), plan.recipe.train
    show_ledger(plan.material.ledger, f"recipe {plan.resolved.name}")
    share = 100 * found["trained_tokens"] / found["tokens"]
    tokens = f"{found['tokens']:,} tokens, {found['trained_tokens']:,} of them trained ({share:.0f} %)"
    rate = f"rate {train.learning_rate:g} to {train.end_rate:g} ({train.schedule})"
    say(f"{found['examples']:,} examples, {tokens}")
    say(f"{found['steps']:,} steps of {train.examples_per_step} examples, {rate}")
    say(f"base {plan.base.name} in {plan.base.folder}")
    for note in found["notes"]:
        say(f"note: {note}")


def show_run(run: Run, runs: Path, *, as_json: bool) -> None:
    """What a training left, and what to do next; `runs` is where the command looks for runs."""
    from doitune.run.find import command
    from doitune.run.summary import can_be_asked, summarise

    done = run.done() or {}
    if as_json:
        show_json({"schema": RUN_SCHEMA, **summarise(run), "done": done})
        return
    early = " (early: no better validation)" if done.get("stopped_early") else ""
    steps = f"trained {done['final_step']} steps in {duration(done['seconds'])}{early}"
    say(f"{steps}; best checkpoint: step {done['best_step']}")
    if parts := done.get("seconds_by_part"):
        say(beside_the_steps(parts))
    say(f"run {run.name} in {run.folder}")
    say(f"talk to it: {command('chat', run, runs)}")
    if can_be_asked(run):
        say(f"next: {command('eval', run, runs)}")
        return
    say("no row was kept out to be asked (data.holdout): `doitune eval RUN --corpus ROWS` asks others")
    say(f"next: {command('report', run, runs)}")


def beside_the_steps(parts: Mapping[str, float]) -> str:
    """What the time of a training's last process went to but for its steps, in a sentence."""
    others = {name: seconds for name, seconds in parts.items() if name != STEPS}
    named = ", ".join(f"{name} {seconds:.1f}" for name, seconds in others.items() if seconds >= LEAST_NAMED)
    return f"beside the steps {duration(sum(others.values()))}" + (f" ({named}, in seconds)" if named else "")


def show_runs(entries: Sequence[Mapping[str, Any]]) -> None:
    """A line for each run, as `run.folder.summarise` gives it."""
    rows = [
        [one["name"], one["state"], str(one["step"]), str(one["best"] or ""), _scores(one)] for one in entries
    ]
    show_table(["run", "state", "step", "best", "scores"], rows, right=(2, 3))


def _scores(entry: Mapping[str, Any]) -> str:
    """Headline means in a line; one of some questions only is marked."""
    parts = [
        f"{suite} {checkpoint} {100 * score:.1f}"
        + (" (partial)" if checkpoint in entry["partial"].get(suite, ()) else "")
        for suite, found in entry["scores"].items()
        for checkpoint, score in found.items()
    ]
    return "; ".join(parts)
