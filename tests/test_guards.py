"""What is trained, how it goes and how it ends: each danger of a result that is wrong in silence is said
or refused on the run itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_evals import examples, tiny

from doitune.backends.hf_model import HfModel
from doitune.errors import DivergedError, ModelError, RecipeError
from doitune.prepare import material as prepare_room
from doitune.prepare.account import count_rows, rates, schedule_text
from doitune.prompt.batch import flatten, pad
from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.recipe.budget import Ledger, Line
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import load_model
from doitune.train.arrangement import choose_arrangement
from doitune.train.endings import (
    ASKED,
    CPU_POSITIONS,
    LEAST_ASKED,
    Endings,
    _short,
    ask_endings,
    reply_endings,
)
from doitune.train.events import Event, Note
from doitune.train.loop import Training
from doitune.train.plan import plan_training
from doitune.train.session import resume, start
from doitune.train.setup import Setup
from doitune.train.spikes import Watch

# Rows


def _encoded(*trained: int) -> list[Encoded]:
    return [Encoded(tuple(range(10)), (*[IGNORED] * (10 - count), *range(count))) for count in trained]


def test_rows_are_accounted_for_one_by_one() -> None:
    ledger = Ledger({"math": Line(5, 9, 5, truncated=2, trained=3)})
    found = count_rows(ledger, _encoded(2, 4, 9))
    assert (found.chosen, found.trained, found.refused, found.least, found.median, found.most) == (
        5,
        3,
        2,
        2,
        4,
        9,
    )
    assert (
        found.text
        == "5 rows: 3 trained, 2 refused as too long; 15 of 30 tokens are trained (50 %), 2 to 9 a row, median 4"
    )
    with pytest.raises(RuntimeError, match="rows were lost: 5 chosen, 2 refused, 3 to train, 2 encoded"):
        count_rows(ledger, _encoded(2, 4))
    with pytest.raises(RuntimeError, match="rows were lost"):
        count_rows(Ledger({"math": Line(5, 9, 5, truncated=1, trained=3)}), _encoded(2, 4, 9))


def test_a_row_that_vanishes_on_the_way_stops_the_run(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: half of the rows dropped without a word (measured: 8 rows became 4)."""
    whole = prepare_room.fit

    def drops(*arguments: Any, **more: Any) -> Any:
        kept, encoded, long = whole(*arguments, **more)
        return kept[1:], encoded[1:], long

    plan_training(resolve(str(tiny_recipe)))
    monkeypatch.setattr(prepare_room, "fit", drops)
    with pytest.raises(RuntimeError, match="rows were lost: 32 chosen, 0 refused, 31 to train"):
        plan_training(resolve(str(tiny_recipe)))


def test_the_rates_are_those_of_the_first_the_highest_and_the_last_step() -> None:
    section = resolve(
        "baseline", overrides=["train.learning_rate=1e-3", "train.end_rate=1e-4", "train.warmup_steps=3"]
    ).recipe.train
    first, highest, last = rates(section, 50)
    assert (first, highest) == (pytest.approx(2.5e-4), 1e-3) and last == pytest.approx(1e-4)
    assert schedule_text(section, 50) == "learning rate 0.00025 in step 1, at most 0.001, 0.0001 in step 50"


def test_a_warm_up_that_takes_all_steps_is_refused(tiny_recipe: Path) -> None:
    """Trap: a rate that is written and never used; max_steps is not set here, so only the rows tell how
    long the run is."""
    with pytest.raises(RecipeError, match=r"warmup_steps 8 leaves none of the run's 8 steps") as caught:
        plan_training(resolve(str(tiny_recipe), overrides=["train.warmup_steps=8"]))
    assert "train.warmup_steps=0" in caught.value.hint
    plan_training(resolve(str(tiny_recipe), overrides=["train.warmup_steps=7"]))


def test_padding_is_never_trained_even_where_it_is_the_end_token() -> None:
    """Trap: labels made from ids, so that pad == end masks the end of every answer; a mask that starts one
    token late."""
    rows = [Encoded((5, 6, 2), (IGNORED, 6, 2)), Encoded((5, 7, 8, 9, 2), (IGNORED, IGNORED, 8, 9, 2))]
    for batch in (pad(rows, pad_id=2), flatten(rows)):
        trained = batch.labels[batch.labels != IGNORED].tolist()
        assert trained == [6, 2, 8, 9, 2]
        assert (batch.labels == 2).sum() == 2


# Steps


def _lines(losses: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"event": "step", "step": at, "loss": loss, "grad_norm": 1.0} for at, loss in enumerate(losses, 1)
    ]


def test_three_losses_of_zero_in_a_row_stop_a_run() -> None:
    """Trap: everything masked, and the log shows a perfect loss."""
    watch = Watch(100)
    for step, loss in enumerate([1.0, 0.0, 0.0, 0.5, 0.0, 0.0], 1):
        watch.see(step, loss, 1.0)
    with pytest.raises(DivergedError, match="loss of steps 5 to 7 is exactly 0"):
        watch.see(7, 0.0, 1.0)
    resumed = Watch(100, _lines([0.5, 0.0, 0.0]))
    with pytest.raises(DivergedError, match="steps 2 to 4"):
        resumed.see(4, 0.0, 1.0)


def test_rows_known_by_heart_stop_no_run() -> None:
    """Trap: an ability of two rules is learnt so well that float32 has no smaller loss, and the run dies."""
    losses = [1.0, 1e-3, 1e-8, 1e-9, *[0.0] * 5, 1e-9, *[0.0] * 5]
    watch, resumed = Watch(100), Watch(100, _lines(losses))
    for step, loss in enumerate(losses, 1):
        watch.see(step, loss, 1e-7)
    assert not watch.see(16, 0.0, 1e-7) and not resumed.see(16, 0.0, 1e-7)
    for one in (watch, resumed):
        one.see(17, 0.5, 1.0)
        one.see(18, 0.0, 1.0)
        one.see(19, 0.0, 1.0)
        with pytest.raises(DivergedError, match="steps 18 to 20"):
            one.see(20, 0.0, 1.0)


@pytest.mark.parametrize(
    ("total", "skipped", "stops"),
    [
        (8, [1], True),  # a short run may skip none
        (1000, [5], False),
        (1000, [5, 6, 7], False),
        (1000, [5, 6, 7, 8], True),  # four in a row
        (1000, [5, 6, 7, 9, 10, 11], False),
        (1000, list(range(2, 24, 2)), True),  # eleven are more than 1 %
        (1000, list(range(2, 22, 2)), False),
    ],
)
def test_how_many_steps_may_be_skipped(total: int, skipped: list[int], stops: bool) -> None:
    def all_of_them(watch: Watch, steps: Sequence[int]) -> None:
        for step in steps:
            watch.skip(step, f"step {step}: loss nan")

    resumed = Watch(total, [{"event": "skipped", "step": step} for step in skipped[:-1]])
    for watch, steps in ((Watch(total), skipped), (resumed, skipped[-1:])):
        if stops:
            with pytest.raises(DivergedError, match=f"step {skipped[-1]}: loss nan"):
                all_of_them(watch, steps)
        else:
            all_of_them(watch, steps)


def test_spikes_are_reported_of_the_last_hundred_steps_only_where_enough_are_known() -> None:
    steady = [2.0 + 0.01 * (at % 5) for at in range(19)]
    assert Watch(1000, _lines(steady)).see(20, 50.0, 1.0) == []
    watch = Watch(1000, _lines([*steady, 2.0]))
    (spike,) = watch.see(21, 2.5, 1.0)
    assert (spike.what, spike.step, spike.value) == ("loss", 21, 2.5) and spike.text.startswith(
        "step 21: loss 2.5, the median"
    )
    assert watch.see(22, 2.1, 1.0) == []
    assert [one.what for one in watch.see(23, 2.0, 3.0)] == ["grad_norm"]


def _training(
    recipe: Path, tmp_path: Path, on_event: Any = lambda event: None, overrides: Sequence[str] = ()
) -> Training:
    plan = plan_training(
        resolve(str(recipe), overrides=["lora.dropout=0", "train.optimizer=adamw", *overrides])
    )
    _, model = load_model(plan.recipe, plan.base, 0, training=True)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    return Training(Setup(Run(folder), plan.recipe, plan.material, model, report=on_event))


def _poison(model: HfModel, calls: set[int]) -> None:
    """The loss of these calls (from 1) is not a number."""
    real, count = model.loss, 0

    def loss(batch: Any, trained_tokens: int) -> Any:
        nonlocal count
        found = real(batch, trained_tokens)
        count += torch.is_grad_enabled()
        return (
            replace(found, value=found.value * math.nan, sums=found.sums * math.nan)
            if count in calls and torch.is_grad_enabled()
            else found
        )

    model.loss = loss  # type: ignore[method-assign]


def test_a_step_that_is_not_finite_moves_nothing_and_is_named(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a NaN shown as 0.0, and weights that are NaN from then on (measured on the stock trainer)."""
    monkeypatch.setattr("doitune.train.spikes.MOST_SHARE", 0.5)
    notes: list[str] = []
    training = _training(
        tiny_recipe, tmp_path, lambda event: notes.append(event.text) if isinstance(event, Note) else None
    )
    _poison(training.setup.model, {2})  # type: ignore[arg-type]
    assert training.advance() is not None
    before = [parameter.detach().clone() for _, parameter in training.weights.parameters]
    assert training.advance() is None
    assert training.at.step == 2
    assert all(
        torch.equal(old, parameter)
        for old, (_, parameter) in zip(before, training.weights.parameters, strict=True)
    )
    log = training.advance()
    assert log is not None and math.isfinite(log.loss) and math.isfinite(log.grad_norm)
    (line,) = [line for line in training.setup.run.log.lines() if line["event"] == "skipped"]
    assert (line["step"], line["loss"], len(line["rows"])) == (2, "nan", 8) and all(
        ".json:" in row for row in line["rows"]
    )
    assert "step 2: loss nan" in notes[-1] and "and 3 more" in notes[-1] and "no weight moves" in notes[-1]


def test_a_short_run_stops_at_the_first_step_that_is_not_finite(tiny_recipe: Path, tmp_path: Path) -> None:
    training = _training(tiny_recipe, tmp_path)
    _poison(training.setup.model, {1})  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match=r"step 1: loss nan.*rows: .*\.json:\d+"):
        training.advance()


def test_weights_that_are_not_finite_are_never_saved(tiny_recipe: Path, tmp_path: Path) -> None:
    training = _training(tiny_recipe, tmp_path)
    training.advance()
    with torch.no_grad():
        training.weights.parameters[0][1].view(-1)[0] = math.nan
    with pytest.raises(DivergedError):
        training.retention.save(training.at)
    assert training.setup.run.checkpoints.all() == []


# Endings


def _ends(model: HfModel, token: int, every: int = 1) -> None:
    """The head says `token` in every `every`-th row of a batch, and a letter that ends nothing in the
    others."""

    def hook(module: Any, args: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., -1] += 1e4
        logits[::every, ..., token] += 1e5
        return logits

    model.base.get_output_embeddings().register_forward_hook(hook)


@pytest.mark.parametrize(("every", "ended", "marked"), [(1, 16, False), (2, 8, True)])
def test_a_model_that_does_not_end_its_replies_is_marked(every: int, ended: int, marked: bool) -> None:
    """Trap: an end token that was masked, cut or padded away shows in no loss."""
    model, template = tiny()
    rows = [row for group in examples(4).values() for row in group]
    _ends(model, template.end_id, every)
    found = ask_endings(model, template, rows, encode_all([row.messages for row in rows], template))
    assert (found.asked, found.ended, found.marked) == (16, ended, marked)


def test_twenty_short_answers_are_asked_of_many() -> None:
    model, template = tiny()
    rows = [row for group in examples(8).values() for row in group]
    encoded = encode_all([row.messages for row in rows], template)
    assert len(_short(rows, encoded, on_cpu=False)) == ASKED
    chosen = _short(rows, encoded, on_cpu=True)
    widths = [len(encoded[rows.index(row)].ids) for row, _ in chosen]
    assert LEAST_ASKED < len(widths) < ASKED and len(widths) * max(widths) <= CPU_POSITIONS
    assert sorted(widths) == sorted(len(row.ids) for row in encoded)[: len(widths)], "the shortest on the CPU"
    found = ask_endings(model, template, rows, encoded)
    assert found.asked == len(chosen)
    assert found.max_new_tokens <= 2 * 32 + 16
    assert Endings(20, 19, 8).marked and not Endings(20, 20, 8).marked


# A whole run


def test_a_run_says_and_stores_what_it_found(tiny_recipe: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    run = start(resolve(str(tiny_recipe)), runs=tmp_path / "runs", scorer=None, on_event=listen)
    text = "\n".join(told)
    for part in (
        "32 rows: 32 trained, none refused; ",
        " tokens are trained (",
        "learning rate 0.01 in step 1, at most 0.01",
        "computes in float32 on cpu",
    ):
        assert part in text
    origin = run.read_json("origin.json")
    assert origin["rows"]["chosen"] == origin["rows"]["trained"] == 32 and origin["rows"]["least"] >= 2
    assert origin["compute"] == {"dtype": "float32", "quantise": "nf4"}
    assert origin["rates"]["first"] == pytest.approx(0.01) and len(origin["adapter"]["first_sha256"]) == 64
    done = run.done()
    assert done is not None and done["endings"]["asked"] == 12
    assert done["endings"]["marked"] == ("has not learnt to stop" in text)
    (run.folder / "done.json").unlink()
    again = resume(run, scorer=None, on_event=listen).done()
    assert again is not None and again["endings"] == done["endings"]


def test_nothing_of_a_run_is_a_pickle(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: a library that writes .bin or .pt beside what it was asked for (seen: safe_serialization
    turned into pickle on two cores)."""
    from doitune.evals.request import Request
    from doitune.evals.targets import evaluate_target

    run = start(resolve(str(tiny_recipe)), runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    evaluate_target(
        str(run.folder),
        Request(("doit-valid",), limit=2),
        runs=tmp_path / "runs",
        on_progress=lambda *_: None,
    )
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written) > 15
    assert {path.suffix for path in written} <= {
        ".json",
        ".jsonl",
        ".yaml",
        ".txt",
        ".md",
        ".safetensors",
        ".lock",
    }, sorted(map(str, written))
    for path in written:
        start_of = path.read_bytes()[:4]
        assert start_of[:2] != b"\x80\x04" and start_of != b"PK\x03\x04", (
            f"{path} is a pickle or a zip of one"
        )
    lines = [
        json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert lines


# Micro-batches


def test_a_model_whose_loss_depends_on_its_neighbours_is_refused_before_step_one(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    """Trap: a kernel that reads padding, or a loss that is a mean over the micro-batch; `arrangement:
    sorted` runs no packing probe."""
    training = _training(tiny_recipe, tmp_path, overrides=["train.arrangement=sorted"])
    choose_arrangement(training)
    real = training.setup.model.loss

    def mean_of_means(batch: Any, trained_tokens: int) -> Any:
        found = real(batch, trained_tokens)
        return replace(found, sums=found.sums / len(batch.lengths))

    training.setup.model.loss = mean_of_means  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"the loss of curated/1000/.* beside other rows and .* alone"):
        choose_arrangement(training)


def test_no_reply_is_asked_for_where_no_validation_is_wanted(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: half a minute after the last step for a figure that nobody asked for."""
    training = _training(tiny_recipe, tmp_path)
    recipe = training.setup.recipe
    section = recipe.train.model_copy(update={"validation_rows_per_ability": 0})
    setup = replace(training.setup, recipe=recipe.model_copy(update={"train": section}))
    monkeypatch.setattr(setup.model, "generate", lambda *_, **__: pytest.fail("asked"))
    assert reply_endings(setup) == {"asked": 0, "ended": 0, "max_new_tokens": 0, "marked": False}


def test_a_lack_of_memory_at_the_end_does_not_undo_a_training(tiny_recipe: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    training = _training(
        tiny_recipe, tmp_path, lambda event: notes.append(event.text) if isinstance(event, Note) else None
    )

    def full(prompts: Any, **more: Any) -> Any:
        raise torch.OutOfMemoryError("planted")

    training.setup.model.generate = full  # type: ignore[method-assign]
    assert reply_endings(training.setup) == {"asked": 0, "ended": 0, "max_new_tokens": 0, "marked": True}
    assert "whether replies end is not known" in notes[-1]
