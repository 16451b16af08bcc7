"""Write OUT/report.html: one self-contained page for a security reviewer.

The page is a list of sections. A section is a function in `SECTIONS` (what to say) and a macro of the same name in
templates/report.html.j2 (how to show it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, overload

import pyarrow.compute as pc

from underfire.core import HEADS, IOU_THRESHOLDS, WON, UnderfireError
from underfire.core.place import Place, Remote
from underfire.images import overlay
from underfire.report import gallery
from underfire.report.charts import COLOURS, distribution, overlap
from underfire.report.defense import defended
from underfire.report.findings import Findings, Line, Panel, load
from underfire.report.html import Context, Section, fill, write
from underfire.report.problems import errors
from underfire.report.published import IMAGENET_CLASSES, network_of, printed, published
from underfire.report.sanity import checked_photos
from underfire.report.sanity import sanity as sanity_of
from underfire.report.settings import settings
from underfire.report.smallest import smallest
from underfire.report.text import number, pretty
from underfire.report.understanding import understanding
from underfire.report.whole import whole_galleries


@overload
def write_report(out: Path, samples: int = 24) -> Path: ...
@overload
def write_report(out: Remote, samples: int = 24) -> Remote: ...
def write_report(out: Place, samples: int = 24) -> Place:
    """Write OUT/report.html; the same records and settings give the same bytes.

    Example:
        ``underfire.write_report(Path("underfire-out/demo-1a2b3c4d"))``

    Args:
        out: the folder of an audit, finished or not.
        samples: photos shown with pictures, divided evenly among the interpreters; 0 for none.

    Returns:
        The page's path.

    Raises:
        UnderfireError: not such a folder, nothing in it yet, or it cannot be written.
    """
    if samples < 0:
        raise UnderfireError(f"--samples {samples} is below zero: give the number of photos to show, 0 for none.")
    return write(out / "report.html", render(load(out), samples))


def render(found: Findings, samples: int) -> str:
    """Return the page as text."""
    context = Context(found, samples)
    sections = [section for build in SECTIONS if (section := build(context)) is not None]
    classifiers = found.distinct("classifier")
    return fill("report.html.j2", sections=sections, classifiers=classifiers, unfinished=_unfinished(found))


def _unfinished(found: Findings) -> tuple[int, int, str] | None:
    """Count what is done and what is planned, and say of what; None once that is as much.

    A photo has a row as soon as one of its units is done, so photos tell only where units are missing altogether.
    """
    resolved = found.plan.get("resolved")
    planned = resolved.get("photos") if isinstance(resolved, Mapping) else None
    if isinstance(planned, int) and not isinstance(planned, bool) and found.photos < planned:
        return found.photos, planned, "photo"
    return (*found.units, "unit") if found.units and found.units[0] < found.units[1] else None


# --- sections, in the order of the page


def headline(context: Context) -> Section:
    """Say the forged rate of the strongest attack under each judge, beside those of attacks that ignore the map."""
    cards = [_card(panel) for panel in context.found.panels]
    values = [card["line"].summary.told for card in cards if card["line"].summary.told.value is not None]
    ends = [f(values, key=lambda e: e.value or 0.0) for f in (min, max)] if values else []
    silent = any(card["line"].summary.in_place for card in cards)
    broken = [check for check in sanity_of(context.found.out) if check.passed is False]
    data = {"cards": cards, "ends": ends, "silent": silent, "broken": broken, "hero": gallery.hero(context.galleries)}
    return Section("headline", "The finding", data)


def _card(panel: Panel) -> dict[str, Any]:
    line = panel.strongest
    forged = line.summary.forged
    hits = None if forged.value is None else round(forged.value * forged.n)
    plain_lines = [other for other in panel.lines if other.cell["against"] is None and other is not line]
    return {"panel": panel, "line": line, "hits": hits, "plain": plain_lines}


def method(context: Context) -> Section:
    """Say what was attacked and how, and what the words of the page mean."""
    found = context.found
    data = {
        "classifiers": found.distinct("classifier"),
        "judges": found.distinct("judge_classifier"),
        "interpreters": list(dict.fromkeys(panel.interpreter for panel in found.panels)),
        "attacks": list(dict.fromkeys(line.label for panel in found.panels for line in panel.lines)),
        "prediction_only": _attacks(found, joint=False),
        "joint": _attacks(found, joint=True),
        "defenses": [name for name in found.distinct("defense") if name != "none"],
        "eps": found.distinct("eps"),
        "searched": str(found.plan.get("eps")).startswith("smallest"),
        "largest": pc.max(found.table.filter(pc.is_valid(found.table["eps"]))["linf_levels"]).as_py(),
        "shift": pc.max(found.table["flow_max_px"]).as_py(),
        "photos": len(found.with_results),
        "target": found.plan.get("target"),
        "seeds": found.plan.get("seeds"),
        "target_map": ", ".join(found.distinct("target_map")),
        "heads": [HEADS[kind] for kind in found.distinct("head")],
        "files": "file" in found.distinct("at"),
        "won": [WON[kind] for kind in found.distinct("head")] or [WON["softmax"]],
        "panels": found.panels,
    }
    return Section("method", "What was attacked, and how it is judged", data)


def _attacks(found: Findings, joint: bool) -> list[str]:
    lines = (line for panel in found.panels for line in panel.lines if (line.cell["against"] is not None) == joint)
    return list(dict.fromkeys(pretty(line.cell["attack"]) for line in lines))


def results(context: Context) -> Section:
    """Set the table beside the published figures."""
    figures = published()
    classes = context.found.plan.get("resolved", {}).get("classes_digest", IMAGENET_CLASSES)
    networks: list[str] = figures["networks"] if classes == IMAGENET_CLASSES else []
    rows = {
        line.key: [_printed(line, network) for network in networks]
        for panel in context.found.panels
        for line in panel.lines
    }
    names = context.found.distinct("classifier")
    same = [n for n in networks if n in map(network_of, names)]
    data = {
        "panels": context.found.panels,
        "networks": networks,
        "published": rows,
        "classifiers": names,
        "same": same,
        "source": figures["source"],
        "setting": figures["setting"],
        "any": any(cell for row in rows.values() for cell in row),
    }
    return Section("results", "Results", data)


def _printed(line: Line, network: str) -> Mapping[str, Any] | None:
    """Find the published cell of the same attack on the same interpreter; None where there is none."""
    cell = line.cell
    if cell["against"] not in (None, cell["interpreter"]):
        return None
    return printed(cell["attack"], cell["against"], network)


def distances(context: Context) -> Section | None:
    """Plot how far the maps moved, and how much of their bright parts still overlaps."""
    charts = [_chart(panel) for panel in context.found.panels if any(line.l1.size for line in panel.lines)]
    return Section("distances", "How far the explanations moved", {"charts": charts}) if charts else None


def _chart(panel: Panel) -> dict[str, Any]:
    curves = [line.summary.iou_curve for line in panel.lines]
    l1_words = (f"{line.label}: mean {number(line.summary.map_l1.value)}" for line in panel.lines)
    iou_words = (f"{line.label}: " + ", ".join(number(v) for v in line.summary.iou_curve) for line in panel.lines)
    return {
        "panel": panel,
        "keys": [(line.label, i % COLOURS) for i, line in enumerate(panel.lines)],
        "l1": distribution(
            [line.l1 for line in panel.lines],
            panel.untouched_l1,
            f"{panel.key}-l1",
            f"Cumulative share of photos by L1 distance under {panel.title}. " + "; ".join(l1_words),
        ),
        "iou": overlap(
            curves,
            IOU_THRESHOLDS,
            f"{panel.key}-iou",
            f"Mean IoU under {panel.title} at thresholds 0.1 to 0.9. " + "; ".join(iou_words),
        ),
    }


def defense(context: Context) -> Section | None:
    """Say what the alarm changes: the table with and without it, its ROC curve, and some verdicts."""
    return Section("defense", "What the defense changes", data) if (data := defended(context.found)) else None


def samples(context: Context) -> Section | None:
    """Show photos, maps and predictions before and after."""
    data = {"galleries": context.galleries, "legend": overlay.legend()}
    return Section("samples", "See for yourself", data) if context.galleries else None


def sanity(context: Context) -> Section | None:
    """Say whether the attack itself is sound, where that was checked."""
    checks = sanity_of(context.found.out)
    if not checks:
        return None
    failed = any(check.passed is False for check in checks)
    data = {"checks": checks, "failed": failed, "photos": checked_photos(context.found.out)}
    return Section("sanity", "Is the attack sound?", data)


def files(context: Context) -> Section | None:
    """Show forged files whole, as people see them, and where the network looks."""
    galleries = whole_galleries(context.found, context.samples) if context.samples else []
    return Section("files", "The photos as people see them", {"galleries": galleries}) if galleries else None


def cost(context: Context) -> Section:
    """List the passes per photo, in three columns, and seconds."""
    return Section("cost", "What it cost", {"panels": context.found.panels})


SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    headline,
    samples,
    files,
    results,
    smallest,
    distances,
    defense,
    errors,
    sanity,
    method,
    cost,
    understanding,
    settings,
)
