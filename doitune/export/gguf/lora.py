"""The format `gguf-adapter`: the adapter by itself, as llama.cpp loads it onto a base (a GGUF LoRA), and the
base's own F16 file, in which prompts have the ids of training.

An adapter that was trained on 4-bit values sits on others there: another model than the trained one, so it is
compared and said, and a merged file is what `--to gguf` makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from doitune.base.adapter import WEIGHTS
from doitune.base.folder import REPORT
from doitune.errors import ModelError
from doitune.export.card.card import write_card
from doitune.export.card.handed import GGUF_ADAPTER, Handed, named_base
from doitune.export.gguf.export import refuse_no_reader
from doitune.export.gguf.file import plan_file, write_file
from doitune.export.gguf.foresight import write_tokens
from doitune.export.gguf.measure import Bench, measure_file
from doitune.export.gguf.place import Place, held, refuse_foreign
from doitune.export.measure import Listener
from doitune.export.out import resolved_out
from doitune.export.parity import AGREEMENT
from doitune.export.parts import open_parts
from doitune.export.report import NOT_MEASURED, SCHEMA, Export, work_folder
from doitune.export.source import open_source
from doitune.export.trial import choose_trial
from doitune.system.disk import file_sha256, write_json, write_whole
from doitune.system.secrets import redacted
from doitune.system.units import size_of

if TYPE_CHECKING:
    from doitune.base.adapter import LanguageLora
    from doitune.export.gguf.file import Plan
    from doitune.export.merged import Wish
    from doitune.export.source import Source
    from doitune.export.trial import Trial

BASE, ADAPTER = "base-f16.gguf", "adapter-f32.gguf"

OTHER_BASE = (
    "the adapter was trained on the base's 4-bit values and sits on other ones here, so it may answer "
    "otherwise than the trained model: --to gguf merges it into the values that it was trained on"
)


def export_lora(wish: Wish, listener: Listener | None = None) -> Export:
    """Write both files and compare them with the trained model, or go on with it.

    Errors: UsageError, ModelError for a base or an adapter that has no such files, or other prompt ids there,
    CheckpointError, DiskError, LockedError, FitError.
    """
    listener = listener or Listener()
    refuse_no_reader()
    refuse_foreign(resolved_out(wish.out), GGUF_ADAPTER)
    source = open_source(wish.run, wish.checkpoint, wish.moved_to)
    _refuse_without(source)
    parts = open_parts(source.base.folder, source.checkpoint.folder, rounded=False)
    if own := sorted(parts.loras[0].own):
        raise ModelError(
            f"the adapter holds {own[0]} whole, which a GGUF LoRA has no place for", "--to gguf merges it"
        )
    trial = choose_trial(source, wish.questions)
    with TemporaryDirectory(prefix="doitune-") as name:
        write_tokens(source, Path(name), parts.vocabulary)
        plan = plan_file(Path(name), "f16", parts.base)
        with held(resolved_out(wish.out), _made_of(source, plan), GGUF_ADAPTER) as place:
            found = _Job(source, trial, place, plan, parts.loras[0]).done(listener)
            handed = Handed(source, named_base(source), found.folder.name, found.document)
            write_card(found.folder, handed, kept=found.again)
            return found


def _refuse_without(source: Source) -> None:
    """ModelError for what only a merged file can hold."""
    if source.stored_in_4_bits:
        raise ModelError(
            f"{source.base.name} is here in 4 bits only: there is no F16 file of it to put an adapter on",
            "--to gguf merges the adapter into those values",
        )
    if source.template.new_rows:
        raise ModelError(
            f"{source.run.name} trained token rows of its own, which a GGUF LoRA has no place for",
            "--to gguf merges them",
        )


def _made_of(source: Source, plan: Plan) -> str:
    """Hash of all that the files' bytes depend on."""
    files = [*plan.weights.files, source.checkpoint.folder / WEIGHTS, plan.folder / "tokenizer.json"]
    return sha256(json.dumps([file_sha256(path) for path in files]).encode()).hexdigest()


@dataclass(frozen=True)
class _Job:
    """An export under its lock; `plan`: of the base's file."""

    source: Source
    trial: Trial
    place: Place
    plan: Plan
    lora: LanguageLora

    def done(self, listener: Listener) -> Export:
        """Both files, and export.json."""
        folder, known = self.place.folder, self.place.finished(self.trial.identity)
        if {BASE, ADAPTER} <= {*known}:
            return Export(folder, redacted(self._document(known)), again=True)
        if not known:
            write_whole(folder / REPORT, NOT_MEASURED)
        if BASE not in known:
            listener.note(f"about {size_of(self.plan.bytes)} will be written")
            known[BASE] = self.place.proved(
                BASE, lambda path: write_file(self.plan, path, listener.file), lambda path: {}
            )
            write_json(folder / REPORT, redacted(self._document(known)))
        work = work_folder(folder, self.place.made_of[:16])
        base = replace(self.source.base, folder=self.plan.folder)
        bench = Bench.of(self.source, base, self.trial, work, listener)
        known[ADAPTER] = self.place.proved(
            ADAPTER,
            lambda path: write_adapter(self.plan, self.lora, path),
            lambda path: measure_file(folder / BASE, "adapter", bench, listener, path),
        )
        document = redacted(self._document(known))
        write_json(folder / REPORT, document)
        self.place.close()
        bench.clear()
        return Export(folder, document)

    def _document(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """export.json of the files so far."""
        problems = (
            _problems(self.source, known[ADAPTER]["parity"]) if ADAPTER in known else ["not measured yet"]
        )
        return {
            "schema": SCHEMA,
            "to": GGUF_ADAPTER,
            "same": not problems if ADAPTER in known else None,
            "problems": problems,
            "cure": "--to gguf merges the adapter instead" if problems else "",
            "run": self.source.run.name,
            "checkpoint": self.source.checkpoint.folder.name,
            "base": {"name": self.source.base_name, "revision": self.source.base.revision},
            "trained_against": "nf4" if self.source.quantised else "own",
            "warning": OTHER_BASE if self.source.quantised else "",
            "made_of": self.place.made_of,
            "trial": self.trial.identity,
            "left_out": list(self.trial.left_out),
            "files": dict(known),
        }


def _problems(source: Source, pair: Mapping[str, Any]) -> list[str]:
    """An adapter on the base that it was trained on has to say what it said there."""
    if source.quantised or pair["agreement"] >= AGREEMENT:
        return []
    equal = f"the same likeliest token for {100 * pair['agreement']:.1f} %"
    return [f"of {pair['positions']} answer tokens it has {equal}, {100 * AGREEMENT:.0f} % are wanted"]


def write_adapter(plan: Plan, lora: LanguageLora, path: Path) -> None:
    """The adapter's factors in fp32 under the names of the base's file, their rows as they lie there.
    ModelError where one has no tensor in it."""
    from gguf import GGUFWriter

    matrices = {one.source: one for one in plan.tensors if one.source in lora.factors}
    if absent := sorted(set(lora.factors) - set(matrices)):
        raise ModelError(f"the adapter changes {absent[0]}, which is not in the base's file", "--to gguf")
    rank = lora.weights.table[next(iter(lora.factors.values()))[0]].shape[0]
    writer = GGUFWriter(path, plan.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", lora.scale * rank)
    for source, one in matrices.items():
        below, above = (lora.weights.get(name).float() for name in lora.factors[source])
        assert prod(one.shape) == len(above) * below.shape[1]
        writer.add_tensor(f"{one.name}.lora_a", below.contiguous().numpy())
        writer.add_tensor(f"{one.name}.lora_b", above[one.order()].contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
