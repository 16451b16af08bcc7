"""Weights, class files and settings that nobody wrote: whatever they are, the answer is a result or one sentence."""

from __future__ import annotations

import functools
import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from support.fuzz import Mutation, answers, fuzzed, mutated, mutations, values
from underfire.classifiers import labels, weights
from underfire.cli import flags
from underfire.plan.attacks import attack_of

STATE = {"body.weight": torch.arange(36.0).reshape(4, 9), "body.bias": torch.zeros(4), "n": torch.tensor(3)}
WAYS: dict[str, Callable[[], Any]] = {
    "state": lambda: STATE,
    "nested": lambda: {"state_dict": {f"module.{k}": v for k, v in STATE.items()}, "epoch": 3, "arch": "net"},
    "averaged": lambda: {"model": STATE, "state_dict_ema": STATE},
    "module": lambda: nn.Linear(3, 2),
    "list": lambda: [STATE, STATE],
    "half": lambda: {k: v.half() for k, v in STATE.items()},
}


@functools.cache
def checkpoint(way: str, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(WAYS[way](), buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@functools.cache
def safe(metadata: bool) -> bytes:
    made: bytes = save(STATE, {"architecture": "net", "mean": "[0.5, 0.5, 0.5]"} if metadata else None)
    return made


def inside(content: bytes, how: Mutation) -> bytes:
    """A checkpoint whose pickle is damaged and whose zip is whole: checksums do not catch it."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, mutated(part, how) if name.endswith("data.pkl") else part)
    return made.getvalue()


checkpoints = st.one_of(
    st.builds(
        lambda way, zipped, how: mutated(checkpoint(way, zipped), how),
        st.sampled_from([*WAYS]),
        st.booleans(),
        mutations,
    ),
    st.builds(lambda way, how: inside(checkpoint(way, True), how), st.sampled_from([*WAYS]), mutations),
    st.builds(pickle.dumps, values),
    st.binary(max_size=200),
    st.text(alphabet="aB1{[\n<", max_size=600).map(str.encode),
)
safes = st.one_of(
    st.builds(lambda metadata, how: mutated(safe(metadata), how), st.booleans(), mutations),
    st.builds(
        lambda header, rest: len(text := json.dumps(header, default=str).encode()).to_bytes(8, "little") + text + rest,
        st.dictionaries(st.sampled_from([*STATE, "__metadata__", "x"]), values, max_size=4),
        st.binary(max_size=64),
    ),
)


def _any_weights(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"net{suffix}"
        path.write_bytes(content)
        answers(lambda: _load(str(path)))


def _load(path: str) -> None:
    state, metadata = weights.read(path)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert all(isinstance(value, str) for value in metadata.values())
    weights.fit(nn.Linear(9, 4), state, path, "net")


CLASS_FILES = [
    "0\tcat\n1\tdog\n",
    "cat\ndog\nfish\n",
    '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
    "{0: 'tench', 1: 'goldfish'}",
    '["cat", "dog"]',
    "n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
    "\ufeffcat\ndog\n",
]
class_files = st.one_of(
    st.builds(mutated, st.sampled_from([text.encode() for text in CLASS_FILES]), mutations),
    st.builds(lambda value: json.dumps(value, default=str).encode(), values),
    st.builds(lambda value: repr(value).encode(), values),
    st.builds(lambda n, k: b"[" * n + b"(" * k, st.integers(0, 9000), st.integers(0, 9000)),
)


def _any_classes(content: bytes) -> None:
    answers(lambda: labels.parse(content.decode("utf-8", "replace"), "classes.txt"))


words = st.sampled_from(
    [
        "adv2.steps",
        "adv2.lam",
        "pgd.step",
        "adv2.surrogate",
        "mask.steps",
        "cam.x",
        "grad.score",
        "nobody.x",
        "adv2",
        "",
    ]
)
odd = st.one_of(
    values.map(str),
    values.map(lambda value: json.dumps(value, default=str)),
    st.sampled_from([".nan", "-.inf", "1e999", "-1", "0", "{start: .nan}", "{start: 1, shape: x}", "[", "&a [*a]"]),
    st.text(max_size=12),
)
settings_words = st.lists(st.builds(lambda word, value: f"{word}={value}", words, odd), min_size=1, max_size=3)


def _any_flags(given_words: list[str]) -> None:
    answers(lambda: _settle(given_words))


def _settle(given_words: list[str]) -> None:
    options = flags._options(given_words)
    for name in ("pgd", "adv2"):
        attack_of(name, "fast", "grad" if name == "adv2" else None, 8, {}, options.get(name, {}))


FUZZED: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], None], int]] = [
    ("checkpoints", checkpoints, lambda content: _any_weights(content, ".pth"), 80),
    ("safetensors", safes, lambda content: _any_weights(content, ".safetensors"), 60),
    ("class files", class_files, _any_classes, 80),
    ("settings", settings_words, _any_flags, 60),
]


@pytest.mark.parametrize(("what", "inputs", "ask", "n"), FUZZED, ids=[one[0] for one in FUZZED])
def test_any_bytes_are_answered(what: str, inputs: st.SearchStrategy[Any], ask: Callable[[Any], None], n: int) -> None:
    fuzzed(n)[0](given(inputs)(ask))()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "inputs", "ask", "n"), FUZZED, ids=[one[0] for one in FUZZED])
def test_many_more_are(what: str, inputs: st.SearchStrategy[Any], ask: Callable[[Any], None], n: int) -> None:
    fuzzed(n)[1](given(inputs)(ask))()
