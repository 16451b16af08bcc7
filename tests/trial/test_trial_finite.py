"""Nothing that is not finite, and no map that is none, becomes a number; the judge is float32 whatever is around."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.toys import STD, ToyNet, pictures, seeded
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Cell, ClassifierOptions, Found, ImageErrors, Images, Job, JudgeUnit, Photo, Record, TargetMap
from underfire.images import pixels
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import Grad
from underfire.metrics.summary import summarise
from underfire.registry import door_of
from underfire.trial.alarms import Alarms
from underfire.trial.goal import look
from underfire.trial.load import Loaded, load
from underfire.trial.rejudge import rejudge
from underfire.trial.system import System
from underfire.trial.trial import Trial
from underfire.trial.yardstick import measure_scale

SIZE, N = 24, 3


class Gamma(nn.Module):
    """A toy behind x^(1/2.2), whose slope at black is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.base = seeded(ToyNet(), 1).float()
        self.head: nn.Module = self.base.get_submodule("head")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.maps(x).mean((2, 3)))
        return logits

    def maps(self, x: Tensor) -> Tensor:
        base = self.base
        assert isinstance(base, ToyNet)
        found: Tensor = base.last(base.second(nn.functional.softplus(base.first((x ** (1 / 2.2) - 0.5) / STD))))
        return found


def gamma() -> TorchClassifier:
    module = Gamma()
    known: dict[str, Any] = {"input_size": SIZE, "resize": SIZE, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return wrap(module, **known, name="gamma", features=module.maps)


def loaded(classifier: TorchClassifier, levels: Any) -> Loaded:
    photos = [Photo(f"p{i}.png", str(i)) for i in range(len(levels))]
    content = dict(zip(photos, map(pixels.encode_png, levels), strict=True))
    return load(photos, content.__getitem__, door_of(classifier), classifier.preprocess)


def job(attack: Any, against: str | None, target: Any = "least-likely") -> Job:
    return Job(
        source="",
        classifier="toy",
        options=ClassifierOptions(),
        interpreters=("cam",),
        interpreter_options={},
        cells=(Cell(attack, against),),
        preset="fast",
        eps=8,
        target=target,
        seed=0,
        threads=1,
        precision="fp32",
        device="cpu",
    )


def run(classifier: TorchClassifier, interpreter: Any, made: Any, levels: Any) -> list[Record]:
    against = interpreter.name if made.fools_interpreter else None
    trial = Trial(
        System(classifier, {interpreter.name: interpreter}), job(made, against), "u", loaded(classifier, levels)
    )
    trial.run()
    return trial.records


def black_in(row: int, levels: Any) -> Any:
    levels = np.maximum(levels, 9)
    levels[row, 3:5, 3:5] = 0
    return levels


@pytest.mark.parametrize("maker", [pgd, adv2, stadv, adv2_stadv])
def test_an_image_whose_gradient_is_not_finite_has_an_error_and_the_others_a_result(maker: Any) -> None:
    classifier = gamma()
    levels = black_in(1, pixels.to_levels(pictures(N, 5, SIZE)))
    made = maker.make("fast", "cam", 8, steps=4)
    records = run(classifier, Cam(classifier), made, levels)
    assert [r.error is None for r in records] == [True, False, True]
    assert str(records[1].error).startswith("'p1.png': in the search the gradient of ℓ_prd is not finite")
    alone = run(classifier, Cam(classifier), made, levels[[0, 2]])
    assert [r.passes for r in records if not r.error] == [r.passes for r in alone]
    assert [r.confidence for r in records if not r.error] == [r.confidence for r in alone]


@dataclass(frozen=True)
class Returns:
    """Returns something that is not finite for the second image."""

    name: str = "returns"
    fools_interpreter: bool = False
    eps: int | None = None
    column: str = ""

    def bound(self, step_passes: float) -> float:
        return step_passes

    def run(self, victim: Any, x: Images, goal: Any, seeds: Any) -> Found:
        extras = {self.column: torch.zeros(len(x))} if self.column else {}
        if len(x) == N:
            (extras[self.column] if self.column else x)[1] = math.inf
        return Found(x, torch.ones(len(x), dtype=torch.int64), extras)


@pytest.mark.parametrize("column", ["", "flow_mean_px"])
def test_what_an_attack_returns_is_finite(column: str) -> None:
    classifier = gamma()
    records = run(classifier, Cam(classifier), Returns(column=column), pixels.to_levels(pictures(N, 5, SIZE)))
    said = f"'p1.png': 'returns' returned {column or 'pixels'} that are not finite."
    assert [r.error for r in records] == [None, said, None]


def flat(levels: Any) -> TorchClassifier:
    """A classifier whose features are the same everywhere on the second picture."""
    classifier = gamma()
    module: Any = classifier.module
    inner, first = module.maps, pixels.to_tensor(levels)[1, :, 0, 0]

    def maps(x: Tensor) -> Tensor:
        found: Tensor = inner(x)
        same = (x[:, :, 0, 0] - first).abs().amax(1) < 0.04
        return torch.where(same[:, None, None, None], found.mean((2, 3), keepdim=True).expand_as(found), found)

    module.maps = classifier._features = maps
    return classifier


def test_a_cam_that_is_the_same_everywhere_is_no_map() -> None:
    levels = pixels.to_levels(pictures(N, 5, SIZE))
    classifier = flat(levels)
    records = run(classifier, Cam(classifier), pgd.make("fast", None, 8, steps=2), levels)
    why = "'p1.png': the evidence is the same everywhere, so there is no map."
    assert [r.error for r in records] == [None, why, None]
    assert records[1].map_iou is None


class Nothing(Cam):
    """Shows nothing, as a third party's may."""

    name = "nothing"

    def explain(self, x: Images, y: Tensor) -> Tensor:
        return x.new_zeros(len(x), 6, 6)


def test_nor_is_any_other_interpreters() -> None:
    classifier = gamma()
    levels = pixels.to_levels(pictures(N, 5, SIZE))
    records = run(classifier, Nothing(classifier), pgd.make("fast", None, 8, steps=2), levels)
    assert all("nothing's map is the same everywhere" in str(r.error) for r in records)


@pytest.mark.parametrize("interpreter", [Cam, Grad])
def test_an_enclosing_autocast_changes_nothing(interpreter: Any) -> None:
    classifier = gamma()
    levels = np.maximum(pixels.to_levels(pictures(N, 5, SIZE)), 9)
    made = adv2.make("fast", interpreter.name, 8, steps=4, warmup=0)
    one = interpreter(classifier)

    def all_of() -> tuple[list[Record], Any]:
        records = run(classifier, one, made, levels)
        return records, measure_scale(System(classifier, {one.name: one}), [loaded(classifier, levels)])

    plain = all_of()
    with torch.autocast("cpu", torch.bfloat16):
        inside = all_of()
    for before, after in zip([*plain[0], *plain[1]], [*inside[0], *inside[1]], strict=True):
        assert {k: v for k, v in vars(before).items() if k != "seconds"} == {
            k: v for k, v in vars(after).items() if k != "seconds"
        }


def test_nor_does_a_block_without_gradients() -> None:
    classifier = gamma()
    levels = np.maximum(pixels.to_levels(pictures(N, 5, SIZE)), 9)
    made = adv2.make("fast", "cam", 8, steps=4)
    plain = run(classifier, Cam(classifier), made, levels)
    with torch.no_grad():
        inside = run(classifier, Cam(classifier), made, levels)
    assert [(r.error, r.confidence, r.map_l1) for r in inside] == [(r.error, r.confidence, r.map_l1) for r in plain]


class Picky(nn.Module):
    """A network whose scores are not finite for pictures that are lighter than one of them."""

    def __init__(self, lightest: float) -> None:
        super().__init__()
        self.base, self.lightest = Gamma(), lightest

    def forward(self, x: Tensor) -> Tensor:
        light = x.mean((1, 2, 3))[:, None] > self.lightest
        logits: Tensor = torch.where(light, math.nan, self.base(x))
        return logits


def picky(levels: Any) -> TorchClassifier:
    lightest = float(pixels.to_tensor(levels).mean((1, 2, 3)).max()) + 1e-4
    return wrap(Picky(lightest), input_size=SIZE, resize=SIZE, mean=(0, 0, 0), std=(1, 1, 1), name="picky")


@dataclass(frozen=True)
class Lighter(Returns):
    """Makes every picture lighter by a level, and asks nobody."""

    def run(self, victim: Any, x: Images, goal: Any, seeds: Any) -> Found:
        return Found((x + 1 / 255).clamp(0, 1), torch.ones(len(x), dtype=torch.int64))


def test_scores_of_a_forged_picture_that_are_not_finite_are_no_judgement() -> None:
    levels = np.minimum(pixels.to_levels(pictures(N, 5, SIZE)), 250)
    lightest = int(levels.mean((1, 2, 3)).argmax())
    classifier = picky(levels)
    records = run(classifier, Grad(classifier), Lighter(), levels)
    assert [r.error is None for r in records] == [i != lightest for i in range(N)]
    assert str(records[lightest].error).endswith("scores of the adversarial picture are not finite.")
    assert records[lightest].success is None


class Lost(Cam):
    """Has maps of photos, and none of the second forged picture."""

    asked = 0

    def explain(self, x: Images, y: Tensor) -> Tensor:
        self.asked += 1
        if self.asked > 1 and len(x) == N:
            raise ImageErrors({1: "it is gone."})
        return super().explain(x, y)


def test_a_picture_without_a_map_keeps_its_prediction_and_counts() -> None:
    levels = pixels.to_levels(pictures(N, 5, SIZE))
    classifier = gamma()
    records = run(classifier, Lost(classifier), Lighter(), levels)
    lost, other = records[1], records[0]
    assert lost.error == "'p1.png': it is gone." and other.error is None
    assert (lost.map_l1, lost.iou_curve, lost.adversarial_map) == (None, None, None)
    assert lost.success is not None and lost.confidence is not None
    assert lost.linf_levels is not None and lost.passes is not None and lost.adversarial is not None
    rows = [{**vars(r), "untouched_l1": 1.0, "forged": None if r.error else r.success} for r in records]
    (found,) = summarise(rows)
    assert (found.n, found.errors, found.forged.n, found.success.n) == (N - 1, 1, N, N)
    assert found.forged.value == sum(bool(r.success) for r in records if r.error is None) / N


def test_nor_are_those_of_a_photo_whose_map_is_wanted() -> None:
    levels = np.minimum(pixels.to_levels(pictures(N, 5, SIZE)), 100)
    classifier = picky(levels)
    wanted = levels.copy()
    wanted[1] += 100
    kind = replace(job(Lighter(), None), target_map=TargetMap("image", "random"))
    batch = look(System(classifier, {}), kind, loaded(classifier, levels), loaded(classifier, wanted))
    assert batch.reference is not None
    assert batch.reference.errors == {1: "'p1.png': the scores of the photo whose map is wanted are not finite."}


def test_a_score_that_is_no_number_is_an_alarm() -> None:
    scores = torch.tensor([0.1, 0.9, math.nan, math.inf, -math.inf])
    assert Alarms(scores, 0.5, torch.zeros(5)).raised.tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("judge", ["picky", "nothing"])
def test_a_judge_that_sees_the_pictures_later_has_the_same_errors(judge: str, tmp_path: Path) -> None:
    levels = np.minimum(pixels.to_levels(pictures(N, 5, SIZE)), 250)
    first = gamma()
    made = job(pgd.make("fast", None, 8, steps=1), None)
    trial = Trial(System(first, {"cam": Cam(first)}), made, "u", loaded(first, levels))
    trial.run()
    for name, content in trial.files.items():
        (tmp_path / "images/u" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images/u" / name).write_bytes(content)
    other = picky(np.full_like(levels, 0)) if judge == "picky" else first
    one: Any = Grad(other) if judge == "picky" else Nothing(other)
    unit = JudgeUnit(
        "v",
        tuple(Photo(r.image, r.image_sha256) for r in trial.records),
        replace(made, source=str(tmp_path), interpreters=(one.name,)),
        tuple(trial.records),
    )
    rows = rejudge(unit, System(other, {one.name: one})).rows
    said = "scores are not finite" if judge == "picky" else "the same everywhere"
    assert [said in str(r.error) for r in rows] == [True] * N, [r.error for r in rows]
