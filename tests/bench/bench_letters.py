"""Real benchmark questions asked of a random LLaMA of about 76M weights, or of a real base: the reference way
against doitune's, and against lm-eval's where that is installed, on the CPU in fp32.
    python tests/bench/bench_letters.py [--questions 64] [--repeats 3] [--model FOLDER] [--tasks "cmmlu 0-shot,..."]

Reference: one question at a time, logits of every position. lm-eval: its own loglikelihood of each letter, in
batches of 8, of the same ids by the same model. Ours: sorted batches, the option rows of the head at the last token,
and the shared start of a set run once. All ask the released prompts; CPU seconds (right for one thread), medians of
interleaved repeats. Targets: CMMLU 0-shot twice as fast as lm-eval, 5-shot 6 times as fast as the reference,
AGIEval few-shot 3 times; the same letter for every question, option logits within 1e-4. Needs `../shared/data`. The
share that is saved grows with the questions of a set: the real sets have 100 to 600, this takes fewer.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from doitune.backends import hf
from doitune.backends.adapter import Adapter
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.backends.tokenizer import load_tokenizer
from doitune.base.find import find_base
from doitune.evals.ask import Limits, ask
from doitune.evals.letters import bare_ids
from doitune.evals.prompts import Prompt, prepare
from doitune.evals.suites import agieval, cmmlu
from doitune.evals.task import Task
from doitune.prompt.template import Template, open_template

DATA = Path(__file__).parents[3] / "shared" / "data"
SMOLLM2 = Path("~/.cache/doitune-dev/smollm2-135m").expanduser()
SUBJECTS = ("agronomy", "jurisprudence")
SETS = ("gaokao-history", "jec-qa-kd")
TARGETS = {"cmmlu 0-shot": 2.0, "cmmlu 5-shot": 6.0, "agieval-v1 few-shot": 3.0}
AGAINST_PEER = ("cmmlu 0-shot",)
"""Whose target is of lm-eval, where that is installed."""
CLOSE = 1e-4


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """About 50k tokens: a byte-level BPE trained on the questions (on Chinese as short as the paper's), or
    SmolLM2's (four times as long)."""
    if kind == "smollm2":
        return AutoTokenizer.from_pretrained(SMOLLM2, local_files_only=True)
    special = ["<unk>", "<s>", "</s>", "<role-user>", "<role-assistant>"]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("cmmlu/*/*.csv"))]
    made.train_from_iterator(
        (line for text in texts for line in text.splitlines()),
        trainers.BpeTrainer(
            vocab_size=50_000,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": special[3:]})
    return fast


def random_model(rows: int) -> HfModel:
    """A LLaMA of about 76M weights with a LoRA adapter; its head is scaled so that logits are as far apart
    as a real model's."""
    torch.manual_seed(0)
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
    base = (
        LlamaForCausalLM(LlamaConfig(vocab_size=rows, max_position_embeddings=4096, **shape)).float().eval()
    )
    with torch.no_grad():
        base.lm_head.weight.mul_(5)
    adapted = get_peft_model(
        base, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    model = HfModel("random", Adapter(adapted.eval(), None), torch.device("cpu"))
    model.compute_dtype = "float32"
    return model


def reference(model: HfModel, template: Template, prompts: list[Prompt]) -> dict[str, list[float]]:
    """One at a time, all logits, then four of them."""
    letters = list(bare_ids("ABCD", template))
    found = {}
    for prompt in prompts:
        with torch.no_grad():
            logits = model.base(input_ids=torch.tensor([prompt.rows[-1].ids]), use_cache=False).logits
        found[prompt.item.id] = logits[0, -1, letters].tolist()
    return found


def peer(model: HfModel, template: Template, prompts: list[Prompt]) -> dict[str, list[float]]:
    """As lm-eval asks: a log-likelihood of each letter."""
    from lm_eval.models.huggingface import HFLM

    letters = list(bare_ids("ABCD", template))
    asks = HFLM(pretrained=model.base, tokenizer=template.tokenizer, batch_size=8)
    asked = [(("", ""), list(prompt.rows[-1].ids), [letter]) for prompt in prompts for letter in letters]
    found = [score for score, _ in asks._loglikelihood_tokens(asked, disable_tqdm=True)]
    return {prompt.item.id: found[4 * place : 4 * place + 4] for place, prompt in enumerate(prompts)}


def ours(model: HfModel, template: Template, prompts: list[Prompt]) -> dict[str, list[float]]:
    """As `doitune eval` asks."""
    return {
        item.id: list(reply.released_scores)
        for batch in ask(model, template, prompts, Limits())
        for item, reply in batch
    }


def seconds(
    way: Callable[..., dict[str, list[float]]], *arguments: object
) -> tuple[float, dict[str, list[float]]]:
    """The CPU seconds that it takes, and what it says."""
    start = time.process_time()
    found = way(*arguments)
    return time.process_time() - start, found


def tasks(questions: int) -> dict[str, Task]:
    """The two tasks, each cut down to `questions` over two sets."""
    found = {
        "cmmlu 0-shot": (cmmlu.task(DATA / "cmmlu", 0), SUBJECTS),
        "cmmlu 5-shot": (cmmlu.task(DATA / "cmmlu", 5), SUBJECTS),
        "agieval-v1 few-shot": (agieval.task(DATA / "agieval", 5), SETS),
    }
    return {
        name: replace(task, items=tuple(item for item in task.items if item.set in sets)).limited(
            questions // 2
        )
        for name, (task, sets) in found.items()
    }


def bench(name: str, model: HfModel, template: Template, task: Task, repeats: int) -> bool:
    """Time both ways, print, and say whether the targets are met."""
    prompts = prepare(task.items, template, 4096)
    assert prompts and not any(prompt.too_long for prompt in prompts)
    ways = {"reference": reference, "ours": ours}
    if importlib.util.find_spec("lm_eval"):
        ways["lm-eval"] = peer
    rounds = [
        {name: seconds(way, model, template, prompts) for name, way in ways.items()} for _ in range(repeats)
    ]
    tokens = sum(len(prompt.rows[-1].ids) for prompt in prompts)
    print(f"{name}: {len(prompts)} questions, {tokens:,} tokens; load {os.getloadavg()[0]:.1f}")
    against = "lm-eval" if name in AGAINST_PEER and "lm-eval" in ways else "reference"
    good = True
    for other in ways:
        if other == "ours":
            continue
        ratios = [one[other][0] / one["ours"][0] for one in rounds]
        slow, quick = (statistics.median(one[way][0] for one in rounds) for way in (other, "ours"))
        differ, apart = compared(rounds[0][other][1], rounds[0]["ours"][1])
        ratio = statistics.median(ratios)
        good = good and not differ and apart <= CLOSE and (other != against or ratio >= TARGETS[name])
        print(
            f"  {other} {slow:.1f} s, ours {quick:.1f} s: {ratio:.2f} times as fast ({min(ratios):.2f} to "
            f"{max(ratios):.2f}); other letters: {differ}; largest difference between two letters' scores {apart:.1e}"
        )
    print(f"  target {TARGETS[name]:.0f} times {against}: {'met' if good else 'MISSED'}", flush=True)
    return good


def compared(wanted: dict[str, list[float]], said: dict[str, list[float]]) -> tuple[int, float]:
    """How many likeliest letters differ, and how far the letters' scores, each less the first one's, are apart."""
    assert set(wanted) == set(said)
    differ = sum(
        max(range(4), key=wanted[key].__getitem__) != max(range(4), key=said[key].__getitem__)
        for key in wanted
    )
    pairs = [(wanted[key], said[key]) for key in wanted]
    return differ, max(abs((a - one[0]) - (b - two[0])) for one, two in pairs for a, b in zip(one, two))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokenizer", choices=("trained", "smollm2"), default="trained")
    parser.add_argument("--model", default="", help="a base's folder; it is held in NF4")
    parser.add_argument("--tasks", default=",".join(TARGETS))
    chosen = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not here: there are no real questions")
    if chosen.model:
        base = find_base(chosen.model)
        fast, model, kind = load_tokenizer(base.folder), hf.load(LoadRequest(base)), "model"
    else:
        fast = tokenizer(chosen.tokenizer)
        model, kind = random_model(len(fast)), "doit"
    model.training(False)
    rows = model.head.vocabulary_rows
    template = open_template(fast, kind=kind, tokens="reuse", vocabulary_rows=rows)
    weights = sum(parameter.numel() for parameter in model.base.parameters())
    print(
        f"{weights / 1e6:.0f}M weights, vocabulary {rows:,}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    wanted = chosen.tasks.split(",")
    with model.without_adapter() if chosen.model else nullcontext():
        met = [
            bench(name, model, template, task, chosen.repeats)
            for name, task in tasks(chosen.questions).items()
            if name in wanted
        ]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
