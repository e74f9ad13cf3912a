"""From a resolved recipe to all that a run learns from: chosen examples, their encodings, validation rows,
and where each byte came from.

Everything that can be refused without the weights is refused here, before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING

from doitune.backends.tokenizer import recipe_template
from doitune.data.declared import as_declared
from doitune.data.keys import name_unread
from doitune.data.leaks import Leak
from doitune.data.rows import Rows, id_bytes
from doitune.errors import DataError
from doitune.prepare.account import count_rows, rates
from doitune.prepare.draw import (
    count_by_ability,
    data_sha256,
    draw,
    judged_leaks,
    judged_sha256,
    refuse_leaks,
    say_everything,
    say_forms,
    say_kept_out,
    validation_rows,
)
from doitune.prepare.encoding import encode_rows
from doitune.prepare.kept import Kept, Sources, find, keep
from doitune.prepare.row_lengths import beyond_training, fit, fit_validation, row_limit
from doitune.prepare.schedule import Course
from doitune.prompt.encode import option_ids
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import EncodedRows
from doitune.prompt.speech import say_spoken
from doitune.prompt.template import Template
from doitune.recipe.budget import Ledger
from doitune.system.doing import doing
from doitune.system.scratch import cache_folder

if TYPE_CHECKING:
    from doitune.base.context import Context
    from doitune.data.example import Example
    from doitune.data.message import Message
    from doitune.recipe.fields import Recipe


@dataclass(frozen=True)
class Material:
    """All that a run learns from and is validated on. `encoded` goes with `examples`, `valid_encoded` with
    `valid`, place by place. `course`: which of them each step learns from. `notes`: what a reader must know
    of the rows though they can be learnt from. `kept_out`: ids of own rows kept out of training, those to
    validate on (`valid`) and those to be judged by (`test`). `data_sha256`, `judged_sha256`: of the
    files that are learnt from, and of those with rows that the run is judged on."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]
    ledger: Ledger
    valid: Mapping[str, tuple[Example, ...]]
    valid_encoded: Mapping[str, tuple[Encoded, ...]]
    template: Template
    data_sha256: Mapping[str, str]
    course: Course
    leaks: tuple[Leak, ...] = ()
    notes: tuple[str, ...] = ()
    kept_out: Mapping[str, list[str]] = field(default_factory=dict)
    judged_sha256: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def row_lengths(model: str) -> tuple[Callable[[Sequence[Example]], list[int]], tuple[str, ...]]:
    """A function that counts the tokens of rows under a model's tokenizer, and the texts of its role and
    control tokens."""
    from doitune.recipe.resolve import resolve

    template = recipe_template(resolve("baseline", model=model).recipe)
    control = template.tokenizer.convert_ids_to_tokens(
        sorted(token for token in template.control_ids if token < len(template.tokenizer))
    )

    def lengths(examples: Sequence[Example]) -> list[int]:
        counts = template.text_ids(
            [message.said.strip() + message.tools for example in examples for message in example.messages]
        )
        taken = iter(counts)
        return [sum(len(next(taken)) + 2 for _ in example.messages) for example in examples]

    return lengths, tuple(str(token) for token in control)


def prepare(
    recipe: Recipe,
    template: Template,
    judged: Mapping[str, Sequence[Example]] | None = None,
    context: Context | None = None,
) -> Material:
    """Choose, encode and prove, or take what was prepared before of the same (`kept`); `judged`: further
    rows, by suite, that the run will be judged on. `context`: what the base can read.

    Errors: DataError (rows, budget, length), ModelError (a template that breaks the law), RecipeError (a
    warm-up that never ends).
    """
    sources = Sources(recipe, template, judged or {}, context)
    name, reads_clock = sources.name(), template.reads_clock
    if name and (found := find(name)):
        return _as_material(found, recipe, template)
    made = _prepared(recipe, template, judged or {}, context)
    same = template.reads_clock == reads_clock  # else the moment is not in the name
    if name and same and sources.name() == name and (why_not := keep(name, _as_kept(made))):
        return replace(made, notes=(*made.notes, why_not))
    return made


def _as_kept(made: Material) -> Kept | None:
    """What of it is kept."""
    if not isinstance(made.examples, Rows) or not isinstance(made.encoded, EncodedRows):
        return None
    document = {
        "ledger": made.ledger.to_json(),
        "leaks": [astuple(one) for one in made.leaks],
        **{name: getattr(made, name) for name in ("data_sha256", "notes", "kept_out", "judged_sha256")},
    }
    return Kept(made.examples, made.encoded, made.valid, made.valid_encoded, document)


def _as_material(found: Kept, recipe: Recipe, template: Template) -> Material:
    """The material that was kept."""
    known = found.document
    course = Course(id_bytes(found.examples), recipe.train)
    rates(recipe.train, course.total_steps)
    return Material(
        found.examples,
        found.encoded,
        Ledger.from_json(known["ledger"]),
        {name: tuple(rows) for name, rows in found.valid.items()},
        {name: tuple(rows) for name, rows in found.valid_encoded.items()},
        template,
        known["data_sha256"],
        course,
        tuple(Leak(*one) for one in known["leaks"]),
        (
            *known["notes"],
            f"{len(found.examples):,} rows are taken from the cache: {cache_folder() / 'rows'}",
        ),
        known["kept_out"],
        known["judged_sha256"],
    )


def _prepared(
    recipe: Recipe, template: Template, judged: Mapping[str, Sequence[Example]], context: Context | None
) -> Material:
    """See `prepare`."""
    chosen, corpus = draw(recipe)
    if not chosen.examples:
        raise DataError("the budget chooses no example", "raise data.budget")
    leaks = judged_leaks(chosen.examples, corpus, judged)
    if leaks and not recipe.data.allow_leaks:
        refuse_leaks(leaks)
    slow: list[str] = []
    encoded = encode_rows(chosen.examples, template, slow)
    limit = row_limit(recipe.train.max_tokens, context)
    drops = recipe.data.on_overlong == "drop"
    examples, encoded, overlong = fit(chosen.examples, encoded, limit, drops=drops)
    if not examples:
        raise DataError("no example is left to learn from", "raise train.max_tokens")
    ledger = chosen.ledger.with_trained(count_by_ability(examples), count_by_ability(overlong))
    count_rows(ledger, encoded)
    course = Course(id_bytes(examples), recipe.train)
    rates(recipe.train, course.total_steps)
    validated = validation_rows(corpus, recipe.train.validation_rows_per_ability, recipe.data.seed)
    valid = as_declared(validated, recipe.declared_forms)
    _refuse_same_letters(valid, template)
    valid_encoded = {name: tuple(encode_rows(rows, template)) for name, rows in valid.items()}
    if limit.of_base:
        valid, valid_encoded = fit_validation(valid, valid_encoded, limit, drops=drops)
    return Material(
        examples,
        encoded,
        ledger,
        valid,
        valid_encoded,
        template,
        data_sha256(recipe.data, corpus),
        course,
        tuple(leaks),
        (
            *say_forms(corpus),
            *say_everything(recipe.data, ledger),
            *say_kept_out(corpus),
            *_say_read(examples, template),
            *slow,
            *beyond_training(encoded, context),
        ),
        corpus.parted.ids(),
        judged_sha256(corpus),
    )


def _say_read(examples: Sequence[Example], template: Template) -> tuple[str, ...]:
    """What rows say otherwise than they are written, and what of them is not read: each is looked at once."""
    unread: list[tuple[str, Sequence[str]]] = []

    def passing() -> Iterator[Sequence[Message]]:
        for example in examples:
            if example.unread:
                unread.append((example.place, example.unread))
            yield example.messages

    doing(f"looking at what {len(examples):,} rows hold beside their text")
    said = say_spoken(passing(), template.manner)
    return (*said, *name_unread(unread))


def _refuse_same_letters(valid: Mapping[str, Sequence[Example]], template: Template) -> None:
    """ModelError where the options of a validation question cannot be told apart by their tokens: now, and
    not after the first epoch."""
    choices = [example for rows in valid.values() for example in rows if example.form == "single_choice"]
    for options, question in {example.options: example.question for example in choices}.items():
        option_ids(options, question, template)
