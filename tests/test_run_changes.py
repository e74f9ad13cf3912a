"""A resume goes on with the same recipe, data, base and libraries, or says what differs; a short list may
change, and that is reported and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doitune.errors import CheckpointError, DoituneError, Stopped, UsageError
from doitune.recipe.field_help import field_help
from doitune.recipe.resolve import freeze, resolve
from doitune.run.changes import ALLOWED, LONGER, Wishes, recorded
from doitune.run.find import list_runs
from doitune.run.folder import Run, resolved
from doitune.run.layout import RECIPE
from doitune.train.events import Event, Note, StepLog
from doitune.train.session import resume, start


def _quiet(event: Event) -> None:
    pass


def _stop_after(step: int) -> Callable[[Event], None]:
    def hear(event: Event) -> None:
        if isinstance(event, StepLog) and event.step == step:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    return hear


def _stopped(recipe: Path, runs: Path, *overrides: str) -> Run:
    with pytest.raises(Stopped):
        start(resolve(str(recipe), overrides=overrides), runs=runs, scorer=None, on_event=_stop_after(2))
    return list_runs(runs)[-1]


@pytest.fixture
def stopped(tiny_recipe: Path, tmp_path: Path) -> Run:
    return _stopped(tiny_recipe, tmp_path / "runs")


OTHER: dict[str, str] = {
    "summary": "another", "alias_of": "demo", "model.revision": "a" * 40, "model.family": "other", "model.quantise": "none",
    "model.backend": "hf", "model.compute_dtype": "fp32", "model.note": "another",
    "lora.rank": "8", "lora.alpha": "16", "lora.dropout": "0.2", "lora.targets": "[q_proj]",
    "prompt.tokens": "new", "prompt.user_token": "<0x01>", "prompt.assistant_token": "<0x02>", "prompt.end_token": "<pad>", "prompt.thinking": "drop", "prompt.learn": "last",
    "data.source": "curated/full", "data.budget.math": "7", "data.budget.leftover": "drop", "data.select": "paper", "data.seed": "1",
    "data.on_shortfall": "take_all", "data.on_overlong": "drop", "data.allow_leaks": "true",
    "data.holdout": "0.1", "data.holdout_rows": "9",
    "train.examples_per_step": "4", "train.epochs": "3", "train.max_steps": "7", "train.learning_rate": "2e-2", "train.end_rate": "1e-5", "train.end_rate_at": "after_last_step",
    "train.schedule": "cosine", "train.polynomial_power": "2", "train.warmup_steps": "1", "train.optimizer": "adamw", "train.beta1": "0.8",
    "train.beta2": "0.99", "train.eps": "1e-7", "train.weight_decay": "0.1", "train.clip_norm": "0.5", "train.max_tokens": "255",
    "train.tokens_per_micro_batch": "512", "train.arrangement": "sorted", "train.gradient_checkpointing": "always", "train.seed": "1",
    "train.validate_every": "2", "train.validation_rows_per_ability": "2", "train.select_after_epoch": "1", "train.patience": "3",
    "train.checkpoint_minutes": "5", "train.keep_checkpoints": "4", "train.trackers": "[tensorboard]",
    "eval.suite": "[doit-valid]", "eval.shots": "[5]", "eval.max_new_tokens": "9", "eval.tokens_per_batch": "99",
}  # fmt: skip
"""A value other than the tiny recipe's for each field."""


def test_the_catalogue_is_nearly_every_field() -> None:
    known = {one.name for one in field_help()}
    apart = {
        "model.name",
        "data.corpus",
        "data.rows",
        "data.rows_ability",
        "data.question_column",
        "data.answer_column",
        "data.ability_column",
        "abilities.NAME.title",
        "abilities.NAME.chance",
        "abilities.NAME.forms",
        "data.budget.share_equally",
        "prompt.template",
    }
    budget = {
        name for name in known if name.startswith(("data.budget.", "data.corpus.N.", "model.architecture."))
    }
    assert len(OTHER) >= 40
    missing = {name for name in known - budget - apart if name not in OTHER}
    assert len(missing) <= 3, f"new fields want a value here: {missing}"


def test_no_changed_field_is_silent(stopped: Run) -> None:
    """Each field of the run's recipe.yaml, changed one at a time: refused with its name and both values,
    or on the list and refused unless allowed."""
    text = (stopped.folder / RECIPE).read_text(encoding="utf-8")
    refused = []
    for key, value in OTHER.items():
        (stopped.folder / RECIPE).write_text(
            freeze(resolve(str(stopped.folder / RECIPE), overrides=[f"{key}={value}"])), encoding="utf-8"
        )
        assert (stopped.folder / RECIPE).read_text(encoding="utf-8") != text, key
        with pytest.raises(DoituneError) as caught:
            resume(Run(stopped.folder), scorer=None, on_event=_quiet)
        assert caught.value.exit_code == 65 and f"recipe {key}: was " in caught.value.problem, (
            key,
            caught.value.problem,
        )
        assert (f"--allow {key}" in caught.value.hint) == (key in ALLOWED), key
        refused.append(key)
        (stopped.folder / RECIPE).write_text(text, encoding="utf-8")
    assert len(refused) >= 40
    resume(Run(stopped.folder), scorer=None, on_event=_quiet)
    assert stopped.done() is not None


def test_a_run_of_before_a_field_goes_on(stopped: Run) -> None:
    """Trap: each new field of a recipe made every older run one that cannot be resumed."""
    text = (stopped.folder / RECIPE).read_text(encoding="utf-8")
    origin = stopped.read_json("origin.json")
    fields = ("data.holdout", "data.question", "data.answer", "prompt.thinking", "prompt.learn")
    new = [key for key in origin["recipe"] if key.startswith(fields)]
    assert len(new) == 6 and all(f"{key.split('.')[1]}:" in text for key in new)
    older = {key: value for key, value in origin["recipe"].items() if key not in new}
    stopped.write_json("origin.json", {**origin, "recipe": older})
    lines = [
        line
        for line in text.splitlines(True)
        if not line.strip().startswith(("holdout", "question_c", "answer_c", "thinking", "learn:"))
    ]
    assert len(lines) == len(text.splitlines()) - 6
    (stopped.folder / RECIPE).write_text("".join(lines), encoding="utf-8")
    resume(Run(stopped.folder), scorer=None, on_event=_quiet)
    assert stopped.done() is not None


def test_an_older_run_keeps_its_step_at_rate_0(stopped: Run) -> None:
    """A run of before `train.end_rate_at` that ends at rate 0 goes on by the rates it began with. Trap: the
    field's default is another thing, and no resume would say so."""
    path, origin = stopped.folder / RECIPE, stopped.read_json("origin.json")
    began = resolve(str(path), overrides=["train.end_rate=0", "train.end_rate_at=last_step"])
    lines = [line for line in freeze(began).splitlines(True) if "end_rate_at:" not in line]
    path.write_text("".join(lines), encoding="utf-8")
    older = {key: value for key, value in recorded(began.recipe).items() if key != "train.end_rate_at"}
    stopped.write_json("origin.json", {**origin, "recipe": older})
    assert resolve(str(path)).recipe.train.end_rate_at == "after_last_step"
    assert resolved(stopped).recipe.train == began.recipe.train
    resume(Run(stopped.folder), scorer=None, on_event=_quiet)
    made = stopped.log.lines("step")
    assert made[-1]["step"] == made[-1]["total_steps"] and made[-1]["learning_rate"] == 0


def test_a_field_that_the_record_lacks_counts_where_it_is_no_default(stopped: Run) -> None:
    origin = stopped.read_json("origin.json")
    for key in ("data.holdout_rows", "data.budget.math", "model.name"):
        less = {one: value for one, value in origin["recipe"].items() if one != key}
        stopped.write_json("origin.json", {**origin, "recipe": less})
        resolved = resolve(str(stopped.folder / RECIPE), overrides=["data.holdout_rows=9"])
        (stopped.folder / RECIPE).write_text(freeze(resolved), encoding="utf-8")
        with pytest.raises(CheckpointError, match=f"recipe {key}: was unset"):
            resume(Run(stopped.folder), scorer=None, on_event=_quiet)


def test_a_set_of_another_field_is_a_usage_error(stopped: Run) -> None:
    for wishes in (Wishes(sets=("lora.rank=8",)), Wishes(allow=("train.seed",))):
        with pytest.raises(UsageError, match="a resume cannot change"):
            resume(stopped, scorer=None, on_event=_quiet, wishes=wishes)


def test_an_allowed_change_is_said_and_written_down(stopped: Run) -> None:
    said: list[str] = []
    wishes = Wishes(sets=("train.keep_checkpoints=4", "model.note=again"))
    resume(
        stopped,
        scorer=None,
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
        wishes=wishes,
    )
    origin = stopped.read_json("origin.json")
    assert {"key": "train.keep_checkpoints", "was": 2, "is": 4, "after_step": 2} in origin["allowed"]
    assert any("allowed and written down" in text for text in said)
    assert recorded(resolved(stopped).recipe) == origin["recipe"]
    assert len(stopped.checkpoints.all()) == 4


@pytest.mark.slow
def test_more_epochs_need_a_rate_that_does_not_know_the_end(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="depends on how many steps"):
        resume(
            _stopped(tiny_recipe, tmp_path / "linear"),
            scorer=None,
            on_event=_quiet,
            wishes=Wishes(sets=("train.epochs=3",)),
        )
    constant = ("train.schedule=constant",)
    longer = start(
        resolve(str(tiny_recipe), overrides=[*constant, "train.epochs=3"]),
        runs=tmp_path / "long",
        scorer=None,
        on_event=_quiet,
    )
    run = start(
        resolve(str(tiny_recipe), overrides=constant), runs=tmp_path / "short", scorer=None, on_event=_quiet
    )
    assert run.done() is not None and set(LONGER) <= set(ALLOWED)
    resume(run, scorer=None, on_event=_quiet, wishes=Wishes(sets=("train.epochs=3",)))
    done = run.done()
    assert done is not None and done["final_step"] == 12
    for name in ("adapter_model.safetensors", "state.safetensors"):
        assert (run.checkpoints.of_step(12).folder / name).read_bytes() == (
            longer.checkpoints.of_step(12).folder / name
        ).read_bytes()


def _part(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(origin: dict[str, Any]) -> None:
        inner = origin
        *path, last = key.split("/")
        for name in path:
            inner = inner[name]
        inner[last] = value

    return change


PARTS = {
    "versions/torch": "2.9.0", "versions/bitsandbytes": "0.40.0", "versions/doitune": "0", "backend": "unsloth", "device": "cuda: another",
    "base/revision": "b" * 40, "encoder/fingerprint": "0", "compute/dtype": "bfloat16", "adapter/first_sha256": "0",
}  # fmt: skip


@pytest.mark.parametrize("key", list(PARTS))
def test_another_world_is_refused(key: str, stopped: Run) -> None:
    origin = stopped.read_json("origin.json")
    _part(key, PARTS[key])(origin)
    stopped.write_json("origin.json", origin)
    with pytest.raises(CheckpointError, match="was "):
        resume(stopped, scorer=None, on_event=_quiet)
    assert stopped.done() is None


def test_a_run_whose_dropout_chose_otherwise_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: a run that an earlier version began goes on with other masks, and nobody is told."""
    run = _stopped(tiny_recipe, tmp_path / "runs", "lora.dropout=0.1")
    origin = run.read_json("origin.json")
    del origin["adapter"]["dropout"]
    run.write_json("origin.json", origin)
    with pytest.raises(CheckpointError, match=r"adapter\.dropout: was None, is multiply-shift"):
        resume(run, scorer=None, on_event=_quiet)


def test_another_device_can_be_allowed(stopped: Run) -> None:
    origin = stopped.read_json("origin.json")
    origin["device"] = "cuda: another"
    stopped.write_json("origin.json", origin)
    resume(stopped, scorer=None, on_event=_quiet, wishes=Wishes(allow=("device",)))
    assert [one["key"] for one in stopped.read_json("origin.json")["allowed"]] == ["device"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_byte_of_the_base_is_refused(
    name: str, tiny_base: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    run = _stopped(tiny_recipe, tmp_path / "runs", f"model.name={json.dumps(str(base))}")
    path = base / name
    data = bytearray(path.read_bytes())
    if name == "tokenizer.json":
        data += b"\n"
    else:
        data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{name}: was"):
        resume(run, scorer=None, on_event=_quiet)


def test_a_run_whose_checkpoints_are_gone_does_not_start_again_by_itself(stopped: Run) -> None:
    """Trap: a night's work trained again from nothing without a word."""
    for one in stopped.checkpoints.all():
        (one.folder / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="all its checkpoints are damaged") as caught:
        resume(stopped, scorer=None, on_event=_quiet)
    assert caught.value.exit_code == 65 and "--from-scratch" in caught.value.hint
    assert len(list(stopped.checkpoints.folder.glob(".bad-*"))) == 2, "set aside, not deleted"
    resume(stopped, scorer=None, on_event=_quiet, wishes=Wishes(from_scratch=True))
    done = stopped.done()
    assert done is not None and done["final_step"] == 8
