"""Recipe files: found by name or path, listed, copied; and where a file's parent is.

Built-in recipes lie in one folder, the known base models in `models` below it.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from doitune.errors import RecipeError
from doitune.recipe.nodes import Fields, Scalar, quote

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """A recipe's file. `shown` is its name in places; `builtin`: it came with doitune."""

    name: str
    path: Path
    shown: str
    builtin: bool


@dataclass(frozen=True)
class RecipeCard:
    """A line of `doitune recipes list`."""

    name: str
    path: str
    summary: str
    alias_of: str | None = None


def recipes_folder() -> Path:
    """The built-in recipes: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def find(name_or_path: str) -> Source:
    """The file of a recipe: a built-in name, or a path (it holds a separator or ends in .yaml). Errors:
    RecipeError, with the nearest names."""
    if not _is_path(name_or_path):
        return _builtin(name_or_path)
    path = Path(name_or_path)
    if is_there(path) and path.is_dir():
        inner = next(iter(sorted(path.glob("*.yaml"))), None)
        hint = f"give its recipe: {inner}" if inner else "give a file that ends in .yaml"
        raise RecipeError("is a folder, not a recipe", hint, place=name_or_path)
    return Source(path.stem, path, name_or_path, False)


def find_model(name: str) -> Source | None:
    """The file of a known base model, or None."""
    if _is_path(name) or name not in _stems(recipes_folder() / "models"):
        return None
    return Source(name, recipes_folder() / "models" / f"{name}.yaml", f"recipes/models/{name}.yaml", True)


def list_recipes() -> tuple[RecipeCard, ...]:
    """The built-in recipes by name, numbers in their order."""
    return tuple(_card(_builtin(name)) for name in recipe_names())


def list_models() -> tuple[RecipeCard, ...]:
    """The base models that have a file."""
    return tuple(_card(source) for name in model_names() if (source := find_model(name)))


def recipe_names() -> list[str]:
    """The names of the built-in recipes, numbers in their order; parents alone, `_...`, left out."""
    return sorted((name for name in _stems(recipes_folder()) if not name.startswith("_")), key=_natural)


def model_names() -> list[str]:
    """The names of the base models that have a file, numbers in their order."""
    return sorted(_stems(recipes_folder() / "models"), key=_natural)


def copy(name: str, target: str) -> Path:
    """The text of a recipe, comments and all, as a file of one's own; nothing is written over. Errors:
    RecipeError."""
    source = find(name)
    path = Path(target)
    if is_there(path) and path.is_dir():
        path = path / f"{source.name}.yaml"
    if path.suffix not in _SUFFIXES:
        raise RecipeError("is not the name of a recipe file", "end it in .yaml", place=str(path))
    from doitune.recipe.yaml_text import read_file

    tree = read_file(source.path, source.shown)
    landed = Source(path.stem, path, str(path), False)
    before, after = parent_of(tree, source), parent_of(tree, landed)
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


def parent_of(tree: Fields, child: Source) -> Source | None:
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
        and is_there(beside)
        and not (beside.resolve() == child.path.resolve() and is_there(builtin))
    ):
        if beside.resolve().parent != child.path.parent.resolve():
            raise RecipeError(
                f"the parent `{name}` is a link that leads out of its folder",
                "copy it here",
                place=node.place,
            )
        return Source(name, beside, str(Path(child.shown).parent / beside.name), False)
    if not is_there(builtin):
        error = unknown("recipe", name, _stems(recipes_folder()))
        raise RecipeError(f"`extends`: {error.problem}", error.hint, place=node.place)
    return _builtin(name)


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or "\\" in text or text.endswith(_SUFFIXES)


def is_there(path: Path) -> bool:
    """Whether the path exists; a name that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _stems(folder: Path) -> list[str]:
    return [path.stem for path in folder.iterdir() if path.suffix == ".yaml"]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """curated-40 before curated-160."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", name)]


def _builtin(name: str) -> Source:
    names = _stems(recipes_folder())
    if name not in names:
        raise unknown("recipe", name, [known for known in names if not known.startswith("_")])
    return Source(name, recipes_folder() / f"{name}.yaml", f"recipes/{name}.yaml", True)


def unknown(what: str, name: str, known: list[str], hint: str = "") -> RecipeError:
    """The error for a name that nothing has, with the nearest known names."""
    near = difflib.get_close_matches(name[:80], known, 3, 0.5)
    asked = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
    return RecipeError(
        f"no {what} {quote(name)}{asked}", hint or f"known: {', '.join(sorted(known, key=_natural))}"
    )


def _card(source: Source) -> RecipeCard:
    from doitune.recipe.yaml_text import read_file

    tree = read_file(source.path, source.shown)
    summary, alias = (tree.entries.get(key) for key in ("summary", "alias_of"))
    return RecipeCard(
        source.name,
        source.shown,
        summary.text if isinstance(summary, Scalar) else "",
        alias.text if isinstance(alias, Scalar) else None,
    )
