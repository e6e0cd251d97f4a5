#!/usr/bin/env bash
# Tests, benchmark and trainings on one GPU within a time limit, in stages that each end with files:
# tools/gpu_session.sh OUT
#
#   tests       tests/test_cuda.py                                  OUT/tests.txt
#   benchmark   tools/benchmark.py on the GPU                       OUT/benchmark/benchmark.md, OUT/benchmark.txt
#   data        CrowdBench's training split, if there is none       data/crowdbench
#   trainings   AE further, the paper's decoder, ours, side by side OUT/NAME.pth (float16), OUT/NAME.log
#
# SECONDS_IN_ALL (default 540) is the time of all stages; trainings that are not finished then are stopped, and save a
# checkpoint of the iteration they are at. STAGES names some of the stages. TINY=1 tries every stage within minutes on
# a CPU. The environment is that of the README; PYTHON names its interpreter (default: python3).
set -uo pipefail
: "${1:?usage: tools/gpu_session.sh OUT}"
OUT=$(realpath -m "$1")
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
STAGES=${STAGES:-tests benchmark data trainings}
TOTAL=${SECONDS_IN_ALL:-540}
TINY=${TINY:-}
DATA=data/crowdbench${TINY:+_tiny}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
mkdir -p "$OUT"

left() { echo $((TOTAL - SECONDS)); }
say() { echo "[$SECONDS s] $*"; }
wanted() { [[ " $STAGES " == *" $1 "* ]]; }
limited() { # limited SECONDS COMMAND...: stopped by SIGINT, on which a training saves a checkpoint
    timeout --signal=INT --kill-after=30 "$@"
}

tests() {
    limited 100 "$PYTHON" -m pytest -q -p no:cacheprovider tests/test_cuda.py > "$OUT/tests.txt" 2>&1
    say "tests: $(tail -n 1 "$OUT/tests.txt")"
}

benchmark() {
    local cases=(caching batch people memory chunks)
    limited 150 "$PYTHON" tools/benchmark.py --turns 2 --out "$OUT/benchmark" --only "${cases[@]}" \
        ${TINY:+--size crowd --only caching} > "$OUT/benchmark.txt" 2>&1
    say "benchmark: $(ls "$OUT/benchmark/cases" | wc -l) cases"
}

data() {
    if [[ -f $DATA/annotations/train.json ]]; then
        say "data: $DATA is there"
        return
    fi
    local counts=(--crowdbench --out "$DATA" --val 0 --plain 0 --occluded 0 --crowded 0)
    "$PYTHON" tools/make_crowd.py "${counts[@]}" ${TINY:+--train 64} --processes "$("$PYTHON" -c "import os; print(max(1, os.cpu_count() - 2))")" \
        > "$OUT/data.txt" 2>&1
    say "data: $(tail -n 1 "$OUT/data.txt")"
}

train() { # train NAME CONFIG OPTIONS...
    local name=$1 config=$2
    shift 2
    local common=(train_dataloader.num_workers=1 train_dataloader.persistent_workers=True
        "train_dataloader.dataset.data_root=$DATA/" "$@")
    [[ $TINY ]] && common+=(train_cfg.max_epochs=1 train_dataloader.batch_size=2)
    limited "$(($(left) - 40))" "$PYTHON" tools/train.py "configs/$config.py" --work-dir "$OUT/runs/$name" --no-validate \
        --cfg-options "${common[@]}" > "$OUT/$name.log" 2>&1
    if [[ -f "$OUT/runs/$name/last_checkpoint" ]]; then
        "$PYTHON" tools/publish.py "$(cat "$OUT/runs/$name/last_checkpoint")" "$OUT/$name.pth" >> "$OUT/$name.log" 2>&1
    fi
    say "$name: $(grep -ao 'Epoch(train) *\[[0-9]*\]\[ *[0-9/]*\]' "$OUT/$name.log" | tail -n 1)"
}

trainings() {
    if (($(left) < 100)); then
        say "trainings: no time left"
        return
    fi
    # 16 images: the time of an iteration is that of starting kernels, whatever the batch.
    local few=(train_dataloader.batch_size=16 train_cfg.max_epochs=5 param_scheduler.1.end=5 custom_hooks.5.every=200
        optim_wrapper.type=OptimWrapper)
    local seeds=(0 1)
    [[ $TINY ]] && seeds=(0)
    train ae ae_hg_crowdbench train_dataloader.batch_size=16 load_from=model_zoo/ae_hg_crowdbench.pth \
        optim_wrapper.optimizer.lr=5e-4 train_cfg.max_epochs=3 param_scheduler.1.end=3 &
    for seed in "${seeds[@]}"; do
        train "paper_$seed" rnnpose_hg_crowdbench "${few[@]}" randomness.seed=$seed &
        train "context_$seed" rnnpose_context_crowdbench "${few[@]}" randomness.seed=$seed &
        train "claimed_$seed" rnnpose_context_crowdbench "${few[@]}" model.head.claimed_maps=True randomness.seed=$seed &
        train "others_$seed" rnnpose_others_crowdbench "${few[@]}" randomness.seed=$seed &
    done
    wait
}

for stage in tests benchmark data trainings; do
    if wanted "$stage"; then "$stage"; else say "$stage: left out"; fi
done
say "end; files in $OUT"
