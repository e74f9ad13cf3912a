"""The tokenizer of an exported model: a chat that a plain library renders with it has the ids that training
gave it.

With `template: doit` the role tokens are made tokens that text can name, and the chat template writes them;
the base's own template is copied as it is. Both are proved on chats before a weight is written, and once more
on the finished folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from doitune.base.sentencepiece import MODEL_FILE
from doitune.base.tokens import read_tokens
from doitune.data.example import Message
from doitune.errors import ModelError
from doitune.prompt.encode import encode, encode_question, fingerprint
from doitune.prompt.speech import as_turns, spoken
from doitune.prompt.template import NEW_TOKENS, PROBE_CHAT, Template, open_template
from doitune.system.disk import write_whole

KEPT = ("bos_token", "unk_token", "pad_token", "model_max_length")
"""What a `doit` tokenizer keeps of the base's tokenizer_config.json; everything else is in tokenizer.json,
as it was in use."""

PLACES = (
    *(
        "name_or_path",
        "tokenizer_file",
        "special_tokens_map_file",
        "vocab_file",
        "merges_file",
        "added_tokens_file",
    ),
)
"""Keys of a tokenizer_config.json that hold paths of the machine that wrote it."""

CHATS: tuple[tuple[Message, ...], ...] = (
    PROBE_CHAT,
    PROBE_CHAT[:2],
    (Message("user", "  1+1=?\n\nA. 2\n"), Message("assistant", " A ")),
    (Message("system", "简短地回答。"), Message("user", "1+1=?"), Message("assistant", "2")),
    (Message("user", "Write `f(x)`:\n\n    return x\n"), Message("assistant", "def f(x):\n    return x")),
)
"""Chats that every export is proved on, beside rows of the run: several turns, blanks at the ends, a system
text, code, both languages."""


def exported_tokens(template: Template, folder: Path, rows: int) -> dict[str, bytes]:
    """The tokenizer's files by name, generation_config.json among them, and tokenizer.model where texts are
    cut by it. `folder`: the base's; `rows`: of its embedding. Errors: ModelError."""
    own = template.kind == "model"
    files = _own_files(read_tokens([folder], rows).files) if own else _doit_files(template, folder)
    if template.cut:
        files[MODEL_FILE] = (folder / MODEL_FILE).read_bytes()
    return {**files, "generation_config.json": _json(_generation(template, folder))}


def role_texts(template: Template) -> tuple[str, str, str]:
    """How a `doit` template's user, assistant and end token are written."""
    if template.new_rows:
        return NEW_TOKENS
    user, assistant, end = template.tokenizer.convert_ids_to_tokens(
        [template.user_id, template.assistant_id, template.end_id]
    )
    return str(user), str(assistant), str(end)


def chat_template(template: Template) -> str:
    """The jinja text that writes a chat as `prompt.encode` does: role token, stripped content, end token; a
    system text before the first user's."""
    user, assistant, end = (json.dumps(text, ensure_ascii=False) for text in role_texts(template))
    return "".join(
        (
            "{%- set told = messages[0]['content'] | trim if messages[0]['role'] == 'system' else '' -%}",
            "{%- for message in messages if message['role'] != 'system' -%}",
            f"{{{{- {assistant} if message['role'] == 'assistant' else {user} -}}}}",
            "{{- told + '\n\n' if told and loop.first else '' -}}",
            f"{{{{- message['content'] | trim -}}}}{{{{- {end} -}}}}{{%- endfor -%}}",
            f"{{%- if add_generation_prompt -%}}{{{{- {assistant} -}}}}{{%- endif -%}}",
        )
    )


def prove_files(
    files: Mapping[str, bytes],
    config: Mapping[str, Any],
    template: Template,
    chats: Sequence[Sequence[Message]],
) -> int:
    """`prove_folder` of files that are not written yet. `config`: the model's config.json."""
    with TemporaryDirectory(prefix="doitune-") as name:
        folder = Path(name)
        for file, content in {**files, "config.json": _json(config)}.items():
            write_whole(folder / file, content)
        return prove_folder(folder, template, chats)


def prove_folder(folder: Path, template: Template, chats: Sequence[Sequence[Message]]) -> int:
    """The folder's own template gives each of `chats` the ids of `template`, as a question and as a whole.
    ModelError where it does not.

    Where texts are cut by tokenizer.model, that is proved of both files in the folder: tokenizer.json gives
    the ids that the base's own would. Returned is how many of the chats it cuts otherwise than in training.
    """
    found = exported_template(folder, template)
    fast = _prove_ids(replace(found, cut=None), replace(template, cut=None), chats, folder)
    exact = _prove_ids(found, template, chats, folder) if template.cut else fast
    if fingerprint(found) != fingerprint(template):
        raise ModelError(
            "the exported tokenizer has another fingerprint than training had",
            "report it, with the base's name",
            place=str(folder),
        )
    return sum(one != other for one, other in zip(fast, exact, strict=True))


def _prove_ids(
    found: Template, template: Template, chats: Sequence[Sequence[Message]], folder: Path
) -> list[tuple[int, ...]]:
    """The ids of each chat, by one way of cutting; see `prove_folder`."""
    proved = []
    for messages in chats:
        question = messages[:-1]
        _refuse_other_ids(_rendered(found, question, True), encode_question(question, template), folder)
        whole = encode(messages, template).ids
        # what a chat template writes after the last end token is no part of what was trained
        _refuse_other_ids(_rendered(found, messages, False)[: len(whole)], whole, folder)
        proved.append(whole)
    return proved


def _refuse_other_ids(ids: Sequence[int], trained: Sequence[int], folder: Path) -> None:
    """ModelError where a chat has other ids than in training."""
    if tuple(ids) == tuple(trained):
        return
    pairs = enumerate(zip(ids, trained, strict=False))
    place = next((at for at, (a, b) in pairs if a != b), min(len(ids), len(trained)))
    other = "the exported tokenizer gives a chat other ids than training did"
    raise ModelError(
        f"{other}: the first that differs is number {place}",
        "this tokenizer cannot be exported with its prompt; the checkpoint's folder is a whole peft adapter "
        "and can be used with doitune",
        place=str(folder),
    )


def exported_template(folder: Path, template: Template) -> Template:
    """The template that an exported folder gives by its own files; `template` is the run's, from which its
    kind, moment and padding are known."""
    from doitune.backends.tokenizer import load_tokenizer
    from doitune.backends.tokenizer_cut import load_cut

    roles = ("", "", "") if template.kind == "model" else role_texts(template)
    tokenizer = load_tokenizer(folder)
    found = open_template(
        tokenizer,
        kind=template.kind,
        tokens="reuse",
        vocabulary_rows=0,
        roles=roles,
        moment=template.moment,
        cut=load_cut(folder, tokenizer)[0],
    )
    stops = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    return replace(
        found,
        stop_ids=tuple(stops),
        pad_id=template.pad_id,
        thinking=template.thinking,
        learn=template.learn,
    )


def rendered_text(template: Template, messages: Sequence[Message], open_turn: bool) -> str:
    """A chat as the template of an exported folder writes it. Somebody else's runs in its own process."""
    if template.renderer is not None:
        turns, tools = as_turns(spoken(messages, template.manner), template.manner)
        return str(template.renderer.texts([(turns, open_turn, tools)])[0])
    chat = [{"role": one.role, "content": one.content} for one in messages]
    return str(template.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=open_turn))


def _rendered(template: Template, messages: Sequence[Message], open_turn: bool) -> list[int]:
    """A chat as a plain library makes it of the folder: text by the chat template, then ids, by sentencepiece
    where `template` cuts by it."""
    text = rendered_text(template, messages, open_turn)
    if template.cut:
        return template.text_ids([text])[0]
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])


def _own_files(files: dict[str, bytes]) -> dict[str, bytes]:
    """The base's own, but for the folders that its maker once saved it from. A template in a file of its own
    stands in tokenizer_config.json too: TGI reads it there."""
    name, jinja = "tokenizer_config.json", files.get("chat_template.jinja")
    config = json.loads(files.get(name, b"{}"))
    kept = {key: value for key, value in config.items() if key not in PLACES}
    if jinja is not None and "chat_template" not in kept:
        kept["chat_template"] = jinja.decode("utf-8")
    return files if kept == config else {**files, name: _json(kept)}


def _doit_files(template: Template, folder: Path) -> dict[str, bytes]:
    """tokenizer.json as it was in use, with the role tokens in it, and a tokenizer_config.json that adds
    nothing but the chat template."""
    document = json.loads(template.tokenizer.backend_tokenizer.to_str())
    texts = role_texts(template)
    for text, number in zip(texts, (template.user_id, template.assistant_id, template.end_id), strict=True):
        _add(document, text, number)
    _prefix_everywhere(document.get("pre_tokenizer"))
    path = folder / "tokenizer_config.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = {key: before[key] for key in KEPT if before.get(key) is not None}
    own = {
        "eos_token": texts[2],
        "chat_template": chat_template(template),
        "clean_up_tokenization_spaces": False,  # as `prompt.decode` reads replies
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return {"tokenizer.json": _json(document, indent=None), "tokenizer_config.json": _json({**config, **own})}


def _add(document: dict[str, Any], text: str, number: int) -> None:
    """Make `text` a token of its own wherever it stands, under its id; one that the vocabulary lacks is
    put into it, with a gap before it or not."""
    added = document["added_tokens"] = [
        one for one in document.get("added_tokens") or () if one["id"] != number
    ]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added.append({"id": number, "content": text, **plain})
    added.sort(key=lambda one: one["id"])
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary.setdefault(text, number)


def _prefix_everywhere(step: Any) -> None:
    """Contents are tokenised one by one, each as the start of a text: so is what follows a role token."""
    if isinstance(step, dict):
        if step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first":
            step["prepend_scheme"] = "always"
        for inner in step.get("pretokenizers") or ():
            _prefix_everywhere(inner)


def _generation(template: Template, folder: Path) -> dict[str, Any]:
    """Where a reply ends, and what pads: nothing of the base's sampling, since the model was judged by its
    likeliest tokens."""
    path = folder / "config.json"
    begins = json.loads(path.read_text(encoding="utf-8")).get("bos_token_id")
    return {
        **({"bos_token_id": begins} if begins is not None else {}),
        "do_sample": False,
        "eos_token_id": list(template.stop_ids),
        "pad_token_id": template.pad_id,
    }


def _json(document: Any, indent: int | None = 2) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=indent) + "\n").encode("utf-8")
