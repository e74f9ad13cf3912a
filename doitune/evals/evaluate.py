"""Ask a task of a model and score it, batch by batch, so that an interrupted evaluation goes on where it was.

A folder belongs to one model, one encoder and one set of questions; anything else is refused, never mixed in.
The report covers every question that the folder has a reply to, so a larger `limit` adds to a smaller one.
Every reply is read under both protocols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from doitune.data.suites import BENCHMARKS
from doitune.errors import CheckpointError
from doitune.evals import saved
from doitune.evals.batching import read_batching
from doitune.evals.reading.answers import judge_reply
from doitune.evals.reading.paper import paper_chance
from doitune.evals.reading.texts import rouge_l
from doitune.evals.report import Outcome, Report, tabulate
from doitune.evals.task import Item, Reply, Task
from doitune.run.layout import OUTCOMES, REPORT
from doitune.system.doing import counted, doing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.evals.ask import Kept, Limits
    from doitune.evals.prompts import Prompt
    from doitune.prompt.template import Template

PROTOCOLS = ("fixed", "paper")


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is: questions answered (those of earlier runs included) and asked for."""

    done: int
    total: int
    set: str = ""


def evaluate(
    model: LoadedModel,
    template: Template,
    task: Task,
    folder: Path,
    *,
    identity: Mapping[str, str],
    limit: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    limits: Limits | None = None,
) -> Report:
    """Ask what `folder` has no reply to yet, score it, and write `report.json`. Leaves the model in
    evaluation mode.

    `identity` names the model (the base's files, the adapter's hash, ...): each line carries its hash with
    the encoder's fingerprint. `limit`: see Task.limited. Errors: CheckpointError for a folder of another
    model, encoder or set of questions; LockedError while another process works on it; FitError; DiskError.
    """
    from doitune.evals.ask import Kept, Limits
    from doitune.evals.batching import proved_batching
    from doitune.evals.prompts import prepare, refuse_unaskable
    from doitune.prompt.encode import fingerprint

    limits, kept = limits or Limits(), Kept()
    manifest = saved.Manifest.of(task, identity, fingerprint(template), template.moment)
    manifest = _with_tokens(manifest, task, template)
    with saved.working_on(folder):
        _claim(folder, manifest)
        doing(f"encoding the questions of {task.suite}")
        prompts = prepare(task.limited(limit).items, template, limits.context_tokens)
        refuse_unaskable(prompts, limits.context_tokens)
        lines = saved.read_lines(folder)
        answered = {
            prompt.item.id
            for prompt in prompts
            if _answers(lines.get(prompt.item.id), prompt, manifest.model)
        }
        model.training(False)

        def keep(asked: Sequence[tuple[Item, Reply]]) -> None:
            fresh = {
                item.id: _line(item, reply, item.document, manifest.model)
                for item, reply in asked
                if item.id not in answered
            }
            saved.append_lines(folder, fresh.values())
            lines.update(fresh)
            answered.update(fresh)
            if fresh and on_progress is not None:
                on_progress(Progress(len(answered), len(prompts), asked[0][0].set))

        rest: Sequence[Prompt] = prompts
        if not limits.exact and any(prompt.item.id not in answered for prompt in prompts):
            found = proved_batching(folder, model, template, prompts, limits.batch_tokens, keep)
            limits = replace(limits, exact=bool(found.parted))
            rest = prompts if found.parted else _unproved(prompts, limits, answered)
        doing(f"asking the questions of {task.suite}", len(answered), len(prompts))
        for batch in _batches(rest, limits, answered, model):
            keep(_replies(model, template, batch, kept))
        return _finish(folder, manifest, [line for line in lines.values() if line.model == manifest.model])


def _with_tokens(manifest: saved.Manifest, task: Task, template: Template) -> saved.Manifest:
    """The manifest with the tokens that options are scored by. ModelError where two options cannot be told
    apart."""
    from doitune.evals.letters import one_each, scored_ids

    taught: dict[str, int] = {}
    several: dict[str, tuple[int, ...]] = {}
    bare: dict[str, int] = {}
    for item in {item.options: item for item in task.items if item.options and item.way != "rank"}.values():
        own, released = scored_ids(item, template)
        taught |= dict(zip(item.options, one_each(own), strict=False))
        several |= {} if one_each(own) else dict(zip(item.options, own, strict=True))
        bare |= dict(zip(item.options, released, strict=False))
    return replace(manifest, option_ids=taught, bare_ids=bare, option_tokens=several)


def _claim(folder: Path, manifest: saved.Manifest) -> None:
    """Make the folder this evaluation's, or refuse it as another's; a torn last line is cut off."""
    found = saved.read_manifest(folder)
    if found is None:
        if (folder / OUTCOMES).exists():
            raise CheckpointError(
                f"{folder} has replies of an unknown model", "give another folder, or move this one away"
            )
        saved.write_manifest(folder, manifest)
        return
    for what, mine, its in (
        ("another suite", [manifest.suite, manifest.shots], [found.suite, found.shots]),
        ("another model", dict(manifest.identity), dict(found.identity)),
        ("another prompt encoder", manifest.fingerprint, found.fingerprint),
        ("other questions", manifest.document, found.document),
    ):
        if mine != its:
            raise CheckpointError(
                f"{folder} holds the replies of an evaluation with {what}: {_difference(mine, its)}",
                "give another folder, or move this one away; replies of two models are never mixed",
            )
    saved.mend(folder)


def _difference(mine: object, its: object) -> str:
    """The first thing that differs, in a few words."""
    if isinstance(mine, dict) and isinstance(its, dict):
        key = next(key for key in sorted({*mine, *its}) if mine.get(key) != its.get(key))
        return f"{key} is {mine.get(key)!r}, there {its.get(key)!r}"
    return f"{mine!r}, there {its!r}"


def _answers(line: saved.Line | None, prompt: Prompt, model: str) -> bool:
    """Whether a saved line answers this very prompt."""
    return (
        line is not None
        and line.model == model
        and line.document == prompt.item.document
        and line.reply.prompt == prompt.reply().prompt
        and line.reply.too_long == prompt.too_long
    )


def _unproved(prompts: Sequence[Prompt], limits: Limits, answered: set[str]) -> Sequence[Prompt]:
    """What is asked where the proof of batches has answered some: the rest. All, where an older version made
    the proof and kept no reply."""
    from doitune.evals.batching import whole_replies

    proof = whole_replies(prompts, limits.batch_tokens)
    return [one for one in prompts if one.item.id not in proof] if proof <= answered else prompts


def _batches(
    prompts: Sequence[Prompt], limits: Limits, answered: set[str], model: LoadedModel
) -> Iterable[Sequence[Prompt]]:
    """The batches of the whole task that still have an unanswered question: cut as if nothing had been
    answered yet."""
    from doitune.evals.ask import cut

    refused = [prompt for prompt in prompts if prompt.too_long]
    batches = [refused] if refused else []
    asked = [prompt for prompt in prompts if not prompt.too_long]
    batches += cut(asked, limits, shares=model.shares_prefix, cost_tokens=model.batch_cost_tokens)
    return [batch for batch in batches if any(prompt.item.id not in answered for prompt in batch)]


def _replies(
    model: LoadedModel, template: Template, batch: Sequence[Prompt], kept: Kept
) -> list[tuple[Item, Reply]]:
    from doitune.evals.ask import ask_batch

    if batch[0].too_long:
        return [(prompt.item, prompt.reply()) for prompt in batch]
    return ask_batch(model, template, batch, kept)


def _line(item: Item, reply: Reply, document: str, model: str) -> saved.Line:
    """A reply, read under every protocol."""
    verdicts = {protocol: judge_reply(item, reply, protocol) for protocol in PROTOCOLS}
    return saved.Line(
        item, document, model, reply, verdicts, {"fixed": item.chance, "paper": paper_chance(item)}
    )


def score_folder(folder: Path) -> Report:
    """Read and score a folder's replies again, without a model: after a parser changed. Both files are
    replaced.

    Errors: CheckpointError where there is no evaluation, LockedError while it goes on, DiskError.
    """
    manifest = saved.read_manifest(folder)
    if manifest is None:
        raise _no_evaluation(folder)
    with saved.working_on(folder):
        return _score(folder, manifest)


def _no_evaluation(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds no evaluation", "give a folder with evaluation.json and outcomes.jsonl in it"
    )


def _score(folder: Path, manifest: saved.Manifest) -> Report:
    lines = saved.read_lines(folder)
    if not lines:
        raise _no_evaluation(folder)
    saved_lines = counted("reading the saved replies", [*lines.values()])
    again = [_line(line.item, line.reply, line.document, line.model) for line in saved_lines]
    saved.rewrite_lines(folder, again)
    return _finish(folder, manifest, again)


def outcomes(
    lines: Iterable[saved.Line], protocol: str, chances: Mapping[str, float] = MappingProxyType({})
) -> list[Outcome]:
    """What the statistics need of saved lines under one protocol. `chances`: of sets that declare theirs."""
    return [_outcome(line, protocol, chances) for line in lines]


def _outcome(line: saved.Line, protocol: str, chances: Mapping[str, float]) -> Outcome:
    verdict, chance = line.verdicts[protocol], chances.get(line.item.set, line.chances[protocol])
    shots = line.reply.released_shots if protocol == "paper" else None
    return Outcome(
        id=line.item.id,
        set=line.item.set,
        correct=float(verdict.correct),
        chance=chance,
        read=verdict.found or line.item.form == "ppl_rank",
        too_long=line.reply.too_long,
        fallback="option scores" in verdict.note and line.item.way == "write",
        cluster=line.item.cluster,
        label=line.item.label,
        chosen=verdict.parsed if isinstance(verdict.parsed, str) and len(verdict.parsed) == 1 else "",
        free=line.item.form == "open",
        measures=free_measures(line) if line.item.form == "open" else {},
        fewer_shots=(line.reply.shots if shots is None else shots) < line.item.shots,
    )


def free_measures(line: saved.Line) -> dict[str, float]:
    """What is measured of a free answer beside chrF: `exact` and `rouge_l` in 0..1, and `loss`, of the row's
    own answer in nats a token, where it was measured."""
    said, wanted = (line.reply.text or "").strip(), line.item.label.strip()
    found = {"exact": float(said == wanted), "rouge_l": rouge_l(said, wanted)}
    losses = [one.mean for one in line.reply.candidates if math.isfinite(one.mean)]
    return {**found, "loss": losses[0]} if losses else found


def _finish(folder: Path, manifest: saved.Manifest, lines: Sequence[saved.Line]) -> Report:
    """The report over these lines, written beside them."""
    doing(f"scoring the replies of {manifest.suite}")
    batching = read_batching(folder)
    order = list(manifest.totals)
    tables = tuple(
        tabulate(
            protocol,
            outcomes(lines, protocol, manifest.chances),
            order=order,
            headline=manifest.headline,
            totals=manifest.totals,
            groups=manifest.groups,
            halved=manifest.suite not in BENCHMARKS,
        ).titled(manifest.titles)
        for protocol in PROTOCOLS
    )
    report = Report(
        suite=manifest.suite,
        shots=manifest.shots,
        identity=manifest.identity,
        tables=tables,
        n=len(lines),
        total=sum(manifest.totals.values()),
        headline=manifest.headline,
        folder=folder.name,
        fingerprint=manifest.fingerprint,
        document=manifest.document,
        batching=batching.text if batching else "",
    )
    saved.write_json(folder / REPORT, report.to_json())
    return report
