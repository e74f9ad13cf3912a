"""What is in a corpus and what is wrong with it: rows by ability and form, bad rows, odd text, duplicates,
leaks, token lengths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import quantiles

from doitune.data.corpus import Corpus
from doitune.data.example import Example
from doitune.data.jsonl import Finding, shown
from doitune.data.keys import name_unread
from doitune.data.leaks import Leak, duplicates, leaks_of
from doitune.data.own_rows import ability_slips, at_row
from doitune.data.sources import FULL, SMALL
from doitune.data.suites import CORPUS_SUITES
from doitune.errors import DataError
from doitune.system.doing import counted, doing

CONTROL_TOKENS = (
    "<user>", "<assistant>", "<eot>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
)  # fmt: skip
"""Tokens that some template gives a meaning; a model's own role tokens are given to `check` beside them."""

SCHEMA = "doitune.data_check/1"

_ODD_TEXT = {
    "direction": (
        re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"),
        "a character that turns the direction of writing",
    ),
    "invisible": (
        re.compile("[\u200b\u200c\u2060\ufeff]|(?<![\u2600-\U0010ffff])\u200d"),
        "an invisible character",
    ),
    "control_character": (re.compile("[\x7f-\x9f]"), "a control character"),
    "broken_text": (re.compile("\ufffd"), "the mark of text that was decoded wrongly"),
}
_TEXT_HINT = "delete it, or write what was meant"

Lengths = Callable[[Sequence[Example]], Sequence[int]]


@dataclass(frozen=True)
class TokenLengths:
    """Lengths of whole rows, in tokens."""

    least: int
    median: int
    percentile_95: int
    most: int


@dataclass(frozen=True)
class RowCount:
    """The good rows of one ability in one source, by form of question, and their lengths where a tokenizer
    was given."""

    rows: int
    forms: Mapping[str, int]
    tokens: TokenLengths | None = None


@dataclass(frozen=True)
class CheckReport:
    """All that `doitune data check` found: rows by source and ability, what is wrong (files in order),
    which train rows leak where, and `notes`: what is not read though nothing is wrong with it; `forms`:
    how many rows of one's own are in each form."""

    rows: Mapping[str, Mapping[str, RowCount]]
    problems: tuple[Finding, ...]
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...] = ()
    forms: Mapping[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.leaks

    def to_json(self) -> dict[str, object]:
        """The document of `doitune data check --json`."""
        return {
            "schema": SCHEMA,
            "rows": {
                source: {name: _count_json(count) for name, count in counts.items()}
                for source, counts in self.rows.items()
            },
            "problems": [asdict(found) for found in self.problems],
            "leaks": [
                {key: getattr(leak, key) for key in ("train_id", "other_id", "suite", "coverage")}
                for leak in self.leaks
            ],
            "notes": list(self.notes),
            "forms": dict(self.forms),
        }


def check(
    corpus: Corpus,
    *,
    against: Mapping[str, Sequence[Example]] | None = None,
    encode_lengths: Lengths | None = None,
    max_tokens: int | None = None,
    role_tokens: Sequence[str] = (),
    declared: Collection[str] = (),
) -> CheckReport:
    """Read every source of a corpus and report.

    `against`: further judged rows by suite (CMMLU, AGIEval), whose messages should hold question and options
    only, for a frame that every question shares thins the coverage. `encode_lengths`: tokens of each row;
    rows above `max_tokens` would lose their answer and are problems. `role_tokens`: the model's role tokens,
    looked for in text beside CONTROL_TOKENS. `declared`: abilities of one's own that are no slips of known
    names. Bad rows are problems, never exceptions.
    """
    sources = [source for source in corpus.sources() if not (corpus.is_own and source == SMALL)]
    sources = sources or [FULL]  # an empty file says so when it is read
    problems: list[Finding] = []
    examples: dict[str, dict[str, list[Example]]] = {}
    for source in sources:
        examples[source], found = _read(corpus, source)
        problems += found
    token = _token_pattern((*CONTROL_TOKENS, *role_tokens))
    rows: dict[str, dict[str, RowCount]] = {}
    saying = "looking for hidden characters, twins and overlong rows: sources"
    for source, by_ability in counted(saying, [*examples.items()]):
        every = [example for group in by_ability.values() for example in group]
        problems += [finding for example in every for finding in _odd_text(example, token)]
        problems += _twins(every)
        problems += ability_slips(by_ability, declared) if corpus.is_own else ()
        rows[source] = {}
        for name, group in by_ability.items():
            lengths = list(encode_lengths(group)) if encode_lengths else []
            problems += _overlong(group, lengths, max_tokens)
            rows[source][name] = RowCount(
                len(group), Counter(example.form for example in group), _lengths(lengths)
            )
    leaks = _leaks(examples, against or {})
    every_row = (one for by_ability in examples.values() for group in by_ability.values() for one in group)
    notes = name_unread((one.place, one.unread) for one in every_row)
    return CheckReport(rows, tuple(problems), tuple(leaks), notes, corpus.forms)


def _read(corpus: Corpus, source: str) -> tuple[dict[str, list[Example]], list[Finding]]:
    """The good rows by ability, and what is wrong with the files and the other rows."""
    doing(f"reading the rows of {source}")
    try:
        scans = corpus.scan(source)
    except DataError as error:
        return {}, _as_findings("file", error)
    findings: list[Finding] = []
    by_ability: dict[str, list[Example]] = {}
    try:
        corpus.verify(source)
    except DataError as error:
        findings += _as_findings("checksum", error)
    for scan in scans.values():
        findings += scan.findings
        for example in scan.examples:
            by_ability.setdefault(example.ability, []).append(example)
    return by_ability, findings


def _as_findings(kind: str, error: DataError) -> list[Finding]:
    return [Finding(kind, problem.place, 0, problem.problem, problem.hint) for problem in error.problems]


def _token_pattern(tokens: Sequence[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(
            re.escape(token) for token in sorted({token for token in tokens if token}, key=len, reverse=True)
        )
    )


def _odd_text(example: Example, token: re.Pattern[str]) -> Iterator[Finding]:
    """One finding a kind and row: role tokens, and characters that a reader can't see."""
    texts = [(f"turn {number}", turn.said) for number, turn in enumerate(example.messages, 1)]
    texts += [(f"choice {number}", text) for number, text in enumerate(example.choices, 1)]
    reported: set[str] = set()
    for where, text in texts:
        if (found := token.search(text)) and "role_token" not in reported:
            reported.add("role_token")
            yield at_row(
                example,
                "role_token",
                f"{where} has the special token {shown(found[0])} as text",
                "rewrite it; a tokenizer may obey it",
            )
        for kind, (pattern, what) in _ODD_TEXT.items():
            if kind not in reported and (odd := pattern.search(text)):
                reported.add(kind)
                problem = f"{where} has {what}, U+{ord(odd[0]):04X}, at character {odd.start() + 1}"
                yield at_row(example, kind, problem, _TEXT_HINT)


def _twins(examples: Sequence[Example]) -> Iterator[Finding]:
    for example, first, exact in duplicates(examples):
        kind, what = (
            ("duplicate", "the same as")
            if exact
            else ("near_duplicate", "the same but for case, spaces and punctuation as")
        )
        yield at_row(example, kind, f"{what} {first.place}", "keep one of the two")


def _overlong(
    examples: Sequence[Example], lengths: Sequence[int], max_tokens: int | None
) -> Iterator[Finding]:
    for example, length in zip(examples, lengths, strict=False):
        if max_tokens is not None and length > max_tokens:
            problem = f"{length:,} tokens, more than {max_tokens:,}: its answer would be cut"
            yield at_row(example, "overlong", problem, "shorten the row, or raise train.max_tokens")


def _lengths(lengths: Sequence[int]) -> TokenLengths | None:
    if not lengths:
        return None
    cuts = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else [float(lengths[0])] * 19
    return TokenLengths(min(lengths), round(cuts[9]), round(cuts[18]), max(lengths))


def _leaks(
    examples: Mapping[str, Mapping[str, Sequence[Example]]], against: Mapping[str, Sequence[Example]]
) -> list[Leak]:
    train: list[Example] = []
    judged: dict[str, list[Example]] = {}
    suites = {suite.source: name for name, suite in CORPUS_SUITES.items()}
    for source, by_ability in examples.items():
        every = [example for group in by_ability.values() for example in group]
        if source in suites:
            judged[suites[source]] = every
        else:
            train += every
    return leaks_of(train, {**judged, **against})


def _count_json(count: RowCount) -> dict[str, object]:
    document: dict[str, object] = {"rows": count.rows, "forms": dict(count.forms)}
    return document | {"tokens": asdict(count.tokens)} if count.tokens else document
