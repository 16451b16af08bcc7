"""What a network is worth on photos: better once it is trained, and what the cards of the packaged ones say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from support.colours import Noted, colours, few, squares
from underfire import api
from underfire.images import pixels
from underfire.interpreters.rts import card as rts_files
from underfire.interpreters.rts.card import load, read_card
from underfire.train.evaluate import Evaluator
from underfire.train.photos import LabelledPhoto, Photos
from underfire.train.rts import EPOCH_THRESHOLDS, RtsTask
from underfire.train.run import fit


def test_training_makes_better_maps(tmp_path: Path) -> None:
    classifier, settings, out = colours(), few(epochs=10, rate=1e-2), tmp_path / "rts.safetensors"
    photos = Photos(str(squares(tmp_path / "photos", 32)), None, classifier)
    task = RtsTask(photos, photos.labelled(settings.validation, 0), settings)
    start = task.evaluator.figures(task.net, task.train, EPOCH_THRESHOLDS)
    listener = Noted()
    fit(classifier, photos.folder.source, settings, partial(RtsTask, settings=settings), out, listener)
    end = task.evaluator.figures(load(out), task.train, EPOCH_THRESHOLDS)
    # The photos learnt from: four classes whose rows in the head are at right angles teach nothing about a fifth.
    assert end["saliency_metric"] < start["saliency_metric"] - 0.1
    total = [sum(terms.values()) for terms in listener.terms]
    assert np.mean(total[-3:]) < np.mean(total[:3])


def test_figures_are_of_each_photo_by_itself(tmp_path: Path) -> None:
    photos = Photos(str(squares(tmp_path / "photos", 32)), None, colours())
    labelled = photos.labelled(0.15, 0)
    net = RtsTask(photos, labelled, few()).net
    some = labelled[:5]
    together = Evaluator(photos, 5, 0).figures(net, some, (0.5,))
    alone = [Evaluator(photos, 1, 0).figures(net, [one], (0.5,)) for one in some]
    for name, value in together.items():
        assert value == pytest.approx(np.mean([figures[name] for figures in alone]), abs=1e-5), name


@pytest.mark.parametrize(
    "name",
    ["efficientnet-lite0", pytest.param("efficientnet-lite2", marks=(pytest.mark.long, pytest.mark.timeout(1800)))],
)
def test_the_packaged_network_is_worth_what_its_card_says(name: str, shared: Path) -> None:
    classifier = api.classifier(name)
    path = rts_files.find(classifier, None)
    card = read_card(path)
    photos = Photos(str(shared / "data" / "in1k-samples"), None, classifier)
    held = [photo for photo in photos.photos if photo.sha256 in set(card.validation)]
    assert len(held) == card.figures["validation_photos"]
    with torch.no_grad():
        labels = [int(classifier.logits(pixels.to_tensor([photos.shown(photo)])).argmax()) for photo in held]
    labelled = [LabelledPhoto(photo, label, True) for photo, label in zip(held, labels, strict=True)]
    metric = Evaluator(photos, 16, 0).saliency(load(path), labelled, (card.threshold,))[card.threshold]
    # Half precision moves the edge of a box here and there, and one photo's crop weighs a hundredth.
    assert metric == pytest.approx(card.figures["saliency_metric"], abs=0.05)
