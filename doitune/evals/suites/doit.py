"""The corpus's own sets as tasks: ten abilities, and three out-of-domain sets where the corpus has them.

A choice is read off the scores of its options (one forward; `choice="write"` lets the model write, as
the released code does); true/false, cloze, multi-select, maths and free answers are written; a ranking is by
mean token loss with the end token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from doitune.ability import ABILITIES, OUT_OF_DOMAIN, Form
from doitune.errors import DataError
from doitune.evals.ask import Limits, ask
from doitune.evals.prompts import prepare, refuse_unaskable
from doitune.evals.reading.answers import judge_reply
from doitune.evals.task import Item, Task, Way
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prompt.template import Template

MAX_NEW_TOKENS: Mapping[Form, int] = MappingProxyType(
    {"single_choice": 16, "multi_choice": 16, "tf": 8, "cloze": 32, "math": 256, "open": 512}
)
"""How long a written reply may get, by form. (The released code gives every reply 1,024.)"""

FREE_TOKENS = 32
"""Tokens that a free answer may be longer than two for each character of the row's own answer."""

ORDER: tuple[str, ...] = tuple(ability.name for ability in (*ABILITIES, *OUT_OF_DOMAIN))


def item(example: Example, *, choice: Way = "letters", caps: Mapping[Form, int] = MAX_NEW_TOKENS) -> Item:
    """One example as a question. Errors: DataError for an example with nothing to be compared with."""
    if example.form == "open" and not example.label:
        raise DataError(
            "this row has no form that a scorer can read",
            "a valid or test row is a choice, a ranking or has an answer",
            place=example.place,
        )
    most, last = caps.get(example.form, 0), example.messages[-1]
    if example.form == "open":
        most = min(most, FREE_TOKENS + 2 * len(last.said))
    ways: Mapping[Form, Way] = {"ppl_rank": "rank", "single_choice": choice}
    way = ways.get(example.form, "write")
    return Item(
        id=example.id,
        set=example.ability,
        form=example.form,
        way=way,
        question=example.question,
        label=example.label,
        options=example.options,
        choices=example.choices,
        max_new_tokens=most if way == "write" else 0,
        answer=None if last.content == last.said == last.answer else last,
    )


def task(
    suite: str,
    examples: Mapping[str, Sequence[Example]],
    *,
    choice: Way = "letters",
    caps: Mapping[Form, int] | None = None,
) -> Task:
    """The task `suite` ("doit-valid", "doit-test") from examples by set name.

    Its headline is the mean over the abilities; the out-of-domain sets count in the mean over all sets
    only. `caps` overrides MAX_NEW_TOKENS for the forms that it names. Errors: DataError for an empty task, a
    repeated id, a row without a form.
    """
    known = {**MAX_NEW_TOKENS, **(caps or {})}
    names = sorted(examples, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    items = tuple(item(example, choice=choice, caps=known) for name in names for example in examples[name])
    if not items:
        raise DataError(f"{suite} has no questions", "check the corpus: `doitune data check`")
    seen: set[str] = set()
    for one in items:
        if one.id in seen:
            raise DataError(f"the id {one.id!r} stands twice in {suite}", "give the row an `idx` of its own")
        seen.add(one.id)
    outside = {ability.name for ability in OUT_OF_DOMAIN}
    return Task(suite, items, headline=tuple(name for name in names if name not in outside))


def validation_score(
    model: LoadedModel,
    template: Template,
    examples: Mapping[str, Sequence[Example]],
    *,
    limits: Limits | None = None,
    most_new_tokens: int | None = None,
    protocol: str = "fixed",
) -> dict[str, float]:
    """The score of each set in 0..1, for choosing a checkpoint while training; nothing is written.
    `most_new_tokens`: no reply gets more. Free answers are not written here: their loss says more of a
    checkpoint than their likeness, and costs a fraction; a set that has nothing else has no score.

    Switches the model to evaluation mode; the caller switches it back (`model.training(True)`).
    """
    most = math.inf if most_new_tokens is None else most_new_tokens
    examples = {name: [row for row in rows if row.form != "open"] for name, rows in examples.items()}
    if not any(examples.values()):
        return {}
    asked = task("valid", examples, caps={form: int(min(cap, most)) for form, cap in MAX_NEW_TOKENS.items()})
    limits = limits or Limits(context_tokens=model.context_tokens)
    model.training(False)
    correct: dict[str, list[float]] = {name: [] for name in asked.sets}
    prompts = prepare(asked.items, template, limits.context_tokens)
    refuse_unaskable(prompts, limits.context_tokens)
    saying = "asking validation questions"
    doing(saying, 0, len(prompts))
    for batch in ask(model, template, prompts, limits):
        for one, reply in batch:
            correct[one.set].append(float(judge_reply(one, reply, protocol).correct))
        doing(saying, sum(map(len, correct.values())), len(prompts))
    return {name: sum(found) / len(found) for name, found in correct.items()}
