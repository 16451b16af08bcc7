"""A section for a model card: the audit's figures with their intervals, and what they do not say.

The head is YAML in the format of Hugging Face's ``model-index``: the figures stand beside the model's others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.place import Place
from underfire.gating.intervals import exact_rate, studentized_mean
from underfire.gating.markdown import escaped
from underfire.gating.measures import MEASURES, MeasuredCell, gaps, measured
from underfire.gating.ruling import cell_words, figure
from underfire.metrics.estimate import Estimate
from underfire.metrics.verdict import OldScale
from underfire.report.text import count
from underfire.store import open_results

SHOWN = ("forged", "success", "map_l1", "map_iou", "alarm")
LIMITS = (
    "They are lower bounds on what an attacker can do: these attacks, this budget, this many steps. A stronger attack "
    "may forge more; a low rate is no proof of robustness.",
    "They hold for photos like those of the audit, drawn as those were. The intervals are about the choice of photos, "
    "one at a time, and are not corrected for their number.",
    "Whether a person would notice a map that counts as untouched is another question.",
    "They say nothing about the classifier's accuracy, nor about whether its maps explain it well.",
)


BY_YARDSTICK = (
    "*Forged* means that the attacker's class is reported and that the map lies no further from the wanted one than "
    "maps of natural copies of a photo lie from its own. – stands where that was not measured, and where the "
    "explanation cannot tell a wrong map from a natural copy's."
)
BY_OLD_SCALE = (
    "*Forged* means that the attacker's class is reported and that the map lies no further from the wanted one than "
    "JPEG 90 moves the maps of 95 % of these photos: the scale of earlier versions."
)


def card(out: Place, model: str = "") -> str:
    """Write the section: YAML metadata, then Markdown.

    Args:
        out: folder of the audit.
        model: name of the model; by default the classifier's.

    Raises:
        UnderfireError: no audit, or nothing in it yet.
    """
    results = open_results(out)
    plan, old = results.plan, any(isinstance(one, OldScale) for one in results.rulers.values())
    cells = [cell for cell in measured(out) if cell.values("success")]
    if not cells:
        raise UnderfireError(f"'{out}' has no results yet: finish the run, then ask again.")
    name = model or str(cells[0].cell["classifier"])
    photos = _photos(plan)
    head = yaml.safe_dump(_index(name, photos, cells), sort_keys=False, allow_unicode=True)
    return "\n".join(["---", head.rstrip(), "---", "", *_section(name, photos, cells, list(gaps(out)), old)]) + "\n"


def _photos(plan: Mapping[str, Any]) -> str:
    """Name the photos without the folders above them."""
    return re.split(r"[/\\]", str(plan.get("images", "photos")).rstrip("/\\"))[-1] or "photos"


def _index(name: str, photos: str, cells: list[MeasuredCell]) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "image-classification", "name": "Image classification under attack"},
            "dataset": {"type": "imagefolder", "name": photos},
            "metrics": [
                {
                    "type": measure,
                    "value": round(value, 4),
                    "name": f"{measure}, {cell_words(cell.cell)}",
                    "verified": False,
                }
                for measure, estimate in _estimates(cell)
                if (value := estimate.value) is not None
            ],
        }
        for cell in cells
    ]
    return {"model-index": [{"name": name, "results": results}]}


def _estimates(cell: MeasuredCell) -> Iterator[tuple[str, Estimate]]:
    for measure in SHOWN:
        values = list(cell.values(measure).values())
        if values:
            of = MEASURES[measure]
            yield measure, exact_rate(values) if of.kind == "rate" else studentized_mean(values, of.most)


def _section(name: str, photos: str, cells: list[MeasuredCell], missing: list[str], old: bool) -> Iterator[str]:
    yield "## Can its explanations be forged?"
    yield ""
    yield (
        f"{escaped(name)} was attacked together with the interpreter that explains it, on the photos "
        f"'{escaped(photos)}'. Each figure is measured on saved 8-bit pictures with the real interpreter; in brackets "
        "is its 95 % interval."
    )
    if missing:
        yield ""
        yield f"**The audit is not complete**: {escaped('; '.join(missing))}."
    yield ""
    yield "| attack | photos | " + " | ".join(SHOWN) + " |"
    yield "|---|---|" + "---|" * len(SHOWN)
    yield from (_row(cell) for cell in cells)
    yield ""
    yield "What these figures do not say:"
    yield ""
    yield from (f"- {sentence}" for sentence in (BY_OLD_SCALE if old else BY_YARDSTICK, *LIMITS))
    if failed := sum(len(cell.errors) for cell in cells):
        yield f"- {count(failed, 'judgement')} without a result: left out, never counted as zero."


def _row(cell: MeasuredCell) -> str:
    found = dict(_estimates(cell))
    texts = [_cell(found.get(measure), MEASURES[measure].kind == "rate") for measure in SHOWN]
    return f"| {escaped(cell_words(cell.cell))} | {len(cell.values('success')):,} | " + " | ".join(texts) + " |"


def _cell(estimate: Estimate | None, rate: bool) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{figure(estimate.value, estimate.n, rate)} (too few photos)"
    ends = " to ".join(figure(end, estimate.n, rate) for end in (estimate.low, estimate.high))
    return f"{figure(estimate.value, estimate.n, rate)} ({ends})".replace("<", "&lt;").replace(">", "&gt;")
