"""Tiny chat templates of our own that behave as those of well-known models do, for tests of what rows hold.

Each is the behaviour alone: where the system text goes, how tools and calls are written, what becomes of
thoughts.
"""

from __future__ import annotations

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|eot|>", "<|header|>", "[INST]", "[/INST]", "<turn>", "</turn>")

_CALLS = (
    "{% for c in m.tool_calls %}{% set f = c.function %}"
    "{{ '\n<tool_call>\n{\"name\": \"' + f.name + '\", \"arguments\": ' }}{{ f.arguments | tojson }}{{ '}\n</tool_call>' }}"
    "{% endfor %}"
)
_TOOLS = (
    "{% if tools %}{{ '\n\n# Tools\n' }}{% for t in tools %}{{ (t | tojson) + '\n' }}{% endfor %}{% endif %}"
)
_SYSTEM = (
    "{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}You are Q.{% endif %}"
    + _TOOLS
    + "{{ '<|im_end|>\n' }}"
)
_RESULT = (
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
)
_OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

QWEN25 = (
    _SYSTEM
    + "{% for m in messages %}{% if m.role == 'tool' %}"
    + _RESULT
    + "{% elif m.role != 'system' %}{{ '<|im_start|>' + m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    + "{% if m.tool_calls %}"
    + _CALLS
    + "{% endif %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _OPENS
)
"""A system text of its own where there is none; tools in it; results as a user's turn, several in one."""

QWEN3 = (
    _SYSTEM
    + "{% set ns = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    + "{% for m in messages %}{% if m.role == 'tool' %}"
    + _RESULT
    + "{% elif m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    + "{% elif m.role == 'assistant' %}{% set text = m.content or '' %}{% set thought = '' %}"
    + "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in text %}"
    + "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    + "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.asked and (loop.last or thought) %}"
    + "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + text.lstrip('\n') }}{% else %}{{ text }}{% endif %}"
    + "{% if m.tool_calls %}"
    + _CALLS
    + "{% endif %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _OPENS
)
"""As QWEN25; thoughts of the turns behind the last question alone, and an empty one before a last answer."""

LLAMA31 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set told = messages[0].content | trim %}{% set turns = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}"
    "{{ '<|header|>system\n\nToday: ' + strftime_now('%d %b %Y') + '\n\n' + told + '<|eot|>' }}"
    "{% for m in turns %}{% if loop.first and tools %}"
    "{{ '<|header|>user\n\nCall one of:\n' }}{% for t in tools %}{{ (t | tojson(indent=4)) + '\n\n' }}{% endfor %}{{ (m.content | trim) + '<|eot|>' }}"
    "{% elif m.role == 'tool' %}{{ '<|header|>ipython\n\n' + (m.content | tojson) + '<|eot|>' }}"
    "{% elif m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}{% set f = m.tool_calls[0].function %}"
    "{{ '<|header|>assistant\n\n{\"name\": \"' + f.name + '\", \"parameters\": ' + (f.arguments | tojson) + '}<|eot|>' }}"
    "{% else %}{{ '<|header|>' + m.role + '\n\n' + (m.content | trim) + '<|eot|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|header|>assistant\n\n' }}{% endif %}"
)
"""A date in the system turn; tools before the first question; one call a turn, its text left out."""

GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (m.content | trim) + '</turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
"""No system turn, no tools."""

MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content %}{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{% set ns = namespace(last=0) %}{% for m in turns %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{{ bos_token }}{% for m in turns %}{% if m.role == 'user' %}"
    "{% if tools and loop.index0 == ns.last %}{{ '[TOOLS] ' + (tools | tojson) + '[/TOOLS]' }}{% endif %}"
    "{% if told is defined and loop.index0 == ns.last %}{{ '[INST] ' + told + '\n\n' + m.content + '[/INST]' }}{% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}"
    "{% elif m.tool_calls %}{{ '[CALLS] [' }}{% for c in m.tool_calls %}{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    "{{ (c.function | tojson)[:-1] + ', \"id\": \"' + c.id + '\"}' }}{{ ', ' if not loop.last else ']' + eos_token }}{% endfor %}"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    "{{ '[RESULTS] {\"content\": ' + m.content + ', \"call_id\": \"' + m.tool_call_id + '\"}[/RESULTS]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
"""The system text before the last question, so that it moves; tools there, too; ids of nine characters."""

AS_TEXT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{{ (tools | tojson) if tools else '' }}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|header|>U' + m.content }}"
    "{% elif m.role == 'assistant' and m.content is none %}{{ '<|header|>A' }}{% for c in m.tool_calls %}{{ c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}{% endfor %}{{ eos_token }}"
    "{% elif m.role == 'assistant' %}{{ '<|header|>A' + m.content + eos_token }}{% elif m.role == 'tool' %}{{ '<|header|>R' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|header|>A' }}{% endif %}"
)
"""Arguments as JSON text alone, calls where the content is none (DeepSeek V3's way)."""

OPEN_CALLS = (
    "{{ (tools | tojson) if tools else '' }}{% for m in messages %}{% if m.role == 'user' %}{{ '<turn>user\n' + m.content + '</turn>' }}"
    "{% elif m.role == 'tool' %}{{ '<result>' + m.content + '</result>' }}{% else %}"
    "{% if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{ '<turn>model\n' }}{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ '<call>' + c.function.name + (c.function.arguments | tojson) + '</call>' }}{% endfor %}"
    "{% if not m.tool_calls %}{{ '</turn>' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role == 'user' %}{{ '<turn>model\n' }}{% endif %}"
)
"""A call and its result within one turn of the model (Gemma 4's way): a call has no end of its own."""

KEYED = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>assistant\n<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _OPENS
)
"""Thoughts under their key alone: those in a text would stand behind an empty one."""

OPENED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
)
"""A question opens the thoughts; an earlier answer has none."""

TEMPLATES = {
    "qwen2.5": QWEN25,
    "qwen3": QWEN3,
    "llama3.1": LLAMA31,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "as text": AS_TEXT,
}
