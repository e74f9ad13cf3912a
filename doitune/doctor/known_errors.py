"""Errors of the libraries, the driver and the network that are nobody's bug: what each means and what mends
it, by what it says. A new one is a row, and its message a row of `tests/test_known_errors.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from doitune.errors import DiskError, DoituneError, FitError, ModelError

TORCH = "'torch>=2.10,<2.14'"
CUDA_INDEX = "https://download.pytorch.org/whl/cu128"
"""A build of torch for CUDA 12, which drivers from 525 on run."""
AGAIN = f"pip install --force-reinstall {TORCH} --index-url {CUDA_INDEX}"
MIRROR = "https://hf-mirror.com"
ELSEWHERE = (
    f"a mirror of the hub, as in China: `export HF_ENDPOINT={MIRROR}`; data also by `--from modelscope`; or "
    "copy a folder here: --model FOLDER, --corpus FILE"
)


@dataclass(frozen=True)
class KnownError:
    """`said`: a pattern of its message; `problem`: what it means; `cure`: what mends it."""

    name: str
    kind: type[DoituneError]
    said: str
    problem: str
    cure: str


KNOWN = (
    KnownError(
        "card out of memory", FitError,
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
        "the card's memory ran out",
        "`nvidia-smi` shows what else holds it; `doitune plan RECIPE` says the cheapest change that fits",
    ),
    KnownError(
        "main memory", FitError,
        r"DefaultCPUAllocator: (can't|not enough)|Cannot allocate memory|\bMemoryError\b",
        "this machine's main memory ran out",
        "close other programs, or a smaller base; `doitune plan RECIPE` says how much one takes (WSL: "
        "`memory=` in .wslconfig)",
    ),
    KnownError(
        "driver too old", FitError,
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient",
        "the card's driver is too old for this build of torch",
        "update the driver (CUDA 12 needs 525 or later, CUDA 13 needs 580; WSL: the one of Windows), or "
        f"install a build for CUDA 12: `{AGAIN}`",
    ),
    KnownError(
        "no driver", FitError,
        r"Found no NVIDIA driver|libcuda\.so\.1: cannot open",
        "there is no NVIDIA driver here",
        "install NVIDIA's driver; on WSL the one for Windows and none inside; in a container start it with "
        "--gpus all",
    ),
    KnownError(
        "driver changed under it", FitError,
        r"Driver/library version mismatch",
        "the driver was updated and its old part still runs",
        "restart the machine",
    ),
    KnownError(
        "torch without CUDA", FitError,
        r"Torch not compiled with CUDA enabled|Cannot find any torch accelerator",
        "this torch is built for the CPU",
        f"install a build with CUDA: `{AGAIN}`",
    ),
    KnownError(
        "card unknown to torch", FitError,
        r"no kernel image is available for execution|not compatible with the current PyTorch installation",
        "this build of torch has no code for the card",
        f"cards of the RTX 50 series need CUDA 12.8 or later: `{AGAIN}`; those below compute capability 7.5 "
        "are not served",
    ),
    KnownError(
        "CUDA's libraries of two releases", FitError,
        r"undefined symbol: \S*(nvJitLink|cublas|cudnn|nccl|cuda|cusparse)|CUDNN_STATUS_(NOT_INITIALIZED|"
        r"VERSION)",
        "torch found another CUDA's libraries than its own",
        f"`unset LD_LIBRARY_PATH`; if that is no help: `{AGAIN}`",
    ),
    KnownError(
        "CUDA's libraries missing", FitError,
        r"lib(cudart|cublas|cublasLt|cudnn|nvrtc|nvJitLink|nccl|cusparse|cufft|curand|"
        r"cupti)[\w.]*: cannot open",
        "a library of CUDA that torch was built with is not here",
        f"install torch with its libraries again: `{AGAIN}`",
    ),
    KnownError(
        "bitsandbytes without CUDA", FitError,
        r"libbitsandbytes_cuda\d+|Configured CUDA binary not found|CUDA Setup failed despite",
        "bitsandbytes has no code for this CUDA",
        "`pip install --force-reinstall --no-deps 'bitsandbytes>=0.48.1,<0.51'`, and `unset "
        "BNB_CUDA_VERSION`",
    ),
    KnownError(
        "torchvision of another torch", FitError,
        r"operator torchvision::nms does not exist|torchvision==\S+ claims to match",
        "torchvision belongs to another torch",
        "`pip uninstall torchvision`: doitune does not need it",
    ),
    KnownError(
        "system too old", FitError,
        r"version [`'](GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found",
        "this system's C library is older than a wheel was built for",
        "use a newer Linux (Ubuntu 22.04 or later), or a container with one",
    ),
    KnownError(
        "numpy of another release", FitError,
        r"numpy\.dtype size changed|compiled using NumPy 1\.x cannot be run in|"
        r"numpy\.core\.multiarray failed to import",
        "a library was built for another numpy",
        "`pip install --force-reinstall --upgrade doitune` in a fresh environment",
    ),
    KnownError(
        "libraries that do not fit", FitError,
        r"is required for a normal functioning of this module, but found|which is incompatible\.",
        "two libraries here do not fit each other",
        "`doitune doctor --fix-hint` prints the commands; a fresh environment is surest",
    ),
    KnownError(
        "library missing", FitError,
        r"No module named '(torch|transformers|peft|bitsandbytes|accelerate|tokenizers|sentencepiece|"
        r"safetensors|"
        r"huggingface_hub|httpx|numpy|pydantic|yaml|rich|prompt_toolkit)\b",
        "a library that doitune needs is not installed",
        "`pip install --upgrade doitune` in this environment",
    ),
    KnownError(
        "no wheel", FitError,
        r"No matching distribution found for|Could not find a version that satisfies",
        "pip found no wheel of that release for this Python and system",
        "use Python 3.10 to 3.13 on 64-bit Linux; a mirror of PyPI may lag: name "
        "PyPI itself, or another mirror, with `pip install -i ADDRESS`",
    ),
    KnownError(
        "no compiler", FitError,
        r"Failed to find C compiler|fatal error: Python\.h: No such file|cuda\.h: No such file",
        "Triton compiles kernels and finds no compiler",
        "`sudo apt install build-essential python3-dev`, or --set model.backend=hf",
    ),
    KnownError(
        "several cards", FitError,
        r"ncclSystemError|ncclUnhandledCudaError|ncclInternalError|NCCL error",
        "the cards cannot talk to each other",
        "`export NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1`, and in a container --shm-size 1g",
    ),
    KnownError(
        "several machines", FitError,
        r"TCPStore|client socket has (failed|timed out)|DistNetworkError",
        "the processes of one training cannot reach each other",
        "check MASTER_ADDR and MASTER_PORT, and that no older process holds the port",
    ),
    KnownError(
        "the card itself", FitError,
        r"uncorrectable ECC|fallen off the bus|GPU is lost|CUDA error: unspecified launch failure",
        "the card has failed",
        "`sudo dmesg | grep -i xid` says how; restart, and prove it: `doitune selftest gpu`",
    ),
    KnownError(
        "shared memory", FitError,
        r"unable to (open|mmap|write to|allocate) (file </|shared memory)|insufficient shared memory",
        "there is too little shared memory",
        "start the container with --shm-size 1g",
    ),
    KnownError(
        "open files", FitError, r"Too many open files", "this shell may open too few files", "`ulimit -n "
        "65535`"
    ),
    KnownError(
        "full disk", DiskError,
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room, then run the same command again (a training: `doitune resume last`)",
    ),
    KnownError(
        "model to be asked for", ModelError,
        r"gated repo|GatedRepoError|is restricted\. You must|is not in the authorized list|awaiting a review",
        "the hub gives this model only to those who accepted its licence",
        "accept it on the model's page, then `hf auth login`",
    ),
    KnownError(
        "login", ModelError,
        r"401 Client Error|Invalid user token|Invalid username or password|401 Unauthorized",
        "the hub does not know this login",
        "`hf auth login`, or a fresh HF_TOKEN",
    ),
    KnownError(
        "too many questions", ModelError,
        r"429 (Client Error|Too Many Requests)",
        "the hub asks for patience",
        "wait some minutes and run the same command again; a login raises the limit",
    ),
    KnownError(
        "offline by choice", ModelError,
        r"offline mode is enabled|OfflineModeIsEnabled|outgoing traffic has been disabled",
        "HF_HUB_OFFLINE keeps every command from asking the hub",
        "`unset HF_HUB_OFFLINE`, or name a folder: --model FOLDER",
    ),
    KnownError(
        "certificate", ModelError,
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the connection is opened by somebody on the way (a proxy), or certificates are missing",
        "`export SSL_CERT_FILE=` with your proxy's certificate; or `pip install --upgrade certifi`",
    ),
    KnownError(
        "proxy", ModelError,
        r"ProxyError|Cannot connect to proxy|407 Proxy|'socksio' package is not installed",
        "the proxy does not let it through",
        "look at HTTPS_PROXY and ALL_PROXY; one of kind socks needs `pip install 'httpx[socks]'`",
    ),
    KnownError(
        "mirror that is no mirror", ModelError,
        r"Distant resource does not seem to be on huggingface\.co|FileMetadataError",
        "what answers is not the hub, nor a whole mirror of it",
        f"`unset HF_ENDPOINT`, or another one: {ELSEWHERE}",
    ),
    KnownError(
        "no network", ModelError,
        r"Name or service not known|name resolution|getaddrinfo failed|Network is unreachable|"
        r"No route to host|"
        r"Connection (refused|reset|timed out)|ConnectTimeout|ReadTimeout|Max retries exceeded|"
        r"(read|write|connect|handshake)( operation)? timed out",
        "the hub cannot be reached",
        f"check the network and run the same command again; {ELSEWHERE}",
    ),
    KnownError(
        "file that came half", ModelError,
        r"HeaderTooLarge|HeaderTooSmall|MetadataIncompleteBuffer|InvalidHeaderDeserialization|"
        r"InvalidHeaderLength",
        "a weights file is cut, or is a pointer of git-lfs and no weights",
        "`doitune base check FOLDER` names it; fetch it again (`git lfs pull` in a clone)",
    ),
    KnownError(
        "architecture unknown", ModelError,
        r"Transformers does not recognize this architecture|Unrecognized configuration class",
        "this transformers does not know the model's architecture",
        "`doitune recipes list` names models that are served; doitune goes up to transformers 5.17",
    ),
)  # fmt: skip
"""The first that matches is meant."""

TYPES = (ImportError, OSError, RuntimeError, MemoryError, AssertionError)
PACKAGES = (
    "httpx",
    "huggingface_hub",
    "httpcore",
    "requests",
    "urllib3",
    "safetensors",
    "safetensors_rust",
    "pynvml",
)
"""Whose errors may be known: a KeyError or a TypeError is a bug of ours, whatever it says."""


def explain(text: str) -> KnownError | None:
    """What a message, or a whole log, means; None for one that is not known."""
    return next((one for one in KNOWN if re.search(one.said, text, re.IGNORECASE)), None)


def recognised(error: BaseException) -> DoituneError | None:
    """The error of ours that stands for a library's; None where it is not known."""
    if not (isinstance(error, TYPES) or type(error).__module__.partition(".")[0] in PACKAGES):
        return None
    name = type(error).__name__
    found = explain(f"{name}: {error}")
    if found is None:
        return None
    first = (str(error).strip() or name).splitlines()[0]
    return found.kind(f"{found.problem} ({name}: {first[:200]})", found.cure)
