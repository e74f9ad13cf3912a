"""README.md of an adapter that leaves this machine: the model card that the hub reads, and a person.

It names no file, folder or row of the user's: abilities with their counts, settings, scores, and what nobody
has checked. Its example is what `tests/test_export_adapter.py` runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune import __version__
from doitune.data.corpus import KNOWN
from doitune.errors import CheckpointError
from doitune.evals.markdown import escape
from doitune.evals.report import Mean, Report, SetScore
from doitune.recipe.budget import Ledger
from doitune.run.layout import BASE, LEDGER, ORIGIN, reports
from doitune.run.log import VALIDATION
from doitune.system.json_records import read_object

if TYPE_CHECKING:
    from pathlib import Path

    from doitune.export.source import Source
    from doitune.run.folder import Run

CARD = "README.md"

SETTINGS = (
    *("lora.rank", "lora.alpha", "lora.dropout", "lora.targets", "model.quantise", "prompt.template"),
    *("train.learning_rate", "train.schedule", "train.warmup_steps", "train.optimizer", "train.beta2"),
    *("train.weight_decay", "train.epochs", "train.max_steps", "train.examples_per_step", "train.max_tokens"),
    *("train.seed", "data.seed", "data.holdout"),
)
"""Fields of the recipe that the card shows: those that make the result, none that is a path."""

LICENCES = {
    "doit": "The DoIT data set is MIT.",
    "demo": "The demo's rows and base are doitune's: Apache-2.0.",
}
"""Of the rows that have a name."""

LOAD = """\
```python
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, {quantiser}GenerationConfig

name = {name}  # this repository, or the path of the folder
{options}model = AutoPeftModelForCausalLM.from_pretrained(
    name, {arguments}
)
tokenizer = AutoTokenizer.from_pretrained(name)
chat = [{{"role": "user", "content": "你好"}}]
asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
asked = asked.to(model.device)
how = GenerationConfig.from_pretrained(name, max_new_tokens=64)
told = model.generate(**asked, generation_config=how)[0, asked["input_ids"].shape[1]:]
print(tokenizer.decode(told, skip_special_tokens=True))
```
"""

FOUR_BITS = """\
four_bits = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.{dtype},
)
"""


@dataclass(frozen=True)
class NamedBase:
    """How others find the base: a repository and its commit where it is `on_hub`, else a folder (or what it
    was called)."""

    name: str
    revision: str
    on_hub: bool


def model_card(source: Source, base: NamedBase, called: str, otherwise: int) -> str:
    """The card of a checkpoint. `called`: the repository or folder in its example; `otherwise`: how many of
    the proved chats tokenizer.json alone cuts otherwise than training did. Errors: CheckpointError."""
    run = source.run
    parts = [
        _front_matter(base),
        f"# {_plain(called.rsplit('/', 1)[-1])}",
        f"A LoRA adapter (rank {source.recipe.lora.rank}) for {_base_text(source, base)}, trained with "
        f"doitune {__version__}: step {source.checkpoint.step} of the recipe "
        f"{_plain(run.folder.parent.name)}.",
        "## Use",
        _use(source, base, called),
        "## What it learned from",
        _data(source),
        "## How",
        _recipe(source),
        "## Scores",
        *_scores(run, source.checkpoint.folder),
        "## What was not checked",
        _unchecked(source, base, otherwise),
        "## Licences",
        _licences(source, base),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(base: NamedBase) -> str:
    """YAML whose values are JSON, which YAML reads."""
    known = {
        **({"base_model": base.name, "base_model_relation": "adapter"} if base.on_hub else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["doitune", "lora", "qlora"],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in known.items()]
    return "\n".join(["---", *lines, "---"])


def _base_text(source: Source, base: NamedBase) -> str:
    if base.on_hub:
        at = f" at commit `{base.revision}`" if base.revision else ""
        return f"[{base.name}](https://huggingface.co/{base.name}){at}"
    if source.base.name == "demo":
        return "the tiny base that doitune ships (`doitune/demo/base` in its package)"
    return f"the base {_plain(base.name.rsplit('/', 1)[-1])}"


def _plain(text: str) -> str:
    """Text as Markdown shows it; what has no markup stands as it is."""
    return text if re.fullmatch(r"[\w .,+/\-]*", text) else escape(text)


def _use(source: Source, base: NamedBase, called: str) -> str:
    """The example, and what has to be there for it."""
    compute = source.run.read_json(ORIGIN).get("compute")
    dtype = str(compute.get("dtype", "bfloat16")) if isinstance(compute, Mapping) else "bfloat16"
    quantises = source.quantised and not source.stored_in_4_bits
    arguments = (
        f'{"quantization_config=four_bits, " if quantises else ""}dtype=torch.{dtype}, device_map="auto"'
    )
    code = LOAD.format(
        quantiser="BitsAndBytesConfig, " if quantises else "",
        name=json.dumps(called, ensure_ascii=False),
        options=FOUR_BITS.format(dtype=dtype) if quantises else "",
        arguments=arguments,
    )
    held = (
        "The base is loaded in 4 bits as in training: the adapter learned to change those values."
        if source.quantised
        else "The base is loaded as in training, not quantised."
    )
    turns = (
        "the base's own chat template"
        if source.template.kind == "model"
        else "turns of their own, which this tokenizer's chat template writes (the base's does not)"
    )
    lacking = (
        ""
        if base.on_hub
        else " The base is no repository of the hub: where adapter_config.json names a folder that you lack, "
        "write yours there as `base_model_name_or_path`."
    )
    proved = (
        "this tokenizer gives a chat the ids that training gave it (compared on chats and rows of the run)"
    )
    return f"{held}{lacking} It was trained under {turns}; {proved}.\n\n{code.rstrip()}"


def _data(source: Source) -> str:
    """The ledger: rows by ability, never one of them."""
    try:
        ledger = Ledger.from_json(source.run.read_json(LEDGER))
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{LEDGER} was changed: {error}", "bring the old file back") from None
    columns, lines = ledger.table()
    corpora = [one.place for one in source.recipe.data.corpora]
    what = " ".join(f"The corpus `{name}`." for name in corpora if name in KNOWN)
    if not set(corpora) <= set(KNOWN):
        what = f"{what} Rows of its author's own, which are not here.".lstrip()
    rows = [[_plain(str(name)), *(f"{count:,}" for count in counts)] for name, *counts in lines]
    return f"{what} Rows by ability:\n\n{_table(columns, rows)}"


def _recipe(source: Source) -> str:
    """The settings that make the result."""
    rows = []
    for name in SETTINGS:
        section, _, field = name.partition(".")
        value = getattr(getattr(source.recipe, section), field)
        value = source.template.kind if name == "prompt.template" else value
        shown = f"{value:g}" if isinstance(value, float) else _plain(str(value))
        rows.append([f"`{name}`", shown])
    origin = source.run.read_json(ORIGIN)
    versions = origin.get("versions") if isinstance(origin.get("versions"), Mapping) else {}
    said = ", ".join(f"{_plain(str(name))} {_plain(str(one))}" for name, one in (versions or {}).items())
    return _table(("field", "value"), rows) + (f"\n\nVersions: {said}." if said else "")


def _scores(run: Run, checkpoint: Path) -> list[str]:
    """A table for each suite that this checkpoint was asked, its base beside it; then its validation."""
    found: dict[str, dict[str, Report]] = {}
    for path in reports(run.folder):
        if path.parent.name in (checkpoint.name, BASE):
            suite = found.setdefault(path.parent.parent.name, {})
            try:
                suite[path.parent.name] = Report.from_json(read_object(path))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    parts = [
        _suite(suite, both[checkpoint.name], both.get(BASE))
        for suite, both in found.items()
        if checkpoint.name in both
    ]
    if not parts:
        parts.append("This checkpoint was asked no suite of questions (`doitune eval`).")
    step = int(checkpoint.name.rpartition("-")[2])
    for line in [one for one in run.log.lines(VALIDATION) if one["step"] == step][-1:]:
        score = "" if line["score"] is None else f", score {100 * line['score']:.1f} %"
        parts.append(f"Validation: loss {line['loss']:.4f} nats a token{score}.")
    return parts


def _suite(name: str, own: Report, base: Report | None) -> str:
    """The sets of one suite, in %, with 95 % intervals and the chance level."""
    beside = base if base is not None and base.asked == own.asked else None
    before = {one.name: one for one in beside.sets} if beside else {}
    columns = ("set", "n", "chance %", *(("base %",) if beside else ()), "adapter %")
    rows = [
        [
            _plain(one.title),
            str(one.n),
            f"{100 * one.chance:.0f}",
            *([_cell(before[one.name])] if beside else []),
            _cell(one),
        ]
        for one in own.sets
    ]
    means = [_cell(one.mean) for one in (beside, own) if one is not None]
    rows.append(["**mean**", str(own.mean.n), f"{100 * own.mean.chance:.0f}", *means])
    partial = f" Partial: {own.n} of {own.total} questions." if own.partial else ""
    shots = f", {own.shots} shots" if own.shots else ""
    return f"### {_plain(name)}{shots}\n\n95 % intervals in brackets.{partial}\n\n{_table(columns, rows)}"


def _cell(score: SetScore | Mean) -> str:
    guessing = ", within chance" if score.within_chance else ""
    return f"{100 * score.score:.1f} [{100 * score.low:.0f}-{100 * score.high:.0f}{guessing}]"


def _unchecked(source: Source, base: NamedBase, otherwise: int) -> str:
    """What a reader might take for granted."""
    done, origin = source.run.done() or {}, source.run.read_json(ORIGIN)
    data = origin.get("data")
    leaks = data.get("leaks") if isinstance(data, Mapping) else None
    said = [
        "Safety, bias, and whether what it says is true: nobody has looked.",
        "Other ways to load the base than the example's (other bits, other number types) were not measured.",
    ]
    if source.quantised:
        said.append(
            "On CPUs with AVX512-BF16 bitsandbytes computes 4-bit layers in bf16 whatever is asked, and "
            "doitune keeps it from that: there, replies may part from those that were scored."
        )
    if otherwise:
        said.append(
            f"{otherwise} of the chats that were compared are cut otherwise by tokenizer.json than by "
            "tokenizer.model, under which it was trained."
        )
    if source.template.reads_clock:
        said.append(
            f"The chat template prints the time of its use; training always had {source.template.moment}."
        )
    if leaks:
        said.append(
            f"{leaks} rows that it learned from give away judged questions: those scores are too high."
        )
    if not done:
        said.append("The training had not ended.")
    elif isinstance(done.get("endings"), Mapping) and done["endings"].get("marked"):
        said.append("It has not learned to end its replies.")
    if not base.on_hub:
        said.append("Whether your copy of the base is the one that it was trained on.")
    return "\n".join(f"- {one}" for one in said)


def _licences(source: Source, base: NamedBase) -> str:
    author = "The rows that it learned from are their author's."
    corpora = (one.place for one in source.recipe.data.corpora)
    data = " ".join(dict.fromkeys(LICENCES.get(name, author) for name in corpora))
    where = f"see [its page](https://huggingface.co/{base.name})" if base.on_hub else "see where it came from"
    return (
        f"The base has a licence of its own, which binds what is made of it: {where}. {data} This card "
        "states no licence for the adapter: that is its author's to add."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
