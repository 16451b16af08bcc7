#!/bin/sh
# The yardsticks of the two 128 px networks of the benchmarks, from 120 photos each (MASK from 40), for `python benchmarks/study.py`,
# and those of EfficientNet-Lite0 that are not packaged, from 41, for `python benchmarks/explanations_study.py`.
# On a GPU they take two minutes side by side. A file that is there is not made again.
#
#     sh benchmarks/yardsticks.sh [PATH TO shared/] [DEVICE] [FOLDER] [underfire]
cd "$(dirname "$0")/.." || exit 1
shared=${1:-../shared} device=${2:-cpu} out=${3:-benchmarks/yardsticks} underfire=${4:-.venv/bin/underfire}
mkdir -p "$out"
one() {  # classifier, interpreter, photos, share of false rejects, further flags
    file="$out/$1.$2.json" classifier=$1 interpreter=$2 photos=$3 rejects=$4
    shift 4
    [ -f "$file" ] || $underfire yardstick --classifier "$classifier" \
        --weights "$shared/models/${classifier}_tiny20.safetensors" --images "$shared/data/tiny20/val" \
        --limit "$photos" --interpreter "$interpreter" --false-rejects "$rejects" --threads 1 --device "$device" \
        --out "$file" "$@" > "$file.txt" 2>&1 &
}
for name in resnet50 densenet169; do
    one $name mask 40 0.1
    one $name grad 120 0.1
    one $name cam 120 0.05
    one $name rts 120 0.05 --set "rts.weights=benchmarks/weights/rts-$name-tiny20.safetensors"
done
one resnet50 rts-a 120 0.05 --set "rts-a.weights=benchmarks/weights/rts-a-resnet50-tiny20.safetensors"
lite0() {  # interpreter, further flags
    file="$out/efficientnet-lite0.$1.json" interpreter=$1
    shift
    [ -f "$file" ] || $underfire yardstick --images "$shared/data/in1k-samples" --limit 41 --interpreter "$interpreter" \
        --threads 1 --device "$device" --out "$file" "$@" > "$file.txt" 2>&1 &
}
for name in gradcam hirescam layercam; do lite0 $name --set $name.layer=stride16; done
for name in inputxgrad ig smoothgrad; do lite0 $name --false-rejects 0.1; done
wait
