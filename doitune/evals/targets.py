"""Whom to ask: a run's checkpoints beside their base, or a base alone. One base is loaded for all checkpoints
of a run.

Between training and evaluation lies a run directory: nothing here knows how a run was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.data.corpus import open_corpus
from doitune.data.suites import BENCHMARKS, CORPUS_SUITES, SUITES
from doitune.errors import CheckpointError, DataError, UsageError
from doitune.evals.evaluate import Progress, evaluate
from doitune.evals.markdown import report_markdown, wrong_answers
from doitune.evals.report import Report
from doitune.evals.suites.files import task as benchmark_task
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, find_run
from doitune.system.disk import file_sha256, write_whole

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.evals.ask import Limits
    from doitune.evals.task import Task
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe

BASE = "base"
"""The name under which an untrained base is evaluated beside its adapter."""

OnProgress = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Evaluation:
    """One target's report: `checkpoint` is `step-000320` or `base`. `leaks`: rows learnt from that give
    away a judged row."""

    target: str
    checkpoint: str
    report: Report
    leaks: int = 0

    def entries(self, protocols: Sequence[str] = ("fixed",)) -> list[dict[str, Any]]:
        """Its entries of `doitune eval --json`."""
        return [
            {**entry, "leaks": self.leaks}
            for entry in self.report.evaluations(self.target, self.checkpoint, protocols)
        ]


@dataclass(frozen=True)
class Request:
    """What to ask of each target. `checkpoints`: best, last, all or step numbers. `limit`: see Task.limited.

    `shots`: solved examples before a benchmark's question, each number an evaluation of its own; empty: the
    recipe's. `data`: a benchmark's folder by suite, where it isn't the fetched one. `exact`: one question at
    a time, see Limits. `write_choices`: the paper's own single choices are written, as the released code has
    them, instead of read off the option scores.
    """

    suites: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ("best",)
    limit: float | None = None
    corpus: str | None = None
    with_base: bool = True
    shots: tuple[int, ...] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    exact: bool = False
    write_choices: bool = False


def evaluate_target(
    target: str, request: Request, *, runs: Path, on_progress: OnProgress
) -> list[Evaluation]:
    """Evaluate a run (`last`, a part of its name, its folder or a checkpoint's folder) or a base (a name or a
    model folder).

    A run is asked beside its base. Interrupted evaluations go on where they were. Errors: UsageError,
    CheckpointError, DataError.
    """
    folder = Path(target)
    if (folder / "MANIFEST.json").is_file() and folder.parent.name == "checkpoints":
        step = folder.name.removeprefix("step-").lstrip("0") or "0"
        return _run_target(
            Run(folder.resolve().parents[1]), replace(request, checkpoints=(step,)), on_progress
        )
    if (folder / "adapter_config.json").is_file():
        hint = "give its folder inside its run, RUN/checkpoints/STEP: the recipe beside it says what it was trained with"
        raise UsageError(f"{target} is an adapter apart from its run", hint)
    if (
        (folder / "config.json").is_file()
        or target == "demo"
        or (target.count("/") == 1 and not folder.exists() and not _names_run(target, runs))
    ):
        return _base_target(target, request, runs, on_progress)
    return _run_target(find_run(target, runs), request, on_progress)


def _names_run(target: str, runs: Path) -> bool:
    """Whether `target` names a run; a hub name looks alike."""
    try:
        find_run(target, runs)
    except UsageError:
        return False
    return True


def _run_target(run: Run, request: Request, on_progress: OnProgress) -> list[Evaluation]:
    from doitune.run.model import open_trained, take_checkpoint

    steps = _steps(run, request.checkpoints)
    tasks = _tasks(
        resolve(str(run.recipe_path)).recipe, request
    )  # what is missing shows before a model is loaded
    recipe, model, template, first = open_trained(run, str(steps[0]))
    refuse_other_encoder(run, template)
    base = find_base(recipe.model.name, recipe.model.revision)
    found: list[Evaluation] = []
    for suite, task in tasks.items():
        if request.with_base:
            with model.without_adapter():
                found.append(
                    _one(
                        run.name,
                        BASE,
                        model,
                        template,
                        task,
                        run.evals_folder(suite, BASE),
                        base,
                        "",
                        request,
                        recipe,
                        on_progress,
                    )
                )
        for step in steps:
            checkpoint = run.checkpoint(step)
            if step != first:
                take_checkpoint(run, step, model, template)
                first = step
            adapter = file_sha256(checkpoint.folder / "adapter_model.safetensors")
            where = run.evals_folder(suite, checkpoint.folder.name)
            found.append(
                _one(
                    run.name,
                    checkpoint.folder.name,
                    model,
                    template,
                    task,
                    where,
                    base,
                    adapter,
                    request,
                    recipe,
                    on_progress,
                )
            )
    leaks = int(run.read_json("origin.json").get("data", {}).get("leaks", 0))
    return [replace(one, leaks=0 if one.checkpoint == BASE else leaks) for one in found]


def _base_target(target: str, request: Request, runs: Path, on_progress: OnProgress) -> list[Evaluation]:
    from doitune.backends.pick import begin
    from doitune.backends.tokenizer import tokenizer_template
    from doitune.run.model import load_model

    corpus = request.corpus or ("demo" if target == "demo" else None)
    recipe = resolve("baseline", model=target, corpus=corpus).recipe
    if corpus is None and set(request.suites or recipe.eval.suite) & set(CORPUS_SUITES):
        raise UsageError("a base has no corpus of its own to be asked from", "name one: --corpus NAME|PATH")
    tasks = _tasks(recipe, request)
    base = find_base(recipe.model.name, recipe.model.revision)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt)
    _, model = load_model(recipe, base, template.new_rows, training=False)
    place = runs / "bases" / base.folder.name
    with model.without_adapter():
        return [
            _one(
                target,
                BASE,
                model,
                template,
                task,
                place / "evals" / suite / BASE,
                base,
                "",
                request,
                recipe,
                on_progress,
            )
            for suite, task in tasks.items()
        ]


def _one(
    target: str,
    checkpoint: str,
    model: LoadedModel,
    template: Template,
    task: Task,
    folder: Path,
    base: Base,
    adapter: str,
    request: Request,
    recipe: Recipe,
    on_progress: OnProgress,
) -> Evaluation:
    """Ask one suite of one model."""
    shots = f", {task.shots} shots" if task.suite in BENCHMARKS else ""
    label = f"{task.suite}{shots} {checkpoint}"
    report = evaluate(
        model,
        template,
        task,
        folder,
        identity=_identity(base, adapter, recipe, model.compute_dtype),
        limit=request.limit,
        limits=limits_of(recipe, base, request.exact),
        on_progress=lambda progress: on_progress(label, progress),
    )
    write_whole(folder / "report.md", report_markdown(report, wrong=wrong_answers(folder)))
    return Evaluation(target, checkpoint, report)


def _identity(base: Base, adapter: str, recipe: Recipe, compute_dtype: str) -> dict[str, str]:
    """Who is asked: every byte of the base, the adapter, and how the base is held and computes."""
    files = sha256(
        "".join(f"{name} {digest}\n" for name, digest in sorted(base.sha256().items())).encode()
    ).hexdigest()
    return {
        "base": base.name,
        "base_sha256": files,
        "adapter_sha256": adapter or "none",
        "quantise": recipe.model.quantise,
        "compute_dtype": compute_dtype,
    }


def limits_of(recipe: Recipe, base: Base, exact: bool) -> Limits:
    """Batches and context of an evaluation."""
    from doitune.evals.ask import Limits

    context = base.size("positions") or None
    budget = recipe.eval.tokens_per_batch
    limits = Limits(context_tokens=context, exact=exact)
    return limits if budget is None else replace(limits, batch_tokens=budget)


def _tasks(recipe: Recipe, request: Request) -> dict[str, Task]:
    """What is asked, by the name of its folder below `evals`: `doit-test`, `cmmlu`, `doit-test-written`,
    `cmmlu-5shot`, each with `-exact` where that was wanted."""
    suites = request.suites or recipe.eval.suite
    unknown = [suite for suite in (*suites, *request.data) if suite not in SUITES]
    if unknown:
        raise UsageError(f"no suite is called {unknown[0]!r}", f"there are {', '.join(SUITES)}")
    tasks: dict[str, Task] = {}
    for suite in suites:
        if suite in CORPUS_SUITES:
            tasks[f"{suite}-written" if request.write_choices else suite] = own_task(suite, recipe, request)
        for shots in (request.shots or recipe.eval.shots) if suite in BENCHMARKS else ():
            tasks[f"{suite}-{shots}shot" if shots else suite] = benchmark_task(
                suite, shots, request.data.get(suite)
            )
    return {f"{name}-exact": task for name, task in tasks.items()} if request.exact else tasks


def own_task(suite: str, recipe: Recipe, request: Request) -> Task:
    """One of the paper's own suites, from the corpus of the recipe or the command line."""
    from doitune.evals.suites import doit
    from doitune.prepare.draw import recipe_corpus

    corpus = open_corpus(request.corpus) if request.corpus else recipe_corpus(recipe.data)
    source = CORPUS_SUITES[suite].source
    if source not in corpus.sources():
        raise DataError(
            f"corpus {corpus.name} has no {source} to ask",
            "add it, or name another corpus: --corpus PATH",
        )
    caps = (
        dict.fromkeys(("tf", "cloze", "multi_choice", "math"), recipe.eval.max_new_tokens)
        if recipe.eval.max_new_tokens
        else None
    )
    choice = "write" if request.write_choices else "letters"
    return doit.task(suite, corpus.read(source), choice=choice, caps=caps)  # type: ignore[arg-type]


def _steps(run: Run, wanted: Sequence[str]) -> list[int]:
    """Steps of the checkpoints asked for, each once, in the order asked."""
    from doitune.run.model import checkpoint_step

    steps: list[int] = []
    for name in wanted:
        steps += (
            [found.step for found in run.checkpoints()] if name == "all" else [checkpoint_step(run, name)]
        )
    if not steps:
        raise CheckpointError(f"{run.name} has no checkpoint", "train it first, or `doitune resume` it")
    return list(dict.fromkeys(steps))


def refuse_other_encoder(run: Run, template: Template) -> None:
    """CheckpointError where questions would not be encoded as the run's training was."""
    from doitune.prompt.encode import fingerprint

    trained: Mapping[str, str] = run.read_json("origin.json").get("encoder", {})
    if trained.get("fingerprint") != fingerprint(template):
        raise CheckpointError(
            f"{run.name} was trained with another encoder: fingerprint {str(trained.get('fingerprint'))[:12]}, here {fingerprint(template)[:12]}",
            "use the base, tokenizer files and library versions named in its origin.json",
        )
