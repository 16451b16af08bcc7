"""Any photo a user has becomes the right 8-bit square, or one clear sentence; levels survive every conversion."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from underfire.core import Preprocess, UnderfireError
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.images.photos import Folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

POLICY = Preprocess(input_size=32, resize=36)
AS_IT_IS = Preprocess(input_size=32, resize=32)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(h: int, w: int) -> NDArray[np.uint8]:
    """A picture without sharp edges, different in every direction."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    return np.stack([255 * x, 255 * y, 120 + 100 * np.sin(3 * x + y)], -1).astype(np.uint8)


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def load(content: bytes, policy: Preprocess = AS_IT_IS) -> NDArray[np.uint8]:
    return pixels.load(content, "holiday.png", policy)


def refusal(content: bytes) -> str:
    with pytest.raises(UnderfireError, match=r"holiday\.png") as e:
        load(content)
    return str(e.value)


# -- every kind of picture ------------------------------------------------------------------------------------------


def test_rgb_of_the_right_size_is_untouched() -> None:
    rgb = noise(32, 32, 3)
    np.testing.assert_array_equal(load(file(Image.fromarray(rgb))), rgb)


def test_only_a_crop_is_exact_too() -> None:
    rgb = noise(36, 50, 3)
    np.testing.assert_array_equal(load(file(Image.fromarray(rgb)), POLICY), rgb[2:34, 9:41])


def test_grey_has_three_equal_channels() -> None:
    grey = noise(32, 32)
    np.testing.assert_array_equal(load(file(Image.fromarray(grey))), np.stack([grey] * 3, -1))


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    deep = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    expected = np.rint(deep.astype(float) / 257)
    np.testing.assert_array_equal(load(file(Image.fromarray(deep)))[..., 0], expected)


def test_one_bit_pictures_are_black_and_white() -> None:
    bits = noise(32, 32) > 127
    np.testing.assert_array_equal(load(file(Image.fromarray(bits)))[..., 1], bits * 255)


def test_transparency_is_laid_on_white() -> None:
    rgba = np.dstack([noise(32, 32, 3), np.zeros((32, 32), np.uint8)])
    rgba[:16, :, 3] = 255
    got = load(file(Image.fromarray(rgba)))
    np.testing.assert_array_equal(got[:16], rgba[:16, :, :3])
    assert (got[16:] == 255).all()


def test_a_palette_colour_can_be_transparent() -> None:
    indices = np.tile(np.arange(4, dtype=np.uint8), (32, 8))
    palette = Image.fromarray(indices, "L").convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette.putdata(indices.ravel().tolist())
    got = load(file(palette, transparency=1))
    assert [got[0, i].tolist() for i in range(4)] == [[255, 0, 0], [255, 255, 255], [0, 0, 255], [9, 9, 9]]


def test_cmyk_is_shown_as_its_rgb() -> None:
    cmyk = Image.fromarray(smooth(32, 32)).convert("CMYK")
    got = load(file(cmyk, "TIFF"))
    np.testing.assert_array_equal(got, np.asarray(cmyk.convert("RGB")))


_TURNED = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # orientation -> PIL's way of storing it


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_equals_the_upright_one(orientation: int) -> None:
    upright = Image.fromarray(smooth(40, 56))
    stored = upright
    for way in _TURNED[orientation]:
        stored = stored.transpose(Image.Transpose(way))
    exif = Image.Exif()
    exif[274] = orientation
    np.testing.assert_array_equal(load(file(stored, exif=exif), POLICY), load(file(upright), POLICY))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.fromarray(np.full((32, 32, 3), v, np.uint8)) for v in (10, 200)]
    assert (load(file(frames[0], "GIF", save_all=True, append_images=frames[1:])) == 10).all()


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (64, 37), (33, 90), (32, 900), (20, 24)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_load_is_resize_then_crop(shape: tuple[int, int], interpolation: str) -> None:
    picture = Image.fromarray(smooth(*shape))
    scale = 36 / min(shape)
    size = round(shape[1] * scale), round(shape[0] * scale)
    left, top = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    whole = picture.resize(size, Image.Resampling[interpolation.upper()])
    expected = np.asarray(whole.crop((left, top, left + 32, top + 32)))
    got = load(file(picture), Preprocess(32, 36, interpolation=interpolation))
    assert pixels.linf_levels(got, expected) <= 2


def test_a_panorama_is_cropped_before_it_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    assert load(file(Image.fromarray(noise(16, 9000, 3))), POLICY).shape == (32, 32, 3)


# -- what is no photo -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (15, 40)])
def test_specks_are_too_small(shape: tuple[int, int]) -> None:
    assert f"{shape[1]}×{shape[0]} px" in refusal(file(Image.fromarray(noise(*shape, 3))))


def test_a_truncated_jpeg_is_damaged() -> None:
    whole = file(Image.fromarray(noise(64, 64, 3)), "JPEG")
    assert "damaged" in refusal(whole[: len(whole) // 2])


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", bytes(5000)])
def test_other_files_are_no_images(content: bytes) -> None:
    assert "no image" in refusal(content)


@pytest.mark.parametrize("limit", [1000, 2500])  # 64 × 64 px: over twice the limit is Pillow's error, below its warning
def test_a_decompression_bomb_is_not_unpacked(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert f"{limit:,} pixels" in refusal(file(Image.fromarray(noise(64, 64, 3))))


# -- levels ---------------------------------------------------------------------------------------------------------

_pictures = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3)))


@given(_pictures)
def test_levels_survive_the_way_to_a_tensor_and_back(levels: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(pixels.to_levels(pixels.to_tensor(levels)), levels)


def test_every_level_survives_in_both_precisions() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = pixels.to_tensor(levels)
    np.testing.assert_array_equal(pixels.to_levels(x.double()), levels)
    np.testing.assert_array_equal(pixels.to_levels(x), levels)


@given(st.floats(0, 255))
def test_rounding_goes_to_the_nearest_level_and_never_truncates(level: float) -> None:
    got = pixels.to_levels(torch.full((1, 3, 1, 1), level / 255, dtype=torch.float64))
    assert abs(int(got[0, 0, 0, 0]) - level) <= 0.5 + 1e-9


def test_what_lies_outside_the_range_is_clamped() -> None:
    x = torch.tensor([-0.1, 1.1, 0.999]).view(1, 3, 1, 1)
    assert pixels.to_levels(x)[0, 0, 0].tolist() == [0, 255, 255]


def test_the_tensor_is_channels_first_in_the_unit_interval() -> None:
    x = pixels.to_tensor([np.dstack([np.full((2, 3), v, np.uint8) for v in (0, 51, 255)])])
    assert x.shape == (1, 3, 2, 3)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0, 0.2, 1]))


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_png_is_lossless_and_its_bytes_repeat(levels: NDArray[np.uint8]) -> None:
    png = pixels.encode_png(levels)
    np.testing.assert_array_equal(decode_png(png), levels)
    assert pixels.encode_png(levels.copy()) == png


def test_linf_does_not_wrap_around() -> None:
    a, b = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert pixels.linf_levels(a, b) == pixels.linf_levels(b, a) == 255


def test_jpeg_changes_a_photo_a_little() -> None:
    rgb = smooth(32, 32)
    assert 0 < pixels.linf_levels(pixels.jpeg(rgb), rgb) < 30


# -- folders --------------------------------------------------------------------------------------------------------


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file(Image.fromarray(noise(20, 20, 3, seed=seed))))
    return path


def test_photos_of_the_same_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for seed, name in enumerate(("b/one.png", "a/one.png", "one.png")):
        photo(tmp_path / name, seed)
    photos = Folder(str(tmp_path)).photos(None)
    assert [p.path for p in photos] == ["a/one.png", "b/one.png", "one.png"]
    assert len({p.sha256 for p in photos}) == 3


@pytest.mark.parametrize("name", ["Käfer ☀️ 猫.png", "x" * 240 + ".png", "with space.PNG", "two.dots.jpeg"])
def test_odd_names_are_kept(tmp_path: Path, name: str) -> None:
    photo(tmp_path / name)
    assert Folder(str(tmp_path)).photos(None)[0].path == name


def test_hidden_and_foreign_files_are_skipped(tmp_path: Path) -> None:
    for name in (".hidden.png", ".cache/thumb.png", "notes.txt", "seen.png"):
        photo(tmp_path / name)
    assert Folder(str(tmp_path)).paths == ["seen.png"]


def test_one_file_is_a_folder_of_one(tmp_path: Path) -> None:
    path = photo(tmp_path / "only.png")
    photo(tmp_path / "other.png")
    assert [p.path for p in Folder(str(path)).photos(None)] == ["only.png"]


@given(n=st.integers(1, 40), limit=st.integers(1, 50))
def test_limit_takes_photos_evenly_spaced(n: int, limit: int) -> None:
    folder = Folder(DEMO)
    folder.paths = [f"{i:03d}.png" for i in range(n)]
    chosen = [int(p.path[:3]) for p in folder.photos(limit)]
    gaps = {b - a for a, b in zip(chosen, [*chosen[1:], n], strict=True)}
    assert len(chosen) == min(n, limit)
    assert chosen[0] == 0
    assert max(gaps) - min(gaps) <= 1


def test_the_demo_photos_are_there_and_load() -> None:
    folder = Folder(DEMO)
    for p in folder.photos(None):
        assert pixels.load(folder.bytes(p.path), p.path, POLICY).shape == (32, 32, 3)


def test_a_missing_folder_is_named_as_the_user_wrote_it() -> None:
    with pytest.raises(UnderfireError, match="'~/no/such/thing'"):
        Folder("~/no/such/thing")


def test_a_folder_without_images_is_named_and_says_what_counts(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnderfireError, match=r"No images in '.*\.jpg") as e:
        Folder(str(tmp_path)).photos(None)
    assert str(tmp_path) in str(e.value)


def test_a_photo_that_vanishes_is_told_when_its_turn_comes(tmp_path: Path) -> None:
    folder = Folder(str(photo(tmp_path / "gone.png").parent))
    assert folder.paths == ["gone.png"]
    (tmp_path / "gone.png").unlink()
    assert [p.sha256 for p in folder.photos(None)] == ["unreadable"]
    with pytest.raises(UnderfireError, match=r"'gone\.png'"):
        folder.bytes("gone.png")


def test_upright_is_pillows_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = file(Image.fromarray(smooth(32, 32)), exif=exif)
    with Image.open(io.BytesIO(stored)) as opened:
        np.testing.assert_array_equal(load(stored), np.asarray(ImageOps.exif_transpose(opened)))
