"""The paper's nineteen settings on a corpus of the paper's size: their totals, the released procedure's
picks, and ids that hang on nothing else.

The rows are short and written on the spot; every draw goes the way of `doitune data draw`: recipe, corpus
folder, budget, pick. Files are read once for all tests.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from doitune.ability import NAMES
from doitune.data.corpus import Corpus
from doitune.prepare.draw import draw
from doitune.recipe.budget import Pick
from doitune.recipe.files import list_recipes
from doitune.recipe.resolve import resolve

FULL = dict(zip(NAMES, (1042, 1893, 4968, 1000, 1450, 4885, 1000, 12751, 11501, 1000), strict=True))
SYNTHETIC = 40_960
SIZES = (10, 40, 160, 640, 2560, 10_000)
TOTALS = {
    **{f"curated-{total}": total for total in SIZES},
    **{f"synthetic-{total}": total for total in (*SIZES, SYNTHETIC)},
    "baseline": 10_000,
    "reconstruct": 10_001,
    "maximum": 39_618,
    "mix-0": 39_618,
    "mix-2560": 42_178,
    "mix-40960": 80_578,
}
"""Examples of each setting. Source: the paper's settings on files of FULL rows (reconstruct: 10,000 with
1,041 rows of biology)."""
SETTINGS = [
    pytest.param(one, marks=pytest.mark.slow) if total > 40_000 else one for one, total in TOTALS.items()
]
ALIASES = {"baseline": "curated-10000", "mix-0": "maximum"}
SEVEN = ("biology", "chinese", "code", "history", "math", "reasoning", "understanding")

Lines = dict[str, list[str]]
"""The rows of each file, by its path in the layout."""


def as_lines() -> Lines:
    """The rows of the published layout: the curated ones with an `idx` of their own, the synthetic ones
    without. No two say the same."""

    def rows(name: str, count: int, first: int) -> list[str]:
        start = '{"messages": [{"role": "user", "content": "'
        return [
            f'{start}{name}问{n}"}}, {{"role": "assistant", "content": "答{n}"}}], "idx": {n}}}'
            for n in range(first, first + count)
        ]

    lines = {f"curated/1000/{name}_1000.json": rows(name, 1000, 0) for name in NAMES}
    lines |= {f"curated/full/{name}_full.json": rows(name, count, 50_000) for name, count in FULL.items()}
    general = "synthetic/40960/general_instruction_gpt4_41k.json"
    return {**lines, general: [row[: row.rindex(', "idx"')] + "}" for row in rows("general", SYNTHETIC, 0)]}


def write(root: Path, lines: Lines, line_end: str = "\n") -> Path:
    """The files under `root`, made in the order of `lines`."""
    for name, rows in lines.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((line_end.join(rows) + line_end).encode())
    return root


@dataclass(frozen=True)
class World:
    """Three corpora that hold the same rows, and one whose full biology lacks a row."""

    rows: Lines
    plain: Path
    rewritten: Path
    shuffled: Path
    fewer: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """plain; rewritten: files made in another order, CRLF; shuffled: that, and each file's rows in another
    order."""
    root, lines, dice = tmp_path_factory.mktemp("设置 settings"), as_lines(), random.Random(7)
    turned = dict(reversed(lines.items()))
    mixed = {name: dice.sample(rows, len(rows)) for name, rows in turned.items()}
    fewer = {
        name: rows[:-1] if name.endswith("biology_full.json") else rows
        for name, rows in lines.items()
        if "/full/" in name
    }
    return World(
        lines,
        write(root / "plain", lines),
        write(root / "rewritten", turned, "\r\n"),
        write(root / "shuffled", mixed, "\r\n"),
        write(root / "fewer", fewer),
    )


Draw = Callable[..., Pick]


@pytest.fixture(scope="module")
def drawn(world: World) -> Iterator[Draw]:
    """drawn(setting, corpus, select): what the built-in recipe of that name draws. Each folder lists its
    files in no order."""
    read, iterdir = cache(Corpus.read), Path.iterdir
    dice = random.Random(3)

    def in_no_order(folder: Path) -> Iterator[Path]:
        found = list(iterdir(folder))
        return iter(dice.sample(found, len(found)))

    @cache
    def pick(setting: str, corpus: Path, select: str = "nested") -> Pick:
        resolved = resolve(setting, corpus=str(corpus), overrides=[f"data.select={select}"])
        return draw(resolved.recipe)[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Corpus, "read", read)
        patch.setattr(Path, "iterdir", in_no_order)
        yield pick


def ids(picked: Pick) -> list[str]:
    """The ids picked, in order."""
    return [example.id for example in picked.examples]


def test_the_paper_has_nineteen_settings_and_the_cookbook_no_other() -> None:
    cards = {card.name: card.alias_of for card in list_recipes() if card.name not in ("demo", "own")}
    assert set(cards) == set(TOTALS) and len(cards) == 19
    assert {name: alias for name, alias in cards.items() if alias} == ALIASES


@pytest.mark.parametrize("select", ["nested", "paper"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_draws_the_papers_total(drawn: Draw, world: World, setting: str, select: str) -> None:
    picked = drawn(setting, world.plain, select)
    chosen, ledger = ids(picked), picked.ledger
    assert len(chosen) == len(set(chosen)) == TOTALS[setting]
    assert ledger.total().asked == ledger.total().kept == TOTALS[setting]
    assert Counter(example.ability for example in picked.examples) == {
        name: line.kept for name, line in ledger.lines.items() if line.kept
    }
    sources = {example.source for example in picked.examples}
    assert sources == {
        "curated": {"curated/1000"}, "baseline": {"curated/1000"}, "synthetic": {"synthetic/40960"}, "reconstruct": {"curated/full"},
        "maximum": {"curated/full"}, "mix": {"curated/full"} if setting == "mix-0" else {"curated/full", "synthetic/40960"},
    }[setting.partition("-")[0]]  # fmt: skip


@pytest.mark.parametrize("total", SIZES)
def test_curated_settings_give_every_ability_the_same(drawn: Draw, world: World, total: int) -> None:
    lines = drawn(f"curated-{total}", world.plain).ledger.lines
    assert {name: line.kept for name, line in lines.items()} == dict.fromkeys(NAMES, total // 10)


def test_reconstruct_is_ten_thousand_where_biology_has_a_row_less(drawn: Draw, world: World) -> None:
    """Trap: the paper's 1,305 and 1,306 as constants, right for one corpus only."""
    expected = {
        **dict.fromkeys(SEVEN, 1305),
        "chinese": 1306,
        "biology": 1042,
        "ethics": 64,
        "role_play": 64,
        "creative_writing": 1000,
    }
    for corpus, biology in ((world.plain, 1042), (world.fewer, 1041)):
        for select in ("nested", "paper"):
            ledger = drawn("reconstruct", corpus, select).ledger
            assert {name: line.kept for name, line in ledger.lines.items()} == {
                **expected,
                "biology": biology,
            }
            assert ledger.total().kept == 8959 + biology
    assert drawn("maximum", world.fewer).ledger.total().kept == 39_617


def released(setting: str, files: Lines) -> list[str]:
    """`file:line` of each row that the released procedure takes, in its order, run on files sorted by name.

    Written from its description (facts of make_data.py), not from budget.py: one generator seeded 0;
    curated-N samples N // 10 rows of each file of `curated/1000`, synthetic-N samples N rows of its one file;
    reconstruct and maximum take the first rows of the files of `curated/full` by constants of the paper; a
    mix is maximum and then synthetic-N.
    """
    generator = random.Random(0)
    kind, _, number = setting.partition("-")
    caps = {"ethics": 64, "role_play": 64, "creative_writing": 1000}
    few = {**dict.fromkeys(SEVEN, 1305), "chinese": 1306, "biology": None, **caps}

    def of(folder: str, amount: Callable[[str], int | None], *, sample: bool) -> list[str]:
        taken: list[str] = []
        for name in sorted(name for name in files if name.startswith(folder)):
            rows = [f"{name}:{line}" for line in range(1, len(files[name]) + 1)]
            size = amount(Path(name).stem.rpartition("_")[0])
            taken += generator.sample(rows, size or 0) if sample else rows[:size]
        return taken

    if kind in ("curated", "baseline"):
        return of("curated/1000/", lambda _: int(number or 10_000) // 10, sample=True)
    if kind == "synthetic":
        return of("synthetic/40960/", lambda _: int(number), sample=True)
    if kind == "reconstruct":
        return of("curated/full/", few.__getitem__, sample=False)
    found = of("curated/full/", caps.get, sample=False)
    return found + (of("synthetic/40960/", lambda _: int(number), sample=True) if int(number or 0) else [])


def places(picked: Pick, root: Path) -> list[str]:
    """`file:line` of each row picked, in order."""
    return [Path(example.place).relative_to(root).as_posix() for example in picked.examples]


@pytest.mark.parametrize("setting", SETTINGS)
def test_paper_selection_is_the_released_procedure_on_sorted_files(
    drawn: Draw, world: World, setting: str
) -> None:
    expected = released(setting, world.rows)
    assert len(expected) == TOTALS[setting]
    assert sorted(places(drawn(setting, world.plain, "paper"), world.plain)) == sorted(expected)
    assert sorted(places(drawn(setting, world.rewritten, "paper"), world.rewritten)) == sorted(expected)


def test_the_two_selections_are_not_the_same(drawn: Draw, world: World) -> None:
    """Trap: a switch that does nothing would pass the laws of totals."""
    for setting in ("curated-160", "synthetic-160", "reconstruct"):
        assert set(ids(drawn(setting, world.plain, "nested"))) != set(
            ids(drawn(setting, world.plain, "paper"))
        )


@pytest.mark.parametrize("kind", ["curated", "synthetic"])
def test_a_smaller_budgets_rows_are_among_a_larger_ones(drawn: Draw, world: World, kind: str) -> None:
    chosen = [
        set(ids(drawn(f"{kind}-{total}", world.plain)))
        for total in (*SIZES, *([SYNTHETIC] if kind == "synthetic" else []))
    ]
    assert len(chosen) >= 6
    assert all(smaller < larger for smaller, larger in zip(chosen, chosen[1:]))


def test_the_released_curated_subsets_are_not_nested(drawn: Draw, world: World) -> None:
    """Why `nested` is the default: with the released procedure the points of a growth curve learn from
    other rows."""
    chosen = [set(ids(drawn(f"curated-{total}", world.plain, "paper"))) for total in SIZES]
    assert not any(smaller < larger for smaller, larger in zip(chosen[:4], chosen[1:5]))


def test_the_settings_on_full_are_nested_too(drawn: Draw, world: World) -> None:
    maximum, few, many = (set(ids(drawn(name, world.plain))) for name in ("maximum", "mix-2560", "mix-40960"))
    assert set(ids(drawn("reconstruct", world.plain))) < maximum < few < many
    assert few - maximum == set(ids(drawn("synthetic-2560", world.plain)))


@pytest.mark.parametrize("setting", SETTINGS)
def test_ids_do_not_hang_on_line_ends_file_order_or_row_order(
    drawn: Draw, world: World, setting: str
) -> None:
    """Line ends and the order of files change nothing, of either selection; the order of rows changes
    nothing of the nested one."""
    for select in ("nested", "paper"):
        assert ids(drawn(setting, world.rewritten, select)) == ids(drawn(setting, world.plain, select))
    assert ids(drawn(setting, world.shuffled)) == ids(drawn(setting, world.plain))


@pytest.mark.parametrize(("alias", "target"), ALIASES.items())
@pytest.mark.parametrize("select", ["nested", "paper"])
def test_an_alias_is_its_target(drawn: Draw, world: World, alias: str, target: str, select: str) -> None:
    said = [
        resolve(name).recipe.model_copy(update={"summary": "", "alias_of": None}) for name in (alias, target)
    ]
    assert said[0] == said[1]
    assert ids(drawn(alias, world.plain, select)) == ids(drawn(target, world.plain, select))


def test_the_corpus_holds_what_the_tests_say(world: World) -> None:
    assert sum(len(rows) for name, rows in world.rows.items() if "/full/" in name) == 41_490
    said = [
        tuple(turn["content"] for turn in json.loads(row)["messages"])
        for rows in world.rows.values()
        for row in rows
    ]
    assert len(said) == len(set(said)) == 41_490 + 10_000 + SYNTHETIC
