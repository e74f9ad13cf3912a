"""The model recipes' names: from a name to its model section and to the command that assembles it."""

from __future__ import annotations

from doitune.errors import ModelError
from doitune.recipe.files import find_model, list_models
from doitune.recipe.model_section import ModelSection
from doitune.recipe.nodes import Fields
from doitune.recipe.typed import read_section
from doitune.recipe.yaml_text import read_file


def model_section(name: str) -> ModelSection:
    """The model section of the model recipe `name`. ModelError lists the known names."""
    source = find_model(name)
    if source is None:
        known = ", ".join(card.name for card in list_models())
        raise ModelError(f"there is no model recipe `{name}`", f"known are {known}")
    said = read_file(source.path, source.shown).entries["model"]
    assert isinstance(said, Fields)
    return read_section(ModelSection, said, source.shown)


def make_command(model_name: str) -> str:
    """The command that assembles the base that a recipe calls `model_name`."""
    named = [card.name for card in list_models() if model_section(card.name).name == model_name]
    return (
        f"`doitune base make {named[0]} --from LLAMA`"
        if named
        else "`doitune base make NAME --from LLAMA --out FOLDER`"
    )
