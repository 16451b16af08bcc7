"""The same audit, from and to an S3 server: the workers write, nothing is renamed, and a listing resumes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import s3
from support.e2e import TOY, photos, records, underfire
from underfire.core import BusyError, UnderfireError, Unit, UnitResult, place
from underfire.core.files import listing
from underfire.core.place import Place, Remote
from underfire.store import Store, lease
from underfire.trial.run import run_unit

N = 6
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiobotocore's sockets, closed when collected


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("s3") / "in", N)


@pytest.fixture(scope="module")
def local(folder: Path) -> Path:
    """An undisturbed run into a folder."""
    assert run(folder, folder.parent / "out") == 0
    return folder.parent / "out"


@pytest.fixture
def out(address: str, request: pytest.FixtureRequest) -> Remote:
    return Remote(f"s3://{s3.BUCKET}/{request.node.name}")


def run(images: Place, out: Place, *more: str) -> int:
    ran = underfire("run", "--images", str(images), *TOY, "--batch-size", "2", *more, "--out", str(out))
    assert "Traceback" not in ran.err
    return ran.code


def test_an_audit_on_s3_is_the_one_in_a_folder(local: Path, folder: Path, out: Remote) -> None:
    images = out / "in"
    for path in folder.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    there = out / "audit"
    assert run(images, there, "--workers", "2") == 0
    assert records(there) == records(local)
    for row in records(there):
        for column in ("clean", "adversarial", "clean_map", "adversarial_map"):
            assert (there / row[column]).read_bytes() == (local / row[column]).read_bytes()
    pictures = [(root / "report.html").read_text().count("data:image/jpeg") for root in (there, local)]
    assert pictures[0] == pictures[1] > N
    found = there.ask(lambda fs, path: fs.find(path))
    assert not [name for name in found if Path(name).name.startswith(".")]
    said = underfire("status", str(there)).out
    assert "3 of 3 units done (100\u00a0%), 0 failed" in said


def test_a_resumed_audit_on_s3_does_nothing_twice(local: Path, folder: Path, out: Remote) -> None:
    assert run(folder, out) == 0
    before = listing(out / "records")
    (out / "records" / sorted(before)[1]).unlink()
    time.sleep(1.1)  # S3 tells whole seconds
    assert run(folder, out) == 0
    after = listing(out / "records")
    assert [name for name in before if after[name] != before[name]] == [sorted(before)[1]]
    assert records(out) == records(local)


def test_a_store_out_of_order_for_a_while_loses_nothing(
    address: str, local: Path, folder: Path, out: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "WAITS", (0.1,) * 20)
    real, other, turns = run_unit, out / "other", iter((100,))
    worked_on: list[tuple[str, str]] = []

    def disturbed(unit: Unit) -> UnitResult:
        worked_on.append((unit.stage, unit.name))
        if unit.stage == "records":  # down as the unit is written; s3fs and botocore alone try 25 times
            s3.out_of_order(address, next(turns, 0))
        return real(unit)

    monkeypatch.setattr("underfire.audit.desk.run_unit", disturbed)
    assert run(folder, other) == 0
    assert records(other) == records(local)
    assert not Store(other).failed("records")
    assert len(worked_on) == len(set(worked_on))  # what was found is kept until the store takes it


def test_a_store_that_never_answers_is_said_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    ran = underfire("run", "--images", folder, *TOY, "--out", "s3://no-such-bucket-of-mine/audit")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert "s3://no-such-bucket-of-mine/audit" in ran.err
    assert time.monotonic() - began < 30


@pytest.fixture
def no_keys(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import s3fs

    for name in s3.KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize("asked", [Remote.exists, Remote.is_file, Remote.is_dir])
def test_a_store_that_does_not_answer_has_not_said_no(asked: Callable[[Remote], bool]) -> None:
    with pytest.raises(OSError, match="NoCredentialsError"):
        asked(Remote("s3://a-bucket-never-asked/audit"))


@pytest.mark.usefixtures("no_keys")
def test_a_store_without_keys_is_said(folder: Path) -> None:
    ran = underfire("run", "--images", folder, *TOY, "--out", "s3://a-bucket-never-asked/audit")
    assert ran.code == 2
    assert "s3://a-bucket-never-asked/audit" in ran.err
    assert "NoCredentialsError" in ran.err


def test_a_place_is_a_file_a_folder_or_nothing(out: Remote) -> None:
    (out / "photo").write_bytes(b"")
    (out / "photos" / "one").write_bytes(b"")
    for name, what in (("photo", "file"), ("photos", "folder"), ("pho", "nothing")):
        there = out / name
        assert (there.exists(), there.is_file(), there.is_dir()) == (
            what != "nothing",
            what == "file",
            what == "folder",
        )


def test_the_second_driver_is_refused(out: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.2)
    monkeypatch.setattr(lease, "STALE", 3.0)
    with Store(out).open() as store:
        with pytest.raises(BusyError, match="'s3://"), Store(out).open():
            pass
        store.check()
    with Store(out).open():  # given back
        pass


def test_a_dead_drivers_lease_is_taken_over_and_it_notices(out: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE", 0.5)
    monkeypatch.setattr(lease, "RENEW", 1.5)  # the first driver is too slow to be alive
    with Store(out).open() as slow:
        monkeypatch.setattr(lease, "RENEW", 0.1)
        with Store(out).open() as taken:
            with pytest.raises(UnderfireError, match="taken over"):
                for _ in range(600):  # it is told at its next beat, however slow this machine is
                    slow.check()
                    time.sleep(0.1)
            taken.check()


def test_memory_is_one_process_only(folder: Path, local: Path) -> None:
    assert run(folder, Remote("memory://audit")) == 0
    assert records(Remote("memory://audit")) == records(local)
    ran = underfire("run", "--images", folder, *TOY, "--workers", "2", "--out", "memory://other")
    assert ran.code == 2
    assert "--workers 1" in ran.err


@pytest.mark.parametrize(("url", "said"), [("gs://b/x", "gcsfs"), ("nonsense://b/x", "nonsense")])
def test_a_scheme_without_its_library_is_said(url: str, said: str, folder: Path) -> None:
    for words in (("--images", url, "--out", "unused"), ("--images", str(folder), "--out", url)):
        ran = underfire("run", *TOY, *words)
        assert ran.code == 2
        assert "Traceback" not in ran.err
        assert said in ran.err


@pytest.mark.parametrize("name", ["photo[1].png", "ä b.png", "50%.png", "a#b.png", "a::b.png", "deep/er/p.png"])
def test_any_name_of_a_photo_goes_through_s3(name: str, folder: Path, out: Remote) -> None:
    content = next(folder.iterdir()).read_bytes()
    (out / "in" / name).write_bytes(content)
    from underfire.images.photos import Folder, planned

    there = Folder(str(out / "in"))
    photo = there.photos(None)[0]
    assert photo.path == name
    assert planned(there, photo) == content
