"""The program that holds a GGUF in llama.cpp: started by `llama_cpp`, a process of its own, since llama.cpp
ends its process where a file is not to its taste.

It says where it listens (this machine only, behind a key), and ends with its standard input.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """One JSON line in: {path, adapter, key, context_tokens, threads}; one out: {address}."""
    import xllamacpp

    asked = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = asked["path"]
    if asked["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(asked["adapter"], 1.0)]
    params.api_keys = [asked["key"]]
    params.n_ctx = asked["context_tokens"]
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked["threads"]
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.swa_full = True  # what was read stays, also where some layers look at a window alone
    params.cache_ram_mib = 0
    params.ui = params.fit_params = params.warmup = False
    params.offline = True
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
