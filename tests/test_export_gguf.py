"""A GGUF says what the folder says that it was made of, its vocabulary cuts texts as training did, and what is
otherwise takes no name. The tests of llama.cpp itself are slow and need the package xllamacpp."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Desk
from gguf import GGUFReader, dequantize
from tokenizers import ByteLevelBPETokenizer, Regex, Tokenizer, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from doitune.backends.tokenizer import load_tokenizer
from doitune.base.find import find_base
from doitune.errors import ModelError, ParityError, UsageError
from doitune.export.gguf import export as exporting
from doitune.export.gguf.file import plan_file, write_file
from doitune.export.gguf.modelfile import count_unlike, modelfile, read_frame
from doitune.export.gguf.quantise import find_quantiser
from doitune.export.gguf.vocabulary import BYTE, CONTROL, CUTS, NORMAL, read_vocabulary
from doitune.export.tokenizer import CHATS, exported_template, exported_tokens
from doitune.prompt.template import Template, open_template

ROWS = find_base("demo").size("vocabulary")
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": ROWS, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "initializer_range": 0.2,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64, "rope_theta": 500000.0}  # fmt: skip
GEMMA = {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama3.2": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True, "head_dim": 32}),
    "mistral": ("mistral", {"sliding_window": 96}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {**GEMMA, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0}),
    "gemma3": (
        "gemma3_text",
        {
            **GEMMA,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
            },
        },
    ),
    "phi3": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": 96}),
}
TEXTS = (
    "你好，1+1=? 12345 It's  two   blanks",
    " leading\n\n\n\tand tabs\r\n end  ",
    "def f(x):\n    return {'a': x**2}  # don't",
    "Ünïcödé ﬁne café 🙂🇨🇭 ▁ α²",
)


def merged_folder(folder: Path, kind: str = "llama") -> tuple[Path, Template]:
    """A model of random weights with the demo's tokenizer, as an export writes it."""
    name, more = KINDS[kind]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SIZES, **more})).save_pretrained(folder)
    base = find_base("demo")
    tokenizer = load_tokenizer(base.folder)
    template = open_template(tokenizer, kind="doit", tokens="reuse", vocabulary_rows=ROWS)
    for file, content in exported_tokens(template, base.folder, ROWS).items():
        (folder / file).write_bytes(content)
    return folder, template


def read_back(folder: Path, kind: str, path: Path) -> GGUFReader:
    write_file(plan_file(folder, kind), path, lambda progress: None)
    return GGUFReader(path)


def test_the_vocabulary_has_roles_blanks_and_the_order_of_merges(tmp_path: Path) -> None:
    """The traps, each measured: roles that are no control tokens, a blank put in front, scores that say nothing."""
    folder, template = merged_folder(tmp_path / "m")
    file = read_back(folder, "f16", tmp_path / "x.gguf")
    said = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in file.fields.items()}
    tokens, types, scores = said["tokens"], said["token_type"], said["scores"]
    assert len(tokens) == len(types) == len(scores) == ROWS
    assert {types[one] for one in (template.user_id, template.assistant_id, template.end_id)} == {CONTROL}
    assert (said["add_bos_token"], said["add_eos_token"], said["add_space_prefix"]) == (False, False, False)
    assert said["model"] == "llama" and "▁" in tokens and " " not in tokens
    merges = [
        "".join(one) for one in json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    ]
    ranked = [scores[tokens.index(one)] for one in dict.fromkeys(merges)]
    assert len(ranked) > 100 and ranked == sorted(ranked, reverse=True)
    assert types[tokens.index("<0xE4>")] == BYTE and said["eos_token_id"] == template.end_id
    assert (
        said["tokenizer.chat_template"]
        == json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_weights_are_the_folders_own_and_the_bytes_the_same_twice(tmp_path: Path, kind: str) -> None:
    folder, _ = merged_folder(tmp_path / "m", kind)
    file = read_back(folder, "f32", tmp_path / "x.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    found = {one.name: one.data for one in file.tensors}
    assert np.array_equal(found["token_embd.weight"], model["model.embed_tokens.weight"].numpy())
    assert np.array_equal(
        found["blk.1.ffn_down.weight"], model["model.layers.1.mlp.down_proj.weight"].numpy()
    )
    norm, raised = model["model.norm.weight"].numpy(), 1.0 if "gemma" in kind else 0.0
    assert np.array_equal(found["output_norm.weight"], norm + raised)
    name = ("qkv_proj", "attn_qkv") if kind == "phi3" else ("q_proj", "attn_q")
    query, there = (
        model[f"model.layers.0.self_attn.{name[0]}.weight"].numpy(),
        found[f"blk.0.{name[1]}.weight"],
    )
    if (
        file.fields["general.architecture"].contents() == "llama"
    ):  # of a head's pairs, the halves lie side by side
        half = len(query) // SIZES["num_attention_heads"] // 2
        assert np.array_equal(there[0:4:2], query[0:2]) and np.array_equal(
            there[1:4:2], query[half : half + 2]
        )
    else:
        assert np.array_equal(there, query)
    assert ("rope_freqs.weight" in found) == (kind == "llama3.2")
    write_file(plan_file(folder, "f32"), tmp_path / "y.gguf", lambda progress: None)
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()


def test_eight_bits_and_what_does_not_fit_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "intermediate_size", 80)  # no whole blocks of 32
    folder, _ = merged_folder(tmp_path / "m")
    plan = plan_file(folder, "q8_0")
    file = read_back(folder, "q8_0", tmp_path / "x.gguf")
    kinds = {one.name: one.tensor_type.name for one in file.tensors}
    assert (
        kinds["blk.0.attn_q.weight"] == "Q8_0"
        and kinds["blk.0.ffn_down.weight"] == "F16"
        and kinds["output_norm.weight"] == "F32"
    )
    assert (tmp_path / "x.gguf").stat().st_size <= plan.bytes
    one = next(one for one in file.tensors if one.name == "token_embd.weight")
    whole = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        .state_dict()["model.embed_tokens.weight"]
        .numpy()
    )
    assert 0 < np.abs(dequantize(one.data, one.tensor_type) - whole).max() < 0.01
    monkeypatch.setattr("doitune.export.gguf.file.PIECE", 1000)  # streamed in other pieces: the same bytes
    again = tmp_path / "y.gguf"
    write_file(plan, again, lambda progress: None)
    assert again.read_bytes() == (tmp_path / "x.gguf").read_bytes()


def test_values_that_a_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    folder, _ = merged_folder(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 3] = 1e6
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="too large for F16"):
        read_back(folder, "f16", tmp_path / "x.gguf")
    read_back(folder, "bf16", tmp_path / "y.gguf")


def byte_level(folder: Path, cut: tuple[str, ...]) -> Any:
    """A byte-level tokenizer that cuts words by the steps `cut` (see CUTS)."""
    made = ByteLevelBPETokenizer()
    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    made.train_from_iterator(
        [*TEXTS, "the theme of them all", "二十三十 你好你好"] * 3, vocab_size=360, special_tokens=special
    )
    steps = {
        "words": pre_tokenizers.ByteLevel(False),
        "bytes": pre_tokenizers.ByteLevel(False, use_regex=False),
    }
    steps["digits"] = pre_tokenizers.Digits(individual_digits=True)
    parts = [steps[one] if one in steps else pre_tokenizers.Split(Regex(one), "isolated") for one in cut]
    made._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts) if len(parts) > 1 else parts[0]
    document = json.loads(made._tokenizer.to_str())
    document["model"]["ignore_merges"] = CUTS.get(cut) == "llama-bpe"
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(document)), eos_token="<|end|>", pad_token="<|end|>",
                                   additional_special_tokens=special[1:])  # fmt: skip
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "vocab_size": 400, "bos_token_id": None})
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))
    (folder / "chat_template.jinja").write_text("{{ 'x' }}")
    return fast


@pytest.mark.parametrize("cut", list(CUTS), ids=list(CUTS.values()))
def test_byte_level_tokenizers_are_called_by_llama_cpps_names(tmp_path: Path, cut: tuple[str, ...]) -> None:
    byte_level(tmp_path, cut)
    found = read_vocabulary(tmp_path, 400)
    assert found.kind == "gpt2" and found.cut == CUTS[cut] and len(found.merges) > 20 and not found.scores
    assert found.types[:4] == (CONTROL, CONTROL, CONTROL, NORMAL) and found.texts[-1] == "[PAD399]"
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text("utf-8"))
    document["model"]["unk_token"] = found.texts[0]  # as SmolLM2 has it
    path.write_text(json.dumps(document), "utf-8")
    assert read_vocabulary(tmp_path, 400).types == found.types, "of bytes nothing is unknown"


def test_tokenizers_that_llama_cpp_cannot_follow_are_refused_with_the_reason(tmp_path: Path) -> None:
    byte_level(tmp_path, ("words",))
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text("utf-8"))
    other = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}, document["pre_tokenizer"]],
    }
    for changed, reason in (
        ({"pre_tokenizer": other}, "Punctuation"),
        ({"pre_tokenizer": {**document["pre_tokenizer"], "add_prefix_space": True}}, "not among llama.cpp's"),
        ({"normalizer": {"type": "Lowercase"}}, "changes texts first"),
        ({"model": {**document["model"], "ignore_merges": True}}, "whole words"),
        ({"pre_tokenizer": None}, "neither byte-level"),
    ):
        path.write_text(json.dumps({**document, **changed}))
        with pytest.raises(ModelError, match=reason):
            read_vocabulary(tmp_path, 400)
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="300 rows"):
        read_vocabulary(tmp_path, 300)
    folder, _ = merged_folder(tmp_path / "m")
    spoilt = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    spoilt["pre_tokenizer"]["pattern"] = {"Regex": "."}  # cuts inside its own pieces
    (folder / "tokenizer.json").write_text(json.dumps(spoilt))
    with pytest.raises(ModelError, match="has no cut"):
        read_vocabulary(folder, ROWS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "glm4"}))
    with pytest.raises(ModelError, match="model_type 'glm4' is not written here"):
        plan_file(folder, "f16")


def test_a_modelfile_writes_chats_as_the_chat_template_does_but_for_blanks(tmp_path: Path) -> None:
    folder, template = merged_folder(tmp_path / "m")
    found = exported_template(folder, template)
    frame = read_frame(found)
    blanks = [chat for chat in CHATS if any(one.content != one.content.strip() for one in chat[:-1])]
    assert blanks and count_unlike(frame, found, CHATS) == len(blanks)
    text = modelfile("model-f16.gguf", frame, ["</s>"], 512)
    assert text.startswith('FROM ./model-f16.gguf\nTEMPLATE """') and 'PARAMETER stop "</s>"' in text
    with pytest.raises(ModelError, match="for their own"):
        modelfile("x", replace(frame, opened="{{ x }}"), [], 512)


def test_what_is_missing_is_said_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Desk(tmp_path)
    asked = ("export", "last", "--runs", str(tmp_path), "--out", str(tmp_path / "x"))
    for words, said in (
        (("--to", "ggml"), "no export to 'ggml'"),
        (("--to", "merged", "--quant", "q8_0"), "--quant says nothing of --to merged"),
        (("--to", "gguf", "--base", "a/b"), "--base says nothing of --to gguf"),
    ):
        ended = shell.do(*asked, *words)
        assert ended.code == 2 and said in ended.said
    with pytest.raises(UsageError, match="no llama-quantize in"):
        find_quantiser(tmp_path)
    monkeypatch.setattr("doitune.export.gguf.quantise.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"only llama\.cpp's own quantiser") as caught:
        find_quantiser(None)
    assert "--llama-cpp FOLDER" in caught.value.hint
    monkeypatch.setattr("doitune.backends.llama_cpp.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"before llama\.cpp has read it"):
        exporting._refuse_unable(exporting.Files(None, ("f16",)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'q9'"):
        exporting._refuse_unable(exporting.Files(None, ("q9",)))  # type: ignore[arg-type]


# What follows asks llama.cpp itself.


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_llama_cpp_computes_what_transformers_does(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    from doitune.backends.llama_cpp import LlamaCppModel, running

    folder, template = merged_folder(tmp_path / "m", kind)
    read_back(folder, "f32", tmp_path / "x.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = list(range(20, 80))
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    with running(tmp_path / "x.gguf", 512) as server:
        asked = LlamaCppModel(server, template.tokenizer, ROWS)
        for length in (1, 7, 60):
            assert (asked.asker.log_probs(ids[:length]) - wanted[length - 1]).abs().max() < 2e-3
        assert asked.asker.log_probs(ids, [5, 7]).tolist() == pytest.approx(
            wanted[-1][[5, 7]].tolist(), abs=2e-3
        )
        reply = asked.generate([ids], max_new_tokens=5, stop_ids=template.stop_ids, watch_ids=[5, 7])[0]
        assert reply.first_scores == pytest.approx(tuple(wanted[-1][[5, 7]].tolist()), abs=2e-3)
        written = model.generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False)[
            0, len(ids) :
        ].tolist()
        assert list(reply.ids) == written[: len(reply.ids)] and reply.ids


@pytest.mark.slow
@pytest.mark.parametrize("cut", list(CUTS), ids=list(CUTS.values()))
def test_llama_cpp_cuts_texts_as_the_tokenizer_does(tmp_path: Path, cut: tuple[str, ...]) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    from doitune.backends.llama_cpp import running

    fast = byte_level(tmp_path, cut)
    name = "qwen2" if CUTS[cut] == "qwen2" else "llama"
    more = {**SIZES, "vocab_size": 400, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **more)).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))
    read_back(tmp_path, "f16", tmp_path / "x.gguf")
    with running(tmp_path / "x.gguf", 512) as server:
        for text in (*TEXTS, f"<|user|>{TEXTS[0]}<|end|><|assistant|>"):
            found = server.ask("tokenize", content=text, add_special=False, parse_special=True)["tokens"]
            assert found == fast(text, add_special_tokens=False)["input_ids"], text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from doitune.recipe.resolve import resolve
    from doitune.selftest.world import make_world
    from doitune.train.session import start

    world = make_world(tmp_path_factory.mktemp("gguf 世界"))
    recipe = resolve(str(world.recipe), overrides=["train.max_steps=4"])
    return start(recipe, runs=world.recipe.parent / "runs", scorer=None, on_event=lambda event: None)


def files(run: Any, out: Path, *quants: str, ollama: bool = False, questions: int = 4) -> exporting.Files:
    from doitune.export.merged import Wish

    return exporting.Files(Wish(run, out, questions=questions), quants or ("f16",), ollama)


@pytest.mark.slow
def test_an_export_is_measured_and_recognised(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    found = exporting.export_gguf(files(run, tmp_path / "o", "f16", "q8_0", ollama=True))
    one, eight = (found.document["files"][f"model-{kind}.gguf"] for kind in ("f16", "q8_0"))
    assert found.same and one["prompt"]["chats"] == one["prompt"]["rendered_alike"] > 5
    assert one["parity"]["agreement"] >= 0.98 and one["parity"]["kl_nats"] < 1e-3 < one["parity"]["positions"]
    assert eight["parity"]["kl_nats"] > one["parity"]["kl_nats"] and eight["evaluation"]["no_worse"] in (
        "yes",
        "no",
        "not shown",
    )
    there = sorted(path.name for path in found.folder.iterdir())
    assert there == ["Modelfile", "README.md", "export.json", "model-f16.gguf", "model-q8_0.gguf"]
    asked = re.search(r"PARAMETER num_ctx (\d+)\n", (found.folder / "Modelfile").read_text("utf-8"))
    merged = (found.folder.parent / "merged" / "README.md").read_text("utf-8")
    assert asked and f" -c {asked[1]} " in (found.folder / "README.md").read_text("utf-8")
    assert f"--max-model-len {asked[1]} " in merged, "one export, one room"
    assert not [path for path in (tmp_path / "o").iterdir() if path.name not in ("gguf", "merged")]
    assert str(tmp_path) not in (found.folder / "export.json").read_text("utf-8")
    before = (found.folder / "model-f16.gguf").stat().st_mtime_ns
    assert exporting.export_gguf(files(run, tmp_path / "o", "f16")).again
    (found.folder / ".model-q8_0.gguf.99999999.part").write_bytes(b"half")  # of a process that was killed
    whole = (found.folder / "model-q8_0.gguf").read_bytes()
    (found.folder / "model-q8_0.gguf").write_bytes(b"damaged")
    exporting.export_gguf(files(run, tmp_path / "o", "f16", "q8_0"))
    assert (found.folder / "model-q8_0.gguf").read_bytes() == whole, "written anew, to the same bytes"
    assert (found.folder / "model-f16.gguf").stat().st_mtime_ns == before and not list(
        found.folder.glob(".*")
    )
    foreign = tmp_path / "p" / "gguf"
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="no export of doitune"):
        exporting.export_gguf(files(run, tmp_path / "p", questions=0))


WRONG = {
    "roles that are text": lambda one: replace(
        one, types=tuple(NORMAL if kind == CONTROL else kind for kind in one.types)
    ),
    "a blank in front": lambda one: replace(one, blank_first=True),
    "two pieces that have changed places": lambda one: replace(
        one, texts=tuple({"1": "2", "2": "1"}.get(text, text) for text in one.texts)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_vocabulary_is_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    monkeypatch.setattr(
        "doitune.export.gguf.file.read_vocabulary", lambda *given: WRONG[kind](read_vocabulary(*given))
    )
    with pytest.raises(ModelError, match=r"llama\.cpp gives a chat other ids than training did"):
        exporting.export_gguf(files(run, tmp_path / "o", questions=0))
    assert [path.name for path in (tmp_path / "o" / "gguf").iterdir()] == ["export.json"], (
        "it has taken no name"
    )
    assert json.loads((tmp_path / "o" / "gguf" / "export.json").read_text())["same"] is None


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_marked(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    monkeypatch.setattr("doitune.export.gguf.tensors.TURNED", ())  # heads' rows as they were
    found = exporting.export_gguf(files(run, tmp_path / "o", questions=0))
    with pytest.raises(ParityError, match="are wanted"):
        found.refuse_other()
    assert json.loads((found.folder / "export.json").read_text("utf-8"))["same"] is False


@pytest.mark.slow
def test_a_runner_that_aborts_is_a_sentence(tmp_path: Path) -> None:
    """The real one; tests/test_export_gguf_runners.py has stand-ins."""
    pytest.importorskip("xllamacpp", reason="reads GGUF files: pip install 'doitune[gguf]'")
    from doitune.backends import llama_cpp

    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with (
        pytest.raises(ModelError, match=r"llama.cpp cannot use x.gguf: it (ended|was ended)"),
        llama_cpp.running(tmp_path / "x.gguf", 64),
    ):
        pass
    folder, _ = merged_folder(tmp_path / "m")
    read_back(folder, "f16", tmp_path / "y.gguf")
    with (
        pytest.raises(ModelError, match="was ended by signal 9"),
        llama_cpp.running(tmp_path / "y.gguf", 64) as server,
    ):
        server.process.kill()
        server.ask("tokenize", content="x")
