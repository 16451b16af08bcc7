"""What is known about a classifier is found out once in a process, until it or a file behind it is another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.e2e import TOY, photos, underfire
from support.toys import toy
from underfire.audit import insight, run
from underfire.core import ClassifierOptions, UnderfireError
from underfire.plan import check
from underfire.registry import VICTIMS, Victims


def test_it_is_found_once_for_each_classifier_question_and_file(tmp_path: Path) -> None:
    victims, asked = Victims(), list[int]()
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"1")
    classifier = victims.classifier("efficientnet-lite0", ClassifierOptions(), "cpu")

    def find() -> int:
        asked.append(len(asked))
        return asked[-1]

    options: dict[str, Any] = {"rts": {"weights": str(weights)}}
    assert [victims.about(classifier, "size", options, find) for _ in range(3)] == [0, 0, 0]
    assert victims.about(classifier, "head", options, find) == 1
    assert victims.about(classifier, "size", {}, find) == 2
    os.utime(weights, ns=(1, 1))
    assert victims.about(classifier, "size", options, find) == 3
    assert [victims.about(toy(), "size", options, find) for _ in range(2)] == [4, 5]  # none of this cache
    victims.clear()
    again = victims.classifier("efficientnet-lite0", ClassifierOptions(), "cpu")
    assert victims.about(again, "size", options, find) == 6


def test_what_could_not_be_found_is_asked_again() -> None:
    victims = Victims()
    classifier = victims.classifier("efficientnet-lite0", ClassifierOptions(), "cpu")
    tried: list[int] = []

    def find() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise UnderfireError("Not now.")

    with pytest.raises(UnderfireError, match="Not now"):
        victims.about(classifier, "checked", {}, find)
    for _ in range(2):
        assert victims.about(classifier, "checked", {}, find) is None
    assert len(tried) == 2


def test_a_second_audit_of_a_classifier_does_not_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(does: Any, name: str) -> Any:
        def done(*words: Any, **more: Any) -> Any:
            seen.append(name)
            return does(*words, **more)

        return done

    monkeypatch.setattr(run, "look", noted(insight.look, "look"))
    monkeypatch.setattr(run, "check", noted(check.check, "check"))
    VICTIMS.clear()
    folder = photos(tmp_path / "in", 2)
    for eps in ("4", "8"):
        out = tmp_path / eps
        assert underfire("run", "--images", folder, *TOY, "--eps", eps, "--out", out).code == 0
        assert (out / "classifier.json").is_file()
    assert seen == ["check", "look"]
    assert len({(tmp_path / eps / "classifier.json").read_bytes() for eps in "48"}) == 1
