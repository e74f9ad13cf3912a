"""The formats `gguf` and `ollama`: a merged folder, and beside it one file of each type that was asked for.

A file takes its name once llama.cpp has given the run's chats the ids of training by it. export.json says how
far it agrees with the trained model, and what its score is. A finished file is recognised and kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.llama_cpp import INSTALL, why_no_reader
from doitune.base.folder import REPORT, find_whole
from doitune.errors import UsageError
from doitune.export.card.card import write_card
from doitune.export.card.handed import Handed, named_base
from doitune.export.gguf.file import TYPES, need_gguf, plan_file, write_file
from doitune.export.gguf.foresight import foresee
from doitune.export.gguf.measure import Bench, measure_file
from doitune.export.gguf.modelfile import MODELFILE, count_unlike, modelfile, read_frame
from doitune.export.gguf.place import Place, held, refuse_foreign
from doitune.export.gguf.quantise import K_QUANTS, find_quantiser, quantise
from doitune.export.measure import Listener
from doitune.export.merged import Wish, export_merged
from doitune.export.out import resolved_out
from doitune.export.report import NOT_MEASURED, SCHEMA, Export, work_folder
from doitune.export.room import room_tokens
from doitune.export.source import open_source
from doitune.export.tokenizer import exported_template
from doitune.export.trial import choose_trial
from doitune.system.disk import file_sha256, write_json, write_whole
from doitune.system.secrets import redacted
from doitune.system.versions import version_of

if TYPE_CHECKING:
    from doitune.export.gguf.file import Plan
    from doitune.export.source import Source
    from doitune.export.trial import Trial

QUANTS = (*TYPES, *K_QUANTS)

MERGED, GGUF = "merged", "gguf"
"""Folders below --out."""

HALF = "model.gguf"
"""A file of 16 bits that is only quantised."""

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
    out = resolved_out(files.wish.out)
    refuse_foreign(out / GGUF, GGUF)
    source = open_source(files.wish.run, files.wish.checkpoint, files.wish.moved_to)
    listener.note(foresee(source, out, files.wish.dtype, files.quants))
    merged = export_merged(replace(files.wish, out=out / MERGED), listener)
    merged.refuse_other()
    trial = choose_trial(source, files.wish.questions)
    plans = {kind: plan_file(merged.folder, kind if kind in TYPES else "f16") for kind in files.quants}
    with held(out / GGUF, str(file_sha256(merged.folder / REPORT)), GGUF) as place:
        return _Job(files, source, trial, place, plans, quantiser).done(listener)


def _refuse_unable(files: Files) -> list[str]:
    """What is missing, before anything is done; the quantiser's command, where it is needed. UsageError."""
    unknown = [kind for kind in files.quants if kind not in QUANTS]
    if unknown or not files.quants:
        raise UsageError(f"--quant {','.join(unknown)!r} is not one of {', '.join(QUANTS)}", "--quant f16")
    refuse_no_reader()
    return find_quantiser(files.llama_cpp) if any(kind in K_QUANTS for kind in files.quants) else []


def refuse_no_reader() -> None:
    """UsageError where files can be written but not read, or not even written."""
    need_gguf()
    if reason := why_no_reader():
        problem = f"a GGUF is not called the trained model before llama.cpp has read it: {reason}"
        raise UsageError(problem, INSTALL)


@dataclass(frozen=True)
class _Job:
    """An export under its lock."""

    files: Files
    source: Source
    trial: Trial
    place: Place
    plans: Mapping[str, Plan]
    quantiser: list[str]

    def done(self, listener: Listener) -> Export:
        """Every file, and export.json."""
        folder, known = self.place.folder, self.place.finished(self.trial.identity)
        todo = [kind for kind in self.files.quants if _name(kind) not in known]
        if not todo and (not self.files.ollama or (folder / MODELFILE).is_file()):
            said = json.loads((folder / REPORT).read_text("utf-8"))
            write_card(folder, self._handed(said), kept=True)
            return Export(folder, said, again=True)
        if not known:
            write_whole(folder / REPORT, NOT_MEASURED)
        work = work_folder(folder, self.place.made_of[:16])
        merged = find_whole(self.plans[self.files.quants[0]].folder)
        bench = Bench.of(self.source, merged, self.trial, work, listener) if todo else None
        for kind in todo:
            assert bench is not None
            known[_name(kind)] = _made(self, kind, known, bench, listener)
            write_json(folder / REPORT, redacted(_document(self, known)))
        document = redacted(_document(self, known))
        if self.files.ollama:
            document["ollama"] = _modelfile(self)
        write_json(folder / REPORT, document)
        write_card(folder, self._handed(document))
        self.place.close()
        if bench is not None:
            bench.clear()
        return Export(folder, document)

    def _handed(self, document: Mapping[str, Any]) -> Handed:
        return Handed(self.source, named_base(self.source), self.place.folder.name, document)


def _name(kind: str) -> str:
    """Of the file of a type."""
    return f"model-{kind}.gguf"


def _made(job: _Job, kind: str, known: Mapping[str, Any], bench: Bench, listener: Listener) -> dict[str, Any]:
    """Write a file beside its name, measure it, and give it the name."""

    def written(path: Path) -> None:
        write_file(job.plans[kind], path, listener.file)

    def quantised(path: Path) -> None:
        there = _name("f16") in known
        sixteen = job.place.folder / _name("f16") if there else job.place.written(HALF, written)
        quantise(job.quantiser, sixteen, path, kind)

    write = quantised if kind in K_QUANTS else written
    return job.place.proved(_name(kind), write, lambda path: measure_file(path, kind, bench, listener))


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
        "made_of": job.place.made_of,
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
    room = room_tokens(job.source, in_gguf=True)
    write_whole(job.place.folder / MODELFILE, modelfile(_name(kind), frame, stops, room))
    unlike = count_unlike(frame, template, job.trial.chats)
    return {"modelfile_of": _name(kind), "chats": len(job.trial.chats), "otherwise": unlike, "tried": False}
