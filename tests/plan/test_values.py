"""What a user sets is held against what attacks and interpreters say of themselves, before anything is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
import yaml
from pydantic import Field

import underfire
from support.e2e import TOY, extended, photos
from support.e2e import underfire as command
from support.toys import pictures, toy
from underfire import registry
from underfire.core import UnderfireError
from underfire.plan.attacks import attack_of, check_surrogate
from underfire.registry.values import check_call


def refused(attack: str, against: str | None, **given: Any) -> str:
    with pytest.raises(UnderfireError) as caught:
        attack_of(attack, "fast", against, 8, {}, given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("interpreter", "name"),
    [("inputxgrad", "draws"), ("inputxgrad", "memory"), ("inputxgrad", "known"), ("ig", "known")],
)
def test_a_setting_that_would_change_nothing_is_refused(interpreter: str, name: str) -> None:
    with pytest.raises(UnderfireError, match=f"setting of adv2.surrogate.*'{name}'"):
        check_surrogate("adv2", {"surrogate": {name: 1}}, [registry.maker("interpreters", interpreter)])
    check_surrogate("adv2", {"surrogate": {"draws": 3}}, [registry.maker("interpreters", "ig")])
    check_surrogate("adv2", {"surrogate": {"known": False}}, [registry.maker("interpreters", "smoothgrad")])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        ("adv2", "lam"),
        ("adv2", "lam.start"),
        ("adv2", "step.end"),
        ("adv2", "smoothing"),
        ("adv2", "momentum"),
        ("adv2", "confidence"),
        ("adv2", "stop_l1"),
        ("adv2", "steps"),
        ("pgd", "step"),
        ("stadv", "step"),
        ("stadv", "smooth"),
        ("stadv", "max_shift"),
        ("adv2", "surrogate.tau"),
    ],
)
def test_no_setting_is_without_an_end(attack: str, name: str, value: str) -> None:
    key, _, inner = name.partition(".")
    number = float(value)
    given = number if not inner else {inner: number} if key == "surrogate" else {"start": 1.0, inner: number}
    said = refused(attack, "grad" if attack == "adv2" else None, **{key: given})
    assert said == f"{attack}.{name}={number}: it should be a finite number."


@pytest.mark.parametrize(
    ("attack", "given", "parts"),
    [
        ("adv2", {"smoothing": -1}, ["adv2.smoothing=-1", "greater than or equal to 0"]),
        ("adv2", {"smoothing": 1.5}, ["adv2.smoothing=1.5", "less than or equal to 1"]),
        ("adv2", {"confidence": 7}, ["adv2.confidence=7"]),
        ("adv2", {"stop_confidence": -0.1}, ["adv2.stop_confidence=-0.1"]),
        ("adv2", {"momentum": 1.0}, ["adv2.momentum=1.0", "less than 1"]),
        ("stadv", {"momentum": -0.5}, ["stadv.momentum=-0.5"]),
        ("stadv", {"memory": 1}, ["stadv.memory=1", "less than 1"]),
        ("stadv", {"smooth": -1}, ["stadv.smooth=-1"]),
        ("adv2", {"steps": -3}, ["steps = -3"]),
        ("adv2", {"steps": 10**30}, ["adv2.steps=1000"]),
        ("adv2", {"steps": 10**5000}, ["adv2.steps="]),
        ("adv2", {"steps": True}, ["adv2.steps=True", "integer"]),
        ("adv2", {"steps": "many"}, ["adv2.steps=many", "integer"]),
        ("adv2", {"check": -1}, ["check = -1"]),
        ("adv2", {"restart": 2**64}, ["adv2.restart=18446744073709551616"]),
        ("adv2", {"margin": -5.0}, ["adv2.margin=-5.0"]),
        ("adv2", {"bisect": -2, "margin": 5.0}, ["adv2.bisect=-2"]),
        ("adv2", {"bisect": 2}, ["bisect = 2", "margin = 5"]),
        ("adv2-stadv", {"bisect": 2, "margin": 5.0}, ["adv2-stadv.bisect=2"]),
        ("pgd", {"bisect": 2, "margin": 5.0}, ["pgd.bisect=2"]),
        ("adv2", {"step": 0}, ["adv2.step=0", "above 0"]),
        ("adv2", {"step": -1.0}, ["adv2.step=-1.0", "above 0"]),
        ("adv2", {"step": {"start": 2, "end": -1}}, ["adv2.step=", "never be below"]),
        ("adv2", {"lam": -1}, ["adv2.lam=-1", "below 0"]),
        ("adv2", {"lam": 1e300}, ["adv2.lam=1e+300", "1,000,000,000"]),
        ("adv2", {"step": {"start": 1e308, "end": 1}}, ["adv2.step={'start': 1e+308", "1,000,000"]),
        ("adv2", {"lam": True}, ["adv2.lam=True"]),
        ("adv2", {"lam": {"end": 2}}, ["adv2.lam=", "start"]),
        ("adv2", {"lam": {"start": 1, "edn": 2}}, ["'edn'", "Did you mean 'end'"]),
        ("adv2", {"lam": {"start": "much"}}, ["adv2.lam.start=much", "number"]),
        ("adv2", {"lam": {"start": 1, "end": 2, "shape": "gemoetric"}}, ["'gemoetric'", "Did you mean 'geometric'"]),
        ("adv2", {"lam": {"start": 0, "end": 2, "shape": "geometric"}}, ["adv2.lam=", "above 0"]),
        ("adv2", {"lam": {"start": 1, "end": 2, "cycles": 0}}, ["adv2.lam.cycles=0"]),
        ("adv2", {"surrogate": 5}, ["adv2.surrogate=5", "by name"]),
    ],
)
def test_ranges_choices_and_shapes(attack: str, given: dict[str, Any], parts: list[str]) -> None:
    said = refused(attack, "cam" if attack.startswith("adv2") else None, **given)
    assert all(part in said for part in parts), said


def test_what_is_good_is_taken_and_numpys_numbers_are_numbers() -> None:
    made: Any = attack_of("adv2", "fast", "cam", 8, {}, {"steps": np.int64(7), "momentum": 0, "margin": 5, "bisect": 2})
    assert (type(made.settings.steps), made.settings.bisect, made.space.momentum) == (int, 2, 0)
    assert made.space.step.shape == "geometric"


def test_numpys_numbers_among_options_are_written_as_numbers() -> None:
    options = {"adv2": {"steps": np.int64(3), "lam": {"start": np.float32(0.5)}, "rescue": True, "sizes": [np.int8(1)]}}
    dumped = underfire.Settings(images="demo", options=options).model_dump(mode="json")["options"]["adv2"]
    assert dumped == {"steps": 3, "lam": {"start": 0.5}, "rescue": True, "sizes": [1]}


@dataclass(frozen=True)
class Theirs:
    """A third party's attack."""

    name: ClassVar[str] = "theirs"
    fools_interpreter: ClassVar[bool] = False
    eps: int
    heat: Annotated[float, Field(gt=0)] = 1.0
    mood: Literal["calm", "wild"] = "calm"
    free: float = math.inf

    @classmethod
    def make(cls, preset: str, against: str | None, eps: int, **given: Any) -> Theirs:
        return cls(eps, **given)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"heat": 0}, ["theirs.heat=0", "greater than 0"]),
        ({"mood": "cam"}, ["'cam'", "Did you mean 'calm'"]),
        ({"free": math.nan}, ["theirs.free=nan"]),
        ({"cold": 1}, ["theirs", "cold"]),
    ],
)
def test_third_parties_get_the_same(given: dict[str, Any], parts: list[str], monkeypatch: Any) -> None:
    made: Any = registry.maker
    monkeypatch.setattr(registry, "maker", lambda kind, name: Theirs if name == "theirs" else made(kind, name))
    said = refused("theirs", None, **given)
    assert all(part in said for part in parts), said
    assert attack_of("theirs", "fast", None, 8, {}, {"heat": 2}).eps == 8


class Shown:
    """A third party's interpreter."""

    def __init__(self, classifier: Any, depth: Annotated[int, Field(ge=1)] = 1, sides: tuple[float, ...] = ()) -> None:
        self.depth = depth


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"depth": 0}, "shown.depth=0"),
        ({"depth": 2.5}, "shown.depth=2.5"),
        ({"sides": [1.0, math.inf]}, "shown.sides=inf"),
        ({"sides": ["x"]}, "shown.sides=['x']"),
    ],
)
def test_interpreters_options_are_held_against_their_annotations(given: dict[str, Any], part: str) -> None:
    with pytest.raises(UnderfireError, match=part.replace("[", r"\[")):
        check_call("shown", Shown, given)
    check_call("shown", Shown, {"depth": 3, "sides": [1.0, 2]})


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("grad", {"score": "logods"}, "Did you mean 'logodds'"),
        ("grad", {"resolution": math.nan}, "grad.resolution=nan"),
        ("mask", {"lr": math.inf}, "mask.lr=inf"),
        ("mask", {"steps": 2.5}, "mask.steps=2.5"),
    ],
)
def test_interpreters_refuse_what_makes_no_sense(name: str, options: dict[str, Any], part: str) -> None:
    with pytest.raises(UnderfireError, match=part):
        underfire.interpreter(name, toy(), **options)


def test_the_command_refuses_before_anything_is_run(tmp_path: Any) -> None:
    folder, attacks = photos(tmp_path / "in", 1), ("--attack", "pgd", "--attack", "adv2", "--attack", "stadv")
    for word, part in (
        ("adv2.lam=.nan", "adv2.lam=nan: it should be a finite number."),
        ("stadv.step=.nan", "stadv.step=nan: it should be a finite number."),
        ("adv2.smoothing=-1", "adv2.smoothing=-1: it should be greater than or equal to 0."),
        ("adv2.lam={start: 1, end: 2, shape: gemoetric}", "Did you mean 'geometric'?"),
        ("adv2.bisect=2", "margin"),
    ):
        said = command("run", "--images", folder, *TOY, *attacks, "--set", word)
        assert (said.code, part in said.err, len(said.err.strip().splitlines())) == (2, True, 1), said
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        yaml.safe_dump({"images": str(folder), "classifier": "toy", "options": {"adv2": {"lam": math.nan}}})
    )
    assert "adv2.lam=nan" in command("run", plan).err


def test_the_notebook_refuses_too() -> None:
    with extended(), pytest.raises(UnderfireError, match=r"adv2.smoothing=-1: it should be"):
        underfire.attack(toy(), "cam", pictures(1).float(), smoothing=-1)
    with pytest.raises(UnderfireError, match="Did you mean 'geometric'"):
        underfire.attack(toy(), "cam", pictures(1).float(), lam={"start": 1, "end": 2, "shape": "gemoetric"})


OPTIONS = {
    "cam": set(),
    "grad": {"slope", "tau", "tau_end", "pool", "by_layer", "power"},
    "mask": {"kind", "path", "record", "shadows", "field", "level", "tau", "free", "held", "reset"},
    "rts": {"loss"},
    "ensemble": {"weights", "alarm", "margin", "aim", "options"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_interpreter_says_what_an_attack_on_it_may_set(name: str) -> None:
    assert set(registry.maker("interpreters", name).attack_options) == OPTIONS[name]


@pytest.mark.parametrize(
    ("interpreters", "given", "part"),
    [
        (["cam"], {"tau": 0.1}, "no setting of adv2.surrogate 'tau'"),
        (["grad"], {"tua": 0.1}, "Did you mean 'tau'"),
        (["grad"], {"tau": 0}, "adv2.surrogate.tau=0: it should be greater than 0"),
        (["grad"], {"slope": "monoton"}, "Did you mean 'monotone'"),
        (["grad"], {"pool": 2}, "adv2.surrogate.pool=2"),
        (["mask"], {"kind": "bilevle"}, "Did you mean 'bilevel'"),
        (["mask"], {"shadows": [[8, 0]]}, "adv2.surrogate.shadows="),
        (["rts"], {"loss": "sqare"}, "Did you mean 'square'"),
        (["ensemble"], {"alarm": -1}, "adv2.surrogate.alarm=-1"),
        (["cam", "grad"], {"tua": 0.1}, "Did you mean 'tau'"),
    ],
)
def test_so_its_surrogate_is_checked_too(interpreters: list[str], given: dict[str, Any], part: str) -> None:
    makers = [registry.maker("interpreters", name) for name in interpreters]
    with pytest.raises(UnderfireError, match=part):
        check_surrogate("adv2", {"surrogate": given}, makers)


def test_a_setting_of_one_of_several_interpreters_is_one() -> None:
    makers = [registry.maker("interpreters", name) for name in ("cam", "grad", "mask")]
    check_surrogate("adv2", {"surrogate": {"tau": 0.1, "shadows": [[8, 16]]}}, makers)
    check_surrogate("adv2", {"surrogate": {"whatever": 0.1}}, [*makers, Shown])


@pytest.mark.parametrize(
    ("attack", "part"),
    [
        ({"alram": 0}, "Did you mean 'alarm'"),
        ({"aim": math.nan}, "ensemble.attack.aim=nan"),
        ({"weights": {"gard": 0.0}}, "no member of the ensemble 'gard'"),
        ({"options": {"gard": {}}}, "no member of the ensemble 'gard'"),
    ],
)
def test_the_attack_on_an_ensemble_is_checked_where_it_is_set(attack: dict[str, Any], part: str) -> None:
    with pytest.raises(UnderfireError, match=part):
        underfire.interpreter("ensemble", toy(), members=["cam", "grad"], attack=attack)
