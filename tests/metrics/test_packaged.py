"""The packaged yardsticks: whole, of our own networks, and with the power that the page prints."""

from __future__ import annotations

import pytest

import underfire
from underfire.core.hashing import digest_of
from underfire.metrics import packaged


@pytest.mark.parametrize(
    ("classifier", "name", "kinds", "share"),
    [
        *(("efficientnet-lite0", name, 4, 0.95) for name in ("cam", "gradcam", "rts", "rts-a")),
        ("efficientnet-lite0", "grad", 3, 0.9),
        ("efficientnet-lite0", "mask", 4, 0.85),
        *(("efficientnet-lite2", name, 4, 0.95) for name in ("cam", "rts")),
        ("efficientnet-lite2", "grad", 3, 0.9),
    ],
)
def test_our_own_networks_have_one(classifier: str, name: str, kinds: int, share: float) -> None:
    net = underfire.classifier(classifier)
    interpreter = underfire.interpreter(name, net)
    found = packaged.fitting(net.digest, name, interpreter.digest, {})
    assert found is not None
    assert found.yardstick.n >= 40
    power = list(found.yardstick.power.values())[:kinds]  # GRAD is class-blind
    assert all((one.value or 0) >= share for one in power)
    assert (found.yardstick.false_rejects.value or 0) <= 0.1
    assert packaged.fitting(net.digest, name, interpreter.digest, {"layer": 1}) is None
    assert packaged.fitting("another", name, interpreter.digest, {}) is None


def test_an_audit_from_before_finds_those_that_fit_its_digest() -> None:
    mine = {one.interpreter: one for one in packaged.packaged() if one.classifier == "efficientnet-lite0"}
    digest = digest_of([mine["cam"].classifier_digest, {"rts": mine["rts"].interpreter_digest}])
    plan = {"interpreter": ["cam", "rts"], "resolved": {"weights_digest": digest}}
    assert packaged.of_plan(plan) == {name: mine[name] for name in ("cam", "rts")}
    assert packaged.of_plan({**plan, "options": {"cam": {"x": 1}}}) == {"rts": mine["rts"]}
    assert packaged.of_plan({**plan, "resolved": {"weights_digest": "other"}}) == {}
    assert packaged.of_plan({"interpreter": "cam"}) == {}
