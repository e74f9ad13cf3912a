"""The options of a letter question as tokens, and their scores.

Most vocabularies have one token for each letter, whose logit after the question is its score. Where they
write a letter as several tokens (`▁`, `A`), the first ones are often the same for all, so that only the whole
tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doitune.prompt.batch import pad
from doitune.prompt.encode import option_ids
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.template import Template

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel, Prefix
    from doitune.evals.task import Item

Sequences = tuple[tuple[int, ...], ...]
"""The tokens of each option, its end token left out."""


def bare_ids(letters: Sequence[str], template: Template) -> tuple[int, ...]:
    """The tokens that the vocabulary spells just like the letters, which the released code scores; empty
    where it has none of its own each.

    Source: DoIT evaluate/{cmmlu,agieval}/run_prediction_llama.py scores `A`, although an answer starts with
    another token, `▁A`.
    """
    tokenizer = template.tokenizer
    numbers = [tokenizer.convert_tokens_to_ids(letter) for letter in letters]  # `<unk>`'s of others
    own = [number is not None and tokenizer.convert_ids_to_tokens(number) for number in numbers]
    return tuple(numbers) if own == [*letters] and len(set(numbers)) == len(letters) else ()


def scored_ids(item: Item, template: Template) -> tuple[Sequences, tuple[int, ...]]:
    """The tokens that stand for an item's options: those that `encode` gives them as an answer, and the bare
    ones. ModelError."""
    return option_ids(item.options, item.question, template), bare_ids(
        item.options, template
    ) if item.bare else ()


def one_each(options: Sequences) -> tuple[int, ...]:
    """The one token of each option; () where one of them has several."""
    return tuple(one[0] for one in options) if all(len(one) == 1 for one in options) else ()


def answer_room(options: Sequences) -> int:
    """How many tokens behind its question a prompt is run with to score these options."""
    return 0 if one_each(options) else max(map(len, options))


def sequence_scores(
    model: LoadedModel,
    template: Template,
    rows: Sequence[tuple[int, ...]],
    options: Sequences,
    prefix: Prefix | None = None,
) -> list[list[float]]:
    """Of each prompt, for each option: the sum of its tokens' log-probabilities behind it, in nats, its end
    token left out.

    `rows`: the prompts' ids, at least one each, or what follows `prefix` in them. What options have in common
    is run once: a row for each different text before a last token.
    """
    stems = list(dict.fromkeys(one[:-1] for one in options))
    last = {one[:-1]: one[-1] for one in options}
    tokens = sorted({token for one in options for token in one})
    place = {token: number for number, token in enumerate(tokens)}
    asked = [
        Encoded((*row, *stem, last[stem]), (*([IGNORED] * len(row)), *stem, last[stem]))
        for row in rows
        for stem in stems
    ]
    found = iter(model.log_probs(pad(asked, pad_id=template.pad_id), tokens, prefix).tolist())
    scores = []
    for _ in rows:
        steps = {stem: [next(found) for _ in (*stem, "last")] for stem in stems}
        scores.append(
            [
                sum(step[place[token]] for step, token in zip(steps[one[:-1]], one, strict=True))
                for one in options
            ]
        )
    return scores
