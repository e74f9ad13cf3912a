"""`doitune plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli import options
from doitune.cli.options import CardSize, CorpusName, Json, Model, RecipeOrOwn, Sets, words
from doitune.errors import FitError

if TYPE_CHECKING:
    from doitune.memory.plan import MemoryPlan
    from doitune.memory.simulation.compare import Comparison
    from doitune.memory.simulation.foreign import ForeignPlan


def plan(
    recipe: RecipeOrOwn = None,
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
            help="What doitune avoids, counted: full-logits, trained-embeddings, ... "
            "(a wrong name lists all).",
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

    A model whose blocks the closed form does not know is simulated, which takes seconds and torch.
    Without --card: the card in this machine, else one of 24 GiB.

    Example: doitune plan reconstruct --model 33b --card 24gb
    """
    from doitune.console import progress, screen
    from doitune.console.plan import show_memory
    from doitune.memory.cards import choose_card
    from doitune.memory.plan import document, outlook, plan_memory
    from doitune.memory.shape import has_no_closed_form

    resolved = options.resolved(recipe, model, corpus, sets)
    if has_no_closed_form(resolved.recipe.model):
        from doitune.memory.simulation.foreign import plan_foreign

        with progress.LiveLine():
            foreign = plan_foreign(resolved, choose_card(card), backend=backend, what_if=words(what_if))
        _show_foreign(foreign, as_json=as_json)
        return
    with progress.LiveLine():
        found = plan_memory(resolved, choose_card(card), backend=backend, what_if=words(what_if))
        seen = outlook(resolved.recipe, found)
        simulated = _simulated(found) if simulate else None
    if as_json:
        more = {"simulation": simulated.to_json()} if simulated else {}
        screen.show_json({**document(found, seen), **more})
    else:
        show_memory(found, seen, simulated)
    _refuse(fits=found.fits)


def _simulated(found: MemoryPlan) -> Comparison:
    from doitune.memory.simulation.compare import compare

    return compare(found)


def _show_foreign(plan: ForeignPlan, *, as_json: bool) -> None:
    from doitune.console import screen
    from doitune.console.plan import show_foreign
    from doitune.memory.simulation.foreign import document

    screen.show_json(document(plan)) if as_json else show_foreign(plan)
    _refuse(fits=plan.fits)


def _refuse(*, fits: bool) -> None:
    if not fits:
        raise typer.Exit(FitError.exit_code)
