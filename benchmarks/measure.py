"""The numbers of the README and docs: every case is a plain audit, its rows land in benchmarks/results/CASE.csv.

    python benchmarks/measure.py                 every case that has no result yet
    python benchmarks/measure.py cam-fast ...    these cases
    python benchmarks/measure.py --list          the cases and, where measured, their numbers
    python benchmarks/measure.py --table         the measured ones as rows of the documents' tables, with 95 % intervals

Photos and models come from ../shared (see --shared); none of them goes into the results.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from underfire import api
from underfire.audit.run import run
from underfire.images.photos import Folder
from underfire.interpreters.rts.card import find, read_card
from underfire.metrics import estimate, summary
from underfire.metrics.packaged import packaged
from underfire.metrics.verdict import Named, verdict
from underfire.plan.settings import Settings

HERE = Path(__file__).parent
RESULTS = HERE / "results"
COLUMNS = (
    "image",
    "classifier",
    "attack",
    "preset",
    "against",
    "judge_classifier",
    "interpreter",
    "defense",
    "eps",
    "seed",
    "target",
    "success",
    "confidence",
    "target_map",
    "map_l1",
    "map_iou",
    "map_rank",
    "map_rank_shown",
    "map_distance",
    "yardstick",
    "power",
    "untouched_l1",
    "untouched",
    "forged",
    "linf_levels",
    "flow_mean_px",
    "flow_max_px",
    "steps",
    "goal_passes",
    "passes",
    "judge_passes",
    "seconds",
    "error",
)
BENDS = ("stadv", "adv2-stadv")
IMAGENET = "data/in1k-samples"
TINY = "data/tiny20/val"
MASK = {"interpreter": "mask", "batch_size": 2}


def commit() -> str:
    """Name the commit of the code, with + where it has been changed since; a copy without its history is told."""
    if told := os.environ.get("COMMIT"):
        return told
    words = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "../src", "*.py"])
    name, changed = (
        subprocess.run(["git", *w], capture_output=True, text=True, check=False, cwd=HERE).stdout.strip() for w in words
    )
    return name + ("+" if changed else "")


COMMIT = commit()
"""Of the code that this process has loaded."""


def tiny(name: str) -> dict[str, Any]:
    return {"images": TINY, "classifier": name, "weights": f"models/{name}_tiny20.safetensors"}


def own_rts(name: str, kind: str = "rts", **attack: Any) -> dict[str, Any]:
    """Made by train_rts.sh."""
    own = {"weights": str(HERE / "weights" / f"{kind}-{name}-tiny20.safetensors")}
    return {"interpreter": kind, "options": {kind: own} | ({"adv2": attack} if attack else {})}


CASES: dict[str, dict[str, Any]] = {
    "cam-fast": {"images": IMAGENET, "limit": 48},
    "cam-thorough": {"images": IMAGENET, "limit": 48, "preset": "thorough", "attack": "adv2"},
    "cam-paper": {"images": IMAGENET, "limit": 8, "preset": "paper"},
    "grad-fast": {"images": IMAGENET, "limit": 24, "interpreter": "grad"},
    "grad-thorough": {"images": IMAGENET, "limit": 12, "interpreter": "grad", "preset": "thorough", "attack": "adv2"},
    "grad-paper": {"images": IMAGENET, "limit": 8, "interpreter": "grad", "preset": "paper", "attack": "adv2"},
    "grad-resnet50": {**tiny("resnet50"), "limit": 12, "interpreter": "grad"},
    "grad-densenet169": {**tiny("densenet169"), "limit": 12, "interpreter": "grad"},
    # Photos of classes that the packaged network was not trained on.
    "rts-fast": {"images": IMAGENET, "validation": True, "limit": 48, "interpreter": "rts"},
    "rts-thorough": {"images": IMAGENET, "validation": True, "limit": 12, "interpreter": "rts", "preset": "thorough"},
    "rts-paper": {
        "images": IMAGENET,
        "validation": True,
        "limit": 8,
        "interpreter": "rts",
        "preset": "paper",
        "attack": "adv2",
    },
    "rts-resnet50": {**tiny("resnet50"), "limit": 24, **own_rts("resnet50")},
    "rts-densenet169": {**tiny("densenet169"), "limit": 24, **own_rts("densenet169")},
    # An attacker of RTSᴬ may use either loss.
    "rts-a-resnet50": {**tiny("resnet50"), "limit": 24, **own_rts("resnet50", "rts-a")},
    "rts-a-resnet50-entropy": {
        **{**tiny("resnet50"), "limit": 24, "attack": "adv2"},
        **own_rts("resnet50", "rts-a", surrogate={"loss": "cross-entropy"}),
    },
    "cam-resnet50": {**tiny("resnet50"), "limit": 48},
    "cam-densenet169": {**tiny("densenet169"), "limit": 48},
    # Bends in place of changed levels.
    "stadv-cam": {"images": IMAGENET, "limit": 8, "attack": BENDS},
    "stadv-grad": {"images": IMAGENET, "limit": 4, "attack": BENDS, "interpreter": "grad"},
    "stadv-cam-paper": {"images": IMAGENET, "limit": 8, "attack": BENDS, "preset": "paper"},
    "stadv-rts-paper": {
        "images": IMAGENET,
        "limit": 8,
        "attack": "adv2-stadv",
        "interpreter": "rts",
        "preset": "paper",
    },
    "stadv-grad-paper": {"images": IMAGENET, "limit": 4, "attack": BENDS[1:], "interpreter": "grad", "preset": "paper"},
    # Two photos at a time, or one, so that little is lost where a measurement is stopped.
    "mask-fast": {"images": IMAGENET, "limit": 12, **MASK},
    "mask-thorough": {"images": IMAGENET, "limit": 4, **MASK, "preset": "thorough", "attack": "adv2", "batch_size": 1},
    "mask-paper": {"images": IMAGENET, "limit": 2, **MASK, "preset": "paper", "attack": "adv2", "batch_size": 1},
    "mask-resnet50": {**tiny("resnet50"), "limit": 6, **MASK},
    "mask-densenet169": {**tiny("densenet169"), "limit": 6, **MASK},
    # Is it the search or the budget that keeps the 128 px networks' maps? More passes and larger budgets say.
    **{
        f"rts-{name}-{what}": {**tiny(name), "limit": 12, **own_rts(name), **more}
        for name in ("resnet50", "densenet169")
        for what, more in (
            ("thorough", {"preset": "thorough", "attack": "adv2"}),
            ("eps16", {"eps": 16}),
            ("eps32", {"eps": 32}),
        )
    },
    # Three seeds of a random target, and the least likely class and the runner-up, which need no seed.
    **{
        f"trials-{name}": {
            **{"images": IMAGENET, "limit": limit, "interpreter": name, "attack": "adv2", "seeds": 3, "target": target},
            **({"batch_size": 6} if name == "mask" else {}),
        }
        for name, limit, target in (
            *((name, 100, "random,least-likely,nearest") for name in ("cam", "rts")),
            *(("grad", 24, "random"), ("mask", 12, "random")),
        )
    },
    "cam-resnet50-eps16": {**tiny("resnet50"), "limit": 12, "eps": 16},
    "cam-resnet50-eps32": {**tiny("resnet50"), "limit": 12, "eps": 32},
}


def settings_of(case: dict[str, Any], shared: Path) -> Settings:
    paths: dict[str, Any] = {k: str(shared / case[k]) for k in ("images", "weights") if k in case}
    if case.get("validation"):
        paths["images"] = str(validation_photos(Path(paths["images"])))
    chosen = {k: v for k, v in case.items() if k != "validation"}
    return Settings.parse({"seed": 0, "eps": 8, "threads": 1, **chosen, **paths})


def unseen() -> set[str]:
    """SHA-256 of the photos that EfficientNet-Lite0's packaged RTS network was not trained on."""
    return set(read_card(find(api.classifier(), None)).validation)


def validation_photos(folder: Path) -> Path:
    """A folder with links to the photos that EfficientNet-Lite0's packaged RTS network is judged by."""
    held = unseen()
    out = Path(tempfile.gettempdir()) / "underfire-benchmark-validation"
    out.mkdir(exist_ok=True)
    for photo in Folder(str(folder)).photos(None):
        link = out / photo.path
        if photo.sha256 in held and not link.exists():
            link.symlink_to(folder / photo.path)
    return out


def measure(name: str, shared: Path, results: Path) -> None:
    out = Path(tempfile.gettempdir()) / f"underfire-benchmark-{name}"
    audit = run(settings_of(CASES[name], shared), out)
    rows = audit.results.rows()
    results.mkdir(parents=True, exist_ok=True)
    with (results / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("case", "commit", *COLUMNS), extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({"case": name, "commit": COMMIT, **row})
    show(name, rows)


def summaries(rows: list[dict[str, Any]]) -> list[summary.Summary]:
    return summary.summarise([{"iou_curve": [None] * 9, "image_sha256": row["image"], **row} for row in rows])


def table(name: str, rows: list[dict[str, Any]]) -> None:
    """Print a case as rows of Markdown: success, confidence, L1, IoU, forged by the packaged yardstick, passes."""
    for s in summaries(rows):
        mine = [row for row in rows if all(row.get(k) == s.cell[k] for k in ("attack", "interpreter", "against"))]
        judged = [ruled(row) for row in mine]
        forged = estimate.rate(judged, [row["image"] for row in mine]) if None not in judged else s.told
        means = [around(e, digits) for e, digits in ((s.confidence, 3), (s.map_l1, 4), (s.map_iou, 2))]
        cells = [name, s.cell["attack"], s.cell["interpreter"], s.success.independent, share(s.success), *means]
        print("|", " | ".join(map(str, [*cells, share(forged), number(s.passes, 0)])), "|")


def ruled(row: dict[str, Any]) -> bool | None:
    """Judge a row by the packaged yardstick of its judge; None where there is none, or where it has no distances."""
    made = [one for one in packaged() if (one.classifier, one.interpreter) == (row["classifier"], row["interpreter"])]
    if row["error"] is not None:
        return False
    if not made or row["map_l1"] is None:
        return None
    known = row if "target_map" in row else {**row, "target_map": "benign"}
    return verdict(known, {row["interpreter"]: Named(made[0].yardstick, "", made[0].exact)}).forged


def around(e: estimate.Estimate, digits: int) -> str:
    ends = "" if e.low is None or e.high is None else f" ({max(0.0, e.low):.{digits}f}–{min(1.0, e.high):.{digits}f})"
    return number(e, digits) + ends


def share(e: estimate.Estimate) -> str:
    if e.value is None or e.low is None or e.high is None:
        return "–"
    return f"{100 * e.value:.0f} % ({100 * e.low:.0f}–{100 * e.high:.0f})"


def show(name: str, rows: list[dict[str, Any]]) -> None:
    for s in summaries(rows):
        cell = s.cell
        print(
            f"{name:18} {cell['attack']:>10} {cell['preset']:9} judge {cell['interpreter']:5} n {s.n:3} (+{s.errors}) "
            f"success {number(s.success, 3)} forged {number(s.forged, 3)} confidence {number(s.confidence, 4)} "
            f"L1 {number(s.map_l1, 4)} IoU {number(s.map_iou, 3)} passes {number(s.passes, 0)} "
            f"untouched ≤ {s.untouched_l1 or 0:.4f} seconds {number(s.seconds, 1)}" + bends(rows, cell["attack"]),
            flush=True,
        )


def bends(rows: list[dict[str, Any]], attack: str) -> str:
    flow = [row["flow_mean_px"] for row in rows if row["attack"] == attack and row.get("flow_mean_px") is not None]
    return f" flow {number(estimate.mean(flow), 2)} px" if flow else ""


def number(e: estimate.Estimate, digits: int) -> str:
    return "–" if e.value is None else f"{e.value:.{digits}f}"


def stored(name: str) -> list[dict[str, Any]]:
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return [{k: parsed(k, v) for k, v in row.items()} for row in csv.DictReader(file)]


def parsed(column: str, word: str) -> Any:
    if word == "":
        return None
    if word in ("True", "False"):
        return word == "True"
    if column in ("image", "classifier", "commit", "case"):
        return word
    try:
        return float(word)
    except ValueError:
        return word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="default: all without a result")
    parser.add_argument(
        "--shared", type=Path, default=HERE.parent.parent / "shared", help="folder with data/ and models/"
    )
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of new results")
    parser.add_argument("--table", action="store_true", help="as rows of Markdown, with intervals")
    given = parser.parse_args()
    if given.list or given.table:
        for name in given.cases or CASES:
            if (RESULTS / f"{name}.csv").exists():
                (table if given.table else show)(name, stored(name))
            elif given.list:
                print(f"{name:18} not measured yet")
        return
    if not (given.shared / "data").is_dir():
        sys.exit(f"No photos in '{given.shared}': give --shared.")
    for name in given.cases or CASES:
        if given.cases or not (RESULTS / f"{name}.csv").exists():
            measure(name, given.shared, given.out)


if __name__ == "__main__":
    main()
