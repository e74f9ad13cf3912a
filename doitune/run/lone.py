"""An adapter apart from its run: a folder that peft wrote, with the base that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.adapter import CONFIG, open_adapter
from doitune.base.consistent import read_settings
from doitune.base.find import find_base
from doitune.base.folder import is_hub_name
from doitune.errors import ModelError

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel, LoadRequest
    from doitune.base.folder import Base
    from doitune.prompt.template import Template

EXPORT, TOKENIZER = "export.json", "tokenizer.json"


@dataclass(frozen=True)
class Lone:
    """A loaded adapter, its base (`quantise`: as it was loaded) and its encoder; `notes`: what was taken from
    where."""

    base: Base
    quantise: str
    model: LoadedModel
    template: Template
    notes: tuple[str, ...]


def open_lone(folder: Path, moved_to: str = "") -> Lone:
    """Load the adapter in `folder` on its base; `moved_to`: where that is, if not where the adapter says.

    The turns are those of its own tokenizer, as `doitune export --to adapter` writes it, else the base's.
    Errors: ModelError; CheckpointError for an adapter that is not the base's.
    """
    from doitune.backends.pick import begin, pick_backend
    from doitune.system.doing import doing

    said = read_settings(folder / CONFIG)
    name = moved_to or said.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError("it names no base", "--model says where the base is", place=str(folder / CONFIG))
    revision = said.get("revision")
    try:
        base = find_base(name, revision if isinstance(revision, str) and not moved_to else "")
    except ModelError as error:
        if moved_to or is_hub_name(name):
            raise
        place = str(folder / CONFIG)
        raise ModelError(
            f"its base, {name!r}, is not here", "--model FOLDER says where it is", place=place
        ) from error
    begin("auto", base)
    template = _template(folder, base)
    how, notes = _request(folder, base)
    doing("loading torch and the libraries around it")
    model = pick_backend("auto", base)[1].load(how)
    model.load_adapter(folder)
    model.training(False)
    told = (f"adapter on {base.name}", *notes, *filter(None, [template.why]))
    return Lone(base, how.quantise, model, template, told)


def _template(folder: Path, base: Base) -> Template:
    from doitune.backends.tokenizer import folder_template, tokenizer_template
    from doitune.recipe.fields import PromptSection

    if (folder / TOKENIZER).is_file():
        return folder_template(folder, base)
    return tokenizer_template(base, PromptSection())


def _request(folder: Path, base: Base) -> tuple[LoadRequest, tuple[str, ...]]:
    """How the base is loaded for this adapter: in the values that it was trained on, where it says."""
    from doitune.backends.loaded import LoadRequest

    lora = open_adapter(str(folder), folder)
    if lora.own:
        raise ModelError(
            f"it has {len(lora.own)} matrices of its own beside the LoRA, first {min(lora.own)}",
            "merge it into its base: doitune base make",
            place=str(folder),
        )
    (rank,) = {lora.weights.table[below].shape[0] for below, _ in lora.factors.values()}
    targets = {name.removesuffix(".weight").rpartition(".")[2] for name in lora.factors}
    path = folder / EXPORT
    export: dict[str, Any] = read_settings(path) if path.is_file() else {}
    against = export.get("trained_against")
    notes = () if against else ("the base in 4 bits, as the adapter does not say what it was trained on",)
    request = LoadRequest(
        base,
        quantise="none" if against == "own" else "nf4",
        rank=rank,
        alpha=lora.scale * rank,
        targets=tuple(sorted(targets)),
    )
    return request, notes
