"""Weight files from everywhere: each is loaded whole, or one sentence says what it is."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from support.toys import ToyNet, seeded
from underfire.classifiers import weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.efficientnet_lite import lite0
from underfire.core import ClassifierOptions, UnderfireError

STATE: dict[str, Tensor] = {k: v.float() for k, v in seeded(ToyNet()).state_dict().items()}
AVERAGED = {k: v + 1 for k, v in STATE.items()}


def pickled(content: object, modern: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=modern)
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def flipped(content: bytes, at: bytes) -> bytes:
    """One bit of the first weight turned over."""
    i = content.index(at)
    return content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


FIRST = STATE["first.weight"].numpy().tobytes()[:16]
FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "git-lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "pointer of git-lfs"),
    "html": (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "xml": (lambda: b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    "empty": (lambda: b"", "an empty file"),
    "zeros": (lambda: bytes(5000), "all zeros"),
    "text": (lambda: "Größe\n".encode() * 2000, "a text file"),
    "letters": (lambda: b"a" * 600, "a text file"),
    "empty zip": (zipped, "an empty zip"),
    "other zip": (lambda: zipped(cat=b"miaow"), r"a zip file of other things \(cat\)"),
    "cut zip": (lambda: pickled(STATE)[:-300], "zip file that is damaged or was cut short"),
    "flipped zip": (lambda: flipped(pickled(STATE), FIRST), "checksum of .* is wrong"),
    "torchscript": (scripted, "a TorchScript network"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(40), "a gzip archive"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "plain pickle": (lambda: pickle.dumps({"a": 1}), "no checkpoint that PyTorch can read"),
    "cut pickle": (lambda: pickled(STATE, modern=False)[:-300], "no checkpoint that PyTorch can read"),
    "a pickled call": (lambda: pickle.dumps(print, 4), r"builtins.print\): loading it would run code"),
    "a module": (lambda: pickled(seeded(ToyNet()).float()), r"support.toys.ToyNet\): loading it would run code"),
    "no weights": (lambda: pickled({"state_dict": {}}), "no named weights"),
    "a list": (lambda: pickled([1, 2]), "no named weights"),
    "sparse": (lambda: pickled({"a": torch.eye(3).to_sparse()}), "'a' in a form that no network has"),
    "a claim": (lambda: pickled({"a": torch.zeros(1).expand(10**12)}), "'a' in a form that no network has"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_called_what_it_is(tmp_path: Path, kind: str, name: str) -> None:
    make, reason = FOREIGN[kind]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(UnderfireError, match=rf"{name}' .*{reason}") as e:
        weights.read(str(tmp_path / name))
    assert "\n" not in str(e.value)
    assert ("run code" in str(e.value)) == (kind in ("a module", "a pickled call"))


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_args: Any, **_more: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "net.pth").write_bytes(b"abc")
    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(UnderfireError, match=r"Cannot read the weights in '.*net.pth' \(Permission denied\)"):
        weights.read(str(tmp_path / "net.pth"))


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A copy that is cut, overwritten, or has lost or gained some bytes."""
    i = draw.randrange(len(content))
    noise = draw.randbytes(draw.randrange(1, 20))
    early = draw.randrange(min(1500, len(content)))
    return draw.choice(
        [
            content[:i],
            content[:i] + noise + content[i + len(noise) :],
            content[:early] + noise[:1] + content[early + 1 :],
            content[:i] + content[i + len(noise) :],
            content[:i] + noise + content[i:],
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_results_or_sentences(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    whole = [pickled(STATE), pickled({"state_dict": STATE, "epoch": 3}, modern=False), save(STATE), save(STATE)]
    refused = 0
    for i in range(120):
        path = tmp_path / f"{i}.{('pth', 'pth', 'pth', 'safetensors')[i % 4]}"
        path.write_bytes(damaged(whole[i % 4], draw))
        try:
            state, _ = weights.read(str(path))
            weights.fit(ToyNet(), state, path.name, "toy")
        except UnderfireError as e:
            refused += 1
            assert path.name in str(e)
    assert refused > 60


def test_averaged_weights_are_preferred_and_said_so(tmp_path: Path) -> None:
    for key in ("state_dict_ema", "model_ema"):
        path = tmp_path / f"{key}.pth"
        path.write_bytes(
            pickled({"state_dict": STATE, "model": STATE, key: {f"module.{k}": v for k, v in AVERAGED.items()}})
        )
        state, metadata = weights.read(str(path))
        assert metadata == {"entry": key}
        torch.testing.assert_close(state, AVERAGED)
    path.write_bytes(pickled({"state_dict": STATE, "state_dict_ema": None}))
    state, metadata = weights.read(str(path))
    assert metadata == {}
    torch.testing.assert_close(state, STATE)


def test_what_was_taken_and_how_photos_become_inputs_can_be_asked(tmp_path: Path) -> None:
    import timm

    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    (tmp_path / "net.pth").write_bytes(pickled({"state_dict": {}, "state_dict_ema": module.state_dict()}))
    built = lite0("", ClassifierOptions(weights=str(tmp_path / "net.pth"), interpolation="nearest"))
    assert built.entry == "state_dict_ema"
    assert built.preprocess.interpolation == "nearest"


def test_integers_are_no_weights() -> None:
    state = {**STATE, "first.weight": STATE["first.weight"].long()}
    with pytest.raises(UnderfireError, match=r"1 of another type \(first.weight torch.int64 for torch.float32\)"):
        weights.fit(ToyNet(), state, "net.pth", "toy")


def test_one_front_door_by_name_and_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    import underfire

    real: Any = timm.create_model

    def offline(name: str, pretrained: bool, **more: Any) -> nn.Module:
        made: nn.Module = real(name, pretrained=False, **more)
        return made

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(TorchClassifier, "fold", lambda *_: None)  # takes seconds
    for name in ("resnet50", "densenet169"):
        by_name: Any = underfire.classifier(name)
        (tmp_path / "net.pth").write_bytes(pickled(real(name, pretrained=False).state_dict()))
        by_file: Any = underfire.classifier(name, weights=str(tmp_path / "net.pth"))
        assert by_name.preprocess == by_file.preprocess
    with pytest.raises(UnderfireError, match="cubical"):
        underfire.classifier("resnet50", interpolation="cubical")
