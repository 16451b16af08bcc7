"""Where target maps come from: the user's words, the image's own seed, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support.e2e import extended, photos, records, underfire
from support.toys import toy
from underfire import classifier
from underfire.core import LEVELS, MismatchError, Photo, TargetMap, UnderfireError
from underfire.images import pixels, targets
from underfire.plan.targets import target_map_of

QUICK = (
    "--classifier",
    "toy",
    "--threads",
    "1",
    "--set",
    "pgd.steps=2",
    "--set",
    "adv2.steps=40",
    "--set",
    "adv2.rescue=false",
)


def photo_of(i: int) -> Photo:
    return Photo(f"{i}.png", hashlib.sha256(str(i).encode()).hexdigest())


@given(seed=st.integers(0, 5), i=st.integers(0, 99), k=st.integers(3, 9), data=st.data())
def test_a_drawn_class_is_none_of_those_taken_and_always_the_same(seed: int, i: int, k: int, data: Any) -> None:
    but = data.draw(st.lists(st.integers(0, k - 1), max_size=2))
    drawn = targets.draw_class(seed, photo_of(i), "target map", k, but)
    assert 0 <= drawn < k
    assert drawn not in but
    assert drawn == targets.draw_class(seed, photo_of(i), "target map", k, but[::-1])


def test_all_classes_left_are_equally_likely() -> None:
    drawn = [targets.draw_class(0, photo_of(i), "target", 5, [3, 1]) for i in range(3000)]
    assert np.bincount(drawn, minlength=5)[[1, 3]].tolist() == [0, 0]
    assert min(np.bincount(drawn)[[0, 2, 4]]) > 900


def test_no_class_left_is_said() -> None:
    with pytest.raises(UnderfireError, match="2 classes has no class besides 0, 1"):
        targets.draw_class(0, photo_of(0), "target map", 2, [0, 1])


def test_a_drawn_photo_is_another_one_whatever_the_order_it_is_asked_in() -> None:
    everyone = [photo_of(i) for i in range(6)]
    drawn = [targets.draw_photo(3, photo, everyone) for photo in everyone]
    assert all(a.sha256 != b.sha256 for a, b in zip(drawn, everyone, strict=True))
    assert drawn[4:] == [targets.draw_photo(3, photo, everyone) for photo in everyone[4:]]
    assert len({photo.path for photo in drawn}) > 1
    with pytest.raises(UnderfireError, match="two different photos"):
        targets.draw_photo(0, photo_of(0), [photo_of(0), Photo("copy.png", photo_of(0).sha256)])


@pytest.mark.parametrize("kind", targets.SHAPES)
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (56, 56), (28, 20)])
def test_a_shape_is_one_blob_from_zero_to_one_at_a_place_of_its_own(kind: str, size: tuple[int, int]) -> None:
    drawn = [targets.draw_shape(kind, 0, photo_of(i), size) for i in range(20)]
    for m in drawn:
        assert m.shape == size
        assert (m.min(), m.max()) == (0, 1)
        assert 0.03 < m.mean() < 0.5
    assert len({m.tobytes() for m in drawn}) == 20
    np.testing.assert_array_equal(drawn[7], targets.draw_shape(kind, 0, photo_of(7), size))


def test_a_large_circle_is_round_and_a_box_has_corners() -> None:
    circle, box = (targets.draw_shape(kind, 0, photo_of(1), (200, 200)) for kind in targets.SHAPES)
    for m, share in ((circle, np.pi / 4), (box, 1.0)):
        rows, columns = np.nonzero(m > 0.5)
        assert len(rows) / (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(share, abs=0.02)


def test_a_file_is_read_as_grey_at_the_map_s_size(tmp_path: Path) -> None:
    grey = np.zeros((14, 14), np.uint8)
    grey[:6, :4] = LEVELS
    Image.fromarray(grey).save(tmp_path / "wanted.png")
    target = target_map_of(f"file:{tmp_path / 'wanted.png'}", toy())
    wanted = np.zeros((7, 7))
    wanted[:3, :2] = 1
    np.testing.assert_array_equal(targets.read_map(target, (7, 7)), wanted)
    assert target.word == "file:wanted.png"
    grey[0, 0] = 9
    Image.fromarray(grey).save(tmp_path / "wanted.png")
    with pytest.raises(MismatchError, match=r"wanted\.png"):
        targets.read_map(target, (7, 7))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("circle", "give benign, class:NAME"),
        ("shape:star", "no shape 'star'"),
        ("class:", "give benign"),
        ("class:dog", "There is no class 'dog'"),
        ("class:least-likely", "give class:random"),
        ("class:9", "--target-map class:9: 'toy' has classes 0 to 3"),
        ("file:random", "give benign"),
        ("file:none.png", "no file 'none.png'"),
        ("image:none.png", "no file 'none.png'"),
    ],
)
def test_words_that_mean_nothing_are_told_back(word: str, said: str) -> None:
    with pytest.raises(UnderfireError, match=said):
        target_map_of(word, toy())


@pytest.mark.parametrize("content", [b"no picture", pixels.encode_png(np.full((4, 4, 3), 7, np.uint8))])
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(UnderfireError, match=r"m\.png: "):
        target_map_of(f"file:{tmp_path / 'm.png'}", toy())


def test_words() -> None:
    assert target_map_of("benign", toy()) == TargetMap()
    assert target_map_of("class:class 2", toy()) == TargetMap("class", 2)
    assert [t.key for t in (TargetMap(), TargetMap("class", "random"), TargetMap("file", "/a/b.png", "12"))] == [
        *("benign", "class:random", "file:12")
    ]


# -- whole runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("target-maps") / "in", 5)


def run(folder: Path, out: Path, word: str, *more: str) -> dict[tuple[str, str], dict[str, Any]]:
    assert underfire("run", "--images", folder, *QUICK, "--target-map", word, *more, "--out", out).code == 0
    return {(row["image"], row["attack"]): row for row in records(out)}


SOURCES = ("class:random", "class:7", "image:random", "image:p03.png", "shape:circle", "shape:box", "file")


@pytest.mark.parametrize("word", SOURCES)
def test_records_measure_against_the_wanted_map_whatever_the_batch(word: str, folder: Path, tmp_path: Path) -> None:
    if word == "file":
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(tmp_path / "m.png")
        word = f"file:{tmp_path / 'm.png'}"
    one = run(folder, tmp_path / "one", word, "--batch-size", "1")
    five = run(folder, tmp_path / "five", word, "--batch-size", "5")
    with extended():
        net = classifier("toy")
    for key, row in one.items():
        wanted, benign, got = (
            np.load(tmp_path / "one" / row[c]).astype(float) for c in ("wanted_map", "clean_map", "adversarial_map")
        )
        # Some CPUs sum a batch in another order than one photo: a stored half may be its neighbour, and no other.
        alone, among = (np.load(tmp_path / o / r[key]["wanted_map"]) for o, r in (("one", one), ("five", five)))
        np.testing.assert_array_max_ulp(alone, among, maxulp=1)
        assert row["target_map"] == (f"file:{'m.png'}" if word.startswith("file") else word)
        assert row["map_l1"] == pytest.approx(abs(got - wanted).mean(), abs=2e-3)
        assert row["benign_l1"] == pytest.approx(abs(got - benign).mean(), abs=2e-3)
        assert row["target_l1"] == pytest.approx(abs(wanted - benign).mean(), abs=2e-3)
        assert row["untouched"] is None  # too few photos
        of = row["target_map_of"]
        assert of == five[key]["target_map_of"]
        if word == "class:random":
            assert of not in (row["source_class_name"], row["target_class_name"])
        elif word == "class:7":
            assert of == net.classes.names[7]
        elif word == "image:random":
            assert of in {p.name for p in folder.iterdir()} - {row["image"]}
        else:
            assert of == ("p03.png" if word.startswith("image") else None)
    for attack in ("pgd", "adv2"):
        means = [np.mean([r["map_l1"] for r in rows.values() if r["attack"] == attack]) for rows in (one, five)]
        assert means[0] == pytest.approx(means[1], abs=0.01)
    mean = {a: np.mean([r["map_l1"] for (_, b), r in one.items() if a == b]) for a in ("pgd", "adv2")}
    assert mean["adv2"] < mean["pgd"]


def test_the_map_of_a_class_is_the_interpreter_s_for_that_class(folder: Path, tmp_path: Path) -> None:
    from underfire.interpreters.cam import Cam

    rows = run(folder, tmp_path / "out", "class:random", "--at", "input")
    with extended():
        net = classifier("toy")
    for row in rows.values():
        with Image.open(tmp_path / "out" / row["clean"]) as picture:
            x = pixels.to_tensor([np.array(picture)])
        label = net.classes.names.index(row["target_map_of"])
        wanted = Cam(net).explain(x, net.logits(x).argmax(1) * 0 + label)[0].numpy()
        np.testing.assert_allclose(np.load(tmp_path / "out" / row["wanted_map"]), wanted, atol=2e-3)


def test_a_benign_target_is_the_benign_map(folder: Path, tmp_path: Path) -> None:
    for row in run(folder, tmp_path / "out", "benign").values():
        assert row["wanted_map"] == row["clean_map"]
        assert (row["target_map"], row["target_map_of"], row["target_l1"]) == ("benign", None, 0)
        assert (row["benign_l1"], row["benign_iou"]) == (row["map_l1"], row["map_iou"])


def test_the_report_draws_the_wanted_map_and_another_one_is_another_plan(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", "shape:circle")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<b>Wanted map</b>") == 5
    assert "the yardstick of the wanted one (shape:circle)" in page
    said = underfire("run", "--images", folder, *QUICK, "--target-map", "shape:box", "--out", tmp_path / "out")
    assert said.code == 2
    assert "target_map: shape:circle there, shape:box now" in said.err


@pytest.mark.parametrize("word", ["shape:box", "image:random", "class:random", "benign"])
def test_a_notebook_wants_the_same_maps_as_the_command(word: str, folder: Path, tmp_path: Path) -> None:
    import underfire as door

    rows = run(folder, tmp_path / "out", word, "--batch-size", "5")
    with extended():
        net = classifier("toy")
    paths = [str(folder / f"p{i:02d}.png") for i in range(5)]
    found = door.attack(net, "cam", paths, target_map=word, steps=40)
    for path, record in zip(paths, found.records, strict=True):
        row = rows[Path(path).name, "adv2"]
        assert record.target_map == word
        assert Path(str(record.target_map_of)).name == str(row["target_map_of"])
        assert record.target_l1 == pytest.approx(row["target_l1"], abs=1e-4)
