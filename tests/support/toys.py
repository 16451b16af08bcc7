"""Tiny float64 victims: smooth networks, so that formulas can be checked to the last digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire import testing
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Goal, Images, Maps, Terms, Victim
from underfire.interpreters.cam import Cam, CamSurrogate

if TYPE_CHECKING:
    from underfire.core import Labels

SIZE, CLASSES = 12, 4


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with weights that depend on ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    for p in module.parameters():
        fan_in = p[0].numel() if p.dim() > 1 else 1.0
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / fan_in**0.5
    return module


class ToyNet(nn.Module):
    """Two convolutions, softplus, global average pooling, one linear layer; maps of 6×6 for 12 px."""

    def __init__(self, k: int = CLASSES) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.last = nn.Softplus()
        self.head = nn.Linear(6, k)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.last(self.second(F.softplus(self.first(x))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


STD = 0.1


def toy(seed: int = 1) -> TorchClassifier:
    """A victim whose classes are about equally common among `pictures`, so that attacks have something to win."""
    module = seeded(ToyNet(), seed)
    assert isinstance(module, ToyNet)
    module.head.weight.data *= 30
    module.head.bias.data.zero_()
    module.head.bias.data = -module((pictures(32, 99) - 0.5) / STD).mean(0).detach()
    return wrap(
        module,
        input_size=SIZE,
        resize=SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(STD, STD, STD),
        classes=[f"class {i}" for i in range(CLASSES)],
        name="toy",
    )


def pictures(n: int, seed: int = 0, size: int = SIZE) -> Images:
    """(n, 3, size, size) in float64 on the 8-bit grid: coloured clouds with some noise."""
    return testing.pictures(n, size, seed, torch.float64)


KINKED = 16
"""Side of its input, px."""


class KinkedNet(nn.Module):
    """Two convolutions with ReLU between, global average pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


def kinked(scale: float = 1.0) -> TorchClassifier:
    net = seeded(KinkedNet(), 5)
    assert isinstance(net, KinkedNet)
    net.head.weight.data *= scale
    return wrap(net, input_size=KINKED, mean=(0.5,) * 3, std=(0.25,) * 3, classes=list("abcd"), name="kinked")


SMALL, SIDE = 48, 5
"""Sides of its input and of a mask, px: the blur has 5 px then, and the mask's Gaussian 3."""


class SmallNet(nn.Module):
    """Two convolutions, global average pooling, one linear layer: fast at 48 px, and smooth where nothing is said."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 5, 4), activation(), nn.Conv2d(6, 6, 3, 2), activation())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


def small(scale: float = 20.0, activation: type[nn.Module] = nn.Softplus) -> TorchClassifier:
    net = seeded(SmallNet(activation), 3)
    assert isinstance(net, SmallNet)
    net.head.weight.data *= scale
    net.head.bias.data = -net((pictures(16, 99, SMALL) - 0.5) / STD).mean(0).detach()
    classes = [f"class {i}" for i in range(CLASSES)]
    return wrap(net, input_size=SMALL, mean=(0.5,) * 3, std=(STD,) * 3, classes=classes, name="s")


class WholeNet(nn.Module):
    """Smooth, and with all that an interpreter may ask for: features, a linear head, a pyramid at strides 4 to 32."""

    def __init__(self, k: int = CLASSES) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 6, 4, stride=4)
        self.down = nn.ModuleList(nn.Conv2d(6, 6, 3, stride=2, padding=1) for _ in range(3))
        self.head = nn.Linear(6, k)

    def levels(self, x: Tensor) -> list[Tensor]:
        out = [F.softplus(self.see(x))]
        for layer in self.down:
            out.append(F.softplus(layer(out[-1])))
        return out

    def last(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(x).mean((2, 3)))
        return logits


WHOLE = 96
"""Side of its input, px: large enough for MASK to blur something, and for features of 3×3."""


def whole(seed: int = 1) -> TorchClassifier:
    """The smallest classifier that any interpreter can explain: what a part is tested on for free."""
    net = seeded(WholeNet(), seed)
    assert isinstance(net, WholeNet)
    net.head.weight.data *= 30
    net.head.bias.data.zero_()
    net.head.bias.data = -net((pictures(16, 99, WHOLE) - 0.5) / STD).mean(0).detach()
    return wrap(
        net,
        input_size=WHOLE,
        resize=WHOLE,
        mean=(0.5, 0.5, 0.5),
        std=(STD, STD, STD),
        classes=[f"class {i}" for i in range(CLASSES)],
        name="whole",
        features=net.last,
        pyramid=net.levels,
    )


def goal_for(cam: Cam, x: Images) -> Goal:
    """The runner-up class, with the map of the clean image for its own class."""
    order: Labels = cam.classifier.logits(x).argsort(1, descending=True)
    maps = cam.explain(x, order[:, 0])
    return Goal(order[:, 1], order[:, 0], {cam.name: maps})


def victim(seed: int = 1) -> tuple[Victim, Cam]:
    classifier = toy(seed)
    cam = Cam(classifier)
    return Victim(classifier, (cam,)), cam


class BlindSurrogate(CamSurrogate):
    """CAM's surrogate that keeps the real map to itself, as GRAD's and MASK's do."""

    shows = False

    def terms(self, x: Images) -> Terms:
        return super().terms(x)._replace(maps=None)


class BlindCam(Cam):
    """CAM whose real maps cost a forward of their own; counts how often they are asked for."""

    asked = 0

    def explain(self, x: Images, y: Labels) -> Maps:
        self.asked += 1
        return super().explain(x, y)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> BlindSurrogate:
        return BlindSurrogate(self, goal)


class Block(nn.Module):
    """A transformer's block: attention by torch's fused step, then two layers with GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.proj(self.attend(self.norm1(x)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class TinyVit(nn.Module):
    """A vision transformer of two blocks with a class token; patches of 24 px, 4×4 of them at 96 px."""

    def __init__(self, k: int = CLASSES) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 24, stride=24)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 17, 8))
        self.blocks = nn.Sequential(Block(8, 2), Block(8, 2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, k)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


def transformer(seed: int = 2) -> TorchClassifier:
    """The smallest classifier with attention between all of its tokens."""
    net = seeded(TinyVit(), seed)
    assert isinstance(net, TinyVit)
    net.head.weight.data *= 10
    classes = [f"class {i}" for i in range(CLASSES)]
    return wrap(net, input_size=WHOLE, resize=WHOLE, mean=0.5, std=STD, classes=classes, name="tiny vit")
