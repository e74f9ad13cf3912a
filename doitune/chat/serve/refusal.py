"""Refusal: what a client is told that asked for what it cannot have, in OpenAI's form."""

from __future__ import annotations

from typing import Any

MALFORMED, UNKNOWN_KEY, UNKNOWN, TOO_LARGE, FAILED = 400, 401, 404, 413, 500


class Refusal(Exception):
    """`status` of HTTP; `param`: the field that is at fault; `code`: a word for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= FAILED else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def unsupported(param: str, what: str) -> Refusal:
    """For a field that would change the reply and that nothing here obeys."""
    return Refusal(MALFORMED, what, param=param, code="unsupported_parameter")
