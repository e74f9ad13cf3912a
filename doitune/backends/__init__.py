"""Ways to load a model: `hf` on any machine, `unsloth` on CUDA. Only this room imports transformers, peft,
bitsandbytes, unsloth."""
