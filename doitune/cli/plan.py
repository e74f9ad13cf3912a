"""`doitune plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli.options import CardSize, CorpusName, Json, Model, RecipeName, Sets, words

if TYPE_CHECKING:
    from doitune.memory.simulation.foreign import ForeignPlan


def plan(
    recipe: RecipeName,
    model: Model = None,
    corpus: CorpusName = None,
    card: CardSize = None,
    sets: Sets = None,
    backend: Annotated[
        str, typer.Option("--backend", help="unsloth or hf. Default: the recipe's; auto counts as unsloth.")
    ] = "",
    what_if: Annotated[
        str | None,
        typer.Option(
            "--what-if",
            help="What doitune avoids, counted: full-logits, trained-embeddings, ... (a wrong name lists all).",
        ),
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="Also run the model's real code (any of transformers) under fake tensors: seconds, no card.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """What a recipe needs on a card, term by term, and whether it fits (exit 78 if not), before anything is
    downloaded.

    Without --card: the card in this machine, else one of 24 GiB.

    Example: doitune plan reconstruct --model 33b --card 24gb
    """
    from doitune.console import screen
    from doitune.memory import plan as memory
    from doitune.memory.cards import choose_card
    from doitune.recipe.resolve import resolve

    resolved = resolve(recipe, model=model, corpus=corpus, overrides=sets or [])
    if simulate:
        from doitune.memory.simulation.compare import compare
        from doitune.memory.simulation.foreign import is_foreign, plan_foreign

        if is_foreign(resolved.recipe.model):
            _show_foreign(
                plan_foreign(resolved, choose_card(card), backend=backend, what_if=words(what_if)),
                as_json=as_json,
            )
            return
    found = memory.plan_memory(resolved, choose_card(card), backend=backend, what_if=words(what_if))
    seen = memory.outlook(resolved.recipe, found)
    simulated = compare(found) if simulate else None
    if as_json:
        screen.show_json(
            {**memory.document(found, seen), **({"simulation": simulated.to_json()} if simulated else {})}
        )
    else:
        from doitune.console import plan as displays_plan

        displays_plan.show_memory(found, seen, simulated)
    if not found.fits:
        raise typer.Exit(78)


def _show_foreign(plan: ForeignPlan, *, as_json: bool) -> None:
    from doitune.console import plan as displays_plan
    from doitune.console import screen

    if as_json:
        screen.show_json(plan.to_json())
    else:
        displays_plan.show_foreign(plan)
    if not plan.fits:
        raise typer.Exit(78)
