"""`doitune data`: get a corpus, check it, and see what a recipe learns from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from doitune.cli import completion, options
from doitune.cli.group import group
from doitune.cli.options import (
    AbilityColumn,
    AnswerColumn,
    BenchmarkData,
    CorpusName,
    Json,
    Model,
    QuestionColumn,
    RecipeOrOwn,
    Rows,
    RowsAbility,
    Sets,
    folders,
    words,
)
from doitune.data.suites import BENCHMARKS, Benchmark
from doitune.errors import DataError

data_app = group("Get a corpus, check it, and see what a recipe learns from.")


Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Count tokens with this model's tokenizer.", autocompletion=completion.models
    ),
]
Declared = Annotated[
    str, typer.Option("--declared", help="Abilities of your own that look like known ones, with commas.")
]


@data_app.command("draw")
def draw(
    recipe: RecipeOrOwn = None,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the ids here, one a line.")] = None,
    as_json: Json = False,
) -> None:
    """Which examples a recipe learns from, in order, and the ledger. Needs no base model.

    Example: doitune data draw curated-160 --corpus demo --out ids.txt
    """
    from doitune.console import examples, progress, screen
    from doitune.prepare.draw import drawn
    from doitune.system.publish import refuse_result, write_result

    resolved = options.resolved(recipe, model, corpus, sets)
    if out is not None:
        refuse_result(out)
    with progress.LiveLine():
        found = drawn(resolved)
    if out is not None:
        write_result(out, "".join(f"{name}\n" for name in found["ids"]))
    if as_json:
        screen.show_json(found)
    else:
        examples.show_draw(found, None if out is None else str(out))


@data_app.command("check")
def check(
    corpus: Annotated[
        list[str],
        typer.Argument(help="demo, doit, or paths of corpora.", autocompletion=completion.corpora),
    ],
    model: Tokenizer = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="With --model: the longest row that may be learnt from.")
    ] = 2048,
    rows: Rows = "doit",
    ability: RowsAbility = "",
    question_column: QuestionColumn = "",
    answer_column: AnswerColumn = "",
    ability_column: AbilityColumn = "",
    declared: Declared = "",
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help=f"Leaks into these benchmarks too, with commas: {', '.join(BENCHMARKS)}."
        ),
    ] = None,
    data: BenchmarkData = None,
    as_json: Json = False,
) -> None:
    """Bad rows, hidden characters, control tokens, duplicates, and leaks into the sets that a model is judged
    on. Exit 65 if there are any.

    Example: doitune data check demo --model demo
    """
    from doitune.console import examples, progress, screen
    from doitune.data.check import check as check_corpus
    from doitune.data.corpus import open_several
    from doitune.evals.suites.files import judged_rows
    from doitune.prepare.draw import row_form
    from doitune.prepare.material import row_lengths
    from doitune.system.streams import need_results

    need_results()
    named = options.corpora(corpus)
    form = row_form(rows, ability, options.columns(question_column, answer_column), ability_column)
    with progress.LiveLine():
        lengths, tokens = row_lengths(model) if model else (None, ())
        judged = judged_rows(words(against), folders(data or ()))
        report = check_corpus(
            open_several([(one, form) for one in named]),
            against=judged,
            encode_lengths=lengths,
            max_tokens=max_tokens if model else None,
            role_tokens=tokens,
            declared=words(declared),
        )
    if as_json:
        screen.show_json(report.to_json())
    else:
        examples.show_check(report)
    if not report.clean:
        raise typer.Exit(DataError.exit_code)


@data_app.command("convert")
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A file or folder of your own rows, - (stdin), or OWNER/NAME on the hub.",
            autocompletion=completion.corpora,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .jsonl or .jsonl.gz.")],
    rows: Rows = "doit",
    ability: RowsAbility = "",
    question_column: QuestionColumn = "",
    answer_column: AnswerColumn = "",
    ability_column: AbilityColumn = "",
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Write the others where rows cannot be read, and name these.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write rows of your own in doitune's own form: JSON lines of messages, ability and what else they say.

    Example: doitune data convert table.csv rows.jsonl --question-column 问 --answer-column 答
    """
    from doitune.console import examples, progress, screen
    from doitune.data.convert import convert as write
    from doitune.data.corpus import open_corpus
    from doitune.prepare.draw import row_form
    from doitune.system.streams import need_results

    need_results()
    form = row_form(rows, ability, options.columns(question_column, answer_column), ability_column)
    [name] = options.corpora([source])
    with progress.LiveLine():
        found = write(open_corpus(name, form), out, leave_out=leave_out, force=force)
    screen.show_json(found.to_json()) if as_json else examples.show_converted(found)


def _listed(benchmarks: Iterable[Benchmark]) -> str:
    return "; ".join(
        f"{one.name} ({one.title}; {one.mib:g} MiB; licence {one.licence})" for one in benchmarks
    )


@data_app.command("fetch")
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="doit; OWNER/NAME[:CONFIG][@SPLIT] on a hub; or a benchmark: "
            f"{_listed(BENCHMARKS.values())}."
        ),
    ] = "doit",
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="huggingface, modelscope; doit: also a folder or git clone; benchmarks: a zip archive.",
        ),
    ] = "",
    revision: Annotated[
        str, typer.Option("--revision", help="A commit of the source; default: the one of the first fetch.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a corpus or a benchmark into the cache, with a checksum for every file. `HF_ENDPOINT` and
    `HF_HUB_OFFLINE` are honoured.

    Example: doitune data fetch doit --from ../dynamics-of-instruction-tuning
    """
    from doitune.console import progress, screen
    from doitune.data.checksums import origin_of
    from doitune.data.fetch import fetch as bring
    from doitune.evals.suites.files import fetch as bring_benchmark

    if name in BENCHMARKS:
        with progress.LiveLine() as line:
            place, licence = bring_benchmark(name, source, on_file=line.note), BENCHMARKS[name].licence
        found: dict[str, object] = {"name": name, "path": str(place), "licence": licence}
        text = f"{name} is in {place}; licence: {licence}"
    else:
        with progress.LiveLine() as line:
            corpus = bring(name, source or "huggingface", revision=revision, on_progress=line.file)
        sources = list(corpus.sources())
        found = {"name": corpus.name, "path": str(corpus.root), "sources": sources, **origin_of(corpus.root)}
        text = f"{corpus.name} is in {corpus.root}: {', '.join(sources)}"
    screen.show_json({"schema": "doitune.fetch/1", **found}) if as_json else screen.say(text)


@data_app.command("preview")
def preview(
    recipe: RecipeOrOwn = None,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    ability: Annotated[str | None, typer.Option("--ability", help="Only these, with commas.")] = None,
    as_json: Json = False,
) -> None:
    """One row of each ability as the model sees it: trained tokens in colour (or in brackets), role tokens by
    name.

    Example: doitune data preview demo --ability math,ethics
    """
    from dataclasses import asdict

    from doitune.backends.tokenizer import recipe_template
    from doitune.console import examples, progress, screen
    from doitune.prepare.preview import preview as preview_of

    resolved = options.resolved(recipe, model, corpus, sets)
    with progress.LiveLine():
        template = recipe_template(resolved.recipe, options.moment(recipe))
        found = preview_of(resolved, template, abilities=words(ability) or None)
    if as_json:
        screen.show_json({"schema": "doitune.preview/1", **asdict(found)})
    else:
        examples.show_preview(found.rows, found.notes)


@data_app.command("stats")
def stats(
    recipe: RecipeOrOwn = None,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the histograms here, as SVG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Lengths in tokens by ability, the trained share, and a histogram.

    Example: doitune data stats reconstruct --corpus demo --model demo --picture lengths.svg
    """
    from dataclasses import asdict

    from doitune.backends.tokenizer import recipe_template
    from doitune.console import examples, progress, screen
    from doitune.prepare.histogram import histogram_svg
    from doitune.prepare.stats import measure
    from doitune.system.publish import refuse_result, write_result

    resolved = options.resolved(recipe, model, corpus, sets)
    if picture is not None:
        refuse_result(picture)
    with progress.LiveLine():
        found = measure(resolved, recipe_template(resolved.recipe, options.moment(recipe)))
    if picture is not None:
        write_result(picture, histogram_svg(found))
    if as_json:
        screen.show_json({"schema": "doitune.stats/1", **asdict(found)})
    else:
        examples.show_stats(found, None if picture is None else str(picture))
