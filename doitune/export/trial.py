"""The trial of a merged model: what it is asked beside the model as it was trained, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.probe import read_probe
from doitune.doctor.checks import ram
from doitune.errors import DataError, FitError, ModelError, UsageError
from doitune.evals import saved
from doitune.evals.evaluate import evaluate
from doitune.evals.targets import OnProgress as OnQuestion
from doitune.evals.targets import Request, limits_of, own_task
from doitune.export.chat import CHATS, exported_template
from doitune.export.parity import AGREEMENT, ROWS, Answers, Pair, ask, compare, fitting, release
from doitune.prepare.draw import recipe_corpus, validation_rows
from doitune.prompt.encode import encode_all
from doitune.run.model import load_model, open_trained

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.backends.probe import Probe
    from doitune.base.folder import Base
    from doitune.base.make import Order
    from doitune.data.example import Example, Message
    from doitune.evals.report import Report
    from doitune.evals.task import Task
    from doitune.export.merge import Source
    from doitune.prompt.encoded import Encoded
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.folder import Run

GIB = 2**30
SUITE = "doit-valid"
PROVED_ROWS = 50
"""Rows of the run on which prompts are compared, beside CHATS."""

LEAST_DISTANCE = 0.01
"""Nats a token: an adapter that changed its probe rows by less proves nothing by them."""


@dataclass(frozen=True)
class Trial:
    """What is asked. `chats` prove the prompt; `rows` are answers whose distributions are compared, those
    of the checkpoint's probe first."""

    chats: tuple[Sequence[Message], ...]
    probe: Probe
    rows: tuple[Encoded, ...]
    task: Task | None
    left_out: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Hash of all that is asked: another one is another measurement."""
        asked = repr([[row.ids for row in self.rows], self.task.document if self.task else ""])
        return sha256(asked.encode()).hexdigest()

    def run(
        self,
        run: Run,
        source: Source,
        merged: Base,
        order: Order,
        work: Path,
        on_note: Callable[[str], None],
        on_question: OnQuestion,
    ) -> Found:
        """Ask the trained model, the one of unquantised base and adapter where it fits, and the merged
        one; one is in memory at a time."""
        on_note("asking the model as it was trained")
        trained, before = self._trained(run, source, work, on_question)
        answers = {"trained": trained}
        reason = _why_no_full(source, order, trained)
        if not reason:
            on_note("asking the base as it is, in fp32, with the adapter")
            try:
                answers["unquantised"] = self._full(source)
            except (FitError, ModelError) as error:  # Unsloth may not hold a base in fp32
                reason = f"base and adapter in fp32 were not asked: {error.problem}"
        on_note("asking the merged model, loaded back")
        answers["merged"], after = self._merged(source, merged, order, work, on_question)
        names = [("trained", "merged"), ("unquantised", "merged"), ("trained", "unquantised")]
        pairs = tuple(
            compare(a, answers[a], b, answers[b]) for a, b in names if a in answers and b in answers
        )
        scores = None if before is None or after is None else _scores(before, after, work)
        left_out = (*self.left_out, *([reason] if reason else []))
        return Found(
            pairs,
            scores,
            left_out,
            self.probe.distance,
            self._distance(answers["merged"]),
            answers["merged"].place,
        )

    def _trained(
        self, run: Run, source: Source, work: Path, on_question: OnQuestion
    ) -> tuple[Answers, Report | None]:
        recipe, model, template, _ = open_trained(run, str(source.checkpoint.step))
        said = ask(model, self._asked(source.template, source.base))
        before = self._evaluate("before", model, template, recipe, source.base, work, on_question)
        del model
        release()
        return said, before

    def _full(self, source: Source) -> Answers:
        recipe = _recipe(source.recipe, quantise="none", compute_dtype="fp32")
        _, model = load_model(recipe, source.base, source.template.new_rows, training=False)
        model.load_adapter(source.checkpoint.folder)
        found = ask(model, self._asked(source.template, source.base))
        del model
        release()
        return found

    def _merged(
        self, source: Source, merged: Base, order: Order, work: Path, on_question: OnQuestion
    ) -> tuple[Answers, Report | None]:
        """The folder as anybody loads it: no row of its own, no adapter, its own tokenizer."""
        lacking = _lacking_memory(order)
        if lacking:
            raise FitError(
                f"{order.out} is whole, but is not measured: {lacking}",
                "measure it with the same command on a machine with more memory",
            )
        recipe = _recipe(source.recipe, quantise="none", name=str(order.out), revision="")
        template = exported_template(order.out, source.template)
        _, model = load_model(recipe, merged, 0, training=False)
        with model.without_adapter():
            said = ask(model, self._asked(source.template, source.base))
            after = self._evaluate("after", model, template, recipe, merged, work, on_question)
        del model
        release()
        return said, after

    def _asked(self, template: Template, base: Base) -> list[Encoded]:
        return fitting(self.rows, base.size("vocabulary") + template.new_rows)

    def _evaluate(
        self,
        side: str,
        model: LoadedModel,
        template: Template,
        recipe: Recipe,
        base: Base,
        work: Path,
        on_question: OnQuestion,
    ) -> Report | None:
        if self.task is None:
            return None
        return evaluate(
            model,
            template,
            self.task,
            work / side,
            identity={"side": side, "work": work.name, "compute_dtype": model.compute_dtype},
            limits=limits_of(recipe, base, False),
            on_progress=lambda progress: on_question(f"{SUITE} {side}", progress),
        )

    def _distance(self, merged: Answers) -> float:
        """The largest change of a probe row's loss from the bare base's, in nats a token."""
        changes = [abs(loss - said.base) for loss, said in zip(merged.losses, self.probe.rows, strict=False)]
        return max(changes) if all(map(math.isfinite, changes)) else math.inf


@dataclass(frozen=True)
class Found:
    """What came of a trial. `distance_trained` and `distance_merged`: nats a token that the adapter
    changed its probe by, then and merged."""

    pairs: tuple[Pair, ...]
    scores: Mapping[str, Any] | None
    left_out: tuple[str, ...]
    distance_trained: float
    distance_merged: float
    place: Mapping[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the merged model is not the trained one; empty where it may be called the same."""
        found = []
        first = self.pairs[0]
        if first.agreement < AGREEMENT:
            found.append(
                f"the merged model is not the trained one: of {first.positions} answer tokens it has the same likeliest token for "
                f"{100 * first.agreement:.1f} %, {100 * AGREEMENT:.0f} % are wanted (mean KL {first.kl_nats:.3g} nats)"
            )
        if self.distance_trained > LEAST_DISTANCE and self.distance_merged < self.distance_trained / 2:
            found.append(
                f"the adapter has lost its effect in the merge: it changed the base's loss by {self.distance_trained:.4g} nats a token, "
                f"merged by {self.distance_merged:.4g}"
            )
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


def choose_trial(source: Source, questions: int) -> Trial:
    """What to ask: validation rows of the run's corpus, where it can be read, beside the checkpoint's probe;
    `questions` of them are scored.

    Errors: CheckpointError for a checkpoint without a probe.
    """
    probe = read_probe(source.checkpoint.folder)
    rows, encoded, left_out = _validation(source)
    task, why = _task(source, questions) if not left_out else (None, "")
    chats = [
        *(CHATS if source.template.kind == "doit" else CHATS[1:]),
        *(row.messages for row in rows[:PROVED_ROWS]),
    ]
    notes = tuple(text for text in (left_out, why) if text)
    return Trial(tuple(chats), probe, (*(said.row for said in probe.rows), *encoded), task, notes)


def _validation(source: Source) -> tuple[list[Example], list[Encoded], str]:
    """Validation rows in turn from each ability, their encodings, and why there are none."""
    section = source.recipe.data
    try:
        found = [list(rows) for rows in validation_rows(recipe_corpus(section), ROWS, section.seed).values()]
        rows = [group[turn] for turn in range(ROWS) for group in found if turn < len(group)][:ROWS]
        encoded = encode_all([row.messages for row in rows], source.template, [row.place for row in rows])
    except (DataError, UsageError) as error:
        return [], [], f"the run's corpus was not asked: {error.problems[0]}"
    return (
        rows,
        encoded,
        ""
        if rows
        else "the run's corpus has no validation rows: only the checkpoint's probe is compared, and no score",
    )


def _task(source: Source, questions: int) -> tuple[Task | None, str]:
    """At most `questions` validation questions, as many of each ability; and why there are none."""
    if not questions:
        return None, "no questions were asked (--questions 0)"
    try:
        whole = own_task(SUITE, source.recipe, Request())
    except (DataError, UsageError) as error:
        return None, f"no questions were asked: {error.problems[0]}"
    some = whole.limited(max(1, questions // len(whole.sets)), source.recipe.data.seed)
    return replace(some, items=some.items[:questions]), ""


def _recipe(recipe: Recipe, **model: str) -> Recipe:
    """The recipe with another model section."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=model)})


def _why_no_full(source: Source, order: Order, trained: Answers) -> str:
    """Why base and adapter in fp32 are not asked as well; "" where they are."""
    if source.stored_in_4_bits:
        return "the base lies here in 4 bits only, so the unquantised model was not asked"
    if not source.quantised and trained.place["dtype"] == "float32":
        return "the adapter was trained on the base as it is, in fp32: there is no third model to ask"
    lacking = _lacking_memory(order)
    return f"base and adapter in fp32 were not asked: {lacking}" if lacking else ""


def _lacking_memory(order: Order) -> str:
    """Why a model in fp32 does not fit the main memory, where that is what computes; "" where it does."""
    import torch

    needed, free = 1.1 * 4 * order.parts.architecture.parameters / GIB, ram()[1]
    if torch.cuda.is_available() or not free or needed <= free:
        return ""
    return f"it needs {needed:.1f} GiB of memory, {free:.1f} GiB are free"


def _scores(before: Report, after: Report, work: Path) -> dict[str, Any]:
    """The score of the same questions before and after, and how many went from right to wrong and back."""
    right = {
        side: {name: line.verdicts["fixed"].correct for name, line in saved.read_lines(work / side).items()}
        for side in ("before", "after")
    }
    both = [
        (right["before"][name], right["after"][name]) for name in right["before"] if name in right["after"]
    ]
    ups, downs = sum(b > a for a, b in both), sum(b < a for a, b in both)
    means = {side: asdict(report.mean) for side, report in (("before", before), ("after", after))}
    return {
        "suite": SUITE,
        "questions": len(both),
        **means,
        "difference": after.mean.score - before.mean.score,
        "flips_up": ups,
        "flips_down": downs,
    }
