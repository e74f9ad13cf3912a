"""How many examples of each ability: budgets by rule, the rows that they pick, and the ledger of what came of
it.

A budget names fixed numbers, `all`, or shares of a total. `share_equally` is the paper's rule behind its data
settings: what the fixed numbers leave of the total is shared equally, an ability that has fewer rows than its
share is taken whole, and the others share the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from random import Random
from typing import Any, Literal

from doitune.ability import NAMES, known_near, place_of
from doitune.data.example import Example
from doitune.data.rows import id_bytes, keys_of, taken, together
from doitune.data.sources import FULL
from doitune.errors import DataError, Problem
from doitune.system.arrays import digests, in_order

Shortfall = Literal["stop", "take_all"]
Leftover = Literal["spread", "drop"]
Select = Literal["nested", "paper"]


@dataclass(frozen=True)
class Share:
    """An equal share of what the fixed numbers leave, and `extra` rows on top of it (not counted in the
    total)."""

    extra: int = 0


@dataclass(frozen=True)
class Budget:
    """Rows by ability.

    `amounts`: a fixed number, "all" rows found, or a Share. `share_equally`: the total that fixed numbers,
    "all" and shares make together; those of `among` that `amounts` doesn't name share too. None: they get
    nothing. `leftover`: rows that do not divide equally go one each to the sharing abilities in the order of
    ABILITIES ("spread"), or to nobody ("drop"). `among`: the ten, or what a corpus of own rows has.
    """

    amounts: Mapping[str, int | Literal["all"] | Share]
    share_equally: int | None = None
    leftover: Leftover = "spread"
    among: tuple[str, ...] = NAMES

    @property
    def is_everything(self) -> bool:
        """Whether nothing is asked for by name or number: all rows of the corpus are taken."""
        return not self.amounts and self.share_equally is None

    def of_corpus(self, found: Collection[str], *, own: bool) -> Budget:
        """The budget for a corpus that has rows of the abilities `found`: everything means all of each; in
        a corpus of `own` rows, what it has shares."""
        among = tuple(sorted(found, key=place_of)) if own else NAMES
        everything: dict[str, int | Literal["all"] | Share] = dict.fromkeys(
            sorted(found, key=place_of), "all"
        )
        return replace(self, amounts=everything if self.is_everything else self.amounts, among=among)

    def sharing(self) -> dict[str, int]:
        """The abilities that share, in the order of ABILITIES (others after them, by name), each with its
        extra rows."""
        named = {name: amount.extra for name, amount in self.amounts.items() if isinstance(amount, Share)}
        unnamed = (
            {name: 0 for name in self.among if name not in self.amounts}
            if self.share_equally is not None
            else {}
        )
        return {name: (named | unnamed)[name] for name in sorted(named | unnamed, key=place_of)}


@dataclass(frozen=True)
class Line:
    """One ability's account, in rows.

    asked: by the budget; found: in the corpus; kept: picked; truncated: those of them that lost text to the
    length limit; trained: those that training learns from (kept, less the rows that encoding dropped).
    """

    asked: int
    found: int
    kept: int
    truncated: int = 0
    trained: int = 0


@dataclass(frozen=True)
class Ledger:
    """The account of a pick, by ability."""

    lines: Mapping[str, Line]

    def total(self) -> Line:
        """All abilities together."""
        lines = self.lines.values()
        return Line(*(sum(getattr(line, field.name) for line in lines) for field in fields(Line)))

    def with_trained(self, trained: Mapping[str, int], truncated: Mapping[str, int] | None = None) -> Ledger:
        """The same with the rows that were encoded for training, and those cut, by ability (0 where not
        named)."""
        cut = truncated or {}
        lines = {
            name: replace(line, trained=trained.get(name, 0), truncated=cut.get(name, 0))
            for name, line in self.lines.items()
        }
        return Ledger(lines)

    def table(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Titles and rows to show: an ability and its counts, last all abilities together."""
        titles = ("ability", *(field.name for field in fields(Line)))
        lines = {**self.lines, "together": self.total()}
        return titles, [(name, *astuple(line)) for name, line in lines.items()]

    def to_json(self) -> dict[str, dict[str, int]]:
        """`{ability: {asked, found, kept, truncated, trained}}`, as `ledger.json` and `doitune data draw`
        write it."""
        return {name: asdict(line) for name, line in self.lines.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Mapping[str, int]]) -> Ledger:
        """The ledger that `to_json` wrote. Errors: TypeError or KeyError on another form."""
        return cls({name: Line(**line) for name, line in document.items()})


@dataclass(frozen=True)
class Pick:
    """The examples to learn from, by ability (in the order of ABILITIES), and their ledger. The order of
    learning is batch.py's."""

    examples: Sequence[Example]
    ledger: Ledger


def share_out(
    total: int, found: Mapping[str, int], leftover: Leftover = "spread"
) -> tuple[dict[str, int], int]:
    """`total` rows shared among the abilities of `found` (rows that each has), in its order, never more than
    an ability has; and how many of them no ability had.

    An ability that has fewer rows than its share (also by a part of a row) is taken whole. Under "drop" the
    rows that do not divide, fewer than the sharing abilities, go to none.
    """
    shares: dict[str, int] = {}
    left, sharing = total, list(found)
    while sharing:
        small = [name for name in sharing if found[name] * len(sharing) < left]
        if not small:
            share, rest = divmod(left, len(sharing))
            luckier = sharing[:rest] if leftover == "spread" else []
            shares |= {name: share + (name in luckier) for name in sharing}
            left = 0
            break
        shares |= {name: found[name] for name in small}
        left -= sum(found[name] for name in small)
        sharing = [name for name in sharing if name not in small]
    return {name: shares[name] for name in found}, left


def pick(
    examples: Mapping[str, Sequence[Example]],
    budget: Budget,
    *,
    seed: int,
    select: Select = "nested",
    on_shortfall: Shortfall = "stop",
) -> Pick:
    """The rows that `budget` takes from `examples` (by ability, in file order).

    nested: each ability's rows in an order that depends on `seed` and on what they say, and nothing else; a
    smaller budget's rows are among a larger one's. paper: the released procedure on sorted files, see
    `_as_released`. Errors: as `account`.
    """
    ledger = account(budget, {name: len(rows) for name, rows in examples.items()}, on_shortfall)
    amounts = {name: line.kept for name, line in ledger.lines.items() if line.kept}
    if select == "paper":
        chosen = _as_released(examples, amounts, seed)
    else:
        chosen = {name: _nested(name, examples[name], seed, amount) for name, amount in amounts.items()}
    return Pick(together(chosen[name] for name in amounts), ledger)


def _nested(ability: str, rows: Sequence[Example], seed: int, amount: int) -> Sequence[Example]:
    """The first `amount` of rows of an ability by a digest of seed, ability and content; equal rows by id."""
    order, first = in_order(digests(f"{seed}\x1f{ability}\x1f".encode(), keys_of(rows)))
    _order_equal_rows(order, first, id_bytes(rows))
    return taken(rows, order[:amount])


def _order_equal_rows(order: Any, first: Any, ids: Any) -> None:
    """Bring places that follow a `first` of equal rows, and it, into the order of their ids."""
    import numpy as np

    starts = np.flatnonzero(first & ~np.append(first[1:], True))
    ends = np.flatnonzero(~first & np.append(first[1:], True)) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        some = order[start:end]
        order[start:end] = some[np.argsort(ids[some], kind="stable")]


def _as_released(
    examples: Mapping[str, Sequence[Example]], amounts: Mapping[str, int], seed: int
) -> dict[str, Sequence[Example]]:
    """Rows as the released procedure takes them, on files sorted by name.

    One generator for all files draws `sample(rows, k)`; from `curated/full` (the settings reconstruct,
    maximum and their mixes) the first k rows are taken and nothing is drawn. Source: DoIT make_data.py; it
    leaves the files in the order of the file system.
    """
    generator = Random(seed)
    chosen: dict[str, Sequence[Example]] = {}
    for name in sorted(amounts, key=lambda name: (examples[name][0].place.rpartition(":")[0], name)):
        rows, amount = examples[name], amounts[name]
        first_rows = rows[0].source == FULL
        numbers = range(len(rows))
        chosen[name] = taken(rows, numbers[:amount] if first_rows else generator.sample(numbers, amount))
    return chosen


def account(budget: Budget, found: Mapping[str, int], on_shortfall: Shortfall = "stop") -> Ledger:
    """asked, found and kept of every ability that the budget or the corpus (rows `found`) has, in the order
    of ABILITIES, then by name.

    Errors: DataError with the numbers of every ability that falls short, unless `on_shortfall` is "take_all";
    DataError when the budget contradicts itself.
    """
    fixed = {
        name: found.get(name, 0) if amount == "all" else amount
        for name, amount in budget.amounts.items()
        if not isinstance(amount, Share)
    }
    asked = dict.fromkeys(found, 0) | _asked_of_sharers(budget, found, sum(fixed.values())) | fixed
    lines = {
        name: Line(asked[name], found.get(name, 0), min(asked[name], found.get(name, 0)))
        for name in sorted(asked, key=place_of)
    }
    if on_shortfall == "stop":
        _refuse_shortfall(budget, lines)
    return Ledger(lines)


def _asked_of_sharers(budget: Budget, found: Mapping[str, int], fixed: int) -> dict[str, int]:
    """What is asked of each sharing ability: what it gets, or its equal part of the total where the total
    can't be met."""
    sharing = budget.sharing()
    left = _left_to_share(budget, fixed, bool(sharing))
    has = {name: found.get(name, 0) for name in sharing}
    shares, unmet = share_out(left, has, budget.leftover)
    even, _ = share_out(left, dict.fromkeys(sharing, left), budget.leftover)
    asked: dict[str, int] = {}
    for name, extra in sharing.items():
        if unmet or not has[name]:
            asked[name] = max(even[name], shares[name]) + extra
        else:
            asked[name] = min(shares[name] + extra, has[name])
    return asked


def _left_to_share(budget: Budget, fixed: int, somebody_shares: bool) -> int:
    """The rows to share. Errors: DataError when total and fixed numbers contradict each other."""
    if budget.share_equally is None:
        if somebody_shares:
            raise DataError(
                "a share of what? share_equally names no total",
                "write share_equally: TOTAL",
                place="data.budget",
            )
        return 0
    left = budget.share_equally - fixed
    if left < 0:
        problem = (
            f"the fixed numbers ask for {fixed:,} rows, more than share_equally {budget.share_equally:,}"
        )
        raise DataError(problem, "raise share_equally or lower the numbers", place="data.budget")
    if left and not somebody_shares and budget.leftover == "spread":
        problem = (
            f"{left:,} of the {budget.share_equally:,} rows of share_equally are left "
            "and no ability shares them"
        )
        raise DataError(problem, "lower share_equally, or write leftover: drop", place="data.budget")
    return left


def _refuse_shortfall(budget: Budget, lines: Mapping[str, Line]) -> None:
    short = {
        name: line
        for name, line in lines.items()
        if line.kept < line.asked or (not line.found and budget.amounts.get(name) == "all")
    }
    if not short:
        return
    foreign = _foreign(lines)
    unfound = not any(line.found or _near(name, lines) for name, line in short.items())
    if foreign is not None and unfound:
        raise DataError.of([foreign])
    raise DataError.of(_short(name, line, lines) for name, line in short.items())


def _short(name: str, line: Line, lines: Mapping[str, Line]) -> Problem:
    asked = f"{line.asked:,}" if line.asked else "all"
    hint = f"lower `{name}`, add rows, or write on_shortfall: take_all"
    if not line.found and (near := _near(name, lines)):
        hint = f"did you mean `{near}`?"
    return Problem(f"data.budget.{name}", f"asked for {asked} rows, found {line.found:,}", hint)


def _near(name: str, lines: Mapping[str, Line]) -> str:
    """What the corpus has that looks like `name`, or nothing."""
    near = known_near(name, (other for other, one in lines.items() if one.found))
    return near if near in lines and lines[near].found else ""


def _foreign(lines: Mapping[str, Line]) -> Problem | None:
    """The one sentence for a corpus whose rows are all of abilities that nobody asks for."""
    asked = [name for name, line in lines.items() if not line.found]
    others = {name: line.found for name, line in lines.items() if line.found}
    if not others or any(lines[name].asked for name in others):
        return None
    has = ", ".join(f"{name} ({count:,})" for name, count in list(others.items())[:12])
    return Problem(
        "data.budget",
        f"asks for {', '.join(asked[:12])}; the corpus has no row of {'it' if len(asked) == 1 else 'these'}, "
        f"it has {has}{', ...' if len(others) > 12 else ''}",
        f"ask for what it has, for example --set data.budget={{{next(iter(others))}: all}}, "
        "or name the abilities in the rows",
    )
