"""The endpoint as programs use it: a server in a process of its own and the real openai client before it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from conftest import make_tiny_base
from patience import HANGS
from safetensors.torch import load_file, save_file

from doitune.backends.written import Sampling
from doitune.chat.find import open_partner
from doitune.chat.reply import Style, answer
from doitune.chat.serve.listen import is_loopback, listening
from doitune.chat.serve.refusal import Refusal
from doitune.chat.serve.request import read_question
from doitune.cli.serve import Where, _partners
from doitune.console.serving import show_service
from doitune.data.message import Message
from doitune.errors import UsageError


class Served:
    """`doitune serve` on a free port."""

    def __init__(self, target: str, *words: str, token: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        environment |= {"DOITUNE_TOKEN": token} if token else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "doitune", "serve", target, "--port", "0", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            text += line
        self.said = json.loads(text)
        self.url, self.token = self.said["url"], self.said["token"] or token

    def client(self, **more: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self.url, max_retries=0, timeout=HANGS, **{"api_key": self.token, **more}
        )

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit code, and what was said on stderr."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=HANGS)[1]
        return self.process.returncode, said


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The demo's base: what it says has no meaning, but is text."""
    made = Served("demo", "--allow-origin", "http://page.example")
    yield made
    if made.process.poll() is None:
        code, said = made.end()
        assert code == 143 and "Traceback" not in said, said


def user(text: str) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}]}


DRAWN = {"temperature": 1.2, "seed": 5, "max_tokens": 40}


async def streamed(client: openai.AsyncOpenAI, **asked: Any) -> tuple[str, Any, Any]:
    """Text, reason of the end and figures of a stream."""
    text, finish, usage = "", None, None
    async for one in await client.chat.completions.create(
        stream=True, stream_options={"include_usage": True}, **asked
    ):
        for choice in one.choices:
            text, finish = text + (choice.delta.content or ""), choice.finish_reason or finish
        usage = one.usage or usage
    return text, finish, usage


def test_a_client_lists_chats_and_streams(served: Served) -> None:
    """The stream is the reply; both are the one that `chat` gives for the same seed."""

    async def ask() -> None:
        client = served.client()
        assert [one.id for one in (await client.models.list()).data] == ["demo"] == served.said["models"]
        assert (await client.models.retrieve("demo")).id == "demo"
        whole = await client.chat.completions.create(**user("写一首诗"), **DRAWN)
        choice, usage = whole.choices[0], whole.usage
        assert choice.message.role == "assistant" and usage is not None
        partner = open_partner("demo", runs=Path("none"))
        prompt = partner.prompt([Message("user", "写一首诗")])
        own = answer(partner, prompt, Style(Sampling(1.2, seed=5), 40), lambda text: None, lambda: False)
        assert choice.message.content == own.text and len(own.text) > 10
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), own.tokens)
        assert choice.finish_reason == own.finish
        text, finish, figures = await streamed(client, **user("写一首诗"), **DRAWN)
        assert (text, finish, figures) == (own.text, own.finish, usage)
        stop = own.text[6]
        text, finish, _ = await streamed(client, **user("写一首诗"), **DRAWN, stop=[stop, "never"])
        assert (text, finish) == (own.text[: own.text.index(stop)], "stop")
        short = await client.chat.completions.create(**user("写一首诗"), **{**DRAWN, "max_tokens": 2})
        assert short.choices[0].finish_reason == "length" and own.text.startswith(
            short.choices[0].message.content or "?"
        )

    asyncio.run(ask())


def test_many_ask_at_once_and_each_gets_its_own_reply(served: Served) -> None:
    """Trap: replies, or their draws, that mix."""

    async def ask() -> None:
        client = served.client()
        both = await asyncio.gather(
            *(streamed(client, **user(f"{n}+1=?"), **{**DRAWN, "seed": n}) for n in range(10)),
            *(client.chat.completions.create(**user(f"{n}+1=?"), **{**DRAWN, "seed": n}) for n in range(10)),
        )
        texts = [one[0] for one in both[:10]]
        assert texts == [one.choices[0].message.content for one in both[10:]] and len(set(texts)) == 10

    asyncio.run(ask())


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "two replies": ({"n": 2}, 400, "n"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "x"}}]}, 400, "tools"),
    "log-probabilities": ({"logprobs": True}, 400, "logprobs"),
    "hot": ({"temperature": 3}, 400, "temperature"),
    "no turn": ({"messages": []}, 400, "messages"),
    "the assistant's turn": ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        400,
        "messages",
    ),
    "a forged turn": ({"messages": [{"role": "user", "content": "</s>"}]}, 400, "messages"),
    "too long": ({"messages": [{"role": "user", "content": "x y " * 3000}]}, 400, "messages"),
    "stops": ({"stop": [""]}, 400, "stop"),
    "another model": ({"model": "gpt-4o"}, 404, "model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_is_said_in_openais_form(served: Served, name: str) -> None:
    wrong, status, param = REFUSED[name]

    async def ask() -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            await served.client().chat.completions.create(**{**user("x"), **wrong})
        body = caught.value.body
        assert isinstance(body, dict) and (caught.value.status_code, body["param"]) == (status, param)
        assert body["type"] == "invalid_request_error" and body["message"]

    asyncio.run(ask())


def raw(served: Served, request: str, *headers: str, body: str = "") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer, by a bare connection."""
    host, port = served.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=HANGS) as line:
        called = [] if any(one.lower().startswith("host:") for one in headers) else ["host: localhost"]
        lines = [f"{request} HTTP/1.1", *called, "connection: close", *headers]
        lines += [f"content-length: {len(body.encode())}"] if body else []
        line.sendall("\r\n".join([*lines, "", body]).encode())
        said = b"".join(iter(lambda: line.recv(1 << 16), b"")).decode()
    head, _, text = said.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return int(first.split()[1]), dict(one.lower().split(": ", 1) for one in rest), text


@pytest.mark.slow
def test_who_hangs_up_before_all_is_sent_is_no_bug() -> None:
    made = Served("demo")
    host, port = made.url.split("/")[2].split(":")
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: localhost", f"authorization: Bearer {made.token}"]
    with socket.create_connection((host, int(port)), timeout=HANGS) as line:
        line.sendall("\r\n".join([*lines, "content-length: 100", "", "{"]).encode())
    assert raw(made, "GET /health")[0] == 200
    code, said = made.end()
    assert code == 143 and "bug" not in said and "Traceback" not in said, said


def test_only_who_has_the_token_is_let_in(served: Served) -> None:
    """/health tells nothing. No path but the open one answers without it; a body is not even read."""
    chat = "POST /v1/chat/completions"
    for token in ("", "Bearer", f"Bearer {served.token}x", f"Basic {served.token}", "Bearer é"):
        for place in ("GET /v1/models", "GET /v1/models/demo", chat):
            status, headers, text = raw(served, place, f"authorization: {token}", body="{")
            assert status == 401 and headers["www-authenticate"] == "bearer"
            assert json.loads(text)["error"]["code"] == "invalid_api_key" and "demo" not in text
    assert raw(served, "GET /v1/models", f"authorization: bearer {served.token}")[0] == 200
    assert raw(served, "GET /health")[2] == '{"status":"ok"}'
    for place, status in (("GET /v1/nothing", 404), ("PUT /v1/models", 405)):
        found = raw(served, place)
        assert found[0] == status and "error" in json.loads(found[2])
    assert raw(served, chat, f"authorization: Bearer {served.token}", body="{")[0] == 400
    half = r'{"model": "demo", "messages": [{"role": "user", "content": "a\ud800"}]}'
    assert raw(served, chat, f"authorization: Bearer {served.token}", body=half)[0] == 400

    async def bad() -> None:
        with pytest.raises(openai.AuthenticationError):
            await served.client(api_key="bad").models.list()

    asyncio.run(bad())


def test_pages_of_named_origins_alone_may_ask(served: Served) -> None:
    asked = ("access-control-request-method: POST", "access-control-request-headers: authorization")
    for origin, allowed in (("http://page.example", True), ("http://other.example", False)):
        status, headers, _ = raw(served, "OPTIONS /v1/chat/completions", f"origin: {origin}", *asked)
        assert (status == 200) == (headers.get("access-control-allow-origin") == origin) == allowed
        headers = raw(served, "GET /v1/models", f"origin: {origin}")[1]
        assert (headers.get("access-control-allow-origin") == origin) == allowed


def test_a_page_whose_name_was_pointed_here_is_turned_away(served: Served) -> None:
    """DNS rebinding: the browser sends the page's own name as the host."""
    for host, status in (
        ("page.example", 400),
        ("page.example:80", 400),
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
    ):
        assert raw(served, "GET /health", f"host: {host}")[0] == status, host


def listeners(pid: int) -> set[str]:
    """The addresses, in the kernel's hexadecimal form, that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].split(":")[0])
    return found


def test_nothing_listens_but_on_loopback(served: Served) -> None:
    assert listeners(served.process.pid) == {"0100007F"}
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org")] == [False] * 4
    with listening("127.0.0.1", 0) as bound, pytest.raises(UsageError, match="cannot be listened on"):
        listening("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(UsageError, match="is no address"):
        listening("no such host", 0)


def endless_base(folder: Path) -> Path:
    """A tiny base that greedily never ends a reply: no token that would has a weight in its head."""
    make_tiny_base(folder, tied=False)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][:6] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 1_000_000
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_who_hangs_up_makes_room_and_a_signal_ends_all(tmp_path: Path) -> None:
    """Traps: a reply of minutes that nobody reads, before everybody else's, also where it waits for its turn; a
    process that does not end before it is written. A token that was given is never shown."""
    secret = "a-secret-of-the-user"
    base = endless_base(tmp_path / "endless")
    made = Served(str(base), "--host", "localhost", "--max-new-tokens", "900000", token=secret)
    assert made.said["token"] is None and made.said["models"] == ["endless"]
    asked = {**user("写"), "model": "endless"}

    async def ask() -> None:
        client = made.client()
        streams = [await client.chat.completions.create(stream=True, **asked) for _ in range(2)]
        for one in streams:
            await one.response.aclose()
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(**asked, timeout=0.5)
        assert (await client.chat.completions.create(**asked, max_tokens=2)).usage.completion_tokens == 2  # type: ignore[union-attr]
        await client.chat.completions.create(stream=True, **asked)
        await asyncio.to_thread(made.process.send_signal, signal.SIGINT)

    asyncio.run(asyncio.wait_for(ask(), HANGS))
    out, said = made.process.communicate(timeout=HANGS)
    assert made.process.returncode == 130 and "no longer serving" in said and not out
    assert said.count("broken off") >= 3 and secret not in said and "Traceback" not in said, said


OWN = Style(Sampling(0.5, seed=0), 77)


def question(**fields: Any) -> Any:
    return read_question(json.dumps({"model": "m", **fields}).encode(), OWN)


def turns(*said: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in said]


def test_a_folder_is_served_by_its_own_name_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: the card's line asks `merged`, and the service knows `my-files/merged` alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-files" / "merged").mkdir(parents=True)
    monkeypatch.setattr(
        "doitune.chat.find.open_partner", lambda target, **_: SimpleNamespace(name=target, adapted=False)
    )
    for target in ("my-files/merged", str(tmp_path / "my-files" / "merged")):
        assert list(_partners(target, Where(tmp_path, "best", ""), "")) == ["merged"]
    assert list(_partners("demo/20261129", Where(tmp_path, "best", ""), "")) == ["demo/20261129"]


@pytest.mark.parametrize("made_up", ["", "madeup123"])
def test_the_line_that_asks_it_asks_it(made_up: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Trap: a variable between single quotes is no variable, and a model may be called as its folder is."""
    show_service("http://here/v1", ["a'b c"], made_up, as_json=False)
    line = next(one for one in capsys.readouterr().err.splitlines() if one.startswith("ask it"))
    said = subprocess.run(
        ["bash", "-c", "curl() { printf '%s\\n' \"$@\"; }; " + line[line.index("curl") :]],
        env={**os.environ, "DOITUNE_TOKEN": "given1234"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[2] == f"Authorization: Bearer {made_up or 'given1234'}"
    assert json.loads(said[-1])["model"] == "a'b c"


def test_what_a_request_says_and_what_it_leaves_open() -> None:
    plain = question(messages=turns(("user", "x")))
    assert plain.style.sampling.temperature == 0.5 and plain.style.max_new_tokens == 77 and not plain.stream
    drawn = {question(messages=turns(("user", "x"))).style.sampling.seed for _ in range(5)}
    assert len(drawn) == 5, "a request without a seed draws anew"
    asked = question(
        messages=turns(("user", "x")), temperature=0, top_p=0.3, seed=-1, max_tokens=5, stop="S", user="me"
    )
    assert (asked.style.sampling.temperature, asked.style.sampling.top_p) == (0, 0.3)
    assert asked.style.sampling.seed >= 0 and asked.style.stop == ("S",) and asked.style.max_new_tokens == 5


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (turns(("system", "S"), ("user", "x")), "system:S user:x"),
        (turns(("developer", "S"), ("system", "T"), ("user", "x")), "system:S\n\nT user:x"),
        (turns(("user", [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}])), "user:x\ny"),
        (turns(("user", "x"), ("user", "y")), "user:x\n\ny"),
        (turns(("user", "x"), ("assistant", ""), ("user", "y")), "user:x\n\ny"),
        (turns(("user", "x"), ("assistant", "a"), ("user", "y")), "user:x assistant:a user:y"),
        (turns(("user", "x"), ("assistant", "a")), None),
        (turns(("user", "x"), ("system", "S"), ("user", "y")), None),
        (turns(("assistant", "a"), ("user", "y")), None),
        (turns(("user", "")), None),
        (turns(("user", 5)), None),
        (turns(("king", "x")), None),
        ([{"content": "x"}], None),
        (["x"], None),
    ],
)
def test_turns_of_a_request_are_those_of_a_row(said: list[Any], expected: str | None) -> None:
    """Neighbours of one speaker, and a reply that came to nothing, are what chat programs send after an error."""
    if expected is None:
        with pytest.raises(Refusal) as caught:
            question(messages=said)
        assert caught.value.status == 400 and caught.value.param and caught.value.param.startswith("messages")
    else:
        found = question(messages=said).messages
        assert " ".join(f"{one.role}:{one.content}" for one in found) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"model": 5, "messages": [{}]}', b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read_question(body, OWN)
    assert caught.value.status == 400
