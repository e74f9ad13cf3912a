"""The head of a card, which the hub reads: written by the hub's own library, so that it takes it back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from doitune.data.corpus import KNOWN
from doitune.data.suites import BENCHMARKS
from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, MERGED, Handed, percent
from doitune.export.card.scores import Scored, questions_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from doitune.evals.report import Mean, Report, SetScore, Table

LLAMA_CPP = "llama-cpp-python"
LIBRARIES = {ADAPTER: "peft", MERGED: "transformers", GGUF: LLAMA_CPP, GGUF_ADAPTER: LLAMA_CPP}
"""What reads an export, by the hub's names."""

RELATIONS = {ADAPTER: "adapter", MERGED: "finetune", GGUF: "finetune", GGUF_ADAPTER: "adapter"}
TAGS = {ADAPTER: (), MERGED: ("merged",), GGUF: ("gguf",), GGUF_ADAPTER: ("gguf",)}
LANGUAGE = "zh"
"""Of the corpora that have a name; what own rows are in is their author's to add."""


def front_matter(handed: Handed, found: Sequence[Scored]) -> str:
    """The head between its `---`."""
    from huggingface_hub import ModelCardData

    base = handed.base
    results = [one for scored in found for one in _results(scored.own, questions_of(handed.source, scored))]
    relation: dict[str, Any] = {"base_model_relation": RELATIONS[handed.to]} if base.on_hub else {}
    data = ModelCardData(
        base_model=base.name if base.on_hub else None,
        **relation,
        datasets=handed.datasets or None,
        language=LANGUAGE if {one.place for one in handed.source.recipe.data.corpora} <= {*KNOWN} else None,
        library_name=LIBRARIES[handed.to],
        metrics=sorted({one.metric_type for one in results}) or None,
        model_name=handed.title if results else None,
        eval_results=results or None,
        pipeline_tag="text-generation",
        tags=_tags(handed),
    )
    return f"---\n{data.to_yaml()}\n---"


def _tags(handed: Handed) -> list[str]:
    adapter = ["lora"] if handed.to in (ADAPTER, GGUF_ADAPTER) else []
    trained = ["qlora"] if handed.source.quantised else []
    return [
        "doitune",
        *adapter,
        *trained,
        *TAGS[handed.to],
        *(["ollama"] if "ollama" in handed.document else []),
    ]


def _results(report: Report, corpus: str) -> Iterator[EvalResult]:
    """The mean of each protocol; each set where some are of free answers and others are not. `corpus`: see
    `questions_of`."""
    for table in report.tables:
        kinds = {one.free == one.n for one in table.sets}
        if len(kinds) == 1 and not any(0 < one.free < one.n for one in table.sets):
            yield _result(report, corpus, table, table.mean, f"mean over {table.mean.sets} sets", kinds.pop())
            continue
        for one in table.sets:
            yield _result(report, corpus, table, one, one.title, one.free == one.n)


def _result(
    report: Report, corpus: str, table: Table, score: Mean | SetScore, what: str, free: bool
) -> EvalResult:
    """One number in %, with its interval and all that a reader needs to ask it again."""
    from huggingface_hub import EvalResult

    benchmark = BENCHMARKS.get(report.suite)
    asked: dict[str, Any] = {
        "protocol": table.protocol,
        "shots": report.shots,
        "questions": score.n,
        "low": round(100 * score.low, 1),
        "high": round(100 * score.high, 1),
        "level": 95,
        "chance": round(100 * score.chance, 1),
    }
    return EvalResult(
        task_type="text-generation",
        dataset_type=benchmark.repository if benchmark else report.suite,
        dataset_name=benchmark.title if benchmark else f"{report.suite} of {corpus}",
        metric_type="chrf" if free else "accuracy",
        metric_name=f"{what}, protocol {table.protocol}, {report.shots} shots, "
        f"95 % interval {percent(score.low)}-{percent(score.high)}",
        metric_value=round(100 * score.score, 1),
        metric_args=asked,
    )
