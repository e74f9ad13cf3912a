"""From what a user asks for to an order that can be carried out: parts found or fetched, compared with the
model recipe, tokenizer and all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.base.assembly import open_assembly
from doitune.base.families import FAMILIES, Family, stated
from doitune.base.folder import ASSEMBLED, is_hub_name, read_config
from doitune.base.make import Order
from doitune.base.named import model_section
from doitune.base.tokens import read_tokens
from doitune.data.bring import OnProgress
from doitune.errors import ModelError, Problem, UsageError
from doitune.system.paths import from_home
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.base.assembly import Assembly
    from doitune.recipe.fields import ModelSection

KINDS = ("nf4", "bf16", "fp16")


@dataclass(frozen=True)
class Wish:
    """`doitune base make`: `name` of the model recipe; `source` and `loras` are folders or hub names;
    `out` None is the recipe's folder."""

    name: str
    source: str
    loras: tuple[str, ...] = ()
    out: Path | None = None
    to: str = "nf4"


def take_order(wish: Wish, on_note: Callable[[str], None], on_progress: OnProgress | None = None) -> Order:
    """Find or fetch the parts and check that they fit together. Errors: UsageError, ModelError with all
    problems, DiskError."""
    if wish.to not in KINDS:
        raise UsageError(f"--to {wish.to!r} is not one of {', '.join(KINDS)}", "nf4 is what training uses")
    section = model_section(wish.name)
    out = _out(wish, section)
    base = _part(wish.source, on_note, on_progress)
    names = wish.loras or _default_loras(wish.name, base, section)
    if names and not wish.loras:
        on_note(f"language LoRA of {wish.name}: {names[0]} (another: --lora)")
    loras = [(name, _part(name, on_note, on_progress)) for name in names]
    parts = open_assembly(base, loras)
    _compare(wish.name, parts, section)
    tokens = read_tokens([base, *(folder for _, folder in loras)], parts.vocabulary)
    if tokens.note:
        on_note(tokens.note)
    if any(
        path.suffix == ".bin"
        for weights in (parts.base, *(lora.weights for lora in parts.loras))
        for path in weights.files
    ):
        on_note(".bin files are opened by torch's restricted reader: tensors only, nothing in them is run")
    parts = replace(parts, config={**parts.config, **_ends(parts.config, tokens.end_ids())})
    named = tuple(
        {"part": part, "name": name}
        for part, name in [("base", wish.source), *(("lora", name) for name in names)]
    )
    return Order(wish.name, parts, tokens.files, wish.to, out, named)


def _out(wish: Wish, section: ModelSection) -> Path:
    """Where the base goes: the recipe's own folder unless another is named."""
    if wish.out is not None:
        return from_home(wish.out)
    if not section.name.startswith(ASSEMBLED):
        raise UsageError(
            f"the recipe of {wish.name} names {section.name}, which is no folder of yours",
            "say where to write: --out FOLDER",
        )
    return Path(section.name)


def _part(name: str, on_note: Callable[[str], None], on_progress: OnProgress | None) -> Path:
    """The folder of a part: as it is, or brought from the hub."""
    folder = from_home(name)
    if folder.is_dir():
        return folder.resolve()
    if not is_hub_name(name):
        raise ModelError(f"there is no folder {name!r}", "give a folder, or a hub name like owner/name")
    from doitune.base.fetch import bring, cached_folder, look_up

    here = cached_folder(name)
    try:
        wanted = look_up(name, parts=True)
    except ModelError:
        if here is None:
            raise
        on_note(f"the hub cannot be asked; {name} is taken from its cache: {here}")
        return here
    on_note(
        f"{name}: {wanted.bytes / GIB:.1f} GiB, {wanted.missing_bytes / GIB:.1f} GiB of them to fetch "
        f"into {wanted.folder}"
    )
    return bring(wanted, on_progress)


def _default_loras(name: str, base: Path, section: ModelSection) -> tuple[str, ...]:
    """The recipe's language LoRA, unless the base has the recipe's vocabulary already: then it is merged,
    and only quantised."""
    known = FAMILIES.get(section.family, Family()).language_loras.get(name)
    has_it = section.architecture.vocabulary == stated(read_config(base), "vocabulary")
    return () if known is None or has_it else (known,)


def _compare(name: str, parts: Assembly, section: ModelSection) -> None:
    """The parts make the base that the recipe describes. ModelError with every size that differs."""
    wanted = section.architecture
    own = parts.architecture
    if wanted.hidden is None or own is None:
        return
    sizes = ("hidden", "intermediate", "layers", "heads", "vocabulary")
    wrong = [
        (size, found, asked)
        for size in sizes
        if (found := getattr(own, size)) != (asked := getattr(wanted, size))
    ]
    hint = f"is it the right size? the recipe {name} is of {wanted.hidden} x {wanted.layers} layers"
    if [size for size, _, _ in wrong] == ["vocabulary"]:
        hint = f"name its language LoRA: --lora {own.family.language_loras.get(name, 'FOLDER')}"
    if wrong:
        place = str(parts.folder)
        raise ModelError.of(
            Problem(place, f"{size} would be {found}, the recipe {name} has {asked}", hint)
            for size, found, asked in wrong
        )


def _ends(config: dict[str, object], ends: dict[str, int]) -> dict[str, object]:
    """The config's end ids as the tokenizer has them, and no padding id outside of the vocabulary: early
    conversions of LLaMA had both wrong."""
    pad = config.get("pad_token_id")
    return {**ends, "pad_token_id": pad if isinstance(pad, int) and pad >= 0 else None}
