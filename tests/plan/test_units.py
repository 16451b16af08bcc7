"""How an audit is cut into units: nothing twice, nothing left out, and the same whoever works."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import Cell, ClassifierOptions, ForgeUnit, Job, Photo, TargetMap, evenly
from underfire.plan.cost import UNIT_PASSES, Lane
from underfire.plan.settings import Settings
from underfire.plan.units import SCALE_PHOTOS, SHARES, TAPER, UNIT_PHOTOS, Plan, unit_sizes

COUNTS = st.integers(1, 3000)
BATCHES = st.integers(1, 80)
INTERPRETERS = ("cam", "grad", "mask")
CELLS = (Cell(pgd.make("fast", None, 8), None), *(Cell(adv2.make("fast", i, 8), i) for i in INTERPRETERS))


def photos_of(n: int) -> tuple[Photo, ...]:
    return tuple(Photo(f"{i:04d}.png", f"digest {i}") for i in range(n))


def plan_of(n: int, lanes: Sequence[Lane], *, device: str = "cpu", target_map: str = "benign", **given: Any) -> Plan:
    """A plan that nobody had to build a classifier for."""
    names = tuple(name for lane in lanes for name in lane.interpreters)
    settings = Settings.parse({"images": "photos", "interpreter": names, "attack": ("pgd", "adv2"), **given})
    kind, _, value = target_map.partition(":")
    job = Job(
        source="photos",
        classifier="toy",
        options=ClassifierOptions(),
        interpreters=names,
        interpreter_options={},
        cells=tuple(cell for cell in CELLS if cell.against is None or cell.against in names),
        preset="fast",
        eps=8,
        target="random",
        seed=settings.seed,
        threads=settings.threads or 1,
        precision="fp32",
        device=device,
        target_map=TargetMap(kind, value),
    )
    return Plan(settings, job, photos_of(n), "weights", "classes", (100.0,) * len(job.cells), tuple(lanes), 10.0)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to three lanes, each with its own cost and batch, as `lanes_of` gives them."""
    device = draw(st.sampled_from(list(UNIT_PASSES)))
    lanes = []
    for name in draw(st.lists(st.sampled_from(INTERPRETERS), min_size=1, unique=True)):
        cells = tuple(cell for cell in CELLS if cell.against in (None, name))
        lanes.append(Lane((name,), cells, draw(st.floats(1, 30_000)), len(cells), draw(BATCHES)))
    return plan_of(draw(st.integers(1, 700)), lanes, device=device)


# -- sizes ------------------------------------------------------------------------------------------------------------


@given(COUNTS, BATCHES, st.integers(1, 200))
def test_sizes_add_up_and_hold_at_most_what_they_should(n: int, batch: int, most: int) -> None:
    sizes = list(unit_sizes(n, batch, most))
    assert sum(sizes) == n
    assert min(sizes) >= 1
    assert max(sizes) <= max(batch, most)


@given(COUNTS, BATCHES, st.integers(1, 200))
def test_units_are_equal_but_for_smaller_ones_at_the_end(n: int, batch: int, most: int) -> None:
    sizes = list(unit_sizes(n, batch, most))
    ends = list(itertools.accumulate(sizes))
    main = [size for size, end in zip(sizes, ends, strict=True) if end <= n - n // TAPER]
    tail = sizes[len(main) :]
    assert max(main, default=0) - min(main, default=0) <= 1
    assert not main or max(main) < 4 or max(tail, default=1) <= max(main) // 2


@given(BATCHES, st.integers(1, 5))
def test_where_it_comes_out_even_units_are_whole_batches(batch: int, batches: int) -> None:
    size = batch * batches
    sizes = list(unit_sizes(SHARES * TAPER * size, batch, size))
    assert sizes[: SHARES * (TAPER - 1)] == [size] * SHARES * (TAPER - 1)


@given(COUNTS, BATCHES, st.integers(1, 200))
def test_a_large_audit_gives_many_workers_something_to_do(n: int, batch: int, most: int) -> None:
    units = len(list(unit_sizes(n, batch, most)))
    assert units >= min(SHARES, n // batch)


# -- units ------------------------------------------------------------------------------------------------------------


@given(plans())
def test_every_photo_is_in_exactly_one_unit_of_each_lane(plan: Plan) -> None:
    found: dict[tuple[str, ...], list[Photo]] = {lane.interpreters: [] for lane in plan.lanes}
    for unit in plan.units():
        found[unit.job.interpreters] += unit.photos
    assert all(tuple(photos) == plan.photos for photos in found.values())


@given(plans())
def test_a_unit_has_its_lanes_attacks_and_batch_and_is_no_larger_than_a_worker_can_hold(plan: Plan) -> None:
    lanes = {lane.interpreters: lane for lane in plan.lanes}
    for unit in plan.units():
        lane = lanes[unit.job.interpreters]
        assert (unit.job.cells, unit.batch) == (lane.cells, lane.batch)
        assert len(unit.photos) <= max(lane.batch, UNIT_PHOTOS[ForgeUnit.stage])
        assert len(unit.photos) <= lane.batch or len(unit.photos) * lane.passes <= UNIT_PASSES[plan.job.device]


@pytest.mark.parametrize(("passes", "most"), [(1.0, UNIT_PHOTOS[ForgeUnit.stage]), (5000.0, 8)])
def test_a_large_audits_units_are_as_large_as_they_may_be(passes: float, most: int) -> None:
    plan = plan_of(20_000, [Lane(("cam",), CELLS[:2], passes, 2, 2)])
    sizes = [len(unit.photos) for unit in plan.units()]
    assert max(sizes) == most
    assert max(len(unit.photos) for unit in plan.scale_units()) == 20_000 // SHARES


@given(plans())
def test_the_rows_of_all_units_are_the_plans(plan: Plan) -> None:
    assert sum(unit.size for unit in plan.units()) == plan.rows


@given(plans())
def test_lanes_come_equally_far(plan: Plan) -> None:
    """Whenever a unit starts, no other lane has a unit left that starts earlier in the photos."""
    first = {photo: i for i, photo in enumerate(plan.photos)}
    starts = [first[unit.photos[0]] for unit in plan.units()]
    assert starts == sorted(starts)


@given(plans())
def test_scale_units_have_every_photo_once_an_interpreter_or_evenly_spaced_ones_where_maps_are_dear(plan: Plan) -> None:
    found: dict[str, list[Photo]] = {name: [] for name in plan.job.interpreters}
    for unit in plan.scale_units():
        found[unit.job.interpreters[0]] += unit.photos
    for name, photos in found.items():
        assert tuple(photos) == evenly(plan.photos, SCALE_PHOTOS.get(name))


@given(plans())
def test_names_are_unique_and_stable(plan: Plan) -> None:
    again = dataclasses.replace(plan)
    for units in ("units", "scale_units"):
        names = [unit.name for unit in getattr(plan, units)()]
        keys = [name.rpartition("-")[2] for name in names]  # what is done, without its place in the plan
        assert max(Counter(names).values()) == max(Counter(keys).values()) == 1
        assert [unit.name for unit in getattr(again, units)()] == names


LANES = (
    Lane(("cam", "grad"), CELLS[:3], 120.0, 4, 4),
    Lane(("mask",), (CELLS[0], CELLS[3]), 9000.0, 2, 3),
)


def names(plan: Plan) -> list[str]:
    return [unit.name for unit in plan.all_units()]


@given(workers=st.integers(1, 64), executor=st.sampled_from(["local", "ray"]), gpus=st.sampled_from([None, 0.5, 2.0]))
def test_who_works_changes_no_unit(workers: int, executor: str, gpus: float | None) -> None:
    where: dict[str, Any] = {
        "workers": workers,
        "executor": executor,
        "gpus": gpus,
        "address": "auto",
        "images": "elsewhere",
    }
    assert names(plan_of(50, LANES, **where)) == names(plan_of(50, LANES))


@pytest.mark.parametrize("change", [{"seed": 1}, {"eps": 4}, {"threads": 2}, {"target": "least-likely"}])
def test_what_changes_numbers_changes_every_name(change: dict[str, Any]) -> None:
    assert not set(names(plan_of(50, LANES, **change))) & set(names(plan_of(50, LANES)))


def test_another_photo_or_another_weight_changes_every_name() -> None:
    plan = plan_of(50, LANES)
    for other in (plan_of(51, LANES), dataclasses.replace(plan, weights_digest="others")):
        assert not set(names(other)) & set(names(plan))


@given(st.integers(2, 60), st.integers(0, 9))
def test_each_photo_has_a_reference_that_is_another_one_whatever_its_unit(n: int, seed: int) -> None:
    plan = plan_of(n, LANES, seed=seed, target_map="image:random")
    found: dict[Photo, set[Photo]] = {photo: set() for photo in plan.photos}
    for unit in plan.units():
        assert len(unit.references) == len(unit.photos)
        for photo, reference in zip(unit.photos, unit.references, strict=True):
            found[photo].add(reference)
    assert all(len(of) == 1 and photo not in of for photo, of in found.items())
    assert not any(unit.references for unit in plan_of(n, LANES).units())


# -- limits -----------------------------------------------------------------------------------------------------------


@given(COUNTS, st.integers(1, 500))
def test_a_limits_photos_are_among_those_of_twice_the_limit(n: int, limit: int) -> None:
    photos = photos_of(n)
    some, more = evenly(photos, limit), evenly(photos, 2 * limit)
    assert len(some) == min(n, limit)
    assert set(some) <= set(more)
    assert list(some) == sorted(some, key=photos.index)


@given(COUNTS, st.integers(1, 500))
def test_a_limits_photos_are_evenly_spaced_from_the_first_on(n: int, limit: int) -> None:
    places = evenly(range(n), limit)
    gaps = [b - a for a, b in itertools.pairwise([*places, n])]
    assert places[0] == 0
    assert max(gaps) - min(gaps) <= 1
