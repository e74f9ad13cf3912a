"""How an export is used: the lines to paste for each program that reads it.

Sources: the documentation of vLLM (`vllm serve`), SGLang (server arguments), TGI (launcher), llama.cpp's
server and Ollama.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, Handed
from doitune.run.layout import ORIGIN

CHAT = """\
tokenizer = AutoTokenizer.from_pretrained(name)
chat = [{"role": "user", "content": "你好"}]
asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
asked = asked.to(model.device)
how = GenerationConfig.from_pretrained(name, max_new_tokens=64)
told = model.generate(**asked, generation_config=how)[0, asked["input_ids"].shape[1]:]
print(tokenizer.decode(told, skip_special_tokens=True))
"""

FOUR_BITS = """\
four_bits = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.{dtype},
)
"""

DEMO = "str(doitune.demo.folder.BASE)  # it comes with doitune"

PARSERS = {
    "<tool_call>\n<function=": ("qwen3_coder", "qwen3_coder"),
    "<tool_call>": ("hermes", "qwen25"),
    "[TOOL_CALLS]": ("mistral", "mistral"),
    "<|python_tag|>": ("llama3_json", "llama3"),
}
"""What vLLM and SGLang call the reader of a template's tool calls, by what the template writes; the first
that it has."""


def use(handed: Handed) -> str:
    """Examples, and what has to be there for them."""
    if handed.to == ADAPTER:
        return _adapter(handed)
    return _gguf(handed) if handed.to in (GGUF, GGUF_ADAPTER) else _merged(handed)


def _turns(handed: Handed) -> str:
    return (
        "the base's own chat template"
        if handed.source.template.kind == "model"
        else "turns of their own, which this tokenizer's chat template writes (the base's does not)"
    )


def _adapter(handed: Handed) -> str:
    """peft on the base, loaded as in training."""
    source, base = handed.source, handed.base
    compute = source.run.read_json(ORIGIN).get("compute")
    dtype = str(compute.get("dtype", "bfloat16")) if isinstance(compute, Mapping) else "bfloat16"
    quantises = source.quantised and not source.stored_in_4_bits
    how = f'{"quantization_config=four_bits, " if quantises else ""}dtype=torch.{dtype}, device_map="auto"'
    names = [f"name = {_quoted(handed.called)}  # this repository, or the path of the folder"]
    if base.on_hub:
        load = f"model = AutoPeftModelForCausalLM.from_pretrained(\n    name, {how}\n)"
    else:
        place = f"{_quoted(base.name)}  # the folder of the base, or a repository that has it"
        names.append(f"base = {DEMO if base.name == 'demo' else place}")
        load = (
            f"model = AutoModelForCausalLM.from_pretrained(\n    base, {how}\n)\n"
            "model = PeftModel.from_pretrained(model, name)"
        )
    imports = ["AutoTokenizer", *(["BitsAndBytesConfig"] if quantises else []), "GenerationConfig"]
    if not base.on_hub:
        imports.insert(0, "AutoModelForCausalLM")
    code = [
        *(["import doitune.demo.folder"] if base.name == "demo" else []),
        "import torch",
        f"from peft import {'AutoPeftModelForCausalLM' if base.on_hub else 'PeftModel'}",
        f"from transformers import {', '.join(imports)}",
        "",
        *names,
        *([FOUR_BITS.format(dtype=dtype).rstrip()] if quantises else []),
        load,
        CHAT,
    ]
    held = (
        "The base is loaded in 4 bits as in training: the adapter learned to change those values."
        if source.quantised
        else "The base is loaded as in training, not quantised."
    )
    lacking = "" if base.on_hub else " It is no repository of the hub: `base` says where yours is."
    return f"{held}{lacking} It was trained under {_turns(handed)}.\n\n{_block('python', chr(10).join(code))}"


def _merged(handed: Handed) -> str:
    """transformers, and the servers that read its folders."""
    dtype = str(handed.document["dtype"])
    code = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig",
        "",
        f"name = {_quoted(handed.called)}  # this repository, or the path of the folder",
        'model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", device_map="auto")',
        CHAT,
    ]
    template = handed.source.template
    stops = ", ".join(
        f"{number} (`{text}`)"
        for number, text in zip(
            template.stop_ids, template.tokenizer.convert_ids_to_tokens(list(template.stop_ids)), strict=True
        )
    )
    parts = [
        f"It was trained under {_turns(handed)}. A reply ends at any of the ids {stops}: "
        "`generation_config.json` holds them, and these programs read it.",
        _block("python", "\n".join(code)),
        "As a service, from the folder above this one:",
        _block("bash", "\n".join(_servers(handed, dtype))),
        _block(
            "bash",
            f"curl -s localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(_request(handed.title))}",
        ),
        "The port is vLLM's; SGLang has 30000, the lines of TGI 8080. It was judged by its likeliest tokens: "
        "say `temperature: 0`, since servers draw where a request says nothing. "
        "Ask it by chats: raw prompts lack the turns.",
        _room(handed),
    ]
    return "\n\n".join(parts)


def _room(handed: Handed) -> str:
    context = handed.source.base.size("positions")
    reads = f" The base reads up to {context:,}." if context else ""
    learned = f"No row that it learned from had more than {handed.source.recipe.train.max_tokens:,}."
    return f"Room is for {handed.room_tokens:,} tokens, a conversation with its reply.{reads} {learned}"


def _request(name: str) -> str:
    chat = [{"role": "user", "content": "你好"}]
    return json.dumps(
        {"model": name, "messages": chat, "temperature": 0, "max_tokens": 64}, ensure_ascii=False
    )


def _servers(handed: Handed, dtype: str) -> list[str]:
    """A command for each server."""
    place, name = shlex.quote(f"./{handed.title}"), shlex.quote(handed.title)
    most, of_vllm, of_sglang = handed.room_tokens, "", ""
    if parsers := _parsers(handed):
        of_vllm = f" --enable-auto-tool-choice --tool-call-parser {parsers[0]}"
        of_sglang = f" --tool-call-parser {parsers[1]}"
    volume = f'"$PWD"/{name}'
    of_tgi = "" if dtype == "float32" else f" --dtype {dtype}"
    return [
        "# vLLM",
        f"vllm serve {place} --served-model-name {name} --dtype {dtype} --max-model-len {most} \\",
        f"  --override-generation-config '{{\"temperature\": 0}}'{of_vllm}",
        "# SGLang",
        f"python -m sglang.launch_server --model-path {place} --served-model-name {name} --dtype {dtype} \\",
        f"  --context-length {most}{of_sglang}",
        "# TGI" + (", which has no float32: it takes float16" if not of_tgi else ""),
        f"docker run --gpus all --shm-size 1g -p 8080:80 -v {volume}:/model \\",
        "  ghcr.io/huggingface/text-generation-inference:latest --model-id /model \\",
        f"  --tokenizer-config-path /model/tokenizer_config.json{of_tgi} --max-total-tokens {most} \\",
        f"  --max-input-tokens {most - 1}",
    ]


def _parsers(handed: Handed) -> tuple[str, str] | None:
    """The readers of tool calls of vLLM and SGLang; None where the template offers no tools."""
    template = handed.source.template
    if template.renderer is None or not template.renderer.repertoire.tools.offers:
        return None
    text = str(template.tokenizer.chat_template)
    return next((parsers for mark, parsers in PARSERS.items() if mark in text), None)


def _gguf(handed: Handed) -> str:
    """llama.cpp's server, and Ollama where a Modelfile is there."""
    file, *others = handed.document["files"]
    name = shlex.quote(handed.title)
    lora = f" --lora {others[0]}" if handed.to == GGUF_ADAPTER else ""
    parts = [
        f"It was trained under {_turns(handed).replace('this tokenizer', 'each file')}. With llama.cpp, from "
        "this folder:",
        _block("bash", f"llama-server -m {file}{lora} --jinja -c {handed.room_tokens} --temp 0"),
        _block(
            "bash",
            f"curl -s localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(_request(handed.title))}",
        ),
        _room(handed),
    ]
    if (ollama := handed.document.get("ollama")) is not None:
        parts += [
            f"With Ollama, of `{ollama['modelfile_of']}`:",
            _block("bash", f"ollama create {name} -f Modelfile\nollama run {name}"),
            f"Ollama's templates cannot trim: {ollama['otherwise']} of {ollama['chats']} chats, with blanks "
            "at their edges or tools, are asked otherwise by it.",
        ]
    return "\n\n".join(parts)


def _quoted(text: str) -> str:
    """As Python writes a text."""
    return json.dumps(text, ensure_ascii=False)


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
