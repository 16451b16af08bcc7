"""RTS: the objective and the figures against slow re-implementations, the network, its files, training and resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from support.e2e import underfire
from underfire import api, sheet, train
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Goal, UnderfireError
from underfire.images import pixels
from underfire.interpreters import rts_loss as loss
from underfire.interpreters.rts.card import Card, find, load, packaged, packed, read_card
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import Rts
from underfire.interpreters.rts_loss import (
    Weights,
    area,
    blend,
    blurred,
    fill,
    objective,
    probability_without,
    random_block,
    saliency_metric,
    smoothness,
    tight_box,
    top_region,
)
from underfire.train import TrainSettings, Unwatched

SIZE, K = 64, 4


class Colours(nn.Module):
    """Sees coloured squares: four detectors on 4×4 averages, then plain averaging to strides 8, 16, 32."""

    def __init__(self, gain: float = 20.0) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, K, 1)
        self.head = nn.Linear(K, K)
        third = 1 / 3
        self.see.weight.data = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [third, third, third]])[
            ..., None, None
        ]
        self.see.bias = nn.Parameter(torch.tensor([-0.1, -0.1, -0.1, -0.9]))
        self.head.weight.data = gain * torch.eye(K)
        self.head.bias.data = torch.zeros(K)

    def levels(self, x: Tensor) -> list[Tensor]:
        out = [F.relu(self.see(F.avg_pool2d(x, 4)))]
        while len(out) < 4:
            out.append(F.avg_pool2d(out[-1], 2))
        return out

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.levels(x)[-1].mean((2, 3)))
        return logits


def colours(gain: float = 20.0) -> TorchClassifier:
    return wrapped(Colours(gain), "colours")


def wrapped(net: Colours, name: str) -> TorchClassifier:
    return wrap(
        net,
        input_size=SIZE,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        name=name,
        features=lambda x: net.levels(x)[-1],
        pyramid=net.levels,
    )


def squares(folder: Path, n: int) -> Path:
    """Grey noise with one square of the class's colour at a random place."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        rng = np.random.default_rng(i)
        picture = rng.integers(90, 130, (80, 80, 3)).astype(np.uint8)
        side = int(rng.integers(20, 36))
        top, left = rng.integers(0, 80 - side, 2)
        colour = [(230, 40, 30), (30, 220, 40), (40, 30, 230), (250, 250, 250)][i % K]
        picture[top : top + side, left : left + side] = colour
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return squares(tmp_path / "photos", 32)


def few(**changes: object) -> TrainSettings:
    return replace(TrainSettings(epochs=3, batch_size=8), **changes)  # type: ignore[arg-type]


def random_maps(n: int = 3, side: int = 8) -> Tensor:
    return torch.rand(n, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


# -- the objective, slowly --------------------------------------------------------------------------------------------


def test_area_and_smoothness_by_hand() -> None:
    m = random_maps()
    for k, one in enumerate(m.tolist()):
        n = len(one)
        assert float(area(m)[k]) == pytest.approx(sum(map(sum, one)) / n**2, abs=1e-12)
        across = [(one[i][j + 1] - one[i][j]) ** 2 for i in range(n) for j in range(n - 1)]
        down = [(one[i + 1][j] - one[i][j]) ** 2 for i in range(n - 1) for j in range(n)]
        assert float(smoothness(m)[k]) == pytest.approx(sum(across) / len(across) + sum(down) / len(down), abs=1e-12)


def test_blend_keeps_where_the_mask_is_one() -> None:
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    behind = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    ones = torch.ones(2, 4, 4, dtype=torch.float64)
    assert torch.equal(blend(x, ones, behind), x)
    assert torch.equal(blend(x, 0 * ones, behind), behind)
    torch.testing.assert_close(blend(x, 0.25 * ones, behind), 0.25 * x + 0.75 * behind)


def test_the_objective_term_by_term() -> None:
    classifier = colours()
    classifier.module.double()
    classifier.to("cpu")
    x = torch.rand(3, 3, SIZE, SIZE, dtype=torch.float64)
    behind, m, y = torch.rand_like(x), random_maps(3, 16), torch.tensor([0, 1, 2])
    lam = Weights(tv=3.0, area=2.0, destroy=5.0, power=0.3)
    terms = objective(classifier.logits, x, y, m, behind, lam)
    for k in range(3):
        u = F.interpolate(m[k : k + 1, None], (SIZE, SIZE), mode="bilinear", align_corners=False)
        kept = classifier.logits(x[k : k + 1] * u + behind[k : k + 1] * (1 - u))[0].tolist()
        lost = classifier.logits(x[k : k + 1] * (1 - u) + behind[k : k + 1] * u)[0].tolist()

        def probability(z: list[float], c: int) -> float:
            return math.exp(z[c]) / sum(math.exp(v) for v in z)

        c = int(y[k])
        assert float(terms["keep"][k]) == pytest.approx(-math.log(probability(kept, c)), rel=1e-4)
        assert float(terms["destroy"][k]) == pytest.approx(5 * (probability(lost, c) + 1e-6) ** 0.3, rel=1e-4)
        assert float(terms["area"][k]) == pytest.approx(2 * float(m[k].mean()))
        assert float(terms["smoothness"][k]) == pytest.approx(3 * float(smoothness(m)[k]))


def test_the_fill_is_of_the_seed_alone_and_of_both_kinds() -> None:
    x = torch.rand(4, 3, 32, 32)
    seeds = [2, 3, 4, 5]
    filled = fill(x, seeds)
    assert torch.equal(filled[1], fill(x[1:2], [3])[0])
    assert torch.equal(filled[1], blurred(x)[1]), "odd seeds blur"
    assert torch.equal(filled[0], loss.flat(x, seeds)[0]), "even seeds paint"
    assert float(filled.min()) >= 0 and float(filled.max()) <= 1


def test_blur_leaves_a_flat_picture_and_takes_detail_away() -> None:
    flat = torch.full((1, 3, 64, 64), 0.3)
    torch.testing.assert_close(blurred(flat), flat)
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert float(blurred(stripes).std()) < 0.1


# -- what a map is worth ----------------------------------------------------------------------------------------------


def test_the_tightest_box() -> None:
    m = torch.zeros(8, 8)
    m[2, 3], m[5, 4] = 0.9, 0.6
    assert tight_box(m, 0.5) == (2 / 8, 3 / 8, 6 / 8, 5 / 8)
    assert tight_box(m, 0.7) == (2 / 8, 3 / 8, 3 / 8, 4 / 8)
    assert tight_box(m, 0.95) == (0, 0, 1, 1), "nothing reaches t: nothing is cropped"


def test_the_saliency_metric_by_hand() -> None:
    classifier = colours()
    x = torch.full((1, 3, SIZE, SIZE), 0.45)
    x[:, :, 16:32, 32:64] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    m = torch.zeros(1, 16, 16)
    m[:, 4:8, 8:16] = 1
    crop = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None].expand(1, 3, SIZE, SIZE)
    p = float(classifier.logits(crop).softmax(1)[0, 0])
    wanted = math.log(0.25 * 0.5) - math.log(p)
    assert float(saliency_metric(classifier.logits, x, torch.tensor([0]), m, 0.5)[0]) == pytest.approx(wanted, abs=1e-4)
    m = torch.zeros(1, 16, 16)
    m[:, 5, 9] = 1  # 1/256 of the area counts as 5 %
    value = float(saliency_metric(classifier.logits, x, torch.tensor([0]), m, 0.5)[0])
    assert value == pytest.approx(math.log(0.05) - math.log(p), abs=1e-4)


def test_regions_have_their_area() -> None:
    m = random_maps(4, 10)
    top = top_region(m, 0.2)
    assert top.sum((1, 2)).tolist() == [20] * 4
    assert all(float(m[k][top[k] == 1].min()) >= float(m[k][top[k] == 0].max()) for k in range(4))
    block = random_block(m, 0.2, [1, 2, 3, 1])
    assert block.sum((1, 2)).tolist() == [16] * 4
    assert torch.equal(block[0], block[3])


def test_what_is_left_without_a_region() -> None:
    classifier = colours()
    x = torch.full((1, 3, SIZE, SIZE), 0.45)
    x[:, :, 16:32, 16:32] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    y, region = torch.tensor([0]), torch.zeros(1, 16, 16)
    whole = float(classifier.logits(x).softmax(1)[0, 0])
    assert float(probability_without(classifier.logits, x, y, region)[0]) == pytest.approx(whole)
    region[:, 4:8, 4:8] = 1
    z = classifier.logits(torch.where(F.interpolate(region[:, None], (SIZE, SIZE)) > 0, blurred(x), x))
    assert float(probability_without(classifier.logits, x, y, region)[0]) == pytest.approx(float(z.softmax(1)[0, 0]))


# -- the network ------------------------------------------------------------------------------------------------------


def started(classifier: TorchClassifier, x: Tensor, y: Tensor) -> MaskNet:
    levels = classifier.pyramid(x)
    net = MaskNet([f.shape[1] for f in levels])
    net.start(levels, classifier.head[y], classifier.head, torch.Generator().manual_seed(0))
    return net


def test_the_mask_starts_as_the_evidence_of_cam() -> None:
    classifier = colours()
    x, y = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3])
    x[:, 1:] *= 0.3  # something red to see
    net = started(classifier, x, y)
    with torch.no_grad():
        levels = classifier.pyramid(x)
        last, head = levels[-1], classifier.head
        cam = torch.einsum("nc,nchw->nhw", head[y] - head.mean(0), last - last.mean((0, 2, 3))[:, None, None])
        m = net(levels, head[y])
    grown = F.interpolate(cam[:, None], m.shape[1:], mode="bilinear", align_corners=False)
    ours = torch.logit(m.double()).flatten()  # σ⁻¹ of the mask is the evidence, up to gain and shift
    assert float(torch.corrcoef(torch.stack([ours, grown.double().flatten()]))[0, 1]) > 0.999


def test_the_mask_fits_the_classifier(lite0: TorchClassifier) -> None:
    x, y = torch.rand(2, 3, 224, 224), torch.tensor([3, 300])
    with torch.no_grad():
        m = started(lite0, x, y)(lite0.pyramid(x), lite0.head[y])
    assert m.shape == (2, 56, 56) and 0 <= float(m.min()) <= float(m.max()) <= 1


def test_each_image_and_class_has_its_own_map() -> None:
    classifier = colours()
    x = torch.rand(3, 3, SIZE, SIZE)
    x[:, 1:] *= 0.3
    net = started(classifier, x, torch.tensor([0, 1, 2]))
    torch.manual_seed(0)
    nn.init.normal_(net.out.weight)
    levels = classifier.pyramid(x)
    together = net(levels, classifier.head[torch.tensor([0, 1, 2])])
    alone = net([f[1:2] for f in levels], classifier.head[torch.tensor([1])])
    torch.testing.assert_close(together[1:2], alone)
    assert not torch.allclose(together[:1], net([f[:1] for f in levels], classifier.head[torch.tensor([3])]))


def test_half_precision_hardly_moves_a_map(lite0: TorchClassifier, tmp_path: Path) -> None:
    x = torch.rand(2, 3, 224, 224)
    net = started(lite0, x, torch.tensor([1, 2]))
    path = tmp_path / "rts.safetensors"
    path.write_bytes(packed(net, Card("efficientnet-lite0", lite0.digest, 0.5)))
    assert path.stat().st_size < 8e6
    again = load(path)
    with torch.no_grad():
        levels, w = lite0.pyramid(x), lite0.head[torch.tensor([1, 2])]
        assert float((net(levels, w) - again(levels, w)).abs().max()) < 0.01


# -- the interpreter --------------------------------------------------------------------------------------------------


def test_the_packaged_network_explains_a_photo(lite0: TorchClassifier) -> None:
    rts = Rts(lite0)
    assert rts.map_passes <= 1.6
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    with lite0.meter.counting(2) as spent:
        m = rts.explain(x, torch.tensor([1, 2]))
    assert m.shape == (2, 56, 56) and 0 <= float(m.min()) <= float(m.max()) <= 1
    assert spent.passes.tolist() == pytest.approx([rts.map_passes] * 2)


def test_an_attack_step_is_counted_with_the_decoder(lite0: TorchClassifier) -> None:
    rts = Rts(lite0)
    x = torch.rand(1, 3, 224, 224, requires_grad=True)
    y = torch.tensor([7])
    surrogate = rts.surrogate(x, Goal(y, y, {"rts": torch.zeros(1, 56, 56)}))
    with lite0.meter.counting(1) as spent:
        terms = surrogate.terms(x)
        torch.autograd.grad((terms.loss + terms.logits[:, 7]).sum(), x)
    assert spent.passes.tolist() == pytest.approx([rts.step_passes])
    assert terms.maps is not None
    torch.testing.assert_close(terms.maps, rts.explain(x.detach(), y))
    torch.testing.assert_close(terms.logits, lite0.logits(x))


def test_the_packaged_file_is_small_and_has_a_card() -> None:
    for path in packaged():
        card = read_card(path)
        assert path.stat().st_size < 8e6
        assert card.figures["drop_top"] > card.figures["drop_random"] > 0 and card.validation
        assert card.kind == "rts-a" or card.figures["drop_ratio"] > 0


def test_another_classifier_is_refused_with_the_command(tmp_path: Path) -> None:
    classifier = colours()
    with pytest.raises(
        UnderfireError, match=r"no trained network for 'colours'.*underfire train rts --classifier colours"
    ):
        Rts(classifier)
    net = started(classifier, torch.rand(2, 3, SIZE, SIZE), torch.tensor([0, 1]))
    path = tmp_path / "mine.safetensors"
    path.write_bytes(packed(net, Card("colours", classifier.digest, 0.5)))
    assert Rts(classifier, str(path)).explain(torch.rand(1, 3, SIZE, SIZE), torch.tensor([0])).shape == (1, 16, 16)
    with pytest.raises(UnderfireError, match=r"mine.safetensors' was trained for 'colours' with other weights"):
        Rts(colours(gain=21.0), str(path))


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    classifier = colours()
    whole = packed(
        started(classifier, torch.rand(2, 3, SIZE, SIZE), torch.tensor([0, 1])), Card("colours", classifier.digest, 0.5)
    )
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnderfireError, match=r"cut.safetensors' is no whole RTS file"):
        Rts(classifier, str(path))
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UnderfireError, match="is no RTS file of this version"):
        Rts(classifier, str(path))
    with pytest.raises(UnderfireError, match="There is no RTS file"):
        Rts(classifier, str(tmp_path / "none.safetensors"))


# -- training ---------------------------------------------------------------------------------------------------------


class Noted(Unwatched):
    """Keeps the figures; stops like a kill after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[dict[str, float]] = []
        self.terms: list[dict[str, float]] = []
        self.stop_after = stop_after

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        if self.stop_after is not None and epoch >= self.stop_after:
            raise KeyboardInterrupt
        self.terms.append(dict(terms))

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        self.seen.append(dict(figures))


def test_training_makes_better_maps(photos: Path, tmp_path: Path) -> None:
    classifier = colours()
    settings = few(epochs=10, rate=1e-2)
    seen = train.Photos(str(photos), None, classifier)
    before = train.Training(classifier, seen, seen.predicted(settings.validation, 0), settings)
    start = before.figures(before.train, train.EPOCH_THRESHOLDS)
    watcher = Noted()
    train.train_rts(classifier, str(photos), settings, tmp_path / "rts.safetensors", watcher)
    before.net = load(tmp_path / "rts.safetensors")
    # The photos trained on: four classes whose rows in the head are at right angles teach nothing about a fifth.
    assert before.figures(before.train, train.EPOCH_THRESHOLDS)["saliency_metric"] < start["saliency_metric"] - 0.1
    total = [sum(terms.values()) for terms in watcher.terms]
    assert np.mean(total[-3:]) < np.mean(total[:3])


def test_a_killed_training_goes_on_to_the_same_file(photos: Path, tmp_path: Path) -> None:
    classifier, whole, parts = colours(), tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    train.train_rts(classifier, str(photos), few(), whole)
    with pytest.raises(KeyboardInterrupt):
        train.train_rts(classifier, str(photos), few(), parts, Noted(stop_after=1))
    assert not parts.exists() and parts.with_name("parts.safetensors.partial").exists()
    watcher = Noted()
    train.train_rts(classifier, str(photos), few(), parts, watcher)
    assert len(watcher.seen) == 2, "one epoch was done"
    assert whole.read_bytes() == parts.read_bytes()
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".tmp-*"))


def test_a_finished_training_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    classifier, out = colours(), tmp_path / "rts.safetensors"
    assert train.train_rts(classifier, str(photos), few(epochs=1), out).fresh
    assert not train.train_rts(classifier, str(photos), few(epochs=1), out).fresh
    with pytest.raises(UnderfireError, match="is there already, trained for 'colours' with other photos or settings"):
        train.train_rts(classifier, str(photos), few(epochs=2), out)


def test_a_foreign_or_damaged_checkpoint_is_told(photos: Path, tmp_path: Path) -> None:
    classifier, out = colours(), tmp_path / "rts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train.train_rts(classifier, str(photos), few(), out, Noted(stop_after=1))
    with pytest.raises(UnderfireError, match="belongs to a training with other photos, settings"):
        train.train_rts(classifier, str(photos), few(seed=1), out)
    partial = out.with_name("rts.safetensors.partial")
    partial.write_bytes(partial.read_bytes()[:1000])
    with pytest.raises(UnderfireError, match="is damaged: delete it"):
        train.train_rts(classifier, str(photos), few(), out)


def test_the_split_is_by_class_and_fixed(photos: Path) -> None:
    classifier = colours()
    shown = train.Photos(str(photos), None, classifier).predicted(0.15, 0)
    again = train.Photos(str(photos), None, classifier).predicted(0.15, 0)
    assert [s.validation for s in shown] == [s.validation for s in again]
    held, kept = ({s.label for s in shown if s.validation is v} for v in (True, False))
    assert held and kept and not held & kept


def test_photos_that_teach_nothing(tmp_path: Path) -> None:
    out = tmp_path / "rts.safetensors"
    with pytest.raises(UnderfireError, match="has 5 photos: training needs at least 16"):
        train.train_rts(colours(), str(squares(tmp_path / "five", 5)), few(), out)
    one = tmp_path / "one"
    one.mkdir()
    for i in range(16):
        Image.new("RGB", (80, 80), (230, 40, 30 + i)).save(one / f"{i}.png")
    with pytest.raises(UnderfireError, match=r"sees too few classes in .*one' \(class 0\)"):
        train.train_rts(colours(), str(one), few(), out)
    with pytest.raises(UnderfireError, match=r"hardly recognises anything in .* \(mean probability 0\.\d+"):
        train.train_rts(colours_of_many(), str(squares(tmp_path / "many", 16)), few(), out)


def colours_of_many() -> TorchClassifier:
    """Forty classes, none of which is likely."""
    net = Colours(0.01)
    net.head = nn.Linear(K, 40)
    nn.init.normal_(net.head.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(net.head.bias)
    return wrapped(net, "unsure")


def test_a_bad_photo_is_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    done = train.train_rts(colours(), str(photos), few(epochs=1), tmp_path / "rts.safetensors")
    assert list(done.skipped) == ["bad.png"]


def test_a_picture_of_validation_maps_lies_beside_the_file(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train.train_rts(colours(), str(photos), few(), tmp_path / "rts.safetensors", Noted(stop_after=2))
    (tmp_path / "rts.png").unlink()  # of the first epoch
    done = train.train_rts(colours(), str(photos), few(), tmp_path / "rts.safetensors")
    with Image.open(done.picture) as picture:
        columns = (picture.width - sheet.GAP) // (sheet.TILE + sheet.GAP)
    shown = train.Photos(str(photos), None, colours()).predicted(0.15, 0)
    assert columns == min(train.SHEET, sum(s.validation for s in shown))


def test_what_the_sheet_keeps_of_a_photo() -> None:
    photo = np.full((4, 4, 3), 200, np.uint8)
    m = np.zeros((4, 4), np.float32)
    m[:2] = 0.5
    assert sheet.kept(photo, m)[0, 0, 0] == 100 and sheet.kept(photo, m)[3].max() == 0
    sheets = [sheet.sheet([sheet.Explained(photo, m, name)]) for name in ("ox", "ox" * 60, "ox" * 70)]
    assert sheets[0] != sheets[1] == sheets[2], "a long name is cut to the column"


def test_the_card_says_all(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "rts.safetensors"
    done = train.train_rts(colours(), str(photos), few(epochs=1), out)
    card = read_card(out)
    assert card == done.card or json.dumps(card.settings, default=list) == json.dumps(done.card.settings, default=list)
    assert {t.dtype for t in load_file(out).values()} == {torch.float16}
    assert {"saliency_metric", "saliency_metric_centre_blob", "drop_top", "drop_random", "drop_ratio"} <= set(
        card.figures
    )
    assert len(card.validation) == card.figures["validation_photos"]


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    ran = underfire("train", "rts")
    assert ran.code == 2 and "Nothing to train on: give --images DIR" in ran.err
    ran = underfire("train", "rts", "--images", tmp_path / "none", "--out", tmp_path / "a.safetensors")
    assert ran.code == 2 and "There is no folder or file" in ran.err
    ran = underfire("train", "rts", "--images", "demo", "--out", tmp_path / "no" / "a.safetensors")
    assert ran.code == 2 and "its folder is missing or read-only" in ran.err


@pytest.mark.parametrize(
    "name",
    ["efficientnet-lite0", pytest.param("efficientnet-lite2", marks=(pytest.mark.long, pytest.mark.timeout(1800)))],
)
def test_the_packaged_network_is_worth_what_its_card_says(name: str, shared: Path) -> None:
    classifier = api.classifier(name)
    path = find(classifier, None)
    card = read_card(path)
    photos = train.Photos(str(shared / "data" / "in1k-samples"), None, classifier)
    held = [photo for photo in photos.photos if photo.sha256 in set(card.validation)]
    assert len(held) == card.figures["validation_photos"]
    side = classifier.preprocess.input_size
    with torch.no_grad():
        labels = [int(classifier.logits(pixels.to_tensor([photos.square(photo, side)])).argmax()) for photo in held]
    shown = [train.Shown(photo, label, True) for photo, label in zip(held, labels, strict=True)]
    training = train.Training(
        classifier, photos, [replace(s, validation=False) for s in shown[:2]] + shown, TrainSettings()
    )
    training.net = load(path)
    metric = training._metrics(training.held, (card.threshold,), blob=False)[card.threshold]
    # Half precision moves the edge of a box here and there, and one photo's crop weighs a hundredth.
    assert metric == pytest.approx(card.figures["saliency_metric"], abs=0.05)
