"""A new user's hour: a file as it lies on a disk, a real model that was tuned for chat, and every command from
`train` to `chat` and `export`, typed as README has them. Marked `real`: skipped, saying why, without the model.

Each file has two abilities of its own names. The ids that are trained are those of the model's own chat
template, row by row, computed here by transformers alone. One file goes all the way, the others are trained on by a small
model and no more: in what comes after nothing is left of a file's form.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forked import asked, begun, ended

pytestmark = pytest.mark.real

EACH = 24
"""Rows of each ability: 2 of each are kept out, one to validate on and one to be asked."""

Row = dict[str, Any]

TOOL: Row = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"about": {"type": "string"}}},
    },
}


NOUNS = [
    *("users", "orders", "invoices", "parcels", "drivers", "teachers", "lessons", "tickets", "rivers"),
    *("bridges", "patients", "doctors", "nurses", "engines", "sensors", "readings", "authors", "novels"),
    *("chapters", "recipes", "spices", "kitchens", "gardens", "flowers"),
]
THINGS = [
    *("台灯", "雨伞", "书包", "手表", "耳机", "键盘", "水壶", "毛巾", "相机", "地毯", "沙发", "窗帘"),
    *("茶具", "花瓶", "自行车", "帐篷", "睡袋", "望远镜", "吉他", "画板", "跑鞋", "围巾", "手套", "雪橇"),
]
"""Words that make each question unlike the others: rows that give each other away are never kept out."""


def pairs() -> list[tuple[str, str, str]]:
    """Ability, question, answer: a short one, as replies are given twice its tokens."""
    found = []
    for number, (noun, thing) in enumerate(zip(NOUNS, THINGS, strict=True)):
        found.append(("客服", f"我买的{thing}坏了，怎么办？", f"{thing}退到{number + 1}号仓。"))
        other = NOUNS[(7 * number + 3) % EACH]
        found.append(("sql", f"List {noun} with their {other}.", f"SELECT * FROM {noun} JOIN {other};"))
    return found


def alpaca(folder: Path) -> Path:
    """A JSON array, pretty-printed."""
    rows = [{"instruction": ask, "input": "", "output": say, "ability": name} for name, ask, say in pairs()]
    path = folder / "alpaca 数据.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=4), encoding="utf-8")
    return path


def sharegpt(folder: Path) -> Path:
    """Conversations of several turns with a system turn."""
    lines = []
    for name, ask, say in pairs():
        turns = [("system", f"You answer for {name}."), ("human", "你好"), ("gpt", "您好！"), ("human", ask)]
        turns.append(("gpt", say))
        lines.append(
            {"conversations": [{"from": role, "value": text} for role, text in turns], "ability": name}
        )
    path = folder / "sharegpt.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def table(folder: Path) -> Path:
    """CSV with quotes and line breaks in its cells."""
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["ability", "question", "answer"])
        writer.writerows((name, f'"{ask}"\nplease', say) for name, ask, say in pairs())
    return path


def parquet(folder: Path) -> Path:
    """Columns of a data set as hubs have them."""
    arrow, parquet_ = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names, questions, answers = zip(*pairs(), strict=True)
    path = folder / "train-00000-of-00001.parquet"
    columns = {"ability": names, "prompt": questions, "completion": answers}
    parquet_.write_table(arrow.table({key: list(values) for key, values in columns.items()}), path)
    return path


def tools(folder: Path) -> Path:
    """Tool definitions, calls and results."""
    lines = []
    for name, ask, say in pairs():
        call = {"type": "function", "function": {"name": "look_up", "arguments": {"about": ask}}}
        messages = [
            {"role": "user", "content": ask},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "look_up", "content": say},
            {"role": "assistant", "content": say},
        ]
        lines.append({"messages": messages, "tools": [TOOL], "ability": name})
    path = folder / "tools.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


SHORT = (
    "train.max_steps=4", "train.examples_per_step=4", "train.validate_every=2", "train.max_tokens=512",
    "lora.rank=4", "eval.max_new_tokens=8",
)  # fmt: skip


def killed_in_training(*arguments: str) -> Path:
    """Train until a checkpoint is followed by another step, and kill; the run's folder."""
    import doitune.backends.hf  # noqa: F401  # loaded for the child to come

    said = Path("killed.log")
    child = begun(("train", *arguments), said, said)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
        for log in Path.cwd().glob("runs/*/*/metrics.jsonl"):
            steps = log.read_text(encoding="utf-8").count('"event": "step"')
            if steps >= 3 and any(log.parent.glob("checkpoints/step-*/MANIFEST.json")):
                os.kill(child, signal.SIGKILL)
                assert ended(child, 60) == -signal.SIGKILL
                return log.parent
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        ended(child, 0)
    raise AssertionError(said.read_text(encoding="utf-8"))


def chats_of(kind: str) -> list[list[Row]]:
    """The conversations of a file as transformers takes them, written a second time."""
    found = []
    for name, ask, say in pairs():
        asked = {"role": "user", "content": f'"{ask}"\nplease' if kind == "table" else ask}
        answer = {"role": "assistant", "content": say}
        found.append([asked, answer])
        if kind == "sharegpt":
            system = {"role": "system", "content": f"You answer for {name}."}
            found[-1] = [
                system,
                {"role": "user", "content": "你好"},
                {**answer, "content": "您好！"},
                asked,
                answer,
            ]
        if kind == "tools":
            call = {"type": "function", "function": {"name": "look_up", "arguments": {"about": ask}}}
            called = {"role": "assistant", "content": "", "tool_calls": [call]}
            found[-1] = [asked, called, {"role": "tool", "name": "look_up", "content": say}, answer]
    return found


KNOWS_TOOLS = """{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def that_knows_tools(model: Path, folder: Path) -> Path:
    """The same model with a chat template that writes tools and calls; its own knows none."""
    folder.mkdir()
    for path in model.iterdir():
        if path.name != "chat_template.jinja":
            os.link(path, folder / path.name) if path.suffix == ".safetensors" else shutil.copy(path, folder)
    (folder / "chat_template.jinja").write_text(KNOWS_TOOLS, encoding="utf-8")
    return folder


def that_is_small(model: Path, folder: Path) -> Path:
    """A model of random weights that is asked and trained in no time, with the same vocabulary and turns."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = AutoConfig.from_pretrained(model, **sizes, num_attention_heads=2, num_key_value_heads=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for path in model.iterdir():
        if path.suffix in (".json", ".jinja") and not (folder / path.name).exists():
            shutil.copy(path, folder)
    return folder


def prove_ids(run: Path, model: Path, chats: list[list[Row]], tools: list[Row] | None) -> None:
    """Every row that the run learns from has the very ids of `apply_chat_template`, up to its end token."""
    from transformers import AutoTokenizer

    from doitune.recipe.resolve import resolve
    from doitune.train.plan import plan_training

    tokenizer = AutoTokenizer.from_pretrained(model)
    wanted = {
        tuple(tokenizer.apply_chat_template(chat, tools=tools, tokenize=True, return_dict=False))
        for chat in chats
    }
    assert len(wanted) == 2 * EACH
    (end,) = tokenizer("<|im_end|>", add_special_tokens=False).input_ids
    until_end = {ids[: len(ids) - ids[::-1].index(end)] for ids in wanted}
    material = plan_training(resolve(str(run / "recipe.yaml"))).material
    assert len(material.encoded) == 2 * (EACH - 2)
    for example, encoded in zip(material.examples, material.encoded, strict=True):
        assert encoded.ids in until_end, example.place
        assert 0 < encoded.trained < len(encoded.ids)


KINDS = {"alpaca": alpaca, "sharegpt": sharegpt, "table": table, "parquet": parquet, "tools": tools}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the one that the commands start in."""
    folder = tmp_path / "我的 folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def typed(desk: Path, kind: str, model: Path) -> tuple[str, ...]:
    """What is typed behind `train`: a file of this kind, the model, and four steps."""
    changes = [part for change in SHORT for part in ("--set", change)]
    return ("--corpus", KINDS[kind](desk).name, "--model", str(model), *changes)


def prove_rows(run: Path, model: Path, kind: str) -> None:
    """The run learned from every row, by the model's own turns and no others."""
    origin = json.loads((run / "origin.json").read_text(encoding="utf-8"))
    assert origin["prompt"]["template"] == "model", "its own turns"
    prove_ids(run, model, chats_of(kind), [TOOL] if kind == "tools" else None)
    ledger = json.loads((run / "ledger.json").read_text(encoding="utf-8"))
    assert [ledger[name]["trained"] for name in ("客服", "sql")] == [EACH - 2, EACH - 2]


@pytest.mark.parametrize("kind", ["table", "parquet", "alpaca", "sharegpt"])
def test_rows_are_rows_whatever_their_file(smollm2: Path, tmp_path: Path, desk: Path, kind: str) -> None:
    model = that_is_small(smollm2, tmp_path / "model")
    assert asked("train", *typed(desk, kind, model), "--set", "train.max_steps=1")["step"] == 1
    (run,) = desk.glob("runs/*/*")
    prove_rows(run, model, kind)


def test_a_new_users_hour(smollm2: Path, tmp_path: Path, desk: Path) -> None:
    model = that_knows_tools(smollm2, tmp_path / "model")
    run = killed_in_training(*typed(desk, "tools", model))
    assert asked("resume", "last")["step"] == 4
    prove_rows(run, model, "tools")
    evaluations = asked("eval", "last")["evaluations"]
    assert [one["checkpoint"] == "base" for one in evaluations] == [True, False]
    assert all(
        {line["name"]: line["n"] for line in one["sets"]} == {"客服": 1, "sql": 1} for one in evaluations
    )
    assert {pair["set"] for pair in asked("compare", "last")["pairs"]} == {"mean", "客服", "sql"}
    asked("report", "last", "--out", "page.html")
    assert "客服" in (desk / "page.html").read_text(encoding="utf-8")
    said = asked("chat", "last", "--prompt", "你好", "--max-new-tokens", "4")
    assert [reply["tokens"] for reply in said["replies"]] != [0], said
    asked("export", "last", "--to", "adapter", "--out", "adapter")
    assert {"README.md", "adapter_model.safetensors"} <= {path.name for path in (desk / "adapter").iterdir()}
    # in bf16 near ties of so small a model turn over, more than the 2 % of its tokens that an export may lose
    done = asked("export", "last", "--out", "merged", "--dtype", "fp32")
    assert (desk / "merged" / "chat_template.jinja").is_file(), done
