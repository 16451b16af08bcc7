"""The parts of the app by themselves: the line, the shelf, the live view, a forgery's story."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import underfire
from support.audits import audit_of, put
from support.e2e import photo
from support.toys import pictures, toy
from underfire.app import browse, recipe
from underfire.app.album import Given
from underfire.app.browse import PAGE, Query, Shelf
from underfire.app.check_pages import CheckPages
from underfire.app.forgery import Forgery
from underfire.app.form import Form
from underfire.app.line import LONGEST, Queue
from underfire.app.live import Abandoned, Frame, LiveView
from underfire.app.networks import Networks
from underfire.app.outcome import forged
from underfire.core import BusyError, ClassifierOptions, UnderfireError, UnsuitableError
from underfire.core.naming import as_flags
from underfire.defenses.calibration import Calibration, Member
from underfire.images import formats, pixels
from underfire.images.photos import Folder
from underfire.interpreters.cam import Cam
from underfire.store import Store, open_results

if TYPE_CHECKING:
    from underfire.core.watch import Glimpse


class Told:
    """A task that waits to be told to end."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self.done, self.go = name, done, threading.Event()
        self.unwanted = False

    def run(self) -> None:
        self.go.wait(5)
        self.done.append(self.name)


def test_one_at_a_time_in_the_order_they_came() -> None:
    done: list[str] = []
    line, tasks = Queue(), [Told(name, done) for name in "abcd"]
    line.start()
    for task in tasks:
        line.put(task)
    tasks[2].unwanted = True
    assert [line.ahead(task) for task in tasks][1:] in ([1, 2, 3], [0, 1, 2])  # the first may not have begun
    for task in reversed(tasks):
        task.go.set()
    last = Told("e", done)
    last.go.set()
    line.put(last)
    while "e" not in done:
        pass
    assert done == ["a", "b", "d", "e"]
    line.close()


def test_a_line_has_an_end() -> None:
    line = Queue()
    for _ in range(LONGEST):
        line.put(Told("", []))
    with pytest.raises(BusyError, match="wait already"):
        line.put(Told("", []))


def test_a_table_has_the_rows_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "FRESH", 0.0)
    out = audit_of(tmp_path / "out", photos=20, units=2, planned=3)
    shelf = Shelf(out)
    assert shelf.table().to_pylist() == open_results(out).rows()
    read: list[set[str]] = []
    tables = Store.tables

    def noted(self: Store, stage: str, units: set[str]) -> Any:
        read.append(units)
        return tables(self, stage, units)

    monkeypatch.setattr(Store, "tables", noted)
    put(Store(out), 2, range(20, 24))
    assert shelf.table().to_pylist() == open_results(out).rows()
    assert shelf.units == shelf.planned == 3
    assert {"000002-0000000000000002"} in read  # the library reads all parts, the shelf only the new one
    found = shelf.page(Query(sort="map_l1", down=True, attack="pgd", outcome="missed"))
    want = [r for r in open_results(out).rows() if r["attack"] == "pgd" and r["success"] is False]
    assert [r["map_l1"] for r in found.rows] == sorted((r["map_l1"] for r in want), reverse=True)
    assert (found.found, found.total) == (len(want), 99)
    everything = [row for n in (1, 2) for row in shelf.page(Query(page=n)).rows]
    assert everything == open_results(out).rows()
    assert len(shelf.page(Query(page=1)).rows) == PAGE


def test_a_query_is_its_address() -> None:
    query = Query(q="a&b", attack="adv2", sort="map_l1", down=True, page=3)
    from urllib.parse import parse_qsl

    assert Query.parse(dict(parse_qsl(query.address()))) == query
    assert Query.parse({"sort": "nonsense", "outcome": "x", "page": "-1", "down": "yes"}) == Query()
    assert Query().address() == ""


class Seen:
    """A watcher that counts, and may end the search."""

    def __init__(self, last: int = 10**9) -> None:
        self.glimpses: list[Glimpse] = []
        self.last = last

    def see(self, glimpse: Glimpse) -> bool:
        self.glimpses.append(glimpse)
        return glimpse.step >= self.last


def attacked(watcher: Any, **more: Any) -> Any:
    return underfire.attack(toy(), "cam", pictures(2).float(), steps=12, progress=watcher, **more)


def test_a_watcher_changes_nothing_and_may_end_the_search() -> None:
    plain, seen = attacked(False, rescue=False), Seen()
    watched = attacked(seen, rescue=False)
    assert torch.equal(plain.images, watched.images)
    assert [r.passes for r in plain.records] == [r.passes for r in watched.records]
    assert [one.step for one in seen.glimpses] == list(range(len(seen.glimpses)))
    assert {one.steps for one in seen.glimpses} == {12}
    assert {tuple(one.maps) for one in seen.glimpses} == {("cam",)}
    stopped = attacked(Seen(3))
    assert [r.steps for r in stopped.records] == [3, 3]
    assert [r.error for r in stopped.records] == [None, None]


def view(**more: Any) -> tuple[LiveView, list[Frame]]:
    classifier, frames = toy(), list[Frame]()
    return LiveView(classifier, Cam(classifier), frames.append, **more), frames


@pytest.mark.parametrize("attack", ["adv2", "pgd"])
def test_the_live_view_shows_what_the_search_sees(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underfire.app.live.EVERY", 0.0)
    monkeypatch.setattr("underfire.app.live.APART", 0)
    classifier, frames = toy(), list[Frame]()
    live = LiveView(classifier, Cam(classifier), frames.append)
    made = underfire.attack(classifier, "cam", pictures(1).float(), attack=attack, steps=12, progress=live)
    plain = underfire.attack(toy(), "cam", pictures(1).float(), attack=attack, steps=12)
    assert made.records[0].passes == plain.records[0].passes  # the view's own maps cost the search nothing
    assert [one.step for one in frames] == list(range(len(frames)))
    assert all(one.picture.startswith("data:image/jpeg") and one.map for one in frames)
    assert [bar[2] for bar in frames[0].bars[:2]] == ["wanted", "own"]
    assert frames[0].bars[1][1] == pytest.approx(made.records[0].clean_confidence, abs=1e-6)
    assert sum(bar[1] for bar in frames[0].bars) == pytest.approx(1)
    passes = [one.passes or 0 for one in frames]
    assert passes == sorted(passes)
    assert passes[-1] <= (made.records[0].passes or 0)


def test_the_live_view_takes_little_of_a_search() -> None:
    live, frames = view()
    for step in range(200):
        _step(live, step)
    begun = live._begun or 0.0
    assert frames
    assert live.spent <= 0.1 * (live._due - begun) + max(0.05, live.spent / max(1, len(frames)))


def _step(live: LiveView, step: int) -> None:
    from underfire.core import Goal
    from underfire.core.watch import Glimpse

    x = pictures(1).float()
    goal = Goal(torch.tensor([0]), torch.tensor([1]))
    live.see(Glimpse(step, 200, torch.tensor([0]), x, goal, torch.zeros(1, 4), torch.tensor([False])))


def test_a_search_that_nobody_waits_for_is_left() -> None:
    live, _ = view(ended=lambda: "leave")
    with pytest.raises(Abandoned):
        attacked(live)
    stopping, _ = view(ended=lambda: "stop")
    assert attacked(stopping).records[0].steps == 0


def test_no_audit_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match=r"plan\.yaml"):
        Shelf(tmp_path)


class GreyNet(nn.Module):
    """A grey network of three classes, for inputs of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.first(x).relu().mean((2, 3)))
        return logits


@pytest.mark.parametrize("save_as", ["png", "jpeg"])
def test_a_grey_network_that_is_not_square_gets_whole_files(save_as: str) -> None:
    classifier = underfire.wrap(GreyNet().eval(), input_size=(24, 40), channels=1, mean=0.5, std=0.25, name="grey")
    networks = Networks("grey", ClassifierOptions(), "cpu")
    networks._built["grey"] = classifier
    given = Given("", "a.png", pixels.encode_png(np.asarray(photo(3))), b"")
    fields = {"photo": "p", "classifier": "grey", "interpreter": "cam", "attack": "pgd", "save_as": save_as}
    made = forged(Forgery(Form.parse(fields), given, networks))
    assert (made.record.at, made.record.error) == ("file", None)
    assert formats.decode_upright(made.file).shape == np.asarray(photo(3)).shape
    assert set(made.pictures) >= {"before", "after", "change", "map-before", "map-after"}
    with formats.opened(made.file) as image:
        assert formats.SAVED[str(image.format)] == made.suffix
    assert (made.largest > 8) == (save_as == "jpeg")
    assert "--at input" not in recipe.command(Form.parse(fields), "a.png", 1, ClassifierOptions())


def test_a_photo_with_holes_is_shown_as_it_was_forged() -> None:
    classifier = underfire.wrap(GreyNet().eval(), input_size=(24, 40), channels=1, mean=0.5, std=0.25, name="grey")
    networks = Networks("grey", ClassifierOptions(), "cpu")
    networks._built["grey"] = classifier
    holes = photo(3).convert("RGBA")
    holes.paste((200, 20, 20, 0), (0, 0, 30, 60))
    content = io.BytesIO()
    holes.save(content, "PNG")
    wish = Form.parse({"photo": "p", "classifier": "grey", "interpreter": "cam", "attack": "pgd"})
    assert forged(Forgery(wish, Given("", "a.png", content.getvalue(), b""), networks)).largest <= 8


def test_what_is_over_cannot_be_stopped() -> None:
    wish = Form.parse({"photo": "p", "classifier": "grey", "interpreter": "cam"})
    forgery = Forgery(wish, Given("", "a.png", b"", b""), Networks("grey", ClassifierOptions(), "cpu"))
    forgery.move("judging")
    forgery.stop()
    assert not forgery.stopping
    forgery.move("running")
    forgery.stop()
    assert forgery.stopping


def an_alarm(folder: Path, options: dict[str, Any], settings: dict[str, Any]) -> Path:
    members = (Member("cam", {}, ""), Member("rts", options, "d"))
    Calibration("net", "d", members, {}, 1.0, 0.05, (0.5,) * 19, ("a",), options=settings).write(folder / "alarm.json")
    return folder / "alarm.json"


@pytest.mark.parametrize(
    ("options", "settings", "named"),
    [
        ({"weights": "secret"}, {}, "rts.weights"),
        ({}, {"lexicon": "/etc/passwd"}, "squeeze.lexicon"),
        ({"weights": "a.safetensors"}, {"of": "..\\x"}, "rts.weights, squeeze.of"),
        ({"options": {"rts": {"weights": "secret"}}}, {}, "rts.options.rts.weights"),
        ({"defense": "secret"}, {"members": ["cam", {"of": "/x"}]}, "rts.defense, squeeze.members.of"),
    ],
)
def test_an_alarm_that_was_given_on_the_page_names_no_files(
    tmp_path: Path, options: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    path = an_alarm(tmp_path, options, settings)
    pages = CheckPages(Networks("net", ClassifierOptions(), "cpu"), Queue(), [path])  # from the command line it may
    with pytest.raises(UnsuitableError, match=rf"'mine.json' .*\({re.escape(named)}\).*--defense"):
        pages._know(path, "mine.json", own=False)
    assert len(pages.alarms) == 1
    assert pages._know(an_alarm(tmp_path, {"size": 3}, {"by": "blur"}), "plain.json", own=False) == "2 plain.json"
    pages.close()


def test_a_command_line_finds_the_photo() -> None:
    wish = Form.parse({"photo": "p", "classifier": "efficientnet-lite0", "interpreter": "cam"})
    options = ClassifierOptions(resize=300, mean=(0.5, 0.5, 0.5))
    assert as_flags(vars(options)) == ["--resize", "300", "--mean", "0.5,0.5,0.5"]
    demo, own = (recipe.command(wish, name, 3, ClassifierOptions()) for name in ("coffee.png", "my cat.png"))
    assert own.startswith("underfire run --images 'my cat.png' --classifier efficientnet-lite0 ")
    assert demo.startswith("underfire run --images \"$(python -c '") and "')\"/coffee.png --classifier" in demo
    code = demo.partition("-c '")[2].partition("'")[0]
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(Folder("demo").root)
