"""The yardstick against a slow replica, its coverage by simulation, and the verdicts that it gives."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underfire.core import DamagedFileError, MismatchError, NotFoundError, OtherVersionError, TooFewError
from underfire.metrics.ranked import RankedPhoto, yardsticks
from underfire.metrics.verdict import Named, OldScale, verdict
from underfire.metrics.yardstick import IMPOSTORS, PhotoDistances, Yardstick, flat, triple, triples
from underfire.metrics.yardstick_file import YardstickFile, read

TYPICAL = np.array([0.02, 0.1, 0.05])


def photos(n: int, seed: int = 0, near: tuple[str, ...] = ()) -> tuple[PhotoDistances, ...]:
    """Photos of different sensitivity; impostors lie far away, but those that ``near`` names among the copies."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, 0.6, (n, 1, 1))) * TYPICAL
    d = scale * np.exp(rng.normal(0, 0.5, (n, 8, 3)))
    wrong = {name: TYPICAL * (0.1 if name in near else 10) for name in IMPOSTORS}
    return tuple(
        PhotoDistances(f"{seed}-{i}", tuple(map(tuple, own.tolist())), {k: tuple(v) for k, v in wrong.items()})
        for i, own in enumerate(d)
    )


def slow_limits(given: tuple[PhotoDistances, ...], share: float) -> list[float]:
    """The definition written out, with loops."""

    def units(some: list[PhotoDistances]) -> list[float]:
        found = []
        for k in range(3):
            pairs = sorted((d[k], 1 / len(one.copies)) for one in some for d in one.copies)
            reached, need = 0.0, (1 - share) * len(some)
            for value, weight in pairs:
                reached += weight
                if reached >= need - 1e-7:
                    found.append(value)
                    break
        return found

    scores = []
    for one in given:
        rest = units([other for other in given if other is not one])
        drawn = int(hashlib.sha256(f"copy/{one.sha256}".encode()).hexdigest(), 16) % len(one.copies)
        scores.append(max(d / unit for d, unit in zip(one.copies[drawn], rest, strict=True)))
    r = math.ceil((len(given) + 1) * (1 - share) - 1e-9)
    return [sorted(scores)[r - 1] * unit for unit in units(list(given))]


@pytest.mark.parametrize(("n", "share"), [(19, 0.05), (33, 0.1)])
def test_limits_are_those_of_the_definition(n: int, share: float) -> None:
    some = photos(n)
    uneven = (*some[1:], PhotoDistances("x", some[0].copies[:3], {}))
    assert Yardstick(uneven, share).limits == pytest.approx(slow_limits(uneven, share), rel=1e-12)


@pytest.mark.parametrize(("n", "yardsticks"), [(19, 150), (50, 80), (200, 20)])
def test_a_new_photos_copy_is_kept_as_often_as_promised(n: int, yardsticks: int) -> None:
    kept = []
    for seed in range(yardsticks):
        made = Yardstick(photos(n, seed))
        new = np.array([one.copies for one in photos(150, 10_000 + seed)])
        kept.append(float(((new / made.limits).max(2) <= 1).mean()))
    assert np.mean(kept) == pytest.approx(0.95, abs=0.02)


def test_too_few_photos_give_no_yardstick() -> None:
    with pytest.raises(TooFewError, match="19"):
        Yardstick(photos(18))


def test_a_map_must_be_near_by_every_distance() -> None:
    made = Yardstick(photos(40))
    l1, iou, rank = (0.99 * made.limits).tolist()
    assert made.untouched((l1, iou, rank))
    for k in range(3):
        one = [l1, iou, rank]
        one[k] *= 1.02
        assert not made.untouched((one[0], one[1], one[2]))


def test_power_is_the_share_of_wrong_maps_that_are_rejected() -> None:
    made = Yardstick(photos(60, near=("mean_map", "class_swap")))
    assert {name: e.value for name, e in made.power.items()} == {
        "pgd": 1.0,
        "other_photo": 1.0,
        "mean_map": 0.0,
        "class_swap": 0.0,
    }
    assert made.weakest == made.power["mean_map"]
    assert not made.tells
    assert made.class_blind
    blind = Yardstick(photos(60, near=("class_swap",)))
    assert blind.tells  # a map that hardly depends on the class may still be forged or not
    assert blind.class_blind


def test_false_rejects_are_counted_on_photos_that_the_yardstick_has_not_seen() -> None:
    value = Yardstick(photos(100)).false_rejects.value
    assert value == pytest.approx(0.05, abs=0.03)


def test_columns_of_distances_are_read_as_they_were_written() -> None:
    given = [(0.1, 0.2, 0.3), None, (0.4, 0.5, 0.6)]
    assert triples(flat(given)) == given
    assert triples(None) == []


def test_a_constant_map_has_no_order_and_a_drawn_one_no_rank() -> None:
    assert triple(0.1, 0.75, None) == (0.1, 0.25, 1.0)
    assert triple(0.1, 0.75, 0.2, drawn=True) == (0.1, 0.25, 0.0)


def judged(l1: float, iou: float, rank: float, **more: Any) -> dict[str, Any]:
    row = {"interpreter": "cam", "success": True, "target_map": "benign"}
    return row | {"map_l1": l1, "map_iou": iou, "map_rank": rank} | more


def test_a_verdict_needs_the_yardstick_and_the_row_alone() -> None:
    made = Yardstick(photos(40))
    rulers = {"cam": Named(made, "abc")}
    near = verdict(judged(0.001, 0.999, 0.999), rulers)
    assert (near.untouched, near.forged, near.yardstick, near.power) == (True, True, "abc", 1.0)
    assert near.untouched_l1 == pytest.approx(made.limits[0])
    far = verdict(judged(0.001, 0.999, 0.2), rulers)  # L1 alone would have passed it
    assert (far.untouched, far.forged) == (False, False)
    assert far.map_distance == pytest.approx(0.8 / made.limits[2])
    assert verdict(judged(0.001, 0.999, 0.2, target_map="shape:circle"), rulers).untouched
    assert verdict(judged(0.001, 0.999, 0.999, success=False), rulers).forged is False


def test_without_a_yardstick_there_is_no_verdict_and_the_old_rule_says_that_it_is_old() -> None:
    row = judged(0.02, 0.1, 0.1)
    assert verdict(row, {}).untouched is None
    old = verdict(row, {"cam": OldScale(0.03)})
    assert (old.untouched, old.yardstick, old.power) == (True, "old scale", None)


# -- the file ---------------------------------------------------------------------------------------------------------


def a_file() -> YardstickFile:
    return YardstickFile("net", "d1", "cam", Yardstick(photos(20)), {"layer": 2}, "d2")


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    a_file().write(tmp_path / "y.json")
    found = read(tmp_path / "y.json")
    assert found == a_file()
    assert found.digest == a_file().digest == json.loads((tmp_path / "y.json").read_text())["seal"]


def ranked_twice() -> YardstickFile:
    """A file whose maps are farther apart by the ranks of their numbers than as they are shown."""
    some = [
        RankedPhoto(
            one.sha256,
            tuple((*d, d[2] / 10) for d in one.copies),
            {name: (*d, 0.9) for name, d in one.impostors.items()},
        )
        for one in photos(40)
    ]
    as_shown, exact = yardsticks(some, 0.05)
    return YardstickFile("net", "d1", "cam", as_shown, exact=exact)


def test_a_file_holds_both_ranks_and_old_ones_stay_what_they_were(tmp_path: Path) -> None:
    made = ranked_twice()
    made.write(tmp_path / "y.json")
    found = read(tmp_path / "y.json")
    assert found == made and found.digest == made.digest
    assert b"yardstick 2" in made.dump() and b"yardstick 1" in a_file().dump()
    assert found.exact is not None
    assert found.exact.photos == Yardstick(photos(40)).photos
    assert found.yardstick.limits[2] < found.exact.limits[2] / 5
    assert [one.copies[0][:2] for one in found.yardstick.photos] == [one.copies[0][:2] for one in photos(40)]


def test_a_row_is_judged_by_the_rank_that_it_has() -> None:
    made = ranked_twice()
    assert made.exact is not None
    rulers = {"cam": Named(made.yardstick, "abc", made.exact)}
    between = (made.yardstick.limits[2] + made.exact.limits[2]) / 2
    before = verdict(judged(0.001, 0.999, 1 - between), rulers)
    assert before.untouched and before.map_distance == pytest.approx(between / made.exact.limits[2])
    for rank in (0.999, -1.0):  # what the numbers say counts for nothing once it is known how the maps look
        assert verdict(judged(0.001, 0.999, rank, map_rank_shown=1 - between), rulers).untouched is False
        assert verdict(judged(0.001, 0.999, rank, map_rank_shown=0.9999), rulers).untouched
    plain = {"cam": Named(made.exact, "abc")}
    assert verdict(judged(0.001, 0.999, 1 - between, map_rank_shown=-1.0), plain).untouched, "a file of before"


@pytest.mark.parametrize(
    ("was", "now", "error"),
    [
        ('"net"', '"other"', DamagedFileError),  # its seal is wrong
        ('"photos"', '"photo"', DamagedFileError),
        ("}\n", "", DamagedFileError),
        ("yardstick 1", "yardstick 9", OtherVersionError),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, was: str, now: str, error: type[Exception]) -> None:
    text = a_file().dump().decode()
    assert was in text
    (tmp_path / "y.json").write_text(now.join(text.rsplit(was, 1)))
    with pytest.raises(error, match=r"y\.json"):
        read(tmp_path / "y.json")


@pytest.mark.parametrize("value", [float("nan"), -1.0, 3.0, "x", [0.1]])
def test_a_sealed_file_with_impossible_numbers_is_refused(tmp_path: Path, value: object) -> None:
    content = json.loads(a_file().dump())
    del content["seal"]
    content["photos"][3]["copies"][0] = [0.1, 0.1, value]
    content["seal"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (tmp_path / "y.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFileError):
        read(tmp_path / "y.json")


def test_a_missing_file_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="underfire yardstick"):
        read(tmp_path / "none.json")


def test_another_networks_yardstick_is_an_error() -> None:
    mine = a_file()
    mine.refuse_other("y.json", "d1", "d2", {"layer": 2})
    for other in (("dx", "d2", {"layer": 2}), ("d1", "dx", {"layer": 2}), ("d1", "d2", {})):
        with pytest.raises(MismatchError, match=r"y\.json"):
            mine.refuse_other("y.json", *other)


def test_where_weights_lie_is_no_setting_since_their_digest_is_known() -> None:
    points = photos(20)
    here = YardstickFile("net", "d1", "rts", Yardstick(points), {"weights": "/here/a.safetensors", "size": 3}, "w1")
    for options in ({"weights": "/there/b.safetensors", "size": 3}, {"size": 3}):
        assert here.fits("d1", "rts", "w1", options)
    assert not here.fits("d1", "rts", "w2", here.options)
    assert not here.fits("d1", "rts", "w1", {"weights": "/here/a.safetensors", "size": 4})
    plain = YardstickFile("net", "d1", "own", Yardstick(points), {"weights": "light"})
    assert not plain.fits("d1", "own", "", {"weights": "heavy"}), (
        "an option like any other where no digest stands for it"
    )
