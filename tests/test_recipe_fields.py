"""Laws of a recipe's fields: each value means what its field's type allows, and every wrong one is told
with its place."""

import importlib
import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from doitune.ability import NAMES
from doitune.errors import RecipeError
from doitune.recipe.budget import Budget, Share
from doitune.recipe.field_help import field_help
from doitune.recipe.fields import BUDGET_NAMES, BudgetSection, Recipe, TrainSection
from doitune.recipe.tree import as_tree, flatten
from doitune.recipe.typed import read_recipe
from doitune.recipe.yaml_text import read_bytes, write_tree

WHOLE = """\
model:
  name: demo
data:
  corpus: demo
  budget:
    share_equally: 10
"""


def read(text: str) -> Recipe:
    return read_recipe(read_bytes(text.encode(), "r.yaml"), "r.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def with_field(name: str, value: str) -> str:
    """WHOLE with one more field, in line 7 (or in the place of its own)."""
    section, _, field = name.rpartition(".")
    if section in ("model", "data"):
        return WHOLE.replace(f"{section}:\n", f"{section}:\n  {field}: {value}\n")
    return WHOLE + (f"{section}: {{{field}: {value}}}\n" if section else f"{name}: {value}\n")


BAD = {
    # an unknown name, with the nearest one
    ("lora.rnk", "3"): "r.yaml:7: no field `lora.rnk`; did you mean `rank`?",
    ("train.steps", "3"): "no field `train.steps`; did you mean `max_steps`?",
    (
        "lora.learning_rate",
        "1e-4",
    ): "r.yaml:7: no field `lora.learning_rate`; did you mean `train.learning_rate`?",
    ("trian", "{}"): "r.yaml:7: no field `trian`; did you mean `train`?",
    ("data.budgets", "{}"): "r.yaml:4: no field `data.budgets`; did you mean `budget`?",
    ("trust_remote_code", "true"): "r.yaml:7: no field `trust_remote_code`",
    ("model.trust_remote_code", "true"): "r.yaml:2: no field `model.trust_remote_code`",
    ("hooks", "[os.system]"): "r.yaml:7: no field `hooks`",
    ("train.callback", "os.system"): "r.yaml:7: no field `train.callback`",
    ("env", "{A: b}"): "r.yaml:7: no field `env`",
    ("train.token", "hf_x"): "r.yaml:7: no field `train.token`",
    # numbers that are not the field's
    ("lora.rank", "16.0"): "r.yaml:7: `lora.rank` is `16.0`; a whole number is wanted",
    ("lora.rank", "0x10"): "r.yaml:7: `lora.rank` is `0x10`; a whole number is wanted",
    ("lora.rank", "012"): "r.yaml:7: `lora.rank` is `012`; a whole number is wanted",
    ("lora.rank", "1_000"): "r.yaml:7: `lora.rank` is `1_000`; a whole number is wanted",
    ("lora.rank", "1:30"): "r.yaml:7: `lora.rank` is `1:30`; a whole number is wanted",
    ("lora.rank", "٣"): "r.yaml:7: `lora.rank` is `٣`; a whole number is wanted",
    ("lora.rank", "yes"): "r.yaml:7: `lora.rank` is `yes`; a whole number is wanted",
    ("lora.rank", "[16]"): "r.yaml:7: `lora.rank` is `[16]`; a whole number is wanted",
    ("lora.rank", "{a: 1}"): "r.yaml:7: `lora.rank` is a mapping; a whole number is wanted",
    ("lora.rank", "''"): "r.yaml:7: `lora.rank` is empty; a whole number is wanted",
    ("lora.rank", "9" * 5000): "a whole number is wanted",
    ("train.learning_rate", "fast"): "r.yaml:7: `train.learning_rate` is `fast`; a number is wanted",
    ("train.learning_rate", ".nan"): "r.yaml:7: `train.learning_rate` is `.nan`; a number is wanted",
    ("train.learning_rate", "inf"): "r.yaml:7: `train.learning_rate` is `inf`; a number is wanted",
    ("train.learning_rate", "1e999"): "r.yaml:7: `train.learning_rate` is `1e999`; a number is wanted",
    ("train.learning_rate", "2024-01-01"): "a number is wanted",
    ("data.allow_leaks", "yes"): "r.yaml:4: `data.allow_leaks` is `yes`; true or false is wanted",
    ("data.allow_leaks", "on"): "true or false is wanted",
    ("data.allow_leaks", "1"): "true or false is wanted",
    ("data.allow_leaks", "True"): "r.yaml:4: `data.allow_leaks` is `True`; did you mean `true`?",
    # limits
    ("lora.rank", "0"): "r.yaml:7: `lora.rank` is `0`; it must be at least 1",
    ("lora.rank", "1025"): "r.yaml:7: `lora.rank` is `1025`; it must be at most 1024",
    ("lora.dropout", "1"): "r.yaml:7: `lora.dropout` is `1`; it must be below 1",
    ("lora.alpha", "-1"): "r.yaml:7: `lora.alpha` is `-1`; it must be above 0",
    ("train.learning_rate", "0"): "it must be above 0",
    ("train.epochs", "0"): "it must be at least 1",
    ("train.clip_norm", "-1"): "it must be at least 0",
    ("train.validate_every", "0"): "r.yaml:7: `train.validate_every` is `0`; it must be at least 1",
    ("data.seed", str(2**32)): "it must be below 4294967296",
    # choices
    ("model.quantise", "nf5"): "r.yaml:2: `model.quantise` is `nf5`; did you mean `nf4`?",
    ("train.optimizer", "adam_8bit"): "did you mean `adamw_8bit`?",
    ("train.schedule", "sawtooth"): "linear, cosine, polynomial or constant is wanted",
    ("train.gradient_checkpointing", "on"): "auto, always or never is wanted",
    ("train.validate_every", "step"): "epoch or a whole number is wanted",
    ("prompt.template", "chatml"): "auto, doit or model is wanted",
    # lists
    ("eval.shots", "5"): "r.yaml:7: `eval.shots` is `5`; a list",
    ("eval.shots", "[0, x]"): "r.yaml:7: `eval.shots` is `[0, x]`",
    ("eval.shots", "[0, 0]"): "names something twice",
    ("eval.suite", "[]"): "it must not be empty",
    ("eval.suite", "[mmlu]"): "`eval.suite` is `[mmlu]`",
    ("lora.targets", "[]"): "it must not be empty",
    ("lora.targets", "[q proj]"): "must be a name of letters",
    ("train.trackers", "[wandb, wandb]"): "names something twice",
    # texts
    ("model.revision", "main"): "r.yaml:2: `model.revision` is `main`; it must be 40 hex digits",
    ("data.source", "../other"): "must be a folder inside the corpus",
    ("data.source", "/etc"): "must be a folder inside the corpus",
    ("data.source", "C:\\x"): "must be a folder inside the corpus",
    ("data.source", "a\\..\\b"): "must be a folder inside the corpus",
    ("summary", '"a\\0b"'): "holds a control character",
    ("prompt.user_token", '"a\\nb"'): "must be one line",
    # sections
    ("lora", "16"): "r.yaml:7: `lora` is `16`; it is a section with fields of its own",
    ("lora", "[rank]"): "r.yaml:7: `lora` is `[rank]`; it is a section",
    # contradictions
    (
        "train",
        "{learning_rate: 1e-5, end_rate: 1e-4}",
    ): "r.yaml:7: `train.end_rate`: end_rate 0.0001 is above learning_rate 1e-05",
    (
        "train",
        "{warmup_steps: 10, max_steps: 10}",
    ): "r.yaml:7: `train.warmup_steps`: warmup_steps 10 leaves no step",
    ("train", "{tokens_per_micro_batch: 100}"): "cannot hold one example of max_tokens 2048",
    ("train", "{patience: 2, validation_rows_per_ability: 0}"): "needs a validation score",
    ("prompt", "{user_token: a, assistant_token: a}"): "are not different",
}


@pytest.mark.parametrize(("name", "value"), BAD)
def test_each_bad_value_is_told(name, value):
    assert len(BAD) > 60
    found = problems(with_field(name, value))
    assert len(found) == 1
    assert BAD[name, value] in found[0]
    assert re.match(r"r\.yaml:\d+: ", found[0])


BAD_BUDGETS = {
    "math: -1": "r.yaml:6: `data.budget.math` is `-1`",
    "math: 1.5": "a number, all, share or share+K is wanted",
    "math: half": "a number, all, share or share+K is wanted",
    "math: share-1": "a number, all, share or share+K is wanted",
    "math: share+0": "a number, all, share or share+K is wanted",
    "math: [1]": "`data.budget.math` is `[1]`",
    "maths: 1": "r.yaml:6: no field `data.budget.maths`; did you mean `math`?",
    "ceval_physician: 1": "no field `data.budget.ceval_physician`",
    "abilities: {math: 1}": "no field `data.budget.abilities`",
    "math: share": "r.yaml:6: `data.budget.math`: `math` asks for a share of nothing",
    "math: 0": "the budget asks for no example",
    "Reasonning: 1": "did you mean `reasoning`?",
    "share_equaly: 1": "did you mean `share_equally`?",
    "客 服: 1": "no field `data.budget.客 服`",
    "{share_equally: 10, synthetic: share}": "`synthetic` is no ability and has no share",
    "{share_equally: 10, math: 8, code: 3}": "the numbers ask for 11 examples, more than share_equally 10",
    "share_equally: 0": "it must be at least 1",
}


@pytest.mark.parametrize("budget", BAD_BUDGETS)
def test_each_bad_budget_is_told(budget):
    found = problems(WHOLE.replace("share_equally: 10", budget))
    assert len(found) == 1 and BAD_BUDGETS[budget] in found[0]


@pytest.mark.parametrize("where", ["model:\n  name", "data:\n  corpus"])
def test_no_web_address(where):
    assert "is a web address" in problems(WHOLE.replace(f"{where}: demo", f"{where}: https://x.org/y"))[0]


def test_all_problems_at_once_in_the_order_of_lines():
    text = (
        WHOLE.replace("name: demo", "name: ''")
        + "lora:\n  rnk: 1\n  alpha: yes\n  dropout: 2\ntrain:\n  epochs: 0\n  seed: x\nfoo: 1\n"
    )
    found = problems(text)
    assert [line.split(":")[1] for line in found] == ["2", "8", "9", "10", "12", "13", "14"]


def test_missing_sections_and_fields():
    assert problems("lora: {rank: 8}\n") == ["r.yaml: `model` is missing", "r.yaml: `data` is missing"]
    assert problems("model: {family: x}\ndata: {budget: {math: 1}}\n") == [
        "r.yaml: `model.name` is missing",
        "r.yaml: `data.corpus` is missing",
    ]


def test_values_mean_what_the_field_means():
    text = WHOLE + (
        "summary: no\n"
        "train: {learning_rate: 2e-4, eps: 1E-8, epochs: 7, trackers: [wandb], validate_every: 50}\n"
        "lora: {alpha: 16, targets: [q_proj]}\n"
        "eval: {shots: [0, 5]}\n"
    )
    recipe = read(text)
    assert recipe.summary == "no"  # a text field: no truth value
    assert recipe.train.learning_rate == 2e-4 and isinstance(recipe.train.learning_rate, float)
    assert recipe.lora.alpha == 16.0 and isinstance(recipe.lora.alpha, float)
    assert recipe.lora.targets == ("q_proj",) and recipe.eval.shots == (0, 5)
    assert recipe.train.validate_every == 50 and recipe.train.trackers == ("wandb",)


def test_null_means_the_default():
    for written in ("", "null", "~"):
        assert read(with_field("lora.rank", written)).lora == read(WHOLE).lora
    assert read(WHOLE + "lora:\n").lora == read(WHOLE).lora
    assert read(with_field("model.family", "'null'")).model.family == "null"


def test_end_rate_is_a_tenth_unless_written():
    assert TrainSection(learning_rate=1e-3).end_rate == 1e-4
    assert TrainSection(learning_rate=1e-3, end_rate=0.0).end_rate == 0.0


def test_budget_amounts_in_the_order_of_abilities():
    text = WHOLE.replace(
        "share_equally: 10",
        "ethics: 64\n    synthetic: 5\n    chinese: share+1\n    biology: all\n    share_equally: 100\n    leftover: drop",
    )
    budget = read(text).data.budget
    assert list(budget.abilities.items()) == [
        ("biology", "all"),
        ("chinese", Share(1)),
        ("ethics", 64),
        ("synthetic", 5),
    ]
    assert budget.to_budget() == Budget(budget.abilities, 100, "drop")


def test_sections_refuse_contradictions_from_code_too():
    for make in (
        lambda: TrainSection(patience=1, validation_rows_per_ability=0),
        lambda: BudgetSection(abilities={"math": 0}),
    ):
        with pytest.raises(ValidationError):
            make()


def test_abilities_of_ones_own():
    """Any name that is like no known one; a name that is like one is asked about, unless it is declared."""
    recipe = read(WHOLE.replace("share_equally: 10", "{客服: 3, coding: all, math: 2}"))
    assert recipe.data.budget.abilities == {"math": 2, "coding": "all", "客服": 3}
    assert read(write_tree(as_tree(recipe))) == recipe
    declared = read(
        WHOLE.replace("share_equally: 10", "{maths: 3}") + "abilities: {maths: {title: Maths}, 客服: }\n"
    )
    assert declared.data.budget.abilities == {"maths": 3}
    assert {name: one.title for name, one in declared.abilities.items()} == {"maths": "Maths", "客服": ""}
    assert read(write_tree(as_tree(declared))) == declared
    assert problems(WHOLE + "abilities: {a/b: {title: x}}\n") == ["r.yaml:7: `a/b` is no name for an ability"]
    assert problems(WHOLE + "abilities: {客服: {titel: x}}\n") == [
        "r.yaml:7: no field `abilities.客服.titel`; did you mean `title`?"
    ]
    assert "`abilities.客服` is `x`" in problems(WHOLE + "abilities: {客服: x}\n")[0]
    assert "`abilities` is `x`" in problems(WHOLE + "abilities: x\n")[0]


def test_no_budget_is_everything():
    recipe = read(WHOLE.replace("  budget:\n    share_equally: 10\n", ""))
    assert recipe.data.budget.to_budget().is_everything
    assert read(write_tree(as_tree(recipe))) == recipe


def test_a_recipe_is_frozen():
    recipe = read(WHOLE)
    with pytest.raises(ValidationError):
        recipe.lora.rank = 3


def test_every_field_has_help_once():
    fields = field_help()
    names = [field.name for field in fields]
    assert len(names) > 60 and len(set(names)) == len(names)
    assert all(field.meaning and field.kind for field in fields)
    assert set(flatten(as_tree(read(WHOLE)))) <= set(names)
    assert (
        {f"data.budget.{name}" for name in (*NAMES, "synthetic", "general")}
        == {f"data.budget.{name}" for name in BUDGET_NAMES}
        <= set(names)
    )
    fixed = "model.name lora.rank lora.alpha data.corpus data.select prompt.template prompt.tokens train.examples_per_step train.epochs"
    fixed += " train.max_steps train.learning_rate train.max_tokens train.seed"
    assert set(fixed.split()) <= set(names)


def test_light():
    """Recipes are read without any heavy library."""
    heavy = "torch", "transformers", "peft", "bitsandbytes", "datasets", "typer", "rich"
    importlib.import_module("doitune.recipe.explain")
    code = f"import sys, doitune.recipe.explain; print([name for name in {heavy!r} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
