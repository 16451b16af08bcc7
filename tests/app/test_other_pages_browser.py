"""The pages that check and browse, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.audits import put
from support.e2e import photo
from underfire.store import Store

if TYPE_CHECKING:
    from support.running import Running


def test_a_table_is_sorted_filtered_and_shared(tabs: Any) -> None:
    page = tabs("/browse")
    assert page.locator("#state").inner_text().startswith("123 rows of 123")
    page.get_by_role("link", name="L1").click()
    page.get_by_role("link", name="L1").click()
    column = [float(one) for one in page.locator("td[data-head=L1]").all_inner_texts() if one != "–"]
    assert column == sorted(column, reverse=True)
    page.select_option("#attack", "pgd")
    page.fill("#q", "a/2")
    page.get_by_role("button", name="Show").click()
    page.locator("#state:text-matches('^22 rows')").wait_for()
    other = tabs(page.url.partition("/browse")[1] + page.url.partition("/browse")[2])
    assert other.locator("tbody").inner_text() == page.locator("tbody").inner_text()
    page.get_by_role("link", name="a/21&.png").first.click()
    assert page.locator("h1").inner_text().startswith("a/21&.png")
    assert page.locator(".attacks li").count() == 4
    assert all(page.locator("main img").evaluate_all("all => all.map((one) => one.naturalWidth > 0)"))
    address = page.get_by_role("link", name="forged picture").first.get_attribute("href")
    assert page.request.get(page.url.partition("/browse")[0] + str(address)).headers["content-type"] == "image/png"


def test_a_telephone_shows_all_of_it(tabs: Any) -> None:
    widths = {}
    for path in ("/", "/check", "/browse", "/browse/photo?image=a%2F3%26.png"):
        page = tabs(path, viewport={"width": 390, "height": 800}, color_scheme="dark")
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert max(widths.values()) <= 390, widths


def test_an_audit_that_is_being_written(tabs: Any, running: Running) -> None:
    page = tabs("/browse?attack=pgd")
    assert "still being written: 4 of 5 units" in page.locator("#state").inner_text()
    put(Store(running.audit), 4, range(30, 33))
    page.get_by_role("link", name="135 rows by now: show them").click()
    page.locator("#state:text-matches('^66 rows of 135$')").wait_for()


def test_a_file_is_checked_against_an_alarm(tabs: Any, tmp_path: Path) -> None:
    page = tabs("/check", mistakes=True)
    assert page.locator("#go").is_disabled()
    photo(50).save(tmp_path / "upload.png")
    page.set_input_files("#file", tmp_path / "upload.png")
    page.locator("#go:enabled").click()
    page.locator("#came").wait_for()
    assert page.locator("#came .tag").inner_text() in ("alarm", "no alarm")
    assert page.locator(".onlookers img").count() == 3
    assert "underfire check upload.png --defense alarm.json" in page.locator("#outcome").inner_text()
    (tmp_path / "none.json").write_text("{}")
    page.set_input_files("#alarm-file", tmp_path / "none.json")
    page.locator("#mistake").wait_for()
    assert "none.json" in page.locator("#mistake").inner_text()


def test_what_is_not_there_is_a_page_that_says_so(tabs: Any, running: Running) -> None:
    page = tabs(mistakes=True)
    page.goto(running.address + "/browse/photo?image=nowhere.png")
    assert "This audit has no photo 'nowhere.png'." in page.locator("main").inner_text()
