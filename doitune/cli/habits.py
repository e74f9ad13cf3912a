"""What a flag of another trainer, or a recipe's field typed as a flag, is called here.

`--lora_r 8` is answered by `--set lora.rank=8`: the table first, then the fields by name, then the nearest
field.
"""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from doitune.errors import DoituneError, UsageError

VALUE = "VALUE"
"""Stands for a value that was not typed, or that the field does not take."""


@dataclass(frozen=True)
class Habit:
    """`names` that others give to a thing (`_` for `-`), and what it is `here`: a field of a recipe, flags
    of which the first that the command has is meant, or, with `says`, neither.

    `values`: what others call its values.
    """

    here: str
    names: str
    values: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


ON_OFF = {"true": "always", "false": "never", "": "always", "unsloth": "always"}
TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "adamw8bit": "adamw_8bit",
}
OF_A_STEP = "per_device_train_batch_size", "per_device_batch_size", "micro_batch_size"
STEPS_TOGETHER = "gradient_accumulation_steps", "grad_accumulation_steps"

HABITS = (
    Habit("--model", "model_name_or_path model_name model_id model_path base_model pretrained_model"),
    Habit(
        "--corpus", "dataset dataset_name dataset_path dataset_dir data_path train_file train_data data file"
    ),
    Habit("--to", "format formats export_format outtype save_method"),
    Habit("--out --runs", "output_dir output out_dir save_dir export_dir output_path save_path"),
    Habit("--suite", "tasks task benchmark"),
    Habit("--shots", "num_fewshot n_shot fewshot"),
    Habit("--limit", "max_samples num_samples max_eval_samples"),
    Habit("data.budget.share_equally", "max_samples max_train_samples num_samples train_size"),
    Habit("lora.rank", "lora_r lora_rank lora_dim r rank"),
    Habit("lora.alpha", "lora_alpha alpha"),
    Habit("lora.dropout", "lora_dropout"),
    Habit(
        "lora.targets",
        "lora_target lora_targets lora_target_modules target_modules lora_modules",
        {"all": "all-linear", "all_linear": "all-linear"},
    ),
    Habit("train.epochs", "num_train_epochs num_epochs n_epochs epoch"),
    Habit("train.max_steps", "max_train_steps num_train_steps iters num_iterations steps"),
    Habit("train.examples_per_step", "global_batch_size train_batch_size batch_size"),
    Habit("train.examples_per_step", " ".join((*OF_A_STEP, *STEPS_TOGETHER))),
    Habit("train.learning_rate", "lr peak_lr"),
    Habit("train.schedule", "lr_scheduler_type lr_scheduler scheduler lr_schedule"),
    Habit("train.warmup_steps", "num_warmup_steps lr_warmup_steps"),
    Habit("train.optimizer", "optim optimizer", OPTIMIZERS),
    Habit("train.beta1", "adam_beta1"),
    Habit("train.beta2", "adam_beta2"),
    Habit("train.eps", "adam_epsilon adam_eps epsilon"),
    Habit("train.clip_norm", "max_grad_norm gradient_clipping grad_clip gradient_clip_val"),
    Habit(
        "train.max_tokens",
        "max_seq_length max_seq_len cutoff_len model_max_length max_length sequence_len seq_len block_size",
    ),
    Habit("train.gradient_checkpointing", "gradient_checkpointing use_gradient_checkpointing", ON_OFF),
    Habit("train.arrangement", "packing sample_packing", {"true": "packed", "false": "sorted", "": "packed"}),
    Habit("train.seed", "seed random_state random_seed"),
    Habit("data.seed", "data_seed"),
    Habit("train.validate_every", "eval_steps eval_every"),
    Habit("train.keep_checkpoints", "save_total_limit"),
    Habit("train.patience", "early_stopping_patience"),
    Habit("train.trackers", "report_to", {"none": "[]"}),
    Habit("data.holdout", "val_size val_set_size test_size validation_split"),
    Habit("model.compute_dtype", "torch_dtype dtype precision", TYPES),
    Habit("model.compute_dtype", "bf16", {"": "bf16", "true": "bf16", "false": "auto"}),
    Habit("model.compute_dtype", "fp16", {"": "fp16", "true": "fp16", "false": "auto"}),
    Habit(
        "model.quantise",
        "quantization_bit load_in_4bit bits quantization bnb_4bit_quant_type",
        {"4": "nf4", "true": "nf4", "": "nf4", "16": "none", "false": "none"},
    ),
    Habit("", "logging_steps", says="every step is logged: leave it out"),
    Habit("", "do_train do_eval stage finetuning_type use_lora qlora", says="leave it out: it is so"),
    Habit("", "warmup_ratio", says="a warm-up is counted in steps: --set train.warmup_steps=VALUE"),
    Habit("", "resume_from_checkpoint resume", says="`doitune resume RUN` goes on with a run"),
    Habit("", "save_steps", says="checkpoints go by time: --set train.checkpoint_minutes=VALUE"),
)


@dataclass(frozen=True)
class Typed:
    """An option as it was typed, and the words behind it that may be its values."""

    option: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """`--Lora-R` is lora_r."""
        return _plain(self.option)


def cured(error: Any, words: Sequence[str]) -> UsageError | None:
    """The error for an option that there is not, with what to write instead; None where `error` is another,
    or nothing is near. `words`: the command line."""
    if not hasattr(error, "possibilities") or error.ctx is None:
        return None
    command = error.ctx.command
    own = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    fields = any(one.name == "sets" for one in command.params)
    strange = [one for one in _typed(words) if one.option not in {*own, "-h", "--help", "--json"}]
    found = {
        one.option: cure for one in strange if (cure := _cure(one, strange, own, bool(error.possibilities)))
    }
    if not any(option.startswith(error.option_name) for option in found):
        return None
    set_here = [cure for cure in dict.fromkeys(found.values()) if cure.startswith("-")]
    said = [cure for cure in dict.fromkeys(found.values()) if not cure.startswith("-")]
    if set_here and not fields and any(cure.startswith("--set ") for cure in set_here):
        said.insert(0, "a recipe says it: `doitune train`, `plan` and `resume` take " + " ".join(set_here))
    elif set_here:
        said.insert(0, "write " + " ".join(set_here))
    said += _kinds(set_here)
    several = "options" if len(found) > 1 else "option"
    return UsageError(f"no such {several}: {', '.join(found)}", "; ".join(said))


def where_told(error: Any) -> str:
    """Which help tells what was to be typed; of something that is missing, what it is."""
    where = f"`{error.ctx.command_path} --help`" if getattr(error, "ctx", None) else "`doitune --help`"
    missing = error.param if type(error).__name__ == "MissingParameter" else None
    told = getattr(missing, "help", None)
    return f"{told[0].lower()}{told[1:].rstrip('.')} ({where} tells all)" if told else where


def _kinds(settings: Sequence[str]) -> list[str]:
    """What VALUE may be in settings."""
    from doitune.recipe.field_help import field_help

    kinds = {f"--set {one.name}={VALUE}": f"{one.name} takes {one.kind}" for one in field_help()}
    return [kinds[one] for one in settings if one in kinds]


def _typed(words: Sequence[str]) -> list[Typed]:
    """Every option of a command line; `--a=b` and `--a b` are one."""
    found = []
    for place, word in enumerate(words):
        if not word.startswith("-") or not word.lstrip("-")[:1].isalpha():
            continue
        option, equals, value = word.partition("=")
        behind = [value] if equals else []
        for other in () if equals else words[place + 1 :]:
            if other.startswith("-") and other.lstrip("-")[:1].isalpha():
                break
            behind.append(other)
        found.append(Typed(option, tuple(behind)))
    return found


def _cure(typed: Typed, all_typed: Sequence[Typed], own: set[str], near_flag: bool) -> str:
    """What to write for an option: `--set field=value`, a flag, or a sentence; empty: nothing is near."""
    if typed.option == "--corpus" and own & {"corpus", "source"}:  # their corpora are no option
        return f"name it without --corpus: {shlex.quote(typed.values[0] if typed.values else VALUE)}"
    if typed.option == "--set":
        return _flags([one.values[0] for one in all_typed if one.option == "--set" and one.values], own)
    habits = [one for one in HABITS if typed.name in one.names.split()]
    for habit in habits:
        if habit.says:
            return habit.says
        if habit.here.startswith("-"):
            flag = next((one for one in habit.here.split() if one in own), "")
            if flag:
                return f"{flag} {shlex.quote(typed.values[0] if typed.values else VALUE)}"
            continue
        if typed.name in (*OF_A_STEP, *STEPS_TOGETHER):
            return _setting(habit.here, _step(all_typed))
        return _setting(habit.here, _value(habit.here, typed, habit.values))
    named = fields_called(typed.name, near=not near_flag)
    return " or ".join(_setting(one, _value(one, typed, {})) for one in named)


def _flags(settings: Sequence[str], own: set[str]) -> str:
    """The flags of a command without --set that say what settings say of the rows; empty: one has none."""
    pairs = [one.partition("=") for one in settings]
    found = [
        (f"--{name.removeprefix('data.').replace('_', '-')}", shlex.quote(value)) for name, _, value in pairs
    ]
    return " ".join(f"{flag} {value}" for flag, value in found) if {flag for flag, _ in found} <= own else ""


def _step(all_typed: Sequence[Typed]) -> str:
    """Examples of a step: those of a micro-batch times the micro-batches; VALUE where those are not said."""
    numbers = {one.name: one.values[0] for one in all_typed if one.values and one.values[0].isdecimal()}
    if not any(name in numbers for name in OF_A_STEP):
        return VALUE
    return str(math.prod(int(numbers.get(name, "1")) for name in (*OF_A_STEP, *STEPS_TOGETHER)))


def _setting(name: str, value: str) -> str:
    return f"--set {shlex.quote(f'{name}={value}')}"


def fields_called(name: str, *, near: bool) -> list[str]:
    """Fields of a recipe with this plain name, whole or its last part; else, if `near`, the nearest one."""
    from doitune.recipe.field_help import field_help

    fields = [one.name for one in field_help() if ".NAME." not in one.name]
    names: dict[str, list[str]] = {}
    for one in fields:
        for called in dict.fromkeys((_plain(one), _plain(one.rpartition(".")[2]))):
            names.setdefault(called, []).append(one)
    if name in names or not near:
        return names.get(name, [])
    close = difflib.get_close_matches(name, names, 1, 0.75)
    return names[close[0]] if close else []


def _value(name: str, typed: Typed, values: Mapping[str, str]) -> str:
    """The typed value as the field takes it; VALUE where it takes no such value."""
    first = typed.values[0] if typed.values else ""
    text = values.get(first.lower(), first)
    if text != first or not text:
        return text or VALUE
    listed = f"[{', '.join(part for word in typed.values for part in word.split(',') if part)}]"
    for one in (text, text.removesuffix(".0"), listed):
        if _taken(name, one):
            return one
    return values.get("", VALUE)


def _taken(name: str, value: str) -> bool:
    """Whether a recipe may say it."""
    from doitune.recipe.resolve import resolve

    budget = [] if name.startswith("data.budget.") else ["data.budget={math: 1}"]
    try:
        resolve("_base", model="demo", corpus="demo", overrides=[*budget, f"{name}={value}"])
    except DoituneError:
        return False
    return True


def _plain(name: str) -> str:
    return name.lstrip("-").lower().replace("-", "_").replace(".", "_")
