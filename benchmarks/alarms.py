"""Every alarm under every attack: those that do not know it, and the one that does (docs/defenses.md).

    python benchmarks/alarms.py calibrate/ensemble --work work             one part
    python benchmarks/alarms.py --alarm squeeze --work work --device cuda  all parts of an alarm
    python benchmarks/alarms.py --list                                     what is there, in numbers
    python benchmarks/alarms.py --list-parts

EfficientNet-Lite0, ε = 8, at the input, seed 0. 200 benign photos calibrate, 200 others judge, 48 more are attacked;
each role has about the same mixture of photos that RTS was and was not trained on. Calibrations, and the
forged pictures that all alarms share, are kept in --work. Results land in results/alarms-PART.csv, one file a part.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import measure
import underfire
from underfire.core import Photo, UnderfireError
from underfire.defenses import calibration
from underfire.defenses.alarm import Alarm
from underfire.defenses.calibrate import calibrate
from underfire.defenses.detector import detector_of
from underfire.defenses.sight import Seen
from underfire.executors.process import prepare
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.metrics import detection, estimate
from underfire.metrics.verdict import Ruler, verdict
from underfire.registry import door_of, register
from underfire.store.yardsticks import of_scale
from underfire.trial.given import load_given
from underfire.trial.system import System
from underfire.trial.yardstick import measure_scale

EXAMPLES = Path(__file__).parent.parent / "tests" / "plugin"
"""Where the detectors of docs/extend.md are; a copy without tests measures the other alarms."""
if EXAMPLES.is_dir():
    sys.path.insert(0, str(EXAMPLES))
    for name, module, part in (("jpeg", "jpeg", "jpeg"), ("lid", "lid", "Lid")):
        register("defenses", name)(getattr(importlib.import_module(f"underfire_example.{module}"), part))

FOUR = ("cam", "grad", "rts", "occlusion")
COARSE = {"occlusion": {"patch": 64, "stride": 32}}
"""38 F a map in place of 226: an answer in half a second."""
GRADCAM = {"gradcam": {"layer": "stride16"}}
ALARMS: dict[str, dict[str, Any]] = {
    "ensemble": {"kind": "ensemble", "members": FOUR},
    **{
        f"ensemble-{odd}": {"kind": "ensemble", "members": FOUR, "options": {"ensemble": {"odd": odd}}}
        for odd in ("more", "less")
    },
    **{
        f"ensemble-without-{name}": {"kind": "ensemble", "members": tuple(m for m in FOUR if m != name)}
        for name in ("cam", "grad", "rts", "occlusion")
    },
    "ensemble-ig": {"kind": "ensemble", "members": ("cam", "grad", "rts", "ig")},
    "ensemble-gradcam": {"kind": "ensemble", "members": ("gradcam", "grad", "rts", "ig"), "options": GRADCAM},
    "ensemble-coarse": {"kind": "ensemble", "members": FOUR, "options": COARSE},
    "squeeze": {"kind": "squeeze", "members": ("cam", "grad", "rts")},
    **{
        f"squeeze-{by}": {"kind": "squeeze", "options": {"squeeze": {"by": by.split("+"), "maps": False}}}
        for by in ("blur", "bits", "median", "blur+bits+median")
    },
    **{
        f"squeeze-l1-{by}": {
            "kind": "squeeze",
            "options": {"squeeze": {"by": by.split("+"), "maps": False, "measure": "l1"}},
        }
        for by in ("blur", "median", "blur+bits+median")
    },
    "squeeze-maps-median": {
        **{"kind": "squeeze", "members": ("cam", "grad", "rts")},
        "options": {"squeeze": {"by": ["median"]}},
    },
    **({name: {"kind": name} for name in ("jpeg", "lid")} if EXAMPLES.is_dir() else {}),
}
KNOWN = tuple(
    name
    for name in (
        *("squeeze-l1-blur+bits+median", "squeeze-blur", "squeeze", "ensemble-without-occlusion", "ensemble-coarse"),
        *("squeeze-l1-blur", "jpeg", "lid", "ensemble"),
    )
    if name in ALARMS
)
"""Alarms that the attacker who knows is measured against."""
BLIND: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pgd": ("pgd", "cam", {}),
    **{f"adv2-{name}": ("adv2", name, {}) for name in ("cam", "grad", "rts", "ig")},
    "adv2-gradcam": ("adv2", "gradcam", GRADCAM["gradcam"]),
}
STEPS = {"8-30": (8, 30), "8-120": (8, 120), "8-400": (8, 400), "8-1600": (8, 1600)}
"""Curve over passes: ε and steps."""
BUDGETS = {f"{eps}-120": (eps, 120) for eps in (2, 4, 16, 64, 255)}
"""Curve over ε; 255 is no bound."""
ROLES = {"calibrate": (44, 156), "judge": (44, 156), "attacked": (12, 36)}
ADAPTIVE, TIMED = 24, 7
COLUMNS = (
    *("part", "image", "unseen", "score", "threshold", "alarm", "success", "confidence", "map_l1", "forged"),
    *("passes", "alarm_passes", "seconds", "error"),
)
PARTS = (
    *(f"forge/{name}" for name in BLIND),
    *(f"calibrate/{name}" for name in ALARMS),
    *(f"judge/{name}" for name in ALARMS),
    *(f"knows/{name}/{case}" for case in (*STEPS, *BUDGETS, "8-120-low") for name in KNOWN),
    "time/answers",
)


def roles(source: Path) -> dict[str, list[Photo]]:
    order = sorted(Folder(str(source)).photos(None), key=lambda photo: photo.sha256)
    held = measure.unseen()
    left = [[p for p in order if (p.sha256 in held) is side] for side in (True, False)]
    out = {}
    for role, counts in ROLES.items():
        out[role] = [p for side, n in zip(left, counts, strict=True) for p in side[:n]]
        left = [side[n:] for side, n in zip(left, counts, strict=True)]
    mixed = np.random.default_rng(0).permutation(len(out["attacked"]))
    return out | {"attacked": [out["attacked"][i] for i in mixed]}


def folder_of(role: str, source: Path, work: Path) -> Path:
    out = work / role
    out.mkdir(parents=True, exist_ok=True)
    for photo in roles(source)[role]:
        if not (out / photo.path).exists():
            (out / photo.path).symlink_to((source / photo.path).resolve())
    return out


def forge(part: str, classifier: Any, given: argparse.Namespace) -> None:
    """Forge the pictures that do not know any alarm; all alarms judge the same ones."""
    name, against, options = BLIND[part]
    interpreter = underfire.interpreter(against, classifier, **options)
    photos = roles(given.source)["attacked"][: given.limit]
    found: dict[str, Any] = {"images": [], "success": [], "confidence": [], "map_l1": [], "forged": [], "passes": []}
    for first in range(0, len(photos), given.batch):
        files = [given.source / p.path for p in photos[first : first + given.batch]]
        result = underfire.attack(classifier, interpreter, files, attack=name, at="input")
        found["images"].append(pixels.to_levels(result.images))
        for record, judged_so in zip(result.records, result.verdicts, strict=True):
            for column in ("success", "confidence", "map_l1", "passes"):
                found[column].append(getattr(record, column))
            found["forged"].append(judged_so.forged)
    kept = {k: np.asarray(v, np.float64) for k, v in found.items() if k != "images"}
    names = [p.path for p in photos]
    np.savez_compressed(given.work / f"forged-{part}.npz", images=np.concatenate(found["images"]), names=names, **kept)  # type: ignore[arg-type]


def alarm_file(name: str, classifier: Any, given: argparse.Namespace) -> Path:
    path: Path = given.work / f"{name}.json"
    if not path.exists():
        settings = {"options": {}, **ALARMS[name]}
        folder = folder_of("calibrate", given.source, given.work)
        known, _ = calibrate(classifier, str(folder), **settings)  # whatever --limit: other photos make another alarm
        known.write(path)
    return path


def judged(part: str, alarm: Alarm, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ask an alarm about new benign photos, one by one as it would be, and about all forged pictures."""
    held, door = measure.unseen(), door_of(alarm.classifier)
    for photo in roles(given.source)["judge"][: given.limit]:
        x = pixels.to_tensor([door.open((given.source / photo.path).read_bytes(), photo.path)]).to(given.device)
        yield {"part": f"benign/{part}", "image": photo.path, "unseen": photo.sha256 in held, **asked(alarm, x)[0]}
    for attack in BLIND:
        if not (given.work / f"forged-{attack}.npz").exists():
            continue
        kept = np.load(given.work / f"forged-{attack}.npz")
        for n, image in enumerate(kept["names"]):
            known = {c: float(kept[c][n]) for c in ("success", "confidence", "map_l1", "forged", "passes")}
            row = {c: None if np.isnan(value) else value for c, value in known.items()}
            x = pixels.to_tensor([kept["images"][n]]).to(given.device)
            yield {"part": f"{attack}/{part}", "image": str(image), **row, **asked(alarm, x)[0]}


def asked(alarm: Alarm, x: torch.Tensor) -> list[dict[str, Any]]:
    start = time.perf_counter()
    with alarm.classifier.meter.counting(len(x)) as spent:
        _, scores, _ = alarm.scores(x)
    seconds = (time.perf_counter() - start) / len(x)
    return [
        {
            **{"score": float(s), "threshold": alarm.threshold, "alarm": bool(s > alarm.threshold)},
            **{"alarm_passes": float(spent.passes[n]), "seconds": seconds},
        }
        for n, s in enumerate(scores)
    ]


def knows(part: str, classifier: Any, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Attack an alarm together with its members, or with CAM where it compares none."""
    name, case = part.split("/")
    file = str(alarm_file(name, classifier, given))
    eps, steps = {**STEPS, **BUDGETS}[case.removesuffix("-low")]
    members = None if calibration.read(file).members else ["cam"]
    lowest = {"aim": -1e3 if name in ("jpeg", "lid") else 0.0} if case.endswith("low") else {}
    victim: Any = underfire.interpreter("ensemble", classifier, defense=file, members=members, attack=lowest)
    photos = roles(given.source)["attacked"][: given.limit or ADAPTIVE]
    files = [given.source / p.path for p in photos]
    batches = [files[i : i + given.batch] for i in range(0, len(files), given.batch)]
    rulers = rulers_of(classifier, victim, batches)
    for some in batches:
        names = {"part": f"knows/{part}"}
        try:
            result = underfire.attack(classifier, victim, some, at="input", eps=eps, steps=steps)
        except UnderfireError as e:  # none of these photos could be attacked; the others can
            yield from ({**names, "image": file.name, "error": str(e)} for file in some)
            continue
        told = iter(asked(victim.alarm, result.images.to(given.device).float()))
        for file, record in zip(some, result.records, strict=True):
            row = {c: getattr(record, c) for c in ("success", "confidence", "map_l1", "passes", "error")}
            answer = {} if record.error else next(told)
            yield {**names, "image": file.name, "forged": verdict(asdict(record), rulers).forged, **row, **answer}


def rulers_of(classifier: Any, victim: Any, batches: Sequence[Sequence[Path]]) -> dict[str, Ruler]:
    """What the members' mean map is judged with, from the clean photos of all batches."""
    system = System(classifier, {victim.name: victim}, str(classifier.device))
    own = of_scale([asdict(row) for row in measure_scale(system, [load_given(some, system) for some in batches])], {})
    return {} if own is None else {victim.name: own}


def timed(classifier: Any, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time one answer of each alarm, about one picture after the other; what it has learnt costs nothing beside it.

    The seconds are of the processor, on one thread: another program's share of the machine does not count.
    """
    torch.set_num_threads(1)
    door = door_of(classifier)
    photos = roles(given.source)["judge"][: given.limit or TIMED]
    levels = [door.open((given.source / p.path).read_bytes(), p.path) for p in photos]
    shown = [pixels.to_tensor([one]).to(given.device) for one in levels]
    for name in KNOWN:
        settings = ALARMS[name]
        known = {"members": None, "options": {}, **settings}
        of_members = {k: v for k, v in known["options"].items() if k != known["kind"]}
        own = known["options"].get(known["kind"], {})
        detector = detector_of(known["kind"], classifier, known["members"], of_members, own)
        for n, (photo, x) in enumerate(zip([photos[0], *photos], [shown[0], *shown], strict=True)):
            start = time.process_time()
            with torch.no_grad(), classifier.meter.counting(1) as spent:
                detector.evidence(Seen(classifier, detector.members, x, classifier.logits(x).argmax(1)))
            row = {"part": f"time/{name}", "image": photo.path, "alarm_passes": float(spent.passes[0])}
            if n:  # the first answer also loads what is needed
                yield {**row, "seconds": time.process_time() - start}


def result_of(part: str, limit: int | None) -> Path:
    """Name a part's file; what is of fewer photos has a file of its own, and the whole part is still to be measured."""
    return measure.RESULTS / f"alarms-{part.replace('/', '-')}{f'-of-{limit}' if limit else ''}.csv"


def keep(part: str, rows: Sequence[dict[str, Any]], limit: int | None) -> None:
    path = result_of(part, limit)
    half = path.with_suffix(".part")
    with half.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "commit"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "commit": measure.COMMIT} for row in rows)
    half.replace(path)
    print(f"{part}: {len(rows)} rows", flush=True)


def do(part: str, classifier: Any, given: argparse.Namespace) -> None:
    stage, _, rest = part.partition("/")
    if stage == "forge" and not (given.work / f"forged-{rest}.npz").exists():
        forge(rest, classifier, given)
    elif stage == "calibrate":
        alarm_file(rest, classifier, given)
    elif stage == "judge" and not result_of(part, given.limit).exists():
        alarm = Alarm(classifier, str(alarm_file(rest, classifier, given)))
        keep(part, list(judged(rest, alarm, given)), given.limit)
    elif stage == "knows" and not result_of(part, given.limit).exists():
        keep(part, list(knows(rest, classifier, given)), given.limit)
    elif stage == "time" and not result_of(part, given.limit).exists():
        keep(part, list(timed(classifier, given)), given.limit)


def stored() -> list[dict[str, Any]]:
    rows = []
    for path in sorted(measure.RESULTS.glob("alarms-*.csv")):
        with path.open(newline="") as file:
            rows += [
                {k: v if k == "part" else measure.parsed(k, v) for k, v in row.items()} for row in csv.DictReader(file)
            ]
    return rows


def show() -> None:
    rows = stored()
    of = {
        part: [r for r in rows if r["part"] == part and not r["error"]]
        for part in dict.fromkeys(r["part"] for r in rows)
    }
    for part, mine in of.items():
        kind, _, rest = part.partition("/")
        if kind == "time":
            middle = float(np.median([row["seconds"] for row in mine]))
            print(f"{part:34} n {len(mine)}: {mine[0]['alarm_passes']:.1f} passes, {middle:.3f} s of one core")
            continue
        raised = estimate.rate([row["alarm"] for row in mine])
        if kind == "benign":
            passes, seconds = (estimate.mean([row[c] for row in mine]).value for c in ("alarm_passes", "seconds"))
            new = estimate.rate([row["alarm"] for row in mine if row["unseen"]])
            print(
                f"{part:34} n {raised.n}: alarms on {raised.value:.1%} ({raised.low:.1%} to {raised.high:.1%}), new "
                f"to RTS {new.value:.1%} of {new.n}, passes {passes:.1f}, {seconds:.2f} s"
            )
            continue
        benign = of.get(f"benign/{rest.split('/')[0]}", of.get(f"benign/{rest}", []))
        thresholds = [row["threshold"] for row in (*benign, *mine)]
        if max(thresholds) > 1.01 * min(thresholds):  # machines differ in the last digits
            print(f"{part:34} another alarm than the one that judges benign photos: its scores do not compare")
            continue
        area = detection.auc([row["score"] for row in benign], [row["score"] for row in mine])
        won, past = (estimate.rate(v) for v in ([bool(r["success"]) for r in mine], [quietly(r) for r in mine]))
        told = [r for r in mine if r["forged"] is not None]  # too few photos make no yardstick of the members' mean map
        hidden = f"{estimate.rate([quietly(r) and bool(r['forged']) for r in told]).value:.0%}" if told else "not told"
        passes, l1 = (estimate.mean([row[c] for row in mine]).value for c in ("passes", "map_l1"))
        shown = "AUC –" if area.value is None else f"AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
        print(
            f"{part:34} n {raised.n}: {shown}, alarms on {raised.value:.0%}, success {won.value:.0%}, without an alarm "
            f"{past.value:.0%} ({past.low:.0%} to {past.high:.0%}), forged without one {hidden}, L1 "
            f"{l1:.4f}, passes {passes:.0f}"
        )


def quietly(row: dict[str, Any]) -> bool:
    return bool(row["success"]) and not row["alarm"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all without a result")
    shared = Path(os.environ.get("SHARED", Path(__file__).parent.parent.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--work", type=Path, default=Path("underfire-out/benchmark-alarms"))
    parser.add_argument("--alarm", choices=list(ALARMS), help="only the parts of this alarm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--limit", type=int, help="fewer photos")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--list-parts", action="store_true")
    given = parser.parse_args()
    if given.list or given.list_parts:
        show() if given.list else print(*PARTS, sep="\n")
        return
    given.source = given.shared / "data/in1k-samples"
    if not given.source.is_dir():
        sys.exit(f"No photos in '{given.shared}': give --shared.")
    prepare(torch.get_num_threads())
    given.work.mkdir(parents=True, exist_ok=True)
    classifier: Any = underfire.classifier(device=given.device)
    for part in given.parts or [p for p in PARTS if not given.alarm or p.split("/")[1] == given.alarm]:
        do(part, classifier, given)


if __name__ == "__main__":
    main()
