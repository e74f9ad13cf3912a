"""What a model can be asked: one entry for each suite. Recipes, help texts, fetches and evaluations read this
table.

A new benchmark is an entry here and a file in `doitune/evals/suites/` that reads its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from doitune.data.sources import TEST, VALID


@dataclass(frozen=True)
class CorpusSuite:
    """Questions that are rows of the corpus, in its folder `source`."""

    name: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public benchmark with data of its own, none of which is bundled.

    `file`: the module in `doitune/evals/suites/` that reads its data. `most_shots`: solved examples that each
    of its sets has. `licence`: of the data. `archive`: the address of a zip archive with them, or the name of
    one in the data set `repository` on the Hugging Face hub. `mib`: size of the files that are kept. `known`:
    the digest (`evals.suites.files.digest_of`) of the version that this release was tried with.
    """

    name: str
    title: str
    file: str
    most_shots: int
    licence: str
    repository: str
    archive: str
    mib: float
    known: str


_ENTRIES: tuple[CorpusSuite | Benchmark, ...] = (
    CorpusSuite("doit-valid", source=VALID),
    CorpusSuite("doit-test", source=TEST),
    Benchmark(
        name="cmmlu",
        title="CMMLU, 67 subjects, 11,582 questions",
        file="cmmlu",
        most_shots=5,
        licence="CC BY-NC-SA 4.0: no commercial use",
        repository="haonan-li/cmmlu",
        archive="cmmlu_v1_0_1.zip",
        mib=2.3,
        known="15a232ee8699909d8c522a5f9b69030453686f652c116afcaf1068cb2f3ac4d6",
    ),
    Benchmark(
        name="agieval-v1",
        title="AGIEval v1, ten Chinese sets, 3,269 questions with one right letter",
        file="agieval",
        most_shots=5,
        licence="by set (v1/LICENSE): LogiQA CC BY-NC-SA 4.0; JEC-QA academic research only, "
        "no commercial use; others MIT",
        repository="ruixiangcui/AGIEval",
        archive="https://github.com/ruixiangcui/AGIEval/archive/refs/heads/main.zip",
        mib=3.2,
        known="22f6ccfa49f718d08930b8b74f3f2d95f58360e3f5fa34e19e6b5977dfa07260",
    ),
)
# Unverified, as this release was made without a connection: that the archives still lie at these addresses.

SUITES: Mapping[str, CorpusSuite | Benchmark] = MappingProxyType({one.name: one for one in _ENTRIES})
"""By name, in the order of the help texts."""

DEFAULT_SUITE = "doit-test"

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {one.name: one for one in _ENTRIES if isinstance(one, Benchmark)}
)
CORPUS_SUITES: Mapping[str, CorpusSuite] = MappingProxyType(
    {one.name: one for one in _ENTRIES if isinstance(one, CorpusSuite)}
)
