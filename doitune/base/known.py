"""Bases that have a name: the models of recipes/models, what assembles them, and what of them is on this
disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doitune.base.find import find_base
from doitune.base.folder import ASSEMBLED, Base, find_whole, is_hub_name
from doitune.base.named import make_command, model_section
from doitune.base.record import model_files, read_record
from doitune.errors import ModelError
from doitune.recipe.files import find_model, list_models
from doitune.system.paths import from_home


@dataclass(frozen=True)
class KnownBase:
    """A named base on this machine. `state`: whole, absent, or what it lacks. `folder` is "" and `bytes` 0
    where it is absent."""

    name: str
    model: str
    state: str
    folder: str
    bytes: int
    recorded: bool
    get: str


def list_bases() -> tuple[KnownBase, ...]:
    """Every named base, in the order of the model recipes; the hub is not asked."""
    return tuple(_known(card.name) for card in list_models())


def _known(name: str) -> KnownBase:
    section = model_section(name)
    get = (
        make_command(section.name).strip("`")
        if section.name.startswith(ASSEMBLED)
        else f"doitune base fetch {name}"
    )
    folder = folder_here(section.name, section.revision)
    if folder is None:
        return KnownBase(name, section.name, "absent", "", 0, False, get)
    try:
        state, recorded = _state(find_whole(folder))
    except ModelError as error:
        state, recorded = error.problem, False
    size = sum(path.stat().st_size for path in model_files(folder))
    return KnownBase(name, section.name, state, str(folder), size, recorded, "" if state == "whole" else get)


def _state(base: Base) -> tuple[str, bool]:
    """Whether the files have their recorded sizes, and whether there is a record; `base check` reads the
    bytes, too."""
    record = read_record(base.folder)
    if record is None:
        return "whole", False
    sizes = {path.name: path.stat().st_size for path in model_files(base.folder)}
    wrong = [name for name, known in record["files"].items() if sizes.get(name) != known["bytes"]]
    return (f"not as recorded: {', '.join(wrong[:3])}" if wrong else "whole"), True


def folder_here(model_name: str, revision: str = "") -> Path | None:
    """Where a base lies on this machine; the hub is not asked. None where it is nowhere."""
    if model_name == "demo":
        return find_base("demo").folder
    folder = from_home(model_name)
    if folder.is_dir():
        return folder.resolve()
    if not is_hub_name(model_name):
        return None
    from doitune.base.fetch import cached_folder

    return cached_folder(model_name, revision)


def on_the_hub(name: str, revision: str = "") -> tuple[str, str]:
    """Hub name and revision of what `name` calls: a model recipe, or owner/name itself. ModelError where
    the hub has no part in it."""
    if find_model(name) is not None:
        section = model_section(name)
        name, revision = section.name, revision or section.revision
    if name == "demo" or from_home(name).is_dir():
        raise ModelError(
            f"{name} is on this disk already", f"`doitune base check {name}` compares it with its record"
        )
    if name.startswith(ASSEMBLED):
        raise ModelError(
            f"{name} may not be published whole, so there is nothing to fetch",
            f"assemble it: {make_command(name)}",
        )
    if not is_hub_name(name):
        known = ", ".join(card.name for card in list_models())
        raise ModelError(
            f"{name!r} is neither a known model nor a hub name",
            f"hub names look like owner/name; known are {known}",
        )
    return name, revision


def folder_called(name: str) -> Path:
    """The folder of a base on this disk by its path, recipe's name or hub name. ModelError says how to get
    it."""
    is_folder = from_home(name).is_dir()
    section = None if is_folder or find_model(name) is None else model_section(name)
    folder = folder_here(section.name if section else name, section.revision if section else "")
    if folder is None:
        model = section.name if section else name
        hint = make_command(model) if model.startswith(ASSEMBLED) else f"`doitune base fetch {name}`"
        if "/" not in model:
            hint = "give a folder, a name of `doitune base list`, or owner/name"
        raise ModelError(f"there is no base {name!r} on this disk", hint)
    return folder
