"""How far the making of a base is: the journal beside its staging folder. A shard counts when its bytes
still have the recorded sha256."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from doitune.system.disk import file_sha256, sync_folder, write_json

SCHEMA = "doitune.base-progress/1"


class Journal:
    """The finished shards of one base. What was made of other ingredients is thrown away at the start."""

    def __init__(self, out: Path, ingredients: dict[str, Any]) -> None:
        self.staging = out.with_name(f".{out.name}.part")
        self.path = out.with_name(f".{out.name}.part.json")
        self.identity = sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
        self.done: dict[str, str] = {}

    def finished(self) -> set[str]:
        """Names of the shards that an earlier try left whole; the staging folder is there, with nothing
        else in it, from now on."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            document = None
        if (
            isinstance(document, dict)
            and document.get("ingredients") == self.identity
            and isinstance(document.get("done"), dict)
        ):
            self.done = {
                name: digest
                for name, digest in document["done"].items()
                if (path := self.staging / Path(name).name).is_file() and file_sha256(path) == digest
            }
        self.staging.mkdir(exist_ok=True)
        for path in self.staging.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in self.done:
                path.unlink()
        self._write()
        return set(self.done)

    def add(self, name: str) -> None:
        """A shard has its name in the staging folder."""
        sync_folder(self.staging)
        self.done[name] = file_sha256(self.staging / name)
        self._write()

    def close(self) -> None:
        """Nothing is left to go on with: the base has its name, or no shard is finished."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _write(self) -> None:
        write_json(self.path, {"schema": SCHEMA, "ingredients": self.identity, "done": self.done})
