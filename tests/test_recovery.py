"""Out of memory at any call of a run: the same examples, the same steps, the same weights; and what is
tried before step 1 changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from doitune.backends.out_of_memory import is_out_of_memory
from doitune.errors import DataError, FitError, Stopped
from doitune.evals.suites.doit import task, validation_score
from doitune.memory.start import Allowance
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import load_model
from doitune.train import trial as trial_room
from doitune.train.arrangement import choose_arrangement
from doitune.train.events import Event, Note, StepLog
from doitune.train.loop import Training, lead
from doitune.train.plan import plan_training
from doitune.train.session import resume, start
from doitune.train.setup import Scorer, Setup
from doitune.train.shares import Order
from doitune.train.trial import longest_step, try_out
from doitune.train.weights import Aside

SCORER = partial(validation_score, most_new_tokens=3)
SETTINGS = (
    "train.optimizer=adamw",
    "train.learning_rate=2e-4",  # the default; at 1e-2 Adam makes more than 1e-6 of the rounding of a gradient near zero
    "train.examples_per_step=8",
    "train.epochs=2",
    "data.budget.biology=4",
    "data.budget.history=4",
    "data.budget.code=4",
    "data.budget.math=4",
    "train.validation_rows_per_ability=2",
)


@dataclass
class World:
    """A loaded tiny model whose adapter is put back before each training, and where the runs lie."""

    folder: Path
    plan: Any
    model: Any
    first: Aside

    def training(
        self,
        on_event: Callable[[Event], None] = lambda event: None,
        scorer: Scorer | None = None,
        **train: Any,
    ) -> Training:
        """`train`: fields of the recipe's `train` section that are others here."""
        run = Run(self.folder / f"tiny-{len(list(self.folder.iterdir())):04d}")
        (run.folder / "checkpoints").mkdir(parents=True)
        section = self.plan.recipe.train.model_copy(update=train)
        recipe = self.plan.recipe.model_copy(update={"train": section})
        allowance = Allowance(tokens=200, planned_gib=1.25)  # two or three micro-batches a step
        setup = Setup(run, recipe, self.plan.material, self.model, scorer, on_event, allowance=allowance)
        training = Training(setup)
        training.weights.put_back(self.first)
        choose_arrangement(training)
        return training


@pytest.fixture(autouse=True)
def tried_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a card does: the largest micro-batch is tried before its step, whatever the first step has."""
    monkeypatch.setattr(trial_room, "LIKE", math.inf)
    monkeypatch.setattr(trial_room, "ROOM", 0.0)


@pytest.fixture
def world(tiny_recipe: Path, tmp_path: Path) -> World:
    plan = plan_training(resolve(str(tiny_recipe), overrides=list(SETTINGS)))
    assert plan.recipe.lora.dropout == 0.1, "without dropout nothing random would have to be made again"
    _, model = load_model(plan.recipe, plan.base, 0, training=True)
    (tmp_path / "runs").mkdir()
    training = Training(Setup(Run(tmp_path), plan.recipe, plan.material, model))
    return World(tmp_path / "runs", plan, model, training.weights.aside())


def weights(training: Training) -> Any:
    import torch

    return torch.cat([parameter.detach().flatten() for _, parameter in training.weights.parameters]).clone()


def lines(training: Training, event: str) -> list[dict[str, Any]]:
    return [line for line in training.setup.run.log.lines() if line["event"] == event]


class Faults:
    """Counts the calls of each kind in a run and raises out of memory at one of them."""

    def __init__(self, kind: str = "", at: int = 0) -> None:
        self.kind, self.at = kind, at
        self.calls: dict[str, int] = {}

    def __call__(self, kind: str) -> None:
        import torch

        self.calls[kind] = self.calls.get(kind, 0) + 1
        if kind == self.kind and self.calls[kind] == self.at:
            raise torch.OutOfMemoryError("planted")


@contextmanager
def planted(faults: Faults, model: Any) -> Iterator[None]:
    """Every forward, backward, step of the optimiser and evaluation call goes through `faults`; the last
    two fail half done."""
    import torch

    backward, step = torch.Tensor.backward, torch.optim.AdamW.step
    own = {name: getattr(model, name) for name in ("loss", "logits", "generate", "read")}

    def forward(*arguments: Any, **more: Any) -> Any:
        faults("forward" if model.adapter.peft.training else "evaluation")
        return own["loss"](*arguments, **more)

    def back(self: Any, *arguments: Any, **more: Any) -> None:
        backward(self, *arguments, **more)
        faults("backward")  # gradients are there already

    def move(self: Any, *arguments: Any, **more: Any) -> Any:
        try:
            faults("optimiser")
        except torch.OutOfMemoryError:
            for parameter in self.param_groups[0]["params"][::2]:  # some weights have moved, others have not
                parameter.data.add_(1.0)
            raise
        return step(self, *arguments, **more)

    def asked(name: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **more: Any) -> Any:
            faults("evaluation")
            return own[name](*arguments, **more)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", back)
        patch.setattr(torch.optim.AdamW, "step", move)
        patch.setattr(model, "loss", forward)
        for name in own:
            if name != "loss":
                patch.setattr(model, name, asked(name))
        yield


def run_through(world: World, faults: Faults, notes: list[str] | None = None) -> Training:
    training = world.training(
        lambda event: notes.append(event.text) if notes is not None and isinstance(event, Note) else None,
        SCORER,
    )
    with planted(faults, world.model):
        try_out(training)
        training.go()
    return training


@pytest.mark.slow
def test_out_of_memory_at_any_call_changes_nothing(world: World) -> None:
    """Every forward, backward, step of the optimiser and evaluation call of a run fails once, the trial's
    too.

    Traps: gradients of the first try added to those of the second; other dropout for other micro-batches;
    weights that the optimiser moved half way; a validation that ends the run; steps that are logged twice.
    """
    counted = Faults()
    through = run_through(world, counted)
    assert (
        counted.calls["forward"] == counted.calls["backward"] > 8
        and counted.calls["optimiser"] == 5
        and counted.calls["evaluation"] > 8
    )
    expected, steps, validations = weights(through), lines(through, "step"), lines(through, "validation")
    assert [line["step"] for line in steps] == [1, 2, 3, 4] and [line["step"] for line in validations] == [
        2,
        4,
    ]
    for kind, amount in counted.calls.items():
        for at in range(1, amount + 1):
            training = run_through(world, Faults(kind, at))
            where = f"{kind} {at}"
            assert float((weights(training) - expected).abs().max()) < 1e-6, where
            again = lines(training, "step")
            assert [(line["step"], line["tokens"], line["trained_tokens"]) for line in again] == [
                (line["step"], line["tokens"], line["trained_tokens"]) for line in steps
            ], where
            assert all(
                abs(one["loss"] - other["loss"]) < 1e-5 for one, other in zip(again, steps, strict=True)
            ), where
            assert [line["score"] for line in lines(training, "validation")] == [
                line["score"] for line in validations
            ], where
            lacks = lines(training, "out_of_memory")
            if kind != "evaluation":
                assert training.at.tokens_per_micro_batch == 100 and len(lacks) == 1, where
            else:
                assert training.at.tokens_per_micro_batch == 200 and all(
                    line["during"] == "validation" for line in lacks
                ), where
            state = json.loads(
                (training.setup.run.checkpoints.all()[-1].folder / "state.json").read_text(encoding="utf-8")
            )
            assert state["tokens_per_micro_batch"] == training.at.tokens_per_micro_batch, where


@pytest.mark.parametrize("fits", [150, 60])
def test_a_card_that_holds_less_shrinks_the_run_before_its_first_step(world: World, fits: int) -> None:
    """The trial meets the limit, the run does not; the same weights. Trap: a trial of another step than
    the one that peaks."""
    import torch

    expected = weights(run_through(world, Faults()))
    loss = world.model.loss

    def small_card(batch: Any, trained_tokens: int) -> Any:
        if batch.ids.numel() > fits:
            raise torch.OutOfMemoryError("planted")
        return loss(batch, trained_tokens)

    training = world.training()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.model, "loss", small_card)
        try_out(training)
        assert lines(training, "out_of_memory") and all(
            line["during"] == "trial" for line in lines(training, "out_of_memory")
        )
        found = len(lines(training, "out_of_memory"))
        training.go()
    assert len([line for line in lines(training, "out_of_memory") if line["during"] != "validation"]) == found
    assert training.at.tokens_per_micro_batch <= fits
    assert float((weights(training) - expected).abs().max()) < 1e-6


def test_what_is_tried_is_the_largest_micro_batch_of_all_steps(world: World) -> None:
    """Trap: trying the longest example, or the first step."""
    from doitune.prompt.batch import arrange

    training = world.training()
    for packed in (True, False):
        training.at = replace(training.at, packed=packed)
        trial = try_out(training)
        sizes = {
            step + 1: max(
                batch.ids.numel()
                for batch in arrange(
                    training.gradients.encoded(step), training.at.tokens_per_micro_batch, packed=packed
                )
            )
            for step in range(training.gradients.course.total_steps)
        }
        assert len(set(sizes.values())) > 1, "equal steps would hide a wrong choice"
        assert trial.positions == max(sizes.values()) == sizes[trial.of_step]


def test_on_the_cpu_a_first_step_like_the_largest_is_the_trial(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is computed twice: no backward pass, no step of the optimiser before step 1; what then runs out
    of memory ends as a trial's would. Trap: a first step of small micro-batches that stands for a large one."""
    expected = weights(run_through(world, Faults()))
    for like, apart in ((0.0, False), (math.inf, True)):
        monkeypatch.setattr(trial_room, "LIKE", like)
        training, counted = world.training(), Faults()
        with planted(counted, world.model):
            trial = try_out(training)
        assert trial.apart is apart and lines(training, "trial")[-1]["apart"] is apart
        assert counted.calls.get("backward", 0) == counted.calls.get("optimiser", 0) == int(apart)
    monkeypatch.setattr(trial_room, "LIKE", 0.9)
    training = world.training()
    largest = longest_step(training.gradients, training.at).positions
    sizes = [
        trial_room._largest_of(training.gradients, Order(step, 200, training.at.packed)) for step in range(4)
    ]
    for step, own in enumerate(sizes):
        training.at = replace(training.at, step=step)
        found = try_out(training)
        assert found.apart is (own.positions < 0.9 * largest)
        assert found.positions == (largest if found.apart else own.positions)
    monkeypatch.setattr(trial_room, "LIKE", 0.0)
    for kind in ("forward", "backward", "optimiser"):
        training = run_through(world, Faults(kind, 1))
        assert len(lines(training, "out_of_memory")) == 1 and training.at.tokens_per_micro_batch == 100
        assert float((weights(training) - expected).abs().max()) < 1e-6, kind


def test_the_trial_changes_nothing_and_says_what_it_took(world: World) -> None:
    """Weights, moments and random state bit by bit, at the start and in the middle of a run. Traps:
    moments of a step at rate 0, a used random stream."""
    import torch

    def state(training: Training) -> tuple[Any, ...]:
        aside = training.weights.aside()
        return aside.weights, aside.tensors, aside.numbers, {"random": torch.get_rng_state()}

    training = world.training(scorer=SCORER)
    for steps in (0, 2):
        for _ in range(steps):
            training.advance()
        torch.manual_seed(7)
        torch.rand(3)
        before = state(training)
        trial = try_out(training)
        for old, new in zip(before, state(training), strict=True):
            assert old.keys() == new.keys()
            assert all(
                torch.equal(torch.as_tensor(value), torch.as_tensor(new[name])) for name, value in old.items()
            )
        assert all(parameter.grad is None for _, parameter in training.weights.parameters)
        line = lines(training, "trial")[-1]
        assert (
            line["peak_gib"] == trial.peak_gib > 0
            and line["planned_gib"] == 1.25
            and line["positions"] == trial.positions
        )
    assert len(lines(training, "trial")) == 2


def test_where_not_even_one_example_fits_the_last_boundary_is_saved(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    """FitError 78 with the way out, and a resume with more memory ends with the weights of an undisturbed
    run. Trap: the steps since the last checkpoint."""
    import torch
    from safetensors.torch import load_file

    from doitune.backends.hf_model import HfModel

    resolved = resolve(str(tiny_recipe), overrides=[*SETTINGS, "train.examples_per_step=4"])
    through = start(resolved, runs=tmp_path / "a", scorer=None, on_event=lambda event: None)
    loss, full = HfModel.loss, False

    def fails(self: Any, batch: Any, trained_tokens: int) -> Any:
        if full and self.adapter.peft.training:
            raise torch.OutOfMemoryError("planted")
        return loss(self, batch, trained_tokens)

    def fill_up(event: Event) -> None:
        nonlocal full
        full = full or (isinstance(event, StepLog) and event.step == 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HfModel, "loss", fails)
        with pytest.raises(
            FitError, match="step 4 does not fit this card even with one example at a time"
        ) as refused:
            start(resolved, runs=tmp_path / "b", scorer=None, on_event=fill_up)
    assert refused.value.exit_code == 78 and "train.max_tokens" in refused.value.hint
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    run = Run(folder)
    assert run.checkpoints.all()[-1].step == 3
    resume(run, scorer=None, on_event=lambda event: None)
    one, other = (
        load_file(some.checkpoints.all()[-1].folder / "adapter_model.safetensors") for some in (through, run)
    )
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6


def test_a_smaller_budget_is_kept_by_a_resume(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: a resumed run that runs out of memory again in its first step."""
    import os
    import signal

    import torch

    from doitune.backends.hf_model import HfModel

    loss = HfModel.loss
    largest: list[int] = []

    def small_card(self: Any, batch: Any, trained_tokens: int) -> Any:
        if self.adapter.peft.training:
            largest.append(batch.ids.numel())
            if batch.ids.numel() > 130:
                raise torch.OutOfMemoryError("planted")
        return loss(self, batch, trained_tokens)

    def stop(event: Event) -> None:
        if isinstance(event, StepLog) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    resolved = resolve(str(tiny_recipe), overrides=[*SETTINGS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HfModel, "loss", small_card)
        with pytest.raises(Stopped):
            start(resolved, runs=tmp_path, scorer=None, on_event=stop)
        assert max(largest) > 130
        largest.clear()
        (folder,) = (tmp_path / "tiny").iterdir()
        resume(Run(folder), scorer=None, on_event=lambda event: None)
    assert largest and max(largest) <= 130


def test_a_validation_that_cannot_be_done_never_ends_a_run(world: World) -> None:
    """Out of memory at every evaluation call, or a scorer that refuses: said and logged, the weights are
    those of a run without it."""
    import torch

    expected = weights(run_through(world, Faults()))

    def refuses(*arguments: Any, **more: Any) -> dict[str, float]:
        raise DataError("this row has no form that a scorer can read")

    def runs_out(*arguments: Any, **more: Any) -> dict[str, float]:
        raise torch.OutOfMemoryError("planted")

    for scorer in (refuses, runs_out):
        notes: list[str] = []
        training = world.training(
            lambda event, notes=notes: notes.append(event.text) if isinstance(event, Note) else None,  # type: ignore[misc]
            scorer,
        )
        try_out(training)
        assert training.go()["final_step"] == 4
        assert torch.equal(weights(training), expected)
        assert [line["step"] for line in lines(training, "validation_failed")] == [2, 4] and not lines(
            training, "validation"
        )
        assert len([note for note in notes if "training goes on" in note]) == 2 and any(
            "when it was tried" in note for note in notes
        )


def test_a_bug_in_a_scorer_is_not_hidden(world: World) -> None:
    def broken(*arguments: Any, **more: Any) -> dict[str, float]:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        try_out(world.training(scorer=broken))


def test_an_optimiser_without_memory_goes_back_to_the_checkpoint(world: World) -> None:
    """Never again in place; a damaged checkpoint is not taken. Trap: metrics of the steps that are made
    again stand twice."""
    expected = weights(run_through(world, Faults()))
    notes: list[str] = []
    training = run_through(
        world, Faults("optimiser", 5), notes
    )  # the trial's is the first: this one is step 4's, checkpoints are of 1 and 2
    assert any("ran out of memory in step 4" in note and "after step 2" in note for note in notes)
    assert [line["step"] for line in lines(training, "step")] == [1, 2, 3, 4]
    assert (training.setup.run.folder / "metrics.superseded.jsonl").is_file()
    assert float((weights(training) - expected).abs().max()) < 1e-6


def test_an_evaluation_remembers_what_memory_holds() -> None:
    """The batches after the one that ran out are cut before they fail. Trap: each batch of an evaluation
    runs out of memory anew."""
    import torch
    from tiny_evals import examples, tiny

    from doitune.evals.ask import Limits, ask
    from doitune.evals.prompts import prepare

    model, template = tiny()
    asked = [one for one in task("valid", examples(6)).items if one.way == "letters"]
    prompts = prepare(asked, template, None)
    failed = []
    assert model.shares_prefix in (True, False)  # found out once, before
    logits = model.logits

    def small_card(batch: Any, token_ids: Any, prefix: Any = None) -> Any:
        if batch.ids.numel() > 110:
            failed.append(batch.ids.numel())
            raise torch.OutOfMemoryError("planted")
        return logits(batch, token_ids, prefix)

    model.logits = small_card  # type: ignore[method-assign]
    found = [pair for batch in ask(model, template, prompts, Limits(batch_tokens=200)) for pair in batch]
    assert len(found) == len(asked) and 0 < len(failed) <= 3


def test_a_run_without_a_late_validation_says_that_the_best_of_all_is_taken(world: World) -> None:
    notes: list[str] = []
    training = world.training(
        lambda event: notes.append(event.text) if isinstance(event, Note) else None,
        lambda model, template, rows: dict.fromkeys(rows, 0.5),
        select_after_epoch=5,
    )
    done = training.go()
    assert done["best_step"] == 4, "of equal scores the one with the lower loss"
    assert [note for note in notes if "no validation lies after epoch 5" in note]


def test_a_run_with_a_late_validation_says_nothing_of_it(world: World) -> None:
    notes: list[str] = []
    training = world.training(lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    training.go()
    assert not [note for note in notes if "no validation lies" in note]


@pytest.mark.parametrize("arrangement", ["packed", "sorted"])
def test_dropout_does_not_depend_on_micro_batches(world: World, arrangement: str) -> None:
    """The gradient of a step with dropout: one, some and one for each example, packed and padded. Trap: a
    stream of random numbers."""
    import torch

    from doitune.train.shares import Order

    training = world.training()
    gradients, batches = [], []
    for budget in (100_000, 120, 1):
        made = lead(training.gradients, Order(1, budget, packed=arrangement == "packed"))
        batches.append(made.micro_batches)
        gradients.append(
            torch.cat([parameter.grad.flatten() for _, parameter in training.weights.parameters])
        )
    assert batches[0] == 1 < batches[1] < batches[2] == 8
    assert all(float((other - gradients[0]).abs().max()) < 1e-5 for other in gradients[1:])
    world.model.training(False)
    assert float((gradients[0] - _without_dropout(training)).abs().max()) > 1e-3, "dropout does nothing here"
    lead(training.gradients, Order(2, 100_000, packed=arrangement == "packed"))


def _without_dropout(training: Training) -> Any:
    import torch

    from doitune.prompt.batch import pad, trained_tokens

    training.gradients.clear()
    encoded = training.gradients.encoded(1)
    training.setup.model.training(False)
    training.setup.model.loss(pad(encoded), trained_tokens(encoded)).value.backward()
    return torch.cat(
        [
            parameter.grad.flatten()
            for _, parameter in training.weights.parameters
            if parameter.grad is not None
        ]
    )


def test_dropout_drops_its_share_and_differs_by_step_layer_and_example() -> None:
    """The share within five standard errors; two masks agree no more than chance; and a mask has no more of a
    pattern than a random one, whose largest singular value is known. Trap: a hash that makes rows or channels
    alike."""
    import torch

    from doitune.backends.dropout import Places, SteadyDropout
    from doitune.prompt.batch import flatten
    from doitune.prompt.encoded import Encoded

    places = Places()
    batch = flatten([Encoded(tuple(range(64)), (-100,) * 64) for _ in range(4)])

    def mask(seed: int, number: int) -> torch.Tensor:
        torch.manual_seed(seed)
        places.put(batch)
        return (SteadyDropout(0.25, number, places).train()(torch.ones(1, 256, 512)) > 0)[0].float()

    first = mask(3, 0)
    error = (0.25 * 0.75 / first.numel()) ** 0.5
    assert abs(float(first.mean()) - 0.75) < 5 * error
    chance = 0.75**2 + 0.25**2
    for other in (mask(4, 0), mask(3, 1), first.roll(64, 0), first.roll(1, 0), first.roll(1, 1)):
        assert (
            abs(float((first == other).float().mean()) - chance)
            < 5 * (chance * (1 - chance) / first.numel()) ** 0.5
        )
    assert torch.equal(first, mask(3, 0))
    both = torch.cat([first, mask(3, 1)], dim=1).sub(0.75) / (0.25 * 0.75) ** 0.5
    rows, channels = both.shape
    assert float(torch.linalg.matrix_norm(both, 2)) < 1.05 * (rows**0.5 + channels**0.5)


def test_what_counts_as_out_of_memory() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("planted"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert is_out_of_memory(
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
