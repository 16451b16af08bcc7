"""A trial of toys: what a batch is, who is set aside and why, and that the others never notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from support.toys import pictures, toy
from underfire.classifiers.base import TorchClassifier
from underfire.core import (
    COLUMNS,
    Cell,
    ClassifierOptions,
    Found,
    ImageErrors,
    Images,
    Job,
    Labels,
    Maps,
    Photo,
    TargetMap,
)
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.interpreters.cam import Cam
from underfire.interpreters.checked import explain
from underfire.registry import door_of
from underfire.trial.batch import Batch
from underfire.trial.forge import forge, goal_of
from underfire.trial.goal import look
from underfire.trial.load import Loaded, load
from underfire.trial.system import System
from underfire.trial.trial import Trial

N, FIRST = 5, 10


class Fickle(Cam):
    """CAM that cannot explain images it is told of by their mean."""

    name = "fickle"

    def __init__(self, classifier: TorchClassifier, blind: tuple[float, ...]) -> None:
        super().__init__(classifier)
        self.blind = blind

    def explain(self, x: Images, y: Labels) -> Maps:
        bad = [n for n, one in enumerate(x) if any(abs(float(one.mean()) - mean) < 1e-6 for mean in self.blind)]
        if bad:
            raise ImageErrors(dict.fromkeys(bad, "too dark"))
        return super().explain(x, y)


@dataclass(frozen=True)
class Shift:
    """Adds a level to every pixel, and more to the images in these places of its batch."""

    name: ClassVar[str] = "shift"
    fools_interpreter: ClassVar[bool] = False
    eps: int | None = 1
    over: tuple[int, ...] = ()

    def bound(self, step_passes: float) -> float:
        return step_passes

    def run(self, victim: Any, x: Images, goal: Any, seeds: Any) -> Found:
        victim.classifier.logits(x)
        x += 1 / 255  # an attack may write where it likes
        for n in self.over if len(x) == N else ():
            x[n] += 3 / 255
        return Found(x.clamp(0, 1), torch.ones(len(x), dtype=torch.int64))


def cell_of(attack: Any) -> Cell:
    return Cell(attack, None)


CELL = cell_of(Shift())


def job(cell: Cell, **more: Any) -> Job:
    known: dict[str, Any] = {
        "source": "",
        "classifier": "toy",
        "options": ClassifierOptions(),
        "interpreters": ("cam",),
        "interpreter_options": {},
        "preset": "fast",
        "eps": 8,
        "target": "least-likely",
        "seed": 0,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
    }
    return Job(cells=(cell,), **known | more)


def system(blind: tuple[float, ...] | None = None) -> System:
    classifier = toy()
    cam = Cam(classifier)
    return System(classifier, {"cam": cam} if blind is None else {"cam": cam, "fickle": Fickle(classifier, blind)})


def loaded(broken: tuple[int, ...] = ()) -> Loaded:
    photos = [Photo(f"p{i}.png", str(i)) for i in range(N)]
    png = [pixels.encode_png(levels) for levels in pixels.to_levels(pictures(N, 3, 24))]
    content = {photo: b"nothing" if i in broken else png[i] for i, photo in enumerate(photos)}
    return load(photos, content.__getitem__, door_of(toy()), toy().preprocess, FIRST)


def means(batch: Batch) -> list[float]:
    return [float(one.mean()) for one in batch.x]


def test_a_batch_selects_all_that_it_holds() -> None:
    whole = look(system(()), job(CELL, target_map=TargetMap("class", "random")), loaded())
    assert whole.rows == tuple(range(FIRST, FIRST + N))
    part = whole.select(torch.tensor([3, 1]))
    mask = whole.select(torch.tensor([False, True, False, True, False]))
    assert part.rows == (FIRST + 3, FIRST + 1) == mask.rows[::-1]
    assert [p.path for p in part.photos] == ["p3.png", "p1.png"]
    np.testing.assert_array_equal(part.levels[0], whole.levels[3])
    assert part.reference is not None and whole.reference is not None
    assert part.reference.of == (whole.reference.of[3], whole.reference.of[1])
    for column in ("x", "source", "confidence", "target", "passes"):
        torch.testing.assert_close(getattr(part, column)[0], getattr(whole, column)[3], rtol=0, atol=0)
        assert len(getattr(part, column)) == 2
    for column in ("benign", "wanted", "passes"):
        for name in ("cam", "fickle"):
            got, had = getattr(part.goals[name], column), getattr(whole.goals[name], column)
            torch.testing.assert_close(got[0], had[3], rtol=0, atol=0)


def test_what_was_said_first_of_an_image_stays_said() -> None:
    batch = look(system(), job(CELL), loaded()).without({FIRST: "first"}).without({FIRST: "second", FIRST + 2: "third"})
    assert batch.rows == (FIRST + 1, FIRST + 3, FIRST + 4)
    assert batch.errors == {FIRST: "first", FIRST + 2: "third"}
    assert batch.told({0: "why"}, "about ") == {FIRST + 1: "'p1.png': about why"}


def test_maps_that_fail_are_nan_and_named_by_row() -> None:
    one = system(())
    x = look(one, job(CELL), loaded()).x
    y = torch.zeros(N, dtype=torch.int64)
    fickle = Fickle(toy(), (float(x[1].mean()), float(x[4].mean())))
    m, errors = explain(fickle, x.double(), y)
    assert errors == {1: "too dark", 4: "too dark"}
    assert m.isnan().flatten(1).all(1).tolist() == [False, True, False, False, True]
    fickle.blind = tuple(float(one.mean()) for one in x)
    m, errors = explain(fickle, x.double(), y)
    assert (len(m), sorted(errors)) == (N, list(range(N)))


@pytest.mark.parametrize("kind", [TargetMap(), TargetMap("class", "random"), TargetMap("shape", "box")])
def test_images_are_set_aside_one_by_one_and_the_others_never_notice(kind: TargetMap) -> None:
    clean = look(system(), job(CELL), loaded())
    whole = Trial(system(()), job(CELL, target_map=kind), "u", loaded())
    whole.run()
    cell = cell_of(Shift(over=(3,)))
    some = Trial(system((means(clean)[1],)), job(cell, target_map=kind), "u", loaded())
    some.run()
    why = {(r.interpreter, r.image): r.error for r in some.records if r.error}
    budget = "'p3.png': shift left its budget: 4 of 1 levels."
    assert why == {("cam", "p3.png"): budget, ("fickle", "p3.png"): budget, ("fickle", "p1.png"): "'p1.png': too dark"}
    assert [(r.interpreter, r.image) for r in some.records] == [(r.interpreter, r.image) for r in whole.records]
    for before, after in zip(whole.records, some.records, strict=True):
        if after.error is None:
            # What a map that fails did not cost is shared by its batch.
            for column in set(COLUMNS) - {"seconds", "goal_passes"}:
                assert getattr(after, column) == pytest.approx(getattr(before, column), abs=1e-5), column
    for forged, judged in some.seen:
        assert forged.clean.rows == judged.clean.rows
        for row, levels in zip(forged.clean.rows, forged.levels, strict=True):
            png = some.files[f"{row:03d}-p{row - FIRST}.shift.png"]
            np.testing.assert_array_equal(decode_png(png), levels)
    stored = {f"images/u/{name}" for name in some.files}
    files = ("clean", "adversarial", "clean_map", "wanted_map", "adversarial_map")
    assert {getattr(r, column) for r in some.records for column in files if not r.error} <= stored


def test_a_photo_that_cannot_be_read_has_its_rows_and_no_numbers() -> None:
    trial = Trial(system(()), job(CELL), "u", loaded((0, 2)))
    trial.run()
    bad = [r for r in trial.records if r.error]
    assert [(r.interpreter, r.image) for r in bad] == [(i, p) for i in ("cam", "fickle") for p in ("p0.png", "p2.png")]
    assert all(r.map_l1 is None and "no image" in str(r.error) for r in bad)
    assert len(trial.records) == 2 * N


def test_none_left_is_no_error() -> None:
    trial = Trial(system(()), job(CELL, target_map=TargetMap("class", "random")), "u", loaded(tuple(range(N))))
    trial.run()
    assert len(trial.records) == 2 * N
    assert all(r.error for r in trial.records)
    assert trial.files == {}


def test_a_photo_whose_reference_cannot_be_read_has_no_goal_map() -> None:
    kind, references, one = TargetMap("image", "random"), loaded((1,)), system()
    batch = look(one, job(CELL, target_map=kind), loaded(), references)
    assert batch.goals["cam"].errors == {FIRST + 1: "'p1.png': the photo whose map is wanted cannot be read."}
    assert batch.reference is not None
    assert batch.reference.of == ("p0.png", "p1.png", "p2.png", "p3.png", "p4.png")
    assert batch.passes.tolist() == [2, 1, 2, 2, 2]
    able = batch.without(batch.goals["cam"].errors)
    torch.testing.assert_close(able.goals["cam"].benign, able.goals["cam"].wanted)  # each wants its own
    assert goal_of(job(CELL), batch, ()).references is None
    wanted = goal_of(job(CELL), able, ("cam",)).references
    assert wanted is not None and bool((wanted[0] == able.x).all())
    trial = Trial(one, job(CELL, target_map=kind), "u", loaded(), references)
    trial.run()
    assert {r.image: r.error for r in trial.records if r.error} == {"p1.png": batch.goals["cam"].errors[FIRST + 1]}


def test_passes_are_those_of_each_look() -> None:
    trial = Trial(system(), job(CELL, target_map=TargetMap("class", "random")), "u", loaded())
    trial.run()
    record = trial.records[0]
    assert (record.goal_passes, record.passes, record.judge_passes) == (3, 1, 2)


def test_an_attack_that_writes_into_its_images_changes_no_photo() -> None:
    one = system()
    batch = look(one, job(CELL), loaded())
    before = batch.x.clone()
    forged = forge(one, job(CELL), CELL, batch)
    assert bool((batch.x == before).all())
    assert forged.linf.tolist() == [1] * N


def test_an_attack_that_breaks_is_told_of_every_image() -> None:
    class Broken(Shift):
        def run(self, victim: Any, x: Images, goal: Any, seeds: Any) -> Found:
            raise ZeroDivisionError("nothing")

    forged = forge(system(), job(CELL), cell_of(Broken()), look(system(), job(CELL), loaded()))
    assert len(forged.clean) == 0
    assert set(forged.clean.errors.values()) == {"'shift' failed: ZeroDivisionError: nothing"}
