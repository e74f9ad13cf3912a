"""The hf backend holds a base in 4 bits, gives transformers' own losses, and its adapter comes back as it
was saved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from conftest import make_tiny_base

from doitune.backends import chunks, hf
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.backends.tokenizer import load_tokenizer
from doitune.base.find import find_base
from doitune.errors import CheckpointError, FitError, ModelError
from doitune.prompt.batch import Batch, flatten, pad, trained_tokens
from doitune.prompt.encode import encode
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.template import open_template
from doitune.recipe.resolve import resolve
from doitune.train.packing import prove_packing
from doitune.train.session import start

STOPS = (2,)


def rows(lengths: Sequence[int], seed: int = 0, top: int = 262) -> list[Encoded]:
    """Random examples; the later half of each is trained."""
    dice = random.Random(seed)
    found = []
    for length in lengths:
        ids = tuple(dice.randrange(6, top) for _ in range(length))
        found.append(Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2 :])))
    return found


ROWS = rows((9, 30, 17, 24))


def model_of(base: Path, **fields: Any) -> HfModel:
    return hf.load(LoadRequest(find_base(str(base)), **{"rank": 4, "alpha": 8.0, **fields}))


def stir(model: HfModel, seed: int = 1) -> None:
    """Give the adapter values as training would; fresh ones add nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def gradient(model: HfModel, batch: Batch, total: int = 40) -> torch.Tensor:
    """One vector over every trained parameter; the model is left without gradients."""
    model.loss(batch, total).value.backward()
    parts = [p.grad.flatten().clone() for _, p in model.trainable() if p.grad is not None]
    assert len(parts) == len(model.trainable()), "every trained parameter gets a gradient"
    for _, parameter in model.trainable():
        parameter.grad = None
    return torch.cat(parts)


@pytest.fixture(scope="session")
def untied_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untied") / "base"
    make_tiny_base(folder, tied=False)
    return folder


@pytest.fixture
def model(tiny_base: Path) -> HfModel:
    loaded = model_of(tiny_base)
    stir(loaded)
    return loaded


# The base in memory


def test_every_adapted_layer_is_really_in_4_bits_with_nested_scales(model: HfModel) -> None:
    """Trap: a configuration that says nf4 while the weights lie in 16 bits."""
    adapted = {name.split(".lora_A")[0] for name, _ in model.trainable() if ".lora_A" in name}
    assert len(adapted) == 2 * 7, "every linear layer of two blocks"
    for name in adapted:
        layer = model.adapter.peft.get_submodule(name).base_layer
        assert isinstance(layer, Linear4bit), name
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.in_features * layer.out_features
        state = layer.weight.quant_state
        assert (
            state.quant_type == "nf4"
            and state.nested
            and state.state2 is not None
            and state.absmax.dtype == torch.uint8
        )
    assert not isinstance(model.base.get_output_embeddings(), Linear4bit)
    assert model.base.get_input_embeddings().weight.dtype == torch.float32
    assert not any("lm_head" in name or "embed" in name for name, _ in model.trainable())


def test_without_quantisation_no_layer_is_in_4_bits(tiny_base: Path) -> None:
    loaded = model_of(tiny_base, quantise="none")
    assert not any(isinstance(module, Linear4bit) for module in loaded.base.modules())


def test_targets_choose_the_layers(tiny_base: Path) -> None:
    loaded = model_of(tiny_base, targets=("q_proj", "v_proj"))
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in loaded.trainable()} == {
        "q_proj",
        "v_proj",
    }
    with pytest.raises(ModelError, match=r"no linear layers \['q_porj'\]") as caught:
        model_of(tiny_base, targets=("q_porj",))
    assert "q_proj" in caught.value.hint
    with pytest.raises(ModelError, match="lm_head"):
        model_of(tiny_base, targets=("lm_head",))


def test_only_the_adapter_is_trained_and_no_cache_is_kept(model: HfModel) -> None:
    trained = {name for name, parameter in model.adapter.peft.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert model.base.config.use_cache is False
    assert all(parameter.dtype == torch.float32 for _, parameter in model.trainable())
    names = [name for name, _ in model.trainable()]
    assert names == sorted(names)


def test_two_builds_with_a_seed_start_from_the_same_adapter(tiny_base: Path) -> None:
    """Trap: the seed is set after the adapter is built."""
    torch.manual_seed(99)
    first = model_of(tiny_base, seed=5)
    torch.rand(17)
    second, other = model_of(tiny_base, seed=5), model_of(tiny_base, seed=6)
    pairs = list(zip(first.trainable(), second.trainable(), other.trainable(), strict=True))
    assert all(torch.equal(a, b) for (_, a), (_, b), _ in pairs)
    assert any(not torch.equal(a, c) for (_, a), _, (_, c) in pairs)


@pytest.mark.parametrize("wanted", ["bf16", "fp16"])
def test_slow_products_are_refused_on_a_cpu(tiny_base: Path, wanted: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine computes on a card")
    with pytest.raises(FitError, match="slower than fp32"):
        model_of(tiny_base, compute_dtype=wanted)


# Losses and gradients


@pytest.mark.parametrize("quantise", ["nf4", "none"])
def test_the_loss_is_the_models_own(tiny_base: Path, quantise: str) -> None:
    """Trap: a label shifted twice or not at all, a padding that is trained. Compared with transformers'
    own loss, row by row."""
    loaded = model_of(tiny_base, quantise=quantise)
    stir(loaded)
    with torch.no_grad():
        own = [
            loaded.base(input_ids=torch.tensor([one.ids]), labels=torch.tensor([one.labels])).loss
            * (one.trained)
            for one in ROWS
        ]
        for batch in (pad(ROWS), flatten(ROWS)):
            loss = loaded.loss(batch, trained_tokens(ROWS))
            assert loss.sums.tolist() == pytest.approx([float(one) for one in own], rel=1e-5)
            assert float(loss.value) == pytest.approx(sum(map(float, own)) / trained_tokens(ROWS), rel=1e-5)


def test_a_first_token_that_is_trained_has_nothing_to_be_predicted_from(model: HfModel) -> None:
    """In a packed row the token before it belongs to another example."""
    one = Encoded(ROWS[0].ids, ROWS[0].ids)
    with torch.no_grad():
        alone = [float(model.loss(pad([row]), 1).sums) for row in (one, ROWS[1])]
    packed = flatten([ROWS[1], one])
    with torch.no_grad():
        sums = model.loss(packed, 1).sums.tolist()
    assert sums == pytest.approx([alone[1], alone[0]], rel=1e-5)


def test_logits_in_pieces_change_nothing(model: HfModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradient(model, pad(ROWS))
    with torch.no_grad():
        sums = model.loss(pad(ROWS), 1).sums
    monkeypatch.setattr(chunks, "LOGITS_AT_ONCE", 262 * 3)
    pieces = gradient(model, pad(ROWS))
    with torch.no_grad():
        assert torch.allclose(model.loss(pad(ROWS), 1).sums, sums, rtol=1e-6)
    assert float(whole.norm()) > 1e-3
    assert float((whole - pieces).norm() / whole.norm()) < 1e-5


def test_recomputed_activations_give_the_same_gradient(tiny_base: Path) -> None:
    """Dropout is on: a recomputation with other random numbers would give another gradient."""
    found = []
    for checkpointing in (False, True):
        loaded = model_of(tiny_base, dropout=0.2, gradient_checkpointing=checkpointing)
        stir(loaded)
        assert loaded.base.is_gradient_checkpointing is checkpointing
        loaded.training(True)
        for make in (pad, flatten):
            torch.manual_seed(3)
            found.append(gradient(loaded, make(ROWS)))
    assert float(found[0].norm()) > 1e-3
    for plain, recomputed in ((found[0], found[2]), (found[1], found[3])):
        assert float((plain - recomputed).norm() / plain.norm()) < 1e-5


def test_an_evaluation_before_training_changes_no_gradient(tiny_base: Path) -> None:
    """Trap: on CPUs with AVX512-BF16, bitsandbytes repacks a layer at its first forward in eval mode, for
    good: gradients stop, products round."""
    fresh, asked = model_of(tiny_base), model_of(tiny_base)
    asked.training(False)
    with torch.no_grad():
        asked.loss(pad(ROWS), 1)
    asked.logits(pad(ROWS), [10, 11])
    asked.generate([ROWS[0].ids, ROWS[1].ids], max_new_tokens=3, stop_ids=STOPS)
    plain = dequantised(fresh, tiny_base)
    for loaded in (fresh, asked, plain):
        stir(loaded)
        loaded.training(True)
    first, second, reference = (gradient(loaded, pad(ROWS)) for loaded in (fresh, asked, plain))
    assert float(first.norm()) > 1e-3
    assert torch.equal(first, second)
    assert float((first - reference).norm() / reference.norm()) < 1e-5, (
        "4-bit layers differentiate as the weights they stand for"
    )
    layers = [module for module in asked.base.modules() if isinstance(module, Linear4bit)]
    assert layers and not any(
        getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers
    )


def dequantised(model: HfModel, base: Path) -> HfModel:
    """A model in fp32 whose weights are those that the 4-bit layers of `model` stand for."""
    from bitsandbytes.functional import dequantize_4bit

    plain = model_of(base, quantise="none")
    theirs = dict(plain.base.named_modules())
    with torch.no_grad():
        for name, module in model.base.named_modules():
            if isinstance(module, Linear4bit):
                theirs[name].weight.copy_(
                    dequantize_4bit(module.weight.data.clone(), module.weight.quant_state)
                )
    return plain


def test_nothing_trained_is_a_loss_of_zero(model: HfModel) -> None:
    silent = Encoded(ROWS[0].ids, tuple([IGNORED] * len(ROWS[0].ids)))
    assert float(model.loss(pad([silent]), 1).value.detach()) == 0.0


# Logits and replies


def test_logits_are_those_of_the_full_head(model: HfModel) -> None:
    """Trap: the last real token of a padded row is not the last place."""
    model.training(False)
    watched = [9, 200, 2]
    found = model.logits(pad(ROWS), watched)
    with torch.no_grad():
        own = torch.stack(
            [model.base(input_ids=torch.tensor([one.ids])).logits[0, -1, watched] for one in ROWS]
        )
    assert torch.allclose(found, own, atol=1e-5)


def test_replies_in_a_batch_are_those_of_one_at_a_time(model: HfModel) -> None:
    """Trap: left padding that is seen, positions that count it. First scores too."""
    model.training(False)
    prompts = [one.ids for one in ROWS]
    together = model.generate(prompts, max_new_tokens=12, stop_ids=STOPS, watch_ids=(9, 10, 2))
    assert len({len(prompt) for prompt in prompts}) > 2
    assert any(len(set(reply.ids)) > 1 for reply in together)
    for prompt, reply in zip(prompts, together, strict=True):
        (alone,) = model.generate([prompt], max_new_tokens=12, stop_ids=STOPS, watch_ids=(9, 10, 2))
        assert (alone.ids, alone.stopped) == (reply.ids, reply.stopped)
        assert alone.first_scores == pytest.approx(reply.first_scores, abs=1e-4)
        with torch.no_grad():
            logits = model.base(input_ids=torch.tensor([prompt])).logits[0, -1]
        assert reply.ids[0] == int(logits.argmax())
        assert list(reply.first_scores) == pytest.approx(
            torch.log_softmax(logits, -1)[[9, 10, 2]].tolist(), abs=1e-4
        )


def test_the_last_scores_are_those_of_the_step_that_stopped(model: HfModel) -> None:
    """Trap: a batch goes on for its longer rows; what it computes then for a row that has ended is no step
    of that row."""
    model.training(False)
    prompts = [one.ids for one in ROWS]
    free = model.generate(prompts, max_new_tokens=12, stop_ids=STOPS)
    stops = (*STOPS, free[0].ids[1], free[1].ids[3])  # two rows now end at different steps
    replies = model.generate(prompts, max_new_tokens=12, stop_ids=stops, watch_ids=(9, 10, 2))
    lengths = [len(one.ids) for one in replies]
    assert len(set(lengths)) > 1 and any(one.stopped for one in replies)
    for prompt, reply in zip(prompts, replies, strict=True):
        before = [*prompt, *reply.ids[: len(reply.ids) if reply.stopped else len(reply.ids) - 1]]
        with torch.no_grad():
            logits = model.base(input_ids=torch.tensor([before])).logits[0, -1]
        assert list(reply.last_scores) == pytest.approx(
            torch.log_softmax(logits, -1)[[9, 10, 2]].tolist(), abs=1e-4
        )


def test_a_reply_ends_before_its_stop_token(model: HfModel) -> None:
    model.training(False)
    (free,) = model.generate([ROWS[1].ids], max_new_tokens=8, stop_ids=STOPS)
    stop = free.ids[2]
    (cut,) = model.generate([ROWS[1].ids], max_new_tokens=8, stop_ids=(stop, 2))
    assert cut.stopped and cut.ids == free.ids[: free.ids.index(stop)]
    assert not free.stopped and len(free.ids) == 8


def test_replies_are_greedy_whatever_the_base_asks_for(tiny_base: Path, tmp_path: Path) -> None:
    """Trap: a generation_config.json with sampling, a repetition penalty or short replies reaches the
    evaluation."""
    import json
    import shutil

    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    wild = {
        "do_sample": True,
        "temperature": 2.0,
        "repetition_penalty": 9.0,
        "max_new_tokens": 1,
        "eos_token_id": [7],
    }
    (folder / "generation_config.json").write_text(json.dumps(wild))
    plain, other = model_of(tiny_base), model_of(folder)
    prompts = [one.ids for one in ROWS]
    replies = [loaded.generate(prompts, max_new_tokens=10, stop_ids=STOPS) for loaded in (plain, other)]
    assert replies[0] == replies[1]
    assert max(len(reply.ids) for reply in replies[0]) > 1


# The adapter


def test_a_saved_adapter_comes_back_byte_for_byte(model: HfModel, tiny_base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    model.save_adapter(tmp_path / "a")
    again = model_of(tiny_base, seed=77)
    again.load_adapter(tmp_path / "a")
    pairs = list(zip(model.trainable(), again.trainable(), strict=True))
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)
    again.save_adapter(tmp_path / "b")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= set(files)
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]


def test_peft_itself_reads_the_saved_adapter(model: HfModel, tiny_base: Path, tmp_path: Path) -> None:
    """The form is peft's own: another program gets the same logits from it. Trap: keys that only doitune
    knows."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model.save_adapter(tmp_path)
    plain = model_of(tiny_base, quantise="none")
    plain.load_adapter(tmp_path)
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), tmp_path
    )
    ids = torch.tensor([ROWS[1].ids])
    plain.training(False)
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=ids).logits, plain.base(input_ids=ids).logits, atol=1e-5)


def test_a_wrong_adapter_is_refused(model: HfModel, tiny_base: Path, tmp_path: Path) -> None:
    """Trap: peft only warns of missing keys; a model without its adapter would be scored."""
    from safetensors.torch import load_file, save_file

    model.save_adapter(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    with pytest.raises(CheckpointError, match="is not one of this model"):
        model_of(tiny_base, rank=8).load_adapter(tmp_path)
    with pytest.raises(CheckpointError, match="is not one of this model"):
        model_of(tiny_base, targets=("q_proj",)).load_adapter(tmp_path)
    before = [parameter.clone() for _, parameter in model.trainable()]
    whole = load_file(path)
    lacking = dict(list(whole.items())[1:])
    save_file(lacking, path)
    with pytest.raises(CheckpointError, match="1 tensors differ"):
        model.load_adapter(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="cannot be read"):
        model.load_adapter(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        model.load_adapter(tmp_path)
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, model.trainable(), strict=True)), (
        "a refused adapter changes nothing"
    )


def test_without_its_adapter_the_model_is_the_plain_base(model: HfModel, tiny_base: Path) -> None:
    model.training(False)
    fresh = model_of(tiny_base)
    fresh.training(False)
    with torch.no_grad():
        plain = fresh.loss(pad(ROWS), 1).sums
        with model.without_adapter():
            assert torch.equal(model.loss(pad(ROWS), 1).sums, plain)
        assert not torch.allclose(model.loss(pad(ROWS), 1).sums, plain)


# Rows of their own


@pytest.mark.parametrize("tied", [True, False])
def test_new_token_rows_are_trained_saved_and_loaded(
    tiny_base: Path, untied_base: Path, tmp_path: Path, tied: bool
) -> None:
    """Trap: peft freezes what it did not add; rows that never learn look like a run that works."""
    base = tiny_base if tied else untied_base
    loaded = model_of(base, new_rows=3)
    assert loaded.adapter.rows is not None and loaded.head.vocabulary_rows == 262
    rows_trained = [name for name, _ in loaded.trainable() if "lora_" not in name]
    assert len(rows_trained) == (1 if tied else 2)
    first = loaded.adapter.rows.state()
    ids = (262, 50, 51, 264, 263, 52, 264)
    chat = Encoded(ids, (*[IGNORED] * 5, 52, 264))
    optimiser = torch.optim.AdamW([parameter for _, parameter in loaded.trainable()], lr=1e-2)
    losses = []
    for _ in range(4):
        value = loaded.loss(pad([chat, chat]), 4).value
        value.backward()
        losses.append(float(value.detach()))
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0]
    now = loaded.adapter.rows.state()
    assert all(float((now[name] - first[name]).abs().max()) > 1e-3 for name in ("embedding", "head"))
    loaded.save_adapter(tmp_path)
    again = model_of(base, new_rows=3, seed=9)
    again.load_adapter(tmp_path)
    for one in (loaded, again):
        one.training(False)
    with torch.no_grad():
        assert torch.equal(loaded.loss(pad([chat]), 1).sums, again.loss(pad([chat]), 1).sums)
        with again.without_adapter():
            fresh = model_of(base, new_rows=3)
            fresh.training(False)
            assert torch.equal(again.loss(pad([chat]), 1).sums, fresh.loss(pad([chat]), 1).sums)
        assert all(torch.equal(again.adapter.rows.state()[name], now[name]) for name in now), (
            "the trained rows are back"
        )
    (tmp_path / "token_rows.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        again.load_adapter(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_new_token_rows_leave_the_vocabulary_as_it_was(
    tiny_base: Path, untied_base: Path, tied: bool
) -> None:
    base = tiny_base if tied else untied_base
    plain, patched = model_of(base), model_of(base, new_rows=3)
    ids = torch.tensor([ROWS[0].ids])
    with torch.no_grad():
        own = plain.base(input_ids=ids).logits
        wide = patched.base(input_ids=ids).logits
    assert wide.shape[-1] == 265
    assert torch.allclose(own, wide[..., :262], atol=1e-6)
    watched = [40, 262, 264]
    assert torch.allclose(patched.logits(pad(ROWS[:1]), watched), wide[:, -1, watched], atol=1e-5)
    assert prove_packing(patched, rows((9, 20, 33), top=265)).exact
    (reply,) = patched.generate([(262, 50, 264, 263)], max_new_tokens=5, stop_ids=(264,), watch_ids=(264,))
    assert len(reply.first_scores) == 1


@pytest.mark.parametrize("new_rows", [0, 3])
def test_a_fresh_adapter_answers_as_the_base_and_a_trained_one_is_not_fresh(
    tiny_base: Path, new_rows: int
) -> None:
    """What is trained first is a second matrix, or rows alone. Trap: a base's losses that are the adapter's."""
    model = model_of(tiny_base, new_rows=new_rows)
    model.training(False)
    with torch.no_grad():
        assert model.adapter.is_fresh()
        adapted = model.loss(pad(ROWS), 1).sums
        with model.without_adapter():
            assert torch.equal(adapted, model.loss(pad(ROWS), 1).sums)
        for name, parameter in model.trainable():
            kept = parameter.clone()
            parameter[-1, -1] += 1e-6
            assert model.adapter.is_fresh() == ("lora_A" in name), name
            parameter.copy_(kept)
        assert model.adapter.is_fresh()


def test_a_run_with_rows_of_its_own_ends_and_is_asked(tiny_recipe: Path, tmp_path: Path) -> None:
    from doitune.run.model import open_trained

    resolved = resolve(str(tiny_recipe), overrides=["prompt.tokens=new", "train.max_steps=3"])
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    assert (run.checkpoints.of_step(3).folder / "token_rows.safetensors").is_file()
    _, loaded, template, _ = open_trained(run, "last")
    assert template.new_rows == 3 and isinstance(loaded, HfModel) and loaded.adapter.rows is not None
    assert any(
        not torch.equal(loaded.adapter.rows.state()[name], loaded.adapter.rows.first[name])
        for name in ("embedding", "head")
    )


# Other architectures


def test_soft_capped_logits_are_exact(tiny_base: Path, tmp_path: Path) -> None:
    """Gemma 2 caps its logits and its attention scores."""
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=512, sliding_window=16, final_logit_softcapping=0.5, attn_logit_softcapping=2.0, query_pre_attn_scalar=16,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path / "base")
    loaded = model_of(tmp_path / "base")
    loaded.training(False)
    proof = prove_packing(loaded, ROWS)
    assert proof.exact and loaded.packs
    with torch.no_grad():
        own = [
            float(loaded.base(input_ids=torch.tensor([one.ids]), labels=torch.tensor([one.labels])).loss)
            * one.trained
            for one in ROWS
        ]
        assert loaded.loss(pad(ROWS), 1).sums.tolist() == pytest.approx(own, rel=1e-5)
    last = loaded.logits(pad(ROWS[:1]), list(range(262)))
    assert float(last.abs().max()) <= 0.5


def test_an_unknown_change_behind_the_head_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    """Cohere scales its logits: head(hidden) is not what the model says, and a loss from it would be of
    another model."""
    from transformers import AutoTokenizer, CohereConfig, CohereForCausalLM

    torch.manual_seed(0)
    config = CohereConfig(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=128, logit_scale=0.0625,
    )  # fmt: skip
    CohereForCausalLM(config).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match="changes its logits behind the head"):
        model_of(tmp_path / "base")


def test_weights_that_cannot_be_read_are_one_clear_message(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    for name, spoil in {
        "cut": lambda path: path.write_bytes(path.read_bytes()[:2000]),
        "foreign": lambda path: path.write_bytes(b"not a model"),
    }.items():
        folder = tmp_path / name
        shutil.copytree(tiny_base, folder)
        spoil(folder / "model.safetensors")
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            model_of(folder)


def test_weights_that_lack_a_layer_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    """Trap: transformers fills missing layers with random numbers and only warns."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    whole = load_file(folder / "model.safetensors")
    lacking = {name: tensor for name, tensor in whole.items() if "layers.1.mlp.down_proj" not in name}
    assert len(lacking) == len(whole) - 1
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="down_proj"):
        model_of(folder)


def test_the_template_of_a_loaded_model_trains_end_to_end(tiny_base: Path) -> None:
    from doitune.data.example import Message

    loaded = model_of(tiny_base)
    template = open_template(
        load_tokenizer(tiny_base), kind="doit", tokens="reuse", vocabulary_rows=loaded.head.vocabulary_rows
    )
    one = encode((Message("user", "问"), Message("assistant", "答")), template)
    assert float(loaded.loss(pad([one]), one.trained).value.detach()) > 0
