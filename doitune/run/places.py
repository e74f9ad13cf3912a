"""Where a run's corpus and base are, whatever folder a command is typed in, and that they are still what it
learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.errors import CheckpointError, DataError, ModelError
from doitune.prepare.draw import recipe_corpus
from doitune.run.folder import Run
from doitune.run.layout import ORIGIN
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.data.corpus import Corpus
    from doitune.recipe.data_section import CorpusEntry
    from doitune.recipe.fields import Recipe


def at_its_corpus(run: Run, recipe: Recipe) -> Recipe:
    """The run's recipe with its corpus where the run found it, proved to be the same by the digests of its
    files. DataError where it is gone or another."""
    origin = run.read_json(ORIGIN)
    cure = "bring it back, or name the one to ask: --corpus PATH"
    places = origin.get("places", {}).get("corpus", "")
    entries = []
    for entry, place in zip_longest(recipe.data.corpora, [places] if isinstance(places, str) else places):
        if place and Path(place).exists():
            entry = entry.model_copy(update={"from": place})
        elif place and not Path(entry.place).expanduser().exists():
            raise DataError(f"the corpus of {run.name} is no longer at {place}", cure)
        entries.append(entry)
    recipe = _with_corpora(recipe, entries)
    corpus = recipe_corpus(recipe.data)
    now, then = _digests(corpus), _digests_then(origin)
    other = [path for path, sha in then.items() if now.get(path) != sha]
    if other:
        raise DataError(
            f"this is not the corpus that {run.name} learned from: {other[0]} has other bytes or is missing"
            + (f", and {len(other) - 1} more files" if other[1:] else ""),
            cure,
            place=str(corpus.root),
        )
    return recipe


def moved_corpus(run: Run, recipe: Recipe, places: Sequence[str]) -> Recipe | None:
    """The run's recipe with its corpora at other places, where the files there have the very bytes that it
    learned from, so that its own kept-out rows can be asked; else None."""
    entries = recipe.data.corpora
    if len(places) != len(entries) or not all(Path(place).expanduser().exists() for place in places):
        return None
    pairs = zip(entries, places, strict=True)
    moved = _with_corpora(recipe, [entry.model_copy(update={"from": place}) for entry, place in pairs])
    then = _digests_then(run.read_json(ORIGIN))
    same = sorted(_digests(recipe_corpus(moved.data)).values()) == sorted(then.values())
    return moved if same else None


def _with_corpora(recipe: Recipe, entries: Sequence[CorpusEntry]) -> Recipe:
    corpora = tuple(entries) if isinstance(recipe.data.corpus, tuple) else entries[0].place
    data = recipe.data.model_copy(update={"corpus": corpora})
    return recipe.model_copy(update={"data": data})


def _digests(corpus: Corpus) -> dict[str, str]:
    """The sha256 of each of its files by path."""
    return {path: sha for source in corpus.sources() for path, sha in redacted(corpus.sha256(source)).items()}


def _digests_then(origin: Mapping[str, Any]) -> dict[str, str]:
    """Those that a run recorded."""
    return {**origin.get("data", {}).get("files", {}), **origin.get("places", {}).get("judged", {})}


def its_base(run: Run, recipe: Recipe, moved_to: str = "") -> Base:
    """The run's base: in the folder `moved_to`, else where the run found it, else as the recipe names it.

    It keeps the recipe's name. Errors: ModelError where there is none, CheckpointError where one that lies
    elsewhere has other files.
    """
    name, revision = recipe.model.name, recipe.model.revision
    place = _place(run.read_json(ORIGIN), "base")
    if moved_to:
        base = replace(find_base(moved_to), name=name)
    elif place and Path(place).is_dir():
        return replace(find_base(place), name=name)
    else:
        try:
            base = find_base(name, revision)
        except ModelError as error:
            if not place:
                raise
            raise ModelError(
                f"the base of {run.name} is no longer at {place}: {error.problem}",
                "bring it back, or say where it is now: --model FOLDER (of eval, chat, serve and export)",
            ) from error
    if moved_to or place:
        refuse_other_base(run, base)
    return base


def refuse_other_base(run: Run, base: Base) -> None:
    """CheckpointError where a file of the base is not the one that the run was trained on."""
    trained: Mapping[str, str] = run.read_json(ORIGIN).get("base", {}).get("files", {})
    now = redacted(base.sha256())  # as origin.json has them
    if other := sorted(name for name in {*trained, *now} if trained.get(name) != now.get(name)):
        files = f"{', '.join(other[:5])} of {base.folder} {'is' if len(other) == 1 else 'are'} not as then"
        raise CheckpointError(
            f"{run.name} was trained on another base: {files}",
            "bring the old files back: the adapter is a change of those weights and no others",
        )


def _place(origin: Mapping[str, Any], what: str) -> str:
    """The absolute path that a run recorded; "" in those before it was, and for names that are no path."""
    return str(origin.get("places", {}).get(what, ""))
