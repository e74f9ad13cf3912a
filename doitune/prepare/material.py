"""From a resolved recipe to all that a run learns from: chosen examples, their encodings, validation rows, and where each byte came from.

Everything that can be refused without the weights is refused here, before a model is loaded.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast, get_args

from doitune import __version__
from doitune.backends.probe import weights_sha256
from doitune.base.find import Base, find_base
from doitune.data.corpus import Corpus, open_corpus
from doitune.data.leaks import Leak, leaks_of
from doitune.data.other_formats import Form as OwnForm
from doitune.data.other_formats import RowForm
from doitune.errors import CheckpointError, DataError, Problem, UsageError
from doitune.prepare.account import count_rows, rates, schedule_text
from doitune.prepare.schedule import Course
from doitune.prompt.batch import epoch_order
from doitune.prompt.encode import Template, encode_all, fingerprint, open_template, prove_law
from doitune.prompt.encoded import Encoded
from doitune.recipe.budget import Ledger, Pick, Shortfall, pick
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.recipe.fields import DataSection, PromptSection, Recipe
    from doitune.recipe.resolve import Resolved

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "safetensors", "numpy")
"""Libraries whose version can change a result."""

VALIDATION_SOURCE = "curated/valid"
JUDGED_SOURCES = ("curated/valid", "curated/test")
SYNTHETIC_SOURCE = "synthetic/40960"


@dataclass(frozen=True)
class Material:
    """All that a run learns from and is validated on. `encoded` goes with `examples`, `valid_encoded` with `valid`, place by place."""

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    ledger: Ledger
    valid: Mapping[str, tuple[Example, ...]]
    valid_encoded: Mapping[str, tuple[Encoded, ...]]
    template: Template
    data_sha256: Mapping[str, str]
    leaks: tuple[Leak, ...] = ()


def draw(section: DataSection) -> tuple[Pick, Corpus]:
    """The examples that a recipe's `data` section chooses, and the corpus they are from. No tokenizer is needed."""
    corpus = recipe_corpus(section)
    budget = section.budget.to_budget()
    wanted = {name for name, amount in budget.amounts.items() if amount != 0}
    rows = corpus.read(section.source) if wanted - {"synthetic"} or budget.share_equally else {}
    if "synthetic" in wanted:
        rows = {**rows, **corpus.read(SYNTHETIC_SOURCE)}
    shortfall: Shortfall = "take_all" if section.on_shortfall == "take_all" else "error"
    return pick(rows, budget, seed=section.seed, select=section.select, on_shortfall=shortfall), corpus


def recipe_corpus(section: DataSection) -> Corpus:
    """The corpus that a recipe's `data` section names, its rows read in the form that the section declares."""
    return own_corpus(section.corpus, section.rows, section.rows_ability)


def own_corpus(name_or_path: str, rows: str, ability: str) -> Corpus:
    """A corpus whose rows are in the form called `rows` (doit, messages, alpaca, sharegpt). UsageError for another form."""
    if rows == "doit":
        return open_corpus(name_or_path)
    if rows not in get_args(OwnForm):
        raise UsageError(f"no form of rows is called {rows!r}", f"doit, {', '.join(get_args(OwnForm))}")
    return open_corpus(name_or_path, RowForm(cast(OwnForm, rows), ability))


def drawn(resolved: Resolved) -> dict[str, Any]:
    """The document of `doitune data draw`: ids in the order learnt from (first epoch), and the ledger before any encoding."""
    recipe = resolved.recipe
    chosen, _ = draw(recipe.data)
    ids = [example.id for example in chosen.examples]
    ledger = chosen.ledger.with_trained(_count(chosen.examples))
    order = epoch_order(ids, recipe.train.seed, 0)
    return {"schema": "doitune.draw/1", "recipe": resolved.name, "ids": [ids[place] for place in order], "ledger": ledger.to_json()}


def row_lengths(model: str) -> tuple[Callable[[Sequence[Example]], list[int]], tuple[str, ...]]:
    """A function that counts the tokens of rows under a model's tokenizer, and the texts of its role and control tokens."""
    from doitune.recipe.resolve import resolve

    template = recipe_template(resolve("baseline", model=model).recipe)
    control = template.tokenizer.convert_ids_to_tokens(sorted(token for token in template.control_ids if token < len(template.tokenizer)))

    def lengths(examples: Sequence[Example]) -> list[int]:
        counts = template.text_ids([message.content.strip() for example in examples for message in example.messages])
        taken = iter(counts)
        return [sum(len(next(taken)) + 2 for _ in example.messages) for example in examples]

    return lengths, tuple(str(token) for token in control)


def prepare(recipe: Recipe, template: Template, judged: Mapping[str, Sequence[Example]] | None = None) -> Material:
    """Choose, encode and prove; `judged`: further rows, by suite, that the run will be judged on.

    Errors: DataError (rows, budget, length), ModelError (a template that breaks the law), RecipeError (a warm-up that never ends).
    """
    chosen, corpus = draw(recipe.data)
    if not chosen.examples:
        raise DataError("the budget chooses no example", "raise data.budget")
    leaks = judged_leaks(chosen.examples, corpus, judged or {})
    if leaks and not recipe.data.allow_leaks:
        _refuse_leaks(leaks)
    encoded = _encode(chosen.examples, template)
    examples, encoded, overlong = _fit(chosen.examples, encoded, recipe)
    if not examples:
        raise DataError("no example is left to learn from", "raise train.max_tokens")
    ledger = chosen.ledger.with_trained(_count(examples), _count(overlong))
    count_rows(ledger, encoded)
    rates(recipe.train, course_of(recipe, examples).total_steps)
    valid = validation_rows(corpus, recipe.train.validation_rows_per_ability, recipe.data.seed)
    valid_encoded = {name: tuple(_encode(rows, template)) for name, rows in valid.items()}
    return Material(tuple(examples), tuple(encoded), ledger, valid, valid_encoded, template, data_sha256(recipe.data, corpus), tuple(leaks))


def course_of(recipe: Recipe, examples: Sequence[Example]) -> Course:
    """Which of these examples each step learns from."""
    section = recipe.train
    return Course(tuple(example.id for example in examples), section.seed, section.examples_per_step, section.epochs, section.max_steps)


def tokenizer_template(base: Base, section: PromptSection) -> Template:
    """The template of a base, without its weights."""
    from doitune.backends.tokenizer import load_tokenizer

    roles = (section.user_token, section.assistant_token, section.end_token)
    rows = int(base.config.get("vocab_size", 0))
    return open_template(load_tokenizer(base.folder), kind=section.template, tokens=section.tokens, vocabulary_rows=rows, roles=roles)


def recipe_template(recipe: Recipe) -> Template:
    """The template of a recipe's base, without its weights."""
    return tokenizer_template(find_base(recipe.model.name, recipe.model.revision), recipe.prompt)


def validation_rows(corpus: Corpus, per_ability: int, seed: int) -> dict[str, tuple[Example, ...]]:
    """At most `per_ability` validation rows of each ability, nested over sizes; none where the corpus has no validation folder."""
    if not per_ability or VALIDATION_SOURCE not in corpus.sources():
        return {}
    rows = corpus.read(VALIDATION_SOURCE)
    kept = {}
    for name, examples in rows.items():
        order = sorted(examples, key=lambda example: sha256(f"{seed}\x1f{example.id}".encode()).digest())
        kept[name] = tuple(order[:per_ability])
    return kept


def judged_leaks(examples: Sequence[Example], corpus: Corpus, judged: Mapping[str, Sequence[Example]]) -> list[Leak]:
    """Chosen rows that give away a row of the corpus's validation or test sets, or of `judged`."""
    own = {source: [row for rows in corpus.read(source).values() for row in rows] for source in JUDGED_SOURCES if source in corpus.sources()}
    return leaks_of(examples, {**own, **judged})


def _refuse_leaks(leaks: Sequence[Leak]) -> None:
    problems = [
        Problem(leak.train_place, f"this row gives away {leak.other_place} ({100 * leak.coverage:.0f} % of its text)") for leak in leaks[:5]
    ]
    cure = (
        f"{len(leaks)} chosen rows leak into the sets that this run will be judged on: take them out (`doitune data check` lists all), "
        "or write data.allow_leaks: true, and every score will say so"
    )
    raise DataError.of([Problem(problems[0].place, problems[0].problem, cure), *problems[1:]])


def data_sha256(section: DataSection, corpus: Corpus) -> dict[str, str]:
    """sha256 of every corpus file that a run reads, by relative path."""
    budget = section.budget
    names = {name for name, amount in budget.abilities.items() if amount != 0}
    sources = [section.source] if names - {"synthetic"} or budget.share_equally else []
    sources += [SYNTHETIC_SOURCE] if "synthetic" in names else []
    sources += [VALIDATION_SOURCE] if VALIDATION_SOURCE in corpus.sources() else []
    return {path: digest for source in sources for path, digest in corpus.sha256(source).items()}


def versions() -> dict[str, str]:
    """Versions that can change a result: doitune, Python, and the libraries that are installed."""
    found = {"doitune": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def opening(recipe: Recipe, material: Material, model: LoadedModel) -> list[str]:
    """What a reader must know before step 1, in sentences: the rows and what of them is trained, the schedule, how the model computes."""
    steps = course_of(recipe, material.examples).total_steps
    held = "NF4" if recipe.model.quantise == "nf4" else "not quantised"
    return [
        count_rows(material.ledger, material.encoded).text,
        schedule_text(recipe.train, steps),
        f"the base is held in {held} and computes in {model.compute_dtype} on {model.device}",
    ]


def origin(recipe: Recipe, base: Base, material: Material, model: LoadedModel, backend: str) -> dict[str, Any]:
    """What origin.json holds about where a run's result comes from. `model` is as it was loaded: before any training."""
    tokenizer = material.template.tokenizer
    roles = {"user": material.template.user_id, "assistant": material.template.assistant_id, "end": material.template.end_id}
    named = {role: None if number < 0 else tokenizer.convert_ids_to_tokens(number) for role, number in roles.items()}
    record = {
        "schema": "doitune.origin/1",
        "versions": versions(),
        "platform": platform.platform(),
        "command": sys.argv,
        "backend": backend,
        "device": _device(model),
        "compute": {"dtype": model.compute_dtype, "quantise": recipe.model.quantise},
        "adapter": {"first_sha256": weights_sha256(model)},
        "rows": asdict(count_rows(material.ledger, material.encoded)),
        "rates": dict(zip(("first", "highest", "last"), rates(recipe.train, course_of(recipe, material.examples).total_steps), strict=True)),
        "base": {"name": base.name, "revision": base.revision, "files": base.sha256()},
        "data": {"corpus": recipe.data.corpus, "files": dict(material.data_sha256), "leaks": len(material.leaks)},
        "encoder": {"fingerprint": fingerprint(material.template), "roles": named, "role_ids": roles},
    }
    return dict(redacted(record))


def _device(model: LoadedModel) -> str:
    """`cpu`, or `cuda` and the card's name: other cards round otherwise."""
    import torch

    return f"cuda: {torch.cuda.get_device_name(model.device)}" if model.device.type == "cuda" else str(model.device)


def refuse_drift(before: Mapping[str, Any], now: Mapping[str, Any], run_name: str, *, allow: Collection[str] = ()) -> None:
    """CheckpointError with every difference, where the base, data, encoder, backend, device or a library is not what the run started with.

    `allow`: parts that may differ. The recipe itself is `drift`'s to compare.
    """
    problems = []
    moved = before.get("device") != now.get("device") and "device" in allow
    follows = {"compute", "adapter"} if moved else set()  # another device has its own dtype, and draws other first values
    for part in ("versions", "base", "data", "encoder", "backend", "compute", "adapter", "device"):
        if part in allow or part in follows:
            continue
        old, new = _flat(before.get(part)), _flat(now.get(part))
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key):
                problems.append(Problem(run_name, f"{part}{key}: was {old.get(key)}, is {new.get(key)}"))
    if problems:
        first = problems[0]
        cure = "bring the old one back, or start a new run from this run's recipe.yaml"
        raise CheckpointError.of([Problem(first.place, first.problem, cure), *problems[1:]])


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}.{name}").items()}
    return {prefix: value}


def _encode(examples: Sequence[Example], template: Template) -> list[Encoded]:
    conversations = [example.messages for example in examples]
    places = [example.place for example in examples]
    encoded = encode_all(conversations, template, places)
    prove_law(conversations, encoded, template, places)
    return encoded


def _count(examples: Sequence[Example]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.ability] = counts.get(example.ability, 0) + 1
    return counts


def _fit(
    examples: Sequence[Example], encoded: Sequence[Encoded], recipe: Recipe
) -> tuple[list[Example], list[Encoded], list[Example]]:
    """Kept examples, their encodings, and the overlong ones that are dropped; DataError where the recipe refuses those."""
    limit = recipe.train.max_tokens
    long = [(example, len(one.ids)) for example, one in zip(examples, encoded, strict=True) if len(one.ids) > limit]
    if long and recipe.data.on_overlong == "refuse":
        longest = max(length for _, length in long)
        problems = [Problem(example.place, f"{length} tokens, more than train.max_tokens {limit}") for example, length in long[:5]]
        first = problems[0]
        cure = (
            f"{len(long)} of {len(examples)} rows are too long (the longest has {longest}): --set train.max_tokens={longest}, "
            "or drop and count them: --set data.on_overlong=drop; an answer is never cut"
        )
        raise DataError.of([Problem(first.place, first.problem, cure), *problems[1:]])
    dropped = {example.id for example, _ in long}
    kept = [(example, one) for example, one in zip(examples, encoded, strict=True) if example.id not in dropped]
    return [example for example, _ in kept], [one for _, one in kept], [example for example, _ in long]
