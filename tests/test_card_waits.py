"""How often a step makes this process wait for a card: numbers read from it, shapes asked of it, copies that
block. Counted on the CPU, where nothing waits: what would lie on a card is told apart from main memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

import doitune.backends.dropout
import doitune.backends.hf_model
import doitune.backends.loss
import doitune.prompt.batch
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import load_model
from doitune.train.loop import Training
from doitune.train.plan import plan_training
from doitune.train.setup import Setup

READS = {
    "tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "equal", "nonzero", "argwhere",
    "masked_select", "unique", "unique_consecutive", "bincount", "allclose", "is_nonzero", "__contains__",
}  # fmt: skip
"""Calls whose answer this process waits for, where a tensor of theirs lies on a card."""
MAKES = {"tensor", "as_tensor", "asarray"}
"""Calls that copy numbers to the device that they are given, and wait."""
BACKWARD = {"aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select"}
FREE = {
    "__get__",
    "__set__",
    "size",
    "dim",
    "numel",
    "__repr__",
    "is_floating_point",
    "data_ptr",
    "storage_offset",
    "requires_grad_",
}


def selects(indices: Any) -> bool:
    """Whether an index is a mask: how much it selects has to be asked for."""
    return any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in tree_leaves(indices))


class Backward(TorchDispatchMode):
    """What autograd does by itself, which no Python call shows."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits, self.inside = waits, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        masked = name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
        back = not self.inside and torch._C._current_graph_task_id() != -1  # type: ignore[attr-defined]
        if back and (name in BACKWARD or (masked and selects(args[1]))):
            self.waits[f"backward {name}"] += 1
        return func(*args, **(kwargs or {}))


class Card(TorchFunctionMode):
    """Tensors made without a device lie in main memory, and what is made of them alone; all else would lie on
    the card. `waits` by the call that waits; `mixed`: calls that a card would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.mixed: Counter[str] = Counter()
        self.sends = 0
        self.here = WeakIdKeyDictionary()
        self.backward = Backward(self.waits)

    def __enter__(self) -> Card:
        self.backward.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        self.backward.__exit__(*problem)

    def sent(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """In the place of the program's own `sent`: a copy on the card."""
        if tensor not in self.here:
            return tensor
        self.sends += 1
        there = tensor.clone()
        self.here.pop(there, None)
        return there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        there = any(one not in self.here for one in tensors)
        placed = kwargs.get("device") is not None
        if self._waits(name, args, kwargs, there, placed):
            self.waits[name] += 1
        if there and name not in FREE and any(one in self.here and one.dim() for one in tensors):
            self.mixed[name] += 1
        if name == "backward":
            return self._back(args[0])
        self.backward.inside += 1
        try:
            out = func(*args, **kwargs)
        finally:
            self.backward.inside -= 1
        if name == "to" and _device(args[1:], kwargs) and not there:
            self.waits["to"] += not kwargs.get("non_blocking", False)
            out = args[0].clone()
            self.here.pop(out, None)
        elif not there and not placed:
            for one in tree_leaves(out):
                if isinstance(one, torch.Tensor):
                    self.here[one] = None
        return out

    def _back(self, loss: torch.Tensor) -> None:
        """A backward pass, with what is computed once more in it seen as well: autograd's own call would be
        handed back to this mode."""
        slope = torch.ones_like(loss)
        TorchFunctionMode.__enter__(self)
        try:
            torch.autograd.graph._engine_run_backward(
                (loss,), (slope,), False, False, (), allow_unreachable=True, accumulate_grad=True
            )
        finally:
            TorchFunctionMode.__exit__(self, None, None, None)

    def _waits(self, name: str, args: Any, kwargs: Any, there: bool, placed: bool) -> bool:
        if name in MAKES:
            return placed
        if name == "repeat_interleave":
            return there and kwargs.get("output_size") is None
        if name in ("__getitem__", "__setitem__"):
            return there and selects(args[1])
        return there and name in READS


def _device(args: Any, kwargs: Any) -> bool:
    """Whether `Tensor.to` is given a device."""
    return any(isinstance(one, (torch.device, str)) for one in (*args, kwargs.get("device")))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    for room in (
        doitune.prompt.batch,
        doitune.backends.loss,
        doitune.backends.hf_model,
        doitune.backends.dropout,
    ):
        monkeypatch.setattr(room, "sent", card.sent, raising=False)
    return card


def step_of(recipe: Path, folder: Path, card: Card, *, packed: bool, tokens: int) -> tuple[Counter[str], int]:
    """Waits of one optimiser step, and its micro-batches."""
    settings = ["train.gradient_checkpointing=always", "lora.dropout=0.1"]
    plan = plan_training(resolve(str(recipe), overrides=settings))
    _, model = load_model(plan.recipe, plan.base, 0, training=True)
    folder.mkdir()
    training = Training(Setup(Run(folder), plan.recipe, plan.material, model))
    training.at = replace(training.at, packed=packed, tokens_per_micro_batch=tokens)
    card.waits.clear()
    with card:
        log = training.advance()
    assert log is not None and log.loss > 0
    return Counter(card.waits), log.micro_batches


def test_a_packed_step_waits_for_a_card_twice_whatever_its_micro_batches(
    tiny_recipe: Path, tmp_path: Path, card: Card
) -> None:
    """For the losses of all its examples, and for the gradient's norm. Before, each micro-batch waited 15 times,
    and twice for each layer (135 times in 33b). Trap: bounds of the documents that every layer reads from the
    card, and again where it is computed once more."""
    few, one = step_of(tiny_recipe, tmp_path / "few", card, packed=True, tokens=4096)
    many, more = step_of(tiny_recipe, tmp_path / "many", card, packed=True, tokens=120)
    assert one == 1 and more > 2 and card.sends >= 5 * (one + more), "nothing was counted"
    assert few == many == {"tolist": 1, "__float__": 1}
    assert not card.mixed, "a card computes with nothing that lies in main memory"


def test_a_padded_micro_batch_waits_once_for_what_transformers_asks(
    tiny_recipe: Path, tmp_path: Path, card: Card
) -> None:
    """Whether positions begin anew within a row; before, 10 times."""
    found, more = step_of(tiny_recipe, tmp_path / "many", card, packed=False, tokens=120)
    assert more > 2 and found == {"tolist": 1, "__float__": 1, "__bool__": more} and not card.mixed


def test_the_count_sees_what_waits(card: Card) -> None:
    """Trap: a count of nothing."""
    parameter = torch.ones(4, requires_grad=True)
    with card:
        here = torch.arange(4)
        assert here.tolist() and bool((here > 0).any()) and not card.waits, "main memory is free to read"
        there = card.sent(here, torch.device("cpu"))
        for number, wait in enumerate(
            (
                lambda: there.tolist(),
                lambda: bool((there > 1).any()),
                lambda: there[there > 1],
                lambda: torch.tensor([1], device=parameter.device),
                lambda: here.to(parameter.device),
                lambda: torch.repeat_interleave(there, there),
                lambda: float(parameter.detach()[0]),
            ),
            1,
        ):
            wait()
            assert card.waits.total() == number, card.waits
        parameter[there > 1].sum().backward()
        assert card.waits["backward aten::index_put"] == 1
        assert not card.mixed
        torch.add(here, there)
        assert card.mixed


def test_a_copy_to_a_card_comes_from_pinned_memory_and_is_not_waited_for() -> None:
    asked: list[Any] = []

    class Tensor:
        device = torch.device("cpu")

        def pin_memory(self) -> Tensor:
            asked.append("pinned")
            return self

        def to(self, device: torch.device, **keywords: Any) -> Tensor:
            asked.append((device.type, keywords))
            return self

    doitune.prompt.batch.sent(Tensor(), torch.device("cuda", 0))  # type: ignore[arg-type]
    doitune.prompt.batch.sent(Tensor(), torch.device("cpu"))  # type: ignore[arg-type]
    assert asked == ["pinned", ("cuda", {"non_blocking": True}), ("cpu", {})]
