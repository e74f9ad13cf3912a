"""A judge model's preferences: both orders, every reply kept, nothing asked twice, nothing sent unasked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from doitune.data.example import Message
from doitune.errors import DataError, UsageError
from doitune.evals import judge as judging
from doitune.evals import saved
from doitune.evals.judge import Judge, judge_pairs, read_verdict
from doitune.evals.task import Item, Reply, Task, Verdict


class Address:
    """An address that prefers the longer answer (`prefers`: what it says of two answers' texts)."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.status = 200
        self.busy = 0
        self.answer = b""
        self.prefers = lambda one, two: "tie" if len(one) == len(two) else "1" if len(one) > len(two) else "2"
        address = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                address.asked.append(body)
                address.keys.append(self.headers["Authorization"])
                status = address.status
                if address.busy:
                    address.busy, status = address.busy - 1, 503
                told = json.loads(body["messages"][1]["content"])
                verdict = address.prefers(told["answer 1"], told["answer 2"])
                content = f"One says more.\n**VERDICT: {verdict}**"
                answer = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
                answer = address.answer or answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    monkeypatch.delenv(judging.KEY, raising=False)
    monkeypatch.setattr(judging.time, "sleep", lambda _: None)
    found = Address()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def evaluation(folder: Path, model: str, replies: dict[str, list[str]]) -> Path:
    """A saved evaluation with these free replies by set."""
    items = [
        Item(f"own/{name}#{n}", name, "open", "write", (Message("user", f"{name} {n}?"),), "gold")
        for name, found in replies.items()
        for n, _ in enumerate(found)
    ]
    texts = [text for found in replies.values() for text in found]
    manifest = saved.Manifest.of(Task("doit-test", tuple(items)), {"base": model}, "f")
    saved.write_manifest(folder, manifest)
    verdicts = {name: Verdict(None, 0.0) for name in ("fixed", "paper")}
    chances = {"fixed": 0.0, "paper": 0.0}
    saved.append_lines(
        folder,
        [
            saved.Line(item, item.document, manifest.model, Reply("p", 1, text=text), verdicts, chances)
            for item, text in zip(items, texts, strict=True)
        ],
    )
    return folder


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    before = {"sql": ["aa", "aa", "aa"], "客服": ["aaaa", "same"]}
    after = {"sql": ["bbb", "bbb", "b"], "客服": ["b", "same"]}
    return evaluation(tmp_path / "a", "A", before), evaluation(tmp_path / "b", "B", after)


def test_a_preference_counts_where_it_holds_in_both_orders(
    address: Address, sides: tuple[Path, Path]
) -> None:
    whole, *sets = judge_pairs(*sides, Judge(address.url, "judge"))
    assert [(one.set, one.n, one.wins_a, one.wins_b, one.ties) for one in (whole, *sets)] == [
        ("all", 5, 2, 2, 1),
        ("sql", 3, 1, 2, 0),
        ("客服", 2, 1, 0, 1),
    ]
    assert whole.share_b == 0.5 and whole.low < 0.5 < whole.high and whole.p == 1
    assert whole.turned == whole.unread == 0
    assert len(address.asked) == 10 and all(
        one["temperature"] == 0 and one["seed"] == 0 for one in address.asked
    )


def test_a_judge_that_favours_a_place_prefers_nothing(address: Address, sides: tuple[Path, Path]) -> None:
    """Trap: one order alone would give every pair to the first answer."""
    address.prefers = lambda one, two: "1"
    whole = judge_pairs(*sides, Judge(address.url, "judge"))[0]
    assert (whole.wins_a, whole.wins_b, whole.ties, whole.turned) == (0, 0, 5, 5)


def test_what_was_said_is_kept_and_not_asked_again(address: Address, sides: tuple[Path, Path]) -> None:
    judge_pairs(*sides, Judge(address.url, "judge"), limit=1)
    assert len(address.asked) == 4, "one question of each set, in both orders"
    first = judge_pairs(*sides, Judge(address.url, "judge"))
    assert len(address.asked) == 10
    assert judge_pairs(*sides, Judge(address.url, "judge")) == first and len(address.asked) == 10
    (kept,) = (sides[1] / "judgements").iterdir()
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 10 and all("VERDICT" in line["reply"] and line["prompt"] for line in lines)
    judge_pairs(*sides, Judge(address.url, "another"))
    assert len(address.asked) == 20, "another judge says for itself"


def test_an_address_that_refuses_or_is_busy_or_gone(
    address: Address, sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address.busy = 2
    assert judge_pairs(*sides, Judge(address.url, "judge"), limit=1)
    monkeypatch.setenv(judging.KEY, "secret-key")
    address.status = 401
    with pytest.raises(DataError, match="refuses the key") as caught:
        judge_pairs(*sides, Judge(address.url, "judge"))
    assert judging.KEY in caught.value.hint and address.keys[-1] == "Bearer secret-key"
    address.status = 404
    with pytest.raises(DataError, match="no chat completion"):
        judge_pairs(*sides, Judge(address.url, "judge"))
    address.status = 200
    for address.answer in (b"<html>", b"[" * 100_000, b'{"choices": {"0": 1}}'):
        with pytest.raises(DataError, match="no chat completion"):
            judge_pairs(*sides, Judge(address.url, "judge"))
    with pytest.raises(DataError, match="does not answer"):
        judge_pairs(*sides, Judge("http://127.0.0.1:9/v1", "judge"))
    for wrong in ("", "127.0.0.1:8000", "ftp://x/v1", "http://"):
        with pytest.raises(UsageError):
            Judge(wrong, "judge")
    assert not any("secret-key" in path.read_text() for path in (sides[1] / "judgements").iterdir())


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: 1", "1"),
        ("both are good\n**Verdict: Tie**", "tie"),
        ("VERDICT: 1? No.\nVERDICT: 2.", "2"),
        ("The first one.", ""),
        ("VERDICT: 12", ""),
        ("Verdict:\n\n**2**", "2"),
        ("VERDICT: 1. The first is right.", "1"),
        ("Before a verdict:\n1. Answer 1 is wrong", ""),
        ("Before a verdict\n\n1. Answer 1\n2. Answer 2\nVERDICT: tie", "tie"),
        ("", ""),
    ],
)
def test_verdicts_are_read(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict
