"""A run end to end on a tiny base: the laws that make a step the unit of meaning, and a resume exact."""

from __future__ import annotations

import json
import os
import pickle
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from doitune.errors import CheckpointError, DivergedError, FitError, Stopped
from doitune.memory.start import Allowance
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, resolved
from doitune.run.model import load_model, open_trained
from doitune.train.arrangement import choose_arrangement
from doitune.train.events import Event, Note, StepLog, ValidationLog
from doitune.train.gradient import StopAsked
from doitune.train.loop import Training
from doitune.train.plan import plan_training
from doitune.train.session import resume, start
from doitune.train.setup import Setup


class Interrupt:
    """Asks a training to stop after some micro-batches."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepLog):
            self.left -= 1
            if self.left == 0:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)


def _quiet(event: Event) -> None:
    pass


def _score_by_loss(model: Any, template: Any, valid: Any, **more: Any) -> dict[str, float]:
    return dict.fromkeys(valid, 0.5)


def _final(run: Run) -> dict[str, bytes]:
    newest = run.checkpoints.all()[-1]
    return {
        name: (newest.folder / name).read_bytes()
        for name in ("adapter_model.safetensors", "state.safetensors")
    }


def _steps(run: Run) -> list[dict[str, Any]]:
    timed = ("seconds", "peak_memory_gib")
    return [
        {key: value for key, value in line.items() if key not in timed}
        for line in run.log.lines()
        if line["event"] in ("step", "validation")
    ]


@pytest.fixture
def whole(tiny_recipe: Path, tmp_path: Path) -> Run:
    return start(resolve(str(tiny_recipe)), runs=tmp_path / "runs", scorer=_score_by_loss, on_event=_quiet)


def test_a_run_leaves_what_the_house_promises(whole: Run) -> None:
    names = {path.name for path in whole.folder.iterdir()}
    assert {
        "recipe.yaml",
        "origin.json",
        "examples.txt",
        "ledger.json",
        "metrics.jsonl",
        "checkpoints",
        "done.json",
    } <= names
    ids = (whole.folder / "examples.txt").read_text(encoding="utf-8").split()
    assert len(ids) == 32 == len(set(ids))
    ledger = json.loads((whole.folder / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["math"] == {"asked": 8, "found": 40, "kept": 8, "truncated": 0, "trained": 8}
    lines = whole.log.lines()
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 9))
    assert [line["step"] for line in lines if line["event"] == "validation"] == [4, 8]
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    assert losses[-1] < losses[0]
    done = whole.done()
    assert done is not None and done["final_step"] == 8
    checks = [line["loss"] for line in lines if line["event"] == "validation"]
    assert checks[1] < checks[0] and done["best_step"] == 8, "equal scores: the lower loss"


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "adamw"])
@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_stopped_and_resumed_is_byte_identical(
    tiny_recipe: Path, tmp_path: Path, stop_after: int, optimizer: str
) -> None:
    """Trap: random states, data order or optimiser moments that a checkpoint forgets (dropout is on)."""
    resolved = resolve(str(tiny_recipe), overrides=[f"train.optimizer={optimizer}"])
    through = start(resolved, runs=tmp_path / "a", scorer=_score_by_loss, on_event=_quiet)
    with pytest.raises(Stopped) as stopped:
        start(resolved, runs=tmp_path / "b", scorer=_score_by_loss, on_event=Interrupt(stop_after))
    assert stopped.value.exit_code == 143
    assert "doitune resume" in stopped.value.hint
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    run = Run(folder)
    assert run.done() is None
    resume(run, scorer=_score_by_loss, on_event=_quiet)
    assert _final(run) == _final(through)
    assert _steps(run) == _steps(through)


@pytest.mark.parametrize("jump_days", [1, -1])
def test_a_clock_that_jumps_changes_nothing(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_days: int
) -> None:
    """A machine that sleeps or sets its clock: steps count, durations are the monotonic clock's, and the
    newest checkpoint is the highest step."""
    through = start(resolve(str(tiny_recipe)), runs=tmp_path / "a", scorer=_score_by_loss, on_event=_quiet)
    real, asked = time.time, [0]

    def jumping() -> float:
        asked[0] += 1
        return real() + asked[0] * jump_days * 86_400

    monkeypatch.setattr(time, "time", jumping)
    with pytest.raises(Stopped):
        start(resolve(str(tiny_recipe)), runs=tmp_path / "b", scorer=_score_by_loss, on_event=Interrupt(3))
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    for found in (folder / "checkpoints").iterdir():
        os.utime(found, (0, 0) if found.name.endswith("3") else None)
    run = resume(Run(folder), scorer=_score_by_loss, on_event=_quiet)
    assert _final(run) == _final(through) and _steps(run) == _steps(through)
    assert all(0 <= line["seconds"] < 3_600 for line in run.log.lines() if "seconds" in line)


def test_pickles_in_a_run_and_its_checkpoints_are_never_opened(tiny_recipe: Path, tmp_path: Path) -> None:
    """The names that other trainers resume from. In a checkpoint they are foreign files: the manifest does
    not name them."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "canary"),)

    with pytest.raises(Stopped):
        start(resolve(str(tiny_recipe)), runs=tmp_path / "b", scorer=_score_by_loss, on_event=Interrupt(3))
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    checkpoints = list((folder / "checkpoints").glob("step-*"))
    assert checkpoints
    for place in (folder, *checkpoints):
        for name in (
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "training_args.bin",
            "adapter_model.bin",
            "pytorch_model.bin",
            "state.pkl",
        ):
            (place / name).write_bytes(pickle.dumps(Bomb()))
    assert resume(Run(folder), scorer=_score_by_loss, on_event=_quiet).done() is not None
    assert not (tmp_path / "canary").exists()
    pickle.loads((folder / "optimizer.pt").read_bytes())
    assert (tmp_path / "canary").is_dir(), "the bomb would have gone off"


def test_a_repeated_run_is_the_same(whole: Run, tmp_path: Path) -> None:
    again = start(resolved(whole), runs=tmp_path / "again", scorer=_score_by_loss, on_event=_quiet)
    assert _final(again) == _final(whole)
    assert (again.folder / "examples.txt").read_bytes() == (whole.folder / "examples.txt").read_bytes()


def _training(
    recipe: Path, tmp_path: Path, overrides: list[str], budget_tokens: int | None = None
) -> Training:
    resolved = resolve(str(recipe), overrides=["lora.dropout=0", "train.optimizer=adamw", *overrides])
    plan = plan_training(resolved)
    _, model = load_model(plan.recipe, plan.base, 0, training=True)
    folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    (folder / "checkpoints").mkdir(parents=True)
    allowance = Allowance(budget_tokens, 1.0) if budget_tokens else None
    training = Training(
        Setup(Run(folder), plan.recipe, plan.material, model, report=_quiet, allowance=allowance)
    )
    choose_arrangement(training)
    return training


@pytest.mark.parametrize("arrangement", ["packed", "sorted"])
def test_weights_do_not_depend_on_micro_batches(tiny_recipe: Path, tmp_path: Path, arrangement: str) -> None:
    """One, some and sixteen micro-batches a step: after 3 steps the same weights (1e-5). Trap: a loss
    scaled by micro-batch."""
    import torch

    weights, batches = [], []
    for budget in (100_000, 200, 1):
        training = _training(
            tiny_recipe,
            tmp_path,
            [f"train.arrangement={arrangement}", "train.examples_per_step=16", "train.epochs=3"],
            budget,
        )
        logs = [training.advance() for _ in range(3)]
        batches.append(logs[0].micro_batches)
        weights.append(
            torch.cat([parameter.detach().flatten() for _, parameter in training.weights.parameters])
        )
    assert batches[0] <= 2 < batches[1] < batches[2] == 16, batches
    for other in weights[1:]:
        assert float((other - weights[0]).abs().max()) < 1e-5


def test_the_gradient_of_a_step_does_not_depend_on_its_split(tiny_recipe: Path, tmp_path: Path) -> None:
    """1x16, 4x4 and 16x1, padded and packed, give the same gradient (1e-5)."""
    import torch

    from doitune.prompt.batch import flatten, pad, trained_tokens

    training = _training(tiny_recipe, tmp_path, [])
    encoded = [training.setup.material.encoded[place] for place in range(16)]
    total = trained_tokens(encoded)
    assert len({len(one.ids) for one in encoded}) > 1, "equal lengths would hide a wrong normalisation"
    gradients = []
    for make in (pad, flatten):
        for size in (16, 4, 1):
            for start_at in range(0, 16, size):
                training.setup.model.loss(make(encoded[start_at : start_at + size]), total).value.backward()
            gradients.append(
                torch.cat([p.grad.flatten() for _, p in training.weights.parameters if p.grad is not None])
            )
            training.gradients.clear()
    assert float(gradients[0].abs().max()) > 1e-3
    for other in gradients[1:]:
        assert float((other - gradients[0]).abs().max()) < 1e-5


def test_out_of_memory_halves_the_budget_and_changes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    import torch

    def run(fail_at: int | None) -> tuple[torch.Tensor, int]:
        training = _training(tiny_recipe, tmp_path, [])
        calls = 0
        real = training.setup.model.loss

        def loss(batch: Any, trained_tokens: int) -> Any:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise torch.OutOfMemoryError("planted")
            return real(batch, trained_tokens)

        training.setup.model.loss = loss  # type: ignore[method-assign]
        for _ in range(4):
            training.advance()
        return torch.cat(
            [parameter.detach().flatten() for _, parameter in training.weights.parameters]
        ), training.at.tokens_per_micro_batch

    undisturbed, budget = run(None)
    for at in (1, 3):
        weights, halved = run(at)
        assert halved == budget // 2
        assert float((weights - undisturbed).abs().max()) < 1e-6


def test_out_of_memory_with_single_examples_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    import torch

    training = _training(tiny_recipe, tmp_path, [])

    def loss(batch: Any, trained_tokens: int) -> Any:
        raise torch.OutOfMemoryError("planted")

    training.setup.model.loss = loss  # type: ignore[method-assign]
    with pytest.raises(FitError, match="one example at a time"):
        training.advance()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    """Trap: the stock trainer logs NaN as loss 0.0 and goes on."""
    training = _training(tiny_recipe, tmp_path, [])
    with __import__("torch").no_grad():
        training.weights.parameters[0][1].fill_(float("nan"))
        training.weights.parameters[1][1].fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"step 1: loss nan.*rows: .*\.json:\d+"):
        training.advance()


def test_resume_refuses_other_data(tiny_recipe: Path, tmp_path: Path, tiny_corpus: Path) -> None:
    import shutil

    corpus = tmp_path / "mine"
    shutil.copytree(tiny_corpus, corpus)
    resolved = resolve(str(tiny_recipe), corpus=str(corpus))
    with pytest.raises(Stopped):
        start(resolved, runs=tmp_path / "runs", scorer=None, on_event=Interrupt(2))
    path = corpus / "curated" / "1000" / "math_1000.json"
    path.write_text(path.read_text(encoding="utf-8").replace("39+1=?", "39+1=几?"), encoding="utf-8")
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    with pytest.raises(CheckpointError, match=r"math_1000\.json: was"):
        resume(Run(folder), scorer=None, on_event=_quiet)


def test_a_damaged_checkpoint_is_set_aside_and_the_older_one_taken(tiny_recipe: Path, tmp_path: Path) -> None:
    resolved = resolve(str(tiny_recipe))
    through = start(resolved, runs=tmp_path / "a", scorer=_score_by_loss, on_event=_quiet)
    with pytest.raises(Stopped):
        start(resolved, runs=tmp_path / "b", scorer=_score_by_loss, on_event=Interrupt(3))
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    run = Run(folder)
    newest = run.checkpoints.all()[-1]
    state = newest.folder / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    notes: list[str] = []
    resume(
        run,
        scorer=_score_by_loss,
        on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    assert any("is damaged (state.safetensors was changed)" in note for note in notes)
    assert _final(run) == _final(through)
    assert any(path.name.startswith(".bad-") for path in (folder / "checkpoints").iterdir())


def test_a_run_remembers_its_validations_and_reads_its_log_once(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a log that is read again before every step makes a long run slower with every step it has made."""
    reads, read_bytes = [0], Path.read_bytes
    at_step: list[int] = []

    def counted(path: Path) -> bytes:
        reads[0] += path.name == "metrics.jsonl"
        return read_bytes(path)

    def watch(event: Event) -> None:
        if isinstance(event, StepLog):
            at_step.append(reads[0])

    monkeypatch.setattr(Path, "read_bytes", counted)
    overrides = ["train.validate_every=1", "train.patience=9", "train.epochs=3"]
    resolved = resolve(str(tiny_recipe), overrides=overrides)
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=watch)
    assert len(run.log.lines("validation")) == len(at_step) > 4
    assert at_step[-1] == at_step[0] <= 2, at_step


def test_patience_stops_early(tiny_recipe: Path, tmp_path: Path) -> None:
    seen: list[ValidationLog] = []
    asked = count(1)
    resolved = resolve(str(tiny_recipe), overrides=["train.validate_every=1", "train.patience=2"])
    run = start(
        resolved,
        runs=tmp_path / "runs",
        scorer=lambda model, template, valid, **more: dict.fromkeys(valid, 1 / next(asked)),
        on_event=lambda event: seen.append(event) if isinstance(event, ValidationLog) else None,
    )
    done = run.done()
    assert done is not None and done["stopped_early"] and done["final_step"] == 3 and done["best_step"] == 1
    assert len(seen) == 3


def test_the_adapter_of_a_run_is_the_one_that_was_trained(whole: Run) -> None:
    """Trap: an adapter that silently isn't loaded. The loaded one answers otherwise than the base and as
    the saved tensors say."""
    import torch
    from safetensors.torch import load_file

    _, model, _template, step = open_trained(whole, "last")
    assert step == 8
    stored = load_file(whole.checkpoints.of_step(8).folder / "adapter_model.safetensors")
    own = {name.replace(".default", ""): parameter for name, parameter in model.trainable()}
    assert stored and set(stored) == set(own)
    assert all(torch.equal(stored[name], own[name]) for name in stored)


def test_a_stop_is_no_error_of_ours() -> None:
    assert not issubclass(StopAsked, Exception)  # nothing that catches Exception may swallow a stop


@pytest.mark.parametrize(("free", "decides"), [(4, False), (2, True)])
def test_a_few_letters_among_free_answers_choose_no_checkpoint(
    tiny_base: Path, tmp_path: Path, free: int, decides: bool
) -> None:
    """Trap: one true-or-false row of a file of free answers outweighed the loss of all the others."""

    def row(number: int, split: str, answer: str) -> str:
        turns = [("user", f"{number}是偶数吗?"), ("assistant", answer)]
        messages = [{"role": role, "content": content} for role, content in turns]
        return json.dumps({"messages": messages, "split": split}, ensure_ascii=False) + "\n"

    rows = [row(number, "train", "是的，因为它能被二整除。") for number in range(0, 32, 2)]
    rows += [row(100 + number, "valid", "是的，因为它能被二整除。") for number in range(free)]
    rows += [row(200 + number, "valid", "正确") for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    sets = ("lora.rank=4", "train.examples_per_step=8", "train.epochs=2", "train.learning_rate=1e-2")
    resolved = resolve("own", model=str(tiny_base), corpus=str(tmp_path / "rows.jsonl"), overrides=sets)
    falling = iter((1.0, 0.0))
    run = start(
        resolved,
        runs=tmp_path / "runs",
        scorer=lambda model, template, valid, **more: {"general": next(falling)} if not more else {},
        on_event=_quiet,
    )
    checks = run.log.lines("validation")
    assert [line["score_by_ability"]["general"] for line in checks] == [1.0, 0.0]
    assert checks[1]["loss"] < checks[0]["loss"]
    assert [line["score"] for line in checks] == ([1.0, 0.0] if decides else [None, None])
    assert run.done()["best_step"] == (2 if decides else 4)  # type: ignore[index]
