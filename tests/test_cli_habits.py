"""Flags of other trainers are answered by what doitune calls them, with the value that was typed."""

from __future__ import annotations

import re
import shlex

import pytest
from test_cli_errors import assert_clear, run

from doitune.cli.habits import HABITS, VALUE
from doitune.recipe.field_help import field_help
from doitune.recipe.resolve import resolve

ANSWERS = {
    "train demo --lora-rank 8": "write --set lora.rank=8",
    "train demo --lora_r=8": "write --set lora.rank=8",
    "plan demo --r 8": "write --set lora.rank=8",
    "train demo --max_steps 10": "write --set train.max_steps=10",
    "train demo --max-steps 10": "write --set train.max_steps=10",
    "train demo --train.max_steps 10": "write --set train.max_steps=10",
    "train demo --max-samples 100": "write --set data.budget.share_equally=100",
    "train demo --learning_rate 2e-4": "write --set train.learning_rate=2e-4",
    "train demo -lr 2e-4": "write --set train.learning_rate=2e-4",
    "train demo --lerning-rate 2e-4": "write --set train.learning_rate=2e-4",
    "train demo --num_train_epochs 3.0": "write --set train.epochs=3",
    "train demo --per_device_train_batch_size 4": "write --set train.examples_per_step=4",
    "train demo --per_device_train_batch_size 4 --gradient_accumulation_steps 16": (
        "write --set train.examples_per_step=64"
    ),
    "train demo --gradient_accumulation_steps 16": (
        "write --set train.examples_per_step=VALUE; train.examples_per_step takes a whole number"
    ),
    "train --model_name_or_path 'my model' --dataset a.jsonl --output_dir out": (
        "write --model 'my model' --corpus a.jsonl --runs out"
    ),
    "export last --output_dir x": "write --out x",
    "export last --format gguf": "write --to gguf",
    "train --data a.jsonl": "write --corpus a.jsonl",
    "train demo --steps 10": "write --set train.max_steps=10",
    "eval last --tasks cmmlu --num_fewshot 5": "write --suite cmmlu --shots 5",
    "eval last --max_samples 5": "write --limit 5",
    "eval last --max_new_tokens 5": (
        "a recipe says it: `doitune train`, `plan` and `resume` take --set eval.max_new_tokens=5"
    ),
    "train demo --lora_target q_proj v_proj": "write --set 'lora.targets=[q_proj, v_proj]'",
    "train demo --target_modules q_proj,v_proj": "write --set 'lora.targets=[q_proj, v_proj]'",
    "train demo --lora_target all": "write --set lora.targets=all-linear",
    "train demo --bf16": "write --set model.compute_dtype=bf16",
    "train --bf16 demo": "write --set model.compute_dtype=bf16",
    "train demo --gradient_checkpointing": "write --set train.gradient_checkpointing=always",
    "train demo --optim adamw_torch": "write --set train.optimizer=adamw",
    "train demo --lr_scheduler_type cosine": "write --set train.schedule=cosine",
    "train demo --lr_scheduler_type inverse_sqrt": (
        "write --set train.schedule=VALUE; train.schedule takes linear, cosine, polynomial or constant"
    ),
    "train demo --report_to wandb": "write --set 'train.trackers=[wandb]'",
    "train demo --report_to none": "write --set 'train.trackers=[]'",
    "train demo --cutoff_len 1024": "write --set train.max_tokens=1024",
    "train demo --seed 7": "write --set train.seed=7",
    "data check --corpus a.jsonl": "name it without --corpus: a.jsonl",
    "data convert a.csv b.jsonl --set data.question_column=问 --set data.answer_column=b": (
        "write --question-column '问' --answer-column b"
    ),
    "train demo --logging_steps 5": "every step is logged: leave it out",
    "resume last --max_steps": "write --set train.max_steps=VALUE; train.max_steps takes a whole number",
}


@pytest.mark.parametrize("line", ANSWERS)
def test_a_habit_is_answered(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(capsys, monkeypatch, *shlex.split(line))
    assert_clear(said, 2, "no such option")
    assert said.err.splitlines()[1].strip() == f"hint: {ANSWERS[line]}"


@pytest.mark.parametrize("line", [line for line in ANSWERS if line.startswith("train demo")])
def test_what_is_answered_is_a_recipe(line: str) -> None:
    """Trap: a `--set` that the next command refuses."""
    words = shlex.split(ANSWERS[line].partition(";")[0].removeprefix("write "))
    sets = [word for word in words if "=" in word and VALUE not in word]
    resolve("demo", overrides=sets)


def test_an_option_that_is_like_nothing_is_answered_as_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_clear(run(capsys, monkeypatch, "train", "demo", "--qwertyuiop", "1"), 2, "No such option")
    assert_clear(run(capsys, monkeypatch, "train", "demo", "--modl", "7b"), 2, "--model")
    assert_clear(run(capsys, monkeypatch, "train", "demo", "--model"), 2, "requires an argument")


def test_the_table_names_what_there_is() -> None:
    """Fields that a recipe has, flags that some command has, each habit once for a kind of place."""
    from test_cli_help import COMMANDS

    fields = {one.name for one in field_help()}
    flags = {option for command in COMMANDS.values() for one in command.params for option in one.opts}
    for habit in HABITS:
        assert habit.says or habit.here in fields or set(habit.here.split()) <= flags, habit
        assert not set(re.findall(r"--set ([\w.]+)=", habit.says)) - fields
    names = [name for habit in HABITS if not habit.here.startswith("-") for name in habit.names.split()]
    assert len(names) > 90 and len(set(names)) == len(names)
    assert not any("-" in name or name != name.lower() for name in names)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("export last", "the folder to write; a new or an empty one (`doitune export --help` tells all)"),
        (
            "advise --total 10",
            "a family of runs: its folder, or its name under --runs (`doitune advise --help`",
        ),
        ("train --nope", "`doitune train --help`"),
    ],
)
def test_what_is_missing_is_told(
    words: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: "missing option", and where to read on is the help of all commands."""
    assert_clear(run(capsys, monkeypatch, *shlex.split(words)), 2, told)
