"""Store + metrics -> OUT/report.html: one self-contained page for a security reviewer. No torch, no JavaScript.

The page is a list of sections. A section is one function here (what to say) and one macro of the same name in
report.html.j2 (how to show it): adding to the page is adding one of each to `SECTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from underfire import pictures, plots, words
from underfire.core import IOU_THRESHOLDS, UnderfireError
from underfire.core.place import Place, Remote, write_whole
from underfire.defended import defended
from underfire.findings import Findings, Line, Panel, load, pretty, select
from underfire.images import overlay
from underfire.published import IMAGENET_CLASSES, network_of, printed, published

HERE = Path(__file__).parent
REASONS_LISTED = 20
"""Reasons listed for missing results; the rest is counted."""
PHOTOS_NAMED = 20
"""Photos named for each reason; the rest is counted."""
LOW_BAR = 0.5
"""Forged by an attack that ignores the map on more photos than this: the page warns that the scale tells little."""
PATHS = frozenset({"images", "weights", "classes"})
"""Settings that are paths, relative ones too."""


@dataclass(frozen=True)
class Context:
    """What a section may use: the findings, and the page's own options."""

    found: Findings
    samples: int


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Args:
        name: the macro that shows it, and its HTML id.
        title: its heading.
        data: what the macro needs.
    """

    name: str
    title: str
    data: Mapping[str, Any]


@overload
def write_report(out: Path, samples: int = 24) -> Path: ...
@overload
def write_report(out: Remote, samples: int = 24) -> Remote: ...
def write_report(out: Place, samples: int = 24) -> Place:
    """Write OUT/report.html; the same records and settings give the same bytes.

    Args:
        out: the folder of an audit, finished or not.
        samples: photos shown with pictures, shared evenly by the interpreters; 0 for none.

    Returns:
        The page's path.

    Raises:
        UnderfireError: not such a folder, nothing in it yet, or it cannot be written.
    """
    if samples < 0:
        raise UnderfireError(f"--samples {samples} is below zero: give how many photos to show, or 0 for none.")
    page = render(load(out), samples)
    path = out / "report.html"
    try:
        write_whole(path, page.encode())
    except OSError as e:
        raise UnderfireError(f"Cannot write '{path}' ({e.strerror or e}): make space or mend its permissions.") from e
    return path


def render(found: Findings, samples: int) -> str:
    """The page as text."""
    context = Context(found, samples)
    sections = [section for build in SECTIONS if (section := build(context)) is not None]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({"pretty": pretty} | {f.__name__: f for f in words.FILTERS})
    page = environment.get_template("report.html.j2").render(
        sections=sections, classifiers=found.distinct("classifier"), unfinished=_unfinished(found)
    )
    return page.lstrip()  # the macros before the page leave empty lines


def _unfinished(found: Findings) -> tuple[int, int] | None:
    """Photos with results and photos planned, while there are fewer of the first."""
    resolved = found.plan.get("resolved")
    planned = resolved.get("photos") if isinstance(resolved, Mapping) else None
    if isinstance(planned, int) and not isinstance(planned, bool) and found.photos < planned:
        return found.photos, planned
    return None


# --- sections, in the order of the page


def headline(context: Context) -> Section:
    """The forged rate of the strongest attack under each judge, beside the other attacks'."""
    cards = [_card(panel) for panel in context.found.panels]
    values = [card["line"].summary.forged for card in cards if card["line"].summary.forged.value is not None]
    ends = [f(values, key=lambda e: e.value or 0.0) for f in (min, max)] if values else []
    return Section("headline", "The finding", {"cards": cards, "ends": ends})


def _card(panel: Panel) -> dict[str, Any]:
    line = panel.strongest
    forged = line.summary.forged
    hits = None if forged.value is None else round(forged.value * forged.n)
    plain_lines = [other for other in panel.lines if other.cell["against"] is None and other is not line]
    shares = [other.summary.forged.value for other in plain_lines]
    low_bar = any(share is not None and share > LOW_BAR for share in shares)
    return {"panel": panel, "line": line, "hits": hits, "plain": plain_lines, "low_bar": low_bar}


def method(context: Context) -> Section:
    """What was attacked and how, and what the words of the page mean."""
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
        "largest": pc.max(found.table.filter(pc.is_valid(found.table["eps"]))["linf_levels"]).as_py(),
        "shift": pc.max(found.table["flow_max_px"]).as_py(),
        "photos": len(found.with_results),
        "target": found.plan.get("target"),
        "target_map": ", ".join(found.distinct("target_map")),
        "panels": found.panels,
    }
    return Section("method", "What was attacked, and how it is judged", data)


def _attacks(found: Findings, joint: bool) -> list[str]:
    lines = (line for panel in found.panels for line in panel.lines if (line.cell["against"] is not None) == joint)
    return list(dict.fromkeys(pretty(line.cell["attack"]) for line in lines))


def results(context: Context) -> Section:
    """The table, beside the published figures."""
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
    """The printed cell of the same attack, made against and judged by the same interpreter; None without one."""
    cell = line.cell
    if cell["against"] not in (None, cell["interpreter"]):
        return None
    return printed(cell["attack"], cell["against"], network)


def distances(context: Context) -> Section | None:
    """The plots: how far the maps moved, and how much of their bright parts still overlaps."""
    charts = [_chart(panel) for panel in context.found.panels if any(line.l1.size for line in panel.lines)]
    return Section("distances", "How far the explanations moved", {"charts": charts}) if charts else None


def _chart(panel: Panel) -> dict[str, Any]:
    curves = [line.summary.iou_curve for line in panel.lines]
    l1_words = (f"{line.label}: mean {words.number(line.summary.map_l1.value)}" for line in panel.lines)
    iou_words = (f"{line.label}: " + ", ".join(words.number(v) for v in line.summary.iou_curve) for line in panel.lines)
    return {
        "panel": panel,
        "keys": [(line.label, i % plots.COLOURS) for i, line in enumerate(panel.lines)],
        "l1": plots.distribution(
            [line.l1 for line in panel.lines],
            panel.untouched_l1,
            f"{panel.key}-l1",
            f"Cumulative share of photos by L1 distance under {panel.title}. " + "; ".join(l1_words),
        ),
        "iou": plots.overlap(
            curves,
            IOU_THRESHOLDS,
            f"{panel.key}-iou",
            f"Mean IoU under {panel.title} at thresholds 0.1 to 0.9. " + "; ".join(iou_words),
        ),
    }


def defense(context: Context) -> Section | None:
    """The table with and without the alarm, its ROC, and some verdicts."""
    return Section("defense", "What the defense changes", data) if (data := defended(context.found)) else None


def samples(context: Context) -> Section | None:
    """Photos, maps and predictions before and after."""
    galleries = pictures.galleries(context.found, context.samples) if context.samples else []
    data = {"galleries": galleries, "legend": overlay.legend()}
    return Section("samples", "See for yourself", data) if galleries else None


def errors(context: Context) -> Section:
    """What has no result: every such photo once, grouped by its reasons."""
    found = context.found
    places: dict[str, dict[str, list[str]]] = {}  # photo -> reason -> where it happened
    for image, error, where in _failures(found):
        reasons = places.setdefault(image, {}).setdefault(_reason(error, image), [])
        if where not in reasons:
            reasons.append(where)
    groups: dict[tuple[str, ...], list[str]] = {}
    for image in sorted(places):
        groups.setdefault(tuple(sorted(places[image])), []).append(image)
    everywhere = {_place(panel, line) for panel in found.panels for line in panel.lines}
    kinds = [_kind(reasons, photos, places, everywhere) for reasons, photos in groups.items()]
    kinds.sort(key=lambda kind: (-kind["n"], kind["reasons"]))
    listed = kinds[:REASONS_LISTED]
    data = {
        "photos": len(places),
        "of": found.photos,
        "empty": len(places.keys() - set(found.with_results)),
        "kinds": listed,
        "more": len(kinds) - len(listed),
        "more_photos": sum(kind["n"] for kind in kinds[len(listed) :]),
    }
    return Section("errors", "Photos without a result", data)


def _failures(found: Findings) -> Iterator[tuple[str, str, str]]:
    """Photo, error and where it happened, for all that failed."""
    for panel in found.panels:
        for line in panel.lines:
            for image, error in _failed(select(found.table, **line.cell)):
                yield image, error, _place(panel, line)
    for interpreter in pc.unique(found.scale["interpreter"]).to_pylist():
        for image, error in _failed(select(found.scale, interpreter=interpreter)):
            yield image, error, f"untouched scale, {pretty(interpreter)}"


def _place(panel: Panel, line: Line) -> str:
    return f"{line.label} under {panel.title}"


def _failed(table: pa.Table) -> Iterator[tuple[str, str]]:
    bad = table.select(["image", "error"]).filter(pc.is_valid(table["error"]))
    return zip(bad["image"].to_pylist(), bad["error"].to_pylist(), strict=True)


def _reason(error: str, image: str) -> str:
    """The error without its photo's name, so that the same one of many photos is one reason."""
    name = f"'{image}'"
    return "The file" + error[len(name) :] if error.startswith(name) else error.replace(name, "the file")


def _kind(
    reasons: tuple[str, ...],
    photos: list[str],
    places: Mapping[str, Mapping[str, list[str]]],
    everywhere: set[str],
) -> dict[str, Any]:
    """One row of the table; a reason's places are empty where it failed everywhere."""
    where = {reason: list(dict.fromkeys(w for photo in photos for w in places[photo][reason])) for reason in reasons}
    return {
        "n": len(photos),
        "reasons": [(r, [] if everywhere <= set(where[r]) else where[r]) for r in reasons],
        "photos": photos[:PHOTOS_NAMED],
        "more": len(photos) - len(photos[:PHOTOS_NAMED]),
    }


def cost(context: Context) -> Section:
    """Forward-equivalents per image, in three columns, and seconds."""
    return Section("cost", "What it cost", {"panels": context.found.panels})


def settings(context: Context) -> Section:
    """The plan, as it stands in plan.yaml."""
    return Section(
        "settings",
        "How it was run",
        {"settings": [(name.removeprefix("resolved."), text) for name, text in _flat(context.found.plan)]},
    )


def _flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names with short texts."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(_last(value) if _is_path(name, value) else value)


def _is_path(name: str, value: Any) -> bool:
    """Whether a setting tells where something lies on this machine."""
    return isinstance(value, str) and (name in PATHS or bool(re.match(r"[/~\\]|[A-Za-z]:[/\\]", value)))


def _last(path: str) -> str:
    """The last part of a path of any system: a report gets passed on, and the folders above are nobody's business."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return words.MISSING
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= 12 else f"{len(value):,} entries"
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    headline,
    method,
    results,
    distances,
    defense,
    samples,
    errors,
    cost,
    settings,
)
