"""Packed examples do not see each other, and a run that cannot prove it does not pack."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from doitune.backends import documents, hf
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.base.find import find_base
from doitune.prompt.batch import flatten, pad, trained_tokens
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.recipe.resolve import resolve
from doitune.train import packing
from doitune.train.events import Event, Note
from doitune.train.packing import prove_packing
from doitune.train.session import start


def rows(lengths: Sequence[int], seed: int = 0) -> list[Encoded]:
    """Random examples, the later half of each trained."""
    dice = random.Random(seed)
    found = []
    for length in lengths:
        ids = tuple(dice.randrange(6, 262) for _ in range(length))
        found.append(Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2 :])))
    return found


ROWS = rows((9, 17, 31, 54, 80, 23, 12))


def model_of(base: Path, **fields: Any) -> HfModel:
    """The base with an adapter whose two halves are not zero, so that a leak shows in the gradient of
    both."""
    model = hf.load(LoadRequest(find_base(str(base)), rank=4, **fields))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.trainable():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model


@pytest.fixture(scope="session")
def mistral_base(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A sliding window of 16 tokens, grouped heads."""
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("mistral") / "base"
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        max_position_embeddings=512, sliding_window=16, head_dim=16,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quantise", ["nf4", "none"])
def test_packed_equals_separate(tiny_base: Path, quantise: str) -> None:
    proof = prove_packing(model_of(tiny_base, quantise=quantise), ROWS)
    assert proof.exact, proof
    assert proof.loss_difference < 1e-5 and proof.gradient_difference < 1e-5
    assert proof.allowed == 1e-4 and proof.rounding == 0, "nothing was left for rounding to explain"


def test_packed_equals_separate_under_a_sliding_window(mistral_base: Path) -> None:
    """Trap: a window that reaches over a document's start, or that packing forgets. Rows are longer than
    the window."""
    model = model_of(mistral_base)
    assert model.packs
    proof = prove_packing(model, ROWS)
    assert proof.exact and proof.gradient_difference < 1e-5, proof
    with torch.no_grad():
        windowed = model.loss(pad([ROWS[4]]), 1).sums
        model.base.config.sliding_window = None
        assert not torch.allclose(windowed, model.loss(flatten([ROWS[4]]), 1).sums, rtol=1e-5), (
            "the window matters for these rows"
        )


def test_gradients_of_every_parameter_are_compared(tiny_base: Path) -> None:
    model = model_of(tiny_base)
    model.loss(flatten(ROWS), trained_tokens(ROWS)).value.backward()
    assert len(model.trainable()) == 2 * 7 * 2
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for _, p in model.trainable())
    prove_packing(model, ROWS)
    assert all(p.grad is None for _, p in model.trainable()), "the probe leaves no gradient behind"


def _leak_by_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention over the whole row: the documents' bounds are ignored."""
    real = documents.attend

    def leaking(*arguments: Any, **keywords: Any) -> Any:
        bounds = keywords.get("cu_seq_lens_q")
        if bounds is not None:
            keywords["cu_seq_lens_q"] = bounds[[0, -1]]
        return real(*arguments, **keywords)

    monkeypatch.setattr(documents, "attend", leaking)


def _leak_by_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions that run on over the documents: rotary positions are relative, so only attention's reach
    could hide it."""
    real = HfModel.hidden

    def running_on(self: HfModel, batch: Any, *more: Any) -> torch.Tensor:
        if batch.packed:
            decoder = self.decoder

            def shifted(**keywords: Any) -> Any:
                places = keywords["position_ids"]
                keywords["position_ids"] = (
                    torch.arange(places.shape[1])[None] ** 2 % 97
                )  # not a shift: another order
                return decoder(**keywords)

            self.decoder = shifted
            try:
                return real(self, batch, *more)
            finally:
                self.decoder = decoder
        return real(self, batch, *more)

    monkeypatch.setattr(HfModel, "hidden", running_on)


def _leak_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest leak: each document sees the last token of the one before it."""
    from torch.nn.functional import scaled_dot_product_attention

    def leaking(
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        mask: Any,
        dropout: float = 0.0,
        scaling: Any = None,
        **keywords: Any,
    ) -> Any:
        bounds = keywords.get("cu_seq_lens_q")
        if bounds is None:
            return documents.sdpa_attention_forward(
                module, query, key, value, mask, dropout=dropout, scaling=scaling, **keywords
            )
        place = torch.arange(query.shape[2])
        owner = torch.bucketize(place, bounds[1:-1].long(), right=True)
        first = bounds.long()[owner]
        seen = (place[None] <= place[:, None]) & (place[None] >= first[:, None] - 1)
        out = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2).contiguous(), None

    monkeypatch.setattr(documents, "attend", leaking)


LEAKS = {"mask": _leak_by_mask, "positions": _leak_by_positions, "one token": _leak_one_token}


@pytest.mark.parametrize("leak", list(LEAKS))
def test_a_leaking_mask_is_caught(tiny_base: Path, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    """The probe's own trap: a proof that cannot fail."""
    LEAKS[leak](monkeypatch)
    try:
        proof = prove_packing(model_of(tiny_base), ROWS)
        assert not proof.exact, proof
        assert max(proof.loss_difference, proof.gradient_difference) > 10 * proof.allowed, "by far"
        assert proof.reason == "packed examples see each other"
    finally:
        monkeypatch.undo()
        documents.register()


def test_a_run_that_cannot_prove_it_sorts_and_says_so(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    _leak_by_mask(monkeypatch)
    try:
        run = start(
            resolve(str(tiny_recipe), overrides=["train.max_steps=1"]),
            runs=tmp_path / "runs",
            scorer=None,
            on_event=listen,
        )
    finally:
        monkeypatch.undo()
        documents.register()
    assert any("sorted by length, not packed: packed examples see each other" in note for note in notes)
    (arrangement,) = [line for line in run.log.lines() if line["event"] == "arrangement"]
    assert arrangement["packed"] is False and arrangement["proof"]["exact"] is False
    honest = start(
        resolve(str(tiny_recipe), overrides=["train.max_steps=1"]),
        runs=tmp_path / "honest",
        scorer=None,
        on_event=listen,
    )
    (arrangement,) = [line for line in honest.log.lines() if line["event"] == "arrangement"]
    assert arrangement["packed"] is True and arrangement["proof"]["exact"] is True


def _rounded(sizes: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise on packed rows and on a row with padding, relative to the gradient; rows alone have none."""
    real, (packed, padded) = packing._measure, sizes

    def noisy(model: Any, batches: Any, total: int) -> Any:
        losses, gradient = real(model, batches, total)
        first = batches[0]
        size = packed if first.packed else padded if int(first.labels[0, -1]) == IGNORED else 0.0
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(int(first.packed)))
        return losses, gradient + noise / noise.norm() * gradient.norm() * size

    monkeypatch.setattr(packing, "_measure", noisy)


@pytest.mark.parametrize(
    ("packed", "padded", "exact"),
    [(1.6e-4, 1.6e-4, True), (1.6e-4, 0.0, False), (1e-2, 1e-3, False), (0.1, 0.1, True), (0.5, 0.4, False)],
)
def test_what_rounding_does_is_measured(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, packed: float, padded: float, exact: bool
) -> None:
    """Trap: a fixed bound. In fp32 the gradient of SmolLM2's 30 layers differs by 1.6e-4 packed, and by as
    much beside padding, where nothing can leak."""
    _rounded((packed, padded), monkeypatch)
    proof = prove_packing(model_of(tiny_base), ROWS)
    assert proof.exact is exact, proof
    assert proof.allowed <= 0.2


def test_a_leak_between_padded_rows_is_no_yardstick(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: rounding measured where rows can see each other: a leak that padded rows have, too, is then
    allowed."""
    real, mixed = HfModel.hidden, 0

    def leaking(self: HfModel, batch: Any, *more: Any) -> torch.Tensor:
        nonlocal mixed
        states = real(self, batch, *more)
        if (batch.packed and len(batch.lengths) > 1) or len(batch.ids) > 1:
            mixed += 1
            states = states + 0.01 * states.mean(dim=(0, 1), keepdim=True)
        return states

    monkeypatch.setattr(HfModel, "hidden", leaking)
    proof = prove_packing(model_of(tiny_base), ROWS)
    assert mixed and not proof.exact and proof.rounding < 1e-5, proof


def test_the_longest_rows_are_compared_where_attention_ends(mistral_base: Path) -> None:
    """Trap: a probe of short rows alone, under which a window that packing forgets shows nowhere."""
    window = model_of(mistral_base).window_tokens
    assert window == 16
    many = rows((5, 6, 7, 8, 9, 10, 600, 800))
    for most in ((3, 40), (6, 1024)):
        for reach, longest in ((None, 10 if most[1] == 40 else 800), (16, 600), (700, 800)):
            chosen = packing._choose(many, *most, reach)
            assert len(chosen) >= 2 and len(chosen[-1].ids) == longest, (most, reach)
            assert [len(one.ids) for one in chosen] == sorted(len(one.ids) for one in chosen)


def test_a_proof_without_memory_is_no_proof(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(tiny_base)
    real, calls = packing._measure, 0

    def small(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        found = real(*arguments)
        if calls == 2:
            for _, parameter in model.trainable():
                parameter.grad = torch.zeros_like(parameter)
            raise torch.OutOfMemoryError("planted")
        return found

    monkeypatch.setattr(packing, "_measure", small)
    proof = prove_packing(model, ROWS)
    assert not proof.exact and "no memory" in proof.reason
    assert all(parameter.grad is None for _, parameter in model.trainable())


def test_on_the_cpu_little_is_compared(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a proof that takes longer than the run's two steps (55 s beside 35 s a step on SmolLM2)."""
    positions: list[int] = []
    real = HfModel.loss

    def counting(self: HfModel, batch: Any, *more: Any) -> Any:
        positions.append(batch.ids.numel())
        return real(self, batch, *more)

    monkeypatch.setattr(HfModel, "loss", counting)
    lengths = [30 + 7 * place for place in range(80)]
    assert prove_packing(model_of(tiny_base), rows(lengths)).exact
    assert len(positions) == 4 and sum(positions) <= 2 * packing.FEWER_TOKENS


def test_on_the_cpu_rows_ends_of_different_lengths_are_compared(tiny_base: Path, mistral_base: Path) -> None:
    """All their tokens trained. Traps: rows of two trained tokens each, whose losses round by more packed
    than a row alone does, so that packing was given up on SmolLM2; ends that are shorter than a window."""
    lengths = [30 + 7 * place for place in range(80)]
    few = [replace(row, labels=(*[IGNORED] * (len(row.ids) - 2), *row.ids[-2:])) for row in rows(lengths)]
    for base in (tiny_base, mistral_base):
        chosen = packing._chosen(model_of(base), few)
        assert len(chosen) == packing.FEWER_EXAMPLES == len({len(row.ids) for row in chosen})
        assert sum(len(row.ids) for row in chosen) <= packing.FEWER_TOKENS + packing.BEYOND
        assert all(row.labels == (IGNORED, *row.ids[1:]) for row in chosen)
        assert {row.ids[-2:] for row in chosen} <= {row.ids[-2:] for row in few}
    window = model_of(mistral_base).window_tokens
    assert window and all(len(row.ids) > window for row in packing._chosen(model_of(mistral_base), few)[-1:])
    alike = [Encoded((place, *few[-1].ids), (place, *few[-1].ids)) for place in range(6, 26)]
    assert len({row.ids for row in packing._chosen(model_of(tiny_base), alike)}) > 1, "the ends are one"


def test_long_rows_can_be_proved_too(tiny_base: Path) -> None:
    """Trap: rows longer than half the probe's budget leave one example, and packing is given up for a
    wrong reason."""
    proof = prove_packing(model_of(tiny_base), rows((700, 650)))
    assert proof.exact, proof


def test_many_copies_of_few_rows_are_enough(tiny_base: Path) -> None:
    """Trap: a stride over all rows that steps over the few different ones."""
    assert prove_packing(model_of(tiny_base), ROWS[:3] * 100).exact


def test_a_gradient_that_is_not_finite_is_no_proof_and_can_be_logged(tiny_base: Path) -> None:
    """Trap: NaN compares as neither larger nor smaller, and JSON has no word for it."""
    model = model_of(tiny_base)
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.mul_(1e30)
    proof = prove_packing(model, ROWS)
    assert not proof.exact and "not finite" in proof.reason
    json.dumps(asdict(proof), allow_nan=False)


def test_nothing_to_compare_is_not_a_proof(tiny_base: Path) -> None:
    model = model_of(tiny_base)
    for few in ([], ROWS[:1], [ROWS[0], replace(ROWS[0])]):
        assert not prove_packing(model, few).exact
    model.packs = False
    assert "cannot be given packed rows" in prove_packing(model, ROWS).reason
