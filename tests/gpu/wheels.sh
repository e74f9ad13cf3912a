#!/usr/bin/env bash
# Wheels of doitune and of what a machine with torch, triton, transformers, accelerate, huggingface_hub and peft still lacks, for Linux on x86-64:
# bash tests/gpu/wheels.sh .whl [3.12]      (the Python over there; CUDA=130 names the build of bitsandbytes that is kept)
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?name the folder for the wheels} python=${2:-3.12} cuda=${CUDA:-130}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"

# In the versions of requirements.lock
OURS="annotated-doc annotated-types bitsandbytes click httpx markdown-it-py mdurl nvidia-ml-py prompt-toolkit pydantic pydantic-core pygments rich sentencepiece shellingham typer
  typing-extensions typing-inspection wcwidth"
# What `import unsloth` needs; it declares xformers, diffusers and hf_transfer, too, and does without
UNSLOTH="unsloth==2026.10.7 unsloth_zoo==2026.10.7 torchao==0.18.0 trl==1.15.0 datasets==4.8.5 fsspec==2026.2.0 dill==0.4.1 multiprocess==0.70.19 cut_cross_entropy==25.1.1
  msgspec==0.22.0 tyro==1.0.17 structlog==26.1.0 nest-asyncio==1.6.0 typeguard==4.6.1 docstring-parser==0.18.0 importlib_metadata==10.2.0 zipp==4.1.2"

pinned() {
  awk -v names="$OURS" -v python="$python" '
    BEGIN { split(names, list); for (i in list) wanted[list[i]] = 1; split(python, p, "."); here = p[1] * 100 + p[2] }
    function holds(marker,   v, q) {
      if (marker !~ /python_full_version/) return marker == ""
      match(marker, /[0-9]+\.[0-9]+/); split(substr(marker, RSTART, RLENGTH), q, "."); v = q[1] * 100 + q[2]
      if (marker ~ /< /) return here < v
      if (marker ~ />= /) return here >= v
      return here == v
    }
    /^[a-z]/ { sub(/ \\$/, ""); split($0, half, " ; "); split(half[1], pin, "=="); if (pin[1] in wanted && holds(half[2])) print half[1] }' requirements.lock
}

get="python3 -m pip download -q --no-deps --only-binary=:all: --python-version $python --implementation cp"
for release in 28 27 24 17; do get+=" --platform manylinux_2_${release}_x86_64"; done
get+=" --platform manylinux2014_x86_64 --platform manylinux1_x86_64"
for one in $(pinned) $UNSLOTH; do
  echo "$one"
  case $one in
  bitsandbytes==* | unsloth==*) $get -d "$work" "$one" ;;
  *) $get -d "$folder" "$one" ;;
  esac
done
for whole in "$work"/*.whl; do
  case ${whole##*/} in
  bitsandbytes*) python3 tests/gpu/slim.py "$whole" "$folder/${whole##*/}" libbitsandbytes_ "+libbitsandbytes_cuda$cuda" +libbitsandbytes_cpu ;;
  unsloth*) python3 tests/gpu/slim.py "$whole" "$folder/${whole##*/}" studio/ ;;
  esac
done
python3 -m pip wheel -q --no-deps -w "$folder" .
echo "$(find "$folder" -name '*.whl' | wc -l) wheels, $(du -sm "$folder" | cut -f1) MiB in $folder"
