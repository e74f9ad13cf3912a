"""Where a recipe's architecture is read: its model file, a folder's config.json, the hub library's cache,
or that one file from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.architecture import Architecture, read_architecture
from doitune.base.families import names_of
from doitune.base.folder import is_hub_name, read_config
from doitune.errors import ModelError
from doitune.system.paths import from_home

if TYPE_CHECKING:
    from doitune.recipe.fields import ModelSection


@dataclass(frozen=True)
class Shape:
    """A base's sizes, where they are said, and whether its weights lie there in 4 bits already, with
    scales in 8 bits or (not `nested`) in 32."""

    architecture: Architecture
    place: str
    quantised: bool = False
    nested: bool = True


def find_shape(section: ModelSection) -> Shape:
    """The sizes of a recipe's base; nothing but a config.json is ever fetched. Errors: ModelError."""
    if section.architecture.hidden is not None:
        place, own = "model.architecture", Path(section.name)
        architecture = read_architecture(_as_config(section), place)
        config, at = _read(own) if (own / "config.json").is_file() else ({}, place)
    else:
        config, place = find_config(section.name, section.revision)
        architecture, at = read_architecture(config, place), place
    return Shape(architecture, place, *quantised(config, at, architecture.linears))


def quantised(config: Mapping[str, Any], place: str, linears: Iterable[str] = ()) -> tuple[bool, bool]:
    """Whether a base is in NF4 already, and whether its scales are nested. ModelError for another kind, or
    where blocks have 16-bit layers (`linears`: the names of a block's own)."""
    found = config.get("quantization_config")
    if not found:
        return False, True
    if not isinstance(found, dict) or found.get("bnb_4bit_quant_type") != "nf4":
        method = (
            found.get("quant_method", "in an unknown way") if isinstance(found, dict) else "in an unknown way"
        )
        raise ModelError(
            f"{place}: the base is quantised already ({method}), and not in NF4",
            "give the base in 16 bits, or one in NF4",
        )
    skipped = [
        str(name) for name in found.get("llm_int8_skip_modules") or () if _is_in_a_block(str(name), linears)
    ]
    if skipped:
        problem = (
            f"{place}: {len(skipped)} parts of its blocks are not in 4 bits (first {skipped[0]}), which the "
            "memory plan does not count"
        )
        raise ModelError(problem, "give the base in 16 bits, or one whose blocks are all in NF4")
    return True, found.get("bnb_4bit_use_double_quant") is True


def _is_in_a_block(name: str, linears: Iterable[str]) -> bool:
    parts = name.split(".")
    return "layers" in parts or parts[-1] in (*linears, "self_attn", "mlp")


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
