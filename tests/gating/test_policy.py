"""Policies: every mistake is a sentence with the file, the line and the user's word."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underfire.core import NotFoundError, UnderfireError
from underfire.gating.policy import Policy, Rule, Where
from underfire.gating.policy_file import read_policy

GOOD = """\
# our rules
errors: 2
rules:
  - measure: forged
    where: {interpreter: cam, attack: [adv2, adv2-stadv], eps: 8}
    max: 0.1
    increase: 0.05

  - name: maps move
    measure: map_iou
    min: 0.25
    max: 1
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_is_read_with_the_line_of_each_rule(tmp_path: Path) -> None:
    found = read_policy(_file(tmp_path, GOOD.replace("    max: 1\n", "")))
    first, second = found.policy.rules
    assert found.policy.errors == 2
    assert first.bounds == {"max": 0.1, "increase": 0.05}
    assert dict(first.where.chosen) == {"interpreter": ("cam",), "attack": ("adv2", "adv2-stadv"), "eps": (8,)}
    assert first.title == "forged max 0.1, increase 0.05"
    assert second.title == "maps move"
    assert (found.line(0), found.line(1)) == (4, 9)


def test_a_policy_is_taken_as_values_or_as_it_is() -> None:
    policy = Policy(rules=(Rule(measure="forged", max=0.1),))
    assert read_policy({"rules": [{"measure": "forged", "max": 0.1}]}).policy == policy
    assert read_policy(policy).policy is policy
    with pytest.raises(UnderfireError, match=r"'mx'.*'max'"):
        read_policy({"rules": [{"measure": "forged", "mx": 0.1}]})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rules: [{measure: forgd, max: 0.1}]", ["line 1", "'forgd'", "'forged'"]),
        ("rules:\n- measure: forged\n  mx: 0.1", ["line 3", "'mx'", "'max'"]),
        ("rules:\n- measure: forged\n  max: 0.1\n  where: {atack: adv2}", ["line 4", "'atack'", "'attack'"]),
        ("ruls:\n- measure: forged", ["'ruls'", "'rules'"]),
        ("errors: 1", ["'rules'"]),
        ("rules: []", ["rules"]),
        ("rules:\n- max: 0.1", ["line 2", "'measure'"]),
        ("rules:\n- measure: forged", ["line 2", "max, min, increase, decrease"]),
        ("rules:\n- {measure: forged, max: 1.5}", ["line 2", "1.5", "between 0 and 1"]),
        ("rules:\n- {measure: forged, max: 10}", ["0.1 for 10 %"]),
        ("rules:\n- {measure: forged, max: -0.1}", ["-0.1", "between 0 and 1"]),
        ("rules:\n- {measure: passes, min: -1}", ["-1", "negative"]),
        ("rules:\n- {measure: forged, max: 0}", ["no number of photos"]),
        ("rules:\n- {measure: alarm, min: 1}", ["no number of photos"]),
        ("rules:\n- {measure: forged, max: 1}", ["never fail"]),
        ("rules:\n- {measure: map_iou, min: 0}", ["never fail"]),
        ("rules:\n- {measure: map_iou, min: 0.5, max: 0.4}", ["0.5", "0.4"]),
        ("rules:\n- {measure: forged, increase: 0}", ["tolerance"]),
        ("rules:\n- {measure: forged, decrease: 1}", ["tolerance"]),
        ("rules:\n- {measure: forged, max: .nan}", ["line 2", "max", "finite"]),
        ("rules:\n- {measure: forged, max: '0.1'}", ["line 2", "max", "'0.1'"]),
        ("rules:\n- {measure: forged, max: true}", ["line 2", "max"]),
        ("rules:\n- {measure: forged, max: 0.1, where: {eps: 8.5}}", ["line 2", "eps"]),
        ("rules:\n- {measure: forged, max: 0.1}\nerrors: -1", ["line 3", "errors", "-1"]),
        ("rules:\n- {measure: forged,\n   max: 0.1, max: 0.9}", ["line 3", "'max' twice"]),
        ("rules: [", ["no YAML"]),
        ("- measure: forged", ["no mapping"]),
        ("", ["no mapping"]),
        ("a: &a [*a]", ["no YAML"]),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(UnderfireError) as told:
        read_policy(_file(tmp_path, text))
    said = str(told.value)
    assert "gate.yaml'" in said
    assert "\n" not in said
    for part in parts:
        assert part in said, said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--init"):
        read_policy(tmp_path / "gone.yaml")
    with pytest.raises(UnderfireError, match=str(tmp_path)):
        read_policy(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00rules")
    with pytest.raises(UnderfireError, match="UTF-8"):
        read_policy(tmp_path / "bytes.yaml")
    (tmp_path / "long.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(UnderfireError, match="1,024 KB"):
        read_policy(tmp_path / "long.yaml")


def test_references_that_unfold_to_millions_are_refused(tmp_path: Path) -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 8))
    with pytest.raises(UnderfireError, match="no YAML"):
        read_policy(_file(tmp_path, f"l0: &l0 [1]\n{levels}\n"))


@pytest.mark.parametrize("value", [0.1, 1, 0.5])
def test_whole_numbers_are_bounds_too(value: Any) -> None:
    assert Rule(measure="passes", max=value).max == float(value)


WORDS = st.sampled_from([*Rule.model_fields, *Where.model_fields, "rules", "errors", "forged", "cam", "", "é\x00"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, VALUES, max_size=3) | st.fixed_dictionaries({"rules": st.lists(VALUES, max_size=3)}))
def test_any_values_are_a_policy_or_one_sentence(values: dict[str, Any]) -> None:
    with contextlib.suppress(UnderfireError):
        read_policy(values)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"rules:\n- {text}".encode("utf-8", "replace")))
def test_any_bytes_are_a_policy_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UnderfireError):
        read_policy(path)
