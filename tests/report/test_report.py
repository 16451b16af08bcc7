"""The page is complete, self-contained, escaped, deterministic, small, and made without torch."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from support.rows import row
from underfire.core import Record, Scale, UnderfireError
from underfire.images import overlay
from underfire.metrics.estimate import Estimate
from underfire.metrics.yardstick import Triple, flat
from underfire.report import findings, gallery, published, text
from underfire.report.page import SECTIONS, render, write_report
from underfire.store import Store, judged, schema

VOID = {"meta", "link", "img", "br", "path", "circle", "input"}
PLAN: dict[str, Any] = {
    "images": "photos",
    "classifier": "toynet",
    "interpreter": ["cam", "sparkle"],
    "attack": ["pgd", "adv2", "bend<er>"],
    "eps": 8,
    "target": "random",
    "resolved": {"photos": 9, "versions": {"numpy": "2.0"}, "weights_digest": None},
}


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(m: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, m.astype(np.float16))
    return buffer.getvalue()


def _scales(n: int) -> list[Scale]:
    return [Scale(f"a/{i}&.png", f"{i:064d}", judge, 0.02) for judge in ("cam", "sparkle") for i in range(n)]


def _audit(out: Path, n: int = 7) -> Path:
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for i in range(n):
        clean = rng.integers(8, 248, (48, 48, 3), np.uint8)
        files[f"{i}.png"] = _png(clean)
        files[f"{i}.adv.png"] = _png((clean + rng.integers(-8, 9, clean.shape)).astype(np.uint8))
        files[f"{i}.npy"] = _npy(rng.random((7, 7)))
    rows = [
        row(i, attack, judge if joint else None, judge)
        for judge in ("cam", "sparkle")
        for attack, joint in (("adv2", True), ("pgd", False), ("bend<er>", True))
        for i in range(n)
    ]
    rows += [row(n + k, "adv2", "cam", "cam", error="The map is <flat> & empty.") for k in range(2)]
    store = Store(out)
    with store.open():
        store.put("scale", "000000-cam-0123456789abcdef", _scales(n), {}, {})
        store.put("records", "000000-0123456789abcdef", rows, files, {})
    (out / "plan.yaml").write_text(yaml.safe_dump(PLAN, allow_unicode=True), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return write_report(out, samples=6).read_text(encoding="utf-8")


class _Reader(HTMLParser):
    """Collects tags and ids, and fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_page_nests_and_can_be_read_without_eyes(out: Path, page: str) -> None:
    reader = _Reader(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert len(reader.all("h1")) == 1
    assert reader.all("html")[0]["lang"] == "en"
    assert reader.all("img")
    assert all(attrs["alt"] for attrs in reader.all("img"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    targets = {str(attrs["href"]) for attrs in reader.all("a")}
    assert {t for t in targets if t.startswith("#")} <= {f"#{i}" for i in ids}
    files = {t for t in targets if not t.startswith("#")}
    assert {
        "plan.yaml",
        "records",
        "images",
        "images/000000-0123456789abcdef/0.png",
        "images/000000-0123456789abcdef/0.adv.png",
    } <= files
    assert all((out / unquote(name)).exists() for name in files)


@pytest.mark.parametrize("name", ["a b#c.png", "javascript:alert(1)", '"><script>.png'])
def test_a_link_is_always_a_file_of_the_folder(name: str) -> None:
    assert re.fullmatch(r"[\w%./-]+", text.href(name))
    assert unquote(text.href(name)) == name


def test_the_pictures_stand_before_the_words(page: str) -> None:
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids[:3] == ["headline", "samples", "results"]
    assert page.index('class="hero"') < page.index('id="samples"')


def test_a_forged_pair_flips_to_the_original_without_a_script(page: str) -> None:
    shots = page.count('<figure class="turn">')
    assert shots == page.count('<input type="checkbox"') > 6
    assert page.count("--photo:url(data:image/jpeg;base64,") == 7, "each photo of the gallery, and the one at the top"


def test_a_class_of_many_names_is_shown_by_its_first() -> None:
    assert text.first_name("cellular telephone, cellular phone, cell") == "cellular telephone"
    assert text.first_name("fox") == "fox"


def test_page_is_self_contained(page: str) -> None:
    assert not re.findall(r'src="(?!data:)|href="(?!data:|#|plan|records|images)', page)
    assert not re.search(r"https?://|@import|url\((?!data:)|<script", page)


def test_every_section_stands_in_the_page(page: str) -> None:
    ids = {attrs.get("id") for attrs in _Reader(page).all("section")}
    ids_of = {build.__name__ for build in SECTIONS} - {"defense", "files", "sanity", "smallest", "understanding"}
    assert ids == ids_of, "no judge was defended, inputs were forged, no attack checked"


def test_names_are_escaped_and_third_parties_stand_everywhere(page: str) -> None:
    assert "é<b>clair" not in page
    assert "é&lt;b&gt;clair" in page
    assert "The map is &lt;flat&gt; &amp; empty." in page
    assert page.count("sparkle") > 5
    assert page.count("bend&lt;er&gt;") > 5


def test_headline_and_table_say_what_the_records_say(page: str) -> None:
    assert "ADV² forged 7 of 7 photos" in page
    assert "PGD, which ignores the map: 0 of" in page
    assert "untouched by the old scale: L1 ≤ 0.02" in page
    assert "2 errors" in page
    assert "Not finished" not in page
    assert "another network, toynet" in page


def test_same_records_give_the_same_bytes_and_no_temporary_stays(out: Path, page: str) -> None:
    assert write_report(out, samples=6).read_text(encoding="utf-8") == page
    assert not list(out.glob(".report-*"))


def test_fewer_photos_than_planned_is_said(tmp_path: Path) -> None:
    _audit(tmp_path, n=2)
    assert "4 of 9 photos have results" in write_report(tmp_path, 0).read_text(encoding="utf-8")


def test_samples_are_counted_over_all_interpreters(out: Path, page: str) -> None:
    assert page.count('<article class="sample"') == 6
    assert '<article class="sample"' not in render(findings.load(out), 0)


def test_lost_pictures_leave_a_word(tmp_path: Path) -> None:
    _audit(tmp_path, n=1)
    for name in ("0.png", "0.npy"):
        (tmp_path / "images" / "000000-0123456789abcdef" / name).unlink()
    assert "no picture" in write_report(tmp_path).read_text(encoding="utf-8")


def test_nothing_forged_is_said_as_such(tmp_path: Path) -> None:
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", [row(0, "adv2", "cam", "cam", map_l1=0.5)], {}, {})
        store.put("scale", "000000-cam-0123456789abcdef", _scales(1), {}, {})
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    page = write_report(tmp_path, 0).read_text(encoding="utf-8")
    assert "forged no photo" in page


def _calibrated(tmp_path: Path, n: int, wrong: float, alone: bool = False) -> str:
    """The page of an audit with n clean photos of its own, whose wrong maps lie so far from the clean ones.

    Photos ``alone`` in their batches have the maps for other classes only.
    """
    far: Triple = (wrong, wrong, wrong)
    copies, impostors = flat([(0.02, 0.1, 0.1)] * 8), flat([None, None, far] if alone else [far] * 3)
    with Store(tmp_path).open() as store:
        near = {"map_l1": 0.01, "map_iou": 0.95, "map_rank": 0.99}
        store.put("records", "000000-0123456789abcdef", [row(0, "adv2", "cam", "cam", **near)], {}, {})
        store.put(
            "scale",
            "000000-cam-0123456789abcdef",
            [Scale(f"{i}", f"{i}", "cam", 0.02, None, copies, impostors) for i in range(n)],
            {},
            {},
        )
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    return write_report(tmp_path, 0).read_text(encoding="utf-8")


def test_a_forged_rate_stands_beside_its_power(tmp_path: Path) -> None:
    page = _calibrated(tmp_path, 20, 0.9)
    assert "forged 1 of 1 photo" in page
    assert "power 100\u00a0%" in page


def test_without_power_the_page_says_that_it_cannot_tell(tmp_path: Path) -> None:
    page = _calibrated(tmp_path, 20, 0.01)
    assert "this explanation cannot tell" in page
    assert "forged 1 of 1 photo" not in page
    assert "Class-blind" in page


def test_pictures_are_not_tagged_forged_where_the_explanation_cannot_tell(tmp_path: Path) -> None:
    copies, impostors = flat([(0.02, 0.1, 0.1)] * 8), flat([(0.01,) * 3] * 3)
    _audit(tmp_path, n=3)
    assert '<span class="tag bad">forged</span>' in write_report(tmp_path).read_text(encoding="utf-8")
    blind = [Scale(f"{i}", f"{i}", j, 0.02, None, copies, impostors) for j in ("cam", "sparkle") for i in range(20)]
    with Store(tmp_path).open() as store:
        store.put("scale", "000000-cam-0123456789abcdef", blind, {}, {})
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "this explanation cannot tell" in page
    assert '<span class="tag bad">forged</span>' not in page
    assert "class reached" in page


def test_a_page_with_units_to_come_says_so_although_every_photo_has_a_row(tmp_path: Path) -> None:
    _audit(tmp_path, n=1)
    plan = PLAN | {"resolved": {"photos": 3, "units": 2}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan, allow_unicode=True), encoding="utf-8")
    assert "1 of 2 parts of the work have results" in write_report(tmp_path).read_text(encoding="utf-8")


def test_without_a_wrong_map_nobody_knows_whether_the_explanation_can_tell(tmp_path: Path) -> None:
    page = _calibrated(tmp_path, 20, 0.9, alone=True)
    assert "not calibrated" in page
    assert "forged 1 of 1 photo" not in page


def test_with_too_few_photos_the_page_says_not_calibrated(tmp_path: Path) -> None:
    page = _calibrated(tmp_path, 18, 0.9)
    assert "not calibrated" in page
    assert "forged 1 of 1 photo" not in page


def test_only_errors_is_no_zero(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.open():
        store.put("records", "000000-0123456789abcdef", [row(0, "adv2", "cam", "cam", error="No map.")], {}, {})
    (tmp_path / "plan.yaml").write_text("attack: adv2\n", encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    _Reader(page)
    assert "No photo has a result yet" in page
    assert not re.search(r"(?<!\d)0\u00a0%|<td class=\"num\">0\.", page)


@pytest.mark.parametrize("plan", [None, "[1, 2]\n", "a: [\n"])
def test_other_folders_are_refused(tmp_path: Path, plan: str | None) -> None:
    if plan is not None:
        (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
    with pytest.raises(UnderfireError, match=r"plan\.yaml"):
        write_report(tmp_path)


def test_empty_audit_and_negative_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("{}\n", encoding="utf-8")
    with pytest.raises(UnderfireError, match="no finished records yet"):
        write_report(tmp_path)
    with pytest.raises(UnderfireError, match="--samples -1"):
        write_report(tmp_path, samples=-1)


def test_pick_puts_misses_first_and_takes_thirds() -> None:
    l1 = [0.5, 0.1, 0.3, None, 0.2, 0.4, 0.05]
    rows = [row(i, "adv2", "cam", "cam", map_l1=v, success=i != 1) for i, v in enumerate(l1)]
    table = judged(pa.Table.from_pylist([vars(row) for row in rows], schema(Record)), {})
    picked = [(place, row["map_l1"]) for place, row in gallery.pick(table, 5)]
    assert picked == [("worst", 0.1), ("worst", None), ("middle", 0.4), ("best", 0.2), ("best", 0.05)]
    assert [row["map_l1"] for _, row in gallery.pick(table, 99)] == [0.1, None, 0.5, 0.4, 0.3, 0.2, 0.05]
    assert gallery.pick(table, 0) == []


def test_change_is_magnified_by_a_whole_number() -> None:
    clean = np.full((4, 4, 3), 100, np.uint8)
    assert overlay.difference(clean, clean + np.uint8(8))[1] == 15
    assert overlay.difference(clean, clean)[1] == 127
    assert overlay.difference(clean, clean[:2])[0] is None


def test_numbers_as_text() -> None:
    assert [text.number(v) for v in (None, 0.0, 0.00551, 0.5, 8162.4, 1e-6)] == [
        *("–", "0", "0.0055", "0.50", "8,162", "< 0.0001")
    ]
    assert [text.percent(*v) for v in ((None, 9), (1.0, 9), (0.996, 50), (0.9999, 5000), (0.123, 500))] == [
        *("–", "100\u00a0%", ">\u00a099\u00a0%", ">\u00a099.9\u00a0%", "12.3\u00a0%")
    ]
    assert text.share_interval(Estimate(0.5, 0.25, 0.75, 10)) == "25–75\u00a0%"
    assert text.interval(Estimate(0.99, -0.2, 1.2, 10), 2, 0, 1) == "0\u2009–\u20091.0"
    assert text.interval(Estimate(0.5, None, None, 1)) == ""
    assert text.interval(Estimate(1.0, 0.999, 1.0, 10), 2, 0, 1) == "", "it says nothing that the mean does not"


def test_page_stays_small_with_many_rows(tmp_path: Path) -> None:
    _audit(tmp_path, n=3)
    few = write_report(tmp_path, 3).stat().st_size
    rows = [row(i, a, g, "cam", map_l1=i / 3000) for i in range(3000) for a, g in (("adv2", "cam"), ("pgd", None))]
    rows += [row(i, "pgd", None, "cam", error=f"Reason {i}.") for i in range(9000, 9100)]
    rows += [row(i, "pgd", None, "cam", error="The map is flat.") for i in range(9100, 9200)]
    with Store(tmp_path).open() as store:
        store.put("records", "000001-0123456789abcdef", rows, {}, {})
    page = write_report(tmp_path, 3)
    assert page.stat().st_size < few + 40_000
    text = page.read_text(encoding="utf-8")
    assert "202 of 3,200 photos miss a result; 200 of them have none at all" in text
    assert "a/9119&amp;.png and 80 more" in text
    assert "82 further reasons (82 photos)" in text


def _errors(page: str) -> str:
    """The errors section without its tags."""
    section = page.partition('<section id="errors"')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", section).split())


def test_each_bad_photo_stands_once_whatever_fails_on_it(tmp_path: Path) -> None:
    _audit(tmp_path, n=2)
    bad = range(10, 35)
    lines = [(a, j if joint else None, j) for j in ("cam", "sparkle") for a, joint in (("adv2", 1), ("pgd", 0))]
    rows = [row(i, *line, error=f"'a/{i}&.png' is no image: replace it.") for i in bad for line in lines]
    rows += [row(0, "bend<er>", "cam", "cam", error=e) for e in ("B of 'a/0&.png'.", "A.")]
    scales = [Scale(f"a/{i}&.png", "0" * 64, "cam", error=f"'a/{i}&.png' is no image: replace it.") for i in bad]
    with Store(tmp_path).open() as store:
        store.put("records", "000001-0123456789abcdef", rows, {}, {})
        store.put("scale", "000001-cam-0123456789abcdef", scales, {}, {})
    text = _errors(write_report(tmp_path, 0).read_text(encoding="utf-8"))
    assert text.count("The file is no image: replace it.") == 1
    assert all(text.count(f"a/{i}&amp;.png") == (i < 30) for i in bad)
    assert "and 5 more" in text
    assert "28 of 29 photos miss a result; 27 of them have none at all" in text
    assert "A. bend&lt;er&gt; under CAM B of the file. bend&lt;er&gt; under CAM a/0&amp;.png" in text


@pytest.mark.parametrize("images", ["/home/ann/secret/photos", "../secret/photos/", "C:\\secret\\photos"])
def test_folders_above_the_photos_stay_private(tmp_path: Path, images: str) -> None:
    _audit(tmp_path, n=1)
    plan = PLAN | {"images": images, "resolved": {"cache": "/srv/secret/cache"}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    page = write_report(tmp_path, 0).read_text(encoding="utf-8")
    assert "secret" not in page
    assert "<dd>photos</dd>" in page
    assert "<dd>cache</dd>" in page


def test_a_miss_shows_how_sure_the_classifier_was(tmp_path: Path) -> None:
    miss = {"success": False, "predicted_class_name": "fox", "confidence": 0.03}
    with Store(tmp_path).open() as store:
        store.put(
            "records",
            "000000-0123456789abcdef",
            [row(0, "pgd", None, "cam", predicted_confidence=0.62, **miss)],
            {},
            {},
        )
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "fox</span>, 62\u00a0% (wanted class: 3\u00a0%)" in page


@pytest.mark.parametrize(
    ("classifier", "same"), [("timm:resnet50.a1_in1k", True), ("densenet169", True), ("resnet50d", False)]
)
def test_grad_stands_beside_its_published_cells(tmp_path: Path, classifier: str, same: bool) -> None:
    fixed: dict[str, Any] = {"classifier": classifier, "judge_classifier": classifier}
    rows = [row(0, "pgd", None, "grad"), row(0, "adv2", "grad", "grad"), row(0, "adv2", "cam", "grad")]
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", [replace(row, **fixed) for row in rows], {}, {})
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    lines = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page.partition('id="results"')[2], re.DOTALL)
    cells = {name: re.findall(r'pub"[^>]*>(.*?)</td>', cells) for name, cells in lines[:3]}
    assert cells == {
        "PGD": ["100\u00a0%<small>1.0</small>"] * 2,
        "ADV²": ["100\u00a0%<small>0.99</small>", "100\u00a0%<small>0.98</small>"],
        "ADV² against CAM": ["–", "–"],
    }
    assert "GRAD" in page
    assert ("Only loosely" in page) is same


def test_other_classes_than_imagenets_stand_beside_no_published_cells(tmp_path: Path) -> None:
    with Store(tmp_path).open() as store:
        store.put(
            "records", "000000-0123456789abcdef", [row(0, "pgd", None, "grad"), row(0, "adv2", "grad", "grad")], {}, {}
        )
    for digest, shown in ((published.IMAGENET_CLASSES, True), ("0" * 64, False)):
        plan = {**PLAN, "resolved": {**PLAN.get("resolved", {}), "classes_digest": digest}}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
        page = write_report(tmp_path).read_text(encoding="utf-8")
        assert ("Are the published figures comparable?" in page) is shown


def test_the_digest_of_imagenets_classes_is_what_a_plan_has() -> None:
    from underfire.classifiers.inputs import class_names
    from underfire.core import ClassifierOptions
    from underfire.core.hashing import digest_of

    known = class_names(1000, {}, ClassifierOptions())
    assert digest_of([known.names, known.ids]) == published.IMAGENET_CLASSES


def test_report_does_not_import_torch() -> None:
    code = "import sys, underfire.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
