"""Evaluate targets: a run's checkpoints beside their base, or a base. One base is loaded for all checkpoints
of a run.

Nothing here knows how a run was trained: it reads the run's directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.base.adapter import CONFIG, WEIGHTS
from doitune.base.context import context_of
from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.data.suites import BENCHMARKS, CORPUS_SUITES
from doitune.errors import CheckpointError, UsageError
from doitune.evals import saved
from doitune.evals.evaluate import Progress, evaluate
from doitune.evals.evaluation import Evaluation
from doitune.evals.markdown import report_markdown, wrong_answers
from doitune.evals.request import Request, as_asked, requested_tasks
from doitune.recipe.resolve import resolve
from doitune.run.find import find_run
from doitune.run.folder import Run, resolved
from doitune.run.layout import (
    BASE,
    BASES,
    EXAMPLES,
    LONE,
    OF_CORPUS,
    ORIGIN,
    REPORT_TEXT,
    evaluation_folder,
    in_run,
    step_of,
)
from doitune.run.places import at_its_corpus, moved_corpus
from doitune.system.disk import file_sha256, write_whole

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.evals.ask import Limits
    from doitune.evals.task import Task
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.checkpoint import Checkpoint

OnProgress = Callable[[str, Progress], None]

_OF_CONTENT = re.compile(r"#([0-9a-f]{16})(?:-[0-9]+)?$")
"""The end of a row's id that is a digest of what it says; a row with an `idx` has another."""


@dataclass(frozen=True)
class _Loaded:
    """A loaded model, what it was loaded from, and what is asked of it."""

    target: str
    recipe: Recipe
    base: Base
    model: LoadedModel
    template: Template
    request: Request
    on_progress: OnProgress


def evaluate_target(
    target: str, request: Request, *, runs: Path, on_progress: OnProgress
) -> list[Evaluation]:
    """Evaluate a run (`last`, a part of its name, its folder or a checkpoint's folder), an adapter apart from
    its run, or a base (a name or a model folder).

    A run's base is evaluated, too, unless the request leaves it out. Interrupted evaluations go on where they
    were. Errors: UsageError, CheckpointError, DataError.
    """
    folder = Path(target)
    if is_lone(target):
        return _lone_target(target, request, runs, on_progress)
    run = run_of(target, runs)
    if run is None:
        return _base_target(target, request, runs, on_progress)
    if in_run(folder) is not None:
        request = replace(request, checkpoints=(str(step_of(folder.name) or 0),))
    return _run_target(run, request, on_progress)


def is_lone(target: str) -> bool:
    """Whether a target is the folder of an adapter apart from its run."""
    folder = Path(target)
    return (folder / CONFIG).is_file() and in_run(folder) is None


def run_of(target: str, runs: Path) -> Run | None:
    """The run that a target names, or whose checkpoint it is; None where the target is a base. UsageError."""
    folder = Path(target)
    run_folder = in_run(folder)
    if run_folder is not None:
        return Run(run_folder)
    if (folder / CONFIG).is_file():
        raise UsageError(
            f"{target} is an adapter apart from its run",
            "eval and chat take it; else give its folder inside its run, RUN/checkpoints/STEP",
        )
    if (
        (folder / "config.json").is_file()
        or target == "demo"
        or (target.count("/") == 1 and not folder.exists() and not _names_run(target, runs))
    ):
        return None
    if folder.suffix == ".gguf" or any(folder.glob("*.gguf")):
        raise UsageError(
            f"{target} is for llama.cpp, by which doitune asks nothing but to prove an export",
            "the README.md beside it has the line; doitune itself takes the merged folder of the same export",
        )
    return find_run(target, runs)


def _names_run(target: str, runs: Path) -> bool:
    """Whether `target` names a run; a hub name looks alike."""
    try:
        find_run(target, runs)
    except UsageError:
        return False
    return True


def _run_target(run: Run, request: Request, on_progress: OnProgress) -> list[Evaluation]:
    from doitune.run.model import load_model, open_encoder, still_there, take_checkpoint

    steps = _steps(run, request.checkpoints)
    # before a model is loaded, so that what is missing shows at once
    recipe = resolved(run).recipe
    if set(request.suites or recipe.eval.suite) & set(CORPUS_SUITES):
        named = request.corpus and (moved_corpus(run, recipe, request.corpus) or recipe)
        recipe = named or at_its_corpus(run, recipe)
    tasks = requested_tasks(recipe, request)
    recipe, base, template = open_encoder(run, request.model)
    _refuse_same_letters(tasks, template)
    trained, recipe = recipe, as_asked(recipe, request)
    same = recipe.model.quantise == trained.model.quantise
    _, model = load_model(recipe, base, template.new_rows, training=False)

    def taken(step: int) -> tuple[Checkpoint, str]:
        """Hashed at once: a run that is still training may delete it while its base is asked."""
        found = take_checkpoint(run, step, model, template, same_base=same)
        with still_there(run, step):
            return found, file_sha256(found.folder / WEIGHTS)

    now, adapter = taken(steps[0])
    loaded = _Loaded(run.name, recipe, base, model, template, request, on_progress)
    leaks = int(run.read_json(ORIGIN).get("data", {}).get("leaks", 0))
    stopped = None if run.done() else run.checkpoints.all()[-1].step
    found: list[Evaluation] = []
    for suite, task in tasks.items():
        told = leaks + (_learnt(run, task) if request.corpus and task.suite in CORPUS_SUITES else 0)
        if request.with_base:
            with model.without_adapter():
                found.append(_evaluated(loaded, task, _folder(run.folder, suite, BASE, task, loaded)))
        for step in steps:
            if step != now.step:
                now, adapter = taken(step)
            folder = _folder(run.folder, suite, now.folder.name, task, loaded)
            one = _evaluated(loaded, task, folder, adapter)
            found.append(replace(one, leaks=told, stopped_at=stopped))
    return found


def _learnt(run: Run, task: Task) -> int:
    """How many questions of a task stand among the rows that a run learnt from, answer and all."""

    def contents(ids: Iterable[str]) -> list[str]:
        return [found[1] for one in ids if (found := _OF_CONTENT.search(one))]

    names = run.folder / EXAMPLES
    known = {*contents(names.read_text(encoding="utf-8").split("\n"))} if names.is_file() else set()
    return sum(one in known for one in contents(item.id for item in task.items))


def _folder(place: Path, suite: str, checkpoint: str, task: Task, loaded: _Loaded) -> Path:
    """Where the evaluation is kept: a corpus that was named has a folder of its own, unless the suite's own
    folder holds the very same questions, or none of a base's yet."""
    plain = evaluation_folder(place, suite, checkpoint)
    corpus, found = loaded.request.corpus, saved.read_manifest(plain)
    own = list(corpus) == [one.place for one in loaded.recipe.data.corpora]
    if not corpus or task.suite not in CORPUS_SUITES or (own and not found):
        return plain
    if found and found.document == task.document:
        return plain
    name = "+".join(Path(one).expanduser().resolve().stem for one in corpus)
    return evaluation_folder(place, f"{suite}{OF_CORPUS}{name}", checkpoint)


def _base_target(target: str, request: Request, runs: Path, on_progress: OnProgress) -> list[Evaluation]:
    if request.model:
        raise UsageError(
            f"--model says where a run's base is, and {target} is a base itself",
            "give its folder as the target",
        )
    corpus = request.corpus or (("demo",) if target == "demo" else ())
    recipe = resolve("own", model=target, corpus=corpus).recipe
    if not corpus and set(request.suites or recipe.eval.suite) & set(CORPUS_SUITES):
        raise UsageError("a base has no corpus of its own to be asked from", "name one: --corpus NAME|PATH")
    return evaluate_untrained(
        recipe, request, lambda base: runs / BASES / base.folder.name, target=target, on_progress=on_progress
    )


def evaluate_untrained(
    recipe: Recipe, request: Request, place: Callable[[Base], Path], *, target: str, on_progress: OnProgress
) -> list[Evaluation]:
    """Ask a recipe's base, as the recipe asks, before any training. `place`: where the evaluations of this
    base are kept. Errors: UsageError, CheckpointError, DataError."""
    from doitune.backends.pick import begin
    from doitune.backends.tokenizer import tokenizer_template
    from doitune.run.model import load_model

    tasks, recipe = requested_tasks(recipe, request), as_asked(recipe, request)
    base = find_base(recipe.model.name, recipe.model.revision)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt)
    _refuse_same_letters(tasks, template)
    _, model = load_model(recipe, base, template.new_rows, training=False)
    loaded = _Loaded(target, recipe, base, model, template, request, on_progress)
    with model.without_adapter():
        return [
            _evaluated(_as_begun(loaded, folder), task, folder)
            for task, folder in (
                (task, _folder(place(base), suite, BASE, task, loaded)) for suite, task in tasks.items()
            )
        ]


def _lone_target(target: str, request: Request, runs: Path, on_progress: OnProgress) -> list[Evaluation]:
    """An adapter apart from its run, beside its base; what its run kept out is not known here."""
    from doitune.run.lone import open_lone

    if request.quantise:
        raise UsageError(
            "an adapter apart from its run is asked on the values that it was trained on",
            "--quantise is for runs, their checkpoints and bases",
        )
    recipe = resolve("own", model=request.model or "demo", corpus=request.corpus).recipe
    suites = request.suites or recipe.eval.suite
    if not request.corpus and set(suites) & set(CORPUS_SUITES):
        raise UsageError(
            "an adapter apart from its run has no corpus to be asked from",
            "name one: --corpus NAME|PATH; or give its folder inside its run, RUN/checkpoints/STEP",
        )
    tasks = requested_tasks(recipe, request)
    found = open_lone(Path(target), request.model)
    _refuse_same_letters(tasks, found.template)
    adapter = file_sha256(Path(target) / WEIGHTS)
    place = runs / BASES / f"{Path(target).resolve().name}-{adapter[:12]}"
    model = recipe.model.model_copy(update={"quantise": found.quantise})
    recipe = recipe.model_copy(update={"model": model})
    loaded = _Loaded(target, recipe, found.base, found.model, found.template, request, on_progress)
    done: list[Evaluation] = []
    for suite, task in tasks.items():
        if request.with_base:
            with found.model.without_adapter():
                folder = _folder(place, suite, BASE, task, loaded)
                done.append(_evaluated(_as_begun(loaded, folder), task, folder))
        folder = _folder(place, suite, LONE, task, loaded)
        done.append(_evaluated(_as_begun(loaded, folder), task, folder, adapter))
    return done


def _refuse_same_letters(tasks: Mapping[str, Task], template: Template) -> None:
    """ModelError, before a model is loaded, where options of a task cannot be told apart."""
    from doitune.evals.prompts import refuse_same_letters

    for task in tasks.values():
        refuse_same_letters(task.items, template)


def _as_begun(loaded: _Loaded, folder: Path) -> _Loaded:
    """With the moment at which the evaluation in `folder` began, so that it goes on with the same prompts; as
    it is where none did.

    CheckpointError where the base's chat template prints the time and the folder does not say which.
    """
    from doitune.prompt.encode import fingerprint

    begun, template = saved.read_manifest(folder), loaded.template
    if begun is None:
        return loaded
    if begun.moment:
        return replace(loaded, template=template.at(begun.moment))
    if template.reads_clock and begun.fingerprint != fingerprint(template):
        raise CheckpointError(
            f"{folder} cannot go on: the base's chat template prints the time, and this evaluation is of an "
            "older doitune, which did not record it",
            "move this folder away and evaluate again",
        )
    return loaded


def _evaluated(loaded: _Loaded, task: Task, folder: Path, adapter: str = "none") -> Evaluation:
    """Evaluate one task. `folder` has the checkpoint's name, `adapter` is the sha256 of its adapter."""
    shots = f", {task.shots} shots" if task.suite in BENCHMARKS else ""
    label = f"{task.suite}{shots} {folder.name}"
    report = evaluate(
        loaded.model,
        loaded.template,
        task,
        folder,
        identity=_identity(loaded, adapter),
        limit=loaded.request.limit,
        limits=limits_of(loaded.recipe, loaded.base, loaded.request.exact),
        on_progress=lambda progress: loaded.on_progress(label, progress),
    )
    write_whole(folder / REPORT_TEXT, report_markdown(report, wrong=wrong_answers(folder)))
    return Evaluation(loaded.target, folder.name, report)


def _identity(loaded: _Loaded, adapter: str) -> dict[str, str]:
    """Which model answers: every byte of the base, the adapter, and how the base is loaded and computes."""
    digests = sorted(loaded.base.sha256().items())
    files = "".join(f"{name} {digest}\n" for name, digest in digests)
    return {
        "base": loaded.base.name,
        "base_sha256": sha256(files.encode()).hexdigest(),
        "adapter_sha256": adapter,
        "quantise": loaded.recipe.model.quantise,
        "compute_dtype": loaded.model.compute_dtype,
    }


def limits_of(recipe: Recipe, base: Base, exact: bool) -> Limits:
    """Batches and context of an evaluation."""
    from doitune.evals.ask import Limits

    context = context_of(base.config)
    budget = recipe.eval.tokens_per_batch
    limits = Limits(context_tokens=context.tokens if context else None, exact=exact)
    return limits if budget is None else replace(limits, batch_tokens=budget)


def _steps(run: Run, wanted: Sequence[str]) -> list[int]:
    """Steps of the checkpoints asked for, each once, in the order asked."""
    from doitune.run.model import checkpoint_step, checkpoint_steps

    steps: list[int] = []
    for name in wanted:
        steps += checkpoint_steps(run) if name == "all" else [checkpoint_step(run, name)]
    return list(dict.fromkeys(steps))
