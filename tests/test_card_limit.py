"""A card that is named on a larger one: the process is limited to it, which is said, recorded and resumed; and
the end of a limit is answered as a card's own end is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import doitune.memory.start
import doitune.train.session
from doitune.errors import Stopped
from doitune.memory.cards import Card
from doitune.memory.limit import CONTEXT_GIB, Limit, limit_process
from doitune.memory.start import allowance
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.layout import ORIGIN
from doitune.system.units import GIB
from doitune.train.events import Event, Note, StepLog
from doitune.train.session import resume, start

Say = Callable[[Event], None]


@dataclass
class FakeCard:
    """A card of `gib` that torch finds: what torch is asked of it, and the limits that are set."""

    gib: float
    limits: list[tuple[float, int]] = field(default_factory=list)

    @property
    def allowed_bytes(self) -> int:
        """As torch's allocator computes it."""
        return int(self.limits[-1][0] * self.gib * GIB) if self.limits else int(self.gib * GIB)


@pytest.fixture
def card_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], FakeCard]:
    def made(gib: float) -> FakeCard:
        card = FakeCard(gib)
        properties = SimpleNamespace(total_memory=int(gib * GIB))
        for name, answer in {
            "is_available": lambda: True,
            "current_device": lambda: 1,
            "get_device_name": lambda device: f"NVIDIA of {gib:g}",
            "get_device_properties": lambda device: properties,
            "set_per_process_memory_fraction": lambda share, device: card.limits.append((share, device)),
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        return card

    return made


@pytest.mark.parametrize("named", [8.0, 12.0, 24.0, 48.0])
def test_torch_may_have_what_is_usable_of_the_named_card(
    card_of: Callable[[float], FakeCard], named: float
) -> None:
    """Trap: the whole of the named card for tensors, and CUDA's own context on top of it."""
    card = card_of(139.8)
    limit = limit_process(Card(named))
    assert [device for _, device in card.limits] == [1], "the card that this process uses, once"
    usable = Card(named).usable_gib * GIB
    assert card.allowed_bytes + CONTEXT_GIB * GIB == pytest.approx(usable, abs=16)
    assert limit.tensors_gib is not None and limit.tensors_gib * GIB == pytest.approx(
        card.allowed_bytes, abs=16
    )
    assert f"a card of {named:g} GiB" in limit.text and "139.8" in limit.text and "\n" not in limit.text
    assert limit.to_json() == {
        "card_limit": {
            "card_gib": named,
            "device_gib": 139.8,
            "tensors_gib": round(Card(named).usable_gib - CONTEXT_GIB, 3),
        }
    }


@pytest.mark.parametrize("here", [None, 16.0, 24.0])
def test_no_larger_card_is_limited_and_that_is_said(
    card_of: Callable[[float], FakeCard], monkeypatch: pytest.MonkeyPatch, here: float | None
) -> None:
    card = card_of(here or 1.0)
    if here is None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limit = limit_process(Card(24.0))
    assert not card.limits and limit.tensors_gib is None and limit.to_json() == {}
    assert "limits nothing" in limit.text


def test_micro_batches_are_those_of_the_named_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: the budget of tokens of the 141 GiB that are here, which the first step then runs out of."""
    resolved = resolve("reconstruct", model="33b", overrides=["model.backend=hf"])
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(24, "A card", 24.0))
    small = allowance(resolved, "hf")
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(141, "H200", 140.0))
    assert allowance(resolved, "hf") != small and allowance(resolved, "hf", 24.0) == small
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(16, "A card", 15.0))
    assert allowance(resolved, "hf", 24.0) == allowance(resolved, "hf"), "a smaller card stays what it is"


def _capped(monkeypatch: pytest.MonkeyPatch, card: FakeCard, bytes_per_position: int) -> list[int]:
    """Micro-batches that would take more than the card allows run out of memory, in torch's own words; the
    positions of the others are returned as they come."""
    from doitune.backends.hf_model import HfModel

    own, fitted = HfModel.loss, []

    def loss(self: Any, batch: Any, trained_tokens: int, prefix: Any = None) -> Any:
        if batch.ids.numel() * bytes_per_position > card.allowed_bytes:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB of "
                "which 117.90 GiB is free. 21.95 GiB allowed; Of the allocated memory 21.10 GiB is allocated"
            )
        fitted.append(batch.ids.numel())
        return own(self, batch, trained_tokens, prefix)

    monkeypatch.setattr(HfModel, "loss", loss)
    return fitted


def test_a_limit_is_said_recorded_met_by_recovery_and_set_again_by_a_resume(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a run that is killed and goes on with the whole card."""
    card, calls = FakeCard(139.8), []

    def limited(named: Card) -> Limit:
        calls.append(("limit", named.gib))
        card.limits.append(((named.usable_gib - CONTEXT_GIB) / card.gib, 0))
        return Limit(named.gib, "limited to a card of 24 GiB", "A card", card.gib, 21.95)

    own_load = doitune.train.session.load_model

    def load(*arguments: Any, **keywords: Any) -> Any:
        calls.append(("load", 0.0))
        return own_load(*arguments, **keywords)

    monkeypatch.setattr(doitune.train.session, "limit_process", limited)
    monkeypatch.setattr(doitune.train.session, "load_model", load)
    fitted = _capped(monkeypatch, card, int(21.95 * GIB / 128))
    said: list[str] = []

    def stop(event: Event) -> None:
        said.append(event.text if isinstance(event, Note) else "")
        if isinstance(event, StepLog) and event.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    resolved = resolve(str(tiny_recipe), overrides=["train.validation_rows_per_ability=0"])
    with pytest.raises(Stopped):
        start(resolved, runs=tmp_path / "runs", scorer=None, on_event=stop, card=Card(24.0))
    assert calls == [("limit", 24.0), ("load", 0.0)], "before anything lies on the card"
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    run = Run(folder)
    assert "limited to a card of 24 GiB" in said
    assert run.read_json(ORIGIN)["card_limit"]["card_gib"] == 24.0
    lacks = [line for line in run.log.lines() if line["event"] == "out_of_memory"]
    assert lacks and fitted and max(fitted) <= 128, "the limit was met, and what came after keeps to it"
    calls.clear()
    resumed = resume(run, scorer=None, on_event=lambda event: said.append(getattr(event, "text", "")))
    assert calls == [("limit", 24.0), ("load", 0.0)] and resumed.done() is not None
    assert said.count("limited to a card of 24 GiB") == 2


def test_a_run_without_a_named_card_is_not_limited(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def fail(named: Card) -> Limit:
        raise AssertionError("nobody named a card")

    monkeypatch.setattr(doitune.train.session, "limit_process", fail)
    resolved = resolve(str(tiny_recipe), overrides=["train.max_steps=1"])
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    assert "card_limit" not in run.read_json(ORIGIN)
