"""What libraries, drivers and networks say when they fail is answered by one cure; a bug of ours is not taken for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doitune.doctor.known_errors import KNOWN, TORCH, explain, recognised
from doitune.errors import DiskError, FitError, ModelError

SAID = {
    "card out of memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 172.00 MiB. GPU 0 has a total capacity of 7.79 GiB of "
        "which 118.62 MiB is free.",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    ),
    "main memory": (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)",
        "MemoryError: ",
    ),
    "driver too old": (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
        "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version",
    ),
    "no driver": (
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
    ),
    "driver changed under it": ("Failed to initialize NVML: Driver/library version mismatch",),
    "torch without CUDA": ("AssertionError: Torch not compiled with CUDA enabled",),
    "card unknown to torch": (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.",
    ),
    "CUDA's libraries of two releases": (
        "ImportError: /venv/lib/python3.11/site-packages/torch/lib/../../nvidia/cusparse/lib/libcusparse.so.12: undefined "
        "symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12",
    ),
    "CUDA's libraries missing": (
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "OSError: libcublas.so.12: cannot open shared object file: No such file or directory",
    ),
    "bitsandbytes without CUDA": (
        "RuntimeError: Configured CUDA binary not found at /x/bitsandbytes/libbitsandbytes_cuda130.so",
        "CUDA Setup failed despite GPU being available.",
    ),
    "torchvision of another torch": ("RuntimeError: operator torchvision::nms does not exist",),
    "system too old": (
        "OSError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /venv/x.so)",
        "ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found",
    ),
    "numpy of another release": (
        "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88",
        "ImportError: numpy.core.multiarray failed to import",
    ),
    "libraries that do not fit": (
        "ImportError: tokenizers>=0.22.0,<=0.23.0 is required for a normal functioning of this module, but found "
        "tokenizers==0.19.1.",
        "transformers 5.17.0 requires huggingface-hub<2.0,>=1.0, but you have huggingface-hub 0.34.0 which is incompatible.",
    ),
    "library missing": ("ModuleNotFoundError: No module named 'sentencepiece'",),
    "no wheel": (
        "ERROR: Could not find a version that satisfies the requirement torch>=2.10 (from versions: 2.7.1)\n"
        "ERROR: No matching distribution found for torch>=2.10",
    ),
    "no compiler": (
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.",
        "/tmp/x/main.c:5:10: fatal error: Python.h: No such file or directory",
    ),
    "several cards": ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, ncclSystemError",),
    "several machines": (
        "torch.distributed.DistNetworkError: The client socket has failed to connect to any network address of (10.0.0.2, 29500).",
    ),
    "the card itself": ("RuntimeError: CUDA error: uncorrectable ECC error encountered",),
    "shared memory": ("RuntimeError: unable to open shared memory object </torch_12_3> in read-write mode: No such file",),
    "open files": ("OSError: [Errno 24] Too many open files: '/x'",),
    "full disk": ("OSError: [Errno 28] No space left on device: '/x'",),
    "model to be asked for": (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6) Cannot access gated repo for url "
        "https://huggingface.co/meta-llama/Llama-3.1-8B/resolve/main/config.json.",
        "Access to model google/gemma-3-4b-it is restricted. You must have access to it and be authenticated to access it.",
    ),
    "login": (
        "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/whoami-v2",
        "OSError: Invalid user token.",
    ),
    "too many questions": ("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://x",),
    "offline by choice": (
        "OfflineModeIsEnabled: Cannot reach https://huggingface.co/x: offline mode is enabled. To disable it, please unset the "
        "`HF_HUB_OFFLINE` environment variable.",
        "LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic has been disabled.",
    ),
    "certificate": (
        "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in chain",
    ),
    "proxy": (
        "httpx.ProxyError: 407 Proxy Authentication Required",
        "ImportError: Using SOCKS proxy, but the 'socksio' package is not installed.",
    ),
    "mirror that is no mirror": (
        "FileMetadataError: Distant resource does not seem to be on huggingface.co. It is possible that a configuration issue "
        "prevents you from downloading resources",
    ),
    "no network": (
        "httpx.ConnectError: [Errno -2] Name or service not known",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "httpx.ReadTimeout: The read operation timed out",
    ),
    "file that came half": ("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",),
    "architecture unknown": (
        "ValueError: The checkpoint you are trying to load has model type `x9` but Transformers does not recognize this "
        "architecture.",
    ),
}  # fmt: skip
"""As libraries, drivers and pip word them, by the name of what they mean."""


def test_every_known_error_has_a_message_and_no_other_row_takes_it() -> None:
    assert len(KNOWN) > 25 and {one.name for one in KNOWN} == {*SAID}
    for name, messages in SAID.items():
        for message in messages:
            found = explain(f"Traceback (most recent call last):\n  File x\n{message}")
            assert found is not None and found.name == name, (message, found)


def test_a_cure_says_what_to_do_and_names_the_limits_of_the_package() -> None:
    wanted = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    for requirement in re.findall(r"'((?:torch|bitsandbytes)[^']*)'", " ".join(one.cure for one in KNOWN)):
        assert f'"{requirement}"' in wanted, requirement
    assert TORCH.strip("'") in wanted and all(one.cure and one.problem for one in KNOWN)


def test_a_librarys_error_is_a_sentence_with_its_exit_code() -> None:
    for error, kind in (
        (RuntimeError(SAID["driver too old"][0]), FitError),
        (MemoryError(), FitError),
        (OSError(28, "No space left on device"), DiskError),
        (ImportError(SAID["CUDA's libraries missing"][0]), FitError),
        (ConnectionResetError(104, "Connection reset by peer"), ModelError),
    ):
        found = recognised(error)
        assert type(found) is kind and found.hint and type(error).__name__ in found.problem


@pytest.mark.parametrize(
    "error",
    [
        KeyError("CUDA out of memory"),
        TypeError("No module named 'torch'"),
        ZeroDivisionError("x"),
        RuntimeError("dictionary changed size during iteration"),
        FileNotFoundError(2, "No such file or directory", "/x"),
        ImportError("cannot import name 'x' from 'doitune.errors'"),
        ModuleNotFoundError("No module named 'doitune.x'"),
    ],
)
def test_a_bug_of_ours_is_not_taken_for_a_known_error(error: Exception) -> None:
    """Trap: a bug that is told as somebody else's keeps nobody's attention."""
    assert recognised(error) is None
