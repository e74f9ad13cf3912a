"""Hostile models, adapters, templates, recipes and names: each is refused by a sentence, and no canary
ever sings."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from soon import soon

from doitune.backends import pick
from doitune.base import pins, trust
from doitune.base.find import find_base
from doitune.base.headers import read_header
from doitune.base.trust import OWNERS, refuse_lookalike
from doitune.data.corpus import open_corpus
from doitune.errors import DataError, DoituneError, FitError, ModelError
from doitune.prompt.rendering import Renderer, RenderingError
from doitune.recipe.files import list_models
from doitune.recipe.resolve import resolve
from doitune.system.secrets import TOKENS, known, redact

FULL = pytest.mark.slow


# Pickles


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


def test_a_bomb_sings_when_it_is_unpickled(tmp_path: Path) -> None:
    """The tests below could not fail otherwise."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "canary")))
    assert (tmp_path / "canary").is_dir()


MODEL_BOMBS = [
    "pytorch_model.bin",
    "model.pt",
    "model.pth",
    "model.pkl",
    "pytorch_model-00001-of-00001.bin",
    "training_args.bin",
]


@pytest.mark.parametrize("name", MODEL_BOMBS)
def test_a_model_of_pickles_is_refused_by_name(tmp_path: Path, tiny_base: Path, name: str) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    with pytest.raises(ModelError) as caught:
        find_base(str(folder))
    assert "safetensors" in f"{caught.value.problem} {caught.value.hint}"
    if name.endswith((".bin", ".pt", ".pth")):
        assert name in caught.value.hint and "can run code" in caught.value.hint
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.bin",
        "adapter_model.pt",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "training_args.bin",
    ],
)
def test_pickles_beside_an_adapter_are_never_opened(tmp_path: Path, tiny_base: Path, name: str) -> None:
    """In the place of the adapter: an error that says what lacks. Beside it: not looked at."""
    from doitune.backends import hf
    from doitune.backends.loaded import LoadRequest
    from doitune.errors import CheckpointError

    model = hf.load(LoadRequest(find_base(str(tiny_base)), quantise="none", rank=4))
    whole, empty = tmp_path / "whole", tmp_path / "empty"
    for folder in (whole, empty):
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    model.save_adapter(whole)
    model.load_adapter(whole)
    with pytest.raises(CheckpointError, match="cannot be read"):
        model.load_adapter(empty)
    assert not (tmp_path / "canary").exists()
    assert not [
        path for path in whole.iterdir() if path.suffix in (".bin", ".pt", ".pkl") and path.name != name
    ], "none is written either"


def test_torch_is_new_enough_for_what_libraries_below_us_unpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2025-32434 and CVE-2026-24747 broke `weights_only`: the floor is torch 2.10."""
    import torch

    assert '"torch>=2.10,' in (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)
    monkeypatch.setattr(pick, "version", lambda name: "2.9.1+cpu")
    with pytest.raises(FitError, match=r"torch 2\.9\.1.* has known holes"):
        pick.begin("hf", find_base("demo"))


# Code that a model names


def edited(folder: Path, base: Path, **settings: Any) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def test_python_of_a_models_own_is_never_run(tmp_path: Path, tiny_base: Path) -> None:
    """With a known type the known code serves; without one the model is refused by name. The canary module
    sings in neither."""
    from doitune.backends import hf
    from doitune.backends.loaded import LoadRequest

    auto = {"AutoModelForCausalLM": "canary.Model", "AutoConfig": "canary.Config"}
    for name, settings in {
        "known": {"auto_map": auto},
        "unknown": {"auto_map": auto, "model_type": "songbird"},
    }.items():
        folder = edited(tmp_path / name, tiny_base, **settings)
        (folder / "canary.py").write_text(
            f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\nclass Model: ...\nclass Config: ...\n"
        )
        if name == "known":
            hf.load(LoadRequest(find_base(str(folder)), quantise="none"))
        else:
            with pytest.raises(ModelError) as caught:
                hf.load(LoadRequest(find_base(str(folder)), quantise="none"))
            assert "runs no code" in caught.value.hint
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "key",
    [
        "_attn_implementation",
        "attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
    ],
)
@pytest.mark.parametrize(
    "value", ["evil/kernel", "kernels-community/flash-attn", "evil/kernel@main:f", {"": "evil/kernel"}]
)
def test_a_config_cannot_ask_for_compiled_code(
    tmp_path: Path, tiny_base: Path, key: str, value: object
) -> None:
    """Trap: transformers takes the attention from config.json before the one it is given, and loads
    `owner/name` from the hub."""
    folder = edited(tmp_path / "base", tiny_base, **{key: value})
    with pytest.raises(ModelError, match="asks for code from elsewhere"):
        find_base(str(folder))


@pytest.mark.parametrize(
    "module",
    [
        "backends.tokenizer",
        pytest.param("backends.hf", marks=pytest.mark.slow),
        pytest.param("memory.simulation.simulate", marks=pytest.mark.slow),
    ],
)
def test_the_package_that_fetches_compiled_code_cannot_be_imported(module: str, tmp_path: Path) -> None:
    """Trap: a way to transformers that does not pass the module that shuts it out."""
    (tmp_path / "kernels.py").write_text("print('fetched')", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import doitune.{module}\ntry:\n import kernels\nexcept ImportError: print('halted')",
        ],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{tmp_path}"},
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "halted"


@pytest.mark.parametrize(
    "name",
    ["trust_remote_code", "model.trust_remote_code", "hooks", "train.callback", "model.auto_map", "env"],
)
def test_a_recipe_cannot_ask_for_code(name: str) -> None:
    with pytest.raises(DoituneError, match="no field"):
        resolve("demo", overrides=[f"{name}=true"])


EVENTS = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pty.",
    "socket.",
    "ctypes.",
    "pickle.find_class",
    "marshal.",
    "code.__new__",
)
_heard: list[str] = []
_listening = False


def _hook(event: str, about: tuple[object, ...]) -> None:
    if _listening and (event.startswith(EVENTS) or event in ("compile", "exec", "import")):
        _heard.append(f"{event} {str(about[0])[:80]}")


def test_no_recipe_runs_anything(tmp_path: Path) -> None:
    """A thousand recipes full of wishes: reading them compiles, imports, runs and asks for nothing."""
    global _listening
    sys.addaudithook(_hook)
    wishes = [
        "!!python/object/apply:os.system [touch x]",
        "!!python/name:os.system",
        "$(touch x)",
        "`touch x`",
        "${PATH}",
        "{{ 7*7 }}",
        "__import__('os')",
        "os:system",
        "|touch x",
    ]
    dice = random.Random(0)
    fields = [
        "model.name",
        "model.note",
        "data.corpus",
        "data.source",
        "prompt.user_token",
        "lora.targets",
        "train.trackers",
        "eval.suite",
        "train.epochs",
        "summary",
    ]
    path = tmp_path / "x.yaml"

    def read() -> None:
        section, _, field = dice.choice(fields).partition(".")
        wish = dice.choice(wishes)
        path.write_text(
            f"extends: demo\n{section}:\n  {field}: {wish}\n"
            if field
            else f"extends: demo\n{section}: {wish}\n"
        )
        try:
            resolve(str(path))
        except DoituneError:
            return

    for _ in range(100):  # what is imported late is imported now
        read()
    _listening = True
    try:
        for _ in range(1000):
            read()
    finally:
        _listening = False
    assert not _heard, sorted(set(_heard))[:5]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.yaml"]


# Headers of safetensors


def header_bytes(text: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text + data


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=FULL)])
def test_damaged_headers(tmp_path: Path, tiny_base: Path, count: int) -> None:
    """Each is read or refused by one sentence; memory stays within a few times the file."""
    dice = random.Random(0)
    good = (tiny_base / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    text, data = good[8 : 8 + length], good[8 + length :]
    path, refused = tmp_path / "model.safetensors", 0
    pieces = [
        b"-1",
        b"9" * 30,
        b"1e99",
        b"null",
        b"[" * 50,
        b'{"a":' * 20,
        b'"F64"',
        b"\xff",
        b"\x00",
        b"NaN",
        b'"__metadata__":{},',
        b"0",
        b"18446744073709551615",
    ]
    tracemalloc.start()
    for _ in range(count):
        changed, size = text, None
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(changed))
            cut = dice.choice([0, 0, 1, 3, 20])
            changed = (
                changed[:at] + dice.choice([*pieces, b"", bytes([dice.randrange(256)])]) + changed[at + cut :]
            )
        if dice.random() < 0.2:
            size = dice.choice(
                [0, 1, 2**63, 2**64 - 1, 100_000_001, len(changed) + len(data) + 1, dice.randrange(1 << 20)]
            )
        path.write_bytes(
            header_bytes(changed, size, data if dice.random() < 0.9 else data[: dice.randrange(len(data))])
        )
        try:
            read_header(path)
        except ModelError as error:
            refused += 1
            assert error.problems[0].place == str(path) and error.hint
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > count * 0.7
    assert most < 20 << 20


# Names and pins

HOMOGLYPHS = {
    "a": "а",
    "e": "е",
    "o": "о",
    "p": "р",
    "c": "с",
    "x": "х",
    "y": "у",
    "i": "і",
    "l": "ӏ",
    "n": "ո",
    "w": "ѡ",
    "m": "ｍ",
    "g": "ɡ",
}


def lookalikes() -> list[str]:
    """Names that a hurried reader takes for known ones."""
    found = []
    for real in (
        "Qwen/Qwen3-4B-Base",
        "baichuan-inc/Baichuan2-7B-Base",
        "HuggingFaceTB/SmolLM2-135M",
        "meta-llama/Llama-3.1-8B",
        "mistralai/Mistral-7B-v0.3",
        "deepseek-ai/DeepSeek-V3",
    ):
        owner, model = real.split("/")
        found += [
            f"{owner[:at]}{HOMOGLYPHS[char.lower()]}{owner[at + 1 :]}/{model}"
            for at, char in enumerate(owner)
            if char.lower() in HOMOGLYPHS
        ]
        found += [
            f"{owner}/{model[:at]}{HOMOGLYPHS[char.lower()]}{model[at + 1 :]}"
            for at, char in enumerate(model)
            if char.lower() in HOMOGLYPHS
        ]
        found += [f"{owner[:at]}{owner[at + 1 :]}/{model}" for at in range(1, len(owner))]
        found += [f"{owner[:at]}{owner[at]}{owner[at:]}/{model}" for at in range(len(owner))]
        found += [
            f"{owner[:at]}{owner[at + 1]}{owner[at]}{owner[at + 2 :]}/{model}"
            for at in range(len(owner) - 1)
            if owner[at] != owner[at + 1]
        ]
        found += [
            f"{other}/{model}"
            for other in ("evil", "models", "free-ai", f"{owner}-official", f"the{owner}", owner.swapcase())
        ]
        found += [f"{owner.replace('l', '1')}x/{model}", f"{owner.lower()}_/{model}", f"{owner}./{model}"]
    return [name for name in dict.fromkeys(found) if name.split("/")[0] not in OWNERS or not name.isascii()]


def test_two_hundred_lookalikes_are_refused() -> None:
    names = lookalikes()
    assert len(names) >= 200
    passed = []
    for name in names:
        try:
            refuse_lookalike(name)
            passed.append(name)
        except ModelError as error:
            assert error.hint
    assert not passed


def test_known_and_unrelated_names_pass() -> None:
    for card in list_models():
        name = resolve("baseline", model=card.name).recipe.model.name
        if name.count("/") == 1 and not name.startswith("bases/"):
            refuse_lookalike(name)
    for name in (
        "Qwen/Qwen9-99B",
        "stabilityai/stablelm-2-1_6b",
        "bigcode/starcoder2-3b",
        "my-lab/our-own-base",
        "xverse/XVERSE-7B",
        "CohereLabs/aya-23-8B",
    ):
        refuse_lookalike(name)


@pytest.fixture
def hub(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A hub library whose one repository can move: `id` it answers for, `commit` it is at."""
    import huggingface_hub

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state = {"id": "my-lab/base", "commit": "a" * 40}

    def snapshot(name: str, revision: str | None = None, local_files_only: bool = False, **_: Any) -> str:
        folder = tmp_path / "snapshots" / (revision or state["commit"])
        if not folder.is_dir():
            if local_files_only:
                raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
            shutil.copytree(tiny_base, folder)
        return str(folder)

    class Api:
        def model_info(self, name: str, **_: Any) -> Any:
            return type("Info", (), {"id": state["id"], "sha": state["commit"], "siblings": []})

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return state


def test_the_first_use_pins_the_commit(hub: dict[str, str]) -> None:
    """Trap: `main` moves between the training and its evaluation."""
    assert find_base("my-lab/base").revision == "a" * 40
    hub["commit"] = "b" * 40
    assert find_base("my-lab/base").revision == "a" * 40
    assert pins.pinned_commit("my-lab/base") == "a" * 40
    assert find_base("my-lab/base", "b" * 40).revision == "b" * 40, "asked for by its commit"
    assert find_base("my-lab/base").revision == "a" * 40


def test_a_changed_file_of_a_pinned_commit_is_an_error(hub: dict[str, str]) -> None:
    folder = find_base("my-lab/base").folder
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"other files than at its first use: tokenizer_config\.json"):
        find_base("my-lab/base")


def test_a_renamed_repository_is_an_error_until_named_itself(hub: dict[str, str]) -> None:
    """Namespace reuse: the hub follows renames, and the old name can be taken by a stranger."""
    hub["id"] = "another/base"
    with pytest.raises(ModelError, match="leads to 'another/base'"):
        find_base("my-lab/base")
    assert not pins.pinned_commit("my-lab/base")


def test_a_damaged_list_of_pins_is_an_error_not_a_fresh_start(hub: dict[str, str]) -> None:
    find_base("my-lab/base")
    for bad in (
        "{",
        "[]",
        '{"schema": "doitune.pins/1", "pins": {"my-lab/base": 1}}',
        '{"schema": "x", "pins": {}}',
    ):
        pins.pins_path().write_text(bad)
        with pytest.raises(ModelError, match="pinned models is damaged"):
            find_base("my-lab/base")


# Chat templates

SSTI = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__ }}", "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__.__globals__ }}", "{{ lipsum.__globals__['os'].system('id') }}", "{{ raise_exception.__globals__ }}", "{{ strftime_now.__globals__['json'] }}",
    "{{ tojson.__code__ }}{{ namespace.__init__.__globals__ }}", "{{ ''|attr('__class__')|attr('__mro__') }}", "{{ messages[0]['content'].format.__self__.__class__ }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}", "{{ messages.append(1) }}", "{{ (1).__class__.__base__ }}", "{% include '/etc/passwd' %}", "{% import 'os' as os %}",
]  # fmt: skip
GREEDY = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{{ 'a' * 1000000000 }}", "{{ range(1000000000) | list }}",
    "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ [0] * 100000000 }}",
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}", "{{ '%1000000000d' % 1 }}",
    "{{ 'a'.ljust(1000000000) }}", "{{ 9 ** 9 ** 9 % 7 }}{% for i in range(99999) %}{% set x = (10 ** 9999) | string %}{% endfor %}", "{{ '{:>1000000000}'.format('a') }}",
    "{{ 'a' | center(1000000000) }}", "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}", "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
    "{% for a in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}", "{{ messages | tojson(indent=1000000000) }}",
]  # fmt: skip
CHAT = [([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}], False, None)]


@pytest.mark.parametrize("template", [*SSTI, *GREEDY], ids=range(len(SSTI) + len(GREEDY)))
def test_thirty_hostile_templates_are_refused_at_once(template: str) -> None:
    """Trap: jinja's sandbox stops attributes, not time and memory: two nested loops ran past 5 s, a long
    text held 1 GB."""
    renderer = Renderer(template, {"bos_token": "<s>"})
    before = sum(os.times()[2:4])
    with pytest.raises(RenderingError) as caught:
        renderer.texts(CHAT)
    assert sum(os.times()[2:4]) - before < 2, "CPU seconds of ended children"
    assert caught.value.hint and "\n" not in caught.value.problem


def test_the_child_has_no_files_no_secrets_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a way out of the sandbox would find: seen from outside, in the kernel's own books."""
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    renderer = Renderer("{{ messages[0].content }}", {})
    assert renderer.texts(CHAT) == ["hello"]
    assert renderer._child is not None
    books = Path("/proc") / str(renderer._child.process.pid)
    limits = {line[:26].strip(): line[26:].split() for line in (books / "limits").read_text().splitlines()}
    assert (
        limits["Max open files"][:2]
        == limits["Max file size"][:2]
        == limits["Max processes"][:2]
        == ["0", "0"]
    )
    assert int(limits["Max address space"][1]) == 256 << 20
    assert (books / "environ").read_bytes() == b""
    assert len(list((books / "fd").iterdir())) == 3


def test_the_child_ends_with_its_template() -> None:
    renderer = Renderer("{{ 1 }}", {})
    renderer.texts(CHAT)
    assert renderer._child is not None
    child = renderer._child.process
    assert child.poll() is None
    del renderer
    assert child.poll() is not None


def test_a_failing_chat_is_named_and_the_next_are_rendered() -> None:
    renderer = Renderer(
        "{% if 'bad' in messages[0].content %}{{ raise_exception('no: ' + messages[0].content) }}{% endif %}ok",
        {},
    )
    chats = [([{"role": "user", "content": "bad" if n == 150 else str(n)}], False, None) for n in range(200)]
    with pytest.raises(RenderingError, match="no: bad") as caught:
        renderer.texts(chats)
    assert caught.value.number == 150
    assert renderer.texts(chats[:5]) == ["ok"] * 5


PUBLISHED = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "header": "{{- bos_token }}\n{%- for m in messages %}\n    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n",
    "tools": "{%- if tools %}\n{{- tools | tojson }}\n{%- endif %}\n{%- set ns = namespace(last=messages|length - 1) %}\n{%- for m in messages[::-1] %}\n  {%- set at = (messages|length - 1) - loop.index0 %}\n"
    "  {%- if m.role == 'user' and m.content is string %}{%- set ns.last = at %}{%- break %}{%- endif %}\n{%- endfor %}\n{%- for m in messages %}\n{%- if loop.first or not loop.previtem.role == m.role %}"
    "{{ m | tojson }}{%- endif %}{%- if m.content.startswith('x') %}{%- continue %}{%- endif %}{{ ns.last }}\n{%- endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content }}\n  {% endif %}{% endfor %}",
    "checks": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns') }}{% endif %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}{{ strftime_now('%Y') }}",
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_template_says_what_it_says_in_transformers(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    renderer = Renderer(PUBLISHED[name], special)
    texts = ["hi", " 中文\n\n<b>'\"& ", "x", "😀\u2028"]
    chats = [
        (
            [
                {"role": "user" if n % 2 == 0 else "assistant", "content": text}
                for n, text in enumerate(texts[:length])
            ],
            opened,
            None,
        )
        for length in (1, 2, 3, 4)
        for opened in (True, False)
    ]
    theirs = [
        render_jinja_template(
            [messages], chat_template=PUBLISHED[name], add_generation_prompt=opened, **special
        )[0][0]
        for messages, opened, _ in chats
    ]
    assert renderer.texts(chats) == theirs


def test_ten_thousand_chats_take_seconds() -> None:
    renderer = Renderer(PUBLISHED["chatml"], {})
    chats = [
        (
            [{"role": "user", "content": f"问 {n} " * 10}, {"role": "assistant", "content": "答" * 20}],
            False,
            None,
        )
        for n in range(10_000)
    ]
    assert len(soon(lambda: renderer.texts(chats), 5)) == 10_000


# Paths and archives


def test_a_link_that_leads_out_of_a_corpus_is_refused(tmp_path: Path, tiny_corpus: Path) -> None:
    """Trap: a colleague's folder with a link to a file of one's own."""
    root = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, root)
    secret = tmp_path / "secret.json"
    shutil.copy(root / "curated/1000/math_1000.json", secret)
    (root / "curated/1000/math_1000.json").unlink()
    (root / "curated/1000/math_1000.json").symlink_to(secret)
    with pytest.raises(DataError, match="leads out of the corpus"):
        open_corpus(str(root)).read("curated/1000")
    (root / "curated/1000/math_1000.json").unlink()
    (root / "curated/1000/math_1000.json").symlink_to("biology_1000.json")
    assert open_corpus(str(root)).read("curated/1000")["math"], "a link inside stays"


@pytest.mark.parametrize("source", ["../x", "/etc", "..\\\\x", "a/../../x", "~/x", "C:/x", '"a\\0b"'])
def test_a_source_stays_inside_its_corpus(source: str) -> None:
    with pytest.raises(DoituneError, match=r"inside the corpus|control character"):
        resolve("demo", overrides=[f"data.source={source}"])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/random", "/dev/stdin"])
def test_a_device_is_no_corpus_and_no_recipe(path: str) -> None:
    with pytest.raises(DoituneError):
        open_corpus(path)
    with pytest.raises(DoituneError):
        resolve(path)


def test_an_archive_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    from doitune.evals.suites.files import fetch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("test/agronomy.csv", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    assert place.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="would unpack to 300 MiB"):
        fetch("cmmlu", str(place))


# Recipes as bombs


def _problem(path: Path) -> str:
    """Why a recipe is refused."""
    with pytest.raises(DoituneError) as caught:
        resolve(str(path))
    return caught.value.problem


def test_yaml_bombs_do_not_go_off(tmp_path: Path) -> None:
    levels = "\n".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" if n else "l0: &l0 [x, x, x, x]" for n in range(8)
    )
    for number, text in enumerate(
        [
            levels,
            "a: &a\n  b: *a\n",
            "base: &b {x: 1}\nmodel:\n  <<: *b\n",
            "a: !!python/object/apply:os.system ['true']\n",
            "? " * 3000,
            "[" * 3000,
        ]
    ):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert str(path) in soon(partial(_problem, path), 0.5, number)


# Secrets


def test_tokens_user_info_and_named_variables_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("the-login-of-the-hub\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("MY_SECRET", 'a"b\\c中文')
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path))
    known.cache_clear()
    try:
        said = [
            "hf_" + "a" * 34,
            "sk-" + "b" * 30,
            "ghp_" + "c" * 36,
            "AKIA" + "D" * 16,
            "the-login-of-the-hub",
            'a"b\\c中文',
            json.dumps('a"b\\c中文')[1:-1],
        ]
        assert [redact(f"<{one}>") for one in said] == ["<***>"] * len(said)
        assert redact("https://me:word@example.org/x@y") == "https://***@example.org/x@y"
        assert (
            redact(f"task-sk-learn {tmp_path} hf_hub user@example.org")
            == f"task-sk-learn {tmp_path} hf_hub user@example.org"
        )
        assert TOKENS.search("sk-learn") is None
    finally:
        known.cache_clear()


# What a model writes is never run

PROGRAMS = [
    "__import__('os').mkdir('canary')", "open('canary','w')", "exec(\"open('canary','w')\")", "().__class__.__base__.__subclasses__()", "\\boxed{__import__('os').mkdir('canary')}",
    "答案是__import__('os').system('touch canary')", "$\\input{/etc/passwd}$", "\\write18{touch canary}", "lambda:open('canary','w')", "9**9**9**9", "x=__import__('socket').socket()",
    "eval(compile(\"open('canary','w')\",'','exec'))",
]  # fmt: skip


@pytest.mark.parametrize(
    "form", ["single_choice", "multi_choice", "tf", "cloze", "math", "math_equiv", "cmmlu_extract"]
)
def test_answers_are_read_not_run(form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a parser of expressions that ends in `eval`."""
    from doitune.evals.reading.answers import judge

    global _listening
    monkeypatch.chdir(tmp_path)
    label = {"single_choice": "A", "multi_choice": "AB", "tf": "T", "cmmlu_extract": "A"}.get(form, "2")

    def all_of_them() -> None:
        for program in PROGRAMS:
            for protocol in ("fixed", "paper"):
                read = partial(judge, form, program, label, protocol=protocol, options=("A", "B", "C", "D"))
                assert not soon(read, 2, program).correct or label in program

    all_of_them()
    sys.addaudithook(_hook)
    _heard.clear()
    _listening = True
    try:
        all_of_them()
    finally:
        _listening = False
    assert not [one for one in _heard if not one.startswith(("import", "compile", "exec"))], _heard
    assert not list(tmp_path.iterdir())


def test_no_room_listens_and_none_but_the_fetchers_opens_a_connection() -> None:
    """Whoever adds a server adds its token, its Host check and its own test."""
    import ast

    package = Path(__file__).parents[1] / "doitune"
    listening, asking = set(), set()
    for path in package.rglob("*.py"):
        room = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            listening |= {
                room
                for name in names
                if name.split(".")[0] in ("socketserver", "uvicorn", "fastapi", "flask", "gradio", "aiohttp")
                or name == "http.server"
            }
            asking |= {
                room
                for name in names
                if name in ("socket", "urllib.request", "http.client", "requests", "httpx")
            }
    assert listening <= {"chat/serve/listen.py"}
    hubs = {"data/hubs.py", "evals/suites/files.py", "doctor/hub.py", "base/fetch.py", "export/push.py"}
    served = {"chat/serve/listen.py", "cli/serve.py"}
    served.add("backends/llama_cpp.py")  # its own child's server: loopback, a free port, a key of its own
    assert asking <= {*hubs, *served, "train/team.py", "evals/judge.py"}, asking
    assert trust.OWNERS
