"""How a base model marks who speaks: role tokens, end tokens, or its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from doitune.data.example import Message
from doitune.errors import ModelError
from doitune.prompt.cut import Cut, fast_ids
from doitune.prompt.rendering import CURE, Renderer, RenderingError
from doitune.prompt.speech import Learn, Manner, Thinking, as_turns

NEW_TOKENS = ("<user>", "<assistant>", "<eot>")
"""The paper's three added tokens, in the order of their new rows."""

TEXTS_A_CALL = 1024
"""Texts that the tokenizer is given at once: enough for all cores, few enough that its records of them (60
bytes a token) stay small."""

PROBE_CHAT = (
    Message("user", "请回答：1+1=? \n A. 2  B. 3"),
    Message("assistant", "A"),
    Message("user", "Why? 为什么…「因为」😀"),
    Message("assistant", "因为 1 + 1 = 2。"),
)
"""A fixed chat whose ids are the encoder's fingerprint."""

Chat = tuple[Sequence[Message], bool]
"""A conversation as it is `spoken`, and whether the opening of an assistant turn follows."""


@dataclass(frozen=True)
class Template:
    """How a chat becomes ids for one base model.

    `tokenizer`: a fast one of transformers. `stop_ids` end a reply, the first is the one that is learnt.
    `new_rows`: of the role tokens' own, 3 or 0. `rows`: of the embedding, these included; 0: not known.
    `renderer`: of a `model` template. `cut`: of a base whose texts tokenizer.model cuts. `why`: of a kind
    that nobody named. `thinking`, `learn`: the recipe's.
    """

    kind: str
    tokenizer: Any
    user_id: int
    assistant_id: int
    stop_ids: tuple[int, ...]
    pad_id: int
    new_rows: int
    control_ids: frozenset[int]
    rows: int = 0
    renderer: Renderer | None = None
    cut: Cut | None = None
    why: str = ""
    thinking: Thinking = "auto"
    learn: Learn = "all"

    @property
    def manner(self) -> Manner:
        """What it can write beside the turns of user and assistant."""
        return Manner(self.renderer.repertoire if self.renderer else None, self.thinking, self.learn)

    @property
    def end_id(self) -> int:
        """The token that ends a turn."""
        return self.stop_ids[0]

    @cached_property
    def unknown_id(self) -> int | None:
        """The token of text that the tokenizer does not know; None without one, or where it has a role."""
        unknown: int | None = self.tokenizer.unk_token_id
        return None if unknown in (self.user_id, self.assistant_id, *self.stop_ids) else unknown

    @property
    def moment(self) -> str:
        """What the base's own template takes for now; "" for the recipe's."""
        return self.renderer.moment if self.renderer else ""

    @property
    def reads_clock(self) -> bool:
        """Whether the base's own template has asked for the time so far."""
        return self.renderer is not None and self.renderer.reads_clock

    def at(self, moment: str) -> Template:
        """The same template at another moment."""
        return replace(self, renderer=self.renderer.at(moment)) if self.renderer else self

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text on its own, without any token added around it."""
        parts = (texts[start : start + TEXTS_A_CALL] for start in range(0, len(texts), TEXTS_A_CALL))
        fast = self.tokenizer.backend_tokenizer
        cut = self.cut.text_ids if self.cut else lambda part: fast_ids(fast, part)
        return [ids for part in parts for ids in cut(part)]


def open_template(
    tokenizer: Any,
    *,
    kind: str,
    tokens: str,
    vocabulary_rows: int,
    roles: tuple[str, str, str] = ("", "", ""),
    moment: str = "",
    cut: Cut | None = None,
) -> Template:
    """The template of a recipe's `prompt` section for a loaded tokenizer.

    `vocabulary_rows`: rows of the base's embedding matrix (0: not known); new token rows are numbered from
    there. `roles`: the texts of the user, assistant and end token; an empty one is chosen (see
    `_reused_roles`). `moment`: what the base's own template takes for now; by default the clock's. `cut`:
    None where the fast tokenizer cuts. Errors: ModelError where the tokenizer cannot serve.
    """
    # a vocabulary may mark more tokens special than it names
    control = {
        *tokenizer.all_special_ids,
        *(number for number, token in tokenizer.added_tokens_decoder.items() if token.special),
    }
    if kind == "model":
        renderer = _renderer(tokenizer, moment)
        return _with_ends(
            Template(
                "model", tokenizer, -1, -1, (), -1, 0, frozenset(control), vocabulary_rows, renderer, cut
            )
        )
    if tokens == "new":
        _refuse_numbers_in_use(tokenizer, vocabulary_rows)
        user, assistant, end = (vocabulary_rows + place for place in range(len(NEW_TOKENS)))
        new_rows = len(NEW_TOKENS)
    else:
        highest = max(tokenizer.get_vocab().values(), default=-1)
        user, assistant, end = _reused_roles(tokenizer, roles, vocabulary_rows or highest + 1)
        new_rows = 0
    control |= {user, assistant, end}
    stop = tuple(dict.fromkeys([end, *_end_ids(tokenizer), user, assistant]))
    return Template(
        "doit",
        tokenizer,
        user,
        assistant,
        stop,
        _pad_id(tokenizer, stop),
        new_rows,
        frozenset(control),
        vocabulary_rows and vocabulary_rows + new_rows,
        cut=cut,
    )


def _refuse_numbers_in_use(tokenizer: Any, vocabulary_rows: int) -> None:
    """ModelError where the tokenizer numbers tokens of its own as the new rows would be."""
    beyond = sorted(
        (number, text) for text, number in tokenizer.get_vocab().items() if number >= vocabulary_rows
    )
    if beyond:
        number, text = beyond[0]
        raise ModelError(
            f"this base's tokenizer has the token {text!r} as id {number:,}, its embedding has "
            f"{vocabulary_rows:,} rows: role tokens with rows of their own would share its number",
            "use tokens that the base has rows for (--set prompt.tokens=reuse), or copy the tokenizer that "
            "belongs to the base",
        )


def _end_ids(tokenizer: Any) -> list[int]:
    """The tokenizer's own end token, if it has one."""
    return [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []


def _pad_id(tokenizer: Any, stop: Sequence[int]) -> int:
    """A padding id that ends no reply; padding is never attended to or trained, so any id is exact."""
    known = [one for one in (tokenizer.pad_token_id, tokenizer.unk_token_id) if one is not None]
    return next(int(one) for one in (*known, *range(len(stop) + 1)) if one not in stop)


def _reused_roles(tokenizer: Any, roles: tuple[str, str, str], rows: int) -> tuple[int, int, int]:
    """Ids below `rows` of tokens that the vocabulary has and text never uses: the named ones, else reserved
    special tokens, else impossible bytes."""
    end_text = roles[2] or tokenizer.eos_token
    if not end_text:
        raise ModelError(
            "this tokenizer has no end token", "name one of its tokens: --set prompt.end_token=..."
        )
    free = iter(_unused_tokens(tokenizer, {end_text, *roles}, rows))
    try:
        named = [roles[0] or next(free), roles[1] or next(free), end_text]
    except StopIteration:
        raise ModelError(
            "this tokenizer has no two reserved tokens for the user and assistant roles",
            "name two tokens that text never uses: --set prompt.user_token=... "
            "--set prompt.assistant_token=..., or give the roles rows of their own: --set prompt.tokens=new",
        ) from None
    ids = [_known_id(tokenizer, text, rows) for text in named]
    if len(set(ids)) < len(ids):
        raise ModelError(
            f"the role tokens {named} are not three different tokens", "name three different ones"
        )
    return ids[0], ids[1], ids[2]


def _known_id(tokenizer: Any, text: str, rows: int) -> int:
    """The id of a token that the vocabulary has under this very text, and the embedding a row for."""
    found = tokenizer.get_vocab().get(text)
    if found is None:
        raise ModelError(
            f"the tokenizer has no token {text!r}",
            "see prompt.user_token, prompt.assistant_token and prompt.end_token",
        )
    if found >= rows:
        raise ModelError(
            f"the role token {text!r} has the id {found:,}, the base's embedding has {rows:,} rows",
            "name another token: see prompt.user_token, prompt.assistant_token and prompt.end_token",
        )
    return int(found)


def _unused_tokens(tokenizer: Any, taken: set[str], rows: int) -> list[str]:
    """Candidates for role tokens, best first: special tokens without a duty, by id; then bytes that UTF-8
    text never holds. None is beyond the embedding's `rows`."""
    duties = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token, tokenizer.pad_token} | taken
    added = sorted(
        (number, str(token))
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and number < rows
    )
    vocabulary = tokenizer.get_vocab()
    impossible_bytes = [text for text in ("<0xFE>", "<0xFF>") if text in vocabulary and text not in taken]
    return [text for _, text in added if text not in duties] + impossible_bytes


def _with_ends(draft: Template) -> Template:
    """The base's own chat template; its end token is the first control token after an assistant's text, which
    ends where two answers are followed by the same (gpt-oss has control tokens before it, too)."""
    question, answer, another = PROBE_CHAT[:1], PROBE_CHAT[1], PROBE_CHAT[3]
    chats: list[Chat] = [(question, True), ((*question, answer), False), ((*question, another), False)]
    before, whole, other = render(draft, chats)
    if render(draft.at(draft.moment), chats) != [before, whole, other]:
        raise ModelError(
            "this base's chat template writes the same chat in two ways, so what is asked would not be what "
            "was trained",
            CURE,
        )
    if whole[: len(before)] != before:
        raise ModelError(
            "this base's chat template breaks the law that a trained chat starts with its question",
            CURE,
        )
    backwards = zip(reversed(whole[len(before) :]), reversed(other), strict=False)
    behind = [*takewhile(lambda pair: pair[0] == pair[1], backwards)][::-1]
    ends = [token for token, _ in behind if token in draft.control_ids]
    if not ends:
        raise ModelError(
            "this base's chat template puts no end token after an answer, so a model could not learn to stop",
            CURE,
        )
    stop = tuple(dict.fromkeys([ends[0], *_end_ids(draft.tokenizer)]))
    return replace(draft, stop_ids=stop, pad_id=_pad_id(draft.tokenizer, stop))


def _renderer(tokenizer: Any, moment: str) -> Renderer:
    """The base's chat template and the special tokens that it may name."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this base has no chat template of its own", CURE)
    try:
        text = str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none is the default
        raise ModelError(
            f"this base's chat template cannot be chosen: {error}",
            CURE,
        ) from error
    named = tokenizer.special_tokens_map.items()
    return Renderer(
        text,
        {
            name: [str(one) for one in value] if isinstance(value, (list, tuple)) else str(value)
            for name, value in named
        },
        moment,
    )


def render(template: Template, chats: Sequence[Chat], places: Sequence[str] = ()) -> list[list[int]]:
    """Ids of each chat in the base's own chat template; `places` name the chats in errors."""
    assert template.renderer is not None
    said = [
        (turns, opened, tools)
        for messages, opened in chats
        for turns, tools in [as_turns(messages, template.manner)]
    ]
    try:
        return template.text_ids(template.renderer.texts(said))
    except RenderingError as error:
        calls = any(one.calls or one.tools for one in chats[error.number][0])
        hint = "write the row's calls as this template takes them, or drop the row" if calls else error.hint
        raise ModelError(error.problem, hint, place=places[error.number] if places else "") from error
