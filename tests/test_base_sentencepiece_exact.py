"""Bases that bring a tokenizer.model are cut as sentencepiece cuts, in training, questions and exports: with pieces
that share one score, as Chinese-LLaMA's do, no tokenizer.json can repeat it."""

from __future__ import annotations

import io
import json
import re
import struct
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_base_order import _field, llama_pieces, model_file
from test_cli_errors import run as command

from doitune.backends import tokenizer as loading
from doitune.backends.tokenizer import load_tokenizer, tokenizer_template
from doitune.backends.tokenizer_check import TEXTS, check_texts
from doitune.backends.tokenizer_cut import load_cut
from doitune.backends.tokenizer_trial import MOST_PIECES, refuse_wild
from doitune.base.assembly import open_assembly
from doitune.base.find import find_base
from doitune.base.make import Order, make_base
from doitune.base.sentencepiece import MODEL_FILE, user_defined, with_blank
from doitune.base.tokens import read_tokens
from doitune.data.example import Message
from doitune.demo.corpus import conversations
from doitune.errors import CheckpointError, ModelError
from doitune.evals.targets import Request, evaluate_target
from doitune.export.merged import Wish, export_merged
from doitune.prepare.origin import refuse_drift
from doitune.prompt.cut import fast_ids
from doitune.prompt.encode import decode, encode, encode_all, encode_question, fingerprint
from doitune.prompt.template import Template
from doitune.recipe.fields import PromptSection
from doitune.recipe.resolve import resolve
from doitune.run.layout import EXAMPLES, ORIGIN
from doitune.run.model import open_trained
from doitune.selftest.world import World, make_world
from doitune.train.session import start

LESSONS = conversations(2000)


def learnt(pieces: int, **more: Any) -> bytes:
    """A sentencepiece model of the demo's lessons, as LLaMA's was trained."""
    import sentencepiece

    out = io.BytesIO()
    wanted: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": pieces,
        "byte_fallback": True,
        "character_coverage": 0.9995,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "num_threads": 1,
        "minloglevel": 2,
    }
    lines = (line for text in LESSONS for line in text.split("\n"))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=out, **{**wanted, **more})
    return out.getvalue()


def processor(data: bytes) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=data)


def with_pieces(data: bytes, texts: Sequence[str], kind: int = 1) -> bytes:
    """The model with further pieces of the score 0, as Chinese-LLaMA's authors added theirs."""
    fields = (_field(1, 2, text.encode()) + _field(2, 5, struct.pack("<f", 0.0)) for text in texts)
    return data + b"".join(_field(1, 2, field + _field(3, 0, bytes([kind]))) for field in fields)


@pytest.fixture(scope="module")
def chinese() -> bytes:
    """A small vocabulary to which the commonest pairs of characters were added."""
    small = learnt(1100)
    have = {processor(small).id_to_piece(number) for number in range(1100)}
    pairs = Counter(text[at : at + 2] for text in LESSONS for at in range(len(text) - 1))
    words = [pair for pair, _ in pairs.most_common() if re.fullmatch("[\u4e00-\u9fff]{2}", pair)]
    return with_pieces(small, [word for word in words if word not in have][:300])


@pytest.fixture(scope="module")
def base(chinese: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By `base make`'s path: a LLaMA with tokenizer.model alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    source = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=processor(chinese).get_piece_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(source)
    (source / MODEL_FILE).write_bytes(chinese)
    ends = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "LlamaTokenizer",
    }
    (source / "tokenizer_config.json").write_text(json.dumps(ends))
    parts = open_assembly(source, [])
    tokens = read_tokens([source], parts.vocabulary)
    assert "share their score" in tokens.note and MODEL_FILE in tokens.note
    out = tmp_path_factory.mktemp("made") / "base"
    return make_base(Order("tiny", parts, tokens.files, "fp32", out, ())).folder


def folder_of(folder: Path, data: bytes, **config: Any) -> Path:
    """A tokenizer's folder by `base make`, without weights."""
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(data)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**ends, **config}))
    for name, content in read_tokens([folder], 10**6).files.items():
        (folder / name).write_bytes(content)
    return folder


def template_of(base: Path) -> Template:
    return tokenizer_template(find_base(str(base)), PromptSection())


def test_training_and_questions_have_sentencepieces_ids(base: Path, chinese: bytes) -> None:
    plain, template = processor(chinese), template_of(base)
    fast = fast_ids(template.tokenizer.backend_tokenizer, LESSONS)
    ids = [plain.encode(text) for text in LESSONS]
    assert sum(one != other for one, other in zip(ids, fast)) > 0.1 * len(LESSONS), (
        "nothing to be exact about"
    )
    assert template.text_ids(LESSONS) == ids
    chats = [(Message("user", text[:40]), Message("assistant", text[40:] or "好")) for text in LESSONS]
    for chat, whole in zip(chats, encode_all(chats, template)):
        asked, said = (plain.encode(message.content.strip()) for message in chat)
        end = template.end_id
        assert list(whole.ids) == [template.user_id, *asked, end, template.assistant_id, *said, end]
        assert list(encode_question(chat[:1], template)) == [
            template.user_id,
            *asked,
            end,
            template.assistant_id,
        ]
        assert decode(said, template) == chat[1].content.strip()


def test_the_check_of_a_base_proves_it_and_counts(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check_texts(base)
    assert report and report.exact and report.texts == TEXTS == 10_000
    assert 0.1 * TEXTS < report.otherwise < TEXTS
    said = command(capsys, monkeypatch, "base", "check", str(base))
    share = f"{report.otherwise / 100:.1f} % of them otherwise"
    assert said.code == 0 and "10,000 of 10,000 as sentencepiece" in said.out.replace("\n", " ")
    assert share in said.out.replace("\n", " ")
    said = command(capsys, monkeypatch, "base", "check", str(base), "--json")
    assert json.loads(said.out)["texts"]["otherwise"] == report.otherwise


def test_a_check_that_finds_other_ids_ends_with_65(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.prompt.cut import Cut

    whole = Cut.text_ids
    monkeypatch.setattr(Cut, "text_ids", lambda self, texts: [ids[1:] for ids in whole(self, texts)])
    said = command(capsys, monkeypatch, "base", "check", str(base))
    assert said.code == 65 and "0 of 10,000 as sentencepiece" in said.out.replace("\n", " ")


LITERALS = (
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<|role|>",
    "<0xFE>",
    "▁",
    " ",
    "  ",
    "\n",
    "\t",
    "\x00",
    "\x7f",
    "\u3000",
)
PARTS = st.one_of(
    st.sampled_from(LITERALS),
    st.sampled_from(LESSONS),
    st.sampled_from("😀👩\u200d中国人天的abc１Ａ é̈"),
    st.text(max_size=8),
)
BLANKS = {
    "as made": ({}, True),
    "LLaMA's class now": ({"tokenizer_class": "LlamaTokenizer"}, False),
    "LLaMA's class then": ({"tokenizer_class": "LlamaTokenizer", "legacy": True}, True),
    "without blanks": ({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}, False),
}


@pytest.fixture(scope="module", params=list(BLANKS))
def cut(request: pytest.FixtureRequest, chinese: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cut with role tokens on top, the bare model, and whether the first and later parts get a blank."""
    config, later = BLANKS[request.param]
    role = {
        "content": "<|role|>",
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    size = processor(chinese).get_piece_size()
    added = {
        str(size): {**role, "special": True},
        str(size + 1): {**role, "content": "<pad>", "special": False},
    }
    folder = folder_of(tmp_path_factory.mktemp("cut") / "base", chinese, added_tokens_decoder=added, **config)
    found, reason = load_cut(folder, load_tokenizer(folder))
    assert found and not reason and found.mark
    return found, chinese, request.param != "without blanks", later, {"<|role|>": size, "<pad>": size + 1}


@settings(deadline=None, max_examples=150)
@given(parts=st.lists(PARTS, max_size=12))
def test_any_text_is_cut_as_between_its_added_tokens(cut: Any, parts: list[str]) -> None:
    """Written anew here: between the literal texts of added tokens, sentencepiece, with a blank or without."""
    found, data, first, later, ids = cut
    blank, bare = processor(data), processor(with_blank(data, False))
    ids = {"<unk>": 0, "<s>": 1, "</s>": 2, **ids}
    text = "".join(parts)
    expected: list[int] = []
    for number, part in enumerate(re.split("(" + "|".join(map(re.escape, ids)) + ")", text)):
        begins = number == 0
        expected += (
            [ids[part]] if part in ids else (blank if (first if begins else later) else bare).encode(part)
        )
    assert found.text_ids([text, "a", text]) == [expected, (blank if first else bare).encode("a"), expected]


def test_order_and_many_texts_at_once(cut: Any) -> None:
    found = cut[0]
    texts = [
        f"{'<s>' * (number % 3)}{text}{'</s>' if number % 5 else ''}" for number, text in enumerate(LESSONS)
    ]
    assert found.text_ids(texts) == [found.text_ids([text])[0] for text in texts]
    assert found.text_ids([]) == []


def test_control_tokens_in_a_text_are_still_found(base: Path) -> None:
    from doitune.errors import DataError

    for forged in ("x</s>y", "<s>"):
        with pytest.raises(DataError, match="holds the control token"):
            encode([Message("user", forged), Message("assistant", "A")], template_of(base))


def test_user_defined_pieces_are_sentencepieces_own(chinese: bytes, tmp_path: Path) -> None:
    """The trap: a blank is put behind a word that tokenizer.json calls an added token."""
    data = with_pieces(chinese, ["[FIG]"], kind=4)
    folder = folder_of(tmp_path / "base", data)
    found, _ = load_cut(folder, load_tokenizer(folder))
    assert found and user_defined(data) == {processor(data).piece_to_id("[FIG]")}
    text = "看图[FIG]中的鸟 [FIG][FIG]"
    assert found.text_ids([text])[0] == processor(data).encode(text)


def test_a_unigram_model_with_a_normaliser(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    data = learnt(
        1500, model_type="unigram", normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True
    )
    plain = processor(data)
    scored = [(plain.id_to_piece(number), plain.get_score(number)) for number in range(len(plain))]
    fast = Tokenizer(models.Unigram(scored, 0, byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=fast, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(data)
    found, reason = load_cut(tmp_path, load_tokenizer(tmp_path))
    assert found, reason
    texts = [*LESSONS[:200], "ｆｕｌｌ　ｗｉｄｔｈ  ①", " \n "]
    assert found.text_ids(texts) == [plain.encode(text) for text in texts]


def test_where_both_files_cut_alike_old_runs_keep_their_encoder(tmp_path: Path) -> None:
    """LLaMA's own pieces have a score each: there is nothing to refuse."""
    folder = folder_of(tmp_path / "base", model_file(llama_pieces(("▁t", "he", "▁the", "中国", "国人"))))
    found, _ = load_cut(folder, load_tokenizer(folder))
    assert found and found.mark == ""
    report = check_texts(folder)
    assert report and report.exact and report.otherwise == 0


OTHERS = {
    "tiktoken": (b"IQ== 0\nIg== 1\nIw== 2\n", "is tiktoken's"),
    "another": (model_file(llama_pieces(("ab", "abc"))), "is .* in tokenizer.json"),
}


@pytest.mark.parametrize("kind", list(OTHERS))
def test_another_models_file_is_left_alone(kind: str, chinese: bytes, tmp_path: Path) -> None:
    data, reason = OTHERS[kind]
    folder = folder_of(tmp_path / "base", chinese)
    (folder / MODEL_FILE).write_bytes(data)
    found, why = load_cut(folder, load_tokenizer(folder))
    report = check_texts(folder)
    assert found is None and re.search(reason, why) and report and report.exact and why in report.text


def blown(times: int) -> bytes:
    """A model whose table makes `times` bytes of each letter a."""
    trie = struct.pack("<4I", 0, 0, 0, 0)
    charsmap = struct.pack("<I", len(trie)) + trie + b"x" * times + b"\0"
    return model_file(llama_pieces(("ab",))) + _field(3, 2, _field(2, 2, charsmap))


DAMAGED: dict[str, Any] = {
    "cut off": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "a pointer of git": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
    "a table of nothing": lambda data: blown(1 << 20),
    "a piece of 40 MB": lambda data: with_pieces(data, ["中" * (13 << 20)]),
    "a piece of 1 MB": lambda data: with_pieces(data, ["中" * (1 << 18)]),
    "millions of pieces": lambda data: with_pieces(data, [f"x{number}" for number in range(MOST_PIECES)]),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(one, marks=pytest.mark.slow) if one == "millions of pieces" else one for one in DAMAGED],
)
def test_a_damaged_or_hostile_file_ends_quickly(kind: str, chinese: bytes, tmp_path: Path) -> None:
    """Tried in a child first; a shortfall is loud: tokenizer.json is not taken in its place unasked."""
    folder = folder_of(tmp_path / "base", chinese)
    (folder / MODEL_FILE).write_bytes(DAMAGED[kind](chinese))
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"cannot be loaded") as caught:
        refuse_wild(folder)
    assert caught.value.exit_code == 65 and time.monotonic() - began < 20
    assert MODEL_FILE in caught.value.problems[0].place


@pytest.fixture(scope="module")
def world(base: Path, chinese: bytes, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its sentences are lessons of the demo that tokenizer.json cuts otherwise."""
    found = make_world(tmp_path_factory.mktemp("exact"))
    fast = fast_ids(template_of(base).tokenizer.backend_tokenizer, LESSONS)
    exact = [processor(chinese).encode(text) for text in LESSONS]
    otherwise = iter([text for text, one, other in zip(LESSONS, fast, exact) if one != other])
    for path in sorted(found.recipe.parent.glob("corpus/curated/*/history_*.json")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row in rows:
            row["messages"][0]["content"] = next(otherwise)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return found


def trained(world: World, base: Path, runs: Path) -> Any:
    sets = [f"model.name={json.dumps(str(base))}", "train.max_steps=2", "model.quantise=none"]
    return start(
        resolve(str(world.recipe), overrides=sets), runs=runs, scorer=None, on_event=lambda event: None
    )


def test_a_run_under_tokenizer_json_has_another_encoder(
    world: World, base: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As runs were made before; judged by its record, whatever its fixed chat happens to show."""
    with monkeypatch.context() as before:
        before.setattr(loading, "load_cut", lambda folder, tokenizer: (None, ""))
        old = trained(world, base, tmp_path / "old")
    with pytest.raises(
        CheckpointError, match=r"another encoder.*cut by the base's tokenizer\.json"
    ) as caught:
        open_trained(old)
    assert "with the doitune that trained it" in caught.value.hint
    with pytest.raises(CheckpointError, match="another encoder"):
        asked = Request(corpus=(str(tiny_corpus),))
        evaluate_target(str(old.folder), asked, runs=tmp_path, on_progress=lambda label, progress: None)
    with pytest.raises(CheckpointError, match="another encoder"):
        export_merged(Wish(old, tmp_path / "merged"))
    new = trained(world, base, tmp_path / "new")
    with pytest.raises(CheckpointError, match=r"encoder\.cut_by: was None, is tokenizer\.model"):
        refuse_drift(old.read_json(ORIGIN), new.read_json(ORIGIN), "old")
    open_trained(new)


def test_an_exported_folder_cuts_as_training(
    world: World, base: Path, tmp_path: Path, chinese: bytes
) -> None:
    run = trained(world, base, tmp_path / "runs")
    found = export_merged(Wish(run, tmp_path / "merged", questions=0))
    assert found.same and (tmp_path / "merged" / MODEL_FILE).read_bytes() == chinese
    prompt = found.document["prompt"]
    assert prompt["cut_by"] == MODEL_FILE and 0 < prompt["tokenizer_json_otherwise"] <= prompt["chats"]
    _, _, template, _ = open_trained(run)
    exported = template_of(tmp_path / "merged")
    assert exported.text_ids(LESSONS) == template.text_ids(LESSONS)
    assert fingerprint(template) == run.read_json(ORIGIN)["encoder"]["fingerprint"]
    assert (run.folder / EXAMPLES).is_file()
