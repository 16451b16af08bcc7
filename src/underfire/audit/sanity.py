"""Sanity checks of the attack itself, as small audits beside an audit (Carlini et al. 2019, section 3).

An attack that is weak by mistake makes a classifier look strong. So the attack on the prediction is run on some photos
with more budget, without a bound, for longer, and with a single step, each beside random noise of the same size:
OUT/sanity/NAME is an ordinary audit. What they say is read by report/sanity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from underfire import registry
from underfire.audit.folder import stored_plan
from underfire.audit.run import Audit, run
from underfire.core import LEVELS, Listener, Quiet, UnderfireError, UnsuitableError
from underfire.metrics import yardstick_file
from underfire.plan.settings import Settings
from underfire.plan.targets import OWN
from underfire.plan.units import Plan
from underfire.report.text import count

FOLDER = "sanity"
PHOTOS = 4
"""Photos of the checks, where nobody says how many."""
SHARE = 0.2
"""By default the checks cost at most this share of the audit."""
LONGER = 4
"""The long search has so many times the steps."""


def checks(plan: Plan, photos: int) -> dict[str, Settings]:
    """Name the settings of each small audit.

    Args:
        plan: of the audit that is checked.
        photos: how many of its photos are attacked.
    """
    judge = min(plan.lanes, key=lambda lane: lane.passes).interpreters[0]
    judged = tuple(path for path in plan.settings.yardstick or () if yardstick_file.read(path).interpreter == judge)
    s = plan.settings.model_copy(update={"yardstick": judged or None})
    return variants(s, judge, photos, str(_target(plan)), (s.eps, 2 * s.eps, 4 * s.eps, LEVELS))


def _target(plan: Plan) -> str | int:
    """Choose the target of the checks: the first that is another class than a photo's own.

    Raises:
        UnsuitableError: there is none.
    """
    for target in plan.targets or (plan.job.target,):
        if target != OWN:
            return target
    raise UnsuitableError("--target own wants no other class.")


def variants(s: Settings, judge: str, photos: int, target: str, budgets: Iterable[int]) -> dict[str, Settings]:
    """Name the settings of each small audit.

    Args:
        s: of the audit that is checked.
        judge: an interpreter, the cheapest one: only predictions are of interest.
        photos: how many are attacked.
        target: the class that is wanted, or how it is chosen.
        budgets: ε, in levels; the audit's own is among them.
    """
    shared: dict[str, Any] = {
        **{"limit": photos, "interpreter": (judge,), "attack": ("pgd", "noise"), "seeds": None, "sanity": None},
        **{"target": target, "target_map": "benign", "defense": None, "adaptive": False, "resolved": {}},
    }
    own = {part: chosen for part, chosen in s.options.items() if part in (judge, "pgd")}

    def variant(eps: int, **pgd: Any) -> Settings:
        options = {**own, "pgd": {**own.get("pgd", {}), **pgd}} if pgd else own
        return s.model_copy(update={**shared, "eps": int(eps), "options": options})

    found, usual = {"step": variant(1, steps=1, step=1.0)}, int(s.eps)
    for eps in dict.fromkeys(min(LEVELS, eps) for eps in budgets):
        found[f"eps-{eps}"] = variant(eps)
    return found | {"longer": variant(usual, steps=LONGER * _steps(s))}


def _steps(s: Settings) -> int:
    pgd: Any = registry.maker("attacks", "pgd").make(s.preset, None, int(s.eps), **s.options.get("pgd", {}))
    return int(pgd.settings.steps)


def photos_of(plan: Plan) -> int:
    """Count the photos to check on: as asked, or as many of `PHOTOS` as the audit can pay for."""
    n = len(plan.photos)
    if plan.settings.sanity is not None:
        return min(n, plan.settings.sanity)
    each = sum(3.0 * (_steps(one) + 1) for one in checks(plan, 1).values())
    return min(PHOTOS, int(SHARE * plan.image_passes * plan.attacked / each))


def check(audit: Audit, listener: Listener | None = None) -> str:
    """Run what is missing of the checks. What goes wrong with them leaves the audit as it is.

    Args:
        audit: a finished audit.
        listener: hears how it goes on.

    Returns:
        A sentence for the user where the attack was not checked, or not on as many photos as asked; else ''.
    """
    asked = audit.plan.settings.sanity
    if asked == 0:
        return ""
    try:
        begun = stored_plan(audit.out / FOLDER / "step")
        photos = begun.limit if begun is not None and begun.limit else photos_of(audit.plan)
        for name, settings in checks(audit.plan, photos).items() if photos else ():
            run(settings, audit.out / FOLDER / name, listener or Quiet())
    except UnderfireError as e:
        return f"The attack itself was not checked with pgd: {e}"
    if not photos:
        return "The attack itself was not checked, to save time: --sanity 4 does it."
    if asked is not None and photos != min(asked, len(audit.plan.photos)):
        before = count(photos, "photo")
        return f"The attack itself was checked on {before} before, and stays so: --sanity {asked} needs a new --out."
    return ""
