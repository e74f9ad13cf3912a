"""Checkpoint: a folder of adapter and state whose manifest, written last, has step, sizes and sha256 of every
file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.errors import CheckpointError
from doitune.run.layout import MANIFEST
from doitune.system.disk import file_sha256

MANIFEST_SCHEMA = "doitune.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose manifest is as it was written. `step` is the number of optimiser steps
    done."""

    folder: Path
    step: int

    def verify(self) -> list[str]:
        """What is wrong with its files against the manifest, by sha256; empty if nothing is."""
        try:
            files = read_manifest(self.folder)["files"]
        except CheckpointError as error:
            return [error.problem]
        wrong = []
        for name, entry in files.items():
            path = self.folder / name
            try:
                if not path.is_file():
                    wrong.append(f"{name} is missing")
                elif path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
                    wrong.append(f"{name} was changed")
            except OSError as error:
                wrong.append(f"{name} cannot be read: {error.strerror}")
        return wrong

    @property
    def bytes(self) -> int:
        """Size of its files; 0 where the manifest is damaged."""
        try:
            return sum(entry["bytes"] for entry in read_manifest(self.folder)["files"].values())
        except CheckpointError:
            return 0


def read_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, every byte as it was written; CheckpointError says what is wrong with it."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        files = document["files"].items()
        whole = all(
            set(entry) == {"bytes", "sha256"} and type(entry["bytes"]) is int and "/" not in name
            for name, entry in files
        )
        if (
            document["schema"] != MANIFEST_SCHEMA
            or not whole
            or text != manifest_text(document["step"], document["files"])
        ):
            raise ValueError("changed")
    except FileNotFoundError:
        raise CheckpointError(f"{MANIFEST} is missing", "use another checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{MANIFEST} was changed", "use another checkpoint") from None
    return dict(document)


def manifest_text(step: int, files: dict[str, dict[str, Any]]) -> str:
    """A manifest byte for byte. It needs no hash of itself: a changed digit or name is one that the files,
    or the folder's name, contradict."""
    return (
        json.dumps(
            {"schema": MANIFEST_SCHEMA, "step": step, "files": files},
            ensure_ascii=False,
            indent=2,
            allow_nan=False,
        )
        + "\n"
    )
