"""What a defender can see of benign and of attacked photos: many interpreters' maps, of pictures and of copies of them.

    python benchmarks/defense_maps.py --out maps                     every part that is not there yet
    python benchmarks/defense_maps.py calibrate adv2-cam --out maps --device cuda
    python benchmarks/defense_maps.py --out maps --list              the parts

From these maps the score of the alarm `ensemble` was chosen (docs/defenses.md; benchmarks/defense_scores.py compares
scores on them), so that no score is tuned to the photos that judge it: `calibrate` and `attacked` choose, `judge`
judges. A part is one .npz: `grid` (photos, members, 14, 14) of the picture itself, `copies` (copies, photos, cheap
members, 14, 14), `log_p` (copies, photos), `l1` of the probabilities to those of the picture itself, `reached`
(photos,), `names` of the photos.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as transforms

import measure
import underfire
from underfire.core import Photo
from underfire.executors.process import prepare
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.interpreters import checked
from underfire.registry import door_of

MEMBERS: dict[str, dict[str, Any]] = {
    "cam": {},
    "gradcam": {"layer": "stride16"},
    "rts": {},
    "grad": {},
    "ig": {},
    "inputxgrad": {},
    "smoothgrad": {},
    "occlusion": {},
    "rise": {},
}
CELLS = 14
CHEAP = ("cam", "gradcam", "rts", "grad")
"""Members that are asked about every copy too; the others would cost some 700 F a copy."""
ATTACKS: dict[str, tuple[str, str]] = {
    "pgd": ("pgd", "cam"),
    **{f"adv2-{name}": ("adv2", name) for name in ("cam", "rts", "grad", "gradcam", "ig")},
}
ROLES = {"calibrate": (44, 156), "judge": (44, 156), "attacked": (12, 36)}
"""Role -> photos that RTS was not trained on, and photos that it was: about the same mixture in each."""
PARTS = ("calibrate", "judge", "attacked", *ATTACKS)


def bits(x: torch.Tensor, n: int) -> torch.Tensor:
    rounded: torch.Tensor = (x * (2**n - 1)).round() / (2**n - 1)
    return rounded


def median(x: torch.Tensor, size: int) -> torch.Tensor:
    low = (size - 1) // 2
    around = F.pad(x, (low, size - 1 - low, low, size - 1 - low), mode="reflect").unfold(2, size, 1).unfold(3, size, 1)
    return around.flatten(4).median(-1).values


COPIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda x: x,
    "blur": lambda x: transforms.gaussian_blur(x, [7, 7], [1.0, 1.0]),
    "bits-5": lambda x: bits(x, 5),
    "bits-4": lambda x: bits(x, 4),
    "median-2": lambda x: median(x, 2),
    "median-3": lambda x: median(x, 3),
}


def roles(source: Path) -> dict[str, list[str]]:
    """Draw the photos of each role, by their digests; no photo has two roles."""
    order: list[Photo] = sorted(Folder(str(source)).photos(None), key=lambda photo: photo.sha256)
    held = measure.unseen()
    left = [[p.path for p in order if (p.sha256 in held) is side] for side in (True, False)]
    out = {}
    for role, counts in ROLES.items():
        out[role] = [path for side, n in zip(left, counts, strict=True) for path in side[:n]]
        left = [side[n:] for side, n in zip(left, counts, strict=True)]
    return out


@torch.no_grad()
def seen_of(classifier: Any, members: dict[str, Any], x: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """What the members and the classifier say of some pictures (N, 3, H, W) and of their copies."""
    z = classifier.logits(x)
    y, p = z.argmax(1), z.double().softmax(1)
    found: dict[str, list[Any]] = {"copies": [], "log_p": [], "l1": []}
    for make in COPIES.values():
        copy = make(x)
        log_p = classifier.logits(copy).double().log_softmax(1)
        found["log_p"].append(log_p.gather(1, y[:, None])[:, 0].cpu())
        found["l1"].append((log_p.exp() - p).abs().sum(1).cpu())
        found["copies"].append(grids({name: members[name] for name in CHEAP}, copy, y))
    rest = {name: member for name, member in members.items() if name not in CHEAP}
    own = torch.cat([found["copies"][0], grids(rest, x, y)], 1)
    stacked = {name: torch.stack(parts).numpy().astype(np.float32) for name, parts in found.items()}
    return stacked | {"grid": own.numpy().astype(np.float32)[None]}


def grids(members: dict[str, Any], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Each member's maps as (N, members, 14, 14)."""
    with torch.enable_grad():
        shown = [checked.explain(member, x, y)[0] for member in members.values()]
    return torch.stack([F.adaptive_avg_pool2d(m[:, None], CELLS)[:, 0] for m in shown], 1)


def pictures(
    part: str, classifier: Any, names: list[str], source: Path, batch: int
) -> Iterator[tuple[Any, list[bool]]]:
    """The pictures of a part, with whether each attack has reached its class."""
    for first in range(0, len(names), batch):
        files = [source / name for name in names[first : first + batch]]
        if part in ATTACKS:
            attack, against = ATTACKS[part]
            interpreter = underfire.interpreter(against, classifier, **MEMBERS[against])
            result = underfire.attack(classifier, interpreter, files, attack=attack, at="input")
            yield result.images.float(), [bool(record.success) for record in result.records if not record.error]
        else:
            door = door_of(classifier)
            levels = [door.open(path.read_bytes(), str(path)) for path in files]
            yield pixels.to_tensor(levels), [True] * len(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all that are not there")
    shared = Path(os.environ.get("SHARED", Path(__file__).parent.parent.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, help="fewer photos of each part")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        print(*PARTS)
        return
    source = given.shared / "data/in1k-samples"
    if not source.is_dir():
        sys.exit(f"No photos in '{given.shared}': give --shared.")
    prepare(torch.get_num_threads())
    classifier: Any = underfire.classifier(device=given.device)
    members = {name: underfire.interpreter(name, classifier, **options) for name, options in MEMBERS.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    drawn = roles(source)
    for part in given.parts or PARTS:
        path = given.out / f"{part}.npz"
        if path.exists():
            continue
        names = drawn[part if part in drawn else "attacked"][: given.limit]
        found, reached = [], []
        for x, won in pictures(part, classifier, names, source, given.batch):
            found.append(seen_of(classifier, members, x.to(given.device)))
            reached += won
            print(part, len(reached), flush=True)
        whole = {name: np.concatenate([one[name] for one in found], 1) for name in found[0]}
        whole |= {"reached": np.asarray(reached), "names": np.asarray(names), "members": np.asarray(MEMBERS)}
        np.savez_compressed(path, **whole)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
