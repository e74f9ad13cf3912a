"""`doitune eval`, `score` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli import completion, options
from doitune.cli.options import BenchmarkData, CorpusName, Json, Moved, Runs, finite, folders, words
from doitune.data.suites import BENCHMARKS, DEFAULT_SUITE, SUITES
from doitune.errors import UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from doitune.evals.compare import Side
    from doitune.evals.judge import Judgement

Targets = Annotated[
    list[str],
    typer.Argument(
        help="Runs (`last`, a name, a folder), checkpoint or adapter folders, or bases (demo, a hub name, a "
        "folder).",
        autocompletion=completion.targets,
    ),
]
Suites = Annotated[
    str | None,
    typer.Option(
        "--suite",
        help=f"{', '.join(SUITES)}; several with commas. Default: the recipe's.",
        autocompletion=completion.suites,
    ),
]
Checkpoints = Annotated[
    str, typer.Option("--checkpoint", help="best, last, all or step numbers; several with commas.")
]
Limit = Annotated[
    float | None,
    typer.Option("--limit", help="A seeded sample: at most this many questions of each set, or a share."),
]
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots",
        help="Solved examples before a benchmark's question, e.g. 0,5; at most: "
        f"{', '.join(f'{name} {benchmark.most_shots}' for name, benchmark in BENCHMARKS.items())}.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol", help="fixed, paper or fixed,paper: whose scores are shown (both are always computed)."
    ),
]
Exact = Annotated[
    bool,
    typer.Option("--exact", help="One question at a time: slow, and no score depends on its neighbours."),
]
WriteChoices = Annotated[
    bool,
    typer.Option(
        "--write-choices", help="Let the model write its single choices, as the released code does: slower."
    ),
]
Quantise = Annotated[
    str,
    typer.Option(
        "--quantise",
        help="nf4 or none: hold the base so, whatever the recipe says; kept in a folder of its own. Default: "
        "the recipe's.",
    ),
]
WithBase = Annotated[
    bool, typer.Option("--base/--no-base", help="Ask the untrained base beside its adapter.")
]


def evaluate(
    targets: Targets,
    suite: Suites = None,
    checkpoint: Checkpoints = "best",
    limit: Limit = None,
    corpus: CorpusName = None,
    shots: Shots = None,
    data: BenchmarkData = None,
    protocol: Protocol = "fixed",
    exact: Exact = False,
    write_choices: WriteChoices = False,
    base: WithBase = True,
    model: Moved = "",
    quantise: Quantise = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Ask and score: the ten abilities or public benchmarks, base beside adapter. An interrupted evaluation
    goes on where it was.

    Example: doitune eval last --suite cmmlu --shots 0,5 --data cmmlu=CMMLU/data
    """
    from doitune.console import progress, scores, screen
    from doitune.evals.request import Request
    from doitune.evals.targets import evaluate_target, is_lone, run_of

    protocols = one_of(protocol, ("fixed", "paper"), "--protocol")
    if quantise not in ("", "nf4", "none"):
        raise UsageError(f"--quantise {quantise!r} is not known", "nf4: 4 bits; none: 16 or 32 bits")
    request = Request(
        suites=words(suite),
        checkpoints=words(checkpoint),
        limit=limit,
        corpus=tuple(options.corpora(corpus)),
        with_base=base,
        shots=numbers(shots, "--shots"),
        data=folders(data or ()),
        exact=exact,
        write_choices=write_choices,
        model=model,
        quantise=quantise,
    )
    asked = [None if is_lone(one) else run_of(one, runs) for one in targets]  # `last`: of now
    with progress.LiveLine() as line:
        found = [
            one
            for target in targets
            for one in evaluate_target(target, request, runs=runs, on_progress=line.questions)
        ]
    if as_json:
        screen.show_json(
            {
                "schema": "doitune.eval/1",
                "evaluations": [entry for one in found for entry in one.entries(protocols)],
            }
        )
    else:
        scores.show_evaluations(found, protocols)
        scores.show_next(asked, runs)


def one_of(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """The parts of a list with commas, each of them known. UsageError."""
    found = words(text)
    if not found or not set(found) <= set(known):
        raise UsageError(f"{option} {text!r} is not of {', '.join(known)}", "several with commas")
    return found


def numbers(text: str | None, option: str) -> tuple[int, ...]:
    """Whole numbers with commas, each once. UsageError."""
    found = words(text)
    if not all(part.isdecimal() and part.isascii() for part in found):
        raise UsageError(f"{option} {text!r} is no list of whole numbers", f"for example {option} 0,5")
    return tuple(dict.fromkeys(int(part) for part in found))


def score(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR|RUN",
            help="An evaluation's folder, RUN/evals/SUITE/CHECKPOINT; or a run (`last`): all that it has.",
            autocompletion=completion.runs,
        ),
    ],
    wrong: Annotated[
        int, typer.Option("--wrong", min=0, help="Also print this many wrong answers to read.")
    ] = 0,
    only: Annotated[str, typer.Option("--set", help="With --wrong: of this set only.")] = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Read and score saved replies again, without a model.

    Example: doitune score last --wrong 5 --set math
    """
    from doitune.console import progress, scores, screen
    from doitune.evals.evaluate import score_folder
    from doitune.evals.evaluation import Evaluation
    from doitune.evals.find import evaluations_of
    from doitune.evals.markdown import answers_markdown, wrong_answers

    target, folders = evaluations_of(folder, runs)
    with progress.LiveLine():
        found = [Evaluation(target, one.name, score_folder(one)) for one in folders]
    if as_json:
        entries = [entry for one in found for entry in one.entries(("fixed", "paper"))]
        screen.show_json({"schema": "doitune.eval/1", "evaluations": entries})
        return
    scores.show_evaluations(found, ("fixed", "paper"))
    for one in folders if wrong else ():
        screen.say(f"{one}:")
        screen.say(answers_markdown(wrong_answers(one, only=only, at_most=wrong)))


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B ...]",
            help="Runs (RUN, RUN@base, RUN@STEP) or evaluation folders; alone: the base beside it.",
            autocompletion=completion.runs,
        ),
    ],
    suite: Annotated[
        str,
        typer.Option(
            "--suite", help=f"Which evaluation of a run: {', '.join(SUITES)}, with shots e.g. cmmlu-5shot."
        ),
    ] = DEFAULT_SUITE,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", help="Points in %: is B no worse than A by more than this?", callback=finite
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="ADDRESS",
            help="Have a model at this OpenAI-compatible address prefer between free answers; rows and "
            "answers go there.",
        ),
    ] = "",
    judge_model: Annotated[
        str, typer.Option("--judge-model", metavar="NAME", help="The judge's name at that address.")
    ] = "",
    judge_limit: Annotated[
        int | None, typer.Option("--judge-limit", min=1, help="At most this many questions of each set.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Evaluations side by side: paired tests, intervals, flips both ways. The first is the one that the
    others are compared with.

    Example: doitune compare last
    """
    from doitune.console import progress, scores, screen
    from doitune.evals.compare import compare as paired
    from doitune.evals.find import find_evaluations

    first, *others = find_evaluations(sides, suite=suite, runs=runs)
    with progress.LiveLine():
        found = [paired(first, other, margin=None if margin is None else margin / 100) for other in others]
        judged = _judged(judge, judge_model, judge_limit, [(first, other) for other in others])
    if as_json:
        pairs = [row for one in found for row in one.rows()]
        more = {"judged": [one.to_json() for one in judged]} if judge else {}
        screen.show_json({"schema": "doitune.compare/1", "pairs": pairs, **more})
    else:
        scores.show_comparisons(found)
        scores.show_judgements(judged)


def _judged(
    address: str, model: str, limit: int | None, pairs: Sequence[tuple[Side, Side]]
) -> list[Judgement]:
    """What a judge prefers of each pair; nothing without an address."""
    if not address:
        if model or limit:
            raise UsageError("a judge has no address", "name it: --judge http://127.0.0.1:8000/v1")
        return []
    from doitune.evals.judge import Judge, judge_pairs

    judge = Judge(address, model)
    return [
        line
        for a, b in pairs
        for line in judge_pairs(a.folder, b.folder, judge, names=(a.name, b.name), limit=limit)
    ]
