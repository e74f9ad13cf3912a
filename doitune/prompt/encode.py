"""The encoder: messages -> token ids and labels. The one path for training, evaluation and chat.

`doit` gives each turn as role token, content, and the end token; contents are tokenised one by one, so that
the letter "A" is the same token as a target of training, as an option that is scored, and in a few-shot turn.
`model` renders the base model's own chat template and finds the trained part by rendering prefixes. Law:
`encode(messages).ids` starts with `encode_question(messages[:-1])`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import permutations

from doitune.data.message import Message, split_thoughts
from doitune.errors import DataError, ModelError
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.rendering import CURE
from doitune.prompt.speech import spoken
from doitune.prompt.template import PROBE_CHAT, Chat, Template, render

SAME_LETTERS = "letters cannot be asked of this base: take the tokenizer that belongs to it"

CHATS_AT_ONCE = 256
"""Conversations whose renderings are kept at a time: each takes several times its ids."""


def encode(messages: Sequence[Message], template: Template) -> Encoded:
    """One conversation, trained on its learnt assistant turns and their end tokens. See `encode_all`."""
    return encode_all([messages], template)[0]


def encode_all(
    conversations: Sequence[Sequence[Message]], template: Template, places: Sequence[str] = ()
) -> list[Encoded]:
    """Each conversation as ids and labels; contents are stripped, nothing is cut.

    `places` (`file:line`) name the rows in errors. Errors: DataError for a text that holds a control token,
    ModelError where the base's own template breaks the law of prefixes or the base has no row for a token.
    """
    named = places or [""] * len(conversations)
    conversations = [
        spoken(messages, template.manner, place) for messages, place in zip(conversations, named, strict=True)
    ]
    pieces = template.text_ids(
        [message.content.strip() for messages in conversations for message in messages]
    )
    rendered = _rendered(conversations, template, places)
    encoded, start = [], 0
    for number, messages in enumerate(conversations):
        contents = pieces[start : start + len(messages)]
        start += len(messages)
        place = named[number]
        _refuse_control(contents, messages, template, place)
        if template.kind == "model":
            encoded.append(_encode_by_prefix(messages, next(rendered), template, place))
        else:
            encoded.append(_encode_turns(contents, messages, template))
        _refuse_rowless(encoded[-1].ids, template, place)
    return encoded


def _encode_turns(
    contents: Sequence[Sequence[int]], messages: Sequence[Message], template: Template
) -> Encoded:
    """Role token, content, end token, for each turn."""
    ids: list[int] = []
    labels: list[int] = []
    for message, content in zip(messages, contents, strict=True):
        turn = [*content, template.end_id]
        ids += [template.assistant_id if message.role == "assistant" else template.user_id, *turn]
        labels += [IGNORED, *(turn if _is_trained(message) else [IGNORED] * len(turn))]
    return Encoded(tuple(ids), tuple(labels))


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.learnt


def _rendered(
    conversations: Sequence[Sequence[Message]], template: Template, places: Sequence[str]
) -> Iterator[list[list[int]]]:
    """Of each conversation: its ids, then those before and after each trained turn; some conversations
    at a time."""
    for start in range(0, len(conversations), CHATS_AT_ONCE):
        wanted: list[list[Chat]] = []
        for messages in conversations[start : start + CHATS_AT_ONCE]:
            turns = [turn for turn, message in enumerate(messages) if _is_trained(message)]
            around: list[Chat] = [
                chat for turn in turns for chat in ((messages[:turn], True), (messages[: turn + 1], False))
            ]
            wanted.append([(messages, False), *around])
        named = [place for place, chats in zip(places[start:], wanted) for _ in chats]
        found = iter(render(template, [chat for chats in wanted for chat in chats], named))
        yield from ([next(found) for _ in chats] for chats in wanted)


def _encode_by_prefix(
    messages: Sequence[Message], rendered: Sequence[list[int]], template: Template, place: str
) -> Encoded:
    """The base's own template: what an assistant turn adds to its rendered question, up to the end token,
    is trained."""
    ids, *around = rendered
    labels = [IGNORED] * len(ids)
    turns = [turn for turn, message in enumerate(messages) if _is_trained(message)]
    for number, turn in enumerate(turns):
        before, after = around[2 * number : 2 * number + 2]
        end = _end_of(after, len(before), template)
        lawful = ids[: len(before)] == before
        if lawful and ids[: len(after)] != after:
            end = _end_of_rest(ids, before, after[:end], template)
            lawful = end is not None
        if not lawful:
            raise ModelError(
                f"the base's chat template writes turn {turn + 1} differently once a later turn follows",
                f"learn the last turn of each row alone: --set prompt.learn=last; or {CURE}",
                place=place,
            )
        if end is None:
            raise ModelError("the base's chat template puts no end token behind this answer", place=place)
        labels[len(before) : end + 1] = ids[len(before) : end + 1]
    last = max((at for at, label in enumerate(labels) if label != IGNORED), default=-1)
    return Encoded(tuple(ids[: last + 1]), tuple(labels[: last + 1]))


def _end_of(ids: Sequence[int], start: int, template: Template) -> int | None:
    """The place of the first end token from `start` on."""
    return next((at for at in range(start, len(ids)) if ids[at] in template.stop_ids), None)


def _end_of_rest(
    ids: Sequence[int], before: Sequence[int], after: Sequence[int], template: Template
) -> int | None:
    """The place of the end token of an answer that is the same once another turn follows, but for its
    thoughts, which the template may take out; None where it changes more. `after`: question and answer where
    none follows, without the end token."""
    end = _end_of(ids, len(before), template)
    if end is None or list(after[: len(before)]) != before:
        return None
    rest, alone = decode_all([ids[len(before) : end], after[len(before) :]], template)
    return end if rest.strip() in (alone.strip(), split_thoughts(alone)[1].strip()) else None


def _refuse_control(
    contents: Sequence[Sequence[int]], messages: Sequence[Message], template: Template, place: str
) -> None:
    """A text that holds a role or other control token would forge a turn."""
    said = [(f"the {one.role}'s text", ids) for one, ids in zip(messages, contents, strict=True)]
    others = [(what, text) for one in messages for what, text in _other_texts(one)]
    if others:
        said += zip([what for what, _ in others], template.text_ids([text for _, text in others]))
    for what, content in said:
        forged = template.control_ids.intersection(content) - {template.unknown_id}
        if forged:
            names = template.tokenizer.convert_ids_to_tokens(sorted(forged))
            raise DataError(
                f"{what} holds the control token {', '.join(map(str, names))}",
                "take it out of the text: a model would read it as the end of a turn",
                place=place,
            )


def _other_texts(message: Message) -> Iterator[tuple[str, str]]:
    """What a turn says beside its content."""
    if message.thinking:
        yield "the assistant's thinking", message.thinking
    if message.tools:
        yield "the row's `tools`", _spelled(message.tools)
    for call in message.calls:
        yield "a call of a tool", f"{call.name} {_spelled(call.arguments)}"
    if message.name or message.call_id:
        yield "the name of a tool", f"{message.name} {message.call_id}"


def _spelled(text: str) -> str:
    """JSON text, and the texts in it without JSON's escapes, as a template may write them."""
    if "\\" not in text:
        return text
    found, left = [text], [json.loads(text)]
    while left:
        one = left.pop()
        found += [one] if isinstance(one, str) else []
        left += [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return "\n".join(found)


def _refuse_rowless(ids: Sequence[int], template: Template, place: str) -> None:
    """ModelError for a token that the base's embedding has no row for."""
    if not template.rows or max(ids) < template.rows:
        return
    token = max(ids)
    text = template.tokenizer.convert_ids_to_tokens(token)
    raise ModelError(
        f"this text holds the token {text!r}, id {token:,}; the base's embedding has {template.rows:,} rows",
        "the tokenizer has tokens that the model was never given: write the text without it, leave it out, "
        "or copy the tokenizer that belongs to the base",
        place=place,
    )


def encode_question(messages: Sequence[Message], template: Template) -> tuple[int, ...]:
    """Ids up to the place where the assistant's next text starts; the last of `messages` is a user turn."""
    return encode_questions([messages], template)[0]


def encode_questions(questions: Sequence[Sequence[Message]], template: Template) -> list[tuple[int, ...]]:
    """`encode_question` for many at once."""
    if template.kind == "model":
        questions = [spoken(messages, template.manner) for messages in questions]
        for messages in questions:
            _refuse_control(template.text_ids([m.content.strip() for m in messages]), messages, template, "")
        found = [tuple(ids) for ids in render(template, [(messages, True) for messages in questions])]
        for ids in found:
            _refuse_rowless(ids, template, "")
        return found
    return [(*whole.ids, template.assistant_id) for whole in encode_all(questions, template)]


def option_ids(
    letters: Sequence[str], question: Sequence[Message], template: Template
) -> tuple[tuple[int, ...], ...]:
    """The tokens that `encode` gives each letter as the answer to `question`, without the end token.

    ModelError where those of one letter begin with all of another's: no score could tell them apart.
    """
    start = len(encode_question(question, template))
    answers = encode_all([(*question, Message("assistant", letter)) for letter in letters], template)
    found = []
    for letter, answer in zip(letters, answers, strict=True):
        tokens = answer.ids[start:]
        end = next((at for at, token in enumerate(tokens) if token in template.stop_ids), 0)
        if not end:
            raise ModelError(f"the answer {letter!r} has no token under this tokenizer", SAME_LETTERS)
        found.append(tokens[:end])
    for (one, own), (other, its) in permutations(zip(letters, found, strict=True), 2):
        if its[: len(own)] == own:
            same = f"{one!r} and {other!r} cannot be told apart under this tokenizer"
            names = template.tokenizer.convert_ids_to_tokens
            raise ModelError(f"the options {same}: they are {names(own)} and {names(its)}", SAME_LETTERS)
    return tuple(found)


def decode(ids: Sequence[int], template: Template) -> str:
    """Text of generated ids; control tokens are left out."""
    return decode_all([ids], template)[0]


def decode_all(rows: Sequence[Sequence[int]], template: Template) -> list[str]:
    """`decode` for many at once."""
    known = [[token for token in row if token not in template.control_ids] for row in rows]
    return list(template.tokenizer.backend_tokenizer.decode_batch(known, skip_special_tokens=True))


def fingerprint(template: Template) -> str:
    """sha256 of the ids and labels of a fixed chat: two encoders with the same fingerprint ask as the
    other trained."""
    whole = encode(PROBE_CHAT[:2] if template.kind == "model" else PROBE_CHAT, template)
    record = [template.kind, template.stop_ids, whole.ids, whole.labels]
    if template.cut and template.cut.mark:  # so runs under the fast tokenizer's cuts had another encoder
        record.append(template.cut.mark)
    if template.thinking != "auto":
        record.append(template.thinking)
    return sha256(json.dumps(record).encode()).hexdigest()
