"""The directory of a family of runs: its names, what was planned in it, and what it has measured so far.

RUNS/<growth>/
  growth.json           the plan resolved: abilities, rows there are, each member and its recipe
  plan.yaml             the plan as it was read
  growth.lock           held by the one process that works on it
  <member>/             an ordinary run, with evals/<suite>/step-000320/ of its best checkpoint
  <member>/said.txt     what the process that made it said
  bases/<model>/        evals/<suite>/base/ of the untrained model, once for all members
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from doitune.ability import INSTRUCTIONS, place_of, title_of
from doitune.data.sources import VALID
from doitune.data.suites import CORPUS_SUITES
from doitune.errors import CheckpointError, UsageError
from doitune.evals.report import Report
from doitune.growth.measured import Growth, Measured, Member, Score, Split
from doitune.recipe.budget import Ledger
from doitune.run.folder import Run
from doitune.run.layout import BASE, BASES, DONE, LEDGER, REPORT, evaluation_folder, step_name
from doitune.system.json_records import read_object

GROWTH, PLAN, GROWTH_LOCK, SAID = "growth.json", "plan.yaml", "growth.lock", "said.txt"
SCHEMA = "doitune.growth/1"

_DAMAGE = (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a record of another form raises."""


@dataclass(frozen=True)
class Record:
    """What growth.json says: the family as it was planned.

    `abilities`: those that have rows; `titles`, where they are not those of `ability.py`; `stock`: rows to
    learn from, by ability (with `synthetic`, where there are); `suites`: what each member is asked;
    `recipes`: by a member's name its recipe, whole; `bases`: by model the recipe that the untrained model is
    asked by; `threads`: of a process that makes members without a card (other numbers round otherwise);
    `confirms`: the `name` of the family whose advice this one tries, else empty.
    """

    name: str
    abilities: tuple[str, ...]
    titles: Mapping[str, str]
    stock: Mapping[str, int]
    suites: tuple[str, ...]
    members: tuple[Member, ...]
    recipes: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    confirms: str = ""

    def to_json(self) -> dict[str, Any]:
        """The document of growth.json."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Record:
        """What `to_json` made. KeyError or TypeError where it is something else."""
        if read["schema"] != SCHEMA:
            raise ValueError(f"its schema is {read['schema']!r}, not {SCHEMA}")
        members = (Member(**{**one, "settings": tuple(one["settings"])}) for one in read["members"])
        return cls(
            name=read["name"],
            abilities=tuple(read["abilities"]),
            titles=read["titles"],
            stock=read["stock"],
            suites=tuple(read["suites"]),
            members=tuple(members),
            recipes=read["recipes"],
            bases=read["bases"],
            threads=int(read["threads"]),
            confirms=read.get("confirms", ""),
        )


def is_growth(folder: Path) -> bool:
    """Whether a folder is that of a family of runs."""
    return (folder / GROWTH).is_file()


def find_growth(text: str, runs: Path) -> Path:
    """The folder of a family, by its path or by its name under `runs`. UsageError names those that are."""
    for folder in (Path(text), runs / text):
        if text.strip() and is_growth(folder):
            return folder
    known = sorted(path.parent.name for path in runs.glob(f"*/{GROWTH}"))
    near = difflib.get_close_matches(text, known, 1, 0.5)
    asked = f"; did you mean `{near[0]}`?" if near else ""
    there = f"there are {', '.join(known)}" if known else "`doitune grow PLAN` makes one"
    raise UsageError(
        f"no growth is called {text!r} under {runs}{asked}", f"{there}; --runs DIR looks elsewhere"
    )


def read_record(folder: Path) -> Record:
    """What was planned in a folder. CheckpointError where growth.json is damaged."""
    try:
        return Record.from_json(read_object(folder / GROWTH))
    except _DAMAGE as error:
        problem = f"{folder / GROWTH} cannot be read: {error}"
        raise CheckpointError(problem, "bring it back from a backup, or run the plan again") from error


def folder_name(model: str) -> str:
    """A model's name as a part of a file's name: of a path its last part, of a hub name both."""
    path = model.startswith((".", "/", "~")) or model.count("/") > 1
    return re.sub(r"[^\w.-]+", "-", Path(model).name if path else model).strip("-.") or "model"


def run_of(folder: Path, member: str) -> Run:
    """The run of a member, begun or not."""
    return Run((folder / member).resolve())


def base_folder(folder: Path, model: str) -> Path:
    """Where the evaluations of the untrained model are, in `evals`."""
    return folder / BASES / folder_name(model)


def read_growth(folder: Path) -> Growth:
    """All that a family has measured so far, its members as planned; what is not finished is named in
    `unfinished`. No model is needed. Errors: CheckpointError."""
    record = read_record(folder)
    found = {one.name: _measured(folder, record, one) for one in record.members}
    members = tuple(one for one in found.values() if one is not None)
    models = dict.fromkeys(one.model for one in record.members)
    base = {model: _base(folder, record, model) for model in models}
    seen = {name for one in members for sets in one.scores.values() for name in sets}
    seen |= {name for splits in base.values() for sets in splits.values() for name in sets}
    others = tuple(sorted(seen - set(record.abilities), key=place_of))
    return Growth(
        name=record.name,
        abilities=record.abilities,
        titles={name: record.titles.get(name) or title_of(name) for name in (*record.abilities, *others)},
        stock={name: record.stock.get(name, 0) for name in record.abilities},
        members=members,
        base={model: splits for model, splits in base.items() if splits},
        out_of_domain=others,
        unfinished=tuple(one for one in record.members if found[one.name] is None),
    )


def best_step(folder: Path, member: str) -> int | None:
    """The step of a member's best checkpoint; None while it is not trained to its end. CheckpointError."""
    done = run_of(folder, member).done()
    return int(done["best_step"]) if done else None


def lacking(place: Path, suites: tuple[str, ...], checkpoint: str) -> tuple[str, ...]:
    """The suites of which a run (or a base, in its folder) has no whole evaluation of this checkpoint."""
    return tuple(suite for suite in suites if _report(place, suite, checkpoint) is None)


def _measured(folder: Path, record: Record, member: Member) -> Measured | None:
    """A member's scores; None where it is not finished."""
    if not (folder / member.name / DONE).is_file():
        return None
    step = best_step(folder, member.name)
    if step is None or lacking(folder / member.name, record.suites, step_name(step)):
        return None
    rows = _learnt(folder / member.name)
    abilities = {name: rows[name] for name in record.abilities if rows.get(name)}
    scores = _scores(folder / member.name, record.suites, step_name(step))
    planned = replace(member, synthetic=rows.get(INSTRUCTIONS.name, member.synthetic))
    return Measured(planned, abilities, step, scores)


def _learnt(run: Path) -> dict[str, int]:
    """Rows that a run learnt from, by ability."""
    try:
        ledger = Ledger.from_json(read_object(run / LEDGER))
    except _DAMAGE as error:
        raise CheckpointError(f"{run / LEDGER} cannot be read: {error}", "this run is damaged") from error
    return {name: line.trained for name, line in ledger.lines.items()}


def _base(folder: Path, record: Record, model: str) -> dict[Split, dict[str, Score]]:
    place = base_folder(folder, model)
    suites = tuple(one for one in record.suites if _report(place, one, BASE) is not None)
    return _scores(place, suites, BASE)


def _scores(place: Path, suites: tuple[str, ...], checkpoint: str) -> dict[Split, dict[str, Score]]:
    """Scores by split and set; a benchmark is one set of the test split, of its own name."""
    found: dict[Split, dict[str, Score]] = {}
    for suite in suites:
        report = _report(place, suite, checkpoint)
        if report is not None:
            found.setdefault(_split(suite), {}).update(_sets(suite, report))
    return found


def _sets(suite: str, report: Report) -> Iterator[tuple[str, Score]]:
    if suite in CORPUS_SUITES:
        for one in report.sets:
            yield one.name, Score(one.score * one.n, one.n, one.chance)
    else:
        mean = report.table().micro
        yield suite, Score(mean.score * mean.n, mean.n, mean.chance)


def _split(suite: str) -> Split:
    return "valid" if suite in CORPUS_SUITES and CORPUS_SUITES[suite].source == VALID else "test"


def _report(place: Path, suite: str, checkpoint: str) -> Report | None:
    """A whole evaluation; None where there is none yet. CheckpointError where it is damaged."""
    path = evaluation_folder(place, suite, checkpoint) / REPORT
    if not path.is_file():
        return None
    try:
        report = Report.from_json(read_object(path))
    except _DAMAGE as error:
        problem = f"{path} cannot be read: {error}"
        raise CheckpointError(
            problem, "delete this file and run the plan again: it is scored anew"
        ) from error
    return None if report.partial else report
