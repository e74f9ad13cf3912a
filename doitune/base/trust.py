"""What a base may not be: a name that imitates a known one, or a folder whose config asks for somebody's
code.

A name on the hub can be anybody's: `Qwen/Qwen3-4B` is one company's, `Owen/Qwen3-4B` or `qwen-ai/Qwen3-4B`
may be a stranger's. A name that resembles a known one is refused until its commit is written down, which
does not happen by a typing error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doitune.errors import ModelError

OWNERS = (
    "01-ai", "allenai", "baichuan-inc", "bigscience", "deepseek-ai", "EleutherAI", "facebook",
    "FlagAlpha", "google", "hfl", "HuggingFaceTB", "IDEA-CCNL", "ibm-granite", "internlm", "meta-llama",
    "microsoft", "minlik", "mistralai", "moonshotai", "nvidia", "openai", "openbmb", "Qwen",
    "shenzhi-wang", "tencent", "THUDM", "tiiuae", "TinyLlama", "unsloth", "zai-org",
)  # fmt: skip
"""Accounts of the hub that publish the bases people fine-tune, and those of `recipes/models`. Others are
used as they are named."""

MODELS = (
    "Baichuan2-#B-Base", "chinese-alpaca-#-#b", "chinese-llama-plus-#b-merged", "DeepSeek-V#",
    "gemma-#-#b", "gpt-oss-#b", "internlm#_#-#b", "Llama-#.#-#B", "Meta-Llama-#-#B", "MiniCPM#-#B",
    "Mistral-#B-v#.#", "Phi-#-mini-instruct", "Qwen#-#B", "Qwen#-#B-Base", "Qwen#.#-#B",
    "Qwen#.#-#B-Instruct", "SmolLM#-#M", "SmolLM#-#B", "TinyLlama-#.#B-Chat-v#.#", "Yi-#B", "Yi-#.#-#B",
    "glm-#-#b",
)  # fmt: skip
"""Their models' names, with `#` for digits."""

_LOOKS = str.maketrans({
    "0": "o", "1": "l", "i": "l", "|": "l", "3": "e", "5": "s", "8": "b", "-": "", "_": "", ".": "",
})  # fmt: skip
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_CODE_KEYS = re.compile(r"_?(attn|experts)_implementation(_internal)?|kernel_config|use_kernels")
_OWN_NAME = re.compile(r"[a-z0-9_]{1,40}")


def refuse_lookalike(name: str) -> None:
    """ModelError for a hub name (`owner/model`) that resembles a known one without being its."""
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} is not a name that the hub can have: letters A-Z, digits, `-`, `_` and `.`",
            "type the name by hand",
        )
    owner, model = name.split("/")
    if owner in OWNERS:
        return
    near = next((known for known in OWNERS if _near(_skeleton(owner), _skeleton(known))), "")
    if near:
        raise ModelError(
            f"{name!r} is not {near!r}'s, though its owner's name is almost that", _cure(f"{near}/{model}")
        )
    shape = _skeleton(re.sub(r"[0-9]+", "#", model))
    if any(_near(shape, _skeleton(known)) for known in MODELS):
        raise ModelError(
            f"{name!r} has the name of a known model, and {owner!r} is not known to publish it",
            _cure(f"OWNER/{model}"),
        )


def refuse_moved(name: str, leads_to: str) -> None:
    """ModelError where the hub answers for another name: it follows renames without a word, and an old
    name can be taken by anybody."""
    if leads_to != name:
        raise ModelError(
            f"{name!r} was renamed: it leads to {leads_to!r} now",
            f"if you trust that one, name it: --model {leads_to}",
        )


def _cure(meant: str) -> str:
    return (
        f"if you meant {meant}, write that; if you trust this one, pin the commit that you looked at: "
        "--set model.revision=40-HEX-DIGITS"
    )


def _skeleton(text: str) -> str:
    """What a hurried eye sees: case, look-alike letters and separators made one."""
    return text.lower().translate(_LOOKS).replace("rn", "m").replace("vv", "w")


def _near(a: str, b: str) -> bool:
    """Equal, or one slip away (a letter more, less, other, or two swapped); short names must be equal."""
    if a == b:
        return True
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 4:
        return False
    start = next((place for place, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    left, right = a[start:], b[start:]
    return (
        left[1:] == right[1:]
        or left[1:] == right
        or left == right[1:]
        or (left[:2] == right[:2][::-1] and left[2:] == right[2:])
    )


def refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    """ModelError where a config asks for Python of its own or for compiled code from a hub (an attention
    that is `owner/repository`)."""
    if config.get("auto_map") and "model_type" not in config:
        raise ModelError(
            f"{folder} needs Python code of its own to load", "doitune runs no code from a model's folder"
        )
    for key, kind in (("auto_map", Mapping), ("quantization_config", Mapping), ("model_type", str)):
        if config.get(key) is not None and not isinstance(config[key], kind):
            raise ModelError(
                f"{folder / 'config.json'} is damaged: {key} is {config[key]!r}", "copy the model again"
            )
    for key, value in _settings(config):
        if (
            _CODE_KEYS.fullmatch(key)
            and value is not None
            and not (isinstance(value, str) and _OWN_NAME.fullmatch(value))
        ):
            raise ModelError(
                f"{folder / 'config.json'} asks for code from elsewhere: {key} is {value!r}",
                "doitune runs no code that a model names",
            )


def _settings(config: Mapping[str, Any], depth: int = 0) -> list[tuple[str, Any]]:
    """Every setting of a config and of the configs in it."""
    found = list(config.items())
    if depth < 4:
        found += [
            pair
            for value in config.values()
            if isinstance(value, Mapping)
            for pair in _settings(value, depth + 1)
        ]
    return found
