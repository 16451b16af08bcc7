"""AID: its objective is RTS's own and the published term, its file is its own kind, and maps are pushed apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from support.colours import colours, few, fitted, squares
from support.e2e import underfire
from underfire.core import MismatchError, TooFewError, UnderfireError, UnknownNameError
from underfire.images.maps import l1
from underfire.interpreters.rts import Rts, RtsAid
from underfire.interpreters.rts.card import read_card
from underfire.interpreters.rts.rts import LOSSES, maps_of
from underfire.train import aid, forged, train_rts
from underfire.train.aid import AidTask
from underfire.train.forged import wanted_classes
from underfire.train.photos import Photos, seed_of
from underfire.train.rts import RtsTask
from underfire.train.rts_a import AdversarialTask
from underfire.train.run import default_out, fit
from underfire.train.settings import AdversarialSettings, AidSettings
from underfire.train.teacher import load_teacher


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aid, "JUDGED", 4)
    monkeypatch.setattr(forged, "JUDGED_STEPS", 4)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    squares(root / "photos", 32)
    fitted(root / "photos", few(epochs=4, rate=1e-2), root / "rts.safetensors")
    return root


def begun(plain: Path, **changes: object) -> AidTask:
    teacher = load_teacher(colours(), str(plain / "rts.safetensors"))
    photos = Photos(str(plain / "photos"), None, colours())
    short = {"epochs": 2, "batch_size": 8, "attack_steps": 3, "eps": 24, "teacher": teacher.digest}
    return AidTask(photos, photos.labelled(0.15, 0), AidSettings(**(short | changes)), teacher)  # type: ignore[arg-type]


def test_the_objective_is_rts_own_and_the_distance_to_the_forgerys_map(plain: Path) -> None:
    task = begun(plain, apart=3.0)
    some = task.train[:8]
    before = {name: value.clone() for name, value in task.net.state_dict().items()}
    terms = task.step(1, some)
    task.net.load_state_dict(before)
    x, y = task.photos.augmented(some, "0/1"), task.photos.labels(some)
    m, own = task.rts.terms(x, y, [seed_of("0/1", "fill", p.photo.sha256) for p in some])
    wanted = wanted_classes(some, task.rts.classes, "1", 0)
    assert bool((wanted != y).all())
    x_hat = task.attacked(x, wanted, 1)
    assert float((x_hat - x).abs().max()) <= 24.5 / 255 + 1e-6  # augmented pixels lie between levels
    moved = l1(m, maps_of(task.net, task.classifier.pyramid(x_hat), task.classifier.head[wanted]))
    assert terms["apart"] == pytest.approx(-3.0 * float(moved.detach().mean()), rel=1e-4)
    assert {name: terms[name] for name in own} == pytest.approx(
        {k: float(v.detach().mean()) for k, v in own.items()}, rel=1e-4
    )


def test_it_starts_from_the_plain_network_and_pushes_maps_apart(plain: Path) -> None:
    task = begun(plain, apart=100.0, rate=1e-2)
    teacher = task.teacher.net.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in task.net.state_dict().items())
    first = task.step(0, task.train[:16])["apart"]
    last = [task.step(0, task.train[:16])["apart"] for _ in range(12)][-1]
    assert last < first - 0.5, "the term falls by its own gradient"


def test_a_whole_training_has_a_card_and_is_its_own_kind(plain: Path, tmp_path: Path) -> None:
    teacher = load_teacher(colours(), str(plain / "rts.safetensors"))
    settings = AidSettings(epochs=1, batch_size=8, attack_steps=2, eps=24, teacher=teacher.digest)
    out = tmp_path / "aid.safetensors"
    fit(colours(), str(plain / "photos"), settings, partial(AidTask, settings=settings, teacher=teacher), out)
    card = read_card(out)
    assert card.kind == "rts-aid" and card.settings["apart"] == settings.apart
    assert {"benign_l1", "forged_l1", "forged_success", "plain_saliency_metric"} <= set(card.figures)
    assert RtsAid(colours(), str(out)).name == "rts-aid"
    with pytest.raises(MismatchError, match="rts-aid"):
        Rts(colours(), str(out))
    with pytest.raises(MismatchError, match="start from a plain one"):
        load_teacher(colours(), str(out))


def test_one_class_to_learn_from_is_too_few(plain: Path) -> None:
    teacher = load_teacher(colours(), str(plain / "rts.safetensors"))
    photos = Photos(str(plain / "photos"), None, colours())
    labelled = photos.labelled(0.15, 0)
    one = next(p.label for p in labelled if not p.validation)
    some = [p for p in labelled if p.validation or p.label == one]
    with pytest.raises(TooFewError, match="Photos of 1 class are left"):
        AidTask(photos, some, AidSettings(teacher=teacher.digest), teacher)
    with pytest.raises(TooFewError, match="Photos of 1 class are left"):
        AdversarialTask(photos, some, AdversarialSettings(teacher=teacher.digest), teacher)


def test_names_of_trainings(plain: Path, tmp_path: Path) -> None:
    assert default_out("efficientnet-lite0", "aid").name == "rts-aid-efficientnet-lite0.safetensors"
    assert default_out("efficientnet-lite0", "doubt").name == "rts-a-efficientnet-lite0.safetensors"
    assert default_out("efficientnet-lite0", None).name == f"{RtsTask.kind}-efficientnet-lite0.safetensors"
    with pytest.raises(UnknownNameError, match=r"adversarial training 'adi'.*aid"):
        train_rts(colours(), "photos", tmp_path / "x", adversarial="adi", plain=str(plain / "rts.safetensors"))  # type: ignore[arg-type]
    with pytest.raises(UnderfireError, match="float32 alone"):
        train_rts(colours(), "photos", tmp_path / "x", adversarial="aid", precision="bf16")
    ran = underfire("train", "rts", "--images", plain / "photos", "--adversarial", "adi")
    assert ran.code == 2 and "adi" in ran.err


def test_the_logit_loss_has_a_slope_where_masks_saturate() -> None:
    m = torch.full((1, 2, 2), 0.9999).requires_grad_()
    wanted = torch.full((1, 2, 2), 0.0001)
    slope = {name: torch.autograd.grad(loss(m, wanted).sum(), m)[0] for name, loss in LOSSES.items()}
    z = torch.tensor(9.2102)
    assert float(LOSSES["logit"](m, wanted).detach()) == pytest.approx(2 * float(z) / 10, rel=1e-3)
    chained = {name: float((g * m * (1 - m)).detach().abs().mean()) for name, g in slope.items()}
    assert chained["logit"] > 50 * chained["square"]
