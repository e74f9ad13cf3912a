"""The chat template: messages -> token ids and labels. The one path for training, evaluation and chat.

`doit` gives each turn as role token, content, and the end token; contents are tokenised one by one, so that the letter "A" is the same
token as a target of training, as an option that is scored, and in a few-shot turn. `model` renders the base model's own chat template
and finds the trained part by rendering prefixes. Law: `encode(messages).ids` starts with `encode_question(messages[:-1])`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from doitune.batch import IGNORED
from doitune.errors import DataError, ModelError
from doitune.example import Message

NEW_TOKENS = ("<user>", "<assistant>", "<eot>")
"""The paper's three added tokens, in the order of their new rows."""

PROBE_CHAT = (
    Message("user", "请回答：1+1=? \n A. 2  B. 3"),
    Message("assistant", "A"),
    Message("user", "Why? 为什么…「因为」😀"),
    Message("assistant", "因为 1 + 1 = 2。"),
)
"""A fixed chat whose ids are the encoder's fingerprint."""


@dataclass(frozen=True)
class Encoded:
    """One conversation as token ids; `labels` equal the ids where trained, IGNORED elsewhere (not shifted)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class Template:
    """How a chat becomes ids for one base model.

    `tokenizer` is a fast tokenizer of transformers. `stop_ids` end a reply, the first is the end token that training teaches.
    `new_rows` is 3 where the role tokens are rows of their own behind the vocabulary, else 0.
    """

    kind: str
    tokenizer: Any
    user_id: int
    assistant_id: int
    stop_ids: tuple[int, ...]
    pad_id: int
    new_rows: int
    control_ids: frozenset[int]

    @property
    def end_id(self) -> int:
        """The token that ends a turn."""
        return self.stop_ids[0]
