"""The adapter that answers is the one that was saved, on its base and through its encoder: each way to be
wrong in silence is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_evals import examples, tiny

from doitune.backends import probe as guard
from doitune.backends.probe import (
    PROBE,
    choose_rows,
    prove_adapter,
    read_probe,
    save_probe,
    take_probe,
    weights_sha256,
)
from doitune.errors import CheckpointError, DivergedError, UsageError
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.prompt.encode import encode_all, fingerprint
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, resolved
from doitune.run.model import load_model, open_trained, take_checkpoint
from doitune.system.disk import write_json
from doitune.train.session import resume, start

Loaded = tuple[object, ...]


@pytest.fixture
def saved(tmp_path: Path):
    """A model with an adapter that is not zero, its checkpoint's folder and its encoder's fingerprint."""
    model, template = tiny()
    rows = [row for group in examples(4).values() for row in group]
    chosen = choose_rows(rows, encode_all([row.messages for row in rows], template))
    save_probe(tmp_path, take_probe(model, chosen, fingerprint(template)))
    return model, tmp_path, fingerprint(template)


def test_the_probed_rows_are_short_and_of_different_abilities() -> None:
    _, template = tiny()
    rows = [row for group in examples(4).values() for row in group]
    encoded = encode_all([row.messages for row in rows], template)
    chosen = choose_rows(rows, encoded)
    assert len(chosen) == 4 and len({name.partition("#")[0] for name, _ in chosen}) == 4
    only = [(row, one) for row, one in zip(rows, encoded, strict=True) if row.ability == "math"]
    same = choose_rows([row for row, _ in only], [one for _, one in only])
    assert [len(one.ids) for _, one in same] == sorted(len(one.ids) for _, one in only)
    assert len(choose_rows(rows[:2], encoded[:2])) == 2


def test_what_was_saved_is_proved_and_stands_as_it_was(saved) -> None:
    model, folder, encoder = saved
    prove_adapter(model, folder, encoder)
    probe = read_probe(folder)
    assert probe.distance > 0.01, "an adapter without effect would prove nothing"
    assert probe == take_probe(model, [(row.id, row.row) for row in probe.rows], encoder)


def test_a_probe_with_known_losses_of_the_base_measures_the_adapter_alone(saved, monkeypatch) -> None:
    """Trap: the adapter's losses of the probe before."""
    model, folder, encoder = saved
    first, calls, real = read_probe(folder), [], type(model).loss
    monkeypatch.setattr(type(model), "loss", lambda *given: calls.append(1) or real(*given))
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.mul_(1.5)
    rows = [(row.id, row.row) for row in first.rows]
    later = take_probe(model, rows, encoder, [row.base for row in first.rows])
    measured, calls[:] = len(calls), []
    assert later == take_probe(model, rows, encoder) and len(calls) == 2 * measured > 0
    assert [row.adapter for row in later.rows] != [row.adapter for row in first.rows]


def _no_adapter(model) -> None:
    """A library that drops the adapter's tensors and goes on with fresh ones."""
    with torch.no_grad():
        for name, parameter in model.trainable():
            if "lora_B" in name:
                parameter.zero_()


def _scaled(factor: float) -> Callable[..., None]:
    def change(model) -> None:
        for module in model.adapter.peft.modules():
            if hasattr(module, "scaling") and isinstance(module.scaling, dict):
                module.scaling["default"] *= factor

    return change


def _other_base(model) -> None:
    with torch.no_grad():
        model.base.model.layers[0].mlp.down_proj.weight.mul_(1.05)


def _fewer_trained(model) -> None:
    model.trainable()[0][1].requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_no_adapter, "the weights in memory are not those"),
        (_scaled(0.0), "has no effect: it changes the base's loss by 0 nats"),
        (_scaled(1.5), "answers otherwise than when it was saved"),
        (_other_base, "the base under the adapter in .* is another"),
        (_fewer_trained, "trained other tensors than this model has: 1 differ"),
    ],
    ids=["not loaded", "no effect", "another alpha", "another base", "other tensors"],
)
def test_what_no_library_reports_is_refused(saved, change, problem) -> None:
    """Trap: each of these answers questions, only otherwise (peft warns of missing keys at most)."""
    model, folder, encoder = saved
    change(model)
    with pytest.raises(CheckpointError, match=problem) as caught:
        prove_adapter(model, folder, encoder)
    assert caught.value.hint


def test_another_encoder_is_refused(saved) -> None:
    model, folder, _ = saved
    with pytest.raises(CheckpointError, match="another prompt encoder: fingerprint"):
        prove_adapter(model, folder, "0" * 64)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": "other"}', '{"schema": "doitune.probe/1"}'])
def test_a_checkpoint_without_a_whole_probe_is_refused(saved, text) -> None:
    model, folder, encoder = saved
    (folder / PROBE).unlink() if text is None else (folder / PROBE).write_text(text)
    with pytest.raises(CheckpointError, match=r"has no probe\.json|cannot be read"):
        prove_adapter(model, folder, encoder)


def test_a_loss_that_is_not_finite_is_never_saved_as_a_probe(saved) -> None:
    model, folder, encoder = saved
    rows = [(row.id, row.row) for row in read_probe(folder).rows]
    with torch.no_grad():
        model.trainable()[0][1].fill_(float("nan"))
    with pytest.raises(DivergedError, match="is not finite"):
        take_probe(model, rows, encoder)


def test_how_much_is_rounding_depends_on_the_two_places() -> None:
    here = {"device": "cpu", "dtype": "float32", "threads": "1", "processor": "a"}
    assert guard._allowed(here, dict(here)) == guard.SAME_PLACE
    assert (
        guard._allowed(here, {**here, "processor": "b"})
        == guard.FLOAT32
        == guard._allowed(here, {**here, "threads": "8"})
    )
    assert guard._allowed({**here, "device": "cuda"}, {**here, "device": "cuda"}) == guard.FLOAT32
    for dtype in ("bfloat16", "float16"):
        assert (
            guard._allowed(here, {**here, "dtype": dtype})
            == guard.HALF
            == guard._allowed({**here, "dtype": dtype}, {**here, "dtype": dtype})
        )


def test_the_hash_of_weights_sees_one_bit_and_one_name(saved) -> None:
    model, _, _ = saved
    before = weights_sha256(model)
    with torch.no_grad():
        model.trainable()[-1][1].view(torch.int32).flatten()[-1] ^= 1
    assert weights_sha256(model) != before


# On a run


def _quiet(event: object) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_corpus: Path) -> Run:
    """A run of 4 steps with checkpoints after steps 1, 2 and 4."""
    folder = tmp_path_factory.mktemp("guards")
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        f"summary: x\nmodel:\n  name: {tiny_base}\nlora:\n  rank: 4\n  alpha: 8\n"
        f"data:\n  corpus: {tiny_corpus}\n  budget:\n    biology: 8\n    math: 8\n"
        "train:\n  examples_per_step: 8\n  epochs: 2\n  learning_rate: 1e-2\n  max_tokens: 256\n  keep_checkpoints: 9\n",
        encoding="utf-8",
    )
    return start(resolve(str(recipe)), runs=folder / "runs", scorer=None, on_event=_quiet)


@contextmanager
def changed(path: Path, make: Callable[[bytes], bytes]) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(make(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def test_every_checkpoint_carries_a_probe_under_its_manifest(trained: Run) -> None:
    found = trained.checkpoints.all()
    assert len(found) >= 3
    for checkpoint in found:
        manifest = json.loads((checkpoint.folder / "MANIFEST.json").read_text())
        assert PROBE in manifest["files"]
        assert checkpoint.verify() == []
    distances = [read_probe(checkpoint.folder).distance for checkpoint in found]
    assert distances[0] < distances[-1], distances
    assert len({read_probe(checkpoint.folder).weights for checkpoint in found}) == len(found)


def test_a_trained_checkpoint_opens_in_another_place(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a guard that refuses the user's own adapter after he moved it to another machine."""
    _, model, template, step = open_trained(trained, "last")
    probe = read_probe(trained.checkpoints.of_step(step).folder)
    monkeypatch.setattr(guard, "_processor", lambda: "another processor")
    now = take_probe(model, [(row.id, row.row) for row in probe.rows], probe.encoder)
    assert guard._allowed(probe.place, now.place) == guard.FLOAT32
    prove_adapter(model, trained.checkpoints.of_step(step).folder, fingerprint(template))


def test_the_files_of_each_checkpoint_are_verified_when_it_is_taken(trained: Run) -> None:
    """Trap: an evaluation of all checkpoints that verifies the first one only; one flipped bit is a number
    like any other."""
    _, model, template, step = open_trained(trained, "last")
    other = next(found for found in trained.checkpoints.all() if found.step != step)
    with changed(other.folder / "adapter_model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors was changed"):
            take_checkpoint(trained, other.step, model, template)
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors was changed"):
            request = Request(("doit-valid",), ("last", str(other.step)), limit=1, with_base=False)
            evaluate_target(
                str(trained.folder), request, runs=trained.folder.parents[1], on_progress=lambda *_: None
            )
    assert take_checkpoint(trained, other.step, model, template) == other


def test_an_evaluation_refuses_an_adapter_that_does_not_answer_as_it_did(trained: Run) -> None:
    """A probe of the older checkpoint under a whole manifest: every file is as written, and still it is
    the wrong one."""
    from doitune.system.disk import file_sha256

    last, first = trained.checkpoints.all()[-1], trained.checkpoints.all()[0]
    manifest = json.loads((last.folder / "MANIFEST.json").read_text())
    path = last.folder / "adapter_model.safetensors"
    before = path.read_bytes(), (last.folder / "MANIFEST.json").read_bytes()
    try:
        path.write_bytes((first.folder / path.name).read_bytes())
        manifest["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        write_json(last.folder / "MANIFEST.json", manifest)
        with pytest.raises(CheckpointError, match="weights in memory are not those"):
            open_trained(trained, "last")
    finally:
        path.write_bytes(before[0])
        (last.folder / "MANIFEST.json").write_bytes(before[1])
    open_trained(trained, "last")


def test_the_base_is_asked_once_before_it_is_trained_on(
    tiny_recipe: Path, tmp_path: Path, monkeypatch
) -> None:
    """Its losses are those of the start, where the adapter adds nothing; each checkpoint asks for its own, and
    the next load proves both."""
    from doitune.backends.hf_model import HfModel

    removed, own = [], HfModel.without_adapter
    monkeypatch.setattr(HfModel, "without_adapter", lambda model: removed.append(1) or own(model))
    recipe = resolve(str(tiny_recipe), overrides=["train.max_steps=2"])
    run = start(recipe, runs=tmp_path / "runs", scorer=None, on_event=_quiet)
    assert not removed
    first, last = (read_probe(found.folder) for found in run.checkpoints.all())
    assert [row.base for row in first.rows] == [row.base for row in last.rows]
    assert last.distance > first.distance > 0
    open_trained(run, "last")
    assert removed
    (run.folder / "done.json").unlink()
    shutil.rmtree(run.checkpoints.all()[-1].folder)
    measured = len(removed)
    resume(run, scorer=None, on_event=_quiet)
    assert len(removed) > measured and read_probe(run.checkpoints.all()[-1].folder) == last


def test_a_resume_proves_the_adapter_that_it_takes_up(trained: Run, tmp_path: Path) -> None:
    """Trap: a resume that restarts from a fresh adapter and never says so."""
    from doitune.backends.hf_model import HfModel

    copy = tmp_path / "tiny" / "copy"
    shutil.copytree(trained.folder, copy)
    (copy / "done.json").unlink()
    run = Run(copy)
    whole = HfModel.load_adapter

    def forgets(self: HfModel, folder: Path) -> None:
        whole(self, folder)
        _no_adapter(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HfModel, "load_adapter", forgets)
        with pytest.raises(CheckpointError, match="weights in memory are not those"):
            resume(run, scorer=None, on_event=_quiet)
    assert resume(run, scorer=None, on_event=_quiet).done() is not None


def test_two_builds_start_from_the_same_adapter_and_the_run_records_it(trained: Run) -> None:
    """Trap: a seed that is set after the adapter is built; each start would be another run."""
    from doitune.base.find import find_base

    recipe = resolved(trained).recipe
    base = find_base(recipe.model.name, recipe.model.revision)
    recorded = trained.read_json("origin.json")["adapter"]["first_sha256"]
    for seed, draws in ((recipe.train.seed, 3), (recipe.train.seed, 7)):
        torch.manual_seed(99)
        torch.rand(draws)  # whatever was drawn before
        again = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
        assert weights_sha256(load_model(again, base, 0, training=True)[1]) == recorded
    other = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"seed": recipe.train.seed + 1})}
    )
    assert weights_sha256(load_model(other, base, 0, training=True)[1]) != recorded


def test_the_dtype_of_a_loss_is_part_of_its_place(saved) -> None:
    model, folder, _ = saved
    stored = read_probe(folder)
    assert stored.place["dtype"] == "float32" and stored.place["torch"] and stored.place["processor"]
    assert replace(stored, place={}) != stored
    assert model.compute_dtype == "float32"


def test_an_adapter_of_another_dtype_is_not_rounded_in(trained: Run, tmp_path: Path) -> None:
    """Trap: half-precision tensors copied into fp32 ones, or the other way, without a word."""
    from safetensors.torch import load_file, save_file

    _, model, _, step = open_trained(trained, "last")
    stored = load_file(trained.checkpoints.of_step(step).folder / "adapter_model.safetensors")
    save_file(
        {name: tensor.bfloat16() for name, tensor in stored.items()}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(CheckpointError, match="is not one of this model and recipe"):
        model.load_adapter(tmp_path)


def test_a_run_is_asked_on_a_base_in_other_values_and_says_so(
    trained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder of its own, whose comparison with the run's own values says that they differ. Traps: a probe that
    refuses every loss, replies of two models in one folder, a difference that is taken for the training's."""
    from doitune.console.scores import show_comparisons, show_evaluations
    from doitune.evals.compare import compare, read_side
    from doitune.evals.find import find_evaluations
    from doitune.evals.request import HELD

    runs = trained.folder.parents[1]

    def asked(**more: str) -> None:
        request = Request(("doit-valid",), ("last",), limit=1, with_base=False, **more)  # type: ignore[arg-type]
        (found,) = evaluate_target(str(trained.folder), request, runs=runs, on_progress=lambda *_: None)
        show_evaluations([found])

    asked()
    assert "asked of the base in NF4, computing in fp32" in capsys.readouterr().out
    asked(quantise="nf4")
    assert "in NF4" in capsys.readouterr().out
    asked(quantise="none")
    assert "asked of the base in fp32, not quantised" in capsys.readouterr().out
    names = {path.name for path in (trained.folder / "evals").iterdir()}
    assert {"doit-valid", f"doit-valid-{HELD['none']}"} <= names and f"doit-valid-{HELD['nf4']}" not in names
    sides = [
        read_side(next((trained.folder / "evals" / suite).iterdir()))
        for suite in ("doit-valid", "doit-valid-unquantised")
    ]
    show_comparisons([compare(*sides)])
    said = " ".join(capsys.readouterr().out.split())
    assert "A: the base in NF4, computing in fp32; B: the base in fp32, not quantised" in said
    assert compare(*sides).rows()[0]["held_b"] == "the base in fp32, not quantised"
    show_comparisons([compare(sides[0], sides[0])])
    assert "not quantised" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="no evaluation") as missing:
        find_evaluations([str(trained.folder)], suite="cmmlu-5shot-exact-unquantised", runs=runs)
    assert "--shots 5 --exact --quantise none" in missing.value.hint
