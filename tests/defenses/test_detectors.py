"""The ensemble by disagreement, squeezing, anybody's detector; files of before; the attacker's slope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from support import toys
from underfire import registry, testing
from underfire.core import (
    Classifier,
    Goal,
    Images,
    Interpreter,
    MismatchError,
    PerImage,
    UnderfireError,
    UnknownNameError,
)
from underfire.core.sealed import seal_of
from underfire.defenses import calibration, slopes
from underfire.defenses.alarm import Alarm
from underfire.defenses.calibrate import calibrate
from underfire.defenses.detector import FunctionDetector, detector_of
from underfire.defenses.ensemble import Disagreement
from underfire.defenses.interpreter import Ensemble
from underfire.defenses.sight import Seen
from underfire.defenses.squeeze import Squeeze
from underfire.defenses.squeezers import SQUEEZERS, fewer_bits, median_copy
from underfire.images import pixels
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import Grad
from underfire.metrics import conformal

THREE = ("cam", "grad", "inputxgrad")


def classifier() -> Any:
    toy = toys.toy()
    plain, features = toy.logits, toy.features
    toy.logits = lambda x: plain(x.double())  # type: ignore[method-assign]
    toy.features = lambda x: features(x.double())  # type: ignore[method-assign]
    return toy


def folder(tmp_path: Path, n: int = 24) -> Path:
    there = tmp_path / "benign"
    there.mkdir()
    for i, levels in enumerate(pixels.to_levels(toys.pictures(n, 0))):
        side = toys.SIZE * 2
        Image.fromarray(levels).resize((side, side), Image.Resampling.NEAREST).save(there / f"{i:03d}.png")
    return there


def learnt(tmp_path: Path, **how: Any) -> Path:
    kind = how.pop("kind", "ensemble")
    known, skipped = calibrate(classifier(), str(folder(tmp_path)), false_alarms=0.2, kind=kind, **how)
    assert not skipped
    known.write(tmp_path / "alarm.json")
    return tmp_path / "alarm.json"


# -- the ensemble -----------------------------------------------------------------------------------------------------


def test_the_ensemble_compares_every_pair_of_members() -> None:
    toy, x = classifier(), toys.pictures(3)
    members = {name: registry.build_interpreter(name, toy, {}) for name in THREE}
    detector = Disagreement(toy, members)
    assert detector.labels == ("cam–grad", "cam–inputxgrad", "grad–inputxgrad")
    y = toy.logits(x).argmax(1)
    found = detector.evidence(Seen(toy, members, x, y))
    for row in range(3):
        cells = [
            torch.nn.functional.adaptive_avg_pool2d(m.explain(x, y)[row][None], 7).flatten().detach().numpy()
            for m in members.values()
        ]
        for column, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            assert float(found[row, column]) == pytest.approx(1 - np.corrcoef(cells[i], cells[j])[0, 1], abs=1e-6)


def test_its_verdict_names_the_pair_and_shows_where(tmp_path: Path) -> None:
    alarm = Alarm(classifier(), str(learnt(tmp_path, members=THREE)))
    assert alarm.name == "ensemble" and alarm.known.names == THREE
    verdict = alarm.check(tmp_path / "benign" / "003.png")
    assert verdict.finding is not None and verdict.finding.what in alarm.detector.labels  # type: ignore[attr-defined]
    assert verdict.finding.where.shape == (7, 7) and verdict.finding.where.max() == 1
    assert verdict.combined.shape == (56, 56) and set(verdict.maps) == set(THREE)
    _, _, evidence = alarm.look(pixels.to_tensor([verdict.levels]))
    mean, covariance = (np.array(alarm.known.learnt[name]) for name in ("mean", "covariance"))
    r = np.log(evidence[0].numpy() + 0.02) - mean
    assert verdict.score == pytest.approx(float(r @ np.linalg.solve(covariance, r)), rel=1e-6)
    z = np.abs(r) / np.sqrt(np.diag(covariance))
    assert verdict.finding.unusual == pytest.approx(z.max()) and verdict.row()["most_unusual"] == verdict.finding.what


def test_one_side_hears_disagreement_alone() -> None:
    toy = toys.toy()
    members: dict[str, Interpreter] = {"cam": Cam(toy), "grad": Grad(toy)}
    known = {"mean": [-1.0], "covariance": [[1.0]]}
    alike, unlike = torch.tensor([[0.01]]).double(), torch.tensor([[1.9]]).double()
    one, two = Disagreement(toy, members, odd="more"), Disagreement(toy, members)
    assert float(one.score(alike, known)) == 0 < float(two.score(alike, known))
    assert float(one.score(unlike, known)) == pytest.approx(float(two.score(unlike, known)))
    less = Disagreement(toy, members, odd="less")
    assert float(less.score(unlike, known)) == 0
    assert float(less.score(alike, known)) == pytest.approx(float(two.score(alike, known)))


def test_what_cannot_be_an_alarm_is_refused(tmp_path: Path) -> None:
    toy = toys.toy()
    for how, why in (
        ({"kind": "ensemble", "members": ["cam"]}, "nothing to compare"),
        ({"kind": "ensemble", "members": ["cam", "cam"]}, "each of them once"),
        ({"kind": "ensembel"}, "Did you mean 'ensemble'"),
        ({"kind": "squeeze", "members": ["cam"], "options": {"maps": False}}, "squeeze.maps"),
        ({"kind": "squeeze", "options": {"by": [], "maps": False}}, "name one or more of blur"),
        ({"kind": "squeeze", "options": {"bye": ["blur"]}}, "setting of squeeze 'bye'"),
        ({"kind": "squeeze", "options": {"by": ["blurr"], "maps": False}}, "blurr"),
    ):
        with pytest.raises(UnderfireError, match=why):
            detector_of(how.pop("kind"), toy, **how)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError):
        calibrate(toy, str(folder(tmp_path)), kind="ensembel", false_alarms=0.2)


# -- squeezing --------------------------------------------------------------------------------------------------------


def test_squeezers_by_hand() -> None:
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    y = fewer_bits(x, 3)
    np.testing.assert_allclose(y.detach().numpy(), np.round(x.detach().numpy() * 7) / 7, atol=1e-12)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert bool((slope == 1).all()), "straight through"
    for window in (2, 3):
        before, after = (window - 1) // 2, window - 1 - (window - 1) // 2
        padded = np.pad(x.detach().numpy()[0, 0], (before, after), mode="reflect")
        slow = [[np.median(padded[i : i + window, j : j + window]) for j in range(8)] for i in range(8)]
        np.testing.assert_allclose(median_copy(x, window).detach().numpy()[0, 0], slow)


@pytest.mark.parametrize("by", [("blur",), ("bits", "median"), ("blur", "bits", "median")])
def test_squeezing_by_the_prediction_alone(by: tuple[str, ...], tmp_path: Path) -> None:
    path = learnt(tmp_path, kind="squeeze", options={"squeeze": {"by": list(by), "maps": False}})
    toy = classifier()
    alarm = Alarm(toy, str(path))
    x = toys.pictures(3, 5)
    _, see, evidence = alarm.look(x)
    y = toy.logits(x).argmax(1)
    slow = [toy.logits(SQUEEZERS[one](x)).log_softmax(1).gather(1, y[:, None])[:, 0] for one in by]
    torch.testing.assert_close(evidence, -torch.stack(slow, 1).detach())
    assert alarm.passes == 1 + len(by) and not see.shown
    testing.check_defense(alarm, toy, x)


def test_a_file_of_before_is_squeezing_by_a_blur(tmp_path: Path) -> None:
    path = learnt(tmp_path, kind="squeeze", members=("cam", "grad"))
    now = json.loads(path.read_text())
    before = {k: v for k, v in now.items() if k not in ("seal", "options", "confidence", "learnt")}
    before |= {"format": "underfire alarm 2", "defense": "ensemble", **now["learnt"]}
    (tmp_path / "old.json").write_text(json.dumps(before | {"seal": seal_of(before)}))
    old, new = Alarm(classifier(), str(tmp_path / "old.json")), Alarm(classifier(), str(path))
    assert (old.name, old.known.options) == ("squeeze", {}) and isinstance(old.detector, Squeeze)
    x = toys.pictures(4, 3)
    assert torch.equal(old.scores(x)[1], new.scores(x)[1]) and old.threshold == new.threshold
    assert registry.build_defense(str(tmp_path / "old.json"), classifier()).name == "squeeze"


def test_squeezing_as_published_measures_all_probabilities(tmp_path: Path) -> None:
    path = learnt(tmp_path, kind="squeeze", options={"squeeze": {"maps": False, "measure": "l1"}})
    toy, x = classifier(), toys.pictures(3, 5)
    alarm = Alarm(toy, str(path))
    p, q = (toy.logits(one).softmax(1).detach() for one in (x, SQUEEZERS["blur"](x)))
    torch.testing.assert_close(alarm.look(x)[2][:, 0], (p - q).abs().sum(1))
    testing.check_defense(alarm, toy, x)
    order = toy.logits(x).argsort(1, descending=True)
    joint = Ensemble(toy, ["cam"], defense=str(path)).surrogate(x, Goal(order[:, 1], order[:, 0], {}), aim=0.0)
    assert bool(joint.terms(x.requires_grad_()).loss.requires_grad) and not joint.blind


# -- thresholds with a guarantee --------------------------------------------------------------------------------------


def test_a_guaranteed_threshold_holds_for_the_calibration_at_hand() -> None:
    rng = np.random.default_rng(5)
    for n, a in ((59, 0.05), (150, 0.05), (60, 0.1)):
        rates = []
        for _ in range(1500):
            t = conformal.threshold(rng.random(n).tolist(), a, confidence=0.95)
            rates.append(1 - t)  # of uniform scores, exactly
        assert np.mean(np.array(rates) <= a) >= 0.95 - 0.012
        k = conformal.rank(n, a, 0.95)
        assert conformal.bound(n, k, 0.95) <= a < conformal.bound(n, k - 1, 0.95), "the lowest that is sure"
        assert np.mean(rates) == pytest.approx(conformal.expected(n, k), abs=0.002)
    assert [conformal.rank(n, 0.05, 0.95) for n in (59, 93, 124)] == [59, 92, 122]  # Wilks 1941; tables of NIST
    assert conformal.scores_needed(0.05, 0.95) == 59 and conformal.images_needed(0.05, 0.95) == 79


def test_the_file_says_what_is_sure(tmp_path: Path) -> None:
    known = calibration.read(learnt(tmp_path, kind="squeeze", options={"squeeze": {"maps": False}}, confidence=0.6))
    n = len(known.scores)
    k = known.scores.index(known.threshold) + 1
    assert known.bound == pytest.approx(conformal.bound(n, k, 0.95)) and known.confidence == 0.6
    assert known.expected == pytest.approx((n + 1 - k) / (n + 1)) and known.expected < known.bound
    with pytest.raises(UnderfireError, match=r"--confidence 0.95 needs at least 1[0-9]"):
        calibrate(classifier(), str(tmp_path / "benign"), false_alarms=0.2, confidence=0.95, limit=8)
    with pytest.raises(UnderfireError, match=r"--confidence 1\.5"):
        calibrate(classifier(), str(tmp_path / "benign"), confidence=1.5)


def test_an_alarm_is_for_its_front_door(tmp_path: Path) -> None:
    path = learnt(tmp_path, kind="squeeze", options={"squeeze": {"maps": False}})
    other: Any = classifier()
    other.door = registry.build_door("torch", other)
    with pytest.raises(MismatchError, match=r"front door 'pillow'.*has 'torch'"):
        Alarm(other, str(path))


def test_a_threshold_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = learnt(tmp_path, kind="squeeze", options={"squeeze": {"maps": False}})
    content = json.loads(path.read_text()) | {"threshold": float("nan")}
    content.pop("seal")
    path.write_text(json.dumps(content | {"seal": seal_of(content)}))
    with pytest.raises(UnderfireError, match="not a complete defense file"):
        calibration.read(path)


# -- anybody's detector -----------------------------------------------------------------------------------------------


def roughness(classifier: Classifier, x: Images, power: float = 1.0) -> PerImage:
    """Without a gradient: it counts levels."""
    levels = (x.detach() * 255).round()
    return ((levels[..., 1:] - levels[..., :-1]).abs() ** power).mean((1, 2, 3))


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names("defenses")
    monkeypatch.setitem(registry.parts.MAKERS["defenses"], "roughness", roughness)


def test_a_function_is_enough(tmp_path: Path, rough: None) -> None:
    path = learnt(tmp_path, kind="roughness", options={"roughness": {"power": 2.0}})
    toy = classifier()
    alarm = Alarm(toy, str(path))
    x = pixels.to_tensor(pixels.to_levels(toys.pictures(3, 5)))
    torch.testing.assert_close(alarm.scores(x)[1], roughness(toy, x, 2.0).double())
    testing.check_detector(roughness, toy)
    testing.check_defense(alarm, toy, x)
    assert alarm.check(x[0]).finding is None and alarm.check(x[0]).maps == {}
    with pytest.raises(UnderfireError, match="setting of roughness 'powr'"):
        detector_of("roughness", toy, options={"powr": 1.0})
    with pytest.raises(UnderfireError, match="compares no interpreters"):
        detector_of("roughness", toy, members=["cam"])
    with pytest.raises(MismatchError, match="calibrated for the members"):
        Alarm(toy, str(path), members=["cam"])
    with pytest.raises(UnderfireError, match=r"gave \(\) for 1 pictures"):
        FunctionDetector("bad", lambda c, x: x.mean(), toy)


def test_a_score_without_a_gradient_is_asked_about(tmp_path: Path, rough: None) -> None:
    """The attacker estimates its slope: along it the score falls, and no masked gradient looks like a defense."""
    path = learnt(tmp_path, kind="roughness")
    toy = classifier()
    victim = Ensemble(toy, ["cam"], defense=str(path))
    x0 = toys.pictures(4, 9)
    order = toy.logits(x0).argsort(1, descending=True)
    joint = victim.surrogate(x0, Goal(order[:, 1], order[:, 0], {}), alarm=1.0, aim=-1.0)
    x = x0.clone().requires_grad_()
    loss = joint.terms(x).loss
    assert joint.blind
    (slope,) = torch.autograd.grad((loss - joint.parts["cam"].terms(x).loss).sum(), x)
    after = roughness(toy, (x - 4 / 255 * slope.sign()).clamp(0, 1))
    assert float((after - roughness(toy, x)).mean()) < 0


def test_an_estimated_slope_points_the_right_way() -> None:
    w = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4).double(), (32, 32), mode="bilinear")
    x = torch.full((2, 3, 32, 32), 0.5).double().requires_grad_()

    def linear(x: Images) -> Tensor:
        return (w * x).sum((1, 2, 3))

    value = slopes.estimated(linear, x, 0)
    torch.testing.assert_close(value, linear(x))
    (slope,) = torch.autograd.grad(value.sum(), x)
    agreement = torch.nn.functional.cosine_similarity(slope[0].flatten(), w[0].flatten(), 0)
    assert float(agreement) > 0.02 and torch.equal(slope[0], slope[1])


class Odd:
    """A detector that can break each rule."""

    name, passes, looks = "odd", 0.0, 0
    members: Mapping[str, Interpreter] = {}

    def __init__(self, **broken: Any) -> None:
        self.broken, self.asked = broken, 0

    def evidence(self, see: Any) -> Tensor:
        self.asked += 1
        found = see.x.mean((2, 3))
        changed: Tensor = self.broken["evidence"](self, found, see) if "evidence" in self.broken else found
        return changed

    def learn(self, evidence: Tensor) -> Any:
        return self.broken.get("learn", lambda e: {"mean": e.mean(0).tolist()})(evidence)

    def score(self, evidence: Tensor, learnt: Any) -> Tensor:
        s = (evidence - evidence.new_tensor(learnt["mean"])).abs().sum(1)
        return self.broken["score"](s) if "score" in self.broken else s


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("shape", {"evidence": lambda d, e, see: e[:, 0]}),
        ("numbers", {"evidence": lambda d, e, see: e * torch.nan}),
        ("repeat", {"evidence": lambda d, e, see: e + d.asked}),
        ("input", {"evidence": lambda d, e, see: e + see.x.zero_().sum()}),
        ("file", {"learn": lambda e: {"mean": e.mean(0)}}),
        ("shape", {"score": lambda s: s[:, None]}),
        ("numbers", {"score": lambda s: s * torch.nan}),
        ("batch", {"score": lambda s: s - s.mean()}),
        ("cost", {"evidence": lambda d, e, see: e + see.log_p(see.x)[:, None].exp()}),
    ],
)
def test_a_detector_that_breaks_a_rule_is_told(rule: str, broken: dict[str, Any]) -> None:
    testing.check_detector(Odd(), toys.toy(), toys.pictures(3))
    with pytest.raises(testing.ContractError) as told:
        testing.check_detector(Odd(**broken), toys.toy(), toys.pictures(3))
    assert told.value.rule == rule


@pytest.mark.parametrize("kind", ["ensemble", "squeeze"])
def test_our_own_keep_the_contract(kind: str) -> None:
    toy = toys.toy()
    testing.check_detector(detector_of(kind, toy, ("cam", "grad")), toy, toys.pictures(3))


# -- the attacker who knows -------------------------------------------------------------------------------------------


def test_the_ensemble_is_fooled_by_who_knows_it(tmp_path: Path) -> None:
    from underfire.attacks.adv2 import adv2
    from underfire.core import Victim

    toy = classifier()
    ensemble = Ensemble(toy, defense=str(learnt(tmp_path, members=("cam", "grad"))))
    x = toys.pictures(6, 3)
    order = toy.logits(x).argsort(1, descending=True)
    goal = Goal(order[:, 1], order[:, 0], {"ensemble": ensemble.explain(x, order[:, 0])})
    scores = []
    for weight in (0.0, 0.05):
        attack = adv2.make("fast", "ensemble", 24, steps=40, surrogate={"alarm": weight, "aim": 0.0})
        found = attack.run(Victim(toy, (ensemble,)), x, goal, [0] * 6)
        scores.append(ensemble.score(found.images, order[:, 1]).mean())
    assert float(scores[1]) < float(scores[0])
