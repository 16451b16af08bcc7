"""MASK: blend, blur, price and optimiser against slow float64 re-implementations; batches, options, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.toys import CLASSES, pictures, seeded
from underfire import registry
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import ImageErrors, UnderfireError
from underfire.interpreters.mask.blend import Blend, blur, gaussian_matrix, odd
from underfire.interpreters.mask.mask import Mask
from underfire.interpreters.mask.walk import Objective, Walk, flat_images, jitters, shifted

SIZE, SIDE = 48, 5
"""At 48 px the blur has 5 px and the mask's Gaussian 3."""


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
    net.head.bias.data = -net((pictures(16, 99, SIZE) - 0.5) / 0.1).mean(0).detach()
    return wrap(
        net, input_size=SIZE, mean=(0.5,) * 3, std=(0.1,) * 3, classes=[f"class {i}" for i in range(CLASSES)], name="s"
    )


def predicted(classifier: TorchClassifier, x: Tensor) -> Tensor:
    return classifier.logits(x).argmax(1)


# -- blend ------------------------------------------------------------------------------------------------------------


def mirrored(i: int, n: int) -> int:
    """Reflection that does not repeat the edge."""
    i = -i if i < 0 else i
    return 2 * (n - 1) - i if i >= n else i


def slow_gaussian(picture: list[list[float]], kernel: int, sigma: float) -> list[list[float]]:
    """A two-dimensional Gaussian, pixel by pixel."""
    n, r = len(picture), kernel // 2
    weight = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma**2)) for a in range(-r, r + 1) for b in range(-r, r + 1)}
    total = sum(weight.values())
    return [
        [sum(w * picture[mirrored(i + a, n)][mirrored(j + b, n)] for (a, b), w in weight.items()) / total
         for j in range(n)]
        for i in range(n)
    ]  # fmt: skip


def slow_bilinear(m: list[list[float]], n: int) -> list[list[float]]:
    """Bilinear up-sampling with pixel centres at half-integers (align_corners=False)."""
    size = len(m)

    def place(i: int) -> tuple[int, int, float]:
        at = max(0.0, (i + 0.5) * size / n - 0.5)
        low = min(int(at), size - 1)
        return low, min(low + 1, size - 1), at - low

    out = []
    for i in range(n):
        a, b, s = place(i)
        line = []
        for j in range(n):
            c, d, t = place(j)
            line.append((1 - s) * ((1 - t) * m[a][c] + t * m[a][d]) + s * ((1 - t) * m[b][c] + t * m[b][d]))
        out.append(line)
    return out


def test_the_blur_is_a_slow_gaussian_with_mirrored_edges() -> None:
    x = pictures(1, size=SIZE)
    expected = slow_gaussian(x[0, 1].tolist(), 5, 3.5 * SIZE / 224)
    torch.testing.assert_close(blur(x)[0, 1], torch.tensor(expected, dtype=torch.float64))


def test_the_blend_is_up_sampled_smoothed_and_mixed_pixel_by_pixel() -> None:
    x, m = pictures(2, size=SIZE), torch.rand(2, SIDE, SIDE, dtype=torch.float64, generator=torch.manual_seed(0))
    u = torch.tensor(slow_gaussian(slow_bilinear(m[1].tolist(), SIZE), 3, 2.0 * SIZE / 224), dtype=torch.float64)
    expected = u * x[1] + (1 - u) * blur(x)[1]
    torch.testing.assert_close(Blend(x, SIDE).images(m)[1], expected)


def test_a_mask_of_ones_keeps_the_image_and_one_of_zeros_shows_the_blur() -> None:
    x = pictures(2, size=SIZE)
    ones = torch.ones(2, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(Blend(x, 28).images(ones), x)
    torch.testing.assert_close(Blend(x, 28).images(0 * ones), blur(x))


def test_the_published_kernels_at_224_px_and_their_scaled_sizes() -> None:
    widths = [int((gaussian_matrix(224, k, s)[112] > 0).sum()) for k, s in ((11, 2.0), (21, 3.5))]
    assert widths == [11, 21]
    assert [odd(k) for k in (21, 12.0, 11.9, 6.3, 3.0, 0.4, 0.0)] == [21, 13, 11, 7, 3, 1, 1]
    torch.testing.assert_close(gaussian_matrix(224, 21, 3.5).sum(1), torch.ones(224, dtype=torch.float64))


# -- price and optimiser ----------------------------------------------------------------------------------------------


def slow_price(m: list[list[float]]) -> float:
    n = len(m)
    ragged = sum(abs(m[i + 1][j] - m[i][j]) ** 3 for i in range(n - 1) for j in range(n))
    ragged += sum(abs(m[i][j + 1] - m[i][j]) ** 3 for i in range(n) for j in range(n - 1))
    return 1e-4 * sum(abs(1 - v) for line in m for v in line) + 1e-2 * ragged


def test_the_price_is_a_slow_sum() -> None:
    m = torch.rand(3, SIDE, SIDE, dtype=torch.float64, generator=torch.manual_seed(1))
    expected = torch.tensor([slow_price(one.tolist()) for one in m], dtype=torch.float64)
    torch.testing.assert_close(Objective().price(m), expected)


def test_the_prices_slope_is_its_finite_difference() -> None:
    m = torch.rand(1, 4, 4, dtype=torch.float64, generator=torch.manual_seed(2))
    slope, step = Objective().slope(m), 1e-6
    for i in range(4):
        for j in range(4):
            up, down = m.clone(), m.clone()
            up[0, i, j] += step
            down[0, i, j] -= step
            rise = float(Objective().price(up) - Objective().price(down)) / (2 * step)
            assert float(slope[0, i, j]) == pytest.approx(rise, abs=1e-8)


def test_the_walk_is_torchs_adam_with_a_clamp() -> None:
    generator = torch.manual_seed(3)
    m = torch.full((2, SIDE, SIDE), 0.5, dtype=torch.float64)
    walk, leaf = Walk(m, 0.1), m.clone().requires_grad_()
    library = torch.optim.Adam([leaf], lr=0.1)
    for _ in range(40):
        gradient = torch.randn(2, SIDE, SIDE, dtype=torch.float64, generator=generator) * 1e-4
        walk.step(gradient)
        leaf.grad = gradient
        library.step()
        with torch.no_grad():
            leaf.clamp_(0, 1)
        torch.testing.assert_close(walk.m, leaf.detach())
    assert 0 <= float(walk.m.min()) < float(walk.m.max()) <= 1


def slow_map(classifier: TorchClassifier, x: Tensor, c: int, steps: int) -> Tensor:
    """MASK of one image with autograd through the whole objective and torch's optimiser."""
    m = torch.full((1, SIDE, SIDE), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([m], lr=0.1)
    for _ in range(steps):
        u = torch.nn.functional.interpolate(m[:, None], SIZE, mode="bilinear", align_corners=False)
        g = gaussian_matrix(SIZE, 11, 2.0)
        u = g @ u @ g.T
        p = classifier.logits(u * x + (1 - u) * blur(x)).softmax(1)[0, c]
        adam.zero_grad()
        (p + Objective().price(m)[0]).backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    return 1 - m.detach()[0]


def test_a_map_equals_a_slow_reimplementation() -> None:
    classifier, x = small(), pictures(2, size=SIZE)
    y = predicted(classifier, x)
    found = Mask(classifier, size=SIDE, steps=60).explain(x, y)
    for n in range(2):
        torch.testing.assert_close(found[n], slow_map(classifier, x[n : n + 1], int(y[n]), 60), rtol=0, atol=1e-6)


# -- the interpreter --------------------------------------------------------------------------------------------------


def test_it_is_registered_and_its_map_has_the_published_size() -> None:
    mask = registry.maker("interpreters", "mask")(small(), steps=2)
    assert mask.explain(pictures(1, size=SIZE), torch.tensor([0])).shape == (1, 28, 28)
    assert Mask(small()).map_passes == 900


def test_deleting_the_map_lowers_the_class_score_more_than_deleting_elsewhere() -> None:
    classifier, x = small(), pictures(4, size=SIZE)
    y = predicted(classifier, x)
    mask = Mask(classifier, size=SIDE)
    m, blend = mask.explain(x, y), Blend(x, SIDE)
    score = {
        name: classifier.logits(blend.images(1 - shown)).softmax(1).gather(1, y[:, None]).mean()
        for name, shown in (("map", m), ("mirrored", m.flip(1, 2)), ("nothing", 0 * m))
    }
    assert score["map"] < score["mirrored"] < score["nothing"]


def test_a_jittered_image_does_not_feel_its_batch() -> None:
    classifier, x = small(), pictures(3, size=SIZE)
    y = predicted(classifier, x)
    mask = Mask(classifier, size=SIDE, steps=40, jitter=4)
    alone = torch.cat([mask.explain(x[n : n + 1], y[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(mask.explain(x, y), alone, rtol=0, atol=1e-9)


def test_jitter_is_drawn_from_the_image_and_the_seed() -> None:
    x = pictures(2, size=SIZE)
    drawn = jitters(x, 4, 50, 0)
    assert drawn.shape == (50, 2, 2)
    assert (int(drawn.min()), int(drawn.max())) == (0, 3)
    torch.testing.assert_close(jitters(x[1:], 4, 50, 0), drawn[:, 1:])
    assert not torch.equal(jitters(x, 4, 50, 1), drawn)
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_a_shifted_image_is_a_crop_of_the_mirrored_one() -> None:
    x = pictures(2, size=6)
    moved = shifted(x, torch.tensor([[0, 0], [2, 3]]), 4)
    torch.testing.assert_close(moved[0], x[0])
    for i in range(6):
        for j in range(6):
            torch.testing.assert_close(moved[1, :, i, j], x[1, :, mirrored(i + 2, 6), mirrored(j + 3, 6)])


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_flat_image_has_no_map_and_the_others_have() -> None:
    x = pictures(3, size=SIZE)
    x[1] = 0.25
    with pytest.raises(ImageErrors, match="nothing that MASK could delete") as caught:
        Mask(small(), size=SIDE, steps=2).explain(x, torch.tensor([0, 1, 2]))
    assert list(caught.value.by_row) == [1]


def test_a_large_flat_image_is_flat_and_a_large_picture_has_a_map() -> None:
    flat = torch.full((3, 768, 768), 0.3)
    assert flat_images(torch.stack([flat, pictures(1, size=768)[0].float(), flat * math.nan])).tolist() == [1, 0, 0]
    m = Mask(small(), size=SIDE, steps=2).explain(pictures(1, size=768), torch.tensor([1]))
    assert bool(m.isfinite().all())


def test_a_blend_is_the_same_where_the_search_is_in_bfloat16() -> None:
    x, m = pictures(2, size=SIZE).float(), torch.rand(2, SIDE, SIDE, generator=torch.manual_seed(0))
    wanted = Blend(x, SIDE).images(m)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(Blend(x, SIDE).images(m), wanted)


def test_an_image_of_one_pixel_has_no_map() -> None:
    with pytest.raises(ImageErrors, match="nothing that MASK could delete"):
        Mask(small(), size=SIDE, steps=2).explain(pictures(1, size=1), torch.tensor([0]))


def test_a_class_without_a_score_keeps_everything() -> None:
    classifier = small()
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    head.bias.data[2] = -1e4
    m = Mask(classifier, size=SIDE, steps=60).explain(pictures(1, size=SIZE), torch.tensor([2]))
    assert m.tolist() == torch.zeros(1, SIDE, SIDE).tolist()


def test_a_class_with_hardly_a_score_has_a_map() -> None:
    classifier = small()
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    head.bias.data[2] -= 60
    x = pictures(1, size=SIZE)
    assert 0 < float(classifier.logits(x).softmax(1)[0, 2]) < 1e-12
    m = Mask(classifier, size=SIDE).explain(x, torch.tensor([2]))
    assert float(m.abs().max()) < 1e-3


def test_scores_that_are_no_numbers_are_an_error_of_their_image() -> None:
    classifier, x = small(), pictures(2, size=SIZE)
    x[0, 0, 5, 5] = math.nan
    with pytest.raises(ImageErrors, match="not finite") as caught:
        Mask(classifier, size=SIDE, steps=3).explain(x, torch.tensor([0, 1]))
    assert list(caught.value.by_row) == [0]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"steps": 0},
        {"jitter": -1},
        {"steps": 2.5},
        {"lr": 0.0},
        {"lr": math.nan},
        {"l1": -1.0},
        {"tv": "much"},
        {"l1": math.inf},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(UnderfireError, match=f"mask {name} = {options[name]!r}"):
        Mask(small(), **options)
