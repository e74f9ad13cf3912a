"""A tiny random model with a tokenizer made on the spot, and a handful of questions of every form. No
network, fp32."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from doitune.backends.adapter import Adapter
from doitune.backends.hf_model import HfModel
from doitune.data.example import Example, Message
from doitune.evals.task import Item
from doitune.prompt.template import Template, open_template

SPECIAL = ["<unk>", "<s>", "</s>", "<role-user>", "<role-assistant>"]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and special tokens of which two are free for the roles."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    return fast


def tiny(seed: int = 0) -> tuple[HfModel, Template]:
    """A random two-layer LLaMA with a LoRA adapter that is not zero, and its template."""
    torch.manual_seed(seed)
    fast = tokenizer()
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    base = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(3)  # far from ties
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.eval()
    template = open_template(fast, kind="doit", tokens="reuse", vocabulary_rows=config.vocab_size)
    model = HfModel("tiny", Adapter(adapted, None), torch.device("cpu"))
    model.compute_dtype = "float32"
    return model, template


def examples(each: int = 4) -> dict[str, list[Example]]:
    """`each` questions of four sets: letters, true/false, ranking (with an earlier assistant turn), maths;
    lengths differ."""
    found: dict[str, list[Example]] = {"biology": [], "history": [], "code": [], "math": []}
    for n in range(each):
        stem = f"第{n}题" + "长" * (n * 5)
        found["biology"].append(
            _example("biology", n, stem, "ABCD"[n % 4], "single_choice", options=("A", "B", "C", "D"))
        )
        found["history"].append(_example("history", n, stem + "对吗", "TF"[n % 2], "tf"))
        chat = (
            Message("user", "你好"),
            Message("assistant", "您好"),
            Message("user", stem),
            Message("assistant", "甲" * (n + 1)),
        )
        choices = ("甲" * (n + 1), "乙丙" * 2, "丁" * (7 - n % 5))
        found["code"].append(Example(f"curated/test/code#{n}", "code", chat, "ppl_rank", "", choices=choices))
        found["math"].append(_example("math", n, stem + "=?", str(n), "math"))
    return found


def _example(
    ability: str, n: int, question: str, label: str, form: str, options: tuple[str, ...] = ()
) -> Example:
    messages = (Message("user", question), Message("assistant", label))
    return Example(f"curated/test/{ability}#{n}", ability, messages, form, "", label=label, options=options)  # type: ignore[arg-type]


def with_shots(shots: int) -> Item:
    """A letter question whose shots are turns, which can be asked with fewer."""

    def question(count: int) -> tuple[Message, ...]:
        turns = [
            turn
            for n in range(count)
            for turn in (Message("user", f"例题{n}" + "。" * 10), Message("assistant", "B"))
        ]
        return (*turns, Message("user", "问题"))

    return Item(
        "x#1", "x", "single_choice", "letters", question(shots), "A", ("A", "B"), shots=shots, fewer=question
    )
