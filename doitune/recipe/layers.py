"""Layers: the sources of a recipe's values, the last one wins; merged, and where each value came from.

Whichever layer names a known model (`model: {name: 7b}`, or `--model 7b`) gets that model's file right below
itself. Only the last named model counts: what an earlier name brought or said about its base (commit, role
tokens, sizes, note) is gone, so that no fact of one base is said of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from doitune.errors import RecipeError, UsageError
from doitune.recipe.files import Source, find_model, is_there, model_names, parent_of, unknown
from doitune.recipe.nodes import Fields, Items, Node, Scalar, quote
from doitune.recipe.yaml_text import read_file, read_value

_OF_THE_BASE = {
    "model": ("revision", "family", "architecture", "note"),
    "prompt": ("user_token", "assistant_token", "end_token"),
}
"""Fields that are facts of one base, by section."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Layer:
    """One source of values, and what its origins say before and behind a value's place."""

    tree: Fields
    before: str = ""
    behind: str = ""


def layers_of(
    source: Source, model: str | None, corpora: Sequence[str], overrides: Sequence[str]
) -> list[Layer]:
    """A recipe, its parents, its model's file and its flags, lowest first. Errors: RecipeError; UsageError
    for a `--set` without `=`."""
    layers = _chain(source)
    if model is not None:
        layers.append(Layer(_model_choice(model)))
    if corpora:
        named = tuple(Scalar(corpus, "--corpus", quoted=True) for corpus in corpora)
        layers.append(
            Layer(_nest("data.corpus", Items(named, "--corpus") if named[1:] else named[0], "--corpus"))
        )
    layers += [Layer(_override(text)) for text in overrides]
    return _with_model_files(layers)


def merged(layers: Sequence[Layer], shown: str) -> Fields:
    """All layers as one tree; `shown` names it where it is empty."""
    return reduce(_merge, (layer.tree for layer in layers), Fields({}, shown))


def _chain(source: Source) -> list[Layer]:
    """The recipe and its parents, the farthest parent first. A recipe's summary and alias are its own."""
    layers: list[Layer] = []
    seen: list[Source] = []
    current: Source | None = source
    while current is not None:
        ring = [one.path.resolve() for one in seen]
        if current.path.resolve() in ring:
            names = [one.name for one in seen[ring.index(current.path.resolve()) :]] + [current.name]
            raise RecipeError(
                f"recipes extend each other in a ring: {' -> '.join(names)}",
                "let one of them go",
                place=seen[-1].shown,
            )
        tree = read_file(current.path, current.shown)
        seen.append(current)
        own = {
            key: node
            for key, node in tree.entries.items()
            if key != "extends" and (not layers or key not in ("summary", "alias_of"))
        }
        layers.insert(0, Layer(Fields(own, current.shown)))
        current = parent_of(tree, current)
    return layers


def _model_choice(name: str) -> Fields:
    """`--model`: a known name, a folder, or a repository on the hub."""
    place = f"--model {name}"
    is_folder = is_there(Path(name)) and Path(name).is_dir()
    if find_model(name) is None and not is_folder and not _HUB_ID.fullmatch(name):
        hint = "give a name of `doitune recipes list`, a folder that exists, or OWNER/NAME on the hub"
        raise unknown("model", name, model_names(), hint)
    return _nest("model.name", Scalar(name, place, quoted=True), place)


def _override(text: str) -> Fields:
    """`--set key=value` as a tree."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or any(not part for part in key.split(".")):
        raise UsageError(f"--set {quote(text)} is not of the form key=value", "as in --set lora.rank=32")
    if key == "extends":
        raise UsageError("--set cannot change `extends`", "write a recipe that extends the other parent")
    if key.count(".") > 8:
        raise RecipeError(f"no field {quote(key)}", place=f"--set {text}")
    place = f"--set {text}"
    return _nest(key, read_value(value, place), place)


def _nest(dotted: str, node: Node, place: str) -> Fields:
    for part in reversed(dotted.split(".")):
        node = Fields({part: node}, place)
    assert isinstance(node, Fields)
    return node


def _named_model(tree: Fields) -> Scalar | None:
    section = tree.entries.get("model")
    name = section.entries.get("name") if isinstance(section, Fields) else None
    return name if isinstance(name, Scalar) and not name.is_null else None


def _with_model_files(layers: list[Layer]) -> list[Layer]:
    """The layers, with the last named model's file below the layer that names it, and no fact of an
    earlier base."""
    naming = [number for number, layer in enumerate(layers) if _named_model(layer.tree)]
    if not naming:
        return layers
    last = naming[-1]
    name = _named_model(layers[last].tree)
    assert name is not None
    below = [Layer(_without_base_facts(layer.tree)) for layer in layers[:last]]
    source = find_model(name.text)
    if source is None:
        return [*below, *layers[last:]]
    tree = read_file(source.path, source.shown)
    tree = Fields({key: node for key, node in tree.entries.items() if key != "summary"}, source.shown)
    flag = name.place.startswith("--")
    wording = (f"{name.place} (", ")") if flag else ("", f" (model {name.text} of {name.place})")
    own, real = layers[last].tree, _named_model(tree)
    if real is not None and real.text != name.text:  # the file names the repository or folder itself
        own = _drop(own, "model", ("name",))
    return [*below, Layer(tree, *wording), Layer(own), *layers[last + 1 :]]


def _without_base_facts(tree: Fields) -> Fields:
    for section, keys in _OF_THE_BASE.items():
        tree = _drop(tree, section, keys)
    return _drop(tree, "model", ("name",))


def _drop(tree: Fields, section: str, keys: tuple[str, ...]) -> Fields:
    inner = tree.entries.get(section)
    if not isinstance(inner, Fields):
        return tree
    kept = Fields({key: node for key, node in inner.entries.items() if key not in keys}, inner.place)
    return Fields({**tree.entries, section: kept}, tree.place)


def _merge(parent: Fields, child: Fields) -> Fields:
    """Mappings merge, everything else replaces; an empty section replaces nothing, one that is written `null`
    takes its defaults."""
    entries = dict(parent.entries)
    for key, node in child.entries.items():
        below = entries.get(key)
        if isinstance(below, Fields) and isinstance(node, Fields):
            entries[key] = _merge(below, node)
        elif not (isinstance(below, Fields) and isinstance(node, Scalar) and node.is_null and not node.text):
            entries[key] = node
    return Fields(entries, child.place if child.entries else parent.place)


def origins_of(layers: Sequence[Layer], names: Iterable[str]) -> dict[str, str]:
    """Where each field of these dotted names got its value: `file:line`, a flag, or "default"."""
    said: dict[str, str] = {}
    for layer in layers:
        for name, node in _leaves(layer.tree):
            null = isinstance(node, Scalar) and node.is_null
            if isinstance(node, Scalar) and null and node.text:  # a whole section, too
                said = {other: at for other, at in said.items() if not other.startswith(f"{name}.")}
            said[name] = "default" if null else f"{layer.before}{node.place}{layer.behind}"
    return {name: said.get(name, "default") for name in names}


def _leaves(tree: Fields, prefix: str = "") -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for key, node in tree.entries.items():
        found += _leaves(node, f"{prefix}{key}.") if isinstance(node, Fields) else [(prefix + key, node)]
    return found
