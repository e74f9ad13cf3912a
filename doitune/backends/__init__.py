"""Ways to load a model: `hf` on any machine, `unsloth` on CUDA. Only this room imports transformers, peft,
bitsandbytes, unsloth."""

from doitune.backends import no_fetched_code as no_fetched_code  # before any of them
