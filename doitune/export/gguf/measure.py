"""A GGUF in llama.cpp beside the trained model: the ids of its prompts, what it says to the same rows, and
its score on the same questions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import ModelError
from doitune.evals.compare import compare as compare_sides
from doitune.evals.compare import read_side
from doitune.evals.evaluate import evaluate
from doitune.evals.targets import limits_of
from doitune.export.gguf.sizes import context_length
from doitune.export.measure import Questions, ask_trained
from doitune.export.parity import AGREEMENT, Answers, ask, compare
from doitune.export.tokenizer import exported_template, rendered_text
from doitune.export.trial import SUITE
from doitune.prompt.encode import encode, encode_question
from doitune.prompt.speech import as_turns, spoken
from doitune.system.doing import counted, doing
from doitune.system.versions import version_of

if TYPE_CHECKING:
    from doitune.backends.llama_cpp import LlamaCppModel, Server
    from doitune.base.folder import Base
    from doitune.data.example import Message
    from doitune.evals.report import Report
    from doitune.export.measure import Listener
    from doitune.export.source import Source
    from doitune.export.trial import Trial
    from doitune.prompt.encoded import Encoded
    from doitune.prompt.template import Template

POSITIONS = 256
"""Answer tokens that are compared, at most: each is a request of its own, with a whole vocabulary in it."""

MARGIN = 0.02
"""Two points: a quantised file is asked whether it is no worse than that."""

WHOLE = ("f32", "f16", "bf16")
"""Types under which a file may be called the trained model; the others are judged by their score."""

ROOM_TOKENS = 512
"""For a reply, beside the longest example."""


@dataclass(frozen=True)
class Bench:
    """What every file of an export is measured by: the trained model's answers to `rows` and its score, kept
    in `work`; `template`: that of the merged folder."""

    source: Source
    merged: Base
    trial: Trial
    template: Template
    rows: tuple[Encoded, ...]
    trained: Answers
    before: Report | None
    work: Path

    @classmethod
    def of(cls, source: Source, merged: Base, trial: Trial, work: Path, listener: Listener) -> Bench:
        """The trained model is loaded and asked, once for all files."""
        listener.note("asking the model as it was trained")
        rows = _some(trial.rows, context_length(merged.config))
        trained, before = ask_trained(source, rows, Questions(trial.task, work, listener.questions))
        template = exported_template(merged.folder, source.template)
        return cls(source, merged, trial, template, rows, trained, before, work)

    def clear(self) -> None:
        """Delete the replies that were kept, once all is measured."""
        shutil.rmtree(self.work, ignore_errors=True)

    @property
    def context_tokens(self) -> int:
        """Room for the longest example and a reply, as far as the file has it."""
        return min(self.source.recipe.train.max_tokens + ROOM_TOKENS, context_length(self.merged.config))


def _some(rows: Sequence[Encoded], context_tokens: int) -> tuple[Encoded, ...]:
    """As many rows, in order, as have POSITIONS answer tokens; at least one. What the file's context has no
    room for is left out."""
    kept: list[Encoded] = []
    for row in [one for one in rows if len(one.ids) <= context_tokens]:
        if kept and sum(one.trained for one in kept) + row.trained > POSITIONS:
            break
        kept.append(row)
    return tuple(kept)


def prove_prompts(server: Server, source: Source, template: Template, trial: Trial) -> dict[str, Any]:
    """The file's vocabulary gives each chat the ids of training, as a question and as a whole; and llama.cpp
    renders as many of them by the file's own template to the same text. ModelError for other ids."""
    rendered = alike = 0
    for messages in counted("comparing prompt ids: chats", list(trial.chats)):
        question = messages[:-1]
        text = rendered_text(template, question, True)
        _refuse_other(server, text, encode_question(question, source.template))
        whole = encode(messages, source.template).ids
        _refuse_other(server, rendered_text(template, messages, False), whole)
        if not source.template.reads_clock and (turns := _plain(template, question)):
            rendered += 1
            alike += server.ask("apply-template", messages=turns)["prompt"] == text
    return {"chats": len(trial.chats), "equal": True, "rendered": rendered, "rendered_alike": alike}


def _refuse_other(server: Server, text: str, trained: Sequence[int]) -> None:
    """ModelError where a chat has other ids than in training (what a template writes after the last end
    token is no part of what was trained)."""
    ids = server.ask("tokenize", content=text, add_special=False, parse_special=True)["tokens"]
    if tuple(ids[: len(trained)]) == tuple(trained):
        return
    pairs = enumerate(zip(ids, trained, strict=False))
    place = next((at for at, (a, b) in pairs if a != b), min(len(ids), len(trained)))
    raise ModelError(
        f"llama.cpp gives a chat other ids than training did: the first that differs is number {place}",
        "this tokenizer has no GGUF that answers as it was trained; take the merged folder: --to merged",
        place=str(server.path),
    )


def _plain(template: Template, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A chat as the endpoint takes it; empty where it has more than roles and contents."""
    if template.renderer is None:
        return [{"role": one.role, "content": one.content} for one in messages]
    turns, tools = as_turns(spoken(messages, template.manner), template.manner)
    return [] if tools or any(set(turn) != {"role", "content"} for turn in turns) else turns


def measure_file(
    path: Path, kind: str, bench: Bench, listener: Listener, adapter: Path | None = None
) -> dict[str, Any]:
    """What export.json says of a file, with an `adapter` on it. ModelError for other prompt ids, or where
    llama.cpp ends or hangs."""
    from doitune.backends.llama_cpp import LlamaCppModel, running

    doing(f"llama.cpp reads {kind}")
    with running(path, bench.context_tokens, adapter) as server:
        prompt = prove_prompts(server, bench.source, bench.template, bench.trial)
        rows = bench.trained.log_probs.shape[1]
        model = LlamaCppModel(server, bench.template.tokenizer, rows)
        listener.note(f"asking {kind} in llama.cpp")
        pair = compare("trained", bench.trained, kind, ask(model, bench.rows))
        score = _score(model, kind, bench, listener)
    problems = []
    if prompt["rendered_alike"] != prompt["rendered"]:
        other = prompt["rendered"] - prompt["rendered_alike"]
        problems.append(
            f"llama.cpp renders {other} of {prompt['rendered']} chats otherwise by the chat template"
        )
    if kind in WHOLE and pair.agreement < AGREEMENT:
        equal = f"the same likeliest token for {100 * pair.agreement:.1f} %"
        wanted = f"{100 * AGREEMENT:.0f} % are wanted"
        problems.append(f"of {pair.positions} answer tokens it has {equal}, {wanted}")
    return {
        "quant": kind,
        "same": not problems,
        "problems": problems,
        "prompt": prompt,
        "parity": pair.to_json(),
        "evaluation": score,
        "measured_by": f"xllamacpp {version_of('xllamacpp')}",
    }


def _score(model: LlamaCppModel, kind: str, bench: Bench, listener: Listener) -> dict[str, Any] | None:
    """The same questions before and after, by the paired test of `doitune compare`; None where none are
    asked."""
    if bench.before is None or bench.trial.task is None:
        return None
    recipe, side = bench.source.recipe, bench.work / kind
    limits = limits_of(recipe, bench.merged, True)
    context = min(limits.context_tokens or bench.context_tokens, bench.context_tokens)
    evaluate(
        model,
        bench.template,
        bench.trial.task,
        side,
        identity={"side": kind, "work": bench.work.name, "compute_dtype": model.compute_dtype},
        limits=replace(limits, context_tokens=context),
        on_progress=lambda progress: listener.questions(f"{SUITE} {kind}", progress),
    )
    mean = compare_sides(read_side(bench.work / "before"), read_side(side), margin=MARGIN).mean
    return {
        "suite": SUITE,
        "questions": mean.n,
        "before": mean.score_a,
        "after": mean.score_b,
        "difference": mean.difference,
        "low": mean.low,
        "high": mean.high,
        "p": mean.mcnemar_p,
        "flips_up": mean.flips_up,
        "flips_down": mean.flips_down,
        "margin": MARGIN,
        "no_worse": "yes" if mean.no_worse else "no" if mean.high < -MARGIN else "not shown",
    }
