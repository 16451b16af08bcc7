#!/bin/bash
# On one large GPU, in under eight minutes: whether it agrees with the CPU, and what it does in a second.
#
#     bash benchmarks/gpu.sh [FOLDER OF THE PEERS]          # see peers.py; torchattacks is enough
#
# Writes $OUT/gpu.csv (agreement; ADV² on each interpreter beside the card's bare rate) and $OUT/peers.csv (PGD against the
# libraries). $OUT is benchmarks/results by default. $IMAGES: a full batch.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="${PYTHONPATH:-src}"
PY="${PY:-python}" OUT="${OUT:-benchmarks/results}" IMAGES="${IMAGES:-64}" DEVICE="${DEVICE:-cuda}"
peers=${1:+--peers "$1"}
mkdir -p "$OUT"
part() { timeout "$1" "$PY" "${@:2}" || echo "stopped: ${*:2}"; }
part 100 benchmarks/gpu.py agree --device "$DEVICE" --result "$OUT/gpu.csv"
for network in efficientnet-lite0 timm:resnet50 timm:vit_base_patch16_224; do
  part 100 benchmarks/gpu.py rates --networks "$network" --device "$DEVICE" --images "$IMAGES" --result "$OUT/gpu.csv"
done
for network in resnet50 vit_base_patch16_224 tf_efficientnet_lite0; do
  # shellcheck disable=SC2086
  part 60 benchmarks/peers.py --network "$network" --device "$DEVICE" --batch "$IMAGES" --steps 10 $peers --result "$OUT/peers.csv"
done
