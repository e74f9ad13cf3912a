"""The card of an export, section by section.

It names no file, folder or row of the user's: abilities with their counts, settings, scores, and what nobody
has checked. Its examples are what `tests/test_export_card.py` runs.
"""

from __future__ import annotations

from pathlib import Path

from doitune.data.corpus import KNOWN
from doitune.errors import CheckpointError
from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, MERGED, Handed, plain, table
from doitune.export.card.head import front_matter
from doitune.export.card.parity import parity, unchecked
from doitune.export.card.scores import read_scores, scores
from doitune.export.card.use import use
from doitune.export.licences import base_licence, data_licences
from doitune.recipe.budget import Ledger
from doitune.run.layout import LEDGER, ORIGIN
from doitune.system.disk import write_whole
from doitune.system.secrets import redact

CARD = "README.md"

SETTINGS = (
    *("lora.rank", "lora.alpha", "lora.dropout", "lora.targets", "model.quantise", "prompt.template"),
    *("train.learning_rate", "train.schedule", "train.warmup_steps", "train.optimizer", "train.beta2"),
    *("train.weight_decay", "train.epochs", "train.max_steps", "train.examples_per_step", "train.max_tokens"),
    *("train.seed", "data.seed", "data.holdout"),
)
"""Fields of the recipe that the card shows: those that make the result, none that is a path."""


def write_card(folder: Path, handed: Handed, *, kept: bool = False) -> None:
    """Put the card of an export into its folder; `kept`: one that is there stays, since its author may have
    added to it. Errors: CheckpointError, DiskError."""
    if not (kept and (folder / CARD).is_file()):
        write_whole(folder / CARD, redact(model_card(handed)))


def model_card(handed: Handed) -> str:
    """The text of the card. Errors: CheckpointError."""
    found = read_scores(handed.source)
    parts = [
        front_matter(handed, found),
        f"# {plain(handed.title)}",
        _what(handed),
        "## Use",
        use(handed),
        "## Is it the trained model?",
        parity(handed),
        "## What it learned from",
        _data(handed),
        "## How",
        _recipe(handed),
        "## Scores",
        *scores(handed.source, found),
        "## What was not checked",
        unchecked(handed),
        "## Licences",
        _licences(handed),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(handed: Handed) -> str:
    source, rank = handed.source, handed.source.recipe.lora.rank
    kinds = {
        ADAPTER: f"A LoRA adapter (rank {rank}) for {_base(handed)}",
        GGUF_ADAPTER: f"A LoRA adapter (rank {rank}) for {_base(handed)}, and that base, for llama.cpp",
        MERGED: f"One model of {_base(handed)} and a LoRA adapter (rank {rank}) merged into it",
        GGUF: f"Files for llama.cpp of {_base(handed)} and a LoRA adapter (rank {rank}) merged into it",
    }
    recipe = plain(source.run.folder.parent.name)
    step = f"step {source.checkpoint.step} of the recipe {recipe}"
    by = (source.run.read_json(ORIGIN).get("versions") or {}).get(
        "doitune", ""
    )  # not who exports: who trained
    return f"{kinds[handed.to]}, trained with doitune{by and f' {plain(str(by))}'}: {step}."


def _base(handed: Handed) -> str:
    base = handed.base
    if base.on_hub:
        at = f" at commit `{base.revision}`" if base.revision else ""
        return f"[{base.name}](https://huggingface.co/{base.name}){at}"
    if handed.source.base.name == "demo":
        return "the tiny base that doitune ships (`doitune/demo/base` in its package)"
    return f"the base {plain(Path(base.name).name)}"


def _data(handed: Handed) -> str:
    """The ledger: rows by ability, never one of them."""
    source = handed.source
    try:
        ledger = Ledger.from_json(source.run.read_json(LEDGER))
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{LEDGER} was changed: {error}", "bring the old file back") from None
    columns, lines = ledger.table()
    corpora = [one.place for one in source.recipe.data.corpora]
    what = " ".join(f"The corpus `{name}`." for name in corpora if name in KNOWN)
    if handed.datasets:
        what = f"{what} From the hub: {', '.join(f'`{name}`' for name in handed.datasets)}.".lstrip()
    if not set(corpora) <= set(KNOWN):
        what = f"{what} Rows of its author's own choice, which are not here.".lstrip()
    rows = [[plain(str(name)), *(f"{count:,}" for count in counts)] for name, *counts in lines]
    passed = source.checkpoint.step * source.recipe.train.examples_per_step
    early = f"At step {source.checkpoint.step} it had passed {passed:,} of them, each at most once."
    return f"{what} Rows by ability:\n\n{table(columns, rows)}" + (
        f"\n\n{early}" if passed < ledger.total().trained else ""
    )


def _recipe(handed: Handed) -> str:
    """The settings that make the result."""
    source, rows = handed.source, []
    for name in SETTINGS:
        section, _, field = name.partition(".")
        value = getattr(getattr(source.recipe, section), field)
        value = source.template.kind if name == "prompt.template" else value
        shown = f"{value:g}" if isinstance(value, float) else plain(str(value))
        rows.append([f"`{name}`", shown])
    versions = source.run.read_json(ORIGIN).get("versions") or {}
    said = ", ".join(f"{plain(str(name))} {plain(str(one))}" for name, one in dict(versions).items())
    return table(("field", "value"), rows) + (f"\n\nVersions: {said}." if said else "")


def _licences(handed: Handed) -> str:
    base = handed.base
    where = f"see [its page](https://huggingface.co/{base.name})" if base.on_hub else "see where it came from"
    known = base_licence(handed.source)
    licence = f" ({known})" if known else ""
    return (
        f"The base has a licence of its own{licence}, which binds what is made of it: {where}. "
        f"{data_licences(handed.source.recipe)} This card states no licence for what was trained: that is "
        "its author's to add (`license:` in the head)."
    )
