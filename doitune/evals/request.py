"""What is asked of a target, and the tasks that this means: the corpus's own questions, and benchmarks at
each number of shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.ability import Form
from doitune.data.declared import as_declared
from doitune.data.suites import BENCHMARKS, CORPUS_SUITES, SUITES
from doitune.errors import DataError, UsageError
from doitune.evals.suites.files import task as benchmark_task
from doitune.evals.task import Task, refuse_limit

if TYPE_CHECKING:
    from doitune.recipe.fields import Recipe

HELD = {"none": "unquantised", "nf4": "nf4"}
"""How the folder of an evaluation is called beside its suite, whose base was quantised otherwise than the
recipe has it."""

CAPPED: tuple[Form, ...] = ("tf", "cloze", "multi_choice", "math", "open")
"""The forms whose replies a recipe's `eval.max_new_tokens` caps."""


@dataclass(frozen=True)
class Request:
    """What to ask of each target. `checkpoints`: best, last, all or step numbers. `limit`: see Task.limited.

    `suites`, `shots`: empty, the recipe's. `shots`: solved examples before a benchmark's question, each
    number an evaluation of its own. `data`: a benchmark's folder by suite, where it isn't the fetched one.
    `exact`: one question at a time, see Limits. `write_choices`: single choices of the corpus are written, as
    the released code has them, instead of read off the option scores. `model`: where a
    run's base is now. `quantise`: nf4 or none, how the base is held, where not as the recipe has it.
    UsageError where `limit` is none.
    """

    suites: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ("best",)
    limit: float | None = None
    corpus: tuple[str, ...] = ()
    with_base: bool = True
    shots: tuple[int, ...] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    exact: bool = False
    write_choices: bool = False
    model: str = ""
    quantise: str = ""

    def __post_init__(self) -> None:
        if self.limit is not None:
            refuse_limit(self.limit)  # now, not after the model was loaded


def requested_tasks(recipe: Recipe, request: Request) -> dict[str, Task]:
    """What is asked, by the name of its folder below `evals`: `doit-test`, `cmmlu`, `doit-test-written`,
    `cmmlu-5shot`, each with `-exact` where that was wanted, and HELD. Errors: UsageError, DataError."""
    suites = request.suites or recipe.eval.suite
    unknown = [suite for suite in (*suites, *request.data) if suite not in SUITES]
    if unknown:
        raise UsageError(f"no suite is called {unknown[0]!r}", f"there are {', '.join(SUITES)}")
    tasks: dict[str, Task] = {}
    for suite in suites:
        if suite in CORPUS_SUITES:
            tasks[f"{suite}-written" if request.write_choices else suite] = corpus_task(
                suite, recipe, request
            )
        for shots in (request.shots or recipe.eval.shots) if suite in BENCHMARKS else ():
            name = f"{suite}-{shots}shot" if shots else suite
            tasks[name] = benchmark_task(suite, shots, request.data.get(suite))
    more = "-exact" if request.exact else ""
    if request.quantise not in ("", recipe.model.quantise):
        more += f"-{HELD[request.quantise]}"
    return {f"{name}{more}": task for name, task in tasks.items()}


def as_asked(recipe: Recipe, request: Request) -> Recipe:
    """The recipe, its base quantised as the request says."""
    if not request.quantise:
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"quantise": request.quantise})})


def corpus_task(suite: str, recipe: Recipe, request: Request) -> Task:
    """A suite of the corpus that the command line or the recipe names. Errors: DataError."""
    from doitune.evals.suites import doit
    from doitune.prepare.draw import other_corpus, recipe_corpus

    data = recipe.data
    corpus = (
        other_corpus(data, request.corpus)
        # a run may have learnt the kept-out rows of another
        if request.corpus and list(request.corpus) != [one.place for one in data.corpora]
        else recipe_corpus(data)
    )
    source = CORPUS_SUITES[suite].source
    if source not in corpus.sources():
        raise DataError(
            f"corpus {corpus.name} has no "
            + (f"rows to ask for {suite}, and none were kept out" if corpus.is_own else f"{source} to ask"),
            'give rows "split": "test", have some kept out (data.holdout), or name another: --corpus PATH'
            if corpus.is_own
            else "add it, or name another corpus: --corpus PATH",
        )
    most = recipe.eval.max_new_tokens
    found = doit.task(
        suite,
        as_declared(corpus.read(source), recipe.declared_forms),
        choice="write" if request.write_choices else "letters",
        caps=dict.fromkeys(CAPPED, most) if most else None,
    )
    own = {name: section for name, section in recipe.abilities.items() if name in found.sets}
    titles = {name: section.title for name, section in own.items() if section.title}
    chances = {name: section.chance for name, section in own.items() if section.chance is not None}
    return replace(found, titles=titles, chances=chances)
