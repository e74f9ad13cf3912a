"""An exported folder is the trained model, by measurement, or says that it is not; and a killed export
ends in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Desk
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from doitune.base import assembly, make
from doitune.base.assembly import open_assembly
from doitune.base.find import find_base
from doitune.base.folder import RECORD, REPORT
from doitune.base.journal import Journal
from doitune.base.make import Order, make_base
from doitune.base.record import check_folder
from doitune.base.tokens import read_tokens
from doitune.data.example import Message
from doitune.errors import CheckpointError, DiskError, LockedError, ModelError, ParityError, UsageError
from doitune.export import parity
from doitune.export.merged import Wish, export_merged
from doitune.export.parity import Answers, compare, fitting
from doitune.export.report import Export
from doitune.export.tokenizer import CHATS, exported_tokens, prove_files
from doitune.prompt.batch import pad
from doitune.prompt.encode import encode, encode_question
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.template import open_template
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, resolved
from doitune.run.model import open_trained
from doitune.selftest.world import World, make_world
from doitune.system.disk import file_sha256
from doitune.system.lock import hold
from doitune.train.session import start

WEIGHTS = "model.safetensors"
NOISE = 1e-6
"""Nats of mean KL that fp32 alone makes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("export 世界"))


def trained(world: World, *sets: str) -> Run:
    """A run of all 8 steps."""
    runs = world.recipe.parent / f"runs-{len(list(world.recipe.parent.glob('runs-*')))}"
    return start(
        resolve(str(world.recipe), overrides=list(sets)), runs=runs, scorer=None, on_event=lambda event: None
    )


@pytest.fixture(scope="module")
def run(world: World) -> Run:
    """Trained on NF4."""
    return trained(world)


@pytest.fixture(scope="module")
def run_fp32(world: World) -> Run:
    """Trained on the base as it is."""
    return trained(world, "model.quantise=none")


def export(run: Run, out: Path, **more: Any) -> Export:
    return export_merged(Wish(run, out, **more))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def plain_log_probs(folder: Path, ids: tuple[int, ...]) -> torch.Tensor:
    """[T, V]: what transformers alone makes of the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)


@cache
def plain_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def plain_ids(folder: Path, messages: tuple[Message, ...], *, question: bool) -> list[int]:
    """What transformers alone makes of a chat."""
    said = [{"role": one.role, "content": one.content} for one in messages]
    return list(
        plain_tokenizer(folder).apply_chat_template(
            said, tokenize=True, add_generation_prompt=question, return_dict=False
        )
    )


def own_log_probs(run: Run, ids: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """[T, V] of the trained model and of its bare base."""
    _, model, _, _ = open_trained(run, "best")
    row = Encoded((*ids, 0), (IGNORED, *ids[1:], 0))
    with_adapter = model.log_probs(pad([row]))
    with model.without_adapter():
        return with_adapter, model.log_probs(pad([row]))


def test_a_merge_in_fp32_is_the_trained_model_to_rounding(run_fp32: Run, tmp_path: Path) -> None:
    found = export(run_fp32, tmp_path / "merged 合并")
    said, folder = found.document, tmp_path / "merged 合并"
    assert found.same and said["dtype"] == "float32" and said["trained_against"] == "own"
    (pair,) = said["parity"]
    assert pair["agreement"] == 1.0 and pair["kl_nats"] < NOISE and pair["positions"] > 20
    assert (
        said["effect_nats"]["merged"] == pytest.approx(said["effect_nats"]["trained"], rel=1e-3)
        and said["effect_nats"]["trained"] > 0.01
    )
    assert said["matrices"]["adapted"] == said["matrices"]["changed"] == 14
    assert (
        said["evaluation"]["questions"] == 4
        and said["evaluation"]["difference"] == said["evaluation"]["flips_down"] == 0
    )
    ids = tuple(range(20, 60))
    adapter, base = own_log_probs(run_fp32, ids)
    merged = plain_log_probs(folder, ids)
    assert (merged - adapter).abs().max() < 1e-4 < (adapter - base).abs().max() / 100
    assert {path.name for path in folder.iterdir()} == {
        WEIGHTS, "README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", RECORD, REPORT,
    }  # fmt: skip
    assert (
        file_sha256(folder / WEIGHTS) not in find_base(resolved(run_fp32).recipe.model.name).sha256().values()
    )
    assert not list(tmp_path.glob(".*")), "locks and replies are gone"
    rows = json.loads((run_fp32.checkpoints.all()[-1].folder / "probe.json").read_text("utf-8"))["rows"]
    assert rows and not [row for row in rows if row["id"] in (folder / REPORT).read_text("utf-8")]


def test_a_model_trained_on_four_bits_is_the_same_on_them_and_another_on_its_base(
    run: Run, tmp_path: Path
) -> None:
    """The trap: an adapter learnt on NF4 values is merged into the base it was quantised from, and nobody
    says so."""
    held, base = export(run, tmp_path / "held"), export(run, tmp_path / "base", into="base")
    assert held.same and held.document["merged_into"] == "nf4" and base.document["merged_into"] == "own"
    pairs = {
        name: {(one["a"], one["b"]): one for one in found.document["parity"]}
        for name, found in (("held", held), ("base", base))
    }
    key, rounding, bits = ("trained", "merged"), ("unquantised", "merged"), ("trained", "unquantised")
    assert pairs["held"][key]["kl_nats"] < NOISE < pairs["base"][key]["kl_nats"]
    assert pairs["base"][rounding]["kl_nats"] < NOISE and pairs["base"][rounding]["agreement"] == 1.0
    assert pairs["base"][bits] == pairs["held"][bits] and pairs["base"][bits]["kl_nats"] == pytest.approx(
        pairs["base"][key]["kl_nats"], rel=1e-3
    )
    assert base.same == (pairs["base"][key]["agreement"] >= 0.98)
    ids = tuple(range(20, 60))
    assert (plain_log_probs(tmp_path / "held", ids) - own_log_probs(run, ids)[0]).abs().max() < 1e-3


def test_sixteen_bits_round_and_say_how_much(run: Run, tmp_path: Path) -> None:
    found = export(run, tmp_path / "merged", dtype="bf16", questions=0)
    assert {str(one.dtype) for one in load_file(tmp_path / "merged" / WEIGHTS).values()} == {"torch.bfloat16"}
    assert 0 < found.document["parity"][0]["kl_nats"] < 1e-3 and found.document["evaluation"] is None
    assert json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
    assert any("--questions 0" in text for text in found.document["left_out"])


def test_rows_of_their_own_are_in_the_file_and_in_the_tokenizer(world: World, tmp_path: Path) -> None:
    run = trained(world, "prompt.tokens=new", "train.max_steps=3")
    found = export(run, tmp_path / "merged")
    recipe, _, template, _ = open_trained(run)
    assert found.same and found.document["matrices"]["token_rows"] == 3 == template.new_rows
    folder, before = tmp_path / "merged", int(find_base(recipe.model.name).config["vocab_size"])
    assert json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"] == before + 3
    rows = load_file(run.checkpoints.all()[-1].folder / "token_rows.safetensors")["embedding"]
    assert torch.equal(load_file(folder / WEIGHTS)["model.embed_tokens.weight"][before:], rows)
    for messages in CHATS:
        assert plain_ids(folder, messages[:-1], question=True) == list(
            encode_question(messages[:-1], template)
        )
        assert plain_ids(folder, messages, question=False) == list(encode(messages, template).ids)
    generation = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert (
        generation.eos_token_id == list(template.stop_ids)
        and plain_tokenizer(folder).eos_token_id == template.end_id
    )


def _metaspace(folder: Path) -> Any:
    """A tokenizer as sentencepiece's: a blank before a text's first word only, no reserved token but two
    impossible bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "A",
        "▁A",
        "1",
        "▁1",
        "+",
        "=",
        "?",
    ]
    made = Tokenizer(
        models.BPE(
            {name: number for number, name in enumerate(names)},
            [("▁", "A"), ("▁", "1")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "bos_token_id": 1, "vocab_size": 300})
    )
    return fast


@pytest.mark.parametrize("tokens", ["reuse", "new"])
def test_a_blank_before_each_content_and_roles_that_are_bytes(tmp_path: Path, tokens: str) -> None:
    """The traps: `▁A` after a role token becomes `A`; `<0xFE>` is spelled out; new ids begin behind a gap
    of unused rows."""
    template = open_template(_metaspace(tmp_path), kind="doit", tokens=tokens, vocabulary_rows=300)
    files = exported_tokens(template, tmp_path, 300)
    prove_files(files, {"model_type": "llama"}, template, CHATS)
    spoilt = json.loads(files["tokenizer.json"])
    spoilt["pre_tokenizer"]["prepend_scheme"] = "first"
    with pytest.raises(ModelError, match="gives a chat other ids than training did"):
        prove_files(
            {**files, "tokenizer.json": json.dumps(spoilt).encode()}, {"model_type": "llama"}, template, CHATS
        )


def test_a_base_with_a_chat_template_of_its_own_keeps_it(world: World, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(resolve(str(world.recipe)).recipe.model.name, base)
    text = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    (base / "chat_template.jinja").write_text(text)
    run = trained(world, f"model.name={json.dumps(str(base))}", "prompt.template=model", "train.max_steps=2")
    found = export(run, tmp_path / "merged", questions=0)
    _, _, template, _ = open_trained(run)
    assert found.same and (tmp_path / "merged" / "chat_template.jinja").read_text() == text
    question = (Message("user", "1+1=?"),)
    assert plain_ids(tmp_path / "merged", question, question=True) == list(
        encode_question(question, template)
    )


def test_a_base_that_lies_in_four_bits_is_written_in_sixteen(world: World, tmp_path: Path) -> None:
    source = Path(resolve(str(world.recipe)).recipe.model.name)
    parts = open_assembly(source, [])
    files = read_tokens([source], parts.vocabulary).files
    make_base(Order("tiny", parts, files, "nf4", tmp_path / "nf4", ()))
    run = trained(world, f"model.name={json.dumps(str(tmp_path / 'nf4'))}", "train.max_steps=3")
    found = export(run, tmp_path / "merged", dtype="fp32", questions=0)
    assert (
        found.same and len(found.document["parity"]) == 1 and found.document["parity"][0]["kl_nats"] < NOISE
    )
    assert not json.loads((tmp_path / "merged" / "config.json").read_text("utf-8")).get("quantization_config")
    with pytest.raises(UsageError, match="in 4 bits only"):
        export(run, tmp_path / "other", into="base")


SCALES: dict[str, tuple[float, str]] = {
    "too strong": (40.0, "the same likeliest token"),
    "without effect": (0.0, "are the base's own: none of 14"),
}


@pytest.mark.parametrize("kind", list(SCALES))
def test_a_merge_that_is_another_model_is_refused_and_marked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """peft's own accidents: alpha / r taken otherwise, an adapter that is not merged at all. The folder
    loads and answers; only the trial tells."""
    scale, said = SCALES[kind]
    plain = assembly.open_adapter
    monkeypatch.setattr(
        assembly, "open_adapter", lambda name, folder: replace(plain(name, folder), scale=scale)
    )
    found = export(run, tmp_path / "merged")
    document = json.loads((tmp_path / "merged" / REPORT).read_text("utf-8"))
    assert document["same"] is False and any(said in one for one in document["problems"])
    assert document["parity"][0]["agreement"] < 0.98
    with pytest.raises(ParityError, match="merged") as caught:
        found.refuse_other()
    assert caught.value.exit_code == 70 and "kept, and marked in its export.json" in caught.value.hint
    again = export(run, tmp_path / "merged")
    assert again.again and not again.same


def test_the_command_shows_the_report_and_exits_with_70(run: Run, tmp_path: Path) -> None:
    plain = assembly.open_adapter

    def before() -> None:
        assembly.open_adapter = lambda name, folder: replace(plain(name, folder), scale=40.0)

    shell = Desk(tmp_path)
    ended = shell.do(
        "export", str(run.folder), "--out", str(tmp_path / "merged"), "--questions", "0", before=before
    )
    assert (
        ended.code == 70
        and "trained / merged" in ended.said
        and "NOT the same model" in ended.said
        and "% are wanted" in ended.said
    )
    ended = shell.do(
        "export",
        str(run.folder),
        "--out",
        str(tmp_path / "merged"),
        "--questions",
        "0",
        "--json",
        before=before,
    )
    assert ended.code == 70 and json.loads(ended.said[ended.said.index("{\n") :])["kind"] == "parity"


def test_answers_are_cut_to_what_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Encoded((1, 2, 3, 4), (IGNORED, IGNORED, 3, 4))] * 300
    assert len(fitting(rows, 1000)) == 200
    monkeypatch.setattr(parity, "MOST_NUMBERS", 10_000)
    assert len(fitting(rows, 1000)) == 5 and len(fitting(rows, 10**6)) == 1


def test_agreement_counts_positions_and_a_broken_model_agrees_with_nothing() -> None:
    logits = torch.randn(100, 7, generator=torch.Generator().manual_seed(0))
    one = Answers(logits.log_softmax(-1), (1.0,), {})
    assert compare("a", one, "b", one).agreement == 1.0
    flipped = logits.clone()
    flipped[:3] = -flipped[:3]
    pair = compare("a", one, "b", Answers(flipped.log_softmax(-1), (1.0,), {}))
    assert pair.agreement == pytest.approx(0.97) and pair.kl_nats > 0
    broken = compare("a", one, "b", Answers(torch.full((100, 7), float("nan")), (float("nan"),), {}))
    assert broken.agreement == 0.0 and broken.to_json()["loss_b"] is None


def _kill_at(module: Any, name: str, number: int) -> Callable[[], None]:
    """Prepare a child to kill itself as it comes to a function for the n-th time; several shards, though
    the base is tiny."""

    def prepare() -> None:
        make.SHARD_BYTES = 100_000
        then, seen = getattr(module, name), []

        def arrive(*arguments: Any, **named: Any) -> Any:
            seen.append(True)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return then(*arguments, **named)

        setattr(module, name, arrive)

    return prepare


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    from doitune.evals import saved
    from doitune.export import merged, report

    shell = Desk(tmp_path)
    assert shell.do(*shell.train("runs", "--set", "train.max_steps=3")).code == 0
    command = ("export", "last", "--runs", str(tmp_path / "runs"), "--out")
    small = _kill_at(Journal, "close", 10**9)
    assert shell.do(*command, str(tmp_path / "whole"), before=small).code == 0
    wanted = digests(tmp_path / "whole")
    assert len([name for name in wanted if name.endswith(".safetensors")]) > 3
    out = tmp_path / "killed 断" / "whole"  # its card is called after the folder
    places = [
        (Journal, "add", 3),
        (merged, "prove_folder", 1),
        (saved, "append_lines", 2),
        (report, "write_json", 1),
    ]
    for module, name, number in places:
        assert shell.do(*command, str(out), before=_kill_at(module, name, number)).code == -signal.SIGKILL, (
            name
        )
        assert not out.exists() or json.loads((out / REPORT).read_text("utf-8"))["same"] is None, (
            "no promise before the end"
        )
    ended = shell.do(*command, str(out), before=small)
    assert ended.code == 0 and "the same model" in ended.said, ended.said
    assert digests(out) == wanted
    assert not list(tmp_path.glob(".*"))
    again = shell.do(*command, str(out), "--json", before=small)
    assert (
        again.code == 0
        and json.loads(again.said[again.said.index("{\n") :])["schema"] == "doitune.export/1"
        and digests(out) == wanted
    )


def test_what_is_not_its_own_is_left_alone(run: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    for out, why in ((foreign, "it holds thesis.txt"), (foreign / "thesis.txt", "is a file")):
        with pytest.raises(UsageError, match=why):
            export(run, out)
    for name in ("x" * 300, "~nobody-of-this-name/x", "a\0b"):
        with pytest.raises(UsageError, match=r"cannot be written|no user of that name"):
            export(run, Path(name))
    assert (foreign / "thesis.txt").read_text() == "years of work"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert export(run, empty, questions=0).same
    with pytest.raises(ModelError, match=r"makes: it holds .*\(nf4 values\).*, and not .*\(own "):
        export(run, empty, into="base", questions=0)
    (empty / ".export.json.99999999.part").write_text("{")  # half a record, of a process that was killed
    again = export(run, empty, questions=0)
    assert not list(empty.glob(".*"))
    assert again.again and check_folder(empty).differences == ()
    data = bytearray((empty / WEIGHTS).read_bytes())
    data[-9] ^= 1
    (empty / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="not as it was exported"):
        export(run, empty, questions=0)


def test_locks_room_and_wrong_words(
    run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "merged"
    with hold(tmp_path / ".merged.export.lock", "it"), pytest.raises(LockedError):
        export(run, out)
    for words in ({"into": "gguf"}, {"dtype": "nf4"}):
        with pytest.raises(UsageError):
            export(run, out, **words)
    with pytest.raises(CheckpointError, match="no checkpoint of step 77"):
        export(run, out, checkpoint="77")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(DiskError, match="are needed") as caught:
        export(run, out)
    assert "--out" in caught.value.hint and not out.exists()


def test_another_base_than_the_one_that_was_trained_on(world: World, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(resolve(str(world.recipe)).recipe.model.name, base)
    run = trained(world, f"model.name={json.dumps(str(base))}", "train.max_steps=1")
    data = bytearray((base / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (base / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"trained on another base: model\.safetensors"):
        export(run, tmp_path / "merged")
