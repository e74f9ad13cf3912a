"""A conversation: asked as it was trained, shown as it is written, with nothing in it that would drive a
terminal."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import TERMINAL
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import HANGS
from test_cli import Command, run  # noqa: F401  # a fixture
from test_prompt import byte_tokenizer, level_tokenizer, piece_tokenizer
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from doitune.backends.out_of_memory import OutOfMemory
from doitune.backends.sampling import chances
from doitune.backends.written import Sampling
from doitune.base.find import find_base
from doitune.chat.commands import COMMANDS, obey
from doitune.chat.conversation import Conversation
from doitune.chat.find import open_partner
from doitune.chat.partner import Partner, TooLong
from doitune.chat.reply import Reply, Style, answer
from doitune.chat.sampling import changed, own_sampling
from doitune.chat.session import Session
from doitune.chat.text import TextStream
from doitune.console.screen import safe
from doitune.console.talk import SafeWriter, Screen
from doitune.errors import CheckpointError, FitError, ModelError, UsageError
from doitune.export.adapter import export_adapter
from doitune.prompt.encode import decode
from doitune.prompt.template import Template, open_template
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.system.signals import Break
from doitune.train.session import start

TEMPLATES = {
    name: open_template(tokenizer, kind="doit", tokens="reuse", vocabulary_rows=0)
    for name, tokenizer in {
        "bytes": byte_tokenizer(),
        "levels": level_tokenizer(special=("<a>", "<b>")),
        "pieces": piece_tokenizer(),
    }.items()
}


def streamed(template: Template, ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(template, stop)
    return [*(stream.take(token) for token in ids), stream.rest()]


@pytest.mark.parametrize("name", TEMPLATES)
def test_pieces_are_the_text_of_all_tokens(name: str) -> None:
    """With control tokens among them, too. Bytes that are no characters are none in the pieces either; how many
    marks stand for them, and for what stands beside them, is the decoder's matter."""
    template, dice = TEMPLATES[name], random.Random(7)
    vocabulary = sorted(template.tokenizer.get_vocab().values())  # else in another order in each process
    letters = "ABC ,\n好，🦊é"
    for length in range(1, 60):
        text = "".join(dice.choice(letters) for _ in range(length))
        ids = list(template.text_ids([text])[0])
        for control in template.control_ids:
            ids.insert(dice.randint(0, len(ids)), control)
        whole = decode(ids, template)
        assert "\ufffd" not in whole and "".join(streamed(template, ids)) == whole
        junk = [dice.choice(vocabulary) for _ in range(length)]
        shown = "".join(streamed(template, junk))
        shown.encode()
        left = iter(shown)
        assert all(one in left for one in decode(junk, template).replace("\ufffd", "")), "in their order"


@pytest.mark.parametrize("name", ["bytes", "levels"])
def test_no_half_character_is_shown(name: str) -> None:
    """Trap: three bytes of a Chinese character, or four of an emoji, shown as replacement characters one by one."""
    text = "你好，A fox 🦊 und Käse 👩‍💻。"
    ids = TEMPLATES[name].text_ids([text])[0]
    pieces = streamed(TEMPLATES[name], ids)
    assert len(ids) > len(text) and "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces) and sum(bool(piece) for piece in pieces) > 20


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("ab\n好", max_size=30),
    stop=st.lists(st.text("ab\n好", min_size=1, max_size=4), max_size=3),
)
def test_a_reply_ends_before_the_first_stop_text(text: str, stop: list[str]) -> None:
    """However the tokens cut it; and no start of it is handed on before it is known to be none."""
    template = TEMPLATES["bytes"]
    pieces = streamed(template, template.text_ids([text])[0], tuple(stop))
    found = [(text.find(one) + len(one), text.find(one)) for one in stop if one in text]
    assert "".join(pieces) == (text[: min(found)[1]] if found else text)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0),
        Sampling(0.7, top_k=5),
        Sampling(1.3, top_p=0.6),
        Sampling(0.9, 0.8, 20, 1.3),
        Sampling(1.0, top_p=0.0),
        Sampling(repetition_penalty=1.5),
    ],
)
def test_tokens_have_the_chances_that_transformers_gives_them(sampling: Sampling) -> None:
    torch.manual_seed(3)
    for _ in range(20):
        scores, before = torch.randn(1, 60) * 3, torch.randint(0, 60, (1, 12))
        theirs = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(before, scores)
        if sampling.temperature:
            theirs = theirs / sampling.temperature
            theirs = TopKLogitsWarper(sampling.top_k)(before, theirs) if sampling.top_k else theirs
            theirs = TopPLogitsWarper(sampling.top_p)(before, theirs) if sampling.top_p < 1 else theirs
        else:
            theirs = TopKLogitsWarper(1)(before, theirs)
        ours = chances(scores[0], before[0], sampling)
        assert torch.allclose(ours / ours.sum(), theirs.softmax(-1)[0], atol=1e-6)


def test_the_sampling_is_that_of_the_bases_maker(tmp_path: Path, tiny_base: Path) -> None:
    base = replace(find_base(str(tiny_base)), folder=tmp_path)
    path = tmp_path / "generation_config.json"
    assert own_sampling(base)[0].temperature == 0
    for said, expected in (
        ({"temperature": 0.7}, Sampling()),
        ({"do_sample": True}, Sampling(1.0, 1.0, 50)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, Sampling(0.6, 0.9, 20)),
    ):
        path.write_text(json.dumps(said))
        assert own_sampling(base)[0] == expected
    for value in ("hot", True, -1, 1e9):
        path.write_text(json.dumps({"do_sample": True, "temperature": value}))
        with pytest.raises(ModelError, match="temperature is"):
            own_sampling(base)
    with pytest.raises(UsageError, match="top_p 2"):
        changed(Sampling(), top_p=2.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Run:
    """A run of two steps on the demo's base, in a folder of its own: what it says has no meaning, but is text."""
    runs = tmp_path_factory.mktemp("runs")
    wishes = ["lora.rank=4", "train.max_steps=2", "train.examples_per_step=8", "train.learning_rate=0.003"]
    wishes += ["data.budget={biology: 8, history: 8}", "train.max_tokens=256"]
    resolved = resolve("own", model="demo", corpus=str(tiny_corpus), overrides=wishes)
    return start(resolved, runs=runs, scorer=None, on_event=lambda event: None)


@pytest.fixture(scope="module")
def partner(trained: Run) -> Partner:
    return open_partner(str(trained.folder), runs=trained.folder.parents[1])


def never() -> bool:
    return False


def said(partner: Partner, prompt: tuple[int, ...], style: Style, over: Callable[[], bool] = never) -> Reply:
    pieces: list[str] = []
    reply = answer(partner, prompt, style, pieces.append, over)
    assert "".join(pieces) == reply.text
    return reply


GREEDY = Style(Sampling(), 24)
ASKED = Conversation().asking


def test_a_greedy_reply_is_the_one_that_an_evaluation_gets(partner: Partner) -> None:
    prompt = ASKED("第3种鸟吃什么？", partner).prompt
    (written,) = partner.model.generate([prompt], max_new_tokens=24, stop_ids=partner.template.stop_ids)
    reply = said(partner, prompt, GREEDY)
    assert reply.text == "".join(streamed(partner.template, list(written.ids)))
    assert reply.tokens == len(written.ids) > 0
    assert reply.finish == ("stop" if written.stopped else "length") and reply.prompt_tokens == len(prompt)


def test_the_base_is_another_and_the_adapter_is_back_after_it(partner: Partner) -> None:
    prompt = ASKED("第3种鸟吃什么？", partner).prompt
    first, base, again = (said(one, prompt, GREEDY) for one in (partner, partner.base(), partner))
    assert first.text == again.text != base.text


def test_a_seed_draws_the_same_reply_whatever_else_was_drawn(partner: Partner) -> None:
    prompt = ASKED("写", partner).prompt
    hot = Style(Sampling(1.5, seed=11), 24)
    first = said(partner, prompt, hot)
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    assert said(partner, prompt, hot).text == first.text
    assert said(partner, prompt, replace(hot, sampling=Sampling(1.5, seed=12))).text != first.text
    torch.random.set_rng_state(state)


def test_a_reply_ends_at_a_stop_text_and_where_its_reader_has_had_enough(partner: Partner) -> None:
    prompt = ASKED("写", partner).prompt
    hot = Style(Sampling(1.5, seed=11), 60)
    whole = said(partner, prompt, hot)
    stop = next(char for char in whole.text[3:] if char.isprintable() and whole.text.index(char) > 0)
    cut = said(partner, prompt, replace(hot, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish == "stop"
    assert cut.tokens < whole.tokens
    asked = [0]

    def enough() -> bool:
        asked[0] += 1
        return asked[0] > 6

    broken = said(partner, prompt, hot, enough)
    assert broken.finish == "broken off" and 0 < broken.tokens < 8 and whole.text.startswith(broken.text)


def test_lack_of_memory_is_said_and_the_next_question_is_answered(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = ASKED("写", partner).prompt

    def lack(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, pytest.raises(FitError, match="no memory for a reply") as caught:
        patch.setattr(type(partner.model), "continued", lack)
        said(partner, prompt, GREEDY)
    assert not isinstance(caught.value, OutOfMemory), "that one's hint is about training"
    assert said(partner, prompt, GREEDY).tokens


def test_the_oldest_turns_make_room_and_a_question_that_never_fits_is_refused(partner: Partner) -> None:
    partner = replace(partner, context_tokens=512)
    talk = Conversation(system="用中文")
    for number in range(4):
        talk = talk.after(f"{number}" * 150, "x" * 30)
    found = talk.asking("now?", partner)
    assert found.dropped in (2, 4, 6) and len(found.prompt) + 64 <= 512
    assert "用中文" in partner.template.tokenizer.decode(found.prompt), "the system text stays"
    assert talk.asking("y z" * 130, partner).dropped == 8
    with pytest.raises(TooLong, match="reads 512"):
        talk.asking("y z" * 300, partner)


class Heard:
    """A listener that keeps what it hears, and has had enough after some pieces."""

    def __init__(self, enough: int = 10**9) -> None:
        self.names: list[str] = []
        self.pieces: list[str] = []
        self.enough = enough

    def begins(self, name: str) -> None:
        self.names.append(name)

    def text(self, piece: str) -> None:
        self.pieces.append(piece)

    def ends(self, reply: Reply, dropped: int) -> None:
        pass

    def over(self) -> bool:
        return len(self.pieces) >= self.enough


def no_other(name: str) -> Partner:
    raise UsageError(name)


def test_a_session_remembers_undoes_forgets_and_saves(partner: Partner, tmp_path: Path) -> None:
    session, asked = Session(partner, GREEDY), []
    for question in ("一", "二"):
        asked += session.ask(question, Heard())
    assert [turn.content for turn in session.said.turns] == [
        "一",
        asked[0].reply.text,
        "二",
        asked[1].reply.text,
    ]
    assert asked[1].reply.prompt_tokens > asked[0].reply.prompt_tokens
    assert obey(session, "/undo", no_other) == "taken back: 二" and len(session.said.turns) == 2
    assert session.ask("二", Heard())[0].reply.text == asked[1].reply.text, "greedily, the same"
    obey(session, "/system 请用中文", no_other)
    path = tmp_path / "chats.jsonl"
    for _ in range(2):
        obey(session, f"/save {path}", no_other)
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == rows[1] and [one["role"] for one in rows[0]] == ["system", *["user", "assistant"] * 2]
    obey(session, "/reset", no_other)
    assert session.said == Conversation("请用中文")
    for line in ("/undo", f"/save {path}", "/save", "/nothing", "/compare elsewhere"):
        with pytest.raises(UsageError):
            obey(session, line, no_other)
    with pytest.raises(EOFError):
        obey(session, "/exit", no_other)
    assert all(name in obey(session, "/help", no_other) for name in COMMANDS) and len(COMMANDS) == 7


def test_the_base_beside_knows_its_own_replies_only(partner: Partner) -> None:
    session = Session(partner, GREEDY)
    session.ask("一", Heard())
    obey(session, "/compare", no_other)
    heard = Heard()
    first, other = session.ask("二", heard)
    assert heard.names == [partner.name, f"{partner.name}@base"] == [first.name, other.name]
    assert first.reply.text != other.reply.text
    sides = [side.said.turns for side in session.sides]
    assert sides[0][:3] == sides[1][:3] and sides[0][3] != sides[1][3]
    before = session.said
    assert len(session.ask("三", Heard(enough=1))) == 1 and session.said == before, "not every side answered"
    assert "answers alone" in obey(session, "/compare", no_other) and len(session.sides) == 1
    with pytest.raises(UsageError, match="is a base itself"):
        obey(Session(partner.base(), GREEDY), "/compare", no_other)


@pytest.mark.parametrize("seed", range(3))
def test_a_text_in_pieces_is_shown_as_the_whole_would_be(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps: an escape sequence, a family of emoji or a secret that is cut by two pieces."""
    dice = random.Random(seed)
    more = ["👩‍💻", "❤️ und 1️⃣", "hf_" + "a" * 20 + " end", "看hf_" + "b" * 20 + "好", "https://me:pass@host/x"]
    texts = [*TERMINAL, *more, "\n".join(more)]
    assert len(texts) > 200 and "***" in safe(more[2])
    for text in texts:
        shown: list[str] = []
        writer = SafeWriter(shown.append)
        rest = text
        while rest:
            size = dice.randint(1, 4)
            writer.take(rest[:size])
            rest = rest[size:]
        writer.end()
        assert "".join(shown) == safe(text)


def test_a_long_word_is_shown_as_it_is_written_and_a_secret_in_it_is_not() -> None:
    shown: list[str] = []
    writer = SafeWriter(shown.append)
    for _ in range(100):
        writer.take("10")
    assert len("".join(shown)) >= 150, "a word without an end is no silence"
    secrets = ["hf_" + "a" * 90, "github_pat_" + "b" * 60, "AIza" + "c" * 50, "xoxb-" + "d" * 50]
    endless = ["eyJ" + "e" * 60 + "." + "f" * 60 + "." + "g" * 60, "https://" + "u" * 90 + ":pass@host/x"]
    for secret in (*secrets, *endless):
        text = "x" * 70 + "-" + secret + "," + "y" * 70
        shown = []
        writer = SafeWriter(shown.append)
        for character in text:
            writer.take(character)
        writer.end()
        assert "".join(shown) == safe(text) != text


def test_an_adapter_apart_from_its_run_speaks_as_the_run(
    trained: Run, partner: Partner, tmp_path: Path
) -> None:
    """Under its own folder's tokenizer and template: the same ids, the same reply; with a broken base, an error."""
    folder = tmp_path / "adapter"
    export_adapter(trained, folder, on_note=lambda text: None)
    alone = open_partner(str(folder), runs=tmp_path)
    talk = Conversation().after("一", "二")
    for question in ("第3种鸟吃什么？", "写一首诗"):
        prompt = talk.asking(question, alone).prompt
        assert prompt == talk.asking(question, partner).prompt
        reply, own = said(alone, prompt, GREEDY), said(partner, prompt, GREEDY)
        assert (reply.text, reply.finish) == (own.text, own.finish)
        assert said(alone.base(), prompt, GREEDY).text == said(partner.base(), prompt, GREEDY).text
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base"):
        open_partner(str(folder), runs=tmp_path)
    assert open_partner(str(folder), runs=tmp_path, moved_to="demo").notes


def test_another_encoder_is_refused(trained: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "runs" / "own" / trained.folder.name
    shutil.copytree(trained.folder, copy)
    origin = json.loads((copy / "origin.json").read_text(encoding="utf-8"))
    origin["encoder"]["fingerprint"] = "0" * 64
    (copy / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    with pytest.raises(CheckpointError, match="another encoder"):
        open_partner("last", runs=tmp_path / "runs")


def test_chat_answers_scripts(
    run: Command,  # noqa: F811
    trained: Run,
    partner: Partner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--prompt`, a text on stdin, a line a turn, a base beside, a base alone; each in words and in JSON."""
    import io

    runs = str(trained.folder.parents[1])
    expected = said(partner, ASKED("一\n二", partner).prompt, GREEDY).text
    few = ["--max-new-tokens", "24", "--temperature", "0"]
    shown = run("chat", "last", "--runs", runs, "--prompt", "一\n二", *few)
    assert shown == safe(expected.lstrip()) + "\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("一\n二"))
    found = json.loads(run("chat", "--runs", runs, "--json", "--compare", "base", *few))
    assert found["schema"] == "doitune.chat/1" and found["sampling"]["temperature"] == 0
    own, base = found["replies"]
    assert own["text"] == expected and own["prompt"] == "一\n二"
    assert base["target"] == f"{own['target']}@base" and base["text"] != expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("一\n\n/reset\n二\n/exit\n三"))
    found = json.loads(run("chat", "--runs", runs, "--json", "--lines", *few))
    assert [one["prompt"] for one in found["replies"]] == ["一", "二"]
    assert found["replies"][1]["prompt_tokens"] < 8, "after /reset nothing stands before"
    alone = json.loads(run("chat", "demo", "--json", "--prompt", "一\n二", *few))["replies"]
    assert [one["text"] for one in alone] == [base["text"]]
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    for words in ((), ("--prompt", ""), ("--prompt", "x", "--temperature", "9"), ("--prompt", "<s>")):
        run("chat", "--runs", runs, *words, code=65 if "<s>" in words else 2)
    run("chat", "--runs", runs, "--prompt", "a\udcff", code=65)  # a byte that is not UTF-8
    run("chat", "no-such-run", "--runs", runs, "--prompt", "x", code=2)
    run("chat", "last", "--runs", runs, "--prompt", "x y " * 2000, code=65)


class Terminal:
    """`doitune chat` in a pseudo-terminal, and what it has shown so far, without its codes."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [sys.executable, "-m", "doitune", "chat", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_own_terminal,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str, times: int = 1) -> str:
        """What is shown once `text` is there that often, codes of the terminal as well."""
        end = time.monotonic() + HANGS
        while self.shown.count(text) < times:
            assert time.monotonic() < end, self.plain()
            self.look(0.1)
        return self.plain()

    def read(self, number: int) -> str:
        """What is shown once that many lines have been asked for."""
        return self.until("\x1b[?2004h", number)

    def look(self, seconds: float) -> None:
        """Take what is shown within that time."""
        if select.select([self.master], [], [], seconds)[0]:
            piece = os.read(self.master, 1 << 16).decode("utf-8", "replace")
            self.shown += piece
            if "\x1b[6n" in piece:  # where is the cursor?
                os.write(self.master, b"\x1b[1;1R")

    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.shown)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_on_a_terminal_control_c_ends_a_reply_and_control_d_the_chat() -> None:
    """Trap: the signal that ends the command, as it does everywhere else."""
    terminal = Terminal("demo", "--temperature", "1.9", "--seed", "1", "--max-new-tokens", "2000")
    terminal.read(1)
    terminal.type("写\r")
    before = len(terminal.until("写"))
    while len(terminal.plain()) < before + 40:  # the reply is being written
        terminal.look(0.1)
    terminal.type("\x03")
    assert "broken off" in terminal.read(2)
    terminal.type("/undo\r")
    assert "taken back: 写" in terminal.read(3)
    terminal.type("\x03")
    assert "Ctrl-D or /exit leaves" in terminal.read(4)
    terminal.type("\x04")
    assert terminal.child.wait(timeout=HANGS) == 0
    assert "Traceback" not in terminal.plain()


def test_an_empty_reply_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Trap: a newcomer asks a model that has learnt little, and nothing at all is answered."""
    for pieces, said in (((), True), (("  ", "\n"), True), ((" ", "two"), False)):
        screen = Screen(Break(), figures=False)
        screen.begins("")
        for piece in pieces:
            screen.text(piece)
        screen.ends(Reply("".join(pieces), "stop", 3, len(pieces), 0.1), 0)
        out, err = capsys.readouterr()
        assert out.strip() == ("" if said else "two")
        assert ("an empty reply: the model ended its turn at once" in err) == said
