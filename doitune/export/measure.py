"""An exported model beside the trained one: they are loaded one after the other and asked the same trial."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.weights import open_weights
from doitune.errors import FitError, ModelError
from doitune.evals import saved
from doitune.evals.evaluate import evaluate
from doitune.evals.targets import limits_of
from doitune.export.parity import AGREEMENT, Answers, Pair, ask, compare, fitting
from doitune.export.tokenizer import exported_template
from doitune.export.trial import SUITE
from doitune.run.model import load_model, open_trained
from doitune.system.doing import counted
from doitune.system.ram import ram
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.base.folder import Base
    from doitune.data.bring import OnProgress
    from doitune.evals.report import Report
    from doitune.evals.targets import OnProgress as OnQuestion
    from doitune.evals.task import Task
    from doitune.export.source import Source
    from doitune.export.trial import Trial
    from doitune.prompt.encoded import Encoded
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe

LEAST_DISTANCE = 0.01
"""Nats a token: an adapter that changed its probe rows by less proves nothing by them."""

WORKING_MEMORY = 1.1
"""What a model in fp32 needs of main memory, in parts of its weights."""


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """What an export calls as it goes on: what is done next, the file at work, questions asked."""

    note: Callable[[str], None] = _silent
    file: OnProgress = _silent
    questions: OnQuestion = _silent


@dataclass(frozen=True)
class Measured:
    """What came of a trial. `distance_trained` and `distance_merged`: nats a token that the adapter changed
    its probe by, in training and merged."""

    pairs: tuple[Pair, ...]
    scores: Mapping[str, Any] | None
    left_out: tuple[str, ...]
    distance_trained: float
    distance_merged: float
    place: Mapping[str, str]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the merged model is not the trained one; empty where it may be called the same."""
        found = []
        first = self.pairs[0]
        if first.agreement < AGREEMENT:
            equal = f"the same likeliest token for {100 * first.agreement:.1f} %"
            wanted = f"{100 * AGREEMENT:.0f} % are wanted (mean KL {first.kl_nats:.3g} nats)"
            answers = f"of {first.positions} answer tokens it has {equal}, {wanted}"
            found.append(f"the merged model is not the trained one: {answers}")
        if self.distance_trained > LEAST_DISTANCE and self.distance_merged < self.distance_trained / 2:
            then = f"it changed the base's loss by {self.distance_trained:.4g} nats a token"
            lost = "the adapter has lost its effect in the merge"
            found.append(f"{lost}: {then}, merged by {self.distance_merged:.4g}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Its part of export.json."""
        merged = self.distance_merged if math.isfinite(self.distance_merged) else None
        return {
            "parity": [pair.to_json() for pair in self.pairs],
            "effect_nats": {"trained": self.distance_trained, "merged": merged},
            "evaluation": self.scores,
            "left_out": list(self.left_out),
            "measured_on": dict(self.place),
        }


def measure(source: Source, merged: Base, trial: Trial, work: Path, listener: Listener) -> Measured:
    """Ask the trained model, that of unquantised base and adapter where it fits, and the merged one; one is
    in memory at a time. Replies are kept in `work`.

    Errors: FitError where the merged model does not fit this machine.
    """
    rows = fitting(trial.rows, source.base.size("vocabulary") + source.template.new_rows)
    questions = Questions(trial.task, work, listener.questions)
    listener.note("asking the model as it was trained")
    trained, before = ask_trained(source, rows, questions)
    answers = {"trained": trained}
    reason = _why_no_unquantised(source, merged, trained)
    if not reason:
        listener.note("asking the base as it is, in fp32, with the adapter")
        try:
            answers["unquantised"] = _unquantised(source, rows)
        except (FitError, ModelError) as error:  # Unsloth may not load a base in fp32
            reason = f"base and adapter in fp32 were not asked: {error.problem}"
    listener.note("asking the merged model, loaded back")
    answers["merged"], after = _merged(source, merged, rows, questions)
    names = [("trained", "merged"), ("unquantised", "merged"), ("trained", "unquantised")]
    both = [(a, b) for a, b in names if a in answers and b in answers]
    pairs = [compare(a, answers[a], b, answers[b]) for a, b in counted("comparing what the models say", both)]
    return Measured(
        tuple(pairs),
        None if before is None or after is None else _scores(before, after, work),
        (*trial.left_out, *([reason] if reason else [])),
        trial.probe.distance,
        _distance(trial, answers["merged"]),
        answers["merged"].place,
    )


@dataclass(frozen=True)
class Questions:
    """The task that both models answer; replies are kept in a folder of each side's below `work`."""

    task: Task | None
    work: Path
    on_question: OnQuestion

    def ask(
        self, side: str, model: LoadedModel, template: Template, recipe: Recipe, base: Base
    ) -> Report | None:
        """The side's scores; None where there is nothing to ask."""
        if self.task is None:
            return None
        return evaluate(
            model,
            template,
            self.task,
            self.work / side,
            identity={"side": side, "work": self.work.name, "compute_dtype": model.compute_dtype},
            limits=limits_of(recipe, base, False),
            on_progress=lambda progress: self.on_question(f"{SUITE} {side}", progress),
        )


def ask_trained(
    source: Source, rows: Sequence[Encoded], questions: Questions
) -> tuple[Answers, Report | None]:
    """The model as it was trained: what it says to the rows, and its scores."""
    recipe, model, template, _ = open_trained(source.run, str(source.checkpoint.step), source.moved_to)
    answers = ask(model, rows)
    report = questions.ask("before", model, template, recipe, source.base)
    del model
    _release()
    return answers, report


def _unquantised(source: Source, rows: Sequence[Encoded]) -> Answers:
    """The base as it is, in fp32, with the adapter."""
    recipe = _recipe(source.recipe, quantise="none", compute_dtype="fp32")
    _, model = load_model(recipe, source.base, source.template.new_rows, training=False)
    model.load_adapter(source.checkpoint.folder)
    answers = ask(model, rows)
    del model
    _release()
    return answers


def _merged(
    source: Source, merged: Base, rows: Sequence[Encoded], questions: Questions
) -> tuple[Answers, Report | None]:
    """The folder as anybody loads it: no row of its own, no adapter, its own tokenizer."""
    if lacking := _lacking_memory(merged):
        problem = f"{merged.folder} is whole, but is not measured: {lacking}"
        raise FitError(problem, "measure it with the same command on a machine with more memory")
    recipe = _recipe(source.recipe, quantise="none", name=str(merged.folder), revision="")
    template = exported_template(merged.folder, source.template)
    _, model = load_model(recipe, merged, 0, training=False)
    with model.without_adapter():
        answers = ask(model, rows)
        report = questions.ask("after", model, template, recipe, merged)
    del model
    _release()
    return answers, report


def _release() -> None:
    """Give back the memory of a model that is no longer used."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _recipe(recipe: Recipe, **model: str) -> Recipe:
    """The recipe with another model section."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=model)})


def _why_no_unquantised(source: Source, merged: Base, trained: Answers) -> str:
    """Why base and adapter in fp32 are not asked as well; "" where they are."""
    if source.stored_in_4_bits:
        return "the base is here in 4 bits only, so the unquantised model was not asked"
    if not source.quantised and trained.place["dtype"] == "float32":
        return "the adapter was trained on the base as it is, in fp32: there is no third model to ask"
    lacking = _lacking_memory(merged)
    return f"base and adapter in fp32 were not asked: {lacking}" if lacking else ""


def _lacking_memory(merged: Base) -> str:
    """Why a model in fp32 does not fit the main memory, where that is what computes; "" where it does."""
    import torch

    weights = sum(math.prod(one.shape) for one in open_weights(merged.folder, "model").table.values())
    needed, free = WORKING_MEMORY * 4 * weights / GIB, ram()[1]
    if torch.cuda.is_available() or not free or needed <= free:
        return ""
    return f"it needs {needed:.1f} GiB of memory, {free:.1f} GiB are free"


def _distance(trial: Trial, merged: Answers) -> float:
    """The largest change of a probe row's loss from the bare base's, in nats a token."""
    rows = zip(merged.losses, trial.probe.rows, strict=False)
    changes = [abs(loss - row.base) for loss, row in rows]
    return max(changes) if all(map(math.isfinite, changes)) else math.inf


def _scores(before: Report, after: Report, work: Path) -> dict[str, Any]:
    """The score of the same questions before and after, and how many went from right to wrong and back."""
    right = {
        side: {name: line.verdicts["fixed"].correct for name, line in saved.read_lines(work / side).items()}
        for side in ("before", "after")
    }
    both = [(was, right["after"][name]) for name, was in right["before"].items() if name in right["after"]]
    return {
        "suite": SUITE,
        "questions": len(both),
        "before": asdict(before.mean),
        "after": asdict(after.mean),
        "difference": after.mean.score - before.mean.score,
        "flips_up": sum(now > was for was, now in both),
        "flips_down": sum(now < was for was, now in both),
    }
