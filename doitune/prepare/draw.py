"""Which rows a recipe learns from, is validated on and must not have seen; no tokenizer is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast, get_args

from doitune.ability import INSTRUCTIONS
from doitune.data.corpus import Corpus, open_several
from doitune.data.example import refuse
from doitune.data.holdout import Holdout, Rows
from doitune.data.leaks import Leak, leaks_of
from doitune.data.other_formats import OwnForm, RowForm
from doitune.data.own_rows import ability_slips
from doitune.data.rows import abilities_of, ids_of, taken
from doitune.data.sources import SYNTHETIC, VALID
from doitune.data.suites import CORPUS_SUITES
from doitune.errors import DataError, Problem, UsageError
from doitune.prompt.batch import epoch_order
from doitune.recipe.budget import Ledger, Pick, pick
from doitune.recipe.data_section import entry_of
from doitune.system.arrays import Column, in_order

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.recipe.fields import DataSection, Recipe
    from doitune.recipe.resolve import Resolved


JUDGED_SOURCES = tuple(suite.source for suite in CORPUS_SUITES.values())


def draw(recipe: Recipe) -> tuple[Pick, Corpus]:
    """The examples that a recipe's `data` section chooses, and the corpus they are from. No tokenizer is
    needed. DataError where a row's ability looks like a slip of a known one."""
    section = recipe.data
    corpus = recipe_corpus(section)
    rows: dict[str, Sequence[Example]] = {}
    for source in _sources(section, corpus):
        rows |= corpus.read(source)
    if corpus.is_own:
        refuse(ability_slips(rows, recipe.abilities))
    left = _by_corpus(section, corpus, rows)
    budget = section.budget.to_budget().of_corpus(left.keys(), own=corpus.is_own)
    try:
        picked = pick(
            left, budget, seed=section.seed, select=section.select, on_shortfall=section.on_shortfall
        )
    except DataError as error:
        short = {problem.place for problem in error.problems}
        if not short & {f"data.budget.{name}" for name in corpus.parted.kept_out}:
            raise
        said = say_kept_out(corpus)
        raise DataError.of(
            [replace(one, hint="; ".join([one.hint, *said])) for one in error.problems]
        ) from None
    return picked, corpus


def _by_corpus(section: DataSection, corpus: Corpus, rows: Rows) -> Rows:
    """The rows less those beyond the budget of the corpus that they are from. Which stay depends on seed and
    row alone, so that a smaller budget's are among a larger one's. Errors: DataError for a shortfall."""
    left = rows
    for entry, one in zip(section.corpora, corpus.units, strict=True):
        if entry.budget is None:
            continue
        files = {str(path) for source in one.kept.sources() for path in one.kept.files(source).values()}
        own = _Own(f"{section.seed}\x1f".encode())
        for place, row in enumerate(row for found in left.values() for row in found):
            if row.place.rpartition(":")[0] in files:
                own.add(place, row)
        if len(own) < entry.budget and section.on_shortfall == "stop":
            problem = (
                f"{entry.place} has {len(own):,} rows to learn from, its budget asks for {entry.budget:,}"
            )
            raise DataError(problem, "lower its budget, or write data.on_shortfall: take_all")
        left = _less(left, own.beyond(entry.budget))
    return left


class _Own:
    """Where the rows of one corpus stand among all, and what orders them."""

    def __init__(self, start: bytes) -> None:
        self._start, self._digests, self._places, self._count = start, Column("S32"), Column("i8"), 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: int, row: Example) -> None:
        self._digests.add(sha256(self._start + row.id.encode()).digest())
        self._places.append(place)
        self._count += 1

    def beyond(self, budget: int) -> Any:
        """The places of those that come after the first `budget`."""
        return self._places.as_array()[in_order(self._digests.as_array())[0][budget:]]


def _less(rows: Rows, places: Any) -> Rows:
    """The rows less those at these places among all; an ability that has none left is left out."""
    import numpy as np

    kept = np.ones(sum(map(len, rows.values())), dtype=bool)
    kept[places] = False
    left, start = {}, 0
    for name, found in rows.items():
        stays = np.flatnonzero(kept[start : start + len(found)])
        start += len(found)
        if len(stays):
            left[name] = found if len(stays) == len(found) else taken(found, stays)
    return left


def say_everything(section: DataSection, ledger: Ledger) -> list[str]:
    """A sentence for a budget that takes every row."""
    if not section.budget.to_budget().is_everything:
        return []
    counts = ", ".join(f"{name} {line.kept:,}" for name, line in ledger.lines.items() if line.kept)
    own = "" if all(one.budget is None for one in section.corpora) else " that its corpus's own budget leaves"
    return [f"no budget is written: every row{own} is learnt from ({counts})"]


def say_kept_out(corpus: Corpus) -> list[str]:
    """A sentence for rows that are kept out of training."""
    counts = ", ".join(f"{name} {len(rows):,}" for name, rows in corpus.parted.kept_out.items())
    said = [f"kept out to validate on and to be judged by: {counts} (data.holdout)"] if counts else []
    if corpus.parted.short:
        names = ", ".join(corpus.parted.short)
        said.append(f"nothing could be kept out of {names}: too few rows that no other row gives away")
    return said


def _sources(section: DataSection, corpus: Corpus) -> list[str]:
    """The folders of the corpus that the budget asks for; where it asks for everything, `data.source`, and of
    own rows all."""
    budget = section.budget
    if budget.to_budget().is_everything:
        own = {source for one in corpus.units if one.is_own for source in one.kept.sources()}
        only_synthetic = own and section.source not in own and all(one.is_own for one in corpus.units)
        first = [] if only_synthetic else [section.source]  # an empty file says so when it is read
        return [*first, *([SYNTHETIC] if SYNTHETIC in own else [])]
    names = {name for name, amount in budget.abilities.items() if amount != 0}
    sources = [section.source] if names - {INSTRUCTIONS.name} or budget.share_equally else []
    return [*sources, *([SYNTHETIC] if INSTRUCTIONS.name in names else [])]


def recipe_corpus(section: DataSection) -> Corpus:
    """The corpus that a recipe's `data` section names, its rows read in the form that the section
    declares."""
    return open_several(_wanted(section), Holdout(section.holdout, section.holdout_rows, section.seed))


def other_corpus(section: DataSection, corpora: Sequence[str]) -> Corpus:
    """Other corpora, read as a recipe's `data` section says of all of its own; nothing is kept out."""
    entries = tuple(entry_of(place) for place in corpora)
    return open_several(_wanted(section.model_copy(update={"corpus": entries})))


def _wanted(section: DataSection) -> list[tuple[str, RowForm | None]]:
    """Each corpus with how its rows are read: as its own entry says, else as the section says of all."""
    return [
        (
            entry.place,
            row_form(
                entry.rows or section.rows,
                entry.ability or ("" if entry.ability_column else section.rows_ability),
                (entry.question_column, entry.answer_column)
                if entry.question_column
                else (section.question_column, section.answer_column),
                entry.ability_column or ("" if entry.ability else section.ability_column),
            ),
        )
        for entry in section.corpora
    ]


def row_form(
    rows: str, ability: str = "", columns: tuple[str, str] = ("", ""), ability_column: str = ""
) -> RowForm | None:
    """How rows are written: in the form called `rows` (doit or one of OwnForm), with the ability of every
    row, the columns of question and answer, and that of the ability, where they are named. None where nothing
    is said. UsageError for another form."""
    if rows not in ("doit", *get_args(OwnForm)):
        raise UsageError(f"no form of rows is called {rows!r}", f"doit, {', '.join(get_args(OwnForm))}")
    if rows == "doit" and not ability and not any(columns) and not ability_column:
        return None
    return RowForm(cast(OwnForm, "auto" if rows == "doit" else rows), ability, columns, ability_column)


def say_forms(corpus: Corpus) -> list[str]:
    """A sentence for own rows whose form was recognised as another trainer's."""
    return [f"rows read as {form}: {count:,}" for form, count in corpus.forms.items() if form != "messages"]


def drawn(resolved: Resolved) -> dict[str, Any]:
    """The document of `doitune data draw`: ids in the order learnt from (first epoch), and the ledger
    before any encoding."""
    recipe = resolved.recipe
    chosen, _ = draw(recipe)
    ids = ids_of(chosen.examples)
    ledger = chosen.ledger.with_trained(count_by_ability(chosen.examples))
    order = epoch_order((name.encode() for name in ids), recipe.train.seed, 0)
    return {
        "schema": "doitune.draw/1",
        "recipe": resolved.name,
        "ids": [ids[place] for place in order.tolist()],
        "ledger": ledger.to_json(),
    }


def validation_rows(corpus: Corpus, per_ability: int, seed: int) -> dict[str, tuple[Example, ...]]:
    """At most `per_ability` validation rows of each ability, nested over sizes; none where the corpus has
    no validation folder."""
    if not per_ability or VALID not in corpus.sources():
        return {}
    rows = corpus.read(VALID)
    kept: dict[str, tuple[Example, ...]] = {}
    for name, examples in rows.items():
        order = sorted(
            (sha256(f"{seed}\x1f{one}".encode()).digest(), place)
            for place, one in enumerate(ids_of(examples))
        )
        kept[name] = tuple(examples[place] for _, place in order[:per_ability])
    return kept


def judged_leaks(
    examples: Sequence[Example], corpus: Corpus, judged: Mapping[str, Sequence[Example]]
) -> list[Leak]:
    """Chosen rows that give away a row of the corpus's validation or test sets, or of `judged`."""
    apart = {name for names in corpus.parted.ids().values() for name in names}  # chosen as given away by none
    own = {
        source: [row for rows in corpus.read(source).values() for row in rows if row.id not in apart]
        for source in JUDGED_SOURCES
        if source in corpus.sources()
    }
    others = {name: rows for name, rows in {**own, **judged}.items() if rows}
    return leaks_of(examples, others) if others else []


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    problems = [
        Problem(
            leak.train_place,
            f"this row gives away {leak.other_place} ({100 * leak.coverage:.0f} % of its text)",
        )
        for leak in leaks[:5]
    ]
    leak = "1 chosen row leaks" if len(leaks) == 1 else f"{len(leaks)} chosen rows leak"
    cure = (
        f"{leak} into the sets that this run will be judged on: take what leaks out "
        "(`doitune data check` lists all), or write data.allow_leaks: true, and every score will say so"
    )
    raise DataError.of([Problem(problems[0].place, problems[0].problem, cure), *problems[1:]])


def data_sha256(section: DataSection, corpus: Corpus) -> dict[str, str]:
    """sha256 of every corpus file that a run reads, by relative path."""
    sources = _sources(section, corpus)
    sources += [VALID] if VALID in corpus.sources() else []
    return {path: digest for source in sources for path, digest in corpus.sha256(source).items()}


def judged_sha256(corpus: Corpus) -> dict[str, dict[str, str]]:
    """The sources of the corpus with rows that a run is judged on; sha256 of each file, by relative path."""
    return {source: corpus.sha256(source) for source in JUDGED_SOURCES if source in corpus.sources()}


def count_by_ability(examples: Sequence[Example]) -> dict[str, int]:
    return dict(Counter(abilities_of(examples)))
