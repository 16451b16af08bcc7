"""Doors do what their library does, and their matrices are its own: against libraries, and a replica of Pillow's."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from underfire.core import Preprocess, UnderfireError, UnknownNameError
from underfire.core.door import Door
from underfire.doors.function import FunctionDoor
from underfire.images import pixels
from underfire.registry import build_door, maker, names

SIZE, RESIZE = 24, 28
DOORS = [
    *(("pillow", how) for how in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")),
    *(("timm", how) for how in ("bilinear", "bicubic")),
    *(("torch", how) for how in ("nearest", "bilinear", "bicubic")),
    *(("opencv", how) for how in ("nearest", "bilinear", "bicubic", "lanczos")),
    *((name, "bilinear") for name in ("pillow:squash", "pillow:pad", "timm:pad", "torch:squash", "torch:pad")),
    *((name, "bicubic") for name in ("torch:no-antialias", "torch:float", "opencv:area", "opencv:pad,area")),
]
sizes = st.tuples(st.integers(20, 120), st.integers(20, 120))


def door_named(word: str, how: str = "bicubic") -> Any:
    kind, _, variant = word.partition(":")
    return maker("doors", kind)(variant, Preprocess(SIZE, RESIZE, interpolation=how))


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def soft(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise in the middle of the range, where no filter overshoots it."""
    return noise(height, width, seed) // 4 + 96


@pytest.mark.parametrize(("word", "how"), DOORS)
@settings(max_examples=8)
@given(sizes, st.integers(0, 99))
def test_matrices_are_the_door_but_for_its_rounding(word: str, how: str, size: tuple[int, int], seed: int) -> None:
    door, photo = door_named(word, how), soft(*size, seed)
    way = door.way(*size)
    told, border = way.forward(photo), np.asarray(abs(way.down).sum(1)) * np.asarray(abs(way.across).sum(1)).T
    apart = np.abs(told - door.enter(photo))[border > 0.5]
    assert apart.max() <= (0.01 if "float" in word else 1.6)


@pytest.mark.parametrize(("word", "how"), DOORS)
@settings(max_examples=5)
@given(sizes)
def test_the_way_back_is_the_transpose(word: str, how: str, size: tuple[int, int]) -> None:
    way = door_named(word, how).way(*size)
    rng = np.random.default_rng(3)
    p, g = rng.standard_normal((*size, 3)), rng.standard_normal((SIZE, SIZE, 3)).astype(np.float32)
    box = way.box
    inside = p[box.top : box.bottom, box.left : box.right]
    assert float((way.forward(p) * g).sum()) == pytest.approx(float((inside * way.back(g)).sum()), abs=1e-3)


@pytest.mark.parametrize(("word", "how"), DOORS)
def test_nothing_outside_of_the_box_is_seen(word: str, how: str) -> None:
    door, photo = door_named(word, how), noise(50, 90)
    box, other = door.way(50, 90).box, noise(50, 90, 1)
    other[box.top : box.bottom, box.left : box.right] = photo[box.top : box.bottom, box.left : box.right]
    assert np.array_equal(door.enter(photo), door.enter(other))


# --- grey inputs, and such as are not square --------------------------------------------------------------------------

SHAPED = {
    "wide": Preprocess(SIZE, RESIZE, interpolation="bilinear", width=40),
    "grey and tall": Preprocess(40, RESIZE, (0.5,), (0.25,), "bilinear", width=SIZE),
}


def grey_or_not(door: Any) -> Any:
    return lambda image: door.enter(np.asarray(image))


@pytest.mark.parametrize(
    "word", ["pillow", "pillow:pad", "timm", "timm:squash", "torch", "torch:float", "opencv", "own"]
)
@pytest.mark.parametrize("shape", SHAPED)
@pytest.mark.parametrize("size", [(50, 90), (91, 40)])
def test_a_door_of_any_shape_is_its_matrices_and_its_way_back_the_transpose(
    word: str, shape: str, size: tuple[int, int]
) -> None:
    policy, photo = SHAPED[shape], soft(*size)
    kind, _, variant = word.partition(":")
    known = maker("doors", "pillow" if kind == "own" else kind)("" if kind == "own" else variant, policy)
    door: Any = FunctionDoor("mine", policy, grey_or_not(known)) if kind == "own" else known
    entered, way = door.enter(photo), door.way(*size)
    assert entered.shape == (*policy.size, policy.channels)
    border = np.asarray(abs(way.down).sum(1)) * np.asarray(abs(way.across).sum(1)).T
    assert np.abs(way.forward(photo) - entered)[border > 0.5].max() <= (2.6 if kind == "own" else 1.7)
    rng = np.random.default_rng(3)
    p, g = rng.standard_normal((*size, 3)), rng.standard_normal(entered.shape).astype(np.float32)
    box = way.box
    inside = p[box.top : box.bottom, box.left : box.right]
    assert float((way.forward(p) * g).sum()) == pytest.approx(float((inside * way.back(g)).sum()), abs=1e-3)


@settings(max_examples=10)
@given(sizes)
def test_timm_s_door_of_another_shape_is_timm_s(size: tuple[int, int]) -> None:
    from timm.data.transforms import ResizeKeepRatio

    policy, photo = SHAPED["wide"], Image.fromarray(noise(*size))
    covered = (RESIZE, int(40 * RESIZE / SIZE))
    resize = ResizeKeepRatio(covered, interpolation="bilinear", longest=0)
    wanted = transforms.CenterCrop(policy.size)(resize(photo))
    assert np.array_equal(maker("doors", "timm")("", policy).enter(np.asarray(photo)), np.asarray(wanted))


# --- Pillow's weights, written out ------------------------------------------------------------------------------------


def cubic(x: float, a: float = -0.5) -> float:
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


KERNELS: dict[str, tuple[Any, int]] = {"bilinear": (lambda x: max(0.0, 1 - abs(x)), 1), "bicubic": (cubic, 2)}


def replica(n: int, m: int, how: str) -> NDArray[np.float64]:
    """Pillow's matrix (m, n): a kernel as wide as the grid that is coarser, cut at the border, normalised."""
    kernel, support = KERNELS[how]
    out, scale = np.zeros((m, n)), n / m
    wide = max(scale, 1.0)
    for i in range(m):
        centre = (i + 0.5) * scale
        first, last = max(0, int(centre - support * wide + 0.5)), min(n, int(centre + support * wide + 0.5))
        for j in range(first, last):
            out[i, j] = kernel((j - centre + 0.5) / wide)
        out[i] /= out[i].sum()
    return out


@pytest.mark.parametrize("how", KERNELS)
@pytest.mark.parametrize("size", [(20, 20), (31, 64), (201, 95)])
def test_pillow_s_matrix_is_its_formula(how: str, size: tuple[int, int]) -> None:
    found = door_named("timm:squash", how).way(*size)
    for of, n in ((found.down, size[0]), (found.across, size[1])):
        first = (RESIZE - SIZE) // 2
        np.testing.assert_allclose(of.toarray(), replica(n, RESIZE, how)[first : first + SIZE], atol=2e-5)


# --- the libraries themselves ----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(sizes, st.sampled_from(["bilinear", "bicubic", "lanczos"]))
def test_timm_s_door_is_torchvision_s(size: tuple[int, int], how: str) -> None:
    photo = Image.fromarray(noise(*size))
    method = transforms.InterpolationMode(how)
    wanted = transforms.Compose([transforms.Resize(RESIZE, method), transforms.CenterCrop(SIZE)])(photo)
    assert np.array_equal(door_named("timm", how).enter(np.asarray(photo)), np.asarray(wanted))


@settings(max_examples=15)
@given(sizes)
def test_timm_s_border_is_timm_s(size: tuple[int, int]) -> None:
    from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio

    photo, policy = Image.fromarray(noise(*size)), Preprocess(SIZE, RESIZE, interpolation="bicubic")
    fill = tuple(round(255 * v) for v in policy.mean)
    wanted = CenterCropOrPad(SIZE, fill=fill)(ResizeKeepRatio(RESIZE, interpolation="bicubic", longest=1.0)(photo))
    assert np.array_equal(door_named("timm:pad").enter(np.asarray(photo)), np.asarray(wanted))


@settings(max_examples=20)
@given(sizes, st.sampled_from(["bilinear", "bicubic", "nearest"]), st.booleans(), st.booleans())
def test_torch_s_door_is_torchvision_s_on_tensors(
    size: tuple[int, int], how: str, antialias: bool, floats: bool
) -> None:
    words = ",".join(word for word, said in (("no-antialias", not antialias), ("float", floats)) if said)
    x = torch.from_numpy(noise(*size)).permute(2, 0, 1)
    resize = v2.Resize(RESIZE, transforms.InterpolationMode(how), antialias=antialias)
    wanted = v2.CenterCrop(SIZE)(resize(x.float() if floats else x)).permute(1, 2, 0).numpy()
    assert np.array_equal(door_named(f"torch:{words}", how).enter(noise(*size)), wanted)


@settings(max_examples=20)
@given(sizes, st.sampled_from(["INTER_LINEAR", "INTER_CUBIC", "INTER_NEAREST", "INTER_LANCZOS4", "INTER_AREA"]))
def test_opencv_s_door_is_opencv_s(size: tuple[int, int], flag: str) -> None:
    height, width = size
    ours = {"INTER_LINEAR": "bilinear", "INTER_CUBIC": "bicubic", "INTER_NEAREST": "nearest"}.get(flag, "lanczos")
    scale = RESIZE / min(size)
    tall, wide = max(RESIZE, round(height * scale)), max(RESIZE, round(width * scale))
    whole = cv2.resize(noise(*size), (wide, tall), interpolation=getattr(cv2, flag))
    top, left = round((tall - SIZE) / 2), round((wide - SIZE) / 2)
    word = "opencv:area" if flag == "INTER_AREA" else "opencv"
    assert np.array_equal(door_named(word, ours).enter(noise(*size)), whole[top : top + SIZE, left : left + SIZE])


def test_the_default_door_is_the_loader_as_ever() -> None:
    policy = Preprocess(SIZE, RESIZE)
    photo = pixels.encode_png(noise(70, 41))
    assert np.array_equal(maker("doors", "pillow")("", policy).open(photo, "p"), pixels.load(photo, "p", policy))


# --- doors of somebody else's ----------------------------------------------------------------------------------------


def own(function: Any) -> FunctionDoor:
    return FunctionDoor("mine", Preprocess(SIZE, RESIZE, interpolation="bilinear"), function)


OWN = {
    "torchvision": transforms.Compose([transforms.Resize(RESIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]),
    "squashed": lambda image: image.convert("RGB").resize((SIZE, SIZE), 3),
    "array": lambda image: cv2.resize(np.asarray(image), (SIZE, SIZE)),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((SIZE, SIZE), 2),
    "a batch": lambda image: (
        torch.from_numpy(np.array(image.resize((SIZE, SIZE)))).permute(2, 0, 1)[None].float() / 255
    ),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("size", [(30, 22), (61, 90)])
def test_a_door_is_measured(name: str, size: tuple[int, int]) -> None:
    door, photo = own(OWN[name]), soft(*size)
    assert np.abs(door.way(*size).forward(photo) - door.enter(photo)).mean() < 1.0


def test_a_measured_matrix_is_the_one_that_is_known() -> None:
    found, known = own(OWN["torchvision"]).way(61, 90), door_named("timm", "bilinear").way(61, 90)
    assert np.abs(found.down.toarray() - known.down.toarray()).max() < 0.02
    assert np.abs(found.across.toarray() - known.across.toarray()).max() < 0.02


def test_a_declared_geometry_is_used() -> None:
    def squashed(image: Image.Image) -> Image.Image:
        return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (3, 2, 50, 30))

    squashed.geometry = lambda width, height: (3, 2, 50, 30)  # type: ignore[attr-defined]
    photo = soft(40, 60)
    door = own(squashed)
    assert np.abs(door.way(40, 60).forward(photo) - door.enter(photo)).max() < 1.6
    squashed.geometry = lambda width, height: (0, 0, width, height)  # type: ignore[attr-defined]
    with pytest.raises(UnderfireError, match="does more than to resize"):
        own(squashed).way(40, 60)


TURNS = itertools.count()


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda image: Image.fromarray(np.asarray(image.resize((SIZE, SIZE))) ^ 128), "does more than to resize"),
        (lambda image: noise(SIZE, SIZE, next(TURNS)), "answers differently when asked twice"),
        (np.asarray, r"returns \(30, 40, 3\)"),
        (lambda image: np.asarray(image.resize((SIZE, SIZE))) / 64.0, "Leave mean and std to the classifier"),
        (lambda image: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_seen_through_is_told(function: Any, word: str) -> None:
    with pytest.raises(UnderfireError, match=word):
        own(function).way(30, 40)


def test_a_function_is_found_by_its_name(tmp_path: Any) -> None:
    (tmp_path / "mine.py").write_text("def door(image):\n    return image.resize((24, 24))\n")
    classifier = type("C", (), {"preprocess": Preprocess(SIZE, RESIZE)})()
    door = build_door(f"{tmp_path}/mine.py:door", classifier)
    assert door.enter(noise(30, 30)).shape == (SIZE, SIZE, 3)
    assert door.digest != build_door("PIL.Image:new", classifier).digest
    for word, said in (
        (f"{tmp_path}/mine.py:window", "has no function 'window'"),
        ("no.such:door", "cannot be imported"),
        ("/no/such.py:door", "there is no file"),
        ("pillow:round", "'round' is none of crop"),
        ("torch:lanczos", "none of crop"),
    ):
        with pytest.raises(UnderfireError, match=said):
            build_door(word, classifier)
    with pytest.raises(UnknownNameError, match="Did you mean 'pillow'"):
        build_door("pilow", classifier)


def test_a_processor_of_transformers(tmp_path: Any) -> None:
    from transformers import CLIPImageProcessor

    made = CLIPImageProcessor(size={"shortest_edge": RESIZE}, crop_size={"height": SIZE, "width": SIZE})
    made.save_pretrained(tmp_path)
    classifier = type("C", (), {"preprocess": Preprocess(SIZE, RESIZE)})()
    door: Door = build_door(f"hf:{tmp_path}", classifier)
    photo = soft(40, 61)
    wanted = made(images=Image.fromarray(photo), do_normalize=False, do_rescale=False, return_tensors="np")
    assert np.array_equal(door.enter(photo), wanted["pixel_values"][0].transpose(1, 2, 0))
    assert np.abs(door.way(40, 61).forward(photo) - door.enter(photo)).mean() < 1.0  # type: ignore[attr-defined]
    with pytest.raises(UnderfireError, match=r"no 'preprocessor_config\.json'"):
        build_door("hf:/no/such/folder", classifier)


def test_every_door_is_in_the_list() -> None:
    assert {"pillow", "timm", "torch", "opencv", "hf", "function"} == set(names("doors"))
    assert math.isclose(door_named("pillow").way(100, 60).view[0], 60 * SIZE / RESIZE, rel_tol=0.05)
