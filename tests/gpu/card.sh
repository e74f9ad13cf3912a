#!/usr/bin/env bash
# What a short time on a card is used for, in the order of what it is worth: OUT=FOLDER bash tests/gpu/card.sh
# Each step leaves NAME.log, NAME.rc and what it found in OUT; a call goes on with what is left. README.md beside this says more.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${OUT:?name the folder for what is found: OUT=card-results}"
DONE=${DONE:-$OUT} BUDGET=${BUDGET:-530} MOST=${MOST:-600} ONLY=${ONLY:-} AGAIN=${AGAIN:-} WHEELS=${WHEELS:-.whl}
export WORK=${WORK:-$HOME/.cache/doitune-card} TOKENS=2048 DOITUNE="python3 -m doitune"
mkdir -p "$OUT" "$WORK" || exit 1
export OUT HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 UNSLOTH_DISABLE_STATISTICS=1 XDG_CACHE_HOME=$WORK/cache
began=$SECONDS later=()

if compgen -G "$WHEELS/*.whl" >/dev/null; then
  [ -e "$WORK/site/.whole" ] || { python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" "$WHEELS"/*.whl && touch "$WORK/site/.whole"; } || exit 1
  export PYTHONPATH=$WORK/site${PYTHONPATH:+:$PYTHONPATH}
fi
CARD=$(nvidia-smi -i 0 --query-gpu=name --format=csv,noheader 2>/dev/null) || CARD=""
MIB=$(nvidia-smi -i 0 --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null) || MIB=0
GIB=$((MIB / 1024))
python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "no card: torch finds none. Every step runs in the demo's size; its figures say nothing about a card"
  GIB=null TOKENS=64
}
export CARD GIB

wanted() { [ -z "$ONLY" ] || [[ " $ONLY " == *" $1 "* ]]; }
is_done() {
  local folder rc
  for folder in "$DONE" "$OUT"; do
    [ -e "$folder/$1.rc" ] || continue
    read -r rc <"$folder/$1.rc"
    [ "$rc" = 0 ] || [ -z "$AGAIN" ] && return 0
  done
  return 1
}

TAKEN=(nvidia-smi -i 0 --query-gpu=memory.used --format=csv,noheader,nounits) # MiB of the card, as the driver sees it

# step NAME LIMIT COMMANDS: a process group of its own that ends at LIMIT seconds; begun only where that is left
step() {
  local name=$1 limit=$(($2 < MOST ? $2 : MOST)) sampler rc
  wanted "$name" || return 0
  if is_done "$name"; then echo "### $name: done before"; return 0; fi
  if [ $((BUDGET - SECONDS + began)) -lt "$limit" ]; then later+=("$name"); return 0; fi
  echo "### $name at $((SECONDS - began)) s, at most $limit s"
  "${TAKEN[@]}" >"$OUT/$name.driver_mib" 2>/dev/null # before it begins, however short it is
  "${TAKEN[@]}" -lms 250 >>"$OUT/$name.driver_mib" 2>/dev/null & sampler=$!
  timeout -k 5 "$limit" bash -c "$3" >"$OUT/$name.log" 2>&1
  rc=$?
  kill "$sampler" 2>/dev/null
  wait "$sampler" 2>/dev/null
  tail -n 3 "$OUT/$name.log"
  echo "$rc" >"$OUT/$name.rc" # last: a step that was cut short has none and is done again
  echo "### $name: exit $rc at $((SECONDS - began)) s"
}

# part NAME WORDS: one part of `doitune selftest gpu`, its answer in NAME.json; a sentence of error counts as a failure
part() {
  python3 -m doitune.selftest.gpu_part "$2" "$OUT/$1.json" && cat "$OUT/$1.json" && ! grep -q '"error"' "$OUT/$1.json"
}
# measured NAME SIZE BACKEND: peak, pace and share of the roof on random 4-bit weights
measured() {
  local size=$2
  [ "$GIB" = null ] && size=demo
  rm -rf "$WORK/base-$1"
  part "$1" "{\"part\":\"measure\",\"size\":\"$size\",\"backend\":\"$3\",\"tokens\":$TOKENS,\"gib\":$GIB,\"name\":\"$CARD\",\"folder\":\"$WORK/base-$1\"}"
  local rc=$?
  rm -rf "$WORK/base-$1"
  return $rc
}
# pressed NAME SIZE BACKEND GIB: limited to a card of GIB, steps of ever more rows until memory runs out, then a small one again
pressed() {
  local size=$2 most=$4
  [ "$GIB" = null ] && size=demo most=null
  rm -rf "$WORK/base-$1"
  part "$1" "{\"part\":\"pressure\",\"size\":\"$size\",\"backend\":\"$3\",\"tokens\":$TOKENS,\"gib\":$most,\"folder\":\"$WORK/base-$1\"}"
  local rc=$?
  rm -rf "$WORK/base-$1"
  return $rc
}
# profiled NAME SIZE BACKEND: what a step's time goes to, in eight layers of SIZE: kernels by time, launches, waits
profiled() {
  local size=$2
  [ "$GIB" = null ] && size=demo
  rm -rf "$WORK/base-$1"
  part "$1" "{\"part\":\"profile\",\"size\":\"$size\",\"layers\":8,\"backend\":\"$3\",\"tokens\":$TOKENS,\"gib\":null,\"folder\":\"$WORK/base-$1\"}" >/dev/null
  local rc=$?
  rm -rf "$WORK/base-$1"
  return $rc
}
learnt() { part "$1" "{\"part\":\"learn\",\"backend\":\"$2\",\"base\":\"demo\",\"adapter\":\"$OUT/adapter\",\"steps\":20}"; }
# killed NAME ARGUMENTS...: a training that is killed after its first checkpoint and resumed
killed() {
  local runs=$WORK/runs-$1 training
  shift
  rm -rf "$runs"
  $DOITUNE train demo --set train.max_steps=60 "$@" --runs "$runs" & training=$!
  until compgen -G "$runs/demo/*/checkpoints/step-*" >/dev/null; do
    kill -0 "$training" 2>/dev/null || { echo "it ended before it could be killed"; return 1; }
    sleep 0.1
  done
  kill -9 "$training" && wait "$training"
  echo "killed after $(compgen -G "$runs/demo/*/checkpoints/step-*")"
  $DOITUNE resume last --runs "$runs" --json && cp "$runs"/demo/*/metrics.jsonl "$OUT/${runs##*/runs-}.metrics.jsonl"
}
export -f part measured pressed profiled learnt killed

step machine 60 'nvidia-smi; python3 -m pip list 2>/dev/null | grep -iE "^(torch|triton|transformers|peft|accelerate|numpy|typer|datasets|trl|bitsandbytes|unsloth|unsloth_zoo) "; $DOITUNE doctor --json >"$OUT/doctor.json"'
step 33b-unsloth 100 'measured 33b-unsloth 33b unsloth'
step 33b-hf 100 'measured 33b-hf 33b hf'
for backend in unsloth hf; do step "profile-$backend" 60 "profiled profile-$backend 33b $backend"; done
step learn-hf 60 'learnt learn-hf hf'
step learn-unsloth 90 'learnt learn-unsloth unsloth'
step kernels 120 'part kernels "{\"part\":\"kernels\"}"'
for size in 7b 13b; do for backend in unsloth hf; do step "$size-$backend" 60 "measured $size-$backend $size $backend"; done; done
step train-demo 100 'killed train-demo'
if [ -d "${SMOLLM2:-}" ]; then step train-smollm2 120 'killed train-smollm2 --model "$SMOLLM2"'; else echo "### train-smollm2: SMOLLM2 names no folder"; fi
step evaluate 90 'time $DOITUNE eval demo --suite doit-test --limit 60 --json >"$OUT/evaluate.json"'
step pressure-24 100 'pressed pressure-24 33b unsloth 24'
step pressure-12 60 'pressed pressure-12 7b hf 12'
step limited-train 60 '$DOITUNE train demo --card 12gb --set train.max_steps=3 --set train.validation_rows_per_ability=0 --runs "$WORK/runs-limited"'
step tests 300 'python3 -m pytest tests/gpu -q -p no:cacheprovider --deselect tests/gpu/test_selftest.py --durations=5'

python3 tests/gpu/card_summary.py "$DONE" "$OUT" | tee "$OUT/summary.txt"
if [ ${#later[@]} -gt 0 ]; then echo "### left for another call: ${later[*]}"; fi
