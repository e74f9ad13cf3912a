"""`doitune data`: get a corpus, check it, and see what a recipe learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doitune.cli.options import CorpusName, Json, Model, RecipeName, Sets

data_app = typer.Typer(help="Get a corpus, check it, and see what a recipe learns from.", no_args_is_help=True)


@data_app.command("draw")
def draw(
    recipe: RecipeName,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the ids here, one a line.")] = None,
    as_json: Json = False,
) -> None:
    """Which examples a recipe learns from, in order, and the ledger. Needs no base model.

    Example: doitune data draw curated-160 --corpus demo --out ids.txt
    """
    from doitune import console
    from doitune.cookbook import resolve
    from doitune.disk import write_whole
    from doitune.prepare import drawn

    found = drawn(resolve(recipe, model=model, corpus=corpus, overrides=sets or []))
    if out is not None:
        write_whole(out, "".join(f"{name}\n" for name in found["ids"]))
    if as_json:
        console.show_json(found)
    else:
        console.show_draw(found, None if out is None else str(out))


@data_app.command("check")
def check(
    corpus: Annotated[str, typer.Argument(help="demo, doit, or the path of a corpus.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Count tokens with this model's tokenizer.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="With --model: the longest row that may be learnt from.")] = 2048,
    as_json: Json = False,
) -> None:
    """Bad rows, hidden characters, control tokens, duplicates, and leaks into the sets that a model is judged on. Exit 65 if there are any.

    Example: doitune data check demo --model demo
    """
    from doitune import console
    from doitune.corpus import open_corpus
    from doitune.corpus_check import check as check_corpus
    from doitune.prepare import row_lengths

    lengths, tokens = row_lengths(model) if model else (None, ())
    report = check_corpus(open_corpus(corpus), encode_lengths=lengths, max_tokens=max_tokens if model else None, role_tokens=tokens)
    if as_json:
        console.show_json(report.to_json())
    else:
        console.show_check(report)
    if not report.clean:
        raise typer.Exit(65)
