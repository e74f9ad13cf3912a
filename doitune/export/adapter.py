"""The format `adapter`: a folder that peft and transformers load alone, with tokenizer, chat template and
model card.

Its weights are the checkpoint's, byte for byte; what a plain library would do otherwise than training is the
prompt, so the tokenizer is proved on chats before the folder takes its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from doitune.base.adapter import CONFIG, WEIGHTS
from doitune.base.folder import REPORT, is_hub_name
from doitune.base.make import ROOM
from doitune.demo.folder import BASE
from doitune.errors import CheckpointError, DiskError, ModelError, UsageError
from doitune.export.card.card import write_card
from doitune.export.card.handed import ADAPTER, Handed, NamedBase, named_base
from doitune.export.out import read_export, resolved_out, taken
from doitune.export.parts import open_parts
from doitune.export.report import SCHEMA
from doitune.export.source import Source, open_source
from doitune.export.tokenizer import exported_tokens, prove_folder
from doitune.export.trial import choose_trial
from doitune.system.disk import (
    disk_error,
    file_sha256,
    make_staging,
    staging_of,
    sync_file,
    write_json,
    write_whole,
)
from doitune.system.doing import doing
from doitune.system.paths import from_home
from doitune.system.publish import alone, publish
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.run.folder import Run

OnNote = Callable[[str], None]

BASE_FORM = "OWNER/NAME or OWNER/NAME@COMMIT"


@dataclass(frozen=True)
class AdapterExport:
    """A folder with an adapter that stands alone, and what its export.json says. `base_folder`: where the
    base is on this machine, which the folder does not say; "" where its name is enough."""

    folder: Path
    document: dict[str, Any]
    base_folder: str = ""

    def refuse_other(self) -> None:
        """Nothing: its weights are the checkpoint's own bytes."""

    @property
    def files(self) -> dict[str, int]:
        """Bytes of each file that belongs to the adapter, by name."""
        return {name: int(one["bytes"]) for name, one in self.document["files"].items()}


def export_adapter(
    run: Run, out: Path, *, checkpoint: str = "best", base: str = "", moved_to: str = "", on_note: OnNote
) -> AdapterExport:
    """Write the adapter of a checkpoint as a folder of its own; an earlier export in `out` is replaced.

    `base`: how others find the base, BASE_FORM, or a folder, whose path is then written; "": as the run
    found it, a folder by its name alone (doitune's own: where it is installed). `moved_to`: see `its_base`.
    Errors: UsageError, CheckpointError, ModelError, DiskError, LockedError.
    """
    named = _base_of(base) if base else None
    final = _folder(out)
    source = open_source(run, checkpoint, moved_to)
    named = named or named_base(source)
    try:
        with alone(final, str(final)):
            found = _published(
                final, lambda staging: _fill(staging, source, named, final.name, on_note, here=True)
            )
    except DiskError as error:
        raise DiskError(error.problem, ROOM) from error
    known = named.on_hub or Path(named.name).is_absolute() or source.base.name == "demo"
    return AdapterExport(final, found, "" if known else str(source.base.folder))


def _published(final: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Fill a folder beside `final`, which then takes its name. DiskError."""
    staging = staging_of(final)
    try:
        with _of_the_disk(final):
            make_staging(staging)
        found = fill(staging)
        with _of_the_disk(final):
            for path in sorted(staging.iterdir()):
                sync_file(path)
        publish(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return found


@contextmanager
def _of_the_disk(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(final.parent, error) from error


@contextmanager
def public_adapter(
    run: Run, called: str, *, checkpoint: str = "best", base: str = "", on_note: OnNote
) -> Iterator[AdapterExport]:
    """The same folder for others, for as long as the block lasts. `called`: its repository. Errors: as
    `export_adapter`."""
    named = hub_base(base) if base else None
    source = open_source(run, checkpoint)
    named = named or named_base(source)
    if not named.on_hub:
        on_note(
            f"the base of this run is no repository of the hub: the adapter calls it {named.name!r}, and who "
            f"uses it has to have it; --base {BASE_FORM.split()[0]} names one that has it"
        )
    with TemporaryDirectory(prefix="doitune-") as name:
        folder = Path(name)
        yield AdapterExport(folder, _fill(folder, source, named, called, on_note))


def hub_base(text: str) -> NamedBase:
    """A base as `--base` names it. UsageError."""
    name, _, revision = text.partition("@")
    if not is_hub_name(name) or not all(name.split("/")) or ("@" in text and not revision):
        raise UsageError(f"--base {text!r} is no repository of the hub", f"write {BASE_FORM}")
    return NamedBase(name, revision, True)


def _base_of(text: str) -> NamedBase:
    """The same, or a folder of this machine. UsageError."""
    folder = from_home(text)
    return NamedBase(str(folder.resolve()), "", False) if folder.is_dir() else hub_base(text)


def _folder(wanted: Path) -> Path:
    """Where to write. UsageError for a folder with something else in it than such an export."""
    out = resolved_out(wanted)
    there = {path.name: path for path in out.iterdir()} if out.exists() else {}
    if not there:
        return out
    said = read_export(out) or {}
    if said.get("to") != ADAPTER:
        raise taken(out, ADAPTER)
    try:
        known = {name: one["sha256"] for name, one in said["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise taken(out, ADAPTER, [REPORT]) from None
    strange = [
        name
        for name, path in sorted(there.items())
        if name != REPORT and (not path.is_file() or file_sha256(path) != known.get(name))
    ]
    if strange:
        raise taken(out, ADAPTER, strange)
    return out


def _fill(
    folder: Path, source: Source, base: NamedBase, called: str, on_note: OnNote, *, here: bool = False
) -> dict[str, Any]:
    """Write every file into an empty folder, export.json last; returns what that says. `here`: plain peft is
    to find doitune's own base where it is installed. Errors: ModelError where the prompt's ids are others, or
    the roles have rows of their own."""
    if source.template.new_rows:
        raise ModelError(
            f"{source.run.name} trained token rows of its own (prompt.tokens: new), which plain peft has no "
            "place for",
            "a merged folder has them: --to merged; prompt.tokens: reuse trains without them",
        )
    if not source.run.done():
        on_note(f"{source.run.name} has not ended: what it would still learn is not in this")
    doing("writing the adapter")
    vocabulary = open_parts(source.base.folder, source.checkpoint.folder, rounded=False).vocabulary
    for name, content in exported_tokens(source.template, source.base.folder, vocabulary).items():
        write_whole(folder / name, content)
    write_whole(folder / WEIGHTS, _weights(source))
    installed = here and base.name == "demo" == source.base.name
    write_json(folder / CONFIG, _config(source, replace(base, name=str(BASE)) if installed else base))
    trial = choose_trial(source, 0)
    doing("proving the tokenizer on chats")
    otherwise = prove_folder(folder, source.template, trial.chats)
    document = redacted(
        {
            "schema": SCHEMA,
            "same": True,
            "problems": [],
            "to": ADAPTER,
            "run": source.run.name,
            "checkpoint": source.checkpoint.folder.name,
            "base": {"name": base.name, "revision": base.revision, "on_hub": base.on_hub},
            "trained_against": "nf4" if source.quantised else "own",
            "prompt": {"chats": len(trial.chats), "equal": True, "tokenizer_json_otherwise": otherwise},
        }
    )
    write_card(folder, Handed(source, base, called, document))
    document["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
    }
    write_json(folder / REPORT, document)
    return document


def _weights(source: Source) -> bytes:
    """The checkpoint's own bytes. CheckpointError where they have gone since they were checked."""
    try:
        return (source.checkpoint.folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise _unreadable(source.checkpoint.folder / WEIGHTS, error) from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {error!r}", "use another checkpoint")


def _config(source: Source, base: NamedBase) -> dict[str, Any]:
    """adapter_config.json as peft wrote it, with a base that peft finds. CheckpointError."""
    path = source.checkpoint.folder / CONFIG
    try:
        document = dict(json.loads(path.read_text(encoding="utf-8")))
        targets = document["target_modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None
    ordered = sorted(targets) if isinstance(targets, list) else targets
    return {
        **document,
        "base_model_name_or_path": base.name,
        "revision": base.revision or None,
        "inference_mode": True,
        "target_modules": ordered,
    }
