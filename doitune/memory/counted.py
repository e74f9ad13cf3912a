"""What a recipe's corpus counts: rows, turns, characters, and the tokens of a character. Remembered in the
user's cache for as long as the same files lie there, since reading them is most of what a plan takes.

What is remembered are numbers, no text. A file is taken for the same by path, size, and times of change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doitune
from doitune.base.families import FAMILIES, Family
from doitune.base.known import folder_here
from doitune.errors import DiskError
from doitune.system.disk import make_folder, write_json
from doitune.system.paths import from_home
from doitune.system.scratch import cache_folder

if TYPE_CHECKING:
    from doitune.recipe.fields import ModelSection, Recipe

SAMPLED_TURNS = 400
"""Turns that a base's own tokenizer is asked about, where it lies here: hundredths of a second."""

REMEMBERED = 100
"""Counts that are kept, the newest: 200 bytes each."""


ROOMS = ("data", "recipe", "prepare")
"""Whose code reads and draws rows."""


@dataclass(frozen=True)
class Counted:
    """`rate`: tokens of a character; `by`: how that was found, in words."""

    rows: int
    turns: int
    characters: int
    rate: float
    by: str


def places(corpus: str) -> list[Path]:
    """Where a corpus can be read without fetching or making it; empty where it cannot."""
    from doitune.data.cache import corpora_folder

    if corpus == "demo":
        return sorted(corpora_folder().glob("demo-*"))
    if corpus == "doit":
        found = [corpora_folder() / "doit"]
    else:
        from doitune.data.hub_rows import hub_rows

        wanted = hub_rows(corpus)
        found = [from_home(corpus), *([wanted.folder] if wanted else [])]
    return [path for path in found if path.exists()]


def count(recipe: Recipe) -> Counted:
    """Of a recipe whose corpora are here. Errors: those of reading them; what cannot serve is not
    remembered."""
    known, name = _remembered(), _name(recipe)
    with suppress(TypeError):
        return Counted(**known.get(name, {}))
    found = _read(recipe)
    if name and name == _name(recipe):  # else a file was changed while it was read
        known[name] = asdict(found)
        with suppress(OSError, DiskError):
            make_folder(cache_folder())
            write_json(_file(), dict(list(known.items())[-REMEMBERED:]))
    return found


def _file() -> Path:
    return cache_folder() / "counts.json"


def _remembered() -> dict[str, Any]:
    """The counts by their names, oldest first; none where the file is missing or damaged."""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return {}


def _name(recipe: Recipe) -> str:
    """A digest of all that a count follows from; "" where a file of it cannot be seen."""
    model = recipe.model
    folder = folder_here(model.name, model.revision)
    code = [path for room in ROOMS for path in (Path(doitune.__file__).parent / room).iterdir()]
    try:
        record = [
            recipe.data.model_dump_json(),
            repr(sorted(recipe.abilities.items())),
            [model.name, model.revision, model.family],
            [_seen(path) for one in recipe.data.corpora for path in _files(places(one.place))],
            [doitune.__version__, sorted(_seen(path) for path in code if path.suffix == ".py")],
            [_seen(path) for path in ([folder / "tokenizer.json"] if folder else []) if path.is_file()],
        ]
    except OSError:
        return ""
    return sha256(repr(record).encode("utf-8", "backslashreplace")).hexdigest()[:40]


def _files(roots: Sequence[Path]) -> Iterator[Path]:
    """Each file that rows may be read from, in the layout or not, and the list of checksums."""
    from doitune.data.layout import source_folders

    for root in roots:
        yield root
        if root.is_dir():
            yield from sorted(root.iterdir())
            for folder in source_folders(root):
                yield from sorted(folder.iterdir())


def _seen(path: Path) -> tuple[Any, ...]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(recipe: Recipe) -> Counted:
    from doitune.prepare.draw import draw

    chosen, _ = draw(recipe)
    turns = [message.said + message.tools for example in chosen.examples for message in example.messages]
    rate, by = _rate(recipe.model, turns)
    return Counted(len(chosen.examples), len(turns), sum(map(len, turns)), rate, by)


def _rate(section: ModelSection, turns: Sequence[str]) -> tuple[float, str]:
    """Tokens of a character, and how they were found: by the base's own tokenizer on a sample of the turns
    where it lies here, else assumed."""
    assumed = FAMILIES.get(section.family, Family()).tokens_a_character
    folder = folder_here(section.name, section.revision)
    sample = turns[:: max(1, len(turns) // SAMPLED_TURNS)]
    characters = sum(map(len, sample))
    if folder is None or not characters or not (folder / "tokenizer.json").is_file():
        return assumed, "assumed: the base's tokenizer.json is not here"
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
    except (OSError, ValueError):
        return assumed, "assumed: the base's tokenizer.json is damaged"
    tokens = sum(len(one.ids) for one in tokenizer.encode_batch(list(sample), add_special_tokens=False))
    return tokens / characters, f"the base's tokenizer on {len(sample):,} of {len(turns):,} turns"
