"""The house rules that a reader cannot see from one file: who imports whom, what stays light, what is
never used."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "doitune"

ORDER = (
    "errors", "stopping", "streams", "redact", "faults", "record", "disk", "ability", "demo", "example", "corpus", "budget", "recipe", "drift", "cookbook", "explain", "architecture", "base", "patience", "checkpoint", "run", "encoded",
    "batch", "rendering", "prompt", "course", "events", "shortage", "distributed", "optimiser", "backends", "probe", "guards", "prepare", "preview", "stats", "trackers", "memory", "doctor", "train", "trained", "session", "selftest",
    "evals", "export", "page", "console", "displays", "scoreboard", "cli",
)  # fmt: skip
"""Rooms from the ground up (design.md, section 2): each may import those before it and its own family
(`corpus`, `corpus.check`; a folder)."""

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "tokenizers",
    "safetensors",
    "unsloth",
    "numpy",
}
HEAVY_ROOMS = {
    "backends.asking",
    "backends.documents",
    "backends.dropout",
    "backends.four_bits",
    "backends.head_loss",
    "backends.hf",
    "backends.lean",
    "backends.live_bytes",
    "backends.random_base",
    "backends.simulate",
    "backends.unsloth_model",
    "backends.token_rows",
    "backends.tokenizer",
    "demo.build",
    "demo.start",
}
"""Modules that may import heavy libraries as they are imported; everywhere else an import stands inside
the function that needs it."""

MODEL_LIBRARIES = {"transformers", "peft", "bitsandbytes", "unsloth", "accelerate", "datasets"}
ALLOWED_OUTSIDE = {
    ("optimiser", "bitsandbytes"),  # its 8-bit optimisers
    ("base.nf4", "bitsandbytes"),  # the quantiser of `base make`
    ("trackers", "accelerate"),  # its trackers
    ("selftest.kernels", "unsloth"),  # its kernels, the subject of the test
    ("demo.build", "transformers"),  # the scripts that make the demo's base
    ("demo.start", "transformers"),
}

PRINTS = {"console", "demo.build", "demo.start"}


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
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name below `doitune`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = (
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            .removesuffix("__init__")
            .removesuffix(".")
        )
        found[name or "__init__"] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assert len(found) > 30, "the package is not where this test looks for it"
    return found


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
    """Imports of one room by another that happen when the program runs."""
    found = [one for one in imports() if one.name.split(".")[0] == "doitune" and not one.typing]
    assert len(found) > 50
    return found


def family(module: str) -> str:
    """`corpus.check` -> corpus, `evals.ask` -> evals; the process around the desk is part of it."""
    return "cli" if module == "__main__" else module.split(".")[0].split("_")[0]


def test_every_room_has_a_place_in_the_order() -> None:
    placed = set(ORDER)
    homeless = sorted(
        name for name in modules() if name not in ("__init__", "__main__") and family(name) not in placed
    )
    assert not homeless, f"give these a place in ORDER: {homeless}"


def test_no_room_imports_uphill() -> None:
    """Not even inside a function: a lazy import is for weight, not for a ring."""
    place = {name: number for number, name in enumerate(ORDER)}
    uphill = []
    for one in own():
        target = one.name.removeprefix("doitune").removeprefix(".")
        if one.room in ("__init__", "__main__") or target == "":
            continue
        mine, theirs = family(one.room), family(target)
        if mine != theirs and place.get(theirs, 0) >= place.get(mine, len(ORDER)):
            uphill.append(str(one))
    assert not uphill


def test_no_two_modules_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for one in own():
        if not one.lazy:
            edges.setdefault(one.room, set()).add(one.name.removeprefix("doitune."))

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a ring: {' -> '.join((*path, module))}"
        for target in edges.get(module, ()):
            walk(target, (*path, module))

    for module in list(edges):
        walk(module, ())


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    seen = [one for one in imports() if one.name.split(".")[0] in HEAVY and not one.typing]
    assert {one.room for one in seen} & HEAVY_ROOMS
    early = [str(one) for one in seen if not one.lazy and one.room not in HEAVY_ROOMS]
    assert not early


def test_only_backends_know_the_model_libraries() -> None:
    seen = [
        (one.room, one.name.split(".")[0], str(one))
        for one in imports()
        if one.name.split(".")[0] in MODEL_LIBRARIES
    ]
    assert any(room.startswith("backends") for room, _, _ in seen)
    foreign = [
        text
        for room, library, text in seen
        if not room.startswith("backends") and (room, library) not in ALLOWED_OUTSIDE
    ]
    assert not foreign


def test_training_and_evaluation_do_not_know_each_other() -> None:
    """A run directory lies between them, also for the type checker."""
    training = {"train", "session", "probe", "optimiser", "prepare"}
    for one in imports():
        target = one.name.removeprefix("doitune.")
        if family(one.room) in training:
            assert family(target) != "evals" or not one.name.startswith("doitune."), one
        if family(one.room) == "evals" and one.name.startswith("doitune."):
            assert family(target) not in {"train", "session"}, one


def test_only_the_desk_knows_the_console_and_typer() -> None:
    callers = {family(one.room) for one in own() if one.name == "doitune.console.screen"}
    assert callers == {"cli", "displays", "scoreboard"}, "displays and scoreboard are parts of the console"
    assert {family(one.room) for one in own() if one.name == "doitune.console.progress"} == {"cli"}
    typer = {family(one.room) for one in imports() if one.name.split(".")[0] == "typer"}
    assert "cli" in typer and typer <= {"cli", "console"}
    assert not [str(one) for one in imports() if one.name.split(".")[0] == "click"], (
        "recent releases of typer carry their own click"
    )
    assert {family(one.room) for one in imports() if one.name.split(".")[0] == "rich"} <= {
        "console",
        "displays",
        "cli",
    }


def test_only_the_console_prints() -> None:
    calls = [
        f"{room}:{node.lineno}"
        for room, tree in modules().items()
        if room not in PRINTS
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
        timeout=120,
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
