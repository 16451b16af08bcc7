"""RTS: its network, its files, and the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from support.colours import SIZE, colours, started
from underfire.classifiers.base import TorchClassifier
from underfire.core import DamagedFileError, Goal, MismatchError, NotFoundError, OtherVersionError
from underfire.interpreters.rts.card import Card, load, packaged, packed, read_card
from underfire.interpreters.rts.rts import LOSSES, Rts


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
    with pytest.raises(NotFoundError, match=r"underfire train rts --classifier colours"):
        Rts(classifier)
    net = started(classifier, torch.rand(2, 3, SIZE, SIZE), torch.tensor([0, 1]))
    path = tmp_path / "mine.safetensors"
    path.write_bytes(packed(net, Card("colours", classifier.digest, 0.5)))
    assert Rts(classifier, str(path)).explain(torch.rand(1, 3, SIZE, SIZE), torch.tensor([0])).shape == (1, 16, 16)
    with pytest.raises(MismatchError, match=r"mine\.safetensors.*'colours'"):
        Rts(colours(gain=21.0), str(path))


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    classifier = colours()
    whole = packed(
        started(classifier, torch.rand(2, 3, SIZE, SIZE), torch.tensor([0, 1])), Card("colours", classifier.digest, 0.5)
    )
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match=r"cut\.safetensors"):
        Rts(classifier, str(path))
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(OtherVersionError, match=r"cut\.safetensors"):
        Rts(classifier, str(path))
    with pytest.raises(NotFoundError, match=r"none\.safetensors"):
        Rts(classifier, str(tmp_path / "none.safetensors"))


def test_log_odds_see_the_order_of_what_is_black_and_the_square_does_not() -> None:
    wanted = torch.tensor([[[0.001, 0.004], [0.5, 0.9]]])
    turned = torch.tensor([[[0.004, 0.001], [0.5, 0.9]]])
    square, both = (LOSSES[name](turned, wanted) for name in ("square", "odds"))
    odds = torch.logit(turned) - torch.logit(wanted)
    torch.testing.assert_close(both, square + odds.square().mean((1, 2)) / 64)
    assert float(both) > 1000 * float(square)
    below = torch.tensor([[[1e-6, 1e-9], [0.5, 0.9]]])
    assert float(LOSSES["odds"](below, below.flip(-1).where(below < 0.1, below))) < 1e-9  # no order is asked for there
