"""One part of the test of a card, in a process of its own: `python -m doitune.selftest.gpu_part WORDS RESULT`
(both JSON; RESULT is a file).

Every part also runs on the CPU, on small sizes: that is how the tests reach it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.named import model_section
from doitune.errors import DoituneError
from doitune.memory.cards import Card
from doitune.memory.hours import known_cards, tokens_per_second
from doitune.memory.setting import Setting
from doitune.memory.shape import find_shape
from doitune.memory.terms import base_bytes, count, level
from doitune.prompt.batch import flatten, pad, trained_tokens
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.base.architecture import Architecture

RANK = 16
TIMED_STEPS = 3


def rows(vocabulary: int, lengths: tuple[int, ...], *, untrained: float = 0.5) -> list[Encoded]:
    """Random rows of these lengths; their first part is not trained."""
    dice, found = random.Random(0), []
    for length in lengths:
        ids, first = tuple(dice.randrange(6, vocabulary) for _ in range(length)), int(untrained * length)
        found.append(Encoded(ids, (*[IGNORED] * first, *ids[first:])))
    return found


def learn(backend: str, base: str, adapter: Path, *, steps: int = 20) -> dict[str, Any]:
    """Losses of `steps` optimiser steps from the adapter in `adapter` (written there by the first backend
    that comes), and the probe of packing."""
    import torch

    from doitune.backends.loaded import LoadRequest
    from doitune.backends.pick import begin, pick_backend
    from doitune.base.find import find_base
    from doitune.train.packing import prove_packing

    found = find_base(base)
    begin(backend, found)
    model = pick_backend(backend, found)[1].load(LoadRequest(found, rank=4, alpha=8.0, seed=3))
    if adapter.exists():
        model.load_adapter(adapter)
    else:
        adapter.mkdir(parents=True)
        model.save_adapter(adapter)
    examples = rows(262, (9, 17, 31, 54, 80, 23, 120))
    proof = prove_packing(model, examples)
    model.training(True)
    optimiser, losses, total = (
        torch.optim.AdamW([one for _, one in model.trainable()], lr=5e-3),
        [],
        trained_tokens(examples),
    )
    for _ in range(steps):
        loss = model.loss((flatten if proof.exact else pad)(examples), total).value
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    differences = {
        "loss": proof.loss_difference,
        "gradient": proof.gradient_difference,
        "allowed": proof.allowed,
    }
    return {
        "losses": losses,
        "packed": proof.exact,
        "packing": differences,
        "compute_dtype": model.compute_dtype,
        "device": model.device.type,
    }


def kernels() -> dict[str, Any]:
    """Unsloth's kernels on the card against plain torch, by dtype."""
    from doitune.backends import unsloth

    unsloth.begin()  # before torch, as it patches what comes after it
    import torch

    from doitune.selftest.kernels import differences

    return {
        "kernels": {"fp32": differences("cuda", torch.float32), "bf16": differences("cuda", torch.bfloat16)}
    }


def architecture_of(size: str) -> Architecture:
    """The sizes of a model recipe."""
    return find_shape(model_section(size)).architecture


def setting_for(architecture: Architecture, backend: str, tokens: int, number_bytes: int = 2) -> Setting:
    """What a measurement does, as the memory plan counts it."""
    return Setting(architecture, backend=backend, rank=RANK, tokens=tokens, number_bytes=number_bytes)


def measure(setting: Setting, folder: Path, card: Card | None) -> dict[str, Any]:
    """Load random 4-bit weights, take two optimiser steps of two rows each, and put the peak and the pace
    beside the plan's.

    Without CUDA (`card` None) only the bytes of the frozen weights and the losses are reported: nothing is
    invented for the rest.
    """
    import torch

    ready = _ready(setting, folder)
    step = ready.step
    found: dict[str, Any] = {
        "losses": [step()],
        "frozen_bytes": ready.frozen_bytes,
        "planned_frozen_bytes": base_bytes(setting),
    }
    if card is None:
        return found
    torch.cuda.reset_peak_memory_stats()
    found["losses"].append(step())
    torch.cuda.synchronize()
    found |= beside_plan(setting, torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
    began = time.monotonic()
    for _ in range(TIMED_STEPS):
        step()
    torch.cuda.synchronize()
    return {**found, **pace(setting, card, TIMED_STEPS * 2 * setting.tokens / (time.monotonic() - began))}


@dataclass
class _Ready:
    """A loaded model of random weights and its optimiser, in training mode."""

    setting: Setting
    model: LoadedModel
    optimiser: Any
    frozen_bytes: int

    def step(self, at_once: int = 1) -> float:
        """An optimiser step of two micro-batches of `at_once` rows; its loss."""
        import torch

        lengths = (self.setting.tokens,) * at_once
        batch = pad(rows(self.setting.architecture.vocabulary, lengths, untrained=0.0))
        for _ in range(2):
            loss = self.model.loss(batch, 2 * at_once * (self.setting.tokens - 1)).value
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([one for _, one in self.model.trainable()], 1.0)
        self.optimiser.step()
        self.clear()
        return 2 * float(loss.detach())

    def clear(self) -> None:
        """Forget the gradient."""
        self.optimiser.zero_grad(set_to_none=True)


def _ready(setting: Setting, folder: Path) -> _Ready:
    import torch

    from doitune.backends.loaded import LoadRequest
    from doitune.backends.optimiser import build_optimiser
    from doitune.backends.pick import begin, pick_backend
    from doitune.base.find import find_base
    from doitune.memory.simulation.random_base import fill, hollow
    from doitune.recipe.fields import TrainSection

    hollow(folder, setting.architecture)
    base = find_base(str(folder))
    begin(setting.backend, base)
    request = LoadRequest(base, rank=setting.rank, max_tokens=setting.tokens, gradient_checkpointing=True)
    model: Any = pick_backend(setting.backend, base)[1].load(request)
    fill(model.base)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what loading left to the allocator is no part of a step's peak
    section = TrainSection(optimizer=setting.optimizer)  # type: ignore[arg-type]
    optimiser = build_optimiser(model.trainable(), section, model.device)
    model.training(True)
    return _Ready(setting, model, optimiser, _frozen_bytes(model.base))


MOST_DOUBLINGS = 8
"""Of a micro-batch's rows, before a limit counts as not met."""


def pressure(setting: Setting, folder: Path, card: Card | None) -> dict[str, Any]:
    """This process limited to `card`, as `doitune train --card` does: steps of ever more rows until memory
    runs out, then a step of the first size again, with what is free by then.

    Without CUDA (`card` None) nothing is limited, and two doublings stand for all.
    """
    from doitune.backends.out_of_memory import OutOfMemory, free_cache, memory_for
    from doitune.memory.limit import limit_process

    limit = None if card is None else limit_process(card)
    ready = _ready(setting, folder)
    found: dict[str, Any] = {"losses": [ready.step()], "limit": limit.to_json() if limit else None}
    fitted, lacked = 1, 0
    for _ in range(2 if card is None else MOST_DOUBLINGS):
        try:
            with memory_for("step"):
                ready.step(2 * fitted)
            fitted *= 2
        except OutOfMemory:
            lacked = 2 * fitted
        if lacked:
            break
    ready.clear()  # only here: the exception kept the step's tensors alive
    free_cache()
    found["losses"].append(ready.step())
    tokens = {"fitted_tokens": fitted * setting.tokens, "lacked_tokens": lacked * setting.tokens or None}
    return {**found, **tokens, **_reserved(card)}


def profile(setting: Setting, folder: Path, card: Card | None) -> dict[str, Any]:
    """What the time of a step on random 4-bit weights goes to; see `step_profile`."""
    from doitune.selftest.step_profile import step_profile

    return step_profile(_ready(setting, folder).step)


def _reserved(card: Card | None) -> dict[str, float]:
    import torch

    return {} if card is None else {"reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3)}


def _frozen_bytes(base: Any) -> int:
    """Bytes of the frozen weights as they lie there, tables and scales too; a tied matrix counts once."""
    from doitune.backends.four_bits import state_bytes

    seen = {id(one): one for one in base.parameters() if not one.requires_grad}
    return sum(one.nbytes + state_bytes(one) for one in seen.values())


def beside_plan(setting: Setting, allocated: int, reserved: int) -> dict[str, Any]:
    """A measured peak beside the planned one; CUDA's own context is in neither. The allocator's loss is in
    `reserved` alone."""
    terms = [term for term in count(setting) if term.name != "context"]
    part = sum(term.nominal for term in terms if term.name != "fragmentation")
    return {
        "allocated_gib": round(allocated / GIB, 3),
        "reserved_gib": round(reserved / GIB, 3),
        "planned_gib": round(part / GIB, 3),
        "planned_high_gib": round(sum(level(term, 2) for term in terms) / GIB, 3),
        "ratio": round(allocated / part, 4),
    }


def pace(setting: Setting, card: Card, measured: float) -> dict[str, Any]:
    """Measured tokens a second beside the known card's roof and the expected share of it; null for a card
    that is not known by name."""
    named = [one for one in known_cards(card) if card.name and one.name.replace(" 16 GB", "") in card.name]
    found: dict[str, Any] = {
        "tokens_per_second": round(measured),
        "roof": None,
        "expected": None,
        "share_of_roof": None,
    }
    if named:
        roof, expected = (
            tokens_per_second(setting, named[0], row_tokens=setting.tokens, efficiency=share)
            for share in (1.0, None)
        )
        found |= {
            "roof": round(roof),
            "expected": round(expected),
            "share_of_roof": round(measured / roof, 3),
        }
    return found


def run(words: dict[str, Any]) -> dict[str, Any]:
    """The part that `words` ask for. Errors: DoituneError."""
    if words["part"] == "kernels":
        return kernels()
    if words["part"] == "learn":
        return learn(words["backend"], words["base"], Path(words["adapter"]), steps=words["steps"])
    setting = setting_for(architecture_of(words["size"]), words["backend"], words["tokens"])
    if words.get("layers"):
        setting = replace(setting, architecture=replace(setting.architecture, layers=words["layers"]))
    card = Card(words["gib"], words.get("name", "")) if words["gib"] else None
    parts = {"measure": measure, "pressure": pressure, "profile": profile}
    return parts[words["part"]](setting, Path(words["folder"]), card)


if __name__ == "__main__":
    try:
        result = run(json.loads(sys.argv[1]))
    except DoituneError as error:
        result = {"error": error.problem}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
