"""The model recipes' names: from a name to its model section and to the command that assembles it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doitune.errors import ModelError
from doitune.recipe.files import find_model, list_models
from doitune.recipe.resolve import resolve

if TYPE_CHECKING:
    from doitune.recipe.fields import ModelSection


def model_section(name: str) -> ModelSection:
    """The model section of the model recipe `name`. ModelError lists the known names."""
    if find_model(name) is None:
        known = ", ".join(card.name for card in list_models())
        raise ModelError(f"there is no model recipe `{name}`", f"known are {known}")
    return resolve("baseline", model=name).recipe.model


def make_command(model_name: str) -> str:
    """The command that assembles the base that a recipe calls `model_name`."""
    named = [card.name for card in list_models() if model_section(card.name).name == model_name]
    return (
        f"`doitune base make {named[0]} --from LLAMA`"
        if named
        else "`doitune base make NAME --from LLAMA --out FOLDER`"
    )
