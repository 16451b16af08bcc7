"""What is taken for a photo, what is left out and said, and what is never opened."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from underfire.core import Limits, Photo, Preprocess, UnderfireError
from underfire.images import formats, pixels
from underfire.images.photos import Folder, planned

POLICY = Preprocess(input_size=32, resize=32)
RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture() -> Image.Image:
    y, x = np.mgrid[0:32, 0:32] * 8
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def load(content: bytes) -> Any:
    return pixels.load(content, "holiday.png", POLICY)


def put(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file(picture()) if content is None else content)
    return path


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """A test that waits for a pipe ends."""
    signal.alarm(60)
    yield
    signal.alarm(0)


# -- formats ----------------------------------------------------------------------------------------------------------


def test_a_program_that_calls_itself_a_photo_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    program = file(picture(), "EPS")
    with pytest.raises(UnderfireError, match=r"'holiday\.png' is no image"):
        load(program)
    assert pixels.forged_note(program) is None


@pytest.mark.parametrize("kind", ["EPS", "PCX", "ICO", "TGA", "PSD"])
def test_target_maps_are_of_the_same_formats(kind: str, tmp_path: Path) -> None:
    from underfire.core import TargetMap
    from underfire.images import targets

    content = b"8BPS" + bytes(40) if kind == "PSD" else file(picture(), kind)
    path = put(tmp_path / "map.png", content)
    target = TargetMap("file", str(path), Folder(str(path)).photos(None)[0].sha256)
    with pytest.raises(UnderfireError, match="no picture"):
        targets.read_map(target, (7, 7))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("AVIF", "a.avif"),
        ("JPEG2000", "a.jp2"),
        ("JPEG2000", "a.j2k"),
        ("JPEG", "a.jfif"),
        ("JPEG", "a.JPE"),
        ("QOI", "a.qoi"),
        ("PNG", "a.apng"),
        ("PPM", "a.pnm"),
    ],
)
def test_what_pillow_decodes_safely_is_taken(kind: str, name: str, tmp_path: Path) -> None:
    if kind not in formats.formats():
        pytest.skip(f"this Pillow has no {kind}")
    folder = Folder(str(put(tmp_path / name, file(picture(), kind)).parent))
    assert folder.paths == [name]
    assert folder.left_out == []
    got = pixels.load(folder.bytes(name), name, POLICY)
    assert np.abs(got.astype(int) - np.asarray(picture()).astype(int)).mean() < 4


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path / "seen.png")
    for name in ("raw.NEF", "sub/vector.svg", "notes.txt"):
        put(tmp_path / name)
    folder = Folder(str(tmp_path))
    assert folder.paths == ["seen.png"]
    assert folder.left_out == ["2 files left out, that cannot be decoded here: raw.NEF, sub/vector.svg."]


@pytest.mark.skipif("HEIF" not in formats.formats(), reason="pillow-heif is not installed")
def test_a_heic_photo_is_seen_as_it_is() -> None:
    import pillow_heif

    made = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(made, quality=95)
    got = pixels.load(made.getvalue(), "photo.heic", POLICY)
    assert np.abs(got.astype(int) - np.asarray(picture()).astype(int)).mean() < 4


@pytest.mark.skipif("HEIF" in formats.formats(), reason="pillow-heif is installed")
def test_where_there_are_only_photos_that_need_an_extra_it_is_named(tmp_path: Path) -> None:
    for i in range(7):
        put(tmp_path / f"{i}.heic")
    with pytest.raises(UnderfireError, match=r"No images .* 7 files left out.*0\.heic.*and 2 more.*underfire\[heif\]"):
        _ = Folder(str(tmp_path)).paths


# -- integers and floats ----------------------------------------------------------------------------------------------


def test_floats_are_from_black_to_white() -> None:
    got = load(file(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))
    np.testing.assert_array_equal(got[..., 0], np.rint(RAMP.astype(np.float32).astype(float) * 255))


def test_a_portable_float_map_too() -> None:
    got = load(b"Pf\n32 32\n-1.0\n" + np.flipud(RAMP).astype("<f4").tobytes())
    np.testing.assert_array_equal(got[..., 0], np.rint(RAMP.astype(np.float32).astype(float) * 255))


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_a_dark_photo_of_16_bits_stays_dark(kind: str) -> None:
    dark = np.full((32, 32), 200, np.uint16)
    assert (load(file(Image.fromarray(dark), kind)) == 1).all()


def test_a_tiff_whose_zero_is_white() -> None:
    deep = Image.fromarray((RAMP * 65535).astype(np.uint16))
    usual, inverted = (load(file(deep, "TIFF", tiffinfo={262: zero})) for zero in (1, 0))
    np.testing.assert_array_equal(usual, 255 - inverted)


@pytest.mark.parametrize(
    "numbers",
    [
        (RAMP * 255).astype(np.float32),
        (RAMP - 0.1).astype(np.float32),
        np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32),
        (RAMP * 65535).astype(np.int32),
        (RAMP * 255).astype(np.int32),
    ],
)
def test_numbers_without_a_known_white_are_refused(numbers: Any) -> None:
    with pytest.raises(UnderfireError, match=r"'holiday\.png'.*save it with 8 or 16 bits"):
        load(file(Image.fromarray(numbers), "TIFF"))


# -- regular files ----------------------------------------------------------------------------------------------------


def test_a_pipe_is_left_out_and_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path / "seen.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    folder = Folder(str(tmp_path))
    assert [photo.path for photo in folder.photos(None)] == ["seen.png"]
    assert folder.left_out == ["2 files left out, no regular file: pipe.jpg, zero.jpg."]


def test_a_pipe_alone_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnderfireError, match="no regular file"):
        Folder(str(tmp_path / "pipe.jpg")).photos(None)


def test_a_photo_that_became_a_pipe_is_told(tmp_path: Path) -> None:
    put(tmp_path / "seen.png")
    folder = Folder(str(tmp_path))
    (photo,) = folder.photos(None)
    (tmp_path / "seen.png").unlink()
    os.mkfifo(tmp_path / "seen.png")
    with pytest.raises(UnderfireError, match="no regular file"):
        planned(folder, photo)


def test_links_to_photos_are_photos_and_links_to_folders_are_told(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    folder = Folder(str(tmp_path / "in"))
    assert [photo.path for photo in folder.photos(None)] == ["link.png"]
    assert folder.left_out == ["1 folder left out, behind a link: more."]


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "large.png")
    limits = Limits(bytes=path.stat().st_size - 1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
        folder = Folder(str(tmp_path), limits)
        assert folder.photos(None) == [Photo("large.png", "unreadable")]
        with pytest.raises(UnderfireError, match=r"'large\.png' has more than .* MB: .*--max-megabytes"):
            planned(folder, folder.photos(None)[0])
    assert Folder(str(tmp_path)).bytes("large.png") == path.read_bytes()


def test_the_limit_of_pixels_can_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    content = file(picture())
    with pytest.raises(UnderfireError, match=r"400 pixels.*--max-megapixels"):
        load(content)
    assert pixels.load(content, "a", POLICY, Limits(pixels=2000)).shape == (32, 32, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(UnderfireError, match="1,000 pixels"):
        pixels.load(content, "a", POLICY, Limits(pixels=1000))
    assert Image.MAX_IMAGE_PIXELS == 4000


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_no_text_is_left_out_and_told(tmp_path: Path) -> None:
    put(tmp_path / "seen.png")
    for name in (b"caf\xe9.png", b"s\xff/in.png"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        put(path)
    folder = Folder(str(tmp_path))
    assert folder.paths == ["seen.png"]
    assert folder.left_out == [r"2 files left out, whose name is not UTF-8: caf\xe9.png, s\xff/in.png."]


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    path = put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "one.png")
    for given in (path, path.parent):
        with pytest.raises(UnderfireError, match=r"caf\\xe9.*not UTF-8"):
            Folder(str(given))


# -- an audit's own pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", ["results/plan.yaml", "deep/er/study.yaml", "underfire-out/anything"])
def test_results_below_the_photos_are_left_out_and_told(log: str, tmp_path: Path) -> None:
    put(tmp_path / "seen.png")
    put(tmp_path / log, b"images: demo")
    results = (tmp_path / log).parent
    for name in ("images/u/forged.png", "a/images/u/forged.png", "sheet.png"):
        put(results / name)
    folder = Folder(str(tmp_path))
    assert folder.paths == ["seen.png"]
    where = results.relative_to(tmp_path).as_posix()
    assert folder.left_out == [f"1 folder left out, with results of underfire: {where}/."]


def test_results_behind_a_url_are_left_out_too() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("seen.png", "results/images/u/forged.png", "results/plan.yaml"):
        memory.pipe_file(f"/left-out/{name}", file(picture()))
    folder = Folder("memory://left-out")
    assert folder.paths == ["seen.png"]
    assert folder.left_out == ["1 folder left out, with results of underfire: results/."]


def test_the_pictures_of_an_audit_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "plan.yaml", b"images: demo")
    put(tmp_path / "records" / "u.parquet", b"")
    put(tmp_path / "images" / "u" / "forged.png")
    put(tmp_path / "photos" / "seen.png")
    for given in (tmp_path, tmp_path / "images", tmp_path / "images" / "u" / "forged.png"):
        with pytest.raises(UnderfireError, match="were attacked"):
            Folder(str(given)).refuse_results()
    Folder(str(tmp_path / "photos")).refuse_results()


def test_the_pictures_of_an_audit_behind_a_url_are_refused_too() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("plan.yaml", "records/part.parquet", "images/u/forged.png", "images/u/images/forged.png"):
        memory.pipe_file(f"/eaten/{name}", file(picture()))
    for given in ("", "/images", "/images/u", "/images/u/images"):
        with pytest.raises(UnderfireError, match="holds the results of the audit in 'memory://eaten'"):
            Folder(f"memory://eaten{given}").refuse_results()
    memory.pipe_file("/good/images/seen.png", file(picture()))
    Folder("memory://good/images").refuse_results()


def test_a_photo_of_this_machine_is_read_beside_photos_behind_a_url(tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/beside/seen.png", file(picture()))
    here = put(tmp_path / "target.png", b"here")
    assert Folder("memory://beside").bytes(str(here)) == b"here"


def test_the_report_needs_no_picture_formats_of_torch() -> None:
    code = "import sys; import underfire.images.formats as f; f.formats(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
