"""Maps and searches on inputs that are grey, not square, or of sides that are no multiple of 4."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.toys import seeded
from underfire import registry
from underfire.attacks.search.flow import Flow
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import ImageErrors, UnsuitableError
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import Grad
from underfire.interpreters.mask import Mask
from underfire.interpreters.mask.blend import Blend, blur, grid
from underfire.interpreters.rts.fits import refuse_unsuitable
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import Rts
from underfire.testing import check_classifier, check_interpreter, pictures


class Net(nn.Module):
    """Smooth, for any channels and any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, 2, 1)
        self.second = nn.Conv2d(6, 6, 3, 2, 1)
        self.last = nn.Softplus()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.last(self.second(F.softplus(self.first(x))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def victim(size: tuple[int, int], channels: int) -> TorchClassifier:
    net = seeded(Net(channels), 2)
    assert isinstance(net, Net)
    net.head.weight.data *= 20
    return wrap(net, input_size=size, channels=channels, mean=0.5, std=0.2, name="mine")


def shown(classifier: TorchClassifier, n: int = 2) -> tuple[Tensor, Tensor]:
    policy = classifier.preprocess
    x = pictures(n, policy.size, dtype=torch.float64, channels=policy.channels)
    return x, classifier.logits(x).argmax(1)


ODD = [((48, 72), 3), ((48, 48), 1), ((50, 75), 1)]


@pytest.mark.parametrize(("size", "channels"), ODD)
def test_classifiers_and_interpreters_keep_their_contracts(size: tuple[int, int], channels: int) -> None:
    classifier = victim(size, channels)
    x = shown(classifier)[0]
    check_classifier(classifier, x)
    parts: list[Any] = [Cam(classifier), Grad(classifier), Mask(classifier, size=6, steps=4)]
    for part in parts:
        check_interpreter(part, classifier, x)


class Levels(nn.Module):
    """Feature maps at strides 4 to 32, as RTS asks for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.see = nn.Conv2d(channels, 6, 4, stride=4)
        self.down = nn.ModuleList(nn.Conv2d(6, 6, 3, stride=2, padding=1) for _ in range(3))
        self.head = nn.Linear(6, 4)

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


@pytest.mark.parametrize(("size", "channels"), [((64, 96), 3), ((64, 64), 1)])
def test_a_learned_mask_fits_them_too(size: tuple[int, int], channels: int) -> None:
    net = seeded(Levels(channels), 2).float()
    assert isinstance(net, Levels)
    classifier = wrap(net, input_size=size, features=net.last, pyramid=net.levels, name="mine")
    x = pictures(3, size, channels=channels)
    levels, y = classifier.pyramid(x), classifier.logits(x).argmax(1)
    mask = MaskNet([f.shape[1] for f in levels])
    mask.start(levels, classifier.head[y], classifier.head, torch.Generator().manual_seed(0))
    rts = Rts.around(classifier, mask)
    assert rts.explain(x, y).shape == (3, size[0] // 4, size[1] // 4)
    check_interpreter(rts, classifier, x)


@pytest.mark.parametrize(
    ("given", "said"), [({"input_size": (64, 96)}, "64×96 px"), ({"head": "multilabel"}, "labels")]
)
def test_what_rts_is_not_trained_for_is_told(given: dict[str, Any], said: str) -> None:
    classifier = wrap(Levels(3), **{"input_size": 64, "name": "mine", **given})
    with pytest.raises(UnsuitableError, match=f"'mine'.*{said}"):
        refuse_unsuitable(classifier)


class Spot(nn.Module):
    """A network that looks at one pixel only."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column, self.weight = row, column, nn.Parameter(torch.ones(()).double())

    def forward(self, x: Tensor) -> Tensor:
        z = self.weight * x[:, :, self.row, self.column].sum(1)
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize("size", [(299, 299), (66, 97), (64, 64), (17, 30)])
def test_a_saliency_map_lies_where_its_pixels_are_to_the_last_one(size: tuple[int, int]) -> None:
    h, w = size
    for row, column in ((0, 0), (h - 1, w - 1), (h // 2, w // 3), (h - 2, 1)):
        classifier = wrap(Spot(row, column), input_size=size, mean=0.5, std=0.5, head="softmax")
        x = pictures(1, size, dtype=torch.float64)
        m = Grad(classifier).explain(x, torch.tensor([0]))[0]
        peak = divmod(int(m.argmax()), m.shape[1])
        for at, side, cells, wanted in zip(peak, size, m.shape, (row, column), strict=True):
            assert abs((at + 0.5) * side / cells - (wanted + 0.5)) <= side / cells / 2 + 1  # drawn over the whole side
        assert m.shape == (round(h / 4), round(w / 4))


def test_maps_of_other_sides_have_a_key_of_their_own() -> None:
    uneven, even = (SimpleNamespace(preprocess=victim(size, 3).preprocess) for size in ((50, 50), (48, 48)))
    assert Grad(even).digest == ""
    assert Grad(uneven).digest
    assert Grad(uneven, resolution="full").digest == ""


@pytest.mark.parametrize("name", ["inputxgrad", "ig", "smoothgrad", "captum:Saliency"])
def test_other_maps_reach_to_the_last_pixel_too(name: str) -> None:
    classifier = wrap(Spot(34, 33), input_size=35, mean=0.5, std=0.5, head="softmax")
    one: Any = registry.build_interpreter(name, classifier, {})
    m = one.explain(pictures(1, 35, dtype=torch.float64), torch.tensor([0]))[0]
    assert m.shape == (9, 9)
    assert divmod(int(m.argmax()), 9) == (8, 8)


def test_the_evidence_of_removed_parts_reaches_to_the_last_pixel_too() -> None:
    classifier = victim((35, 35), 3)
    x, y = shown(classifier, 1)
    for name, options in (("rise", {"n": 9}), ("lime", {"n": 9, "segments": "superpixels", "number": 9})):
        one: Any = registry.build_interpreter(name, classifier, options)
        masks = one.masks(x)
        weights = torch.arange(9.0, dtype=torch.float64)[None]
        if name == "rise":
            pixels = sum(weights[0, k] * masks.keep(k)[0, 0] for k in range(9)) / 9 / 0.5
            found = masks.evidence(weights)[0]
        else:
            painted = torch.arange(masks.segments.counts[0]).to(x)[None]
            pixels, found = masks.segments.keep(painted)[0, 0], masks.segments.painted(painted)[0]
        torch.testing.assert_close(found, F.adaptive_avg_pool2d(pixels[None], (9, 9))[0])
        assert one.explain(x, y).shape == (1, 9, 9)


SUPERPIXELS = {"segments": "superpixels", "number": 9}


@pytest.mark.parametrize(
    ("name", "options", "by_cells"),
    [
        ("inputxgrad", {}, True),
        ("ig", {}, True),
        ("smoothgrad", {}, True),
        ("rise", {}, True),
        ("occlusion", {}, False),
        ("lime", {}, False),
        ("lime", SUPERPIXELS, True),
        ("kernelshap", SUPERPIXELS, True),
        ("captum:Saliency", {}, True),
    ],
)
def test_other_maps_of_other_sides_have_a_key_of_their_own_too(
    name: str, options: dict[str, Any], by_cells: bool
) -> None:
    even, uneven = (registry.build_interpreter(name, victim((n, n), 3), options).digest for n in (48, 50))
    assert uneven == (f"{even} equal cells" if by_cells else even)
    assert even == "draws 2" or name.startswith("captum")


class Chequered(nn.Module):
    """Its score is a sum of pixels whose weights are not the same, though their means over 4×4 pixels are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat(16, 16).double())

    def forward(self, x: Tensor) -> Tensor:
        z = (self.weight * x).sum((1, 2, 3))
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize("name", ["grad", "smoothgrad"])
def test_evidence_that_is_the_same_in_every_cell_is_no_map(name: str) -> None:
    one = registry.build_interpreter(name, wrap(Chequered(), input_size=32, mean=0.5, std=0.5, head="softmax"), {})
    with pytest.raises(ImageErrors, match="same everywhere"):
        one.explain(pictures(1, 32, dtype=torch.float64), torch.tensor([0]))


def test_the_mask_has_square_cells_and_blurs_alike_in_both_directions() -> None:
    dot = torch.zeros(1, 1, 96, 192, dtype=torch.float64)
    dot[0, 0, 48, 96] = 1
    spread = blur(dot)[0, 0]
    torch.testing.assert_close(spread[:, 96], spread[48, 48:144])
    assert grid(28, dot) == (28, 56)
    m = torch.zeros(1, 6, 12, dtype=torch.float64)
    m[0, 3, 6] = 1
    u = Blend(dot, 6).weights(m)[0, 0]
    torch.testing.assert_close(u[:, 104], u[56, 48:144])


@pytest.mark.parametrize(("size", "channels"), ODD)
def test_a_grey_picture_is_bent_too(size: tuple[int, int], channels: int) -> None:
    classifier = victim(size, channels)
    x, y = shown(classifier)
    walk = Flow(2.0).walk(x)
    for _ in range(3):
        walk.step(F.cross_entropy(classifier.logits(walk.images()), (y + 1) % 3, reduction="none"), 0.5)
    assert walk.flow.shape == (2, 2, *size)
    assert float(walk.flow.norm(dim=1).max()) <= 2.0 * min(size) / 224 + 1e-9
    assert float((walk.images().detach() - x).abs().max()) > 0
