"""Plan: a family of runs asked for in one YAML file, read as strictly as a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from doitune.data.suites import SUITES
from doitune.errors import Problem, RecipeError
from doitune.recipe.files import Source, is_there, recipes_folder, unknown
from doitune.recipe.nodes import Fields, Items, Node
from doitune.recipe.section import (
    Contradiction,
    Count,
    Distinct,
    Location,
    Natural,
    Section,
    Seed,
    Text,
    Token,
)
from doitune.recipe.typed import read_section
from doitune.recipe.yaml_text import read_file, write_tree

if TYPE_CHECKING:
    Suite: TypeAlias = str
else:
    Suite = Literal[tuple(SUITES)]

Settings = tuple[Token, ...]

DECIDED = ("data.budget", "data.select", "data.seed", "train.seed", "model.name", "data.corpus")
"""Fields that a plan's own say, so that `set` may not."""


class SettingsDesign(Section):
    """Other hyper-parameters at one budget, each beside the recipe's own."""

    rows: Natural | None = Field(default=None, description="rows of each ability that they are tried at")
    each: Annotated[Settings, Distinct] = Field(
        default=(),
        description="what is tried, a run for each: `key=value` as after --set; several in one run with a "
        "space between",
    )

    def contradictions(self) -> Iterator[Contradiction]:
        if self.each and self.rows is None:
            yield Contradiction("rows", "at how many rows are these tried?", "write `rows: 64` beside `each`")
        for text in self.each:
            yield from _settings("each", text.split(), DECIDED)


class MixDesign(Section):
    """Curated rows with synthetic instructions beside them."""

    rows: Natural | None = Field(default=None, description="curated rows of each ability")
    synthetic: Annotated[tuple[Natural, ...], Distinct] = Field(
        default=(), description="synthetic instructions beside them, a run for each number"
    )

    def contradictions(self) -> Iterator[Contradiction]:
        if self.synthetic and self.rows is None:
            yield Contradiction("rows", "beside how many curated rows?", "write `rows: 64` beside it")


class Designs(Section):
    """Which runs there are; each is made for every model and every seed."""

    equal: Annotated[tuple[Natural, ...], Distinct] = Field(
        default=(), description="rows of each ability, the same of all, a run for each number"
    )
    latin: tuple[Count, ...] = Field(
        default=(),
        description="as many runs as numbers: in them each ability gets each number of rows once, in an "
        "order by lot; a number may stand there twice",
    )
    leave_one_out: Natural | None = Field(
        default=None, description="a run for each ability: no rows of it, this many of each other one"
    )
    single_source: Natural | None = Field(
        default=None, description="a run for each ability: this many rows of it and of no other"
    )
    synthetic: Annotated[tuple[Natural, ...], Distinct] = Field(
        default=(), description="synthetic instructions alone, a run for each number"
    )
    mix: MixDesign = Field(default_factory=MixDesign, description="curated and synthetic rows together")
    settings: SettingsDesign = Field(default_factory=SettingsDesign, description="other hyper-parameters")
    recipes: Annotated[tuple[Token, ...], Distinct] = Field(
        default=(), description="recipes by name or path, whole: a run for each, budget and all"
    )

    @property
    def is_empty(self) -> bool:
        """Whether no run is asked for."""
        return self == Designs()


class QuickSection(Section):
    """What `--quick` puts in the place of the plan's own."""

    designs: Designs = Field(default_factory=Designs, description="instead of all designs")
    set: Settings = Field(default=(), description="after the plan's own `set`")
    suites: Annotated[tuple[Suite, ...], Distinct] = Field(default=(), description="instead of `suites`")


class PlanSection(Section):
    """A family of runs."""

    summary: Text = Field(default="", description="one sentence for the list of plans")
    recipe: Token = Field(default="own", min_length=1, description="the recipe of every run: a name or path")
    corpus: Location | None = Field(default=None, description="instead of the recipe's, as --corpus")
    models: Annotated[tuple[Location, ...], Distinct] = Field(
        default=(), description="base models, as --model; empty: the recipe's"
    )
    abilities: Annotated[tuple[Token, ...], Distinct] = Field(
        default=(), description="those that get rows; empty: all that the corpus has"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), Distinct] = Field(
        default=(0,), description="each draws other rows, another adapter and another order"
    )
    set: Settings = Field(default=(), description="changes to the recipe of every run, as after --set")
    designs: Designs = Field(default_factory=Designs, description="which runs there are")
    suites: Annotated[tuple[Suite, ...], Field(min_length=1), Distinct] = Field(
        default=("doit-valid", "doit-test"),
        description="what each run's best checkpoint is asked",
    )
    quick: QuickSection = Field(default_factory=QuickSection, description="the short form, for --quick")

    def contradictions(self) -> Iterator[Contradiction]:
        if self.designs.is_empty:
            yield Contradiction("designs", "the plan asks for no run", "write `designs: {equal: [16, 64]}`")
        for text in self.set:
            yield from _settings("set", [text], DECIDED)

    def quickly(self, shown: str) -> PlanSection:
        """The short form. RecipeError where the plan has none."""
        quick = self.quick
        if quick == QuickSection():
            raise RecipeError("has no short form", "write a `quick` section, or leave --quick", place=shown)
        changed = {
            "designs": self.designs if quick.designs.is_empty else quick.designs,
            "set": (*self.set, *quick.set),
            "suites": quick.suites or self.suites,
            "quick": QuickSection(),
        }
        return self.model_copy(update=changed)


def _settings(field: str, texts: list[str], decided: tuple[str, ...]) -> Iterator[Contradiction]:
    """What is wrong with `key=value` texts of a plan."""
    for text in texts:
        key, equals, _ = text.partition("=")
        if not equals or not key:
            yield Contradiction(field, f"`{text}` is not of the form key=value", "as in lora.rank=32")
        elif any(key == one or key.startswith(f"{one}.") for one in decided):
            cure = "designs, seeds, models and corpus of the plan say it"
            yield Contradiction(field, f"`{text}` changes {key}, which the plan decides", cure)


@dataclass(frozen=True)
class Plan:
    """A plan that was read: `name` is its file's, `places` say where each text of it stands."""

    name: str
    section: PlanSection
    shown: str
    places: dict[str, str]

    def place_of(self, text: str) -> str:
        """`file:line` of a value, as far as it is known."""
        return self.places.get(text, self.shown)


def plan_names() -> list[str]:
    """The plans that came with doitune."""
    return sorted(path.stem for path in (recipes_folder() / "plans").glob("*.yaml"))


def find_plan(name_or_path: str) -> Source:
    """The file of a plan: a name, or a path (it holds a separator or ends in .yaml). RecipeError with the
    nearest names."""
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix in (".yaml", ".yml"):
        if is_there(path) and path.is_dir():
            raise RecipeError("is a folder, not a plan", "give a file that ends in .yaml", place=name_or_path)
        return Source(path.stem, path, name_or_path, False)
    if name_or_path not in plan_names():
        raise unknown("plan", name_or_path, plan_names())
    inner = recipes_folder() / "plans" / f"{name_or_path}.yaml"
    return Source(name_or_path, inner, f"recipes/plans/{name_or_path}.yaml", True)


def read_plan(name_or_path: str, *, quick: bool = False) -> Plan:
    """A plan from its file. Errors: RecipeError with every problem and its line."""
    source = find_plan(name_or_path)
    tree = read_file(source.path, source.shown)
    section = read_section(PlanSection, tree, source.shown)
    if quick:
        section = section.quickly(source.shown)
    name = f"{source.name}-quick" if quick else source.name
    return Plan(name, section, source.shown, dict(_places(tree)))


def text_of(plan: Plan) -> str:
    """The whole plan as text that reads back the same."""
    tree = plan.section.model_dump(mode="json", exclude={"quick"})
    return f"# from {plan.shown}\n{write_tree(tree)}"


def _places(node: Node) -> Iterator[tuple[str, str]]:
    """Where each text of a plan stands."""
    if isinstance(node, Fields):
        for inner in node.entries.values():
            yield from _places(inner)
    elif isinstance(node, Items):
        for inner in node.items:
            yield from _places(inner)
    else:
        yield node.text, node.place


def at_its_place(plan: Plan, error: RecipeError, texts: tuple[str, ...]) -> RecipeError:
    """An error of a recipe that a plan makes: what `--set TEXT` said stands in the plan."""
    known = {f"--set {text}": plan.place_of(text) for text in texts if text in plan.places}
    moved = [Problem(known.get(one.place, one.place), one.problem, one.hint) for one in error.problems]
    found = RecipeError.of(moved)
    assert isinstance(found, RecipeError)
    return found
