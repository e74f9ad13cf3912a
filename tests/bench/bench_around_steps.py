"""A whole training of a real model beside trl's, whole processes in alternated pairs: what each spends outside its
steps, tokens a second within them, and memory; doitune's seconds of each part from its own record.
    python tests/bench/bench_around_steps.py MODEL_FOLDER [--answers short|long] [--peer-python PYTHON] [--peer packed]
        [--pairs 3] [--examples 16] [--steps 4] [--tokens 130]

MODEL_FOLDER: SmolLM2-135M, as the project's script makes it. PYTHON: one with trl (1.16); without it doitune runs
alone. Both train the same ids in the same order from the same first adapter (NF4, rank 16, AdamW, a constant rate).
`short`: a long question and a word for an answer, about one token in a hundred is trained; `long`: nearly every token
is. trl's micro-batches: eight padded rows, or `packed`, a step's rows in one (`padding_free`). Wall and CPU seconds;
on a busy machine read the latter.
Targets: at most 25 s of CPU outside the steps; tokens a second of the steps as many as trl's; the same steps, that is
losses and gradient norms (before clipping) within 3e-4 of trl's, as parts of them.

trl makes the adapter of a base in 4 bits bf16, and with it its gradient and Adam's moments, where doitune's are fp32;
here trl gets its fp32 values back: bf16 is another training, and its products are slow on a CPU. With 24 short rows in
3 steps (--examples 8 --tokens 100), apart from doitune by these parts of loss and norm in steps 1, 2, 3:
    trl, adapter in bf16 (as it comes)       losses 1e-6, 1.2e-4, 9.4e-4; norms 2.0e-3, 1.7e-3, 2.0e-3
    trl, adapter in fp32                     losses 1e-6, 2e-6, 1.0e-5; norms 9e-7, 1.1e-5, 9e-6
    doitune, sorted instead of packed rows   losses 1e-7, 1e-6, 2e-6; norms 5e-7, 8e-7, 3e-6
In step 1 the gradient is 3.0e-3 apart with bf16, and 1,981 of 2.5 million elements move the other way (fp32: 9.9e-6
and 9; sorted rows: 1.6e-6 and none). So it is the dtype, not rounding in the products, though AdamW's first moves are
as large for the smallest gradients. With 8 long packed rows in 2 steps rounding takes more: norms 3e-5 and 7e-5.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
WORDS = ["the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by"]
SIGMA, SHORTEST, LONGEST = 0.85, 24, 800
RATE = 1e-3
TARGET_SECONDS, CLOSE = 25, 3e-4


def make_work(root: Path, given: argparse.Namespace) -> None:
    """The corpus and the recipe; a word is about a token."""
    dice = random.Random(0)
    folder = root / "corpus" / "curated" / "1000"
    folder.mkdir(parents=True)
    with (folder / "math_1000.json").open("w", encoding="utf-8") as stream:
        for number in range(given.examples * given.steps):
            length = min(LONGEST, max(SHORTEST, round(dice.lognormvariate(math.log(given.tokens), SIGMA))))
            much, little = " ".join(dice.choices(WORDS, k=length)), dice.choice(WORDS)
            question, answer = (
                (f"{number} {much}", little) if given.answers == "short" else (f"{number}", much)
            )
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            row = {
                "messages": messages,
                "type": "math",
                "idx": f"{number}",
                "question_format": 0,
                "answer": "",
            }
            stream.write(json.dumps(row) + "\n")
    (root / "bench.yaml").write_text(
        f"summary: bench\nmodel:\n  name: {given.model}\ndata:\n  corpus: {root / 'corpus'}\n  budget:\n"
        f"    math: {given.examples * given.steps}\nlora:\n  dropout: 0\ntrain:\n  epochs: 1\n"
        f"  examples_per_step: {given.examples}\n  learning_rate: {RATE}\n  schedule: constant\n"
        "  optimizer: adamw\n  validation_rows_per_ability: 0\n",
        encoding="utf-8",
    )


def prepare(root: Path) -> None:
    """The ids and labels of the steps in order, and the first adapter, for trl."""
    from doitune.recipe.resolve import resolve
    from doitune.run.model import load_model
    from doitune.train.plan import plan_training

    plan = plan_training(resolve(str(root / "bench.yaml")))
    _, model = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=True)
    course = plan.material.course
    rows = [
        plan.material.encoded[place] for step in range(course.total_steps) for place in course.members(step)
    ]
    found = [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in rows]
    (root / "rows.json").write_text(json.dumps(found))
    (root / "adapter").mkdir()
    model.adapter.save(root / "adapter")


def ours(root: Path) -> None:
    """`doitune train`, its parts counted in CPU seconds."""
    from doitune.__main__ import main
    from doitune.system.spent import Spent

    Spent.__init__.__defaults__ = (time.process_time,)
    sys.argv[1:] = ["train", str(root / "bench.yaml"), "--runs", str(root / "runs")]
    main()


def theirs(root: Path, given: argparse.Namespace) -> None:
    """The same training by trl; leaves what is compared of its steps in `peer.json`."""
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Watch(TrainerCallback):  # type: ignore[misc]
        wall, cpu, losses, norms = 0.0, 0.0, [], []

        def on_step_begin(self, *args: Any, **words: Any) -> None:
            self.wall, self.cpu = self.wall - time.perf_counter(), self.cpu - time.process_time()

        def on_step_end(self, *args: Any, **words: Any) -> None:
            self.wall, self.cpu = self.wall + time.perf_counter(), self.cpu + time.process_time()

        def on_log(self, *args: Any, logs: dict[str, float], **words: Any) -> None:
            if "loss" in logs:
                self.losses.append(logs["loss"])
                self.norms.append(logs["grad_norm"])

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    base = AutoModelForCausalLM.from_pretrained(given.model, quantization_config=nf4, dtype=torch.float32)
    packed = given.peer == "packed"
    rows = given.examples if packed else min(8, given.examples)
    config = SFTConfig(
        output_dir=str(root / "peer"), num_train_epochs=1, per_device_train_batch_size=rows,
        gradient_accumulation_steps=given.examples // rows, learning_rate=RATE, lr_scheduler_type="constant",
        optim="adamw_torch", max_grad_norm=1.0, logging_steps=1, max_length=None, padding_free=packed, report_to=[],
        use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="epoch", seed=0,
    )  # fmt: skip
    watch = Watch()
    data = Dataset.from_list(json.loads((root / "rows.json").read_text()))
    model = PeftModel.from_pretrained(base, str(root / "adapter"), is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first = [parameter.data for parameter in trained]
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    trainer = InOrder(model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[watch])
    for parameter, values in zip(trained, first, strict=True):  # trl has made them bf16
        parameter.data = values
    trainer.train()
    said = {"wall": watch.wall, "cpu": watch.cpu, "losses": watch.losses, "gradient norms": watch.norms}
    (root / "peer.json").write_text(json.dumps(said))


def measured(command: list[str], root: Path) -> dict[str, float]:
    """A process of its own: its wall and CPU seconds and its peak, in MiB."""
    began = time.perf_counter()
    with (root / "said.txt").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit((root / "said.txt").read_text()[-3000:])
    return {
        "wall": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
    }


def read_ours(root: Path, took: dict[str, float]) -> dict[str, Any]:
    """What the newest run's own record says of it, beside what was measured from outside."""
    run = max((root / "runs").rglob("done.json"), key=lambda path: path.stat().st_mtime).parent
    parts = json.loads((run / "done.json").read_text())["seconds_by_part"]
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in steps if line["event"] == "step"]
    parts["imports before, ending after"] = took["cpu"] - sum(parts.values())
    wall = sum(line["seconds"] for line in steps)
    return {
        **took,
        "steps": (wall, parts.pop("steps")),
        "parts": parts,
        "losses": [line["loss"] for line in steps],
        "gradient norms": [line["grad_norm"] for line in steps],
    }


def read_theirs(root: Path, took: dict[str, float]) -> dict[str, Any]:
    """The same of trl's process."""
    said = json.loads((root / "peer.json").read_text())
    return {**took, "steps": (said.pop("wall"), said.pop("cpu")), **said}


def show(name: str, one: dict[str, Any], tokens: int) -> None:
    """One process, on a line."""
    wall, cpu = one["steps"]
    print(
        f"{name:8} outside the steps {one['wall'] - wall:6.1f} s wall, {one['cpu'] - cpu:6.1f} s CPU; steps {wall:6.1f} s "
        f"wall, {cpu:6.1f} s CPU, {tokens / cpu:6.1f} tokens/s of CPU; peak {one['peak']:,.0f} MiB; "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main(given: argparse.Namespace) -> int:
    """Run the pairs and print medians; 1 where a target is missed."""
    found: dict[str, list[dict[str, Any]]] = {"doitune": [], "trl": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_work(root, given)
        child = [__file__, *sys.argv[1:], "--root", folder, "--child"]
        measured([sys.executable, *child, "prepare"], root)
        rows = json.loads((root / "rows.json").read_text())
        tokens = sum(len(row["input_ids"]) for row in rows)
        trained = sum(label != -100 for row in rows for label in row["labels"])
        print(f"{len(rows)} rows in {given.steps} steps, {tokens} tokens, {trained} trained")
        for pair in range(given.pairs):
            names = ["doitune", "trl"] if given.peer_python else ["doitune"]
            for name in names if pair % 2 else names[::-1]:
                python = given.peer_python if name == "trl" else sys.executable
                took = measured([python, *child, name], root)
                one = (read_theirs if name == "trl" else read_ours)(root, took)
                found[name].append(one)
                show(name, one, tokens)
    return conclude(found, tokens)


def are_close(mine: list[dict[str, Any]], peers: list[dict[str, Any]]) -> bool:
    """Whether both made the same steps: the worst pair of each step, as a share of trl's value."""
    close = True
    for name in ("losses", "gradient norms"):
        steps = [
            max(abs(one[name][step] / other[name][step] - 1) for one, other in zip(mine, peers, strict=True))
            for step in range(len(mine[0][name]))
        ]
        said = ", ".join(f"{apart:.1e}" for apart in steps)
        print(f"{name}: {mine[0][name]} and {peers[0][name]}; apart, as parts of them: {said}")
        close = close and all(apart <= CLOSE for apart in steps)
    return close


def conclude(found: dict[str, list[dict[str, Any]]], tokens: int) -> int:
    """Medians of each part, and of the pairs' ratios."""
    mine, peers = found["doitune"], found["trl"]
    for name in mine[0]["parts"]:
        print(f"  {name:32}{statistics.median(one['parts'][name] for one in mine):8.2f} s of CPU")
    outside = [one["cpu"] - one["steps"][1] for one in mine]
    missed = ["seconds outside the steps"] * (statistics.median(outside) > TARGET_SECONDS)
    print(f"outside the steps: median {statistics.median(outside):.1f} s of CPU")
    if peers:
        for name, ratios in {
            "outside the steps, doitune / trl (CPU)": [
                a / (one["cpu"] - one["steps"][1]) for a, one in zip(outside, peers)
            ],
            "tokens a second of the steps, doitune / trl (CPU)": [
                other["steps"][1] / one["steps"][1] for one, other in zip(mine, peers)
            ],
            "peak, doitune / trl": [one["peak"] / other["peak"] for one, other in zip(mine, peers)],
        }.items():
            print(
                f"{name}: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"
            )
            missed += ["tokens a second"] * (name.startswith("tokens") and statistics.median(ratios) < 1)
        missed += ["the same steps"] * (not are_close(mine, peers))
    print(f"TARGET MISSED: {', '.join(missed)}" if missed else "target met")
    return int(bool(missed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="the folder of SmolLM2-135M")
    parser.add_argument("--answers", choices=("short", "long"), default="short")
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--peer", choices=("padded", "packed"), default="padded")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=130, help="median of a row")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child == "prepare":
        prepare(chosen.root)
    elif chosen.child == "doitune":
        ours(chosen.root)
    elif chosen.child == "trl":
        theirs(chosen.root, chosen)
    else:
        sys.exit(main(chosen))
