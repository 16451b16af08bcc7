"""Attention maps against slow replicas that get the attention from the libraries themselves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from support import toys
from support.attacked import distance
from underfire import registry, wrap
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.classifiers.attention import misfit
from underfire.classifiers.listing import in_order
from underfire.core import UnsuitableError
from underfire.core.layers import Layer

transformers: Any = pytest.importorskip("transformers", reason="needs the library transformers")
SIDE = 64


def wrapped(module: nn.Module) -> Any:
    return wrap(module, input_size=SIDE, mean=0.5, std=0.5, classes=list("abcde"))


def timm_vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=5, depth=3, **options)
    return built.eval()


def replica(attention: list[Any], gradients: list[Any] | None, by_patches: bool = False) -> Any:
    """R of one image, by the definition; attention (heads, T, T) of each block."""
    size = attention[0].shape[-1]
    r = np.eye(size)
    for k, a in enumerate(attention):
        if gradients is None:
            mixed = a.mean(0) + np.eye(size)
            r = (mixed / mixed.sum(1, keepdims=True)) @ r
        else:
            r = r + np.maximum(gradients[k] * a, 0).mean(0) @ r
    row = (r[-16:, -16:].mean(0) if by_patches else r[0, -16:]).reshape(4, 4)
    return (row - row.min()) / (row.max() - row.min())


def unfused(module: nn.Module, x: torch.Tensor, y: int) -> tuple[list[Any], list[Any]]:
    """Timm's own attention and gradients, with its fused step switched off."""
    caught: list[torch.Tensor] = []

    def catch(_m: nn.Module, _args: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        caught.append(out)

    for block in module.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(catch)
    module((x - 0.5) / 0.5)[0, y].backward()
    return [a[0].detach().numpy() for a in caught], [a.grad[0].numpy() for a in caught]  # type: ignore[index]


@pytest.mark.parametrize("name", ["rollout", "relevance"])
def test_a_map_is_its_slow_replica(name: str) -> None:
    x = toys.pictures(2, 3, SIDE).float()
    got = registry.build_interpreter(name, wrapped(timm_vit()), {}).explain(x, torch.tensor([3, 1]))
    attention, gradients = unfused(timm_vit(), x[1:].requires_grad_(), 1)
    wanted = replica(attention, gradients if name == "relevance" else None)
    torch.testing.assert_close(got[1].double(), torch.from_numpy(wanted).double(), rtol=0, atol=1e-4)


TOKENS: list[tuple[dict[str, Any], bool]] = [
    ({"reg_tokens": 2}, False),
    ({"global_pool": "avg"}, True),
    ({"global_pool": "avg", "class_token": False}, True),
    ({"global_pool": "avg", "class_token": False, "reg_tokens": 4}, True),
]


@pytest.mark.parametrize(("options", "by_patches"), TOKENS)
def test_a_map_is_of_the_tokens_that_the_prediction_reads(options: dict[str, Any], by_patches: bool) -> None:
    x, y = toys.pictures(2, 3, SIDE).float(), torch.tensor([3, 1])
    attention, gradients = unfused(timm_vit(**options), x[1:].clone().requires_grad_(), 1)
    for name, of in (("rollout", None), ("relevance", gradients)):
        one: Any = registry.build_interpreter(name, wrapped(timm_vit(**options)), {})
        with one.classifier.meter.counting(2) as spent:
            got = one.explain(x, y)
        wanted = torch.from_numpy(replica(attention, of, by_patches)).double()
        torch.testing.assert_close(got[1].double(), wanted, rtol=0, atol=1e-4)
        assert spent.passes.tolist() == [one.map_passes] * 2
        beside_the_patches = attention[0].shape[-1] > 16
        assert bool(one.digest) == (by_patches and beside_the_patches)  # what was right keeps its key


def test_a_look_at_what_is_read_is_no_photos_cost() -> None:
    classifier = wrapped(timm_vit())
    with classifier.meter.counting(2) as spent:
        assert classifier.tokens_read() == (True, *[False] * 16)
    assert spent.passes.tolist() == [0, 0]


def test_a_network_that_reads_nothing_is_shown_by_its_first_token() -> None:
    module = timm_vit(global_pool="avg")
    nn.init.zeros_(module.get_submodule("head").weight)  # type: ignore[arg-type]
    one: Any = registry.build_interpreter("rollout", wrapped(module), {})
    assert (one.by_first, one.digest) == (True, "")


class Logits(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.module(x).logits
        return z


def hugging_face(attention: str) -> nn.Module:
    torch.manual_seed(0)
    of: Any = transformers.ViTForImageClassification
    kind: Any = transformers.ViTConfig
    config = kind(
        image_size=SIDE, num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=32, num_labels=5
    )
    return Logits(of._from_config(config, attn_implementation=attention)).eval()


def torchvision_vit() -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = torchvision.models.VisionTransformer(SIDE, 16, 2, 2, 32, 32, num_classes=5).eval()
    nn.init.normal_(next(built.get_submodule("heads.head").parameters()))  # zeros, as torchvision makes it
    return built


@pytest.mark.parametrize("make", [lambda: hugging_face("sdpa"), lambda: hugging_face("eager"), torchvision_vit])
def test_attention_is_seen_however_a_library_computes_it(make: Any) -> None:
    classifier, x = wrapped(make()), toys.pictures(2, 3, SIDE).float().requires_grad_()
    z, attention = classifier.attention(x)
    torch.testing.assert_close(z, classifier.logits(x), rtol=0, atol=1e-5)
    assert [a.shape[-1] for a in attention] == [17, 17]
    torch.testing.assert_close(attention[0].sum(-1), torch.ones_like(attention[0][..., 0]))
    (twice,) = torch.autograd.grad(
        torch.autograd.grad(z[:, 0].sum(), attention, create_graph=True)[0].square().sum(), x
    )
    assert bool(twice.any())
    assert classifier.layer("auto").kind == "tokens"


def test_attention_that_a_layer_hands_on_is_no_grid_of_places() -> None:
    """Data2VecVision's dropout, as many a network's, is a layer that leaves (heads, 17, 17) numbers."""
    torch.manual_seed(0)
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    of: Any = transformers.Data2VecVisionForImageClassification
    config = transformers.Data2VecVisionConfig(**tiny, image_size=SIDE, num_labels=5)
    classifier = wrapped(Logits(of._from_config(config, attn_implementation="eager")).eval())
    assert classifier.layer("auto").kind == "tokens"
    assert [a.shape[-1] for a in classifier.attention(toys.pictures(2, 3, SIDE).float())[1]] == [17, 17]
    handed = next(layer for layer in classifier.layers() if layer.name.endswith("attention.attention.dropout"))
    assert (handed.shape, handed.kind, handed.stride) == ((2, 17, 17), "other", 0)


@pytest.mark.parametrize(
    ("square", "uneven", "said"),
    [
        ([(2, 3, 17, 17)] * 2, [], ""),
        ([(6, 17, 17)], [], ""),
        ([], [], "no attention between pairs"),
        ([(2, 3, 17, 17)], [(64, 16)], "64 × 16 weights"),
        ([(18, 3, 49, 49), (2, 3, 49, 49)], [], "groups of 49 tokens"),
        ([(2, 3, 17, 17), (2, 3, 16, 16)], [], r"different numbers of tokens or channels \(16, 17\)"),
        ([(2, 3, 8, 8)], [], "among 8 tokens or channels, and its patch grid has 16 places"),
    ],
)
def test_attention_that_makes_no_map_is_told(square: list[Any], uneven: list[Any], said: str) -> None:
    assert re.search(said, misfit(square, uneven, 2, 16)) if said else not misfit(square, uneven, 2, 16)


def test_the_queries_of_each_head_are_no_grid() -> None:
    """With a norm of its queries and 64 tokens of 64 numbers, a network leaves (heads, 64, 64)."""
    torch.manual_seed(0)
    built = timm.layers.Attention(128, num_heads=2, qk_norm=True, norm_layer=nn.LayerNorm)
    patches, flat = nn.Conv2d(3, 128, 8, 8), nn.Sequential(nn.Flatten(2), Turned(), nn.LayerNorm(128))
    module = nn.Sequential(patches, flat, built, Turned(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 5))
    classifier = wrapped(module)
    assert next(layer for layer in classifier.layers() if layer.name == "2.q_norm").shape == (2, 64, 64)
    assert classifier.layer("auto").name == "1"
    assert classifier.patches() == (8, 8)


class Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mT


class Constant(nn.Module):
    """A layer that gives a number, as the constants of a converted ONNX graph do."""

    def forward(self) -> torch.Tensor:
        return torch.tensor(2.0)


class Times(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.constant, self.conv, self.head = Constant(), nn.Conv2d(3, 8, 3, 4), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.head(self.constant() * self.conv(x).mean((2, 3)))
        return z


def test_a_layer_that_gives_a_number_is_no_layer_of_maps() -> None:
    assert [layer.name for layer in wrapped(Times()).layers()] == ["conv", "head"]


def test_a_network_whose_layers_show_no_grid_says_so() -> None:
    module = nn.Sequential(nn.Unfold(16, stride=16), nn.Flatten(), nn.Linear(768 * 16, 5))
    with pytest.raises(UnsuitableError, match=r"No layer of 'custom' .*rows and columns.*grad or mask"):
        registry.build_interpreter("gradcam", wrapped(module), {})


class Shuffled(nn.Module):
    """Tokens (N, 16, 8) of a 4 × 4 grid, put in another order before the second layer."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 8, 16, 16), nn.Linear(8, 8)
        self.blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
        self.head, self.order = nn.Linear(8, 5), order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.blocks(self.first(self.patches(x).flatten(2).mT)[:, self.order])
        z: torch.Tensor = self.head(t.mean(1))
        return z


@pytest.mark.parametrize("kind", ["tokens", "other"])
def test_tokens_in_another_order_than_the_places_are_no_grid(kind: str) -> None:
    """As Hiera's, which lie by windows: their map would show the right evidence at the wrong places."""
    torch.manual_seed(0)
    order = list(range(16)) if kind == "tokens" else [5 * i % 16 for i in range(16)]
    classifier = wrapped(Shuffled(order))
    found = {layer.name: layer.kind for layer in classifier.layers()}
    assert found["blocks.5"] == kind
    assert classifier.layer("auto").name == ("blocks" if kind == "tokens" else "patches")


def test_outputs_without_a_dimension_take_no_part_in_the_order() -> None:
    tokens = Layer("a", "tokens", (4, 8), (2, 2), 16, 0.5)
    number = Layer("b", "other", (), (0, 0), 0, 0.4)
    assert in_order([tokens, number], [-1, -1]) == [tokens, number]


def test_attention_to_fewer_places_is_no_map() -> None:
    torch.manual_seed(0)
    of: Any = transformers.SegformerForImageClassification
    kind: Any = transformers.SegformerConfig
    classifier = wrapped(
        Logits(of(kind(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, num_labels=5))).eval()
    )
    with pytest.raises(UnsuitableError, match=r"256 × 4 weights"):
        registry.build_interpreter("rollout", classifier, {})


def test_hugging_faces_own_attention_is_the_one_that_is_seen() -> None:
    module, x = hugging_face("eager"), toys.pictures(2, 3, SIDE).float()
    _, attention = wrapped(module).attention(x)
    inner: Any = module.module
    own = inner(pixel_values=(x - 0.5) / 0.5, output_attentions=True).attentions
    torch.testing.assert_close(attention[1], own[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rollout", "relevance"])
def test_a_network_without_attention_is_refused(name: str) -> None:
    with pytest.raises(UnsuitableError, match=r"'toy' has no attention map: no attention .*gradcam"):
        registry.build_interpreter(name, toys.toy(), {})


def test_attention_in_windows_is_no_attention_between_all_tokens() -> None:
    module = timm.create_model("swin_tiny_patch4_window7_224", img_size=SIDE, window_size=2, num_classes=5)
    with pytest.raises(UnsuitableError, match=r"groups of 4 tokens.*between all"):
        registry.build_interpreter("rollout", wrapped(module), {})


@pytest.mark.parametrize("name", ["rollout", "relevance"])
def test_the_attack_brings_the_map_back(name: str) -> None:
    x = toys.pictures(3, 0, toys.WHOLE)
    one = registry.build_interpreter(name, toys.transformer(), {})
    assert distance(adv2.make("fast", name, 16), one, x) < 0.7 * distance(pgd.make("fast", None, 16), one, x)
