"""Squeezing with maps, and RTSᴬ, each under attackers who know it: what `alarms.py` and `aid.py` do not measure.

    python benchmarks/defense.py                 every part that has no result yet, the cheapest first
    python benchmarks/defense.py benign adaptive-8 ...
    python benchmarks/defense.py --list          what is there, in numbers

The alarm's member RTS was trained on 566 of the 666 photos and disagrees less about those, so roles go by its card: 50
photos new to it and 150 others calibrate, as many of each are the benign ones that the alarm is judged by, and of these
48 new ones are attacked. RTSᴬ is attacked on photos of classes that it was not trained on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import measure
from underfire import api
from underfire.audit.run import run
from underfire.defenses.alarm import Alarm
from underfire.defenses.calibrate import calibrate
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.images.photos import Folder
from underfire.interpreters.rts.card import PACKAGED, read_card
from underfire.metrics import detection, estimate
from underfire.plan.settings import Settings
from underfire.train.quality import saliency_metric

RESULTS = Path(__file__).parent / "results"
WORK = Path(tempfile.gettempdir()) / "underfire-benchmark-defense"
COLUMNS = (
    *measure.COLUMNS,
    "clean_alarm_score",
    "clean_alarm",
    "alarm_score",
    "alarm",
    "alarm_threshold",
    "alarm_passes",
    "plain_l1",
    "saliency_metric",
    "plain_saliency_metric",
    "unseen",
)
MEMBERS = ("cam", "grad", "rts")
WITH_MASK = (*MEMBERS, "mask")
"""An ensemble with MASK, at 1,800 passes more an answer: a quarter of the photos."""
FORGED, ADAPTIVE = 48, 24
RTS_A = PACKAGED / "rts-a-efficientnet-lite0.safetensors"
"""The packaged one, made as train_rts.sh says."""
BUDGETS = (100, 300, 1000, 3000, 5000)
RESTARTS = (0, 1, 2)

FORGE: dict[str, dict[str, Any]] = {
    "forged-pgd": {"attack": "pgd", "interpreter": "cam", "limit": FORGED},
    "forged-cam": {"attack": "adv2", "interpreter": "cam", "limit": FORGED},
    "forged-rts": {"attack": "adv2", "interpreter": "rts", "limit": FORGED},
    **{
        f"adaptive-{eps}": {
            "attack": "adv2",
            "interpreter": "ensemble",
            "adaptive": True,
            "eps": eps,
            "limit": ADAPTIVE,
        }
        for eps in (8, 2, 4, 16)
    },
    **{
        f"adaptive-8-{name}": {
            **{"attack": "adv2", "interpreter": "ensemble", "adaptive": True, "limit": ADAPTIVE},
            **more,
        }
        for name, more in (("thorough", {"preset": "thorough"}), ("low", {"attacker": {"aim": 0.0}}))
    },
    "forged-grad": {"attack": "adv2", "interpreter": "grad", "limit": FORGED},
    "mask-forged-cam": {"attack": "adv2", "interpreter": "cam", "limit": FORGED // 4},
    "mask-forged-mask": {"attack": "adv2", "interpreter": "mask", "limit": FORGED // 4},
}
PARTS = (
    "benign",
    "mask-benign",
    "rts-a-benign",
    "rts-a-saliency",
    *FORGE,
    *(f"rts-a-curve-{budget}" for budget in BUDGETS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all without a result")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parent.parent.parent / "shared")
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--limit", type=int, help="fewer photos of each attacked part")
    given = parser.parse_args()
    if given.list:
        show()
        return
    source = given.shared / "data/in1k-samples"
    if not source.is_dir():
        sys.exit(f"No photos in '{given.shared}': give --shared.")
    for part in given.parts or PARTS:
        if given.parts or not result(part).exists():
            write(part, list(rows_of(part, source, given.limit)))
            print(f"{part}: written", flush=True)


def result(part: str) -> Path:
    return RESULTS / f"defense-{part}.csv"


def rows_of(part: str, source: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    if part in ("benign", "mask-benign"):
        yield from benign(part, source)
    elif part.startswith("rts-a"):
        yield from rts_a(part, source, limit)
    else:
        case, file = dict(FORGE[part]), str(alarm_file(source, part))
        attacker, n = case.pop("attacker", {}), min(case["limit"], limit or case["limit"])
        settings = {"images": str(photos(source, "attacked")), "defense": file, "threads": 1, **case, "limit": n}
        if case["interpreter"] == "ensemble":
            settings["options"] = {"ensemble": {"defense": file, "attack": attacker}}
        yield from run(Settings.parse(settings), WORK / f"{part}-{n}").results.rows()


def photos(source: Path, which: str) -> Path:
    """A folder with links to the photos of one role."""
    order = sorted(Folder(str(source)).photos(None), key=lambda photo: photo.sha256)
    held = measure.unseen()
    unseen, seen = ([p for p in order if (p.sha256 in held) is side] for side in (True, False))
    roles = {"calibrate": [*unseen[::2], *seen[:150]], "benign": [*unseen[1::2], *seen[150:300]]}
    roles |= {"mask-calibrate": [*unseen[:26:2], *seen[:148:4]], "mask-benign": [*unseen[1:25:2], *seen[150:186]]}
    roles["attacked"] = unseen[1::2]
    out = WORK / which
    out.mkdir(parents=True, exist_ok=True)
    for photo in roles[which]:
        link = out / photo.path
        if not link.exists():
            link.symlink_to(source / photo.path)
    return out


def alarm_file(source: Path, part: str) -> Path:
    kind = "mask-" if part.startswith("mask-") else ""
    path = WORK / f"{kind}alarm.json"
    if not path.exists():
        members = WITH_MASK if kind else MEMBERS
        known, _ = calibrate(api.classifier(), str(photos(source, f"{kind}calibrate")), members, kind="squeeze")
        known.write(path)
        (RESULTS / f"defense-{kind}calibration.json").write_text(
            json.dumps({"threshold": known.threshold, "mean": known.learnt["mean"]}, indent=1) + "\n"
        )
    return path


def benign(part: str, source: Path) -> Iterator[dict[str, Any]]:
    alarm = Alarm(api.classifier(), str(alarm_file(source, part)))
    folder, held = photos(source, part), measure.unseen()
    for path in sorted(folder.iterdir()):
        verdict = alarm.check(path)
        unseen = hashlib.sha256(path.read_bytes()).hexdigest() in held
        yield {
            **{"image": path.name, "clean_alarm_score": verdict.score, "clean_alarm": verdict.alarm},
            "unseen": unseen,
        }


def rts_a(part: str, source: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    """Benign maps beside the plain network's; or the best of three restarts of an attack of so many passes."""
    held = str(measure.validation_photos(source))
    classifier = api.classifier()
    plain = api.interpreter("rts", classifier)
    if not part.startswith("rts-a-curve"):
        ours = api.interpreter("rts-a", classifier)
        folder, t = Folder(held), read_card(RTS_A).threshold
        for photo in folder.photos(limit or (ADAPTIVE if part == "rts-a-benign" else None)):
            x = pixels.to_tensor([pixels.load(folder.bytes(photo.path), photo.path, classifier.preprocess)])
            y = classifier.logits(x).detach().argmax(1)
            m, m_plain = ours.explain(x, y), plain.explain(x, y)
            row = {"image": photo.path, "map_l1": float((m_plain - m).abs().mean())}
            if part == "rts-a-saliency":
                with torch.no_grad():
                    for name, shown in (("saliency_metric", m), ("plain_saliency_metric", m_plain)):
                        row[name] = float(saliency_metric(classifier.logits, x, y, shown, t))
            yield row
        return
    budget = int(part.rpartition("-")[2])
    cost = 3.6
    for restart in RESTARTS:
        for loss in ("square", "cross-entropy"):
            options = {"steps": int(budget / cost), "restart": restart, "surrogate": {"loss": loss}}
            settings = {"images": held, "interpreter": "rts-a", "attack": "adv2", "limit": limit or 24, "threads": 1}
            case = Settings.parse({**settings, "options": {"adv2": options}})
            out = WORK / f"{part}-{restart}-{loss}-{limit or 24}"
            for row in run(case, out).results.rows():
                yield {**row, "case": f"{part}/{restart}/{loss}", "plain_l1": from_plain(out, row, classifier, plain)}


def from_plain(out: Path, row: dict[str, Any], classifier: Any, plain: Any) -> float | None:
    """L1 of RTSᴬ's map of the attacked picture to plain RTS's map of the benign one, the paper's column."""
    if row["error"]:
        return None
    x = pixels.to_tensor([decode_png((out / row["clean"]).read_bytes())])
    with torch.no_grad():
        wanted = plain.explain(x, classifier.logits(x).argmax(1))[0].numpy()
    shown = np.load(out / row["adversarial_map"]).astype(np.float64)
    return float(np.abs(shown - wanted).mean())


def write(part: str, rows: Sequence[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with result(part).open("w", newline="") as file:
        writer = csv.DictWriter(file, ("case", "commit", *COLUMNS), extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({"case": part, "commit": measure.COMMIT, **row})


def stored(part: str) -> list[dict[str, Any]]:
    with result(part).open(newline="") as file:
        return [{k: measure.parsed(k, v) for k, v in row.items()} for row in csv.DictReader(file)]


def by_image(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [[row for row in rows if row["image"] == name] for name in dict.fromkeys(row["image"] for row in rows)]


def show() -> None:
    known = {part: stored(part) if result(part).exists() else [] for part in ("benign", "mask-benign")}
    for part, rows in known.items():
        if rows:
            raised = estimate.rate([row["clean_alarm"] for row in rows])
            print(f"{part:20} n {len(rows)}: alarms on {raised.value:.1%} ({raised.low:.1%} to {raised.high:.1%})")
            new = estimate.rate([row["clean_alarm"] for row in rows if row["unseen"]])
            print(f"{'':20} n {new.n}, which RTS was not trained on: {new.value:.1%} ({new.low:.1%} to {new.high:.1%})")
    for part in FORGE:
        benign_rows = known["mask-benign" if part.startswith("mask-") else "benign"]
        if not result(part).exists() or not benign_rows:
            print(f"{part:20} not measured yet, or no benign photos to judge it by")
            continue
        rows = [row for row in stored(part) if not row["error"]]
        quiet = [row["clean_alarm_score"] for row in benign_rows]
        scores = [row["alarm_score"] for row in rows]
        own, shown = [row["image"] for row in benign_rows], [row["image"] for row in rows]
        area = detection.auc(quiet, scores, photos=(own, shown))  # an attacked photo is not its own negative
        unseen = [row for row in benign_rows if row["unseen"]]
        alike = detection.auc(
            [row["clean_alarm_score"] for row in unseen], scores, photos=([r["image"] for r in unseen], shown)
        )
        at_5, at_1 = (detection.detection(quiet, scores, a, (own, shown)).value for a in (0.05, 0.01))
        found, won = (estimate.rate([row[name] for row in rows]) for name in ("alarm", "success"))
        past, hidden = (
            estimate.rate([row[name] and not row["alarm"] for row in rows]) for name in ("success", "forged")
        )
        passes, l1 = (estimate.mean([row[name] for row in rows]).value for name in ("passes", "map_l1"))
        print(
            f"{part:20} n {len(rows)}:",
            f"AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}), against photos new to RTS {alike.value:.3f},",
            f"alarm {found.value:.0%},",
            f"found at 5 % {at_5:.0%}, at 1 % {at_1:.0%}," if at_5 is not None and at_1 is not None else "",
            f"success {won.value:.0%}, without an alarm {past.value:.0%} ({past.low:.0%} to {past.high:.0%}), forged "
            f"without an alarm {hidden.value:.0%}, map L1 {l1:.4f}, passes {passes:.0f}",
        )
    for budget in BUDGETS:
        if result(part := f"rts-a-curve-{budget}").exists():
            # The attacker keeps, for each photo, the nearest map among the pictures that reached the class.
            rows = [row for row in stored(part) if not row["error"]]
            best = [min(group, key=lambda r: (not r["success"], r["map_l1"])) for group in by_image(rows)]
            means = [sum(r[name] for r in best) / len(best) for name in ("map_l1", "plain_l1", "success")]
            print(
                f"{part}: L1 {means[0]:.4f} (to plain RTS's benign map {means[1]:.4f}), success {means[2]:.0%} over "
                f"{len(best)} photos, best of {len(RESTARTS)} starts and both losses, {2 * len(RESTARTS) * budget} "
                "passes in all"
            )
    if result("rts-a-benign").exists():
        print(f"rts-a-benign: L1 {estimate.mean([row['map_l1'] for row in stored('rts-a-benign')]).value:.4f}")
        card = read_card(RTS_A)
        print("rts-a card:", {name: round(value, 4) for name, value in card.figures.items()})
    if result("rts-a-saliency").exists():
        rows = stored("rts-a-saliency")
        pairs = [(row["plain_saliency_metric"], row["saliency_metric"]) for row in rows]
        plain, ours, change = (estimate.mean(v) for v in (*zip(*pairs, strict=True), [a - p for p, a in pairs]))
        print(
            f"rts-a-saliency: n {change.n}: RTS {plain.value:+.4f}, RTSᴬ {ours.value:+.4f}, difference "
            f"{change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f}), none on {sum(a == p for p, a in pairs)}, "
            f"worse on {sum(a > p for p, a in pairs)}, larger than 1 on {sum(abs(a - p) > 1 for p, a in pairs)}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
