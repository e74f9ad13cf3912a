"""Where a run came from, what it says before step 1, and what must not have changed since."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from doitune.backends.probe import weights_sha256
from doitune.base.folder import Base
from doitune.base.sentencepiece import MODEL_FILE
from doitune.data.checksums import origin_of
from doitune.data.corpus import KNOWN
from doitune.errors import CheckpointError, Problem
from doitune.prepare.account import count_rows, rates, schedule_text
from doitune.prepare.draw import recipe_corpus
from doitune.prepare.material import Material
from doitune.prompt.encode import fingerprint
from doitune.recipe.tree import as_tree
from doitune.system.secrets import redacted
from doitune.system.units import GIB
from doitune.system.versions import versions

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.recipe.fields import Recipe

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "safetensors", "numpy")
"""Libraries whose version can change a result."""


def opening(recipe: Recipe, material: Material, model: LoadedModel) -> list[str]:
    """What a reader must know before step 1, in sentences: the rows and what of them is trained, the
    schedule, how the model computes."""
    stored = "in NF4" if recipe.model.quantise == "nf4" else "unquantised"
    if wide := _wide_gib(recipe, model):
        stored += (
            f", but for {_gib(wide)} GiB of its blocks in {model.compute_dtype} (experts of a mixture, eyes, "
            "or layers that the base keeps so),"
        )
    return [
        count_rows(material.ledger, material.encoded).text,
        schedule_text(recipe.train, material.course.total_steps),
        f"the base is loaded {stored} and computes in {model.compute_dtype} on {model.device}",
        *_template(material),
        *_moment(material),
        *material.notes,
    ]


def _template(material: Material) -> list[str]:
    """How a conversation becomes tokens, and why, where nobody named it."""
    template = material.template
    if template.why:
        kind = "the model's own chat template" if template.kind == "model" else "the recipe's turns (doit)"
        return [f"turns are written in {kind}: {template.why} (prompt.template)"]
    return []


def _moment(material: Material) -> list[str]:
    """That the base's own template prints the time, where it does."""
    if not material.template.reads_clock:
        return []
    always = f"it is always {material.template.moment} for this run"
    return [f"the base's chat template prints the time: {always}, also when it is asked"]


def origin(
    recipe: Recipe, base: Base, material: Material, model: LoadedModel, backend: str
) -> dict[str, Any]:
    """What origin.json says about where a run's result comes from. `model` is as it was loaded: before
    any training."""
    tokenizer = material.template.tokenizer
    roles = {
        "user": material.template.user_id,
        "assistant": material.template.assistant_id,
        "end": material.template.end_id,
    }
    named = {
        role: None if number < 0 else tokenizer.convert_ids_to_tokens(number)
        for role, number in roles.items()
    }
    record = {
        "schema": "doitune.origin/1",
        "versions": versions(LIBRARIES),
        "platform": platform.platform(),
        "command": sys.argv,
        "backend": backend,
        "device": _device(model),
        "wide_gib": _wide_gib(recipe, model),
        "compute": {"dtype": model.compute_dtype, "quantise": recipe.model.quantise},
        "adapter": {"first_sha256": weights_sha256(model), **_masks(recipe)},
        "rows": asdict(count_rows(material.ledger, material.encoded)),
        "rates": dict(
            zip(("first", "highest", "last"), rates(recipe.train, material.course.total_steps), strict=True)
        ),
        "base": {"name": base.name, "revision": base.revision, "files": base.sha256()},
        "data": {
            "corpus": as_tree(recipe)["data"]["corpus"],
            "files": dict(material.data_sha256),
            "leaks": len(material.leaks),
            **_fetched(recipe),
        },
        "places": _places(recipe, base, material),
        "prompt": {"template": material.template.kind, "why": material.template.why},
        "moment": material.template.moment,
        "encoder": {
            "fingerprint": fingerprint(material.template),
            "roles": named,
            "role_ids": roles,
            **({"cut_by": MODEL_FILE} if material.template.cut and material.template.cut.mark else {}),
        },
    }
    return dict(redacted(record))


def _masks(recipe: Recipe) -> dict[str, str]:
    """How dropout chooses, where anything is dropped."""
    from doitune.backends.dropout import KIND

    return {"dropout": KIND} if recipe.lora.dropout else {}


def _wide_gib(recipe: Recipe, model: LoadedModel) -> float:
    """GiB of blocks' matrices that are not in 4 bits though the recipe asks for 4; else 0."""
    from doitune.backends.four_bits import wide_bytes

    return wide_bytes(model.adapter.peft.get_base_model()) / GIB if recipe.model.quantise == "nf4" else 0.0


def _gib(amount: float) -> str:
    return f"{amount:.1f}" if amount >= 0.1 else f"{amount:.2g}"


def _places(recipe: Recipe, base: Base, material: Material) -> dict[str, Any]:
    """Where the corpus and the base were found, absolute, "" for names that are no path; and the digests of
    the files with the rows that a run is judged on."""
    corpus = recipe_corpus(recipe.data)
    places = [
        "" if entry.place in KNOWN else str(one.root.resolve())
        for entry, one in zip(recipe.data.corpora, corpus.units, strict=True)
    ]
    return {
        "corpus": places if corpus.parts else places[0],
        "base": "" if base.revision or base.name == "demo" else str(base.folder.resolve()),
        "judged_sources": list(material.judged_sha256),
        "judged": {path: sha for files in material.judged_sha256.values() for path, sha in files.items()},
    }


def _fetched(recipe: Recipe) -> dict[str, Any]:
    """From which hub and commit rows of one's own were fetched; nothing where none were."""
    own = [one for one in recipe_corpus(recipe.data).units if one.is_own and one.root.is_dir()]
    fetched = {one.name: found for one in own if (found := origin_of(one.root))["source"]}
    return {"fetched": fetched} if fetched else {}


def _device(model: LoadedModel) -> str:
    """`cpu`, or `cuda` and the card's name: other cards round otherwise."""
    import torch

    return (
        f"cuda: {torch.cuda.get_device_name(model.device)}"
        if model.device.type == "cuda"
        else str(model.device)
    )


def refuse_drift(
    before: Mapping[str, Any], now: Mapping[str, Any], run_name: str, *, allow: Collection[str] = ()
) -> None:
    """CheckpointError with every difference, where the base, data, encoder, backend, device or a library is
    not what the run started with.

    `allow`: parts that may differ. The recipe itself is compared by `run.changes`.
    """
    problems = []
    moved = before.get("device") != now.get("device") and "device" in allow
    follows = (
        {"compute", "adapter"} if moved else set()
    )  # another device has its own dtype, and draws other first values
    for part in ("versions", "base", "data", "encoder", "backend", "compute", "adapter", "device"):
        if part in allow or part in follows:
            continue
        old, new = _flat(before.get(part)), _flat(now.get(part))
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key):
                problems.append(Problem(run_name, f"{part}{key}: was {old.get(key)}, is {new.get(key)}"))
    if problems:
        first = problems[0]
        cure = "bring the old one back, or start a new run from this run's recipe.yaml"
        raise CheckpointError.of([Problem(first.place, first.problem, cure), *problems[1:]])


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {
            key: leaf
            for name, inner in value.items()
            for key, leaf in _flat(inner, f"{prefix}.{name}").items()
        }
    return {prefix: value}
