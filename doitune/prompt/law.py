"""The proof, row by row, that what is trained is what will be asked: a trained chat starts with its
question."""

from __future__ import annotations

from collections.abc import Sequence

from doitune.data.example import Message
from doitune.errors import DataError, ModelError
from doitune.prompt.encode import decode_all, encode_questions
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.encoded_rows import runs_of
from doitune.prompt.rendering import CURE
from doitune.prompt.speech import last_question, says, spoken
from doitune.prompt.template import Template

RETOKENISED_ROWS = 1000
"""Rows whose questions are encoded a second time to prove the law of a `doit` template."""


def prove_law(
    conversations: Sequence[Sequence[Message]],
    encoded: Sequence[Encoded],
    template: Template,
    places: Sequence[str],
    retokenised: int = RETOKENISED_ROWS,
) -> None:
    """Refuse rows that would teach the wrong thing: no trained token, an unlearnt end, a question that asks
    otherwise than it trained.

    On every row: the tokenizer knows its text, trained tokens exist, those of each assistant turn end with an
    end token and read back as what the assistant says, and the row does not start with two beginnings of a
    text. That `ids` starts with `encode_question` is proved by encoding questions again: all of a `model`
    template; with `doit`, which puts turns end to end, at most `retokenised` spread over all. Errors:
    DataError or ModelError with the row.
    """
    for whole, place in zip(encoded, places, strict=True):
        if not whole.trained:
            raise DataError("nothing of this row would be trained", place=place)
        if whole.labels[-1] not in template.stop_ids:
            raise ModelError("this row does not end with a trained end token", place=place)
        if len(whole.ids) > 1 and whole.ids[0] == whole.ids[1] == template.tokenizer.bos_token_id:
            raise ModelError(
                "this row starts with the token of a text's beginning twice",
                CURE,
                place=place,
            )
    _prove_known(conversations, encoded, template, places)
    every = max(1, len(encoded) // retokenised) if template.kind == "doit" else 1
    _prove_questions(conversations[::every], encoded[::every], template, places[::every])
    _prove_answers(conversations, encoded, template, places)


def _prove_known(
    conversations: Sequence[Sequence[Message]],
    encoded: Sequence[Encoded],
    template: Template,
    places: Sequence[str],
) -> None:
    """No text stands as the token for what the tokenizer does not know: its meaning would be lost."""
    for whole, messages, place in zip(encoded, conversations, places, strict=True):
        if template.unknown_id is None or template.unknown_id not in whole.ids:
            continue
        name = str(template.tokenizer.unk_token)
        characters = sorted({one for message in messages for one in message.said + message.tools})
        lost = [
            one
            for one, ids in zip(characters, template.text_ids(characters), strict=True)
            if template.unknown_id in ids
        ]
        spelled = any(name in message.said for message in messages)
        what = f"{name}, which" if spelled else f"{', '.join(map(repr, lost[:5])) or 'text'}, which"
        raise DataError(
            f"this row holds {what} the base's tokenizer reads as {name}, its one token for all text that "
            "it does not know",
            "write it otherwise or leave the row out; with a base whose tokenizer falls back to bytes no "
            "text is unknown",
            place=place,
        )


def _prove_answers(
    conversations: Sequence[Sequence[Message]],
    encoded: Sequence[Encoded],
    template: Template,
    places: Sequence[str],
) -> None:
    """What is trained is what the assistant says and the end token behind it, turn by turn."""
    runs = [_trained_runs(whole) for whole in encoded]
    texts = iter(decode_all([run[:-1] for found in runs for run in found], template))
    for found, messages, place in zip(runs, conversations, places, strict=True):
        messages = spoken(messages, template.manner)
        asked = last_question(messages)
        said = [
            (one, at < asked) for at, one in enumerate(messages) if one.role == "assistant" and one.learnt
        ]
        if len(found) != len(said) or any(run[-1] not in template.stop_ids for run in found):
            parts = f"{len(found)} trained parts, or one without an end token"
            problem = f"{len(said)} learnt assistant turns have {parts}"
            raise ModelError(problem, CURE, place=place)
        for text, (message, earlier) in zip([next(texts) for _ in found], said, strict=True):
            if not says(text, message, may_lose_thoughts=earlier):
                if message.calls:
                    raise _beside_call(text, place)
                raise _otherwise(text.strip(), message.said.strip(), template, place)


def _beside_call(trained: str, place: str) -> ModelError:
    """What to say of a call of tools that is trained otherwise than the row has it."""
    return ModelError(
        f"the base's chat template leaves something of this turn out, which calls tools: {trained[:60]!r} "
        "would be trained",
        "drop what stands beside the call: its text, or its thoughts (--set prompt.thinking=drop)",
        place=place,
    )


def _otherwise(trained: str, content: str, template: Template, place: str) -> ModelError:
    """What to say of an answer that is trained as another text: the base's chat template or its tokenizer
    changed it."""
    at = next((at for at, (one, two) in enumerate(zip(trained, content)) if one != two), len(content))
    start = max(0, min(at, len(trained), len(content)) - 20)
    parts = f"{content[start : start + 60]!r} would be trained as {trained[start : start + 60]!r}"
    alone = decode_all(template.text_ids([content]), template)[0].strip()
    if template.kind == "model" and alone == content:
        return ModelError(f"the base's chat template rewrites this answer: {parts}", CURE, place=place)
    return ModelError(
        f"the base's tokenizer does not read this answer back: {parts}",
        "write the answer without what it changes, leave the row out, or take a base whose tokenizer keeps "
        "every character",
        place=place,
    )


def _trained_runs(whole: Encoded) -> list[tuple[int, ...]]:
    """The ids of each trained part, in order."""
    return [whole.labels[start:end] for start, end in runs_of(whole)]


def _prove_questions(
    conversations: Sequence[Sequence[Message]],
    encoded: Sequence[Encoded],
    template: Template,
    places: Sequence[str],
) -> None:
    questions = encode_questions([messages[:-1] for messages in conversations], template)
    for whole, question, place in zip(encoded, questions, places, strict=True):
        if whole.ids[: len(question)] != question or len(question) != _last_run(whole):
            raise ModelError(
                "the template breaks the law that a trained chat starts with its question", place=place
            )


def _last_run(whole: Encoded) -> int:
    """Where the last trained run starts; it ends the row."""
    start = len(whole.labels)
    while start and whole.labels[start - 1] != IGNORED:
        start -= 1
    return start
