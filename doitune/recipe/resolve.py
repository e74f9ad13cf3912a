"""Recipes on disk: find them, layer them, say where each value came from, freeze the result.

Layers, last wins: field default, parents (`extends`, one by name), the recipe, `--model`, `--corpus`,
`--set`. Whichever layer names a known model (`model: {name: 7b}`, or `--model 7b`) gets that model's file
right below itself. Only the last named model counts: what an earlier name brought or said about its base
(commit, role tokens, sizes, note) is gone, so that no fact of one base is told of another.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.errors import Problem, RecipeError, UsageError
from doitune.recipe.fields import Recipe
from doitune.recipe.typed import as_tree, check_names, flatten, read_recipe
from doitune.recipe.yaml_text import Fields, Node, Scalar, quote, read_file, read_value, write_tree

MODEL_SECTIONS = ("summary", "model", "prompt", "lora", "train")
"""What a file of recipes/models may set."""
_OF_THE_BASE = ("revision", "family", "architecture", "note"), ("user_token", "assistant_token", "end_token")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """A recipe's file. `shown` is its name in places; `builtin`: it came with doitune."""

    name: str
    path: Path
    shown: str
    builtin: bool


@dataclass(frozen=True)
class Layer:
    """One source of values, and what its origins say before and behind a value's place."""

    tree: Fields
    before: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Resolved:
    """A recipe with everything said, and for every dotted field where it was said."""

    name: str
    path: Path
    recipe: Recipe
    origins: dict[str, str]


@dataclass(frozen=True)
class RecipeCard:
    """A line of `doitune recipes list`."""

    name: str
    path: str
    summary: str
    alias_of: str | None = None


@dataclass(frozen=True)
class Difference:
    """A field that two recipes fill differently; None where one of them does not have it."""

    field: str
    a: Any
    b: Any


def recipes_folder() -> Path:
    """The built-in recipes: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def find(name_or_path: str) -> Source:
    """The file of a recipe: a built-in name, or a path (it holds a separator or ends in .yaml). Errors:
    RecipeError, nearest names told."""
    if not _is_path(name_or_path):
        return _builtin(name_or_path, "recipe")
    path = Path(name_or_path)
    if _is_there(path) and path.is_dir():
        inner = path / "recipe.yaml"
        hint = f"give its recipe: {inner}" if inner.is_file() else "give a file that ends in .yaml"
        raise RecipeError("is a folder, not a recipe", hint, place=name_or_path)
    name = path.stem
    if path.name == "recipe.yaml" and (path.parent / "origin.json").is_file():
        name = path.resolve().parent.parent.name  # runs/<recipe>/<date-time>/recipe.yaml
    return Source(name, path, name_or_path, False)


def find_model(name: str) -> Source | None:
    """The file of a known base model, or None."""
    path = recipes_folder() / "models" / f"{name}.yaml"
    known = not _is_path(name) and name in _stems(recipes_folder() / "models")
    return Source(name, path, f"recipes/models/{name}.yaml", True) if known else None


def resolve(
    name_or_path: str, *, model: str | None = None, corpus: str | None = None, overrides: Sequence[str] = ()
) -> Resolved:
    """A recipe, resolved. Errors: RecipeError with all problems; UsageError for a `--set` without `=`."""
    source = find(name_or_path)
    layers = _chain(source)
    if model is not None:
        layers.append(Layer(_model_choice(model)))
    if corpus is not None:
        layers.append(Layer(_nest("data.corpus", Scalar(corpus, "--corpus", quoted=True), "--corpus")))
    layers += [Layer(_override(text)) for text in overrides]
    layers = _with_model_files(layers)
    tree = Fields({}, source.shown)
    for layer in layers:
        tree = _merge(tree, layer.tree)
    recipe = read_recipe(tree, source.shown)
    return Resolved(source.name, source.path, recipe, _origins(layers, recipe))


def list_recipes() -> tuple[RecipeCard, ...]:
    """The built-in recipes by name, numbers in their order."""
    names = (name for name in _stems(recipes_folder()) if not name.startswith("_"))
    return tuple(_card(_builtin(name, "recipe")) for name in sorted(names, key=_natural))


def list_models() -> tuple[RecipeCard, ...]:
    """The base models that have a file."""
    found = (find_model(name) for name in sorted(_stems(recipes_folder() / "models"), key=_natural))
    return tuple(_card(source) for source in found if source)


def diff(a: Recipe, b: Recipe) -> tuple[Difference, ...]:
    """Dotted fields that differ, in the order of the fields."""
    left, right = flatten(as_tree(a)), flatten(as_tree(b))
    keys = list(dict.fromkeys([*left, *right]))
    return tuple(
        Difference(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)
    )


def copy(name: str, target: str) -> Path:
    """The text of a recipe, comments and all, as a file of one's own; nothing is written over. Errors:
    RecipeError."""
    source = find(name)
    path = Path(target)
    if _is_there(path) and path.is_dir():
        path = path / f"{source.name}.yaml"
    if path.suffix not in _SUFFIXES:
        raise RecipeError("is not the name of a recipe file", "end it in .yaml", place=str(path))
    tree = read_file(source.path, source.shown)
    landed = Source(path.stem, path, str(path), False)
    before, after = _parent(tree, source), _parent(tree, landed)
    if before and after and before.path.resolve() != after.path.resolve():
        raise RecipeError(
            f"`extends: {before.name}` would mean another file there: {after.shown}",
            "copy it elsewhere",
            place=str(path),
        )
    try:
        with path.open("x", encoding="utf-8", newline="") as stream:
            stream.write(source.path.read_bytes().decode("utf-8"))
    except FileExistsError as error:
        raise RecipeError("exists already", "choose another name", place=str(path)) from error
    except OSError as error:
        raise RecipeError(
            f"cannot be written: {error.strerror}", "choose another folder", place=str(path)
        ) from error
    return path


def check(paths: Iterable[str]) -> tuple[Problem, ...]:
    """All problems of all these recipes."""
    found: list[Problem] = []
    for path in paths:
        try:
            resolve(path)
        except RecipeError as error:
            found += error.problems
    return tuple(dict.fromkeys(found))


def freeze(resolved: Resolved) -> str:
    """The whole recipe as text that reads back equal, wherever it lies, with no parent and no flag."""
    return f"# resolved from {quote(resolved.name)[1:-1]}\n{write_tree(as_tree(resolved.recipe))}"


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or "\\" in text or text.endswith(_SUFFIXES)


def _is_there(path: Path) -> bool:
    """Whether the path exists; a name that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _stems(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.yaml")]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """curated-40 before curated-160."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", name)]


def _builtin(name: str, what: str) -> Source:
    names = _stems(recipes_folder())
    if name not in names:
        raise _unknown(what, name, [known for known in names if not known.startswith("_")])
    return Source(name, recipes_folder() / f"{name}.yaml", f"recipes/{name}.yaml", True)


def _unknown(what: str, name: str, known: list[str], hint: str = "") -> RecipeError:
    near = difflib.get_close_matches(name[:80], known, 3, 0.5)
    asked = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
    return RecipeError(
        f"no {what} {quote(name)}{asked}", hint or f"known: {', '.join(sorted(known, key=_natural))}"
    )


def _card(source: Source) -> RecipeCard:
    tree = read_file(source.path, source.shown)
    summary, alias = (tree.entries.get(key) for key in ("summary", "alias_of"))
    return RecipeCard(
        source.name,
        source.shown,
        summary.text if isinstance(summary, Scalar) else "",
        alias.text if isinstance(alias, Scalar) else None,
    )


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
        current = _parent(tree, current)
    return layers


def _parent(tree: Fields, child: Source) -> Source | None:
    """Where `extends` leads: beside a file on disk, then to the built-in recipes; never out of either
    folder."""
    node = tree.entries.get("extends")
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return None
    if not isinstance(node, Scalar):
        raise RecipeError("`extends` takes one name", "write `extends: _base`", place=node.place)
    if re.search(r"[/\\:\x00-\x1f]", node.text) or node.text.startswith("."):
        hint = "put the parent beside this file, or name a built-in recipe"
        raise RecipeError(
            f"`extends` is {quote(node.text)}; it takes a name, not a path", hint, place=node.place
        )
    name = node.text.removesuffix(".yaml")
    beside = child.path.parent / f"{name}.yaml"
    builtin = recipes_folder() / f"{name}.yaml"
    if (
        not child.builtin
        and _is_there(beside)
        and not (beside.resolve() == child.path.resolve() and _is_there(builtin))
    ):
        if beside.resolve().parent != child.path.parent.resolve():
            raise RecipeError(
                f"the parent `{name}` is a link that leads out of its folder",
                "copy it here",
                place=node.place,
            )
        return Source(name, beside, str(Path(child.shown).parent / beside.name), False)
    if not _is_there(builtin):
        error = _unknown("recipe", name, _stems(recipes_folder()))
        raise RecipeError(f"`extends`: {error.problem}", error.hint, place=node.place)
    return _builtin(name, "recipe")


def _model_choice(name: str) -> Fields:
    """`--model`: a known name, a folder, or a repository on the hub."""
    place = f"--model {name}"
    if (
        find_model(name) is None
        and not (_is_there(Path(name)) and Path(name).is_dir())
        and not _HUB_ID.fullmatch(name)
    ):
        hint = "give a name of `doitune recipes list`, a folder that exists, or OWNER/NAME on the hub"
        raise _unknown("model", name, _stems(recipes_folder() / "models"), hint)
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
    real = _named_model(tree)
    own = (
        layers[last].tree
        if real is None or real.text == name.text
        else _drop(layers[last].tree, "model", ("name",))
    )
    return [*below, Layer(tree, *wording), Layer(own), *layers[last + 1 :]]


def _without_base_facts(tree: Fields) -> Fields:
    of_model, of_prompt = _OF_THE_BASE
    return _drop(_drop(tree, "model", ("name", *of_model)), "prompt", of_prompt)


def _drop(tree: Fields, section: str, keys: tuple[str, ...]) -> Fields:
    inner = tree.entries.get(section)
    if not isinstance(inner, Fields):
        return tree
    kept = Fields({key: node for key, node in inner.entries.items() if key not in keys}, inner.place)
    return Fields({**tree.entries, section: kept}, tree.place)


def _merge(parent: Fields, child: Fields) -> Fields:
    """Mappings merge, everything else replaces; an empty section replaces nothing."""
    entries = dict(parent.entries)
    for key, node in child.entries.items():
        below = entries.get(key)
        if isinstance(below, Fields) and isinstance(node, Fields):
            entries[key] = _merge(below, node)
        elif not (isinstance(below, Fields) and isinstance(node, Scalar) and node.is_null):
            entries[key] = node
    return Fields(entries, child.place if child.entries else parent.place)


def _origins(layers: list[Layer], recipe: Recipe) -> dict[str, str]:
    said: dict[str, str] = {}
    for layer in layers:
        for name, node in _leaves(layer.tree):
            null = isinstance(node, Scalar) and node.is_null
            said[name] = "default" if null else f"{layer.before}{node.place}{layer.behind}"
    return {name: said.get(name, "default") for name in flatten(as_tree(recipe))}


def _leaves(tree: Fields, prefix: str = "") -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for key, node in tree.entries.items():
        found += _leaves(node, f"{prefix}{key}.") if isinstance(node, Fields) else [(prefix + key, node)]
    return found


def check_models() -> tuple[Problem, ...]:
    """Problems of the model files: they may set only what belongs to a base."""
    found: list[Problem] = []
    for card in list_models():
        source = find_model(card.name)
        assert source is not None
        found += check_names(read_file(source.path, source.shown), source.shown, MODEL_SECTIONS)
    return tuple(found)
