"""Where a service listens: on loopback, unless another address is named; and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType

import uvicorn

from doitune.chat.serve.app import application
from doitune.chat.serve.service import Service
from doitune.errors import UsageError
from doitune.system.signals import STOPPING, StopAsked, handled

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 5
"""How long the replies that are being written may go on once a signal has asked for the end."""


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to this address alone; port 0: any free one. UsageError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no address of this machine: {error}", LOOPBACK) from None
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen()  # at once, so that a port is taken before a model is loaded for it
    except OSError as error:
        found.close()
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror}", "--port 0 takes any free port"
        ) from None
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(bound: socket.socket) -> str:
    """`http://127.0.0.1:8000/v1`."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class _Server(uvicorn.Server):
    """uvicorn's server, which ends by the signals of the house, and says by which."""

    asked = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handled(STOPPING, self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = bool(self.asked)
        self.should_exit, self.asked = True, self.asked or sig


def serve(service: Service, bound: socket.socket) -> None:
    """Answer until a signal asks for the end; replies that are being written have GRACE_SECONDS. Errors:
    StopAsked, always."""
    server = _Server(
        uvicorn.Config(
            application(service, local=is_loopback(str(bound.getsockname()[0]))),
            log_config=None,
            log_level="critical",  # a crash is told to `on_crash`
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    try:
        server.run(sockets=[bound])
    finally:
        service.desk.close()
    raise StopAsked(server.asked)
