"""A row of each ability as the model sees it: its tokens as text, which of them are trained, and the role
tokens by name.

Pieces are tokens as they decode in their place. Where a character is split over several tokens they make one
piece, and the texts of a run without control tokens always join to what the whole run decodes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from doitune.errors import UsageError
from doitune.prepare.draw import draw
from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.speech import say_spoken
from doitune.prompt.template import NEW_TOKENS, Template

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.recipe.resolve import Resolved


@dataclass(frozen=True)
class Piece:
    """One token, or the tokens that a character is split over.

    `text` is what they decode to; of a control token its name in the vocabulary. `control` is "" for text,
    otherwise the token's duty: `user`, `assistant`, `end`, or `control` for one that the base's own template
    puts there.
    """

    text: str
    ids: tuple[int, ...]
    trained: bool
    control: str = ""


@dataclass(frozen=True)
class Row:
    """One example in pieces. `tokens` and `trained` count tokens; `overlong`: more tokens than the
    recipe's train.max_tokens."""

    ability: str
    id: str
    place: str
    pieces: tuple[Piece, ...]
    tokens: int
    trained: int
    overlong: bool


@dataclass(frozen=True)
class Preview:
    """Rows in pieces. `notes`: what the recipe's rows say otherwise than they are written."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def preview(resolved: Resolved, template: Template, *, abilities: Sequence[str] | None = None) -> Preview:
    """The first row that the recipe draws of each ability, or of each of `abilities`, in the order of the
    ledger.

    Errors: UsageError where `abilities` names one that the recipe draws nothing of; those of drawing and
    encoding.
    """
    chosen, _ = draw(resolved.recipe)
    first: dict[str, Example] = {}
    for example in chosen.examples:
        first.setdefault(example.ability, example)
    for name in abilities or ():
        if name not in first:
            raise UsageError(
                f"recipe {resolved.name} draws no row of `{name}`",
                f"it draws {', '.join(first) or 'nothing'}",
            )
    examples = [example for name, example in first.items() if abilities is None or name in abilities]
    encoded = encode_all(
        [example.messages for example in examples], template, [example.place for example in examples]
    )
    limit = resolved.recipe.train.max_tokens
    return Preview(
        tuple(_row(example, one, template, limit) for example, one in zip(examples, encoded, strict=True)),
        say_spoken((example.messages for example in chosen.examples), template.manner),
    )


def _row(example: Example, encoded: Encoded, template: Template, max_tokens: int) -> Row:
    """The row in pieces."""
    pieces = tuple(cut(encoded, template))
    return Row(
        example.ability,
        example.id,
        example.place,
        pieces,
        len(encoded.ids),
        encoded.trained,
        len(encoded.ids) > max_tokens,
    )


def cut(encoded: Encoded, template: Template) -> Iterator[Piece]:
    """An encoded conversation in pieces; their ids join to `encoded.ids`. A piece is trained as a whole or
    not at all."""
    before: list[int] = []  # text since the last control token: what follows decodes behind it
    marked = [(token, label != IGNORED) for token, label in zip(encoded.ids, encoded.labels, strict=True)]
    for (control, trained), run in groupby(
        marked, key=lambda mark: (mark[0] in template.control_ids, mark[1])
    ):
        ids = [token for token, _ in run]
        if control:
            before = []
            yield from (
                Piece(name_of(token, template), (token,), trained, _duty(token, template)) for token in ids
            )
        else:
            yield from (Piece(text, tuple(tokens), trained) for text, tokens in _texts(before, ids, template))
            before += ids


def name_of(token: int, template: Template) -> str:
    """A token's name in the vocabulary, or of the new row behind it."""
    if template.new_rows and 0 <= token - template.user_id < template.new_rows:
        return NEW_TOKENS[token - template.user_id]
    return str(template.tokenizer.convert_ids_to_tokens(token))


def _duty(token: int, template: Template) -> str:
    duties = {template.user_id: "user", template.assistant_id: "assistant", template.end_id: "end"}
    return duties.get(token, "control")


def _texts(before: list[int], ids: list[int], template: Template) -> Iterator[tuple[str, list[int]]]:
    """`ids`, which stand behind `before`, as texts with their tokens: each as short as it can be for the
    texts to join to the whole.

    A token is decoded behind the piece before it, because some tokenizers drop a space at the start of a
    text. A place inside of a character shows by its text (U+FFFD) not being what the whole has there.
    """
    anchor, head = _known_head(before, ids, template)
    whole = _decode([*anchor, *ids], template)[len(head) :]
    done, start = 0, 0
    for end in range(1, len(ids) + 1):
        text = _decode([*anchor, *ids[start:end]], template)
        new = text[len(head) :]
        if end < len(ids) and not (text.startswith(head) and whole.startswith(new, done)):
            continue
        new = new if end < len(ids) else whole[done:]
        yield new, ids[start:end]
        anchor, start, done = ids[start:end], end, done + len(new)
        head = _decode(anchor, template)


def _known_head(before: list[int], ids: list[int], template: Template) -> tuple[list[int], str]:
    """What stands before `ids` and its text, where the whole starts with that; else nothing."""
    head = _decode(before, template)
    return (before, head) if _decode([*before, *ids], template).startswith(head) else ([], "")


def _decode(ids: list[int], template: Template) -> str:
    """Ids without a control token, as text."""
    return (
        str(template.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if ids
        else ""
    )
