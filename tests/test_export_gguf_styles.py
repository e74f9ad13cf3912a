"""A small model in the style of Qwen and one in that of Gemma, each trained under its own chat template and taken
away to llama.cpp: the ids of training, the answers of training; and an adapter by itself. Slow: they ask llama.cpp."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import (
    AddedToken,
    ByteLevelBPETokenizer,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    trainers,
)
from tokenizers import pre_tokenizers as cuts
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from doitune.export.gguf.export import Files, export_gguf
from doitune.export.gguf.lora import ADAPTER, BASE, export_lora
from doitune.export.gguf.vocabulary import CUTS, USER_DEFINED, read_vocabulary
from doitune.export.merged import Wish
from doitune.recipe.resolve import resolve
from doitune.selftest.world import make_world
from doitune.train.session import start

ROWS = 720
TEXTS = (
    "你好，1+1=? 12345 It's  two   blanks",
    " leading\n\n\n\tand tabs\r\n end  ",
    "def f(x):\n    return {'a': x**2}  # don't",
    "Ünïcödé ﬁne café 🙂🇨🇭 ▁ α²",
)
TURNS = {
    "qwen": ("<|im_start|>", "<|im_end|>", "assistant", ""),
    "gemma": ("<start_of_turn>", "<end_of_turn>", "model", "<bos>"),
}
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "vocab_size": ROWS, "max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.2,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen": ("qwen3", {}),
    "gemma": ("gemma3_text", {"query_pre_attn_scalar": 16, "sliding_window": 8,
              "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
}  # fmt: skip


def qwen_style(lines: list[str]) -> Tokenizer:
    """Byte-level, cut into words as Qwen's are."""
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(lines, vocab_size=ROWS - 20, special_tokens=["<|endoftext|>"])
    words = next(steps for steps, name in CUTS.items() if name == "qwen2")[0]
    made._tokenizer.pre_tokenizer = cuts.Sequence(
        [cuts.Split(Regex(words), "isolated"), cuts.ByteLevel(False, use_regex=False)]
    )
    return Tokenizer.from_str(made._tokenizer.to_str())  # fmt: skip


def gemma_style(lines: list[str]) -> Tokenizer:
    """Pieces that cross blanks, bytes for what is unknown, tokens of several line ends that are not special; and one
    that the text model has no row for."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = cuts.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytewise = [f"<0x{number:02X}>" for number in range(256)]
    ends = ["<pad>", "<eos>", "<bos>", "<unk>"]
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=ROWS - 20, special_tokens=[*ends, *bytewise])
    )
    document = json.loads(made.to_str())
    document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] in ends]
    made = Tokenizer.from_str(json.dumps(document))
    made.add_tokens([AddedToken(text, normalized=False) for text in ("\n\n", "\n\n\n", "▁▁")])
    return made


STYLES = {"qwen": qwen_style, "gemma": gemma_style}


def make_base(folder: Path, style: str, lines: list[str]) -> None:
    """A model of random weights with a tokenizer and a chat template of the style."""
    begin, end, who, first = TURNS[style]
    tokenizer = STYLES[style](lines)
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in (begin, end)])
    stops = [tokenizer.token_to_id(one) for one in (end, "<eos>" if style == "gemma" else "<|endoftext|>")]
    for path in folder.iterdir():
        path.unlink()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end, **({"bos_token": first} if first else {})
    )
    turn = f"{{{{ '{begin}' + ('{who}' if m.role == 'assistant' else m.role) + '\\n' + (m.content | trim) + '{end}\\n' }}}}"
    fast.chat_template = (
        f"{{{{ '{first}' }}}}{{% for m in messages %}}{turn}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{begin}{who}\\n' }}}}{{% endif %}}"
    )
    fast.save_pretrained(folder)
    name, more = MODELS[style]
    torch.manual_seed(0)
    bos = tokenizer.token_to_id(first) if first else None
    config = AutoConfig.for_model(
        name, **SIZES, **more, bos_token_id=bos, eos_token_id=stops, pad_token_id=stops[0]
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)  # fmt: skip


def trained(folder: Path, style: str, *more: str) -> Any:
    """A run of some steps; `style` "": the world's own llama under the demo's tokenizer."""
    world = make_world(folder)
    if style:
        rows = [
            one
            for path in (folder / "corpus").rglob("*.json")
            for one in path.read_text("utf-8").splitlines()
        ]
        make_base(folder / "base", style, [*TEXTS, *rows] * 3)
        more = ("prompt.template=model", *more)
    recipe = resolve(
        str(world.recipe),
        overrides=["train.max_steps=6", "train.max_tokens=256", "train.tokens_per_micro_batch=256", *more],
    )
    return start(recipe, runs=folder / "runs", scorer=None, on_event=lambda event: None)


@pytest.mark.slow
@pytest.mark.parametrize("style", list(STYLES))
def test_a_style_is_taken_away_with_its_prompt_and_its_answers(tmp_path: Path, style: str) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    from doitune.backends.llama_cpp import running
    from doitune.backends.tokenizer import load_tokenizer

    run = trained(tmp_path, style)
    quants = ("f16", "q8_0", *(("q4_k_m",) if find_spec("llama_cpp") else ()))
    found = export_gguf(Files(Wish(run, tmp_path / "out", questions=4), quants, ollama=True))
    assert found.same, found.document["problems"]
    for kind in quants:
        one = found.document["files"][f"model-{kind}.gguf"]
        assert one["prompt"]["equal"] and one["prompt"]["rendered_alike"] == one["prompt"]["rendered"] > 5
        assert one["evaluation"]["questions"] == 4 and one["parity"]["positions"] > 20, kind
        assert one["parity"]["agreement"] >= (0.98 if kind == "f16" else 0.5)
    losses = [found.document["files"][f"model-{kind}.gguf"]["parity"]["kl_nats"] for kind in quants]
    assert losses == sorted(losses) and losses[0] < 1e-3
    vocabulary = read_vocabulary(tmp_path / "out" / "merged", ROWS)
    assert vocabulary.kind == {"qwen": "gpt2", "gemma": "llama"}[style]
    assert (USER_DEFINED in vocabulary.types) == (style == "gemma")
    tokenizer = load_tokenizer(tmp_path / "out" / "merged")
    with running(found.folder / "model-q8_0.gguf", 512) as server:
        for text in (*TEXTS, TURNS[style][0] + TEXTS[0] + TURNS[style][1]):
            ids = server.ask("tokenize", content=text, add_special=False, parse_special=True)["tokens"]
            assert ids == tokenizer(text, add_special_tokens=False)["input_ids"], text
    if style == "gemma":
        lora = export_lora(Wish(run, tmp_path / "lora", questions=0))
        assert lora.same and "sits on other ones here" in lora.document["warning"]
        assert lora.document["files"][ADAPTER]["prompt"]["equal"]
        card = (lora.folder / "README.md").read_text("utf-8")
        assert f"llama-server -m {BASE} --lora {ADAPTER}" in card and "sits on other ones here" in card
        assert str(tmp_path) not in card


@pytest.mark.slow
def test_an_adapter_by_itself_says_on_its_own_base_what_it_said_in_training(tmp_path: Path) -> None:
    """Trap: factors whose rows lie otherwise than the base's, or that llama.cpp leaves out without a word."""
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    from doitune.backends.llama_cpp import Asker, running

    run = trained(tmp_path, "", "model.quantise=none")
    wish = Wish(run, tmp_path / "out", questions=4)
    found = export_lora(wish)
    one = found.document["files"][ADAPTER]
    assert found.same and not found.document["warning"] and one["evaluation"]["questions"] == 4
    assert one["parity"]["agreement"] >= 0.98 and one["parity"]["kl_nats"] < 1e-3
    assert sorted(path.name for path in found.folder.iterdir()) == ["README.md", ADAPTER, BASE, "export.json"]
    said = []
    for adapter in (None, found.folder / ADAPTER):
        with running(found.folder / BASE, 64, adapter) as server:
            said.append(Asker(server, one["parity"]["positions"] and 2154).log_probs([5, 7, 9], [11, 12, 13]))
    assert (said[0] - said[1]).abs().max() > 0.01, "it is on it"
    assert export_lora(wish).again
    whole = {path.name: path.read_bytes() for path in found.folder.iterdir() if path.suffix == ".gguf"}
    (found.folder / ADAPTER).write_bytes(b"damaged")
    assert not export_lora(wish).again
    assert all((found.folder / name).read_bytes() == content for name, content in whole.items())
