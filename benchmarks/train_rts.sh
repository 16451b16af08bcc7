#!/bin/sh
# The committed files are from before photos were split in three (docs/rts.md): the same commands now make networks of fewer photos.
# The RTS networks of the benchmarks: EfficientNet-Lite0's (the packaged one) on the shared ImageNet photos, and the two
# 128 px networks' on photos of tiny20. A command that was stopped goes on when it is given again.
#
#     sh benchmarks/train_rts.sh [PATH TO shared/]
set -e
cd "$(dirname "$0")/.."
shared=${1:-../shared}
underfire=.venv/bin/underfire
mkdir -p benchmarks/weights
for name in resnet50 densenet169; do
    $underfire train rts --classifier $name --weights "$shared/models/${name}_tiny20.safetensors" \
        --images "$shared/data/tiny20/train" --limit 1000 --epochs 4 --patience 1 --threads 1 --precision bf16 \
        --out benchmarks/weights/rts-$name-tiny20.safetensors
done
$underfire train rts --images "$shared/data/in1k-samples" --epochs 11 --threads 1 \
    --out benchmarks/weights/rts-efficientnet-lite0.safetensors
# RTSᴬ: the same decoders, with a doubt trained on forged images (docs/defenses.md); Lite0's is the packaged one.
$underfire train rts --adversarial doubt --images "$shared/data/in1k-samples" --threads 1 \
    --out benchmarks/weights/rts-a-efficientnet-lite0.safetensors
$underfire train rts --adversarial doubt --from benchmarks/weights/rts-resnet50-tiny20.safetensors --classifier resnet50 \
    --weights "$shared/models/resnet50_tiny20.safetensors" --images "$shared/data/tiny20/train" --limit 1000 --epochs 8 \
    --threads 1 --out benchmarks/weights/rts-a-resnet50-tiny20.safetensors
