"""What a shell offers behind <Tab>: names of recipes, models, runs, suites and cards.

Each press starts a process, so nothing here reads a recipe or loads torch or pydantic. Where nothing is
offered, the shell offers files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from doitune.run.default import RUNS


def _starting(names: Iterable[str], typed: str) -> list[str]:
    return [name for name in names if name.startswith(typed)]


def recipes(incomplete: str) -> list[str]:
    """The built-in recipes."""
    from doitune.recipe.files import recipe_names

    return _starting(recipe_names(), incomplete)


def topics(incomplete: str) -> list[str]:
    """The pages of the manual."""
    from doitune.console.manual import topic_names

    return _starting(topic_names(), incomplete)


def plans(incomplete: str) -> list[str]:
    """The plans of families that are built in."""
    from doitune.recipe.files import recipes_folder

    return _starting(sorted(path.stem for path in (recipes_folder() / "plans").glob("*.yaml")), incomplete)


def models(incomplete: str) -> list[str]:
    """The base models that have a file."""
    from doitune.recipe.files import model_names

    return _starting(model_names(), incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """`last` and the runs under `--runs`, as far as that was typed before."""
    from doitune.run.find import list_runs

    folder = Path(ctx.params.get("runs") or RUNS)
    names = [run.name for run in list_runs(folder)]
    return _starting(["last", *names] if names else [], incomplete)


def growths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Families of runs, under the folder that `--runs` names."""
    from doitune.growth.folder import GROWTH

    folder = Path(ctx.params.get("runs") or RUNS)
    return _starting(sorted(path.parent.name for path in folder.glob(f"*/{GROWTH}")), incomplete)


def reported(ctx: typer.Context, incomplete: str) -> list[str]:
    """What has a page: families and runs."""
    return [*growths(ctx, incomplete), *runs(ctx, incomplete)]


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """What can be asked: runs, and the base that is built in."""
    return [*runs(ctx, incomplete), *_starting(["demo"], incomplete)]


def suites(incomplete: str) -> list[str]:
    """Suites; of a list with commas, the one that is being written."""
    from doitune.data.suites import SUITES

    before, comma, typed = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _starting(SUITES, typed)]


def corpora(incomplete: str) -> list[str]:
    """The corpora that have a name."""
    from doitune.data.corpus import KNOWN

    return _starting(KNOWN, incomplete)


def cards(incomplete: str) -> list[str]:
    """The known cards, as one word each."""
    from doitune.memory.known import short_names

    return _starting(short_names(), incomplete.lower())
