"""Take a trained model away: base and adapter merged into one folder that plain transformers loads, with a
report on whether it is the same model.

A merge is easily another model (other base values, rounding, a tokenizer that says other prompts) and no
library tells. So the folder is read back and asked what the trained model is asked: `export.json` says how
far they agree, and below AGREEMENT it is not called the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.pick import begin
from doitune.backends.tokenizer import tokenizer_template
from doitune.base.find import find_base
from doitune.base.folder import RECORD, REPORT, Base, find_whole
from doitune.base.make import ROOM, Made, Order, make_base
from doitune.base.record import check_folder, read_record
from doitune.data.fetch import OnProgress
from doitune.errors import CheckpointError, DiskError, ModelError, ParityError, Problem, UsageError
from doitune.evals.targets import OnProgress as OnQuestion
from doitune.evals.targets import refuse_other_encoder
from doitune.export.chat import prove_folder
from doitune.export.merge import Source, changed_matrices, order_of
from doitune.export.parity import AGREEMENT
from doitune.export.trial import Trial, choose_trial
from doitune.recipe.resolve import resolve
from doitune.run.model import checkpoint_step
from doitune.system.disk import hold, make_folder, write_json
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.run.folder import Run

SCHEMA = "doitune.export/1"
QUESTIONS = 200

OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """`doitune export`: `checkpoint` is best, last or a step; `into` and `dtype` see `merge.order_of`;
    `questions`: at most so many are asked."""

    run: Run
    out: Path
    checkpoint: str = "best"
    into: str = "trained"
    dtype: str = ""
    questions: int = QUESTIONS


@dataclass(frozen=True)
class Export:
    """A finished export: its folder and what export.json says. `again`: it was finished before, and
    nothing was done."""

    folder: Path
    document: Mapping[str, Any]
    again: bool = False

    @property
    def same(self) -> bool:
        """Whether the merged model may be called the trained one."""
        return bool(self.document["same"])

    def refuse_other(self) -> None:
        """ParityError where the merged model is another than the trained one; the folder stays, and its
        export.json says so."""
        if not self.same:
            raise ParityError.of(
                Problem(str(self.folder), problem, self.document["cure"])
                for problem in self.document["problems"]
            )


def export_merged(
    wish: Wish, on_note: OnNote, on_progress: OnProgress | None = None, on_question: OnQuestion | None = None
) -> Export:
    """Merge, read back and compare, or go on with it; a finished export is recognised.

    Errors: UsageError, CheckpointError, ModelError, DataError, DiskError, LockedError, FitError where a model
    does not fit this machine.
    """
    out = _folder(wish.out)
    source = _source(wish)
    trial = choose_trial(source, wish.questions)
    for text in (
        *(
            []
            if wish.run.done()
            else [f"{wish.run.name} has not ended: what it would still learn is not in this"]
        ),
        *trial.left_out,
    ):
        on_note(text)
    order = order_of(source, wish.into, wish.dtype, out, trial.chats)
    try:
        make_folder(out.parent)
    except DiskError as error:
        raise DiskError(error.problem, ROOM) from error
    lock = out.with_name(f".{out.name}.export.lock")
    with hold(lock, str(out), remove=True):
        made = make_base(order, on_progress)
        found = _finished(out, made, trial)
        if found is None:
            on_note(f"{out} is written; now it is compared with the trained model")
            found = _report(
                wish, source, order, made, trial, on_note, on_question or (lambda label, progress: None)
            )
    return found


def _folder(wanted: Path) -> Path:
    """Where to write. UsageError for a folder with something else in it than an export of doitune; whose
    export it is, the merge finds out."""
    try:
        out = wanted.expanduser().resolve()
        foreign = out.exists() and not (out.is_dir() and ((out / RECORD).is_file() or not any(out.iterdir())))
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # a name too long, no such user, a null byte, no right to look
        raise UsageError(
            f"--out {str(wanted)!r} cannot be written: {getattr(error, 'strerror', None) or error}",
            "name a folder of yours",
        ) from None
    if foreign:
        raise UsageError(
            f"{out} is there already, and is no export of doitune", "name a new or an empty folder: --out DIR"
        )
    return out


def _source(wish: Wish) -> Source:
    """The run's recipe, base, checkpoint and template, each proved to be what the run was trained with as
    far as its files say."""
    run = wish.run
    recipe = resolve(str(run.recipe_path)).recipe
    checkpoint = run.checkpoint(checkpoint_step(run, wish.checkpoint))
    wrong = checkpoint.verify()
    if wrong:
        raise CheckpointError(
            f"{checkpoint.folder} is damaged: {'; '.join(wrong)}", "use another checkpoint: --checkpoint last"
        )
    base = find_base(recipe.model.name, recipe.model.revision)
    _refuse_other_base(run, base)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt)
    refuse_other_encoder(run, template)
    return Source(recipe, base, checkpoint, template)


def _refuse_other_base(run: Run, base: Base) -> None:
    """CheckpointError where a file of the base is not the one that the run was trained on."""
    trained: Mapping[str, str] = run.read_json("origin.json").get("base", {}).get("files", {})
    now = redacted(base.sha256())  # as origin.json holds them
    other = sorted(name for name in {*trained, *now} if trained.get(name) != now.get(name))
    if other:
        raise CheckpointError(
            f"{run.name} was trained on another base: {', '.join(other[:5])} of {base.folder} {'is' if len(other) == 1 else 'are'} not as then",
            "bring the old files back: the adapter is a change of those weights and no others",
        )


def _finished(out: Path, made: Made, trial: Trial) -> Export | None:
    """The export as an earlier try finished it, with the same questions; None where it is not measured
    yet. ModelError where it was changed."""
    if made.kept_shards < made.shards:
        return None
    wrong = check_folder(out).differences
    if wrong:
        place = f"{out / wrong[0].file}" if wrong[0].file else str(out)
        raise ModelError(
            f"not as it was exported: {wrong[0].problem}", "delete the folder and export again", place=place
        )
    document: Any = None
    with suppress(OSError, ValueError):
        document = json.loads((out / REPORT).read_text(encoding="utf-8"))
    known = (
        isinstance(document, dict)
        and document.get("trial") == trial.identity
        and isinstance(document.get("same"), bool)
    )
    return Export(out, document, again=True) if known else None


def _report(
    wish: Wish,
    source: Source,
    order: Order,
    made: Made,
    trial: Trial,
    on_note: OnNote,
    on_question: OnQuestion,
) -> Export:
    """Measure and write export.json."""
    ingredients = str((read_record(order.out) or {})["ingredients"])
    work = order.out.with_name(f".{order.out.name}.parity-{ingredients[:8]}{trial.identity[:8]}")
    merged = find_whole(order.out)
    prove_folder(order.out, source.template, trial.chats)
    changed = changed_matrices(order)
    found = trial.run(wish.run, source, merged, order, work, on_note, on_question)
    problems = [*found.problems]
    if not changed["changed"]:
        problems.append(
            f"the merged weights are the base's own: none of {changed['compared']} adapted matrices has changed"
        )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "same": not problems,
        "problems": problems,
        "cure": _cure(source, order) if problems else "",
        "to": "merged",
        "run": wish.run.name,
        "checkpoint": source.checkpoint.folder.name,
        "base": {"name": source.base.name, "revision": source.base.revision},
        "merged_into": _into(order),
        "trained_against": "nf4" if source.quantised else "own",
        "dtype": order.dtype,
        "merged_in": "float64",
        "bytes": made.bytes,
        "matrices": changed,
        "prompt": {"chats": len(trial.chats), "equal": True, "stop_ids": list(source.template.stop_ids)},
        "agreement_wanted": AGREEMENT,
        **found.to_json(),
        "trial": trial.identity,
    }
    document = redacted(document)
    write_json(order.out / REPORT, document)
    for folder in order.out.parent.iterdir():
        if folder.name.startswith(f".{order.out.name}.parity-"):
            shutil.rmtree(folder, ignore_errors=True)
    return Export(order.out, document)


def _into(order: Order) -> str:
    """The base's values that the adapter was added to."""
    return str(order.names[0]["values"])


def _cure(source: Source, order: Order) -> str:
    """What can be done about a merged model that is another one."""
    marked = "this folder is kept, and marked in its export.json"
    if source.quantised and _into(order) == "own":
        return f"the adapter was trained on the base's 4-bit values: merge it into those with --into trained --out ANOTHER; {marked}"
    if order.dtype != "float32":
        return f"keep more digits with --dtype fp32 --out ANOTHER; {marked}"
    return f"take the checkpoint itself, which is a whole peft adapter; {marked}"
