"""`doitune serve`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from doitune.cli.chat import (
    Checkpoint,
    MaxNewTokens,
    Sampled,
    Target,
    Temperature,
    TopP,
    style_of,
)
from doitune.cli.options import Json, Moved, Runs
from doitune.errors import FitError, UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from socket import socket

    from doitune.chat.partner import Partner
    from doitune.chat.reply import Style

TOKEN = "DOITUNE_TOKEN"
SHORTEST_TOKEN = 8


def serve(
    target: Target = "last",
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; others than loopback are warned of.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help=f"What lets in; others see it in `ps`, {TOKEN} not. Default: a new one, which is shown.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What clients call the model. Default: the run.")] = "",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="ORIGIN", help="A page that may ask from a browser. Repeatable."
        ),
    ] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_new_tokens: MaxNewTokens = None,
    checkpoint: Checkpoint = "best",
    model: Moved = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """An OpenAI-compatible endpoint for a run, and its base as MODEL@base, on this machine alone: for Open
    WebUI, Cherry Studio, the openai client and curl. One model answers one request at a time, in their order.

    Example: doitune serve last --port 8000
    """
    if lacking := [one for one in ("starlette", "uvicorn") if find_spec(one) is None]:
        raise FitError(f"serve needs {' and '.join(lacking)}", 'pip install "doitune[serve]"')
    from doitune.chat.serve.listen import is_loopback, listening
    from doitune.console import progress, screen, talk

    secret, is_new = _token(token)
    with listening(host, port) as bound:
        if not is_loopback(host):
            screen.note(f"warning: other machines reach {host}; the token crosses the network as it is")
        with progress.LiveLine():
            partners = _partners(target, Where(runs, checkpoint, model), name)
        first = next(iter(partners.values()))
        style = style_of(first, Sampled(temperature, top_p, max_new_tokens, seed=0))
        talk.introduce([first], style)
        door = Door(bound, secret, is_new, tuple(allow_origin or ()))
        _answer(partners, style, door, as_json=as_json)


class Door(NamedTuple):
    """Where clients knock, the token that lets them in, whether it is a new one, and pages that may ask."""

    bound: socket
    token: str
    is_new: bool
    origins: tuple[str, ...]


class Where(NamedTuple):
    """Where a target is looked for: see `open_partner`."""

    runs: Path
    checkpoint: str
    moved_to: str


def _partners(target: str, where: Where, name: str) -> dict[str, Partner]:
    """The models that are served, by the names that clients use."""
    from doitune.chat.find import open_partner

    partner = open_partner(target, **where._asdict())
    path = Path(partner.name)
    name = name or (path.resolve().name if path.is_dir() else partner.name)
    return {name: partner, **({f"{name}@base": partner.base()} if partner.adapted else {})}


def _answer(partners: dict[str, Partner], style: Style, door: Door, *, as_json: bool) -> None:
    """Answer until a signal ends it. Errors: Stopped, always."""
    from doitune.chat.serve.desk import Desk
    from doitune.chat.serve.listen import address_of, serve
    from doitune.chat.serve.service import Service
    from doitune.console import screen, serving
    from doitune.system.signals import StopAsked, stopped

    url, token = address_of(door.bound), door.token if door.is_new else ""
    serving.show_service(url, list(partners), token, as_json=as_json)
    service = Service(partners, style, door.token, Desk(serving.show_served), door.origins, screen.show_crash)
    try:
        serve(service, door.bound)
    except StopAsked as stop:
        end = stopped(stop, "no longer serving", "the same command serves it again")
        if not as_json:
            raise end from None
        screen.note(end.problem)  # the document on stdout was the service's
        raise SystemExit(end.exit_code) from None


def _token(given: str | None) -> tuple[str, bool]:
    """The token that lets in, and whether it is a new one. UsageError for one that no header can hold."""
    token = os.environ.get(TOKEN) if given is None else given
    if token is None:
        from secrets import token_hex

        return token_hex(20), True
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            f"a token has at least {SHORTEST_TOKEN} characters of ASCII and no space",
            f"leave out --token and {TOKEN}, and one is made",
        )
    return token, False
