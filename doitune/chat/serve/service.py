"""Service: what is served, to whom, and what a request means here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from doitune.chat.partner import Partner, TooLong
from doitune.chat.reply import Style
from doitune.chat.serve.desk import Desk, Order
from doitune.chat.serve.refusal import MALFORMED, UNKNOWN, UNKNOWN_KEY, Refusal
from doitune.chat.serve.request import Question
from doitune.errors import DoituneError


def _hear_nothing(error: BaseException) -> None:
    pass


@dataclass(frozen=True)
class Service:
    """What is served: partners by the names that clients use, how they reply where nobody says, the `token`
    that lets in, and the `origins` whose pages may ask. `on_crash` is told of our own bugs."""

    partners: Mapping[str, Partner]
    style: Style
    token: str
    desk: Desk
    origins: Sequence[str] = ()
    on_crash: Callable[[BaseException], None] = _hear_nothing

    def let_in(self, authorization: str) -> None:
        """Refusal unless the header has the token; how much of it was right takes no part in how long the
        answer takes."""
        kind, _, token = authorization.partition(" ")
        known = compare_digest(token.strip().encode(), self.token.encode())
        if kind.lower() != "bearer" or not known:
            problem = "the token is missing or another: Authorization: Bearer TOKEN"
            raise Refusal(UNKNOWN_KEY, problem, code="invalid_api_key")

    def partner(self, name: str) -> Partner:
        """The model of that name. Refusal."""
        found = self.partners.get(name)
        if found is None:
            problem = f"there is no model {name!r}: {', '.join(self.partners)}"
            raise Refusal(UNKNOWN, problem, param="model", code="model_not_found")
        return found

    def order(self, question: Question) -> Order:
        """The reply that is asked for, its prompt encoded. Refusal."""
        partner = self.partner(question.model)
        try:
            prompt = partner.prompt(question.messages)
            partner.room(prompt, 1)
        except TooLong as error:
            problem, code = error.problem, "context_length_exceeded"
            raise Refusal(MALFORMED, problem, param="messages", code=code) from None
        except DoituneError as error:
            raise Refusal(MALFORMED, error.problem, param="messages") from None
        return Order(partner, prompt, question.style)
