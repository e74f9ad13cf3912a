"""Rows that were prepared before, in the user's cache: found by what they were made of, checked byte by byte
when they are opened, made anew where they are damaged.

What they were made of is in the name: the bytes of the data, the recipe's fields, the encoder, and the code
and libraries of this installation. A folder takes its name when it is whole; without room nothing is kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doitune
from doitune.data.checksums import digest_of
from doitune.data.rows import Rows, RowsWriter, open_rows, save_rows
from doitune.errors import DataError, DoituneError
from doitune.prepare.draw import recipe_corpus
from doitune.prompt.encode import fingerprint
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import EncodedRows, open_encoded, rows_of, save_encoded
from doitune.system.disk import file_sha256, whole_folder, write_json
from doitune.system.doing import doing
from doitune.system.publish import alone
from doitune.system.scratch import Scratch, cache_folder
from doitune.system.units import GIB, MIB
from doitune.system.versions import versions

if TYPE_CHECKING:
    from doitune.base.context import Context
    from doitune.data.example import Example
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe

LEAST_BYTES = 8 * MIB
"""Data of fewer bytes are prepared in seconds and not kept."""

MOST_BYTES = 20 * GIB
"""Of all that is kept; what was not used for longest goes first."""

LIBRARIES = ("tokenizers", "transformers", "sentencepiece", "jinja2", "numpy", "pyarrow")
DOCUMENT, MANIFEST = "rows.json", "entry.json"
TRAINED, VALID = "trained", "valid"


@dataclass(frozen=True)
class Kept:
    """Rows and their encodings; `valid`: by ability. `document`: what else is known of them, as JSON."""

    examples: Rows
    encoded: EncodedRows
    valid: Mapping[str, Sequence[Example]]
    valid_encoded: Mapping[str, Sequence[Encoded]]
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """All that prepared rows follow from."""

    recipe: Recipe
    template: Template
    judged: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    context: Context | None = None

    def name(self) -> str:
        """A digest of it; "" where the data are few, or cannot be named: who reads them says why."""
        try:
            files = _files(self.recipe)
            if sum(path.stat().st_size for path in files) < LEAST_BYTES:
                return ""
        except (DataError, OSError):
            return ""
        doing("hashing the data")
        train = self.recipe.train
        record = [
            [(str(path), digest_of(path)) for path in files],
            [self.recipe.data.model_dump_json(), self.recipe.prompt.model_dump_json()],
            repr(sorted(self.recipe.abilities.items())),
            [train.max_tokens, train.validation_rows_per_ability],
            [(name, [(one.id, one.messages) for one in rows]) for name, rows in sorted(self.judged.items())],
            repr(self.context),
            _encoder(self.template),
            versions(LIBRARIES),
            _code(),
        ]
        return sha256(repr(record).encode("utf-8", "backslashreplace")).hexdigest()[:40]


def _files(recipe: Recipe) -> list[Path]:
    """Every file that rows may be read from."""
    found: dict[Path, None] = {}
    for one in recipe_corpus(recipe.data).units:
        sources = ("",) if one.is_own else one.kept.sources()
        found.update((path, None) for source in sources for path in one.kept.files(source).values())
        listed = (one.root if one.root.is_dir() else one.root.parent) / "checksums.json"
        found.update([(listed, None)] if listed.is_file() else [])
    return list(found)


def _encoder(template: Template) -> list[Any]:
    """What ids and labels of any row follow from."""
    renderer, cut = template.renderer, template.cut
    return [
        fingerprint(template),
        sha256(template.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        [template.kind, template.user_id, template.assistant_id, template.stop_ids, template.rows],
        [sorted(template.control_ids), template.new_rows],
        [renderer.template, sorted(renderer.variables.items())] if renderer else [],
        [template.moment] if template.reads_clock else [],
        [sha256(one.serialized_model_proto()).hexdigest() for one in cut.processors.values()] if cut else [],
    ]


def _code() -> str:
    """A digest of this installation's own code."""
    folder = Path(doitune.__file__).parent
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\x00".encode() + path.read_bytes())
    return digest.hexdigest()


def kept_folder(name: str) -> Path:
    """Where rows of this name lie."""
    return cache_folder() / "rows" / name


def find(name: str) -> Kept | None:
    """The rows of this name; None where there are none, or they are damaged: then they are gone."""
    folder = kept_folder(name)
    if not (folder / MANIFEST).is_file():
        return None
    try:
        doing("checking the rows in the cache")
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not manifest or any(_is_other(folder / file, known) for file, known in manifest.items()):
            raise ValueError(folder)
        os.utime(folder / MANIFEST)
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        doing("the rows in the cache are damaged and are made anew")
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _is_other(path: Path, known: Mapping[str, Any]) -> bool:
    return path.stat().st_size != known["bytes"] or file_sha256(path) != known["sha256"]


def _read(folder: Path) -> Kept:
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    examples, valid = (open_rows(folder, name) for name in (TRAINED, VALID))
    encoded, valid_encoded = (open_encoded(folder, name) for name in (TRAINED, VALID))
    places = {name: range(*bounds) for name, bounds in document["valid"].items()}
    return Kept(
        examples,
        encoded,
        {name: tuple(valid[place] for place in some) for name, some in places.items()},
        {name: tuple(valid_encoded[place] for place in some) for name, some in places.items()},
        document,
    )


def keep(name: str, rows: Kept | None) -> str:
    """Keep rows under this name, where there is room and nobody else does; else says why not."""
    if rows is None:
        return ""
    folder = kept_folder(name)
    try:
        doing(f"keeping {len(rows.examples):,} rows in the cache")
        with alone(folder, "rows in the cache"):
            if (folder / MANIFEST).is_file():
                return ""
            shutil.rmtree(folder, ignore_errors=True)
            with whole_folder(folder) as beside:
                _write(beside, rows)
        _prune(folder.parent, folder)
    except DoituneError as error:
        return f"the rows are not kept in the cache: {error.problem}"
    return ""


def _write(folder: Path, rows: Kept) -> None:
    writer, bounds, start = RowsWriter(Scratch()), {}, 0
    for name, some in rows.valid.items():
        for example in some:
            writer.add(example)
        bounds[name] = (start, start + len(some))
        start += len(some)
    save_rows(rows.examples, folder, TRAINED)
    save_rows(writer.rows(), folder, VALID)
    save_encoded(rows.encoded, folder, TRAINED)
    save_encoded(rows_of([one for some in rows.valid_encoded.values() for one in some]), folder, VALID)
    write_json(folder / DOCUMENT, {**rows.document, "valid": bounds})
    files = sorted(path for path in folder.iterdir() if path.is_file())
    known = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files}
    write_json(folder / MANIFEST, known)


def _prune(folder: Path, newest: Path) -> None:
    """Take away what was not used for longest, until the rest is small enough; `newest` stays."""
    sizes = {
        one: sum(path.stat().st_size for path in one.iterdir())
        for one in folder.iterdir()
        if one.is_dir() and (one / MANIFEST).is_file()
    }
    for one in sorted(sizes, key=lambda one: (one / MANIFEST).stat().st_mtime):
        if sum(sizes.values()) <= MOST_BYTES:
            return
        if one != newest:
            shutil.rmtree(one, ignore_errors=True)
            del sizes[one]
