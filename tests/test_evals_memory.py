"""Out of memory at any model call of an evaluation: the same questions, the same replies, and the
evaluation goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_evals_prefixes import with_examples
from tiny_evals import examples, tiny

from doitune.errors import FitError
from doitune.evals.ask import Limits
from doitune.evals.evaluate import evaluate
from doitune.evals.saved import Line, read_lines
from doitune.evals.suites import doit
from doitune.evals.task import Task

CALLS = ("loss", "logits", "generate", "read")
LACKS = (
    torch.OutOfMemoryError("planted"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
)


def asked(folder: Path, fails: Any = lambda count: None) -> tuple[dict[str, Line], int]:
    """The lines of an evaluation of every way of asking, with shared prefixes; `fails` is told the number
    of each model call and may raise."""
    model, template = tiny()
    count = 0

    def watched(name: str) -> Any:
        real = getattr(model, name)

        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            fails(count)
            return real(*arguments, **more)

        return call

    for name in CALLS:
        setattr(model, name, watched(name))
    written = doit.task("doit-test", examples(2), caps={"math": 3, "tf": 2}).items
    task = Task("doit-test", tuple(with_examples(6, sets=("甲",))) + written)
    evaluate(model, template, task, folder, identity={"base": "tiny"}, limits=Limits(batch_tokens=600))
    return read_lines(folder), count


def test_out_of_memory_at_any_model_call_changes_nothing(tmp_path: Path) -> None:
    """The proofs at the start fail as well: that of the prefix, that of replies asked together. Trap: a
    lack that is no torch.OutOfMemoryError."""
    expected, calls = asked(tmp_path / "through")
    assert calls > 10 and len(expected) == 14
    for at in range(1, calls + 1):

        def fails(count: int, at: int = at) -> None:
            if count == at:
                raise LACKS[at % len(LACKS)]

        found, _ = asked(tmp_path / str(at), fails)
        assert found.keys() == expected.keys(), at
        for key, line in found.items():
            assert line.reply.text == expected[key].reply.text, (at, key)
            assert line.reply.option_scores == pytest.approx(expected[key].reply.option_scores, abs=1e-3), (
                at,
                key,
            )
            losses = [[one.loss for one in each.reply.candidates] for each in (line, expected[key])]
            assert losses[0] == pytest.approx(losses[1], abs=1e-3), (at, key)


def test_a_question_that_never_fits_ends_the_evaluation_with_its_name(tmp_path: Path) -> None:
    """What is answered by then stays. An error that is no lack of memory keeps its own name."""
    _, calls = asked(tmp_path / "through")

    def full(count: int) -> None:
        if count > calls - 3:  # the first calls are the proofs at the start
            raise LACKS[0]

    with pytest.raises(FitError, match=r"no memory for one question of \d+ tokens") as refused:
        asked(tmp_path / "full", full)
    assert refused.value.exit_code == 78
    assert read_lines(tmp_path / "full")

    def broken(count: int) -> None:
        if count > 10:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        asked(tmp_path / "broken", broken)
