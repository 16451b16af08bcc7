"""End to end with tiny networks of timm: every head and input, from a photo to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import underfire
from support.e2e import Ran, photos, records
from support.e2e import underfire as command
from underfire.core import Record, UnderfireError
from underfire.core.place import place
from underfire.report import write_report
from underfire.store import open_results
from underfire.testing import pictures

SIDE = 64
ARGUMENTS: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_convnext": {},
    "test_vit": {"img_size": SIDE},
    "swin_tiny_patch4_window7_224": {
        "img_size": SIDE,
        "window_size": 2,
        "embed_dim": 16,
        "depths": (1, 1, 1, 1),
        "num_heads": (2, 2, 2, 2),
    },
}
"""Small networks of timm, and what makes them smaller."""
CAM_FITS = ("test_resnet", "swin_tiny_patch4_window7_224")
"""The others have a layer norm between the average and the last linear layer, or no average."""


def tiny(name: str, k: int, channels: int) -> nn.Module:
    """A network with random weights, whose outputs are about as often above as below 0."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        net = timm.create_model(name, num_classes=k, in_chans=channels, **ARGUMENTS[name]).eval()
    x = pictures(12, SIDE, 5, channels=channels)
    with torch.no_grad():
        z = net(shown(x))
        last = [part for part in net.modules() if isinstance(part, nn.Linear) and part.out_features == k][-1]
        gain = 3 / z.std(0)
        last.weight.mul_(gain[:, None])
        last.bias.copy_((last.bias - z.mean(0)) * gain)
    found: nn.Module = net
    return found


def shown(x: Tensor) -> Tensor:
    """What `wrap` gives a network: by default normalised as ImageNet's photos, or their grey."""
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if x.shape[1] == 3 else ((0.449,), (0.226,))
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


CHEAP = {"cam": {}, "grad": {}, "mask": {"steps": 4}}
"""Interpreters with settings of milliseconds."""
QUICK = {"steps": 12, "warmup": 6, "check": 3}


def hold(record: Record, z: Tensor) -> None:
    """Hold a record against plain torch: what the saved picture's raw outputs ``z`` (K,) mean."""
    target, source = record.target_class, record.source_class
    assert target is not None
    assert source is not None
    if record.head == "binary":
        p = torch.stack([(-z[0]).sigmoid(), z[0].sigmoid()])
        won = int(z[0] > 0) == target
    elif record.head == "multilabel":
        p, won = z.sigmoid(), bool((z[target] > 0) & (z[source] < 0))
    else:
        p, won = z.softmax(0), int(z.argmax()) == target
    assert record.error is None
    assert record.success == won
    assert record.confidence == pytest.approx(float(p[target]), abs=1e-4)
    assert record.predicted_class == int(p.argmax())
    assert record.predicted_confidence == pytest.approx(float(p.max()), abs=1e-4)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_networks_that_people_deploy_with_every_head(name: str, k: int, channels: int) -> None:
    net = tiny(name, k, channels)
    head = "multilabel" if k > 1 else None
    classifier = underfire.wrap(net, input_size=SIDE, head=head, name=name)
    x = pictures(2, SIDE, 3, channels=channels)
    reached = 0
    for interpreter, attack in (("grad", "pgd"), ("grad", "adv2"), ("cam", "adv2"), ("mask", "adv2")):
        if interpreter == "cam" and name not in CAM_FITS:
            with pytest.raises(UnderfireError, match=f"'{name}'"):
                underfire.interpreter("cam", classifier)
            continue
        judge = underfire.interpreter(interpreter, classifier, **CHEAP[interpreter])
        own: dict[str, Any] = {"steps": 4, "warmup": 2, "surrogate": {"record": 4}} if interpreter == "mask" else QUICK
        own = own if attack == "adv2" else {"steps": 6}
        result = underfire.attack(classifier, judge, x, attack=attack, eps=16, **own)
        z = net(shown(result.images)).detach()
        for record, one in zip(result.records, z, strict=True):
            hold(record, one)
            assert record.head == ("multilabel" if k > 1 else "binary")
        reached += sum(bool(r.success) for r in result.records)
        assert 0 <= float(result.maps.min()) <= float(result.maps.max()) <= 1
        assert (result.images.shape[1], result.maps.dim()) == (channels, 3)
    assert reached >= 2


def test_the_search_falls_along_the_binary_cross_entropy() -> None:
    net = tiny("test_resnet", 5, 3)
    classifier = underfire.wrap(net, input_size=SIDE, head="multilabel")
    x = pictures(2, SIDE, 3)
    result = underfire.attack(classifier, "grad", x, attack="pgd", eps=16, steps=6)
    target, source = (torch.tensor([getattr(r, c) for r in result.records]) for c in ("target_class", "source_class"))

    def loss(images: Tensor) -> Tensor:
        z = net(shown(images)).detach()
        rows = torch.arange(len(z))
        on, off = z[rows, target], z[rows, source]
        bce = F.binary_cross_entropy_with_logits
        return bce(on, torch.ones(2), reduction="none") + bce(off, torch.zeros(2), reduction="none")

    assert bool((loss(result.images) < loss(x) - 1).all())
    assert bool((net(shown(x)).gather(1, target[:, None]) < 0).all())  # what a random target is: a label that is off


# -- the command ------------------------------------------------------------------------------------------------------


def saved(folder: Path, k: int, channels: int, name: str = "test_resnet") -> Path:
    path = folder / "net.pth"
    torch.save(tiny(name, k, channels).state_dict(), path)
    return path


def ran(folder: Path, weights: Path, *words: str | Path) -> Ran:
    quick = ("--set", "adv2.steps=4", "--set", "adv2.warmup=2", "--set", "pgd.steps=4", "--threads", "1")
    network = ("--classifier", "timm:test_resnet", "--weights", weights)
    return command("run", "--images", photos(folder / "in", 2), *network, *quick, "--out", folder / "out", *words)


def test_a_grey_network_of_labels_from_photo_to_report(tmp_path: Path) -> None:
    words = (
        "--head",
        "multilabel",
        "--input-size",
        "48x64",
        "--interpreter",
        "cam",
        "--interpreter",
        "grad",
        "--at",
        "input",
    )
    did = ran(tmp_path, saved(tmp_path, 5, 1), *words)
    assert did.code == 0, did.err
    rows = records(tmp_path / "out")
    assert {row["head"] for row in rows} == {"multilabel"}
    for row in rows:
        with Image.open(tmp_path / "out" / row["adversarial"]) as picture:
            assert (picture.mode, picture.size) == ("L", (64, 48))
            changed = np.asarray(picture, np.int16)
        with Image.open(tmp_path / "out" / row["clean"]) as picture:
            moved = int(np.abs(changed - np.asarray(picture, np.int16)).max())
        assert row["linf_levels"] == moved <= 8  # the budget is in grey levels
    plan = open_results(place(str(tmp_path / "out"))).plan["resolved"]
    assert (plan["head"], plan["input"]["width"], len(plan["input"]["mean"])) == ("multilabel", 64, 1)
    page = write_report(tmp_path / "out").read_text()
    assert "labels, each on or off by itself" in page
    assert "the photo’s own strongest label is off" in page
    assert "first choice" not in page
    assert page.count("data:image/jpeg") > 4


def test_one_output_with_two_names_from_photo_to_report(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("benign\nmalignant\n")
    weights = saved(tmp_path, 1, 3)
    did = ran(tmp_path, weights, "--classes", tmp_path / "names.txt", "--input-size", "64", "--interpreter", "cam")
    assert did.code == 0, did.err
    rows = records(tmp_path / "out")
    assert {row["head"] for row in rows} == {"binary"}
    assert all({row["source_class_name"], row["target_class_name"]} == {"benign", "malignant"} for row in rows)
    planned = command("plan", tmp_path / "out" / "plan.yaml", "--out", tmp_path / "out")
    assert "one output, two classes" in " ".join((planned.out + planned.err).split())


WHOLE = ("vit_base_patch16_224", "convnext_tiny", "swin_tiny_patch4_window7_224")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("k", "channels"), [(1, 1), (5, 3)])
@pytest.mark.parametrize("name", WHOLE)
def test_own_heads_on_networks_of_their_whole_size(tmp_path: Path, name: str, k: int, channels: int) -> None:
    side = {} if name == "convnext_tiny" else {"img_size": 96}
    torch.manual_seed(1)
    net = timm.create_model(name, num_classes=k, in_chans=channels, **side).eval()
    nn.init.normal_(net.get_submodule("head.fc" if name != WHOLE[0] else "head").weight, std=0.5)
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "mine.pth")
    fits = ("cam",) if name == WHOLE[2] else ()
    words = [w for interpreter in ("grad", "mask", *fits) for w in ("--interpreter", interpreter)]
    head = ("--head", "multilabel") if k > 1 else ()
    quick = [w for s in ("adv2.steps=3", "adv2.warmup=1", "pgd.steps=3", "mask.steps=4") for w in ("--set", s)]
    network = ("--classifier", f"timm:{name}", "--weights", tmp_path / "mine.pth", "--input-size", "96")
    out = ("--threads", "1", "--out", tmp_path / "out")
    did = command("run", "--images", photos(tmp_path / "in", 1), *network, *head, *words, *quick, *out)
    assert did.code in (0, 3), did.err
    rows = records(tmp_path / "out")
    assert {row["head"] for row in rows} - {None} == {"multilabel" if k > 1 else "binary"}
    assert {row["interpreter"] for row in rows} == {"grad", "mask", *fits}
    good = [row for row in rows if row["error"] is None]  # of drawn weights, a MASK map may be flat: that is told
    assert all(row["map_l1"] is not None for row in good)
    assert {row["interpreter"] for row in good} >= {"grad", *fits}
    assert all("nothing to keep or move" in row["error"] for row in rows if row["error"] is not None)
    if not fits:
        refused = command("plan", "--images", tmp_path / "in", *network, *head, "--interpreter", "cam")
        assert refused.code == 2
        assert "has no class activation map" in refused.err


@pytest.mark.parametrize(
    ("k", "words", "said"),
    [
        (1, ("--head", "multilabel"), "has one output"),
        (1, ("--classes", "NAMES"), "give two lines"),
        (1, ("--target", "2"), "classes 0 to 1 (0 class 0, 1 class 1)"),
        (5, ("--head", "binary"), "has 5 outputs"),
        (5, ("--head", "several"), "--head several"),
        (5, ("--channels", "1"), "net.pth"),
        (5, ("--channels", "4"), "--channels 4"),
        (5, ("--input-size", "64x"), "--input-size 64x"),
        (5, ("--mean", "0.5,0.5"), "one for all channels"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, k: int, words: tuple[str, ...], said: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text("only\n")
    given = [str(names) if word == "NAMES" else word for word in words]
    did = ran(tmp_path, saved(tmp_path, k, 3), *given)
    assert did.code == 2
    assert said in did.err
    assert "Traceback" not in did.err


def test_a_maker_that_knows_no_heads_does_not_pass_over_one(tmp_path: Path) -> None:
    did = command("run", "--images", photos(tmp_path / "in", 1), "--classifier", "toy", "--head", "multilabel")
    assert did.code == 2
    assert "--head multilabel: 'toy'" in did.err
