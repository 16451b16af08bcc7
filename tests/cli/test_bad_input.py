"""Every mistake is one sentence with the user's own words in it, exit status 2, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.e2e import TOY, installed, photo, photos, records, temporaries, underfire
from underfire.core import Record

NUMBERS = [
    name
    for name, hint in Record.__annotations__.items()
    if "None" in hint and name not in ("against", "error", "eps", "door", "through") and "Record" not in name
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "in", 2)


def _refused(*words: str | Path) -> str:
    said = underfire("run", *words)
    assert said.code == 2, said
    assert "Traceback" not in said.out + said.err
    assert len(said.err.strip().splitlines()) == 1
    return said.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--classifier", "toi"], ["'toi'", "'toy'"]),
        (["--classifier", "timm:resnet500"], ["'resnet500'", "'resnet50'"]),
        (["--classifier", "timm"], ["timm:"]),
        (["--interpreter", "cma"], ["'cma'", "'cam'"]),
        (["--attack", "adv"], ["'adv'", "'adv2'"]),
        (["--preset", "fsat"], ["'fsat'", "'fast'"]),
        (["--eps", "0"], ["--eps 0", "1", "levels of 255"]),
        (["--eps", "300"], ["--eps 300", "255", "levels of 255"]),
        (["--eps", "8/255"], ["--eps 8/255", "levels of 255"]),
        (["--limit", "0"], ["--limit 0"]),
        (["--workers", "none"], ["--workers none"]),
        (["--target", "10"], ["--target 10", "0 to 9"]),
        (["--target", "-1"], ["--target -1", "0 to 9"]),
        (["--target", "--5"], ["'--5'"]),
        (["--target", "²"], ["'²'"]),
        (["--channels", "²"], ["--channels ²"]),
        (["--seed", str(2**63)], [f"--seed {2**63}", "less than"]),
        (["--target", "clas 4"], ["'clas 4'", "'class 4'"]),
        (["--target", "class"], ["--target class", "0 class 0", "7 class 7", "index"]),
        (["--mean", "1,2"], ["--mean 1,2", "0.5,0.5,0.5"]),
        (["--mean", "nan,0,0"], ["--mean nan"]),
        (["--std", "0,1,1"], ["std"]),
        (["--input-size", "64", "--resize", "32"], ["64", "32"]),
        (["--weights", "no/such.pt"], ["no/such.pt", "--weights"]),
        (["--classes", "no/such.txt"], ["no/such.txt", "--classes"]),
        (["--device", "tpu"], ["'tpu'", "cpu"]),
        (["--set", "adv2.steps"], ["adv2.steps", "PART.KEY=VALUE"]),
        (["--set", "adv2.steps=many"], ["adv2.steps=many", "int"]),
        (["--set", "adv2.steps=2.5"], ["adv2.steps=2.5", "int"]),
        (["--set", "adv2.steps=["], ["adv2.steps=["]),
        (["--set", "adv2.stepz=3"], ["'stepz'", "steps"]),
        (["--set", "adv3.steps=3"], ["'adv3'", "'adv2'"]),
        (["--set", "cam.size=3"], ["'size'", "'cam'"]),
        (["--images", ""], ["--images is empty"]),
        (["--images", " "], ["--images is empty"]),
        (["--weights", ""], ["--weights is empty"]),
        (["--classifier", ""], ["--classifier is empty"]),
        (["--target-map", ""], ["--target-map is empty"]),
        (["--interpreter", ""], ["''"]),
        (["--out", ""], ["An empty name"]),
        (["--set", "adv2.steps=2020-13-45"], ["adv2.steps=2020-13-45"]),
        (["--max-megapixels", "0"], ["--max-megapixels 0"]),
        (["--out", __file__], [__file__, "--out"]),
        (["--out", __file__ + "/below"], [__file__ + "/below", "--out"]),
        (["--out", str(Path(__file__).parent)], [str(Path(__file__).parent), "--out"]),
    ],
)
def test_a_mistake_in_a_flag_is_one_sentence(folder: Path, words: list[str], parts: list[str]) -> None:
    said = _refused("--images", folder, *TOY, *words)
    assert all(part in said for part in parts), said


def test_a_target_name_of_two_classes_lists_both(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(["red fox", "crane (bird)", "crane (machine)", *"abcdefg"]))
    said = _refused("--images", folder, *TOY, "--classes", tmp_path / "names.txt", "--target", "crane")
    assert "1 crane (bird); 2 crane (machine)" in said


def test_images_that_are_not_there(tmp_path: Path) -> None:
    assert f"'{tmp_path / 'none'}'" in _refused("--images", tmp_path / "none", *TOY)
    (tmp_path / "empty").mkdir()
    assert f"No images in '{tmp_path / 'empty'}'" in _refused("--images", tmp_path / "empty", *TOY)
    assert "--images" in _refused()


def test_a_plan_that_is_none(tmp_path: Path, folder: Path) -> None:
    plan = tmp_path / "plan.yaml"
    assert "'" + str(plan) in _refused(plan)
    for text, part in (
        ("images: [", "no YAML plan"),
        ("- 1", "no plan"),
        ("eps: 8", "'images'"),
        (f"images: {folder}\nepps: 3", "'eps'"),
        (f"images: {folder}\neps: 0", "--eps 0"),
        (f"images: {folder}\nattack:\n  pgd: {{steps: 3}}", "go under 'options'"),
        (f"images: {folder}\ninterpreter:\n- cam: {{}}", "go under 'options'"),
        (f"images: {folder}\nattack:", "--attack is empty"),
    ):
        plan.write_text(text)
        assert part in _refused(plan)
    assert f"--images '{folder}'" in _refused(folder)
    assert "--images" in _refused(folder / "p00.png")


def _special(folder: Path) -> set[str]:
    """Unusual photos that are good; returns their paths."""
    image = photo(7, 80, 60)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "grey16.png")
    image.convert("P").save(folder / "palette.png")
    image.convert("RGBA").save(folder / "alpha.png")
    turned = Image.Exif()
    turned[0x112] = 6
    image.save(folder / "turned.jpg", exif=turned)
    image.save(folder / "Füße 日本 🦊.png")
    image.save(folder / ("l" * 240 + ".png"))
    (folder / "sub").mkdir()
    for name in ("palette.png", "twin.png"):  # the name of another file, and the same photo twice
        image.save(folder / "sub" / name)
    image.save(folder / "sub" / "twin2.png")
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()}


def _bad(folder: Path) -> dict[str, str]:
    """Files that are no photos, and what must be said of them."""
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    photo(1, 400, 300).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    (folder / "whole.jpg").unlink()
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (14_000, 14_000)).save(folder / "bomb.png")
    return {"text.jpg": "no image", "empty.png": "no image", "cut.jpg": "damaged", "dot.png": "1×1", "bomb.png": "bomb"}


def test_bad_images_are_listed_and_the_others_are_done(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 1)
    good, bad = _special(folder), _bad(folder)
    said = underfire("run", "--images", folder, *TOY, "--out", tmp_path / "out")
    assert said.code == 3, said
    rows = records(tmp_path / "out")
    assert {r["image"] for r in rows if r["error"] is None} == good
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for name, reason in bad.items():
        failed = [r for r in rows if r["image"] == name]
        assert len(failed) == 2
        for row in failed:
            assert name in row["error"]
            assert reason in row["error"]
            assert [column for column in NUMBERS if column != "target" and row.get(column) is not None] == []
        assert name in said.out
        assert name in page
    twins = [{k: v for k, v in r.items() if k == "target_class"} for r in rows if "twin" in r["image"]]
    assert twins[0] == twins[-1]
    files = {r[c] for r in rows if r["error"] is None for c in ("clean", "adversarial", "clean_map", "adversarial_map")}
    assert all((tmp_path / "out" / file).is_file() for file in files)
    assert len({r["clean"] for r in rows if r["error"] is None}) == len(good)
    assert underfire("run", "--images", folder, *TOY, "--out", tmp_path / "out").code == 3  # said again, not done again


def test_no_good_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    said = underfire("run", "--images", tmp_path / "text.jpg", *TOY, "--out", tmp_path / "out")
    assert said.code == 2
    assert "'text.jpg' is no image" in said.out


def test_an_image_already_of_the_target_class_gets_an_error_of_its_own(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 6)
    assert underfire("run", "--images", folder, *TOY, "--out", tmp_path / "any").code == 0
    rows = records(tmp_path / "any")
    classes = {r["image"]: r["source_class"] for r in rows}
    taken = classes["p00.png"]
    assert len(set(classes.values())) > 1
    said = underfire("run", "--images", folder, *TOY, "--target", str(taken), "--out", tmp_path / "out")
    assert said.code == 3
    for row in records(tmp_path / "out"):
        assert (row["error"] is not None) == (classes[row["image"]] == taken)
    assert f"'p00.png' is already classified as class {taken} ({taken})" in said.out


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran-code",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_checkpoints_that_do_not_fit_or_want_to_run_code(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": torch.zeros(8, 3, 5, 5), "extra": torch.zeros(1)}, "other.pt")
    said = _refused("--images", folder, *TOY, "--weights", "other.pt")
    for part in ("other.pt", "missing (0.bias", "extra", "0.weight (8, 3, 5, 5) for (8, 3, 3, 3)"):
        assert part in said
    for protocol, save in ((2, torch.save), (4, lambda o, f: Path(f).write_bytes(pickle.dumps(o)))):
        save({"state_dict": _Runs()}, f"evil{protocol}.pt")
        assert "would run code" in _refused("--images", folder, *TOY, "--weights", f"evil{protocol}.pt")
        assert not Path("ran-code").exists()
    Path("half.safetensors").write_bytes(b"\x10\0\0")
    assert "half.safetensors" in _refused("--images", folder, *TOY, "--weights", "half.safetensors")


def test_weights_that_cannot_be_fetched(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    start = time.monotonic()
    said = _refused("--images", folder, "--classifier", "resnet50")
    assert "'resnet50'" in said
    assert "--weights" in said
    assert time.monotonic() - start < 20


def test_a_full_disk_keeps_what_is_finished_and_the_run_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--images", photos(tmp_path / "in", 4), *TOY, "--batch-size", "1", "--out", tmp_path / "out")
    write, parts = Path.write_bytes, []

    def filling(path: Path, content: bytes) -> int:
        if content.startswith(b"PAR1"):
            parts.append(path)
            if len(parts) == 7:  # four of the scale, two of the records
                write(path, content[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", filling)
    said = _refused(*command)
    assert f"'{tmp_path / 'out'}' is full" in said
    assert len(records(tmp_path / "out")) == 2 * 2
    assert not temporaries(tmp_path / "out")
    assert underfire("run", *command).code == 0
    assert len(records(tmp_path / "out")) == 4 * 2


def test_no_permission_to_write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        said = _refused("--images", folder, *TOY, "--out", tmp_path / "out")
    assert f"'{tmp_path / 'out'}' (Permission denied)" in said


def test_a_second_run_into_the_same_folder_waits_its_turn(folder: Path, tmp_path: Path) -> None:
    from underfire.store import Store

    with Store(tmp_path / "out").open():
        assert "Another run" in _refused("--images", folder, *TOY, "--out", tmp_path / "out")


def test_the_same_command_in_the_folder_of_the_photos_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos(tmp_path / "in", 2))
    outs: tuple[list[str], ...] = [], ["--out", "audit"], ["--out", "deep/er"]
    for more in (*outs, *outs):
        said = underfire("run", "--images", ".", *TOY, *more)
        assert said.code == 0, said
    (first,) = Path("underfire-out").iterdir()
    for out in (first, Path("audit"), Path("deep/er")):
        assert {row["image"] for row in records(out)} == {"p00.png", "p01.png"}
    assert "3 folders left out, with results of underfire: audit/, deep/er/, underfire-out/." in said.out
    assert "images were attacked" in _refused("--images", first, *TOY)
    assert "images were attacked" in _refused("--images", first / "images", *TOY)


def test_what_is_left_out_is_said_and_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 1)
    (folder / "a.heic").write_bytes(b"")
    os.mkfifo(folder / "pipe.jpg")
    photo(1).save(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")), "PNG")
    photo(2).save(folder / "good\x1b[2J\u202e.png")
    (folder / "bad\x1b[2J\nname\x9b.jpg").write_text("hello")
    (folder / "odd\x1b]0;title\x07.svg").write_text("hello")
    for verb in ("run", "plan"):
        said = underfire(verb, "--images", folder, *TOY, "--out", tmp_path / "out")
        assert said.code == (3 if verb == "run" else 0), said
        assert "1 file left out, no regular file: pipe.jpg." in said.out
        assert r"whose name is not UTF-8: caf\xe9.png." in said.out
        assert r"odd\x1b]0;title\x07.svg" in said.out
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said.out + said.err)
    said = underfire("run", "--images", folder, *TOY, "--out", tmp_path / "out")
    assert r"'bad\x1b[2J\nname\x9b.jpg' is no image" in said.out
    assert {r["image"] for r in records(tmp_path / "out") if r["error"] is None} == {"p00.png", "good\x1b[2J\u202e.png"}
    missing = _refused("--images", "no\x1b[2J\nsuch", *TOY)
    assert r"no\x1b[2J\nsuch'" in missing
    status = underfire("status", tmp_path / "out")
    assert r"'bad\x1b[2J\nname\x9b.jpg' is no image" in status.out


def test_after_a_photo_changed_the_advice_is_not_what_was_just_refused(tmp_path: Path) -> None:
    command = ("--images", photos(tmp_path / "in", 2), *TOY, "--out", tmp_path / "out")
    assert underfire("run", *command).code == 0
    assert "or go on with the plan that is there" in _refused(*command, "--eps", "4")
    photo(9).save(tmp_path / "in" / "p00.png")
    for words in (command, (tmp_path / "out" / "plan.yaml",)):
        said = _refused(*words)
        assert "photos: other files (2 there, 2 now)" in said
        assert "bring back what was there" in said
        assert "plan.yaml" not in said
    assert "or go on with the plan that is there" in _refused(*command, "--limit", "1")


def test_limits_are_another_plan_and_otherwise_change_no_key(tmp_path: Path) -> None:
    from underfire.audit.folder import default_out
    from underfire.plan.keys import key_settings
    from underfire.plan.settings import Settings

    plain, raised = Settings(images="demo"), Settings(images="demo", max_megapixels=200)
    assert "max_megapixels" not in key_settings(plain)
    assert key_settings(raised)["max_megapixels"] == 200
    assert str(default_out(plain)) == "underfire-out/demo-f3ad8671"
    assert default_out(plain) != default_out(raised)
    assert raised.limits.pixels == 200_000_000
    folder = photos(tmp_path / "in", 1)
    Image.new("1", (14_000, 14_000)).save(folder / "large.png")
    assert underfire("run", "--images", folder, *TOY, "--out", tmp_path / "out").code == 3
    more = ("--images", folder, *TOY, "--max-megapixels", "200")
    assert "max_megapixels: default there, 200 now" in _refused(*more, "--out", tmp_path / "out")
    assert underfire("run", *more, "--at", "input", "--out", tmp_path / "more").code == 0
    usual = _refused("--images", folder, *TOY, "--at", "input", "--out", tmp_path / "more")
    assert "max_megapixels: 200 there, default now" in usual


# -- where it is printed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("printed")
    (photos(folder / "in", 1) / "Füße ☀.jpg").write_text("hello")
    assert underfire("run", "--images", folder / "in", *TOY, "--out", folder / "out").code == 3
    return folder / "out"


def _printed(
    *words: str | Path, into: int | str = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "underfire", *map(str, words)]
    with open(into, "wb") if isinstance(into, str) else contextlib.nullcontext(into) as out:  # noqa: PTH123
        return subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, env=os.environ | environment, check=False, timeout=120
        )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_shows_what_it_can(audit: Path, encoding: str) -> None:
    said = _printed("status", audit, PYTHONIOENCODING=encoding)
    assert said.returncode == 0, said
    assert b"1 of 1 units done (100" in said.stdout
    assert ("Füße ☀.jpg".encode(encoding, "replace") in said.stdout) and not said.stderr
    mistake = _printed("status", "Füße ☀", PYTHONIOENCODING=encoding)
    assert mistake.returncode == 2
    assert b"is no folder of an underfire audit" in mistake.stderr
    assert b"Traceback" not in mistake.stderr


def test_output_that_cannot_be_written_is_told_and_a_run_goes_on(audit: Path, tmp_path: Path) -> None:
    said = _printed("status", audit, into="/dev/full")
    assert said.returncode == 2
    assert said.stderr.decode().strip() == "underfire: the output could not be written (No space left on device)."
    toy = ("--images", audit.parent / "in", *TOY)
    with_toy = {"PYTHONPATH": os.pathsep.join([str(installed()), os.environ.get("PYTHONPATH", "")])}
    said = _printed("run", *toy, "--out", tmp_path / "out", into="/dev/full", **with_toy)
    assert said.returncode == 3, said
    assert len(records(tmp_path / "out")) == 4
    assert b"Traceback" not in said.stderr


def test_a_reader_that_leaves_early_is_no_mistake(audit: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    said = _printed("status", audit, into=write)
    os.close(write)
    assert (said.returncode, said.stderr) == (0, b"")


def test_photos_that_lie_where_the_audit_puts_its_files_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    images = photos(tmp_path / "data" / "images", 1)
    said = _refused("--images", images, *TOY, "--out", tmp_path / "data")
    assert f"'{images}'" in said and "--out" in said
    assert [path.name for path in (tmp_path / "data").rglob("*")] == ["images", "p00.png"]


def test_a_plan_of_ones_own_in_the_output_folder_is_run_there_and_a_run_ones_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    plan, images = tmp_path / "audit" / "plan.yaml", photos(tmp_path / "in", 1)
    plan.write_text(f"images: {images}\nclassifier: toy\nattack: [pgd]\nthreads: 1\nsanity: 0\n")
    written = plan.read_bytes()
    assert underfire("run", plan, "--out", tmp_path / "audit").code == 0
    assert (tmp_path / "audit" / "plan-as-written.yaml").read_bytes() == written
    assert underfire("run", plan).code == 0
    plan.write_text(plan.read_text().replace("eps: 8", "eps: 4"))
    assert f"'{plan}' was changed after the run began" in _refused(plan)
