"""`doitune plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli.options import CardSize, CorpusName, Json, Model, RecipeName, Sets, words

if TYPE_CHECKING:
    from doitune.memory.foreign import ForeignPlan


def plan(
    recipe: RecipeName,
    model: Model = None,
    corpus: CorpusName = None,
    card: CardSize = None,
    sets: Sets = None,
    backend: Annotated[str, typer.Option("--backend", help="unsloth or hf. Default: the recipe's; auto counts as unsloth.")] = "",
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", help="What doitune avoids, counted: full-logits, trained-embeddings, ... (a wrong name lists all)."),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also run the model's real code (any of transformers) under fake tensors: seconds, no card.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What a recipe needs on a card, term by term, and whether it fits (exit 78 if not), before anything is downloaded.

    Without --card: the card in this machine, else one of 24 GiB.

    Example: doitune plan reconstruct --model 33b --card 24gb
    """
    from doitune import console, memory
    from doitune.cookbook import resolve
    from doitune.memory.cards import choose_card

    resolved = resolve(recipe, model=model, corpus=corpus, overrides=sets or [])
    if simulate:
        from doitune.memory.foreign import is_foreign, plan_foreign
        from doitune.memory.simulated import compare

        if is_foreign(resolved.recipe.model):
            _show_foreign(plan_foreign(resolved, choose_card(card), backend=backend, what_if=words(what_if)), as_json=as_json)
            return
    found = memory.plan_memory(resolved, choose_card(card), backend=backend, what_if=words(what_if))
    seen = memory.outlook(resolved.recipe, found)
    simulated = compare(found) if simulate else None
    if as_json:
        console.show_json({**memory.document(found, seen), **({"simulation": simulated.to_json()} if simulated else {})})
    else:
        from doitune import displays_plan

        displays_plan.show_memory(found, seen, simulated)
    if not found.fits:
        raise typer.Exit(78)


def _show_foreign(plan: ForeignPlan, *, as_json: bool) -> None:
    from doitune import console, displays_plan

    if as_json:
        console.show_json(plan.to_json())
    else:
        displays_plan.show_foreign(plan)
    if not plan.fits:
        raise typer.Exit(78)
