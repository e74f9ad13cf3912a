"""Whether a base's head is its embedding: what config.json says of it, and what the files hold.

Where config.json says so and the files hold a head with other values, libraries part: some multiply by the
stored head, others by the embedding. So it is decided before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from doitune.base.families import FAMILIES, names_of, stated
from doitune.base.headers import read_header
from doitune.base.weights import weight_files
from doitune.errors import ModelError

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
"""How the names of the two matrices end."""

PIECE = 8 << 20
"""Bytes that are compared at a time."""

Place = tuple[Path, int, int, str, tuple[int, ...]]
"""Where a tensor lies: its file, the first byte in it and how many they are; its type and shape."""


def refuse_other_head(folder: Path, config: Mapping[str, Any]) -> None:
    """ModelError where config.json says that the head is the embedding and the files hold another one, or
    that it is a matrix of its own and they hold none."""
    tied, key = stated(config, "tied"), names_of(str(config.get("model_type", ""))).tied
    family = FAMILIES.get(str(config.get("model_type", "")))
    if tied is None and family is None:  # what it means then, its code knows
        return
    tied = family.unsaid.get(key, False) if tied is None and family is not None else tied
    found = _matrices(folder)
    embeddings = {name: place for name, place in found.items() if name.endswith(EMBEDDINGS)}
    heads = {name: place for name, place in found.items() if name.endswith(HEADS)}
    if len(embeddings) > 1 or len(heads) > 1:
        return
    if not tied and embeddings and not heads and family is not None:
        raise ModelError(
            f"{folder} holds no head (lm_head.weight), and its config.json says that it is no part of the "
            f"embedding ({key} is {'left out' if stated(config, 'tied') is None else 'false'})",
            f"where the head is the embedding, set {key} to true in a copy of config.json; else copy the "
            "model again: its head is lost",
        )
    if not tied or not heads:
        return
    head, at = next(iter(heads.items()))
    if not embeddings:
        raise ModelError(
            f"{folder} holds the matrix of its tokens as {head} alone",
            "store it under the name of the embedding, as libraries do where the two are one",
        )
    embedding, beside = next(iter(embeddings.items()))
    if at[2:] != beside[2:] or not _equal(at[0], at[1], beside[0], beside[1], at[2], _changed(at, beside)):
        raise ModelError(
            f"{folder} holds a {head} with other values than {embedding}, and its config.json says that they "
            f"are one ({key} is true)",
            f"to use the head that is stored, set {key} to false in a copy of config.json; to use the "
            f"embedding, take {head} out of a copy of the files",
        )


def embedding_rows(folder: Path) -> int:
    """Rows of the one matrix of tokens in a folder's files; 0 where none, or several, are called so."""
    found = [place[4] for name, place in _matrices(folder).items() if name.endswith(EMBEDDINGS)]
    return found[0][0] if len(found) == 1 and len(found[0]) == 2 else 0


def _matrices(folder: Path) -> dict[str, Place]:
    """The embeddings and heads in a folder's safetensors, by name."""
    found: dict[str, Place] = {}
    for path in weight_files(folder, "model", ".safetensors") or sorted(folder.glob("*.safetensors")):
        for name, one in read_header(path).items():
            if name.endswith((*EMBEDDINGS, *HEADS)):
                with path.open("rb") as stream:
                    first = 8 + int.from_bytes(stream.read(8), "little")
                found[name] = (path, first + one.start, one.end - one.start, one.dtype, one.shape)
    return found


def _changed(*places: Place) -> tuple[int, ...]:
    """When the files were changed: the same comparison then has the same answer."""
    return tuple(place[0].stat().st_mtime_ns for place in places)


@cache
def _equal(one: Path, first: int, other: Path, its_first: int, size: int, changed: tuple[int, ...]) -> bool:
    """Whether `size` bytes of two files are the same, from a place in each. Stops at the first that differs;
    asked once for files of this time."""
    with one.open("rb") as a, other.open("rb") as b:
        a.seek(first)
        b.seek(its_first)
        return all(
            a.read(min(PIECE, size - done)) == b.read(min(PIECE, size - done))
            for done in range(0, size, PIECE)
        )
