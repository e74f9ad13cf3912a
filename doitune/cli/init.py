"""`doitune init`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from doitune.cli.options import CardSize, CorpusName, Json, Model, Sets, corpora, words
from doitune.errors import UsageError

if TYPE_CHECKING:
    from doitune.memory.cards import Card
    from doitune.memory.first_recipe import Answers, FirstRecipe
    from doitune.prepare.long_rows import Lengths
    from doitune.prepare.survey import Survey

T = TypeVar("T")

NO_CARD = "none"
EVERY = "all"

Target = Annotated[
    Path | None, typer.Argument(help="The recipe's file to write. Default: the corpus's name and .yaml.")
]
Abilities = Annotated[
    str | None, typer.Option("--abilities", help="Which abilities to learn, with commas. Default: all.")
]
Rows = Annotated[
    str | None, typer.Option("--rows", metavar="N|all", help="How many rows of each ability. Default: all.")
]


def init(
    recipe: Target = None,
    corpus: CorpusName = None,
    abilities: Abilities = None,
    rows: Rows = None,
    card: CardSize = None,
    model: Model = None,
    sets: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a first recipe for a file of your own: asks for the file, the abilities, how many rows of each,
    the card and the model; what a flag says is not asked.

    Where nobody can be asked (no terminal, --json) only --corpus is needed; --card none means no card.

    Example: doitune init --corpus my.jsonl --model qwen3-4b --card 24gb
    """
    from doitune.console import progress, screen
    from doitune.console.questions import anybody_there
    from doitune.memory.first_recipe import first_recipe, refuse_there, write_first
    from doitune.prepare.long_rows import lengths_of
    from doitune.recipe.resolve import resolve

    if recipe is not None:
        refuse_there(recipe, force=force)
    if corpus and corpus[1:]:
        raise UsageError(
            f"a first recipe is for one corpus, not {len(corpus)}", "add the others: data.corpus"
        )
    one = corpora(corpus)[0] if corpus else None
    typed = _Typed(one, abilities, rows, card, model, tuple(sets or ()), anybody_there() and not as_json)
    answers, found = typed.answers()
    path = recipe or Path(f"{Path(answers.corpus).resolve().stem}.yaml")
    with progress.LiveLine():
        made = first_recipe(path.stem, answers)
    write_first(path, made, found, force=force)
    with progress.LiveLine():
        lengths = lengths_of(resolve(str(path)).recipe)
    if as_json:
        screen.show_json({**_document(path, answers, found, made), **_lengths_document(lengths)})
    else:
        _show(path, made, lengths)


@dataclass(frozen=True)
class _Typed:
    """The flags as typed, None where they were not; `asks`: whether the others are asked for."""

    corpus: str | None
    abilities: str | None
    rows: str | None
    card: str | None
    model: str | None
    sets: tuple[str, ...]
    asks: bool

    def answers(self) -> tuple[Answers, Survey]:
        """The five answers, and what the file holds. Errors: UsageError, those of `look_at`."""
        from doitune.console.questions import remark
        from doitune.memory.first_recipe import Answers, in_words
        from doitune.memory.suggest import fitting, proposed

        if self.corpus is None and not self.asks:
            raise UsageError("no file is named", "give your own rows: --corpus FILE")
        corpus, found = self._answer(
            self.corpus, "Your file of rows, or a folder of them", lambda text: (text, _look(text, self.sets))
        )
        remark(in_words(found))
        every = tuple(found.abilities)
        names: tuple[str, ...] = ()
        if self.abilities is not None or len(every) > 1:
            names = self._answer(
                self.abilities,
                "Which abilities shall it learn (commas)",
                lambda text: _named(text, every),
                EVERY,
            )
        count = self._answer(self.rows, "How many rows of each, or all", _count, EVERY)
        card = self._answer(self.card, "Your card: its memory (24gb), its name, or none", _card, _card_here())
        fits = fitting("own", card)
        if self.asks and self.model is None:
            remark("known models that fit: " + ", ".join(f"{one.name} ({one.gib:.1f} GiB)" for one in fits))

        model = self._answer(
            self.model,
            "The model: a known one, OWNER/NAME on the hub, or a folder",
            _model,
            proposed(fits, card),
        )
        return Answers(corpus, model, card, names, count, self.sets), found

    def _answer(self, flag: str | None, question: str, read: Callable[[str], T], default: str = "") -> T:
        """What a flag says; else the answer to a question; else the default."""
        from doitune.console.questions import ask

        if flag is not None:
            return read(flag)
        return ask(question, read, default) if self.asks else read(default)


def _look(corpus: str, sets: tuple[str, ...]) -> Survey:
    """What a file holds; reading a large one is seen."""
    from doitune.console.progress import LiveLine
    from doitune.memory.first_recipe import look_at

    with LiveLine():
        return look_at(corpus, sets)


def _model(text: str) -> str:
    """A model's name. RecipeError for one that nothing has."""
    from doitune.memory.first_recipe import model_called
    from doitune.recipe.resolve import resolve

    resolve("own", model=model_called(text), corpus="demo")
    return text


def _named(text: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """Abilities of the file; none for all. UsageError for one that no row has."""
    names = words(text)
    if names in ((EVERY,), ()) and EVERY not in every:
        return ()
    unknown = [one for one in names if one not in every]
    if unknown:
        raise UsageError(f"no row has the ability {unknown[0]!r}", f"the rows have {', '.join(every)}")
    return names


def _count(text: str) -> int:
    """Rows of each ability; 0 for all. UsageError."""
    if text == EVERY:
        return 0
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**9):
        raise UsageError(f"{text!r} is no number of rows", f"write a number above 0, or {EVERY}")
    return int(text)


def _card(text: str) -> Card | None:
    from doitune.memory.cards import read_card

    return None if text.lower() == NO_CARD else _found_here(text) or read_card(text)


def _found_here(text: str) -> Card | None:
    """The card in this machine, if that is what the text calls."""
    from doitune.memory.cards import find_card

    here = find_card()
    return here if here is not None and here.name == text else None


def _card_here() -> str:
    from doitune.memory.cards import find_card

    here = find_card()
    return NO_CARD if here is None else here.name or f"{here.gib:g}"


def _show(path: Path, made: FirstRecipe, lengths: Lengths) -> None:
    """What was written, what it means, and what to do next."""
    import shlex

    from doitune.console.screen import say
    from doitune.memory.first_recipe import needs_in_words
    from doitune.memory.suggest import TRIAL
    from doitune.system.paths import as_argument

    learnt = ", ".join(f"{name} {count:,}" for name, count in made.learnt.items())
    kept = ", ".join(f"{name} {count:,}" for name, count in made.kept_out.items())
    say(f"wrote {path}: {made.steps:,} steps over {sum(made.learnt.values()):,} rows ({learnt})")
    if kept:
        say(f"kept out to validate on and to be judged by: {kept}")
    if made.plan is not None:
        say(f"{made.said['model.name']}: {needs_in_words(made.plan)}")
        for lever in made.plan.way_out:
            say(f"to make it fit: --set {lever.set}" if lever.set else f"to make it fit: {lever.change}")
    if made.said["model.name"] == TRIAL:
        say(f"{TRIAL} is a tiny model that shows how everything goes: name yours with --model")
    train = shlex.join(["doitune", "train", as_argument(path)])
    if lengths.too_long:
        say(f"warning: a training would refuse this: {lengths.too_long}")
        say(f"  hint: {lengths.too_long.hint}")
    elif not lengths.checked:
        say(f"not checked, as the base is not here: whether a row is too long; once it is: {train} --dry-run")
    say(f"next: {train}")


def _lengths_document(lengths: Lengths) -> dict[str, object]:
    too_long = [str(one) for one in lengths.too_long.problems] if lengths.too_long else []
    return {"lengths_checked": lengths.checked, "too_long": too_long}


def _document(path: Path, answers: Answers, found: Survey, made: FirstRecipe) -> dict[str, object]:
    return {
        "schema": "doitune.init/1",
        "recipe": str(path),
        "corpus": made.said["data.corpus"],
        "rows": found.rows,
        "forms": found.forms,
        "abilities": found.abilities,
        "characters": {"median": found.median_characters, "most": found.most_characters},
        "learnt": dict(made.learnt),
        "kept_out": dict(made.kept_out),
        "steps": made.steps,
        "model": made.said["model.name"],
        "card_gib": None if answers.card is None else answers.card.gib,
        "needs_gib": None if made.plan is None else made.plan.gib(2),
        "fits": None if made.plan is None else made.plan.fits,
    }
