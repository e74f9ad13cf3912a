"""Laws of the comparison: every topic for every recipe, and a third column that follows the recipe."""

import pytest

from doitune.recipe.explain import explain
from doitune.recipe.files import list_recipes
from doitune.recipe.resolve import resolve

TOPICS = [
    "data",
    "selection",
    "epochs",
    "learning rate",
    "schedule",
    "optimiser",
    "batch",
    "template",
    "method",
    "length",
    "checkpoint",
    "averaging",
]


def row(topic, name="reconstruct", **options):
    return next(one for one in explain(resolve(name, **options)) if one.topic == topic)


def test_every_topic_of_every_recipe():
    names = [card.name for card in list_recipes()]
    assert len(names) == 21
    for name in names:
        rows = explain(resolve(name))
        assert [one.topic for one in rows] == TOPICS
        assert all(one.paper and one.code and one.here and one.why for one in rows)


CHANGES = {
    "data": ["data.budget.math=17", "data.source=curated/1000", "data.on_shortfall=take_all"],
    "selection": ["data.select=paper", "data.seed=3"],
    "epochs": ["train.epochs=7", "train.max_steps=9"],
    "learning rate": ["train.learning_rate=3e-5", "train.end_rate=0", "train.schedule=constant"],
    "schedule": ["train.schedule=cosine", "train.warmup_steps=3"],
    "optimiser": [
        "train.beta1=0.8",
        "train.beta2=0.999",
        "train.weight_decay=0",
        "train.clip_norm=0",
        "train.eps=1e-6",
        "train.optimizer=adamw",
    ],
    "batch": ["train.examples_per_step=16"],
    "template": ["prompt.template=model", "prompt.tokens=new", "prompt.user_token=<x>"],
    "method": [
        "lora.rank=8",
        "lora.alpha=5",
        "model.quantise=none",
        "model.name=a/b",
        "lora.targets=[q_proj]",
    ],
    "length": ["train.max_tokens=512", "data.on_overlong=drop"],
    "checkpoint": [
        "train.select_after_epoch=0",
        "train.validation_rows_per_ability=0",
        "train.patience=2",
        "train.validate_every=5",
    ],
    "averaging": ["eval.suite=[cmmlu]"],
}


@pytest.mark.parametrize("topic", TOPICS)
def test_here_follows_the_recipe(topic):
    before = row(topic)
    assert len(CHANGES) == len(TOPICS)
    for change in CHANGES[topic]:
        after = row(
            topic,
            overrides=["train.end_rate=1e-6", change]
            if change.startswith("train.learning_rate")
            else [change],
        )
        assert after.here != before.here, change
        assert (after.paper, after.code) == (before.paper, before.code)


@pytest.mark.parametrize(("topic", "change"), [
    ("epochs", "train.epochs=7"), ("epochs", "train.max_steps=9"), ("learning rate", "train.learning_rate=1e-3"),
    ("schedule", "train.schedule=cosine"), ("schedule", "train.warmup_steps=3"), ("optimiser", "train.beta2=0.9"),
    ("batch", "train.examples_per_step=16"), ("template", "prompt.template=model"), ("length", "train.max_tokens=512"),
    ("checkpoint", "train.patience=2"),
])  # fmt: skip
def test_a_departure_names_who_made_it(topic, change):
    assert f"--set {change}" in row(topic, overrides=[change]).why


def test_the_papers_numbers_are_told():
    assert row("epochs", "curated-40").here == "20" and "intent" in row("epochs", "curated-40").why
    assert row("epochs", "curated-640").why == "the paper's number"
    assert row("data", "curated-160").paper == "16 of each of ten abilities, 160 in all"
    assert row("data", "baseline").paper == "1,000 of each of ten abilities, 10,000 in all"
    assert "an equal share and 1 more" in row("data").here and "1,306" in row("data").code
    assert row("data", "demo").why == "no setting of the paper"
    assert "departure" in row("data", overrides=["data.budget.math=1"]).why
    assert (
        row("learning rate", overrides=["train.learning_rate=1e-5", "train.end_rate=1e-6"]).why
        == "as in the paper"
    )
    assert "33b" in row("learning rate", model="33b").why
    assert row("template", overrides=["prompt.tokens=new"]).why == "as in the paper"
