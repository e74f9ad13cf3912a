"""The chat template: messages -> token ids and labels. The one path for training, evaluation and chat.

`doit` gives each turn as role token, content, and the end token; contents are tokenised one by one, so that the letter "A" is the same
token as a target of training, as an option that is scored, and in a few-shot turn. `model` renders the base model's own chat template
and finds the trained part by rendering prefixes. Law: `encode(messages).ids` starts with `encode_question(messages[:-1])`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from typing import Any

from doitune.data.example import Message
from doitune.errors import DataError, ModelError
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.rendering import Renderer, RenderingError

NEW_TOKENS = ("<user>", "<assistant>", "<eot>")
"""The paper's three added tokens, in the order of their new rows."""

RETOKENISED_ROWS = 1000
"""Rows whose questions are encoded a second time to prove the law of a `doit` template."""

TEXTS_A_CALL = 1024
"""Texts that the tokenizer is given at once: enough for all cores, few enough that its records of them (60 bytes a token) stay small."""

CHATS_AT_ONCE = 256
"""Conversations whose renderings are held together: each takes several times its ids."""

PROBE_CHAT = (
    Message("user", "请回答：1+1=? \n A. 2  B. 3"),
    Message("assistant", "A"),
    Message("user", "Why? 为什么…「因为」😀"),
    Message("assistant", "因为 1 + 1 = 2。"),
)
"""A fixed chat whose ids are the encoder's fingerprint."""


@dataclass(frozen=True)
class Template:
    """How a chat becomes ids for one base model.

    `tokenizer` is a fast tokenizer of transformers. `stop_ids` end a reply, the first is the end token that training teaches.
    `new_rows` is 3 where the role tokens are rows of their own behind the vocabulary, else 0. `renderer`: of a `model` template.
    """

    kind: str
    tokenizer: Any
    user_id: int
    assistant_id: int
    stop_ids: tuple[int, ...]
    pad_id: int
    new_rows: int
    control_ids: frozenset[int]
    renderer: Renderer | None = None

    @property
    def end_id(self) -> int:
        """The token that ends a turn."""
        return self.stop_ids[0]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text on its own, without any token added around it."""
        backend = self.tokenizer.backend_tokenizer  # transformers' own call asks it for offsets too, which takes twice as long
        backend.no_truncation()
        backend.no_padding()
        found: list[list[int]] = []
        for start in range(0, len(texts), TEXTS_A_CALL):
            found += (one.ids for one in backend.encode_batch_fast(list(texts[start : start + TEXTS_A_CALL]), add_special_tokens=False))
        return found


def open_template(
    tokenizer: Any, *, kind: str, tokens: str, vocabulary_rows: int, roles: tuple[str, str, str] = ("", "", "")
) -> Template:
    """The template of a recipe's `prompt` section for a loaded tokenizer.

    `vocabulary_rows`: rows of the base's embedding matrix; new token rows are numbered from there. `roles`: the texts of the user,
    assistant and end token; an empty one is chosen (see `_reused_roles`). Errors: ModelError where the tokenizer cannot serve.
    """
    # a vocabulary may mark more tokens special than it names
    control = {*tokenizer.all_special_ids, *(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)}
    if kind == "model":
        return _model_template(tokenizer, control)
    if tokens == "new":
        user, assistant, end = (vocabulary_rows + place for place in range(len(NEW_TOKENS)))
        new_rows = len(NEW_TOKENS)
    else:
        user, assistant, end = _reused_roles(tokenizer, roles)
        new_rows = 0
    control |= {user, assistant, end}
    stop = tuple(dict.fromkeys([end, *_end_ids(tokenizer), user, assistant]))
    return Template("doit", tokenizer, user, assistant, stop, _pad_id(tokenizer, stop), new_rows, frozenset(control))


def _end_ids(tokenizer: Any) -> list[int]:
    """The tokenizer's own end token, if it has one."""
    return [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []


def _pad_id(tokenizer: Any, stop: Sequence[int]) -> int:
    """A padding id that ends no reply; padding is never attended to or trained, so any id is exact."""
    known = [one for one in (tokenizer.pad_token_id, tokenizer.unk_token_id) if one is not None]
    return next(int(one) for one in (*known, *range(len(stop) + 1)) if one not in stop)


def _reused_roles(tokenizer: Any, roles: tuple[str, str, str]) -> tuple[int, int, int]:
    """Ids of tokens that the vocabulary has and text never uses: the named ones, else reserved special tokens, else impossible bytes."""
    end_text = roles[2] or tokenizer.eos_token
    if not end_text:
        raise ModelError("this tokenizer has no end token", "name one of its tokens: --set prompt.end_token=...")
    free = iter(_unused_tokens(tokenizer, taken={end_text, *roles}))
    try:
        named = [roles[0] or next(free), roles[1] or next(free), end_text]
    except StopIteration:
        raise ModelError(
            "this tokenizer has no two reserved tokens for the user and assistant roles",
            "name two tokens that text never uses: --set prompt.user_token=... --set prompt.assistant_token=..., "
            "or give the roles rows of their own: --set prompt.tokens=new",
        ) from None
    ids = [_known_id(tokenizer, text) for text in named]
    if len(set(ids)) < len(ids):
        raise ModelError(f"the role tokens {named} are not three different tokens", "name three different ones")
    return ids[0], ids[1], ids[2]


def _known_id(tokenizer: Any, text: str) -> int:
    """The id of a token that the vocabulary has under this very text."""
    found = tokenizer.get_vocab().get(text)
    if found is None:
        raise ModelError(
            f"the tokenizer has no token {text!r}", "see prompt.user_token, prompt.assistant_token and prompt.end_token"
        )
    return int(found)


def _unused_tokens(tokenizer: Any, taken: set[str]) -> list[str]:
    """Candidates for role tokens, best first: special tokens without a duty, by id; then bytes that UTF-8 text never holds."""
    duties = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token, tokenizer.pad_token} | taken
    added = sorted((number, str(token)) for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    vocabulary = tokenizer.get_vocab()
    impossible_bytes = [text for text in ("<0xFE>", "<0xFF>") if text in vocabulary and text not in taken]
    return [text for _, text in added if text not in duties] + impossible_bytes


def _model_template(tokenizer: Any, control: set[int]) -> Template:
    """The base's own chat template; its end token is the first control token after an assistant's text."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this base has no chat template of its own", "use the recipe's: --set prompt.template=doit")
    draft = Template("model", tokenizer, -1, -1, (), -1, 0, frozenset(control), _renderer(tokenizer))
    question, answer = PROBE_CHAT[:1], PROBE_CHAT[1]
    before, whole = _render(draft, [(question, True), ((*question, answer), False)])
    if whole[: len(before)] != before:
        raise ModelError(
            "this base's chat template breaks the law that a trained chat starts with its question",
            "use the recipe's: --set prompt.template=doit",
        )
    ends = [token for token in whole[len(before) :] if token in control]
    if not ends:
        raise ModelError(
            "this base's chat template puts no end token after an answer, so a model could not learn to stop",
            "use the recipe's: --set prompt.template=doit",
        )
    stop = tuple(dict.fromkeys([ends[0], *_end_ids(tokenizer)]))
    return replace(draft, stop_ids=stop, pad_id=_pad_id(tokenizer, stop))


Chat = tuple[Sequence[Message], bool]
"""Messages, and whether the opening of an assistant turn follows."""


def _renderer(tokenizer: Any) -> Renderer:
    """The base's chat template and the special tokens that it may name."""
    try:
        text = str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none is the default
        raise ModelError(f"this base's chat template cannot be chosen: {error}", "use the recipe's: --set prompt.template=doit") from error
    named = tokenizer.special_tokens_map.items()
    return Renderer(text, {name: [str(one) for one in value] if isinstance(value, (list, tuple)) else str(value) for name, value in named})


def _render(template: Template, chats: Sequence[Chat], places: Sequence[str] = ()) -> list[list[int]]:
    """Ids of each chat in the base's own chat template; `places` name the chats in errors."""
    assert template.renderer is not None
    said = [([{"role": one.role, "content": one.content.strip()} for one in messages], open_turn) for messages, open_turn in chats]
    try:
        return template.text_ids(template.renderer.texts(said))
    except RenderingError as error:
        raise ModelError(error.problem, error.hint, place=places[error.number] if places else "") from error


def encode(messages: Sequence[Message], template: Template) -> Encoded:
    """One conversation, trained on its assistant turns and their end tokens. See `encode_all`."""
    return encode_all([messages], template)[0]


def encode_all(conversations: Sequence[Sequence[Message]], template: Template, places: Sequence[str] = ()) -> list[Encoded]:
    """Each conversation as ids and labels; contents are stripped, nothing is cut.

    `places` (`file:line`) name the rows in errors. Errors: DataError for a text that holds a control token, ModelError where the base's
    own template breaks the law of prefixes.
    """
    pieces = template.text_ids([message.content.strip() for messages in conversations for message in messages])
    rendered = _rendered(conversations, template, places)
    encoded, start = [], 0
    for number, messages in enumerate(conversations):
        contents = pieces[start : start + len(messages)]
        start += len(messages)
        place = places[number] if places else ""
        _refuse_control(contents, messages, template, place)
        if template.kind == "model":
            encoded.append(_encode_by_prefix(messages, next(rendered), template, place))
        else:
            encoded.append(_encode_turns(contents, messages, template))
    return encoded


def _encode_turns(contents: Sequence[Sequence[int]], messages: Sequence[Message], template: Template) -> Encoded:
    """Role token, content, end token, for each turn."""
    ids: list[int] = []
    labels: list[int] = []
    for message, content in zip(messages, contents, strict=True):
        turn = [*content, template.end_id]
        ids += [template.assistant_id if message.role == "assistant" else template.user_id, *turn]
        labels += [IGNORED, *(turn if message.role == "assistant" else [IGNORED] * len(turn))]
    return Encoded(tuple(ids), tuple(labels))


def _rendered(conversations: Sequence[Sequence[Message]], template: Template, places: Sequence[str]) -> Iterator[list[list[int]]]:
    """Of each conversation: its ids, then those before and after each assistant turn; some conversations at a time."""
    for start in range(0, len(conversations), CHATS_AT_ONCE):
        wanted: list[list[Chat]] = []
        for messages in conversations[start : start + CHATS_AT_ONCE]:
            turns = [turn for turn, message in enumerate(messages) if message.role == "assistant"]
            around: list[Chat] = [chat for turn in turns for chat in ((messages[:turn], True), (messages[: turn + 1], False))]
            wanted.append([(messages, False), *around])
        named = [place for place, chats in zip(places[start:], wanted) for _ in chats]
        found = iter(_render(template, [chat for chats in wanted for chat in chats], named))
        yield from ([next(found) for _ in chats] for chats in wanted)


def _encode_by_prefix(messages: Sequence[Message], rendered: Sequence[list[int]], template: Template, place: str) -> Encoded:
    """The base's own template: what an assistant turn adds to its rendered question, up to the end token, is trained."""
    ids, *around = rendered
    labels = [IGNORED] * len(ids)
    turns = [turn for turn, message in enumerate(messages) if message.role == "assistant"]
    for number, turn in enumerate(turns):
        before, after = around[2 * number : 2 * number + 2]
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise ModelError(
                f"the base's chat template writes turn {turn + 1} differently once a later turn follows",
                "use the recipe's: --set prompt.template=doit",
                place=place,
            )
        end = next((at for at in range(len(before), len(after)) if ids[at] in template.stop_ids), None)
        if end is None:
            raise ModelError("the base's chat template puts no end token behind this answer", place=place)
        labels[len(before) : end + 1] = ids[len(before) : end + 1]
    last = max((at for at, label in enumerate(labels) if label != IGNORED), default=-1)
    return Encoded(tuple(ids[: last + 1]), tuple(labels[: last + 1]))


def _refuse_control(contents: Sequence[Sequence[int]], messages: Sequence[Message], template: Template, place: str) -> None:
    """A text that holds a role or other control token would forge a turn."""
    for content, message in zip(contents, messages, strict=True):
        forged = template.control_ids.intersection(content)
        if forged:
            names = template.tokenizer.convert_ids_to_tokens(sorted(forged))
            raise DataError(
                f"the {message.role}'s text holds the control token {', '.join(map(str, names))}",
                "take it out of the text: a model would read it as the end of a turn",
                place=place,
            )


def encode_question(messages: Sequence[Message], template: Template) -> tuple[int, ...]:
    """Ids up to the place where the assistant's next text starts; the last of `messages` is a user turn."""
    return questions_ids([messages], template)[0]


def questions_ids(questions: Sequence[Sequence[Message]], template: Template) -> list[tuple[int, ...]]:
    """`encode_question` for many at once."""
    if template.kind == "model":
        for messages in questions:
            _refuse_control(template.text_ids([m.content.strip() for m in messages]), messages, template, "")
        return [tuple(ids) for ids in _render(template, [(messages, True) for messages in questions])]
    return [(*whole.ids, template.assistant_id) for whole in encode_all(questions, template)]


def option_ids(letters: Sequence[str], question: Sequence[Message], template: Template) -> tuple[int, ...]:
    """The one token that `encode` gives each letter as the answer to `question`; ModelError unless they are distinct single tokens."""
    start = len(encode_question(question, template))
    answers = encode_all([(*question, Message("assistant", letter)) for letter in letters], template)
    found = []
    for letter, answer in zip(letters, answers, strict=True):
        tokens = answer.ids[start:]
        if len(tokens) < 2 or tokens[1] not in template.stop_ids:
            raise ModelError(f"the answer {letter!r} is not one token under this tokenizer", "options cannot be scored by one token")
        found.append(tokens[0])
    if len(set(found)) < len(found):
        raise ModelError(f"the options {list(letters)} are not distinct tokens under this tokenizer")
    return tuple(found)


def decode(ids: Sequence[int], template: Template) -> str:
    """Text of generated ids; control tokens are left out."""
    known = [token for token in ids if token not in template.control_ids]
    return str(template.tokenizer.decode(known, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def fingerprint(template: Template) -> str:
    """sha256 of the ids and labels of a fixed chat: two encoders with the same fingerprint ask as the other trained."""
    whole = encode(PROBE_CHAT[:2] if template.kind == "model" else PROBE_CHAT, template)
    record = [template.kind, template.stop_ids, whole.ids, whole.labels]
    return sha256(json.dumps(record).encode()).hexdigest()


def prove_law(conversations: Sequence[Sequence[Message]], encoded: Sequence[Encoded], template: Template, places: Sequence[str]) -> None:
    """Refuse rows that would teach the wrong thing: no trained token, an unlearnt end, a question that asks otherwise than it trained.

    On every row: trained tokens exist, those of each assistant turn end with an end token and read back as what the assistant says, and the row
    does not start with two beginnings of a text. That `ids` starts with `encode_question` is proved by encoding questions again: all of a `model`
    template; with `doit`, which puts turns end to end, at most RETOKENISED_ROWS spread over all. Errors: DataError or ModelError with the row.
    """
    for whole, place in zip(encoded, places, strict=True):
        if not whole.trained:
            raise DataError("nothing of this row would be trained", place=place)
        if whole.labels[-1] not in template.stop_ids:
            raise ModelError("this row does not end with a trained end token", place=place)
        if len(whole.ids) > 1 and whole.ids[0] == whole.ids[1] == template.tokenizer.bos_token_id:
            raise ModelError("this row starts with the token of a text's beginning twice", "use --set prompt.template=doit", place=place)
    _prove_questions(conversations, encoded, template, places)
    _prove_answers(conversations, encoded, template, places)


def _prove_answers(
    conversations: Sequence[Sequence[Message]], encoded: Sequence[Encoded], template: Template, places: Sequence[str]
) -> None:
    """What is trained is what the assistant says and the end token behind it, turn by turn."""
    runs = [_trained_runs(whole) for whole in encoded]
    texts = iter(_decode_all([run[:-1] for found in runs for run in found], template))
    for found, messages, place in zip(runs, conversations, places, strict=True):
        said = [message.content.strip() for message in messages if message.role == "assistant"]
        if len(found) != len(said) or any(run[-1] not in template.stop_ids for run in found):
            problem = f"{len(said)} assistant turns have {len(found)} trained parts, or one without an end token"
            raise ModelError(problem, "use --set prompt.template=doit", place=place)
        for text, content in zip([next(texts) for _ in found], said, strict=True):
            if text.strip() != content:
                raise ModelError(
                    f"the trained text does not read back as the answer: {text.strip()[:60]!r}",
                    "the tokenizer loses characters of this text",
                    place=place,
                )


def _trained_runs(whole: Encoded) -> list[tuple[int, ...]]:
    """The ids of each trained part, in order."""
    return [tuple(run) for trained, run in groupby(whole.labels, IGNORED.__ne__) if trained]


def _prove_questions(
    conversations: Sequence[Sequence[Message]], encoded: Sequence[Encoded], template: Template, places: Sequence[str]
) -> None:
    every = max(1, len(encoded) // RETOKENISED_ROWS) if template.kind == "doit" else 1
    questions = questions_ids([messages[:-1] for messages in conversations[::every]], template)
    for whole, question, place in zip(encoded[::every], questions, places[::every], strict=True):
        if whole.ids[: len(question)] != question or len(question) != _last_run(whole):
            raise ModelError("the template breaks the law that a trained chat starts with its question", place=place)


def _last_run(whole: Encoded) -> int:
    """Where the last trained run starts; it ends the row."""
    start = len(whole.labels)
    while start and whole.labels[start - 1] != IGNORED:
        start -= 1
    return start


def _decode_all(rows: Sequence[Sequence[int]], template: Template) -> list[str]:
    """Texts of many rows at once; control tokens are left out, as in `decode`."""
    known = [[token for token in row if token not in template.control_ids] for row in rows]
    return list(template.tokenizer.backend_tokenizer.decode_batch(known, skip_special_tokens=True))
