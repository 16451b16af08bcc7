"""Every part of the registry keeps its contract. A part that is added is tested here without another line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from support import toys
from support.colours import started
from underfire import registry, testing
from underfire.classifiers import timm_models
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, Victim, Workplace
from underfire.defenses.calibration import Calibration, Member
from underfire.interpreters.cam import Cam
from underfire.interpreters.rts.card import Card, packed

MADE: Mapping[str, Mapping[str, Any]] = {
    "mask": {"size": 6, "steps": 6},
    "ensemble": {"members": ("cam", "grad")},
    "occlusion": {"patch": 32, "stride": 32},
    **{name: {"n": 12} for name in ("rise", "lime", "kernelshap")},
}
"""Options of an interpreter's maker, where the ones that it has by default take long or want a file."""
ASKED: Mapping[str, Mapping[str, Any]] = {
    "mask": {"record": 6},
    **{name: {"stock": 8, "looks": 4} for name in ("occlusion", "rise", "lime", "kernelshap")},
}
"""Options of its surrogate, likewise."""
NETWORKS = ("rts", "rts-a", "rts-aid")
"""Interpreters that want a trained network."""


def network(kind: str, classifier: TorchClassifier, folder: Path) -> str:
    """A network of RTS's as training starts from, with some noise so that each place counts."""
    x = toys.pictures(4, 3, toys.WHOLE)
    net = started(classifier, x, torch.arange(4), doubts=kind == "rts-a")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        nn.init.normal_(net.out.weight)
    path = folder / f"{kind}.safetensors"
    path.write_bytes(packed(net, Card(classifier.name, classifier.digest, 0.5, kind=kind)))
    return str(path)


OF_ATTENTION = ("relevance", "rollout")
"""Interpreters that want a transformer."""


JUDGES = ("captum", "grad-cam")
"""Whole libraries, which explain and have no attacker's side (tests/interpreters/test_adapters.py)."""


@pytest.mark.parametrize("name", [name for name in registry.names("interpreters") if name not in JUDGES])
def test_an_interpreter_keeps_its_contract(name: str, tmp_path: Path) -> None:
    classifier, options = toys.transformer() if name in OF_ATTENTION else toys.whole(), dict(MADE.get(name, {}))
    if name in NETWORKS:
        options["weights"] = network(name, classifier, tmp_path)
    interpreter = registry.build_interpreter(name, classifier, options)
    x = toys.pictures(3, 0, toys.WHOLE)
    testing.check_interpreter(interpreter, classifier, x, options=ASKED.get(name))


def test_masks_published_surrogate_keeps_it_too() -> None:
    classifier = toys.whole()
    mask = registry.build_interpreter("mask", classifier, MADE["mask"])
    options = {"kind": "bilevel", "free": 1, "held": 2}  # the second moments of the walk have no slope
    testing.check_interpreter(mask, classifier, toys.pictures(3, 0, toys.WHOLE), options=options, smooth=False)


@pytest.mark.parametrize("name", registry.names("attacks"))
def test_an_attack_keeps_its_contract(name: str) -> None:
    classifier, maker = toys.toy(), registry.maker("attacks", name)
    against = (Cam(classifier),) if maker.fools_interpreter else ()
    attack = maker.make("fast", against[0].name if against else None, 8)
    testing.check_attack(attack, Victim(classifier, against), toys.pictures(3))


VARIANTS = {"timm": "timm:resnet18"}
"""Classifiers that take a network's name."""


FILES_OF_NETWORKS = ("clip", "hf", "onnx", "script", "torchvision")
"""Classifiers that take a file, or weights that are fetched: their own tests."""


@pytest.mark.parametrize("name", [name for name in registry.names("classifiers") if name not in FILES_OF_NETWORKS])
def test_a_classifier_keeps_its_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfetched(name: str, architecture: str, *_: object) -> nn.Module:
        torch.manual_seed(0)
        module: nn.Module = timm.create_model(architecture.partition(".")[0], pretrained=False)
        return module

    monkeypatch.setattr(timm_models, "_fetched", unfetched)  # the contract holds for any weights
    small = ClassifierOptions(input_size=64, resize=64)
    testing.check_classifier(registry.build_classifier(VARIANTS.get(name, name), small, "cpu"))


def alarm(name: str, classifier: TorchClassifier, path: Path) -> None:
    """An alarm's file, as if it had been calibrated."""
    members = (Member("cam", {}, ""), Member("grad", {}, ""))
    k = 3 if name == "squeeze" else 1
    learnt: dict[str, Any] = {
        "mean": (-3.0,) * k,
        "covariance": ((1.0, 0.2, 0.1), (0.2, 2.0, 0.0), (0.1, 0.0, 3.0))[:k],
    }
    learnt["covariance"] = tuple(row[:k] for row in learnt["covariance"])
    known = Calibration(
        *(classifier.name, classifier.digest, members, learnt, 1.0, 0.05, (0.5, 1.0), ("a", "b")), defense=name
    )
    known.write(path)


@pytest.mark.parametrize("name", registry.names("defenses"))
def test_a_defense_keeps_its_contract(name: str, tmp_path: Path) -> None:
    classifier = toys.toy()
    alarm(name, classifier, tmp_path / "alarm.json")
    defense = registry.build_defense(str(tmp_path / "alarm.json"), classifier)
    assert defense.name == name
    testing.check_defense(defense, classifier, toys.pictures(3))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves pipes to its own processes open
@pytest.mark.parametrize("name", registry.names("executors"))
def test_an_executor_keeps_its_contract(name: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("ray_cluster").address if name == "ray" else None
    with contextlib.closing(registry.maker("executors", name)(Workplace(2, address=address))) as executor:
        testing.check_executor(executor)
