"""The house rules that a reader cannot see from one file: who imports whom, what stays light, what is
never used."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from patience import HANGS

PACKAGE = Path(__file__).parents[1] / "doitune"
HOUSE = PACKAGE.parent / "ARCHITECTURE.md"

MOST_NAMES = 22
MOST_LINES = {"file": 400, "definition": 60}
"""Of a file; of a function or a class, its docstring included."""

HEAVY = {
    *("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "tokenizers", "safetensors"),
    *("unsloth", "numpy", "pynvml", "sentencepiece", "scipy"),
}
HEAVY_PLACES = ("backends", "memory.simulation", "demo.making", "growth.fit")
"""Only here may a module import heavy libraries as it is imported; elsewhere an import stands inside the
function that needs it."""
LIGHT_MODULES = {
    "backends.chunks",
    "backends.no_fetched_code",
    "backends.pick",
    "backends.loaded",
    "backends.refusals",
    "backends.tokenizer",
    "backends.unsloth",
    "backends.out_of_memory",
}
"""Those of them that commands load before a backend is chosen, and before Unsloth is imported."""

MODEL_LIBRARIES = {"transformers", "peft", "bitsandbytes", "unsloth", "accelerate", "datasets"}
ALLOWED_OUTSIDE = {
    ("base.nf4", "bitsandbytes"),  # the quantiser of `base make`
    ("train.trackers", "accelerate"),  # its trackers
    ("selftest.kernels", "unsloth"),  # its kernels, the subject of the test
    ("memory.simulation", "transformers"),  # the model's own code, under fake tensors
    ("memory.simulation", "peft"),
    ("memory.simulation", "bitsandbytes"),
    ("demo.making", "transformers"),  # the scripts that made the demo's base
}

PRINTS = ("console", "demo.making.build")


def lies_in(module: str, *places: str) -> bool:
    """Whether a module is one of these places or below one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


@cache
def rooms() -> tuple[str, ...]:
    """The rooms from the ground up, as ARCHITECTURE.md lists them."""
    text = (
        HOUSE.read_text(encoding="utf-8")
        .partition("## The rooms, from the ground up")[2]
        .partition("\n## ")[0]
    )
    found = tuple(re.findall(r"^- `(\w+)`: ", text, re.MULTILINE))
    assert len(found) > 15, "ARCHITECTURE.md has no list of rooms where this test looks for it"
    return found


@dataclass(frozen=True)
class Import:
    """`room` imports `name` (dotted); `lazy` inside a function; `typing` under TYPE_CHECKING."""

    room: str
    name: str
    line: int
    lazy: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.room}:{self.line} imports {self.name}"


@cache
def paths() -> dict[str, Path]:
    """Every file of the package by its module's name below `doitune`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"] = path
    assert len(found) > 100, "the package is not where this test looks for it"
    return found


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its name below `doitune`."""
    return {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in paths().items()}


def _imports(room: str, node: ast.AST, lazy: bool = False, typing: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(room, alias.name, child.lineno, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{room}:{child.lineno}: imports are absolute"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                is_module = inner.removeprefix("doitune.") in modules()
                yield Import(room, inner if is_module else str(child.module), child.lineno, lazy, typing)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for part in child.body:
                yield from _imports(room, ast.Module([part], []), lazy, True)
            for part in child.orelse:
                yield from _imports(room, ast.Module([part], []), lazy, typing)
        else:
            yield from _imports(
                room,
                child,
                lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)),
                typing,
            )


@cache
def imports() -> tuple[Import, ...]:
    found = tuple(one for room, tree in modules().items() for one in _imports(room, tree))
    assert len(found) > 200
    return found


def own() -> list[Import]:
    """Imports of one module of the package by another: at the top, inside functions, for typing."""
    found = [one for one in imports() if one.name.split(".")[0] == "doitune"]
    assert len(found) > 500
    return found


def target(one: Import) -> str:
    """The imported module's name below the package; "" for the package itself."""
    return one.name.removeprefix("doitune").removeprefix(".")


def room_of(module: str) -> str:
    """`data.check` -> data, `evals.suites.cmmlu` -> evals; the process around the command line is part of it."""
    return "cli" if module == "__main__" else module.split(".")[0]


def test_every_room_stands_in_the_plan_and_no_other() -> None:
    there = {room_of(name) for name in modules() if name not in ("__init__", "__main__")}
    assert there == set(rooms())
    assert len(there) <= MOST_NAMES
    assert len(rooms()) == len(set(rooms()))


def test_no_room_imports_uphill() -> None:
    """Not even inside a function or for typing: a lazy import is for weight, not for a circle."""
    place = {name: number for number, name in enumerate(rooms())}
    uphill = [
        str(one)
        for one in own()
        if target(one) and one.room != "__init__" and place[room_of(target(one))] > place[room_of(one.room)]
    ]
    assert not uphill


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other, each sorted (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(edges.get(module, ())):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1 or module in edges.get(module, ()):
                found.append(sorted(group))

    for module in sorted(edges):
        if module not in number:
            visit(module)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_files_import_each_other() -> None:
    """In one room or over several, at the top, inside functions or for typing: a stranger reads one first."""
    edges: dict[str, set[str]] = {}
    for one in own():
        if target(one) and one.room != "__init__":
            edges.setdefault(one.room, set()).add(target(one))
    assert circles(edges) == []


def test_an_init_hands_on_or_says_one_sentence() -> None:
    """The main noun of a room has a file of its own name: who looks for it finds it in the list of files."""
    faces = {
        name: modules()[name] for name, path in paths().items() if path.name == "__init__.py" != name + ".py"
    }
    assert len(faces) > 15
    for name, tree in faces.items():
        assert ast.get_docstring(tree), f"{name} says nothing"
        assert all(isinstance(node, (ast.ImportFrom, ast.Expr)) for node in tree.body), (
            f"{name} defines something"
        )


def test_nothing_is_too_long_to_read() -> None:
    """Counted as a reader does: a file's lines; from `def` or `class` to the last line."""
    long = []
    for name, tree in modules().items():
        lines = paths()[name].read_text(encoding="utf-8").count("\n")
        if lines > MOST_LINES["file"]:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES["definition"]:
                    long.append(f"{name}.{node.name}: {lines} lines")
    assert not long


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    seen = [one for one in imports() if one.name.split(".")[0] in HEAVY and not one.typing]
    assert any(lies_in(one.room, *HEAVY_PLACES) for one in seen) and set(modules()) >= LIGHT_MODULES
    early = [
        str(one)
        for one in seen
        if not one.lazy and (one.room in LIGHT_MODULES or not lies_in(one.room, *HEAVY_PLACES))
    ]
    assert not early


def test_only_backends_know_the_model_libraries() -> None:
    seen = [one for one in imports() if one.name.split(".")[0] in MODEL_LIBRARIES]
    assert any(lies_in(one.room, "backends") for one in seen)
    foreign = [
        str(one)
        for one in seen
        if not lies_in(one.room, "backends")
        and not any(
            lies_in(one.room, place) and one.name.split(".")[0] == library
            for place, library in ALLOWED_OUTSIDE
        )
    ]
    assert not foreign


def test_training_and_evaluation_do_not_know_each_other() -> None:
    """A run directory lies between them, also for the type checker."""
    pairs = {(room_of(one.room), room_of(target(one))) for one in own()}
    assert ("evals", "run") in pairs and ("train", "run") in pairs
    assert not pairs & {("train", "evals"), ("prepare", "evals"), ("run", "evals"), ("evals", "train")}


def test_only_the_command_line_knows_the_console_and_typer() -> None:
    assert {room_of(one.room) for one in own() if room_of(target(one)) == "console"} == {"cli", "console"}
    using = {
        library: {room_of(one.room) for one in imports() if one.name.split(".")[0] == library}
        for library in ("typer", "rich", "click")
    }
    assert "cli" in using["typer"] <= {"cli", "console"}
    assert "console" in using["rich"] <= {"cli", "console"}
    assert not using["click"], "recent releases of typer carry their own click"


def test_only_the_console_prints() -> None:
    calls = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        if not lies_in(module, *PRINTS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls


PICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def test_no_pickle_is_opened_or_written() -> None:
    """torch.load runs code from a file; state is safetensors and JSON."""
    opener = "base.pickled"  # .bin parts of `base make`, by torch's restricted reader; test_base_make tries to break it
    assert {one.room for one in imports() if one.name.split(".")[0] in PICKLES} == {opener}
    assert (
        ast.unparse(modules()[opener]).count(
            "torch.load(path, map_location='cpu', mmap=True, weights_only=True)"
        )
        == 1
    )
    calls = []
    for room, tree in modules().items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and ast.unparse(node) in {"torch.load", "torch.save", "numpy.load", "np.load"}
                and room != opener
            ):
                calls.append(f"{room}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert ast.unparse(node.value) == "False", room
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in {"eval", "exec"}:
                calls.append(f"{room}:{node.lineno} {node.id}")
    assert not calls


WATCHED = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "numpy",
    "pydantic",
    "yaml",
    "huggingface_hub",
)
PROGRAM = """
import json, sys
from doitune.__main__ import main
sys.argv[1:] = json.loads(sys.argv[1])
try:
    main()
finally:
    loaded = {name.split(".")[0] for name in sys.modules}
    print(json.dumps([name for name in %r if name in loaded]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """The watched libraries that a cold command loads."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % (WATCHED,), json.dumps(arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [("--help",), ("train", "--help"), ("eval", "--help"), ("recipes", "--help")]
)
def test_help_is_light(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("recipes", "list"),
        ("recipes", "list", "--json"),
        ("recipes", "show", "demo"),
        ("runs", "list", "--runs", "none"),
    ],
)
def test_recipes_and_runs_load_no_model_library(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) <= {"pydantic", "yaml"}


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_a_document_names_are_there(name: str) -> None:
    """Trap: a test is renamed, and the command that README gives for a figure finds nothing."""
    root = PACKAGE.parent
    rooms_of = "|".join(rooms())
    named = set(
        re.findall(rf"\b((?:tests|doitune|{rooms_of})/[\w/]+\.py)", (root / name).read_text(encoding="utf-8"))
    )
    assert named, name
    assert not [one for one in sorted(named) if not ((root / one).is_file() or (PACKAGE / one).is_file())]
