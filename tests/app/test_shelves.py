"""A study's folder in the app: its audits with their findings, each opened like an audit, also while it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from support.audits import audit_of, put
from support.study import audit, noted
from support.study import put as store
from support.study import row as judged
from underfire.app import browse, shelves
from underfire.app.browse_pages import BrowsePages
from underfire.app.shelves import Shelves
from underfire.core import NotFoundError, UnderfireError
from underfire.report.page import write_report
from underfire.store import Store
from underfire.study.results import read


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of three audits: one finished, one that is being written, one that has not begun."""
    monkeypatch.setattr(browse, "FRESH", 0.0)
    out = tmp_path / "study"
    audit_of(out / "net" / "main-20", photos=20, units=2)
    audit_of(out / "net" / "eps1-4", photos=4, units=1, planned=2)
    kinds = [("main", "net/main-20", 8), ("budget", "net/eps1-4", 1), ("random", "net/random-4", 8)]
    return noted(out, [audit(kind, folder, ["cam", "grad"], eps) for kind, folder, eps in kinds])


def client(out: Path) -> TestClient:
    app = Starlette(routes=BrowsePages(out).routes())
    app.state.audit = out
    return TestClient(app)


def test_each_audit_is_listed_with_what_it_found(study: Path) -> None:
    main, budget, random = Shelves(study).audits()
    assert [(f.judge, f.said) for f in main.findings][:2] == [("CAM", "not calibrated"), ("GRAD", "not calibrated")]
    assert (main.units, main.planned, main.over) == (2, 2, True)
    assert (budget.units, budget.planned, budget.over, budget.settings["eps"]) == (1, 2, False, 1)
    assert (random.units, random.rows, random.findings) == (0, 0, ())


def test_a_finding_is_that_of_the_report(tmp_path: Path) -> None:
    curve = {"iou_curve": [0.5] * 9}
    rows = [judged(i, "adv2", "cam", "cam", map_l1=[0.02, 0.04, 0.5][i], map_iou=1.0, **curve) for i in range(3)]
    store(tmp_path / "cam", "records", rows)
    (only,) = Shelves(noted(tmp_path, [audit("main", "cam", ["cam"])])).audits()
    assert [(f.judge, f.attack, f.said, f.bad) for f in only.findings] == [
        ("CAM", "ADV²", "forged 2 of 3 photos", True)
    ]
    assert "ADV² forged 2 of 3" in " ".join(write_report(tmp_path / "cam", 0).read_text("utf-8").split())


def test_what_has_come_since_is_shown(study: Path) -> None:
    library = Shelves(study)
    before = library.audits()
    audit_of(study / "net" / "random-4", photos=2, units=1)
    put(Store(study / "net" / "eps1-4"), 1, range(4, 6))
    after = library.audits()
    assert [one.rows for one in before][::2] == [82, 0]
    assert [one.over for one in after] == [True, True, True]
    assert after[1].rows > before[1].rows
    assert after[0].findings is before[0].findings  # nothing new there: it is not summed up again


def test_an_audit_of_a_study_is_browsed_like_any_other(study: Path) -> None:
    web = client(study)
    page = web.get("/browse").text
    assert "still being written: 1 of 3 audits" in page
    assert "/browse?audit=net%2Fmain-20" in page
    assert "net%2Frandom-4" not in page  # nothing to open yet
    table = web.get("/browse?audit=net%2Feps1-4&attack=pgd").text
    assert "8 rows of 17" in table
    assert '<input type="hidden" name="audit" value="net/eps1-4">' in table
    assert "/browse/photo?audit=net%2Feps1-4&amp;image=a%2F3%26.png" in table
    assert "audit=net%2Feps1-4&amp;attack=pgd&amp;sort=map_l1" in table
    photo = web.get("/browse/photo?audit=net%2Feps1-4&image=a%2F3%26.png")
    assert photo.status_code == 200
    unit = "000000-0000000000000000"
    assert f"/browse/file/images/{unit}/3.adv.png?audit=net%2Feps1-4" in photo.text
    assert web.get(f"/browse/file/images/{unit}/3.adv.png?audit=net%2Feps1-4").headers["content-type"] == "image/png"
    assert web.get("/browse/state?audit=net%2Feps1-4").json() == {"rows": 17, "units": 1, "planned": 2}
    assert web.get("/browse/state").json() == {"rows": 99, "units": 1, "planned": 3}


@pytest.mark.parametrize("audit", ["", "net", "..", "net/random-4", "/etc"])
def test_what_is_no_audit_of_the_study_is_not_opened(study: Path, audit: str) -> None:
    answer = client(study).get("/browse/photo", params={"audit": audit, "image": "a/3&.png"})
    assert answer.status_code == 404


def test_one_damaged_audit_leaves_the_others_readable(study: Path) -> None:
    part = next((study / "net" / "eps1-4" / "records").glob("*.parquet"))
    part.write_bytes(b"PAR1 and no more")
    main, budget, _ = Shelves(study).audits()
    assert main.rows == 82
    assert (budget.rows, budget.over) == (0, True)
    assert budget.why
    assert client(study).get("/browse").status_code == 200


def test_a_list_reads_the_studys_file_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, seen = Shelves(study), []

    def noted_read(out: Path) -> dict[str, Any]:
        seen.append(out)
        return read(out)

    monkeypatch.setattr(shelves, "read", noted_read)
    library.audits()
    assert seen == [study]


def test_a_study_that_does_not_say_what_it_tries_is_told(study: Path) -> None:
    file = study / "study.yaml"
    file.write_text(file.read_text().replace("experiment:", "other:"))
    with pytest.raises(UnderfireError, match="does not say what its audits try"):
        Shelves(study).audits()


def test_an_audit_by_itself_has_no_others(tmp_path: Path) -> None:
    web = client(audit_of(tmp_path / "out", photos=2, units=1))
    assert "8 rows of 8" in web.get("/browse").text
    assert "all audits" not in web.get("/browse").text
    assert web.get("/browse?audit=x").status_code == 404


def test_a_folder_that_is_neither_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match=r"neither plan\.yaml nor study\.yaml"):
        Shelves(tmp_path)
    (tmp_path / "study.yaml").write_text("classifiers: []")
    with pytest.raises(UnderfireError, match="no folder of an underfire study"):
        Shelves(tmp_path)


def test_no_page_reads_files_on_the_event_loop(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    where: list[Any] = []
    table = browse.Shelf.table

    def noted_table(self: browse.Shelf) -> Any:
        where.append(threading.current_thread().name)
        return table(self)

    monkeypatch.setattr(browse.Shelf, "table", noted_table)
    web = client(study)
    for address in ("/browse", "/browse?audit=net%2Fmain-20", "/browse/state", "/browse/state?audit=net%2Fmain-20"):
        assert web.get(address).status_code == 200
    assert where
    assert not [name for name in where if "asyncio-portal" in name or name == "MainThread"]
