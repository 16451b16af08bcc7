"""The shared ViT (DINOv2, fine-tuned) by every name it can have, and under attack.

    python benchmarks/vit.py accuracy     top-1 on the 500 photos of tiny20/val
    python benchmarks/vit.py names        as ONNX, TorchScript and a transformers folder: how far the logits differ
    python benchmarks/vit.py attack       ADV² and PGD against GRAD on photos of in1k-samples, by each of its names

Rows go to benchmarks/results/vit.csv; what is there is not measured again. Photos and weights come from ../shared.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import underfire
from underfire.core.types import evenly
from underfire.images import pixels
from underfire.images.photos import Folder

HERE = Path(__file__).parent
ROWS = HERE / "results" / "vit.csv"
COLUMNS = ("what", "name", "photo", "attack", "value", "success", "confidence", "map_l1", "passes")
ARCHITECTURE = "timm:vit_small_patch14_dinov2"
POLICY: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "resize": 256}


def file_of(shared: Path) -> Path:
    return shared / "models" / "vit_small_dinov2_tiny20.safetensors"


def by_name(shared: Path, device: str = "cpu") -> Any:
    return underfire.classifier(ARCHITECTURE, weights=str(file_of(shared)), device=device)


def photos(folder: Path, n: int | None, policy: Any) -> Iterator[tuple[str, Tensor]]:
    there = Folder(str(folder))
    for path in evenly(there.paths, n):
        yield path, pixels.to_tensor([pixels.load(there.bytes(path), path, policy)])


@torch.no_grad()
def accuracy(shared: Path, device: str) -> Iterator[dict[str, Any]]:
    classifier = by_name(shared, device)
    right = n = 0
    for path, x in photos(shared / "data" / "tiny20" / "val", None, classifier.preprocess):
        found = classifier.classes.ids[int(classifier.logits(x.to(device)).argmax())]
        right, n = right + (found in path), n + 1
    yield {"what": "top-1", "name": ARCHITECTURE, "value": right / n, "photo": f"{n} photos"}


def transformers_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names of Dinov2 in transformers 5: q, k and v apart."""
    out = {
        "dinov2.embeddings.cls_token": state["cls_token"],
        "dinov2.embeddings.position_embeddings": state["pos_embed"],
        "dinov2.embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "dinov2.embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "dinov2.layernorm.weight": state["norm.weight"],
        "dinov2.layernorm.bias": state["norm.bias"],
    }
    out["dinov2.embeddings.mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    # transformers' head reads the class token and the mean of the patches; the second half is not used here.
    head = state["head.weight"]
    out["classifier.weight"] = torch.cat([head, torch.zeros_like(head)], 1)
    out["classifier.bias"] = state["head.bias"]
    for i in range(12):
        ours, theirs = f"blocks.{i}", f"dinov2.encoder.layer.{i}"
        for kind in ("weight", "bias"):
            q, k, v = state[f"{ours}.attn.qkv.{kind}"].chunk(3)
            for word, part in (("q", q), ("k", k), ("v", v)):
                out[f"{theirs}.attention.{word}_proj.{kind}"] = part.contiguous()
            out[f"{theirs}.attention.o_proj.{kind}"] = state[f"{ours}.attn.proj.{kind}"]
            for n in (1, 2):
                out[f"{theirs}.norm{n}.{kind}"] = state[f"{ours}.norm{n}.{kind}"]
                out[f"{theirs}.mlp.fc{n}.{kind}"] = state[f"{ours}.mlp.fc{n}.{kind}"]
        for n in (1, 2):
            out[f"{theirs}.layer_scale{n}.lambda1"] = state[f"{ours}.ls{n}.gamma"]
    return out


def as_folder(shared: Path, folder: Path) -> str:
    """Save the network as transformers' Dinov2ForImageClassification, with its processor."""
    import transformers  # noqa: PLC0415 (an extra)

    state = {k: v.float() for k, v in load_file(file_of(shared)).items()}
    config = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=224, patch_size=14, num_labels=20
    )
    net = transformers.Dinov2ForImageClassification(config)
    net.load_state_dict(transformers_state(state))
    net.save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=list(POLICY["mean"]),
        image_std=list(POLICY["std"]),
    ).save_pretrained(folder)
    return f"hf:{folder}"


def as_onnx(classifier: Any, folder: Path) -> Any:
    path = folder / "vit.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            classifier.module,
            (torch.rand(2, 3, 224, 224),),
            str(path),
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
    classifier.module.eval()
    return underfire.classifier(f"onnx:{path}", **POLICY)


def as_script(classifier: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(classifier.module, torch.rand(2, 3, 224, 224))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(folder / "vit.pt"))
    return underfire.classifier(f"script:{folder / 'vit.pt'}", input_size=224, **POLICY)


@torch.no_grad()
def names(shared: Path, device: str) -> Iterator[dict[str, Any]]:
    classifier = by_name(shared)
    x = torch.cat([x for _, x in photos(shared / "data" / "in1k-samples", 12, classifier.preprocess)])
    want = classifier.logits(x)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        others: dict[str, Callable[[], Any]] = {
            "onnx": lambda: as_onnx(classifier, folder),
            "script": lambda: as_script(classifier, folder),
            "hf": lambda: underfire.classifier(as_folder(shared, folder)),
        }
        done = {row["name"] for row in stored()}
        for kind, make in others.items():
            if kind in done:
                continue
            apart = float((make().logits(x) - want).abs().max())
            yield {"what": "largest difference of logits", "name": kind, "photo": f"{len(x)} photos", "value": apart}


def attack(shared: Path, device: str) -> Iterator[dict[str, Any]]:
    classifier = by_name(shared, device)
    done = {(row["name"], row["photo"], row["attack"]) for row in stored()}
    with tempfile.TemporaryDirectory() as folder:
        given = list(photos(shared / "data" / "in1k-samples", 12, classifier.preprocess))
        others: dict[str, Callable[[], Any]] = {
            "onnx": lambda: as_onnx(by_name(shared), Path(folder)),
            "script": lambda: as_script(by_name(shared), Path(folder)),
            "hf": lambda: underfire.classifier(as_folder(shared, Path(folder) / "hf")),
        }
        for name, kind in ((ARCHITECTURE, "pgd"), *((other, "pgd") for other in others), (ARCHITECTURE, "adv2")):
            left = [(path, x) for path, x in given if (name, path, kind) not in done]
            if not left:
                continue
            one = others[name]().to(device) if name in others else classifier
            result = underfire.attack(one, "grad", torch.cat([x for _, x in left]).to(device), attack=kind)
            for (path, _), record in zip(left, result.records, strict=True):
                yield {
                    **{"what": "attack on grad", "name": name, "photo": path, "attack": kind},
                    **{"success": record.success, "confidence": record.confidence, "map_l1": record.map_l1},
                    "passes": record.passes,
                }


def stored() -> list[dict[str, str]]:
    if not ROWS.is_file():
        return []
    with ROWS.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["accuracy", "names", "attack"])
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args()
    measured = {
        "accuracy": ("top-1", accuracy),
        "names": ("largest difference of logits", names),
        "attack": ("", attack),
    }
    for word in given.what:
        what, run = measured[word]
        if word == "accuracy" and any(row["what"] == what for row in stored()):
            continue
        for row in run(given.shared, given.device):
            fresh = not ROWS.is_file()
            with ROWS.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
