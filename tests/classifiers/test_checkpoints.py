"""Checkpoints as people have them: whatever wraps the names, the network gets its own weights, or a sentence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import underfire
from support.toys import ToyNet, seeded
from underfire.classifiers import timm_models, weights
from underfire.classifiers.checkpoints import ENTRY
from underfire.core import MismatchError, UnderfireError

STATE: dict[str, Tensor] = {k: v.float() for k, v in seeded(ToyNet()).state_dict().items()}
OTHER = {k: v + 1 for k, v in STATE.items()}
PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_orig_mod.module.model."]


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in state.items()}


def loaded(path: Path, key: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    state, metadata = weights.read(str(path), key)
    net = ToyNet().float()
    said = weights.fit(net, state, path.name, "toy")
    return dict(net.state_dict()), metadata | said


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("more", [False, True])
def test_prefixes_in_any_order_in_both_formats(tmp_path: Path, prefix: str, more: bool) -> None:
    beside = {"criterion.weight": torch.ones(3)} if more else {}
    state = under(prefix, STATE) | beside
    save_file(state, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", saved(tmp_path / "a.pth", state)):
        got, said = loaded(path)
        torch.testing.assert_close(got, STATE)
        assert ("criterion.weight" in said.get(weights.FOUND, "")) == more


def test_a_prefix_inside_a_name_is_removed(tmp_path: Path) -> None:
    state = {k.replace("head.", "head._orig_mod."): v for k, v in under("module.", STATE).items()}
    torch.testing.assert_close(loaded(saved(tmp_path / "a.pth", state))[0], STATE)


@pytest.mark.parametrize(
    "content",
    [
        {"net": STATE, "acc": 0.5, "epoch": 3},
        {"params": STATE},
        {"model": STATE, "ema": {"decay": 0.99, "num_updates": 3, "shadow_params": list(OTHER.values())}},
        {
            "state_dict": under("model.", STATE) | {"loss.w": torch.ones(2)},
            "pytorch-lightning_version": "2.0",
            "epoch": 1,
        },
        {
            "arch": "toy",
            "args": argparse.Namespace(lr=0.1, model="toy"),
            "state_dict": STATE,
            "optimizer": {"state": {}},
        },
    ],
    ids=["net", "params", "torch_ema", "lightning", "timm"],
)
def test_training_checkpoints_of_many_kinds(tmp_path: Path, content: Any) -> None:
    torch.testing.assert_close(loaded(saved(tmp_path / "a.pth", content))[0], STATE)


def test_a_namespace_is_data_and_nothing_else_is(tmp_path: Path) -> None:
    content = {"state_dict": STATE, "args": argparse.Namespace(run=print)}
    with pytest.raises(UnderfireError, match=r"print\): loading it would run code"):
        weights.read(str(saved(tmp_path / "a.pth", content)))


def test_the_key_chooses(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"student": under("module.", OTHER), "teacher": under("module.backbone.", STATE)})
    with pytest.raises(MismatchError, match=r"holds weights under student, teacher: choose with --key"):
        loaded(path)
    got, said = loaded(path, "teacher")
    torch.testing.assert_close(got, STATE)
    assert said[ENTRY] == "teacher"
    with pytest.raises(UnderfireError, match=r"There is no key.*'techer'.*Did you mean 'teacher'"):
        loaded(path, "techer")
    both = {"state_dict": OTHER, "state_dict_ema": STATE}
    torch.testing.assert_close(loaded(saved(tmp_path / "b.pth", both), "state_dict")[0], OTHER)
    torch.testing.assert_close(loaded(saved(tmp_path / "b.pth", both))[0], STATE)


def test_of_several_networks_in_one_file_the_averaged_one_is_taken_or_the_user_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(under("model.", OTHER) | under("ema_model.", STATE), path)
    got, said = loaded(path)
    torch.testing.assert_close(got, STATE)
    assert said[ENTRY] == "ema_model"
    torch.testing.assert_close(loaded(path, "model")[0], OTHER)
    save_file(under("one.", OTHER) | under("two.", STATE), path)
    with pytest.raises(MismatchError, match=r"several such networks \(one, two\): choose one with --key"):
        loaded(path)
    torch.testing.assert_close(loaded(path, "two")[0], STATE)


@pytest.mark.parametrize(("unit", "at"), [(1.0, "normalizer.new_"), (255.0, "normalize.")])
def test_a_normaliser_inside_becomes_the_policy(tmp_path: Path, unit: float, at: str) -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    inside = {f"{at}mean": (mean * unit).view(1, 3, 1, 1), f"{at}std": (std * unit).view(1, 3, 1, 1)}
    attacker = {f"attacker.{k}": v.clone() for k, v in inside.items()} | under("attacker.model.", STATE)
    state = under("module.", under("model.", STATE) | inside | attacker)
    got, said = loaded(saved(tmp_path / "a.pth", {"model": state, "epoch": 1}))
    torch.testing.assert_close(got, STATE)
    assert [float(n) for n in said["mean"].split(",")] == pytest.approx([0.1, 0.2, 0.3])
    assert [float(n) for n in said["std"].split(",")] == pytest.approx([0.4, 0.5, 0.6])
    assert "applied once" in said[weights.FOUND]


@pytest.mark.parametrize(
    ("mean", "std", "want"),
    [
        ([0.5], [0.25], (0.5, 0.25)),
        ([127.5], [127.5], (0.5, 0.5)),
        ([0.0] * 3, [255.0] * 3, (0, 1)),
        ([0.0], [1.0], (0, 1)),
    ],
    ids=["one number", "one number in levels", "only std in levels", "nothing"],
)
def test_a_normaliser_of_one_number_or_of_levels(
    tmp_path: Path, mean: list[float], std: list[float], want: tuple[float, float]
) -> None:
    inside = {"0.mean": torch.tensor(mean).view(1, -1, 1, 1), "0.std": torch.tensor(std).view(1, -1, 1, 1)}
    got, said = loaded(saved(tmp_path / "a.pth", under("1.", STATE) | inside))
    torch.testing.assert_close(got, STATE)
    assert tuple({float(n) for n in said[key].split(",")}.pop() for key in ("mean", "std")) == want


def test_a_normaliser_is_applied_once(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("resnet10t", num_classes=3).eval()
    state = under("model.", net.state_dict()) | {"mu": torch.tensor([0.5, 0.4, 0.3]), "sigma": torch.full((3,), 0.2)}
    path = saved(tmp_path / "a.pth", state)
    built: Any = underfire.classifier("timm:resnet10t", weights=str(path), input_size=64)
    assert built.preprocess.mean == pytest.approx((0.5, 0.4, 0.3))
    x = torch.rand(2, 3, 64, 64)
    want = net((x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / 0.2)
    torch.testing.assert_close(built.logits(x), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("key", ["fc._packed_params._packed_params", "fc.qweight", "fc.weight_scale", "fc.SCB"])
def test_quantised_weights_are_refused(tmp_path: Path, key: str) -> None:
    path = saved(tmp_path / "a.pth", {**STATE, key: torch.ones(2)})
    with pytest.raises(MismatchError, match=rf"quantised weights \('{key}'\).*from before quantisation"):
        weights.read(str(path))


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_quantised_tensors_are_refused(tmp_path: Path) -> None:
    q = torch.quantize_per_tensor(torch.ones(4, 2), 0.1, 0, torch.qint8)
    with pytest.raises(MismatchError, match=r"quantised"):
        weights.read(str(saved(tmp_path / "a.pth", {"head.weight": q})))


def test_a_gguf_file_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(UnderfireError, match=r"a GGUF file, whose weights are quantised"):
        weights.read(str(tmp_path / "a.gguf"))


def test_own_heads_on_networks_with_one_head_and_two(tmp_path: Path) -> None:
    import timm

    for name, prefix in (("deit_tiny_distilled_patch16_224", "module."), ("resnet10t", "model.")):
        net = timm.create_model(name, num_classes=7)
        path = saved(tmp_path / "a.pth", under(prefix, net.state_dict()) | {"loss.w": torch.ones(1)})
        built: Any = underfire.classifier(f"timm:{name}", weights=str(path))
        assert len(built.classes) == 7


def test_a_head_on_top_of_a_whole_network_is_not_left_out(tmp_path: Path) -> None:
    k = STATE["head.weight"].shape[0]
    path = saved(tmp_path / "a.pth", under("backbone.", STATE) | {"classifier.weight": torch.ones(3, k)})
    with pytest.raises(MismatchError, match=r"'classifier.weight' \(3, \d+\) .*A head of its own.*underfire.wrap"):
        loaded(path)
    loaded(saved(path, under("net.", STATE) | {"loss.weight": torch.ones(k)} | under("old.net.", STATE)))


def test_a_transformer_runs_at_the_size_of_its_weights_and_at_others(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64).eval()
    path = saved(tmp_path / "a.pth", net.state_dict())
    built: Any = underfire.classifier("timm:vit_tiny_patch16_224", weights=str(path))
    assert built.preprocess.input_size == 64
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(built.logits(x), net((x - built._mean) / built._std), rtol=1e-4, atol=1e-5)
    other: Any = underfire.classifier("timm:vit_tiny_patch16_224", weights=str(path), input_size=96)
    assert other.logits(torch.rand(1, 3, 96, 96)).shape == (1, 3)


def test_the_shared_transformer_is_as_good_as_its_card_says(shared: Path) -> None:
    file = shared / "models" / "vit_small_dinov2_tiny20.safetensors"
    built: Any = underfire.classifier("timm:vit_small_patch14_dinov2", weights=str(file))
    assert (built.preprocess.input_size, built.preprocess.resize) == (224, 256)
    assert len(built.classes) == 20
    assert timm_models.FITS["center"] == built.fit == "crop"


def test_the_scale_is_the_unit_of_mean_and_std(tmp_path: Path) -> None:
    import timm

    path = saved(tmp_path / "a.pth", timm.create_model("resnet10t", num_classes=3).state_dict())
    own: dict[str, Any] = {"weights": str(path), "input_size": 32}
    built: Any = underfire.classifier("timm:resnet10t", scale=255.0, mean=(123.0, 117.0, 104.0), **own)
    assert built.preprocess.mean == pytest.approx((123 / 255, 117 / 255, 104 / 255))
    assert built.preprocess.std == pytest.approx((1 / 255,) * 3)
    plain: Any = underfire.classifier("timm:resnet10t", scale=255.0, **own)
    torch.testing.assert_close(plain._normalised(torch.ones(1, 3, 2, 2)), torch.full((1, 3, 2, 2), 255.0))
    with pytest.raises(UnderfireError, match=r"mean 123,117,104.*--scale 255"):
        underfire.classifier("timm:resnet10t", mean=(123.0, 117.0, 104.0), **own)


def test_modules_are_refused_as_weights_of_others() -> None:
    with pytest.raises(MismatchError, match=r"toy"):
        weights.fit(nn.Linear(2, 2), STATE, "a.pth", "toy")
