"""Every export has a card that the hub's own library reads, whose examples run, and the files of a merged
folder say to other programs what training said."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import AutoTokenizer, GenerationConfig

from doitune.data.hubs import REPOSITORY
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.export.adapter import export_adapter
from doitune.export.card.card import CARD, model_card
from doitune.export.card.handed import GGUF, GGUF_ADAPTER, MERGED, Handed, NamedBase, named_base
from doitune.export.card.use import use
from doitune.export.licences import base_licence
from doitune.export.merged import Wish, export_merged
from doitune.export.room import MOST_TOKENS, room_tokens
from doitune.export.source import Source, open_source
from doitune.export.tokenizer import CHATS
from doitune.prompt.encode import encode, encode_question
from doitune.recipe.budget import Ledger
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.layout import LEDGER, ORIGIN
from doitune.selftest.world import make_world
from doitune.train.session import start

ON_HUB = NamedBase("someone/base", "0" * 40, True)
PAIR = {
    "a": "trained", "b": "q8_0", "positions": 256, "agreement": 0.984, "kl_nats": 0.01, "most_kl_nats": 0.2,
    "loss_a": 1.0, "loss_b": 1.0,
}  # fmt: skip
SCORED = {
    "suite": "doit-valid", "questions": 200, "before": 0.5, "after": 0.49, "difference": -0.01, "low": -0.03, "high": 0.01,
    "p": 0.5, "flips_up": 1, "flips_down": 3, "margin": 0.02, "no_worse": "not shown",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained, and asked beside its base."""
    world = make_world(tmp_path_factory.mktemp("card 世界"))
    runs = world.recipe.parent / "runs"
    run = start(resolve(str(world.recipe)), runs=runs, scorer=None, on_event=lambda event: None)
    request = Request(("doit-valid",))
    assert len(evaluate_target(str(run.folder), request, runs=runs, on_progress=lambda *_: None)) == 2
    return run


@pytest.fixture(scope="module")
def source(run: Run) -> Source:
    return open_source(run, "best")


@pytest.fixture(scope="module")
def merged(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "my model"
    assert export_merged(Wish(run, folder, questions=4)).same
    return folder


def gguf_document(**more: Any) -> dict[str, Any]:
    one = {"bytes": 5 << 30, "quant": "q8_0", "same": True, "problems": [], "prompt": {"chats": 55, "equal": True},
           "parity": PAIR, "evaluation": SCORED}  # fmt: skip
    return {
        "to": GGUF,
        "same": True,
        "problems": [],
        "left_out": [],
        "files": {"model-q8_0.gguf": one},
        **more,
    }


def test_the_hub_reads_the_card_of_every_format(
    run: Run, source: Source, merged: Path, tmp_path: Path
) -> None:
    adapter = export_adapter(run, tmp_path / "adapter", base="someone/base@" + "0" * 40, on_note=print)
    ollama = {"modelfile_of": "model-q8_0.gguf", "chats": 55, "otherwise": 2, "tried": False}
    texts = {
        "peft": (adapter.folder / CARD).read_text("utf-8"),
        "transformers": (merged / CARD).read_text("utf-8"),
        "llama-cpp-python": model_card(Handed(source, ON_HUB, "gguf", gguf_document(ollama=ollama))),
    }
    for library, text in texts.items():
        card = ModelCard(text)  # ValueError for a head that the hub would not take
        head = card.data.to_dict()
        assert (head["library_name"], head["pipeline_tag"], head["metrics"]) == (
            library,
            "text-generation",
            ["accuracy"],
        )
        named = {"peft": ("someone/base", "adapter"), "llama-cpp-python": ("someone/base", "finetune")}
        assert (head.get("base_model"), head.get("base_model_relation")) == named.get(library, (None, None))
        results = card.data.eval_results
        assert results is not None and {one.metric_args["protocol"] for one in results} == {"fixed", "paper"}
        for one in results:
            assert one.metric_args["low"] <= one.metric_value <= one.metric_args["high"] <= 100
            assert one.dataset_name == "doit-valid of its author's rows", "not the questions of DoIT itself"
            assert one.metric_args["questions"] == 4
        for wanted in (
            "## Use", "## Is it the trained model?", "| biology | 8 | 12 | 8 |", "| `lora.rank` | 4 |", "Validation: loss",
            "The questions are of its author's rows: every corpus has a `doit-valid` of its own.",
            "Protocol `fixed`", "Protocol `paper`", "| set | n | chance | base | trained | difference |", "p = ",
            "What was not checked", "## Licences",
        ):  # fmt: skip
            assert wanted in text, (library, wanted)
    assert (
        "| trained / merged |" in texts["transformers"]
        and "vLLM, SGLang and TGI themselves were not tried" in texts["transformers"]
    )
    assert (
        "ollama create gguf -f Modelfile" in texts["llama-cpp-python"]
        and "not shown" in texts["llama-cpp-python"]
    )
    assert "50.0 -> 49.0 | [-3.0 to +1.0]" in texts["llama-cpp-python"]


def test_rows_that_a_run_never_came_to_are_not_called_learnt(source: Source) -> None:
    """Trap: a run that was to take two steps claims every row that it was given."""
    given = sum(one.trained for one in Ledger.from_json(source.run.read_json(LEDGER)).lines.values())
    size = source.recipe.train.examples_per_step
    early = replace(source, checkpoint=replace(source.checkpoint, step=1))
    assert size < given
    said = f"At step 1 it had passed {size} of them"
    assert said in model_card(Handed(early, ON_HUB, "gguf", gguf_document()))
    last = replace(source, checkpoint=replace(source.checkpoint, step=-(-given // size)))
    assert "it had passed" not in model_card(Handed(last, ON_HUB, "gguf", gguf_document()))


def test_a_card_says_what_trained_it_and_how(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: the version of who exports, and `qlora` for what was trained on whole values."""
    read, older = Run.read_json, {"versions": {"doitune": "0.0.7"}}
    monkeypatch.setattr(
        Run, "read_json", lambda run, name: {**read(run, name), **(older if name == ORIGIN else {})}
    )
    text = model_card(Handed(source, ON_HUB, "gguf", gguf_document()))
    assert "trained with doitune 0.0.7: step" in text
    tags = ModelCard(text).data.tags
    assert tags and source.quantised and {*tags} == {"doitune", "qlora", "gguf"}
    whole = source.recipe.model.model_copy(update={"quantise": "none"})
    plain = replace(source, recipe=source.recipe.model_copy(update={"model": whole}))
    tags = ModelCard(model_card(Handed(plain, ON_HUB, "gguf", gguf_document()))).data.tags
    assert tags and {*tags} == {"doitune", "gguf"}


def test_an_adapter_for_llama_cpp_is_used_on_its_own_base_and_says_what_that_is_worth(source: Source) -> None:
    document = gguf_document(to=GGUF_ADAPTER, warning="it sits on another base's values: see --to gguf")
    document["files"] = {"base.gguf": {"bytes": 1}, "adapter.gguf": document["files"]["model-q8_0.gguf"]}
    text = model_card(Handed(source, ON_HUB, "mine", document))
    head = ModelCard(text).data.to_dict()
    assert (head["base_model_relation"], head["library_name"]) == ("adapter", "llama-cpp-python")
    assert (
        "llama-server -m base.gguf --lora adapter.gguf" in text
        and "**It sits on another base's values: see --to gguf.**" in text
    )
    assert "| `adapter.gguf` |" in text and "| `base.gguf` |" not in text


def test_what_is_not_the_trained_model_says_so_first(source: Source) -> None:
    document = gguf_document(same=False, problems=["model-q8_0.gguf: it has changed"])
    text = model_card(Handed(source, named_base(source), "gguf", document)).partition(
        "## Is it the trained model?"
    )[2]
    assert (
        text.strip().startswith("**No: this is NOT the trained model.**\n\n- model")
        and "it has changed" in text
    )


def test_named_data_and_licences_are_in_the_card(source: Source, tmp_path: Path) -> None:
    data = source.recipe.data.model_copy(update={"corpus": "doit"})
    noted = source.recipe.model.model_copy(
        update={"note": "A base. Licensed Apache-2.0, context 4,096 tokens."}
    )
    known = replace(source, recipe=source.recipe.model_copy(update={"data": data, "model": noted}))
    head = ModelCard(text := model_card(Handed(known, ON_HUB, "gguf", gguf_document()))).data.to_dict()
    assert head["datasets"] == [REPOSITORY] and head["language"] == "zh"
    assert "(licensed Apache-2.0)" in text and "The DoIT data set is MIT." in text
    (tmp_path / CARD).write_text("---\nlanguage: zh\nlicense: llama3.1\n---\n# x\n")
    assert (
        base_licence(replace(source, base=replace(source.base, folder=tmp_path))) == "its card says llama3.1"
    )


def test_a_card_that_its_author_has_added_to_stays(run: Run, merged: Path) -> None:
    text = (merged / CARD).read_text("utf-8")
    (merged / CARD).write_text(text.replace("---\n", "---\nlicense: mit\n", 1), encoding="utf-8")
    wish = Wish(run, merged, questions=4)
    assert export_merged(wish).again and "license: mit" in (merged / CARD).read_text("utf-8")
    (merged / CARD).unlink()
    assert export_merged(wish).again and (merged / CARD).read_text("utf-8") == text


def test_the_lines_of_a_merged_folders_card_can_be_pasted(
    merged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python ones run, and know nothing of doitune; those of the servers are one command each, with their flags."""
    text = (merged / CARD).read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code and "doitune" not in code[1]
    monkeypatch.chdir(merged.parent)
    exec(compile(code[1], CARD, "exec"), {})
    assert capsys.readouterr().out.endswith("\n")
    shell = re.search(r"```bash\n(.*?)```", text, re.DOTALL)
    assert shell and subprocess.run(["bash", "-n"], input=shell[1], text=True, check=False).returncode == 0
    lines = shell[1].replace("\\\n", " ").splitlines()
    vllm, sglang, tgi = (shlex.split(line) for line in lines if not line.startswith("#"))
    config = json.loads((merged / "config.json").read_text())
    most, kind = str(config["max_position_embeddings"]), config["dtype"]
    assert vllm[:3] == ["vllm", "serve", "./my model"] and json.loads(vllm[-1]) == {"temperature": 0}
    for words, flags in (
        (vllm, {"--served-model-name": "my model", "--max-model-len": most, "--dtype": kind}),
        (sglang, {"--model-path": "./my model", "--context-length": most, "--dtype": kind}),
        (tgi, {"--tokenizer-config-path": "/model/tokenizer_config.json", "--max-total-tokens": most}),
    ):
        for flag, value in flags.items():
            assert words[words.index(flag) + 1] == value, (words, flag)


@pytest.mark.parametrize(
    ("config", "learned", "room", "in_gguf"),
    [
        ({"max_position_embeddings": 2048}, 512, 2048, 2048),
        ({"max_position_embeddings": 131_072}, 512, MOST_TOKENS, MOST_TOKENS),
        ({"max_position_embeddings": 131_072}, 8192, 8192, 8192),
        ({"max_position_embeddings": 32_768, "model_type": "mistral", "sliding_window": 1024}, 512, MOST_TOKENS, 1024),
        ({"max_position_embeddings": None}, 512, 512, 512),
    ],
)  # fmt: skip
def test_every_program_is_asked_for_the_room_that_the_base_has(
    source: Source, config: dict[str, Any], learned: int, room: int, in_gguf: int, tmp_path: Path
) -> None:
    """Trap: the longest row that was trained, as if a conversation ended there; the Modelfile beside it said otherwise."""
    (tmp_path / "config.json").write_text(json.dumps({**source.base.config, **config}))
    train = source.recipe.train.model_copy(update={"max_tokens": learned})
    other = replace(
        source,
        base=replace(source.base, folder=tmp_path),
        recipe=source.recipe.model_copy(update={"train": train}),
    )
    assert (room_tokens(other, in_gguf=False), room_tokens(other, in_gguf=True)) == (room, in_gguf)
    merged = {"to": MERGED, "dtype": "bfloat16"}
    text = use(Handed(other, named_base(other), "mine", merged))
    for flag in ("--max-model-len", "--context-length", "--max-total-tokens"):
        assert f"{flag} {room} " in text.replace("\n", " "), flag
    assert f"No row that it learned from had more than {learned:,}." in text
    stated = config["max_position_embeddings"]
    assert ("The base reads up to" in text) == bool(stated) and (
        not stated or f"reads up to {stated:,}." in text
    )
    for to in (GGUF, GGUF_ADAPTER):
        document = gguf_document(to=to, files={"a.gguf": {}, "b.gguf": {}})
        assert f" -c {in_gguf} --temp 0" in use(Handed(other, ON_HUB, "mine", document))


def test_other_programs_read_the_turns_and_stops_of_training(merged: Path, source: Source) -> None:
    """transformers (whose rendering vLLM and SGLang use) and minijinja, the engine of TGI."""
    minijinja = pytest.importorskip("minijinja")
    template, tokenizer = source.template, AutoTokenizer.from_pretrained(merged)
    how = GenerationConfig.from_pretrained(merged)
    assert how.eos_token_id == list(template.stop_ids) and how.pad_token_id == template.pad_id
    assert how.do_sample is False
    how.save_pretrained(merged.parent / "again")  # a greedy file with a temperature would be refused here
    environment, jinja = minijinja.Environment(), tokenizer.chat_template
    assert len(CHATS) > 4
    for messages in CHATS:
        turns = [{"role": one.role, "content": one.content} for one in messages]
        for chat, opened, ids in (
            (turns[:-1], True, encode_question(messages[:-1], template)),
            (turns, False, encode(messages, template).ids),
        ):
            found = tokenizer.apply_chat_template(chat, add_generation_prompt=opened, return_dict=False)
            assert found[: len(ids)] == list(ids)
            text = environment.render_str(jinja, messages=chat, add_generation_prompt=opened)
            assert text == tokenizer.apply_chat_template(chat, add_generation_prompt=opened, tokenize=False)
