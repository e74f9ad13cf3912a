"""Where a recipe's architecture is read: its model file, a folder's config.json, the hub library's cache,
or that one file from the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.architecture import Architecture, read_architecture
from doitune.base.families import FAMILIES, names_of
from doitune.base.folder import is_hub_name, read_config
from doitune.errors import ModelError
from doitune.system.paths import from_home

if TYPE_CHECKING:
    from doitune.recipe.fields import ModelSection


@dataclass(frozen=True)
class Shape:
    """A base's sizes, where they are said, and whether its weights lie there in 4 bits already, with
    scales in 8 bits or (not `nested`) in 32, and which of its layers (`wide`, see Setting) are not."""

    architecture: Architecture
    place: str
    quantised: bool = False
    nested: bool = True
    wide: tuple[tuple[str, int], ...] = ()


def find_shape(section: ModelSection) -> Shape:
    """The sizes of a recipe's base; nothing but a config.json is ever fetched. Errors: ModelError."""
    if section.architecture.hidden is not None:
        place, own = "model.architecture", Path(section.name)
        architecture = replace(
            read_architecture(_as_config(section), place), beside=section.architecture.beside
        )
        config, at = _read(own) if (own / "config.json").is_file() else ({}, place)
    else:
        config, place = find_config(section.name, section.revision)
        architecture, at = read_architecture(config, place), place
    lies = stored(config, at)
    return Shape(architecture, place, lies.quantised, lies.nested, wide_layers(lies.skipped, architecture))


def has_no_closed_form(section: ModelSection) -> bool:
    """Whether the closed form does not know the blocks of a recipe's base. Errors: ModelError."""
    if section.architecture.hidden is not None:
        return False
    return str(find_config(section.name, section.revision)[0].get("model_type", "")) not in FAMILIES


@dataclass(frozen=True)
class Stored:
    """How weights lie on disk: `quantised` to NF4, with scales in 8 bits (`nested`), but for the modules that
    `skipped` names."""

    quantised: bool = False
    nested: bool = True
    skipped: tuple[str, ...] = ()


def stored(config: Mapping[str, Any], place: str) -> Stored:
    """What a config.json says of it. ModelError for another kind than NF4."""
    found = config.get("quantization_config")
    if not found:
        return Stored()
    if not isinstance(found, dict) or found.get("bnb_4bit_quant_type") != "nf4":
        method = (
            found.get("quant_method", "in an unknown way") if isinstance(found, dict) else "in an unknown way"
        )
        raise ModelError(
            f"{place}: the base is quantised already ({method}), and not in NF4",
            "give the base in 16 bits, or one in NF4",
        )
    return Stored(True, found.get("bnb_4bit_use_double_quant") is True, _skipped(found))


def _skipped(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of modules that are not quantised."""
    names = found.get("llm_int8_skip_modules")
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


_OTHER_TOWERS = re.compile("vision|visual|audio|image|speech")
"""Parts of a model of more than text, whose blocks are not the decoder's."""


def wide_layers(skipped: Iterable[str], architecture: Architecture) -> tuple[tuple[str, int], ...]:
    """The linear layers that are kept in 16 bits, each with the number of blocks in which it is; `skipped` as
    transformers takes it: a module's path, its beginning or its end."""
    blocks: dict[str, set[int]] = {}
    for name in skipped:
        if _OTHER_TOWERS.search(name):
            continue
        _, inside, rest = f".{name}.".rpartition(".layers.")
        first, _, last = rest.partition(".") if inside else ("", "", rest.lstrip("."))
        layers = [int(first)] if first.isdecimal() else [] if inside else range(architecture.layers)
        for one in architecture.family.linears:
            if f".{last}" in (".", f".{one.part}.", f".{one.name}.", f".{one.part}.{one.name}."):
                blocks.setdefault(one.name, set()).update(i for i in layers if i < architecture.layers)
    return tuple(
        (one.name, len(blocks[one.name])) for one in architecture.family.linears if blocks.get(one.name)
    )


def find_config(name: str, revision: str = "") -> tuple[dict[str, Any], str]:
    """The config.json of `demo`, a folder, or a repository on the hub, and where it was found. Errors:
    ModelError."""
    if name == "demo":
        from doitune.demo.folder import BASE

        return _read(BASE)
    folder = from_home(name)
    if folder.is_dir():
        return _read(folder)
    if not is_hub_name(name):
        raise ModelError(
            f"there is no model folder {name!r}",
            "give a folder, a name of `doitune recipes list`, or a hub name like owner/name",
        )
    return _read(_from_hub(name, revision).parent)


def _as_config(section: ModelSection) -> dict[str, Any]:
    """The sizes of a model recipe under the names of a config.json."""
    sizes = section.architecture.model_dump()
    sizes["key_value_heads"] = sizes["key_value_heads"] or sizes["heads"]
    return {"model_type": section.family, **names_of(section.family).config(sizes)}


def _read(folder: Path) -> tuple[dict[str, Any], str]:
    return read_config(folder), str(folder / "config.json")


def _from_hub(name: str, revision: str) -> Path:
    """config.json of one repository: from the cache, else fetched alone."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
        return Path(
            cached
            if isinstance(cached, str)
            else hf_hub_download(name, "config.json", revision=revision or None)
        )
    except (LocalEntryNotFoundError, ConnectionError) as error:
        raise _unreachable(name, error) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"the hub has no {name!r} with a config.json that you may read",
            "check the name, or `hf auth login`",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> ModelError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"the config.json of {name!r} is neither in the cache nor to be had from the hub: {first}",
        "`HF_ENDPOINT` names a mirror; offline, give a folder with its config.json (--model FOLDER), or "
        "write model.architecture",
    )
