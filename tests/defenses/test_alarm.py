"""The alarm, by the example of squeezing: its file, its refusals, its command, and the attacker who knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from support import toys
from support.e2e import photo, photos, records, underfire
from underfire.attacks.adv2 import adv2
from underfire.core import (
    DamagedFileError,
    Goal,
    ImageErrors,
    Images,
    MismatchError,
    NotFoundError,
    OtherVersionError,
    Terms,
    TooFewError,
    UnderfireError,
    UnsuitableError,
    Victim,
)
from underfire.core.sealed import seal_of
from underfire.defenses import calibration
from underfire.defenses.attack import Joint
from underfire.defenses.calibrate import calibrate
from underfire.defenses.calibration import Calibration, Member
from underfire.defenses.interpreter import CHECK, Ensemble
from underfire.defenses.squeeze import Squeeze
from underfire.defenses.squeezers import smoothed_copy
from underfire.defenses.statistic import unlike
from underfire.heads import Softmax
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.interpreters.cam import Cam
from underfire.metrics import conformal
from underfire.report.text import number
from underfire.store.parquet import fitted

MEMBERS = ("cam", "grad")
TOY = ("--classifier", "toy", "--threads", "1")
CALIBRATE = (
    "defend",
    "calibrate",
    "--kind",
    "squeeze",
    *TOY,
    "--interpreter",
    "cam",
    "--interpreter",
    "grad",
    "--false-alarms",
    "0.2",
)


def saved(folder: Path, n: int, seed: int = 0) -> Path:
    """Pictures of the toys' kind as files."""
    folder.mkdir()
    for i, levels in enumerate(pixels.to_levels(toys.pictures(n, seed))):
        Image.fromarray(levels).resize((toys.SIZE * 2, toys.SIZE * 2), Image.Resampling.NEAREST).save(
            folder / f"{i:03d}.png"
        )
    return folder


def learnt(tmp_path: Path, n: int = 24) -> tuple[Ensemble, Path]:
    """A toy with a calibrated alarm."""
    classifier = toys.toy()
    photos_of = _Double(classifier)
    known, _ = calibrate(
        photos_of.classifier, str(saved(tmp_path / "benign", n)), MEMBERS, false_alarms=0.2, kind="squeeze"
    )
    path = tmp_path / "alarm.json"
    known.write(path)
    return Ensemble(classifier, defense=str(path)), path


class _Double:
    """The toys compute in float64, files come as float32."""

    def __init__(self, classifier: object) -> None:
        self.classifier = toys.toy()
        plain = self.classifier.logits
        features = self.classifier.features
        self.classifier.logits = lambda x: plain(x.double())  # type: ignore[method-assign]
        self.classifier.features = lambda x: features(x.double())  # type: ignore[method-assign]


def test_a_file_says_what_was_written(tmp_path: Path) -> None:
    ensemble, path = learnt(tmp_path)
    known = calibration.read(path)
    assert known.names == MEMBERS and len(known.photos) == 24 and len(known.scores) == 24 - 6
    assert known.threshold == ensemble.threshold == conformal.threshold(known.scores, 0.2)
    known.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def sealed_without(content: str, field: str) -> str:
    left = {k: v for k, v in json.loads(content).items() if k not in (field, "seal")}
    return json.dumps(left | {"seal": seal_of(left)})


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    _, path = learnt(tmp_path)
    content = path.read_text()
    for text, kind in (
        (content[: len(content) // 2], DamagedFileError),
        (content.replace('"false_alarms": 0.2', '"false_alarms": 0.3'), DamagedFileError),
        ("{}", OtherVersionError),
        (sealed_without(content, "scores"), DamagedFileError),
    ):
        path.write_text(text)
        with pytest.raises(kind, match=r"alarm\.json"):
            calibration.read(path)
    with pytest.raises(NotFoundError, match=r"none\.json"):
        calibration.read(tmp_path / "none.json")


def test_another_classifier_or_member_set_is_refused(tmp_path: Path) -> None:
    _, path = learnt(tmp_path)
    with pytest.raises(MismatchError, match=r"alarm\.json.*'toy'"):
        Ensemble(toys.toy(2), defense=str(path))
    with pytest.raises(MismatchError, match=r"cam, grad.*cam, rts"):
        Ensemble(toys.toy(), ["cam", "rts"], defense=str(path))
    with pytest.raises(UnderfireError, match="name two or more different members"):
        Ensemble(toys.toy(), ["cam"])


def test_too_few_images_say_how_many(tmp_path: Path) -> None:
    with pytest.raises(TooFewError, match=r"few.* 6 .*--false-alarms 0\.05.* 26"):
        calibrate(toys.toy(), str(saved(tmp_path / "few", 6)), MEMBERS)
    broken = saved(tmp_path / "broken", 5)
    (broken / "broken.png").write_bytes(b"no picture")
    with pytest.raises(TooFewError, match=r" 5 .* 6 .*broken\.png"):
        calibrate(toys.toy(), str(broken), MEMBERS, false_alarms=0.2, kind="squeeze")
    same = saved(tmp_path / "same", 1)
    first = next(same.iterdir()).read_bytes()
    for i in range(30):
        (same / f"again{i}.png").write_bytes(first)
    with pytest.raises(TooFewError, match=r" 1 .* 31 .*same photo"):
        calibrate(toys.toy(), str(same), MEMBERS)
    with pytest.raises(UnderfireError, match=r"--false-alarms 1.5: give a share"):
        calibrate(toys.toy(), str(tmp_path / "few"), MEMBERS, false_alarms=1.5)


def test_pictures_that_were_attacked_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mixed", 30)
    png = pixels.encode_png(pixels.to_levels(toys.pictures(1, 7))[0], "adv2 against cam")
    (folder / "forged.png").write_bytes(png)
    assert np.array_equal(decode_png(png), pixels.to_levels(toys.pictures(1, 7))[0])
    with pytest.raises(UnderfireError, match=r"forged.png' was made by underfire \(adv2 against cam\)"):
        calibrate(_Double(None).classifier, str(folder), MEMBERS, false_alarms=0.2, kind="squeeze")
    (tmp_path / "out" / "records").mkdir(parents=True)
    (tmp_path / "out" / "plan.yaml").write_text("images: demo")
    inside = saved(tmp_path / "out" / "images", 30)
    with pytest.raises(UnderfireError, match="holds results of the audit in"):
        calibrate(toys.toy(), str(inside), MEMBERS)


# -- the attacker who knows -------------------------------------------------------------------------------------------


def attacked(ensemble: Ensemble, alarm: float | None) -> tuple[Tensor, Tensor]:
    """Scores and successes after 40 steps against CAM alone (None) or against members and alarm."""
    classifier = ensemble.classifier
    x = toys.pictures(8, 3)
    order = classifier.logits(x).argsort(1, descending=True)
    cam = Cam(classifier)
    against: tuple[Cam | Ensemble, dict[str, Any]] = (
        (cam, {}) if alarm is None else (ensemble, {"surrogate": {"alarm": alarm}})
    )
    goal = Goal(order[:, 1], order[:, 0], {against[0].name: against[0].explain(x, order[:, 0])})
    attack = adv2.make("fast", against[0].name, 24, steps=40, **against[1])
    found = attack.run(Victim(classifier, (against[0],)), x, goal, [0] * len(x))
    predicted = classifier.logits(found.images).argmax(1)
    return ensemble.score(found.images, predicted), predicted == order[:, 1]


def test_the_adaptive_attack_lowers_the_score(tmp_path: Path) -> None:
    ensemble, _ = learnt(tmp_path)
    blind, won = attacked(ensemble, None)
    knowing, still = attacked(ensemble, 0.05)
    assert int(still.sum()) >= int(won.sum()) - 1 and int(won.sum()) >= 4
    assert float(knowing.mean()) < float(blind.mean()) - 0.2
    assert int((knowing > ensemble.threshold).sum()) <= int((blind > ensemble.threshold).sum())


def test_quiet_iterates_come_first_and_loud_ones_by_their_score(tmp_path: Path) -> None:
    ensemble, _ = learnt(tmp_path)
    x = toys.pictures(12, 3)
    order = ensemble.classifier.logits(x).argsort(1, descending=True)
    joint = ensemble.surrogate(toys.pictures(12, 5), Goal(order[:, 0], order[:, 0], {}))
    rank, scores = joint.ranked(x), ensemble.score(x, order[:, 0])
    loud = scores > ensemble.threshold
    assert 0 < int(loud.sum()) < 12
    assert float(rank[~loud].max()) < 0.5 < float(rank[loud].min()) and float(rank.max()) < 1
    assert rank[loud].argsort().tolist() == scores[loud].argsort().tolist()
    as_low_as_it_goes = ensemble.surrogate(x, Goal(order[:, 0], order[:, 0], {}), aim=0.0)
    heard = scores > 0
    assert as_low_as_it_goes.ranked(x)[heard].argsort().tolist() == scores[heard].argsort().tolist()


def test_a_score_that_is_no_number_is_the_loudest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, _ = learnt(tmp_path)
    x = toys.pictures(3, 3)
    labels = ensemble.classifier.logits(x).argmax(1)
    joint = ensemble.surrogate(x, Goal(labels, labels, {}))
    monkeypatch.setattr(joint, "_of", lambda see: torch.tensor([float("nan"), 1e6, -1e6]))
    rank = joint.ranked(x)
    assert float(rank[2]) < 0.5 < float(rank[1]) < float(rank[0]) <= 1


@pytest.mark.parametrize("preset", ["fast", "thorough"])
def test_the_ensembles_presets_look_as_often_as_its_estimate_says(preset: str) -> None:
    made = adv2.make(preset, "ensemble", 8)
    assert made.settings.check == CHECK
    classifier = toys.toy()
    ensemble = Ensemble(classifier, MEMBERS)
    x = toys.pictures(2)
    order = classifier.logits(x).argsort(1, descending=True)
    goal = Goal(order[:, 1], order[:, 0], {"ensemble": ensemble.explain(x, order[:, 0])})
    made = adv2.make(preset, "ensemble", 8, steps=40)
    with classifier.meter.counting(2) as spent:
        made.run(Victim(classifier, (ensemble,)), x, goal, [0, 0])
    assert float(spent.passes.max()) <= made.bound(ensemble.step_passes)


class Stairs(Squeeze):
    """A defense that 'holds' because its score has no slope."""

    def score(self, evidence: Tensor, learnt: Any) -> Tensor:
        return (super().score(evidence, learnt) * 10).round() / 10


class Faint(Squeeze):
    """A defense whose slope is there, and leads nowhere."""

    def score(self, evidence: Tensor, learnt: Any) -> Tensor:
        s = super().score(evidence, learnt)
        return s.detach() + 1e-20 * (s - s.detach())


class Nowhere(Squeeze):
    """A defense whose slope is no number."""

    def score(self, evidence: Tensor, learnt: Any) -> Tensor:
        s = super().score(evidence, learnt)
        return s + 0 * (s - s.detach()).abs().sqrt()


def deployed_as(tmp_path: Path, mean: float = -3.0, threshold: float = 0.0) -> Ensemble:
    """A toy with an alarm whose statistics are given."""
    classifier = toys.toy()
    members = tuple(Member(name, {}, "") for name in MEMBERS)
    covariance = ((2.0, 0.5, 0.1), (0.5, 3.0, 0.2), (0.1, 0.2, 1.0))
    learnt = {"mean": (mean,) * 3, "covariance": covariance}
    known = Calibration(classifier.name, classifier.digest, members, learnt, threshold, 0.2, (0.0, threshold), ("a",))
    known.write(tmp_path / "given.json")
    return Ensemble(classifier, defense=str(tmp_path / "given.json"))


@pytest.mark.parametrize("kind", [Stairs, Faint, Nowhere])
def test_a_defense_that_hides_its_gradient_is_caught(kind: type[Squeeze], tmp_path: Path) -> None:
    ensemble = deployed_as(tmp_path)
    x = toys.pictures(4).requires_grad_()
    order = ensemble.classifier.logits(x).argsort(1, descending=True)
    assert ensemble.alarm is not None
    ensemble.alarm.detector = kind(ensemble.classifier, ensemble.members)
    joint = ensemble.surrogate(x.detach(), Goal(order[:, 1], order[:, 0], {}), alarm=1.0)
    with pytest.raises(UnsuitableError, match=r"4 of 4.*cam, grad"):
        joint.terms(x)


class Hidden:
    """A member's surrogate whose map has been cut off from its image."""

    shows = False

    def __init__(self, of: Any) -> None:
        self.of = of

    def terms(self, x: Images) -> Terms:
        t = self.of.terms(x)
        return Terms(t.logits, t.loss, None, t.twin.detach())


def test_one_member_that_hides_its_gradient_is_caught(tmp_path: Path) -> None:
    ensemble = deployed_as(tmp_path)
    x = toys.pictures(4)
    order = ensemble.classifier.logits(x).argsort(1, descending=True)
    joint = ensemble.surrogate(x, Goal(order[:, 1], order[:, 0], {}), alarm=1.0)
    joint.parts["cam"] = Hidden(joint.parts["cam"])  # type: ignore[assignment]
    with pytest.raises(UnsuitableError, match=r"'cam'.*4 of 4"):
        joint.terms(x.requires_grad_())


class Blind(Hidden):
    """A member's surrogate that has no map on the way, as MASK's."""

    def terms(self, x: Images) -> Terms:
        t = self.of.terms(x)
        return Terms(t.logits, t.loss, None, None)


def test_a_member_without_a_twin_is_taken_to_show_its_target(tmp_path: Path) -> None:
    ensemble = deployed_as(tmp_path)
    x0, x = toys.pictures(4), toys.pictures(4, 9).requires_grad_()
    order = ensemble.classifier.logits(x0).argsort(1, descending=True)
    joint = ensemble.surrogate(x0, Goal(order[:, 1], order[:, 0], {}), alarm=1.0, aim=-10.0)
    joint.parts["grad"] = Blind(joint.parts["grad"])  # type: ignore[assignment]
    score = joint.terms(x).loss - joint.parts["cam"].terms(x).loss - joint.parts["grad"].terms(x).loss - 10.0
    cam, copy = Cam(ensemble.classifier), smoothed_copy(x)
    log_p = Softmax().log_probability(ensemble.classifier.logits(copy), order[:, 1])
    of_cam = unlike(cam.explain(x, order[:, 1]), cam.explain(copy, order[:, 1]))
    d = torch.stack([-log_p, of_cam, torch.zeros_like(of_cam)], 1)
    assert ensemble.alarm is not None
    expected = ensemble.alarm.detector.score(d, ensemble.alarm.known.learnt)
    torch.testing.assert_close(score, expected, rtol=1e-3, atol=1e-3)


def test_the_joint_loss_is_the_weighted_sum_and_has_its_slope(tmp_path: Path) -> None:
    ensemble = deployed_as(tmp_path)
    x0, x = toys.pictures(3), toys.pictures(3, 9).requires_grad_()
    order = ensemble.classifier.logits(x0).argsort(1, descending=True)
    goal = Goal(order[:, 1], order[:, 0], {})

    def terms(x: Images, weights: dict[str, float], alarm: float) -> Tensor:
        return Joint(ensemble, x0, goal, weights, alarm, aim=0.0).terms(x).loss

    cam, grad = terms(x, {"grad": 0.0}, 0.0), terms(x, {"cam": 0.0}, 0.0)
    score = terms(x, {"cam": 0.0, "grad": 0.0}, 1.0)
    torch.testing.assert_close(terms(x, {"cam": 2.0, "grad": 3.0}, 0.5), 2 * cam + 3 * grad + 0.5 * score)
    torch.testing.assert_close(score, ensemble.score(x.detach(), goal.labels), rtol=1e-2, atol=1e-2)
    (slope,) = torch.autograd.grad(cam.sum(), x)
    step = 1e-5 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    x_after = (x + step).detach().requires_grad_()
    change = terms(x_after, {"grad": 0.0}, 0.0) - cam
    torch.testing.assert_close(change.sum(), (slope * step).sum(), rtol=1e-3, atol=1e-10)


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("defense")
    photos(root / "benign", 20)
    ran = underfire(*CALIBRATE, "--images", root / "benign", "--out", root / "alarm.json")
    assert ran.code == 0 and "20 benign photos, members cam, grad, squeeze: threshold" in ran.out, ran.err
    return root


def test_check_says_quiet_alarm_or_bad_input(deployed: Path) -> None:
    alarm = deployed / "alarm.json"
    known = calibration.read(alarm)
    shots = sorted((deployed / "benign").iterdir())
    ran = underfire("check", *shots, *TOY, "--defense", alarm, "--json", "--save", deployed / "maps")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["image"] for line in lines] == [str(shot) for shot in shots]
    told = {"image", "head", "prediction", "confidence", "score", "threshold", "alarm"}
    assert set(lines[0]) == told | {"most_unusual", "unusual"}
    raised = [line["alarm"] for line in lines]
    assert raised == [line["score"] > known.threshold for line in lines]
    assert ran.code == (1 if any(raised) else 0) and 0 < sum(raised) <= 8
    assert len(list((deployed / "maps").glob("*.png"))) == 4 * len(shots)
    quiet, loud = (shots[raised.index(flag)] for flag in (False, True))
    assert underfire("check", quiet, *TOY, "--defense", alarm).code == 0
    ran = underfire("check", loud, *TOY, "--defense", alarm)
    assert ran.code == 1 and "ALARM" in ran.out


def test_check_refuses(deployed: Path, tmp_path: Path) -> None:
    alarm, shot = deployed / "alarm.json", deployed / "benign" / "p00.png"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for words, why in (
        ((tmp_path / "none.png", *TOY, "--defense", alarm), "There is no image"),
        ((tmp_path / "bad.png", *TOY, "--defense", alarm), "is no image that can be read"),
        ((tmp_path, *TOY, "--defense", alarm), f"{tmp_path.name}' is a folder: name its images"),
        ((shot, *TOY, "--defense", tmp_path), "give the one that `underfire defend calibrate` wrote"),
        ((shot, *TOY, "--defense", alarm, "--interpreter", "gard"), "Did you mean 'grad'?"),
        (
            (shot, "--defense", alarm, "--classifier", "efficientnet-lite0"),
            "was calibrated for 'toy' with other weights",
        ),
        ((shot, *TOY, "--defense", alarm, "--set", "gard.score=logit"), "Did you mean 'grad'?"),
        ((shot, *TOY, "--defense", alarm, "--interpreter", "cam"), "not cam: calibrate"),
        ((shot, *TOY, "--defense", tmp_path / "none.json"), "There is no defense file"),
    ):
        ran = underfire("check", *words)
        assert ran.code == 2 and why in ran.err and "Traceback" not in ran.err, ran.err


def test_check_goes_on_after_a_bad_file_and_keeps_every_picture(deployed: Path, tmp_path: Path) -> None:
    alarm, shot = deployed / "alarm.json", deployed / "benign" / "p00.png"
    twins = [tmp_path / folder / "photo[b] of one name.png" for folder in ("a", "b")]
    for twin in twins:
        twin.parent.mkdir()
        twin.write_bytes(shot.read_bytes())
    words = ("check", twins[0], tmp_path / "none.png", twins[1], "--threads", "1", "--defense", alarm)
    ran = underfire(*words, "--json", "--save", tmp_path / "maps")
    assert ran.code == 2 and "There is no image" in ran.err
    assert [json.loads(line)["image"] for line in ran.out.splitlines()] == [str(twin) for twin in twins]
    saved = {path.name for path in (tmp_path / "maps").iterdir()}
    stem = "photo-b-of-one-name"
    assert saved == {
        f"{name}.{member}.png" for name in (stem, f"{stem}-2") for member in (*MEMBERS, "combined", "where")
    }
    ran = underfire(*words)
    image = "".join(line.strip().split("  ")[0] for line in ran.out.splitlines())  # its column is folded anywhere
    assert ran.code == 2 and "photo[b]of" in image.replace(" ", "")


def test_calibrate_refuses_settings_of_what_is_no_member(deployed: Path, tmp_path: Path) -> None:
    ran = underfire(*CALIBRATE, "--images", deployed / "benign", "--set", "gard.score=logit", "--out", tmp_path / "a")
    assert ran.code == 2 and "There is no member of this alarm 'gard'. Did you mean 'grad'?" in ran.err


def test_a_photo_that_a_member_cannot_explain_is_named_and_counts_as_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "benign", 24)
    Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / "flat.png")
    explain = Cam.explain

    def but_flat(self: Cam, x: Images, y: Tensor) -> Tensor:
        if flat := {i: "nothing to see" for i, one in enumerate(x) if float(one.std()) < 1e-3}:
            raise ImageErrors(flat)
        return explain(self, x, y)

    monkeypatch.setattr(Cam, "explain", but_flat)
    known, skipped = calibrate(_Double(toys.toy()).classifier, str(folder), MEMBERS, false_alarms=0.2, kind="squeeze")
    assert len(known.photos) == 25 and skipped == {"flat.png": "flat.png: nothing to see"}
    assert (len(known.scores), known.unexplained) == (18, 1)
    assert known.threshold == sorted(known.scores)[16 - 1]  # of 19, of which the one without a map is the largest


def test_an_adaptive_attack_needs_one_on_explanations(deployed: Path, tmp_path: Path) -> None:
    words = ("--images", deployed / "benign", *TOY, "--defense", deployed / "alarm.json", "--out", tmp_path / "out")
    ran = underfire("run", *words, "--attack", "pgd", "--adaptive")
    assert ran.code == 2 and "--adaptive needs an attack on explanations, such as adv2, beside pgd" in ran.err


def test_an_audit_with_a_defense_tells_what_it_changes(deployed: Path, tmp_path: Path) -> None:
    photos(tmp_path / "photos", 3)
    plain = ("--images", tmp_path / "photos", *TOY, "--set", "adv2.steps=3", "--set", "pgd.steps=3")
    ran = underfire("run", *plain, "--defense", deployed / "alarm.json", "--adaptive", "--out", tmp_path / "out")
    assert ran.code == 0 and "alarm" in ran.out, ran.err
    rows = records(tmp_path / "out")
    cells = {(r["attack"], r["against"], r["interpreter"]) for r in rows}
    assert ("adv2", "ensemble", "ensemble") in cells and ("adv2", "cam", "cam") in cells
    known = calibration.read(deployed / "alarm.json")
    for r in rows:
        assert r["defense"] == "squeeze" and r["alarm_threshold"] == known.threshold
        assert (r["alarm_expected"], r["alarm_bound"]) == (known.expected, known.bound)
        assert r["alarm"] == (r["alarm_score"] > known.threshold) and r["clean_alarm"] is not None
        assert r["alarm_passes"] == pytest.approx(1 + 1 + 2 * (1 + 3))
    png = (tmp_path / "out" / str(rows[0]["adversarial"])).read_bytes()
    assert pixels.forged_note(png)
    ran = underfire("check", tmp_path / "out" / str(rows[0]["adversarial"]), *TOY, "--defense", deployed / "alarm.json")
    assert ran.code in (0, 1) and "was made by underfire. It goes through the front door" in ran.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What the defense changes" in page and "Forged, with" in page and "ROC" in page
    assert "stops just below it" in page
    assert f"{number(100 * known.bound)} % at most with 95 % confidence" in page and "No attack here knows" not in page
    blind = ("run", *plain[:-2], "--attack", "adv2", "--defense", deployed / "alarm.json", "--out", tmp_path / "blind")
    assert underfire(*blind).code == 0
    page = (tmp_path / "blind" / "report.html").read_text()
    assert "No attack here knows the alarm" in page and "not measured: <code>--adaptive</code>" in page
    ran = underfire(*CALIBRATE, "--images", tmp_path / "out" / "images", "--out", tmp_path / "a.json")
    assert ran.code == 2 and "holds results of the audit" in ran.err
    ran = underfire("run", *plain, "--adaptive", "--out", tmp_path / "other")
    assert ran.code == 2 and "give its file with --defense" in ran.err


def test_records_of_before_are_of_squeezing() -> None:
    schema = pa.schema([("defense", pa.string()), ("alarm_bound", pa.float64())])
    before = pa.table({"defense": ["ensemble", "none"]}).replace_schema_metadata({"underfire": "5"})
    assert fitted(before, schema, "here").to_pydict() == {"defense": ["squeeze", "none"], "alarm_bound": [None, None]}
    now = pa.table({"defense": ["ensemble"], "alarm_bound": [0.05]}).replace_schema_metadata({"underfire": "5"})
    assert fitted(now, schema, "here")["defense"].to_pylist() == ["ensemble"]


def test_another_calibration_is_another_plan(deployed: Path, tmp_path: Path) -> None:
    photos(tmp_path / "photos", 2)
    quick = ("run", "--images", tmp_path / "photos", *TOY, "--set", "adv2.steps=2", "--set", "pgd.steps=2")
    words = (*quick, "--out", tmp_path / "out", "--defense", tmp_path / "alarm.json")
    calibrated = (*CALIBRATE, "--images", deployed / "benign", "--out", tmp_path / "alarm.json")
    assert underfire(*calibrated).code == 0
    assert underfire(*words).code == 0
    assert underfire(*calibrated[:-4], "--limit", "16", *calibrated[-4:]).code == 0
    ran = underfire(*words)
    assert ran.code == 2 and "another defense, or one calibrated anew" in ran.err


def test_the_library_in_three_lines(deployed: Path) -> None:
    import underfire as library
    from support.e2e import extended

    with extended():
        alarm = library.alarm(deployed / "alarm.json")
        verdict = alarm.check(deployed / "benign" / "p00.png")
        x = pixels.to_tensor([verdict.levels])[0]
        as_it_is = alarm.check(x)
        with pytest.raises(UnderfireError, match=r"one image at a time"):
            alarm.check(x[None])
    assert (as_it_is.score, as_it_is.label) == (verdict.score, verdict.label)
    assert verdict.alarm == (verdict.score is not None and verdict.score > alarm.threshold)
    assert set(verdict.maps) == set(MEMBERS)
    assert photo(0).size == (48, 40)
