"""`doitune eval` on CMMLU beside lm-eval, whole processes in alternated pairs: CPU and wall seconds, and what each
says of every question.
    python tests/bench/bench_eval.py MODEL_FOLDER [--peer-python PYTHON] [--subjects 4] [--limit 60] [--shots 0]
        [--pairs 3] [--quantise nf4|none]

MODEL_FOLDER: SmolLM2-135M, as the project's script makes it. PYTHON: one with lm-eval (0.4.13); without it doitune
runs alone. Both ask the same prompts (`--limit` of each of the first `--subjects`, under the base's own chat template), in
fp32, of the same values: NF4 as bitsandbytes makes it, or the base's own. lm-eval has them as one task in a local
file, and batches of 8; on a CPU with AVX512-BF16 bitsandbytes would compute its NF4 in bf16, which is turned off
(`--peer-dtype bfloat16` leaves it). Needs `../shared/data`. Both load and import for about 15 s, and doitune proves its
batches: of few questions that is much.
Target, at `--limit 60` or more: 0-shot at least twice as fast (median of CPU seconds), the same letters, scores 1e-3
apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
from bench_around_steps import measured

DATA = Path(__file__).parents[3] / "shared" / "data" / "cmmlu"
LETTERS = "ABCD"
TARGET, CLOSE = 2.0, 1e-3
TASK = {
    "task": "questions",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": list(LETTERS),
    "doc_to_target": "{{label}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def prepare(root: Path, given: argparse.Namespace) -> None:
    """The chosen subjects' files, and the prompts that `doitune eval` asks, as a task of lm-eval."""
    from doitune.backends.tokenizer import tokenizer_template
    from doitune.base.find import find_base
    from doitune.evals.prompts import prepare as prepared
    from doitune.evals.suites import cmmlu
    from doitune.recipe.resolve import resolve

    for half in ("test", "dev"):
        (root / "cmmlu" / half).mkdir(parents=True)
        for path in sorted((DATA / half).glob("*.csv"))[: given.subjects]:
            shutil.copy(path, root / "cmmlu" / half)
    template = tokenizer_template(find_base(given.model), resolve("own", model=given.model).recipe.prompt)
    prompts = prepared(cmmlu.task(root / "cmmlu", given.shots).limited(given.limit).items, template, 8192)
    with (root / "questions.jsonl").open("w", encoding="utf-8") as stream:
        for prompt in prompts:
            text = template.tokenizer.decode(prompt.ids)
            assert tuple(template.tokenizer(text).input_ids) == prompt.ids
            row = {"id": prompt.item.id, "prompt": text, "label": LETTERS.index(prompt.item.label)}
            stream.write(json.dumps(row) + "\n")
    files = {"data_files": {"test": str(root / "questions.jsonl")}}
    (root / "task.yaml").write_text(json.dumps({**TASK, "dataset_kwargs": files}))


def theirs(root: Path, given: argparse.Namespace) -> None:
    """lm-eval's own evaluation; leaves each question's scores in `peer.json`."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    held = {"quantization_config": nf4} if given.quantise == "nf4" else {}
    base = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, **held).eval()
    for module in base.modules() if given.peer_dtype == "float32" else ():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    asks = HFLM(pretrained=base, tokenizer=given.model, batch_size=8)
    manager = TaskManager(include_path=str(root), include_defaults=False)
    found = simple_evaluate(asks, tasks=["questions"], task_manager=manager, log_samples=True)
    samples = found["samples"]["questions"]
    said = {one["doc"]["id"]: [score for score, _ in one["filtered_resps"]] for one in samples}
    (root / "peer.json").write_text(json.dumps(said))


def ours(root: Path, given: argparse.Namespace) -> list[str]:
    """The command, with no evaluation there to go on from."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    words = [
        "eval",
        given.model,
        "--suite",
        "cmmlu",
        "--shots",
        f"{given.shots}",
        "--limit",
        f"{given.limit}",
    ]
    more = ["--quantise", given.quantise, "--data", f"cmmlu={root / 'cmmlu'}", "--runs", str(root / "runs")]
    return [sys.executable, "-m", "doitune", *words, *more]


def compared(root: Path) -> tuple[int, int, float]:
    """Questions; likeliest letters that differ; how far scores, each less its question's first, are apart."""
    wanted = json.loads((root / "peer.json").read_text())
    lines = next((root / "runs").rglob("outcomes.jsonl")).read_text(encoding="utf-8").splitlines()
    said = {line["id"]: line["reply"]["option_scores"] for line in map(json.loads, lines)}
    assert said and set(said) == set(wanted)
    pairs = [(said[name], wanted[name]) for name in said]
    differ = sum(one.index(max(one)) != two.index(max(two)) for one, two in pairs)
    return (
        len(pairs),
        differ,
        max(abs((a - one[0]) - (b - two[0])) for one, two in pairs for a, b in zip(one, two)),
    )


def main(given: argparse.Namespace) -> int:
    """Run the pairs and print each; 1 where a target is missed."""
    ratios: dict[str, list[float]] = {"cpu": [], "wall": []}
    good = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        child = [__file__, *sys.argv[1:], "--root", folder, "--child"]
        measured([sys.executable, *child, "prepare"], root)
        commands = {"doitune": ours(root, given), "lm-eval": [given.peer_python, *child, "lm-eval"]}
        for pair in range(given.pairs):
            took = {}
            for name in sorted(commands, reverse=bool(pair % 2)) if given.peer_python else ["doitune"]:
                took[name] = one = measured(ours(root, given) if name == "doitune" else commands[name], root)
                print(
                    f"{name:8}{one['cpu']:7.1f} s CPU, {one['wall']:6.1f} s wall, peak {one['peak']:,.0f} MiB; "
                    f"load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
            if given.peer_python:
                questions, differ, apart = compared(root)
                print(f"{questions} questions: other letters {differ}; scores at most {apart:.1e} apart")
                good = good and not differ and apart <= CLOSE
                for kind, found in ratios.items():
                    found.append(took["lm-eval"][kind] / took["doitune"][kind])
    if given.peer_python:
        for kind, found in ratios.items():
            print(
                f"{statistics.median(found):.2f} times as fast as lm-eval ({kind}; {min(found):.2f} to {max(found):.2f})"
            )
        good = good and (given.shots > 0 or statistics.median(ratios["cpu"]) >= TARGET)
    print("target met" if good else "TARGET MISSED")
    return int(not good)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="the folder of SmolLM2-135M")
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quantise", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not here: there are no real questions")
    if chosen.child == "prepare":
        prepare(chosen.root, chosen)
    elif chosen.child == "lm-eval":
        theirs(chosen.root, chosen)
    else:
        sys.exit(main(chosen))
