"""The formats `gguf` and `ollama`: a merged folder, and beside it one file of each type that was asked for.

A file takes its name once llama.cpp has given the run's chats the ids of training by it. export.json says how
far it agrees with the trained model, and what its score is. A finished file is recognised and kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.llama_cpp import INSTALL, why_no_reader
from doitune.base.folder import REPORT, find_whole
from doitune.base.make import ROOM
from doitune.errors import DiskError, UsageError
from doitune.export.card.card import write_card
from doitune.export.card.handed import Handed, named_base
from doitune.export.gguf.file import TYPES, need_gguf, plan_file, write_file
from doitune.export.gguf.measure import Bench, measure_file
from doitune.export.gguf.modelfile import MODELFILE, count_unlike, modelfile, read_frame
from doitune.export.gguf.quantise import K_QUANTS, find_quantiser, quantise
from doitune.export.gguf.tensors import context_length
from doitune.export.measure import Listener
from doitune.export.merged import Wish, export_merged
from doitune.export.report import NOT_MEASURED, SCHEMA, Export, work_folder
from doitune.export.source import open_source
from doitune.export.tokenizer import exported_template
from doitune.export.trial import choose_trial
from doitune.system.disk import (
    file_sha256,
    make_folder,
    need_room,
    rename,
    sync_file,
    sync_folder,
    write_json,
    write_whole,
)
from doitune.system.lock import hold
from doitune.system.secrets import redacted
from doitune.system.versions import version_of

if TYPE_CHECKING:
    from doitune.export.gguf.file import Plan
    from doitune.export.source import Source
    from doitune.export.trial import Trial

QUANTS = (*TYPES, *K_QUANTS)
MOST_CONTEXT = 4096
"""Tokens that a Modelfile asks room for, at most: room is memory."""

MERGED, GGUF = "merged", "gguf"
"""Folders below --out."""

CURE = "the file is kept, and marked in its export.json; another --quant may agree"


@dataclass(frozen=True)
class Files:
    """What is asked for: the merge, each type once, whether a Modelfile is written, and llama.cpp's
    folder."""

    wish: Wish
    quants: tuple[str, ...] = ("f16",)
    ollama: bool = False
    llama_cpp: Path | None = None


def export_gguf(files: Files, listener: Listener | None = None) -> Export:
    """Merge, write and measure; or go on with it.

    Errors: UsageError, ParityError where the merge is another model, ModelError for a file that llama.cpp
    cannot use or that gives other prompt ids (it takes no name), CheckpointError, DiskError, LockedError,
    FitError.
    """
    listener = listener or Listener()
    quantiser = _refuse_unable(files)
    out = files.wish.out
    merged = export_merged(replace(files.wish, out=out / MERGED), listener)
    merged.refuse_other()
    source = open_source(files.wish.run, files.wish.checkpoint)
    trial = choose_trial(source, files.wish.questions)
    folder = merged.folder.parent / GGUF
    _refuse_foreign(folder)
    plans = {kind: plan_file(merged.folder, kind if kind in TYPES else "f16") for kind in files.quants}
    with hold(folder.with_name(f".{folder.name}.export.lock"), str(folder), remove=True):
        make_folder(folder)
        _sweep(folder)
        job = _Job(files, source, trial, folder, plans, quantiser, str(file_sha256(merged.folder / REPORT)))
        return job.done(listener)


def _refuse_unable(files: Files) -> list[str]:
    """What is missing, before anything is done; the quantiser's command, where it is needed. UsageError."""
    unknown = [kind for kind in files.quants if kind not in QUANTS]
    if unknown or not files.quants:
        raise UsageError(f"--quant {','.join(unknown)!r} is not one of {', '.join(QUANTS)}", "--quant f16")
    need_gguf()
    if reason := why_no_reader():
        problem = f"a GGUF is not called the trained model before llama.cpp has read it: {reason}"
        raise UsageError(problem, INSTALL)
    return find_quantiser(files.llama_cpp) if any(kind in K_QUANTS for kind in files.quants) else []


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (
        folder.is_dir() and ((folder / REPORT).is_file() or not any(folder.iterdir()))
    ):
        raise UsageError(
            f"{folder} is there already, and is no export of doitune", "name another folder: --out DIR"
        )


def _sweep(folder: Path) -> None:
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Job:
    """An export under its lock. `made_of`: hash of what the merged folder's export.json says."""

    files: Files
    source: Source
    trial: Trial
    folder: Path
    plans: Mapping[str, Plan]
    quantiser: list[str]
    made_of: str

    def done(self, listener: Listener) -> Export:
        """Every file, and export.json."""
        known = self._known()
        todo = [kind for kind in self.files.quants if _name(kind) not in known]
        if not todo and (not self.files.ollama or (self.folder / MODELFILE).is_file()):
            said = json.loads((self.folder / REPORT).read_text("utf-8"))
            write_card(self.folder, self._handed(said), kept=True)
            return Export(self.folder, said, again=True)
        if not known:
            write_whole(self.folder / REPORT, NOT_MEASURED)
        need_room(
            self.folder, sum(self.plans[kind].bytes * (2 if kind in K_QUANTS else 1) for kind in todo), ROOM
        )
        work = work_folder(self.folder, self.made_of[:16])
        merged = find_whole(self.plans[self.files.quants[0]].folder)
        bench = Bench.of(self.source, merged, self.trial, work, listener) if todo else None
        for kind in todo:
            assert bench is not None
            known[_name(kind)] = _made(self, kind, bench, listener)
            write_json(self.folder / REPORT, redacted(_document(self, known)))
        document = redacted(_document(self, known))
        if self.files.ollama:
            document["ollama"] = _modelfile(self)
        write_json(self.folder / REPORT, document)
        write_card(self.folder, self._handed(document))
        shutil.rmtree(work, ignore_errors=True)
        return Export(self.folder, document)

    def _handed(self, document: Mapping[str, Any]) -> Handed:
        return Handed(self.source, named_base(self.source), self.folder.name, document)

    def _known(self) -> dict[str, Any]:
        """Files of an earlier try that are whole and were measured by the same trial."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            said = json.loads((self.folder / REPORT).read_text("utf-8"))
            if said["trial"] == self.trial.identity and said["made_of"] == self.made_of:
                return {
                    name: one
                    for name, one in said["files"].items()
                    if (self.folder / name).is_file() and file_sha256(self.folder / name) == one["sha256"]
                }
        return {}


def _name(kind: str) -> str:
    """Of the file of a type."""
    return f"model-{kind}.gguf"


def _made(job: _Job, kind: str, bench: Bench, listener: Listener) -> dict[str, Any]:
    """Write a file beside its name, measure it, and give it the name."""
    final = job.folder / _name(kind)
    with _part(final) as part:
        if kind in K_QUANTS:
            with _part(job.folder / "model.gguf") as whole:
                write_file(job.plans[kind], whole, listener.file)
                quantise(job.quantiser, whole, part, kind)
        else:
            write_file(job.plans[kind], part, listener.file)
        found = measure_file(part, kind, bench, listener)
        try:
            sync_file(part)
            size, digest = part.stat().st_size, file_sha256(part)
            rename(part, final)
            sync_folder(job.folder)
        except OSError as error:
            raise DiskError(f"cannot write {final}: {error.strerror or error}", ROOM) from error
    return {"bytes": size, "sha256": digest, **found}


def _document(job: _Job, known: Mapping[str, Any]) -> dict[str, Any]:
    """export.json of the files so far."""
    problems = [f"{name}: {text}" for name, one in known.items() for text in one["problems"]]
    return {
        "schema": SCHEMA,
        "to": GGUF,
        "same": not problems,
        "problems": problems,
        "cure": CURE if problems else "",
        "run": job.source.run.name,
        "checkpoint": job.source.checkpoint.folder.name,
        "base": {"name": job.source.base_name, "revision": job.source.base.revision},
        "made_of": job.made_of,
        "trial": job.trial.identity,
        "written_by": f"gguf {version_of('gguf')}",
        "left_out": list(job.trial.left_out),
        "files": dict(known),
    }


def _modelfile(job: _Job) -> dict[str, Any]:
    """Write the Modelfile of the first file; says what it cannot do."""
    kind = job.files.quants[0]
    plan = job.plans[kind]
    template = exported_template(plan.folder, job.source.template)
    frame = read_frame(template)
    stops = [plan.vocabulary.texts[number] for number in template.stop_ids]
    context = min(context_length(plan.config), MOST_CONTEXT)
    write_whole(job.folder / MODELFILE, modelfile(_name(kind), frame, stops, context))
    unlike = count_unlike(frame, template, job.trial.chats)
    return {"modelfile_of": _name(kind), "chats": len(job.trial.chats), "otherwise": unlike, "tried": False}


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, gone with the block."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
