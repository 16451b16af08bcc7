"""The training loop of learned interpreters: photos -> a decoder's file, resumable after a kill.

    photos -> the classifier's own predictions -> a split by class -> epochs -> the best decoder, with its card

No labels are needed: the class of a photo is what the classifier says it is, since that is what it must explain. All
photos of a class fall on one side of the split, so the figures are of classes that were not trained on.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from underfire import images as pixels
from underfire.core import Classifier, Images, Labels, Photo, UnderfireError, evenly
from underfire.interpreters.rts import Card, maps_of, packed, read_card
from underfire.interpreters.rts_net import MaskNet
from underfire.place import write_whole
from underfire.train import objective as loss
from underfire.train import quality
from underfire.train.sheet import Explained, sheet

SMALLEST = 16
"""Photos under which there is nothing to learn from and nothing to judge by."""
RECOGNISED = 0.2
"""Mean probability of the predictions under which the photos are of another domain than the classifier's."""
SHARE = 0.2
"""Area of the regions that are removed for the figure."""
THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
THRESHOLD_PHOTOS = 160
SHEET = 8
"""Photos of the picture beside the decoder's file."""
EPOCH_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""An epoch is judged by the best of these; the final t is chosen once, on training photos."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Args:
        epochs: at most so many passes over the photos.
        batch_size: photos a step.
        rate: Adam's, warmed up over 50 steps and then down to a hundredth on a cosine.
        validation: share of the photos, whole classes at a time, that are kept for the figures.
        patience: epochs without a better figure after which the training stops.
        seed: of every random choice, together with the photo's digest.
        limit: photos, evenly spaced over the sorted paths.
        precision: 'fp32' or 'bf16' of the classifier's passes.
        lam: weights of the objective.
    """

    epochs: int = 24
    batch_size: int = 16
    rate: float = 2e-3
    validation: float = 0.15
    patience: int = 8
    seed: int = 0
    limit: int | None = None
    precision: str = "fp32"
    lam: loss.Weights = field(default_factory=loss.Weights)


class TrainWatcher(Protocol):
    """Who is told how a training goes on."""

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """It starts with so many photos, at most so many epochs of so many steps, ``epoch`` of them done."""

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """A step more, with the means of the objective's terms."""

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """What the decoder is worth after an epoch."""


class Unwatched:
    """Tells nobody."""

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """Ignored."""

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Ignored."""

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Shown:
    """A photo, what the classifier says it shows, and on which side of the split it is."""

    photo: Photo
    label: int
    validation: bool


class Photos:
    """The photos of one training, decoded when they are needed."""

    def __init__(self, source: str, limit: int | None, classifier: Classifier) -> None:
        self.folder, self.classifier = pixels.Folder(source), classifier
        self.policy = classifier.preprocess
        self.photos = self.folder.photos(limit)
        self.skipped: dict[str, str] = {}

    def square(self, photo: Photo, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The centre of a photo, (side, side, 3) levels, its shorter side resized as the classifier's policy says."""
        return pixels.load(self.folder.bytes(photo.path), photo.path, replace(self.policy, input_size=side))

    def clean(self, shown: Sequence[Shown]) -> tuple[Images, Labels]:
        """What the classifier is shown of these photos, and their classes."""
        x = pixels.to_tensor([self.square(s.photo, self.policy.input_size) for s in shown])
        device = self.classifier.head.device
        return x.to(device), torch.tensor([s.label for s in shown], device=device)

    def varied(self, shown: Sequence[Shown], purpose: str) -> Images:
        """Random crops of at least half the area, mirrored, brighter or darker."""
        rows = []
        for s in shown:
            x = pixels.to_tensor([self.square(s.photo, self.policy.resize)])
            rows.append(_vary(x, self.policy.input_size, seed_of(purpose, s.photo.sha256)))
        return torch.cat(rows).to(self.classifier.head.device)

    @torch.no_grad()
    def predicted(self, share: float, seed: int) -> list[Shown]:
        """Every readable photo with its class, split.

        Raises:
            UnderfireError: too few photos, one class only, or photos that the classifier does not recognise.
        """
        labels: dict[Photo, tuple[int, float]] = {}
        for photo in self.photos:
            try:
                x = pixels.to_tensor([self.square(photo, self.policy.input_size)])
            except UnderfireError as e:
                self.skipped[photo.path] = str(e)
                continue
            p = self.classifier.logits(x.to(self.classifier.head.device)).softmax(1)[0]
            labels[photo] = int(p.argmax()), float(p.max())
        self._check(labels)
        held = _held_back([label for label, _ in labels.values()], share, seed)
        return [Shown(photo, label, label in held) for photo, (label, _) in labels.items()]

    def _check(self, labels: Mapping[Photo, tuple[int, float]]) -> None:
        source, name = self.folder.source, self.classifier.name
        if len(labels) < SMALLEST:
            bad = f" ({len(self.skipped)} more cannot be read)" if self.skipped else ""
            raise UnderfireError(
                f"'{source}' has {len(labels)} photos{bad}: training needs at least {SMALLEST}, better 500 or more."
            )
        classes = {label for label, _ in labels.values()}
        if len(classes) < 3:
            only = ", ".join(self.classifier.classes.names[c] for c in sorted(classes))
            raise UnderfireError(
                f"'{name}' sees too few classes in '{source}' ({only}): training needs photos of three or more, since "
                "it learns what is not there too and is judged on classes that it was not trained on."
            )
        sure = float(np.mean([p for _, p in labels.values()]))
        if sure < RECOGNISED:
            raise UnderfireError(
                f"'{name}' hardly recognises anything in '{source}' (mean probability {sure:.2f} of its own answers): "
                "give photos of the kind it was trained on."
            )


def _held_back(labels: Sequence[int], share: float, seed: int) -> set[int]:
    """Classes kept for validation: in the order of their digests, until they hold ``share`` of the photos."""
    order = sorted(set(labels), key=lambda c: hashlib.sha256(f"{seed}/class/{c}".encode()).hexdigest())
    held: set[int] = set()
    for c in order[:-2]:
        if sum(label in held for label in labels) >= share * len(labels):
            break
        held.add(c)
    return held


def _vary(x: Images, size: int, seed: int) -> Images:
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(6, generator=g).tolist()
    side = round(x.shape[-1] * (0.5 + 0.5 * u[0]) ** 0.5)
    top, left = (round(v * (x.shape[-1] - side)) for v in u[1:3])
    x = transforms.resized_crop(x, top, left, side, side, [size, size], antialias=True)
    if u[3] < 0.5:
        x = x.flip(-1)
    varied: Images = ((x - 0.5) * (0.8 + 0.4 * u[4]) + 0.5 + 0.2 * (u[5] - 0.5)).clamp(0, 1)
    return varied


def seed_of(*parts: object) -> int:
    """A seed that depends on nothing but the words given."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


# -- one decoder ------------------------------------------------------------------------------------------------------


class Training:
    """A decoder on its way."""

    kind = "rts"
    """What its card says that the decoder is."""

    def __init__(self, classifier: Classifier, photos: Photos, shown: Sequence[Shown], settings: TrainSettings) -> None:
        self.classifier, self.photos, self.settings = classifier, photos, settings
        self.train = [s for s in shown if not s.validation]
        self.held = [s for s in shown if s.validation]
        # Only classes that are shown too: one that is never there would learn that it never is.
        self.classes = sorted({s.label for s in self.train})
        self.steps = -(-len(self.train) // settings.batch_size)
        self.epoch, self.best, self.best_epoch = 0, math.inf, 0
        self.history: list[dict[str, float]] = []
        self.net = self._start()
        self.best_state = copy.deepcopy(self.net.state_dict())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=settings.rate, weight_decay=1e-3)

    def _start(self) -> MaskNet:
        torch.manual_seed(seed_of(self.settings.seed, "net"))
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, "gate"))
        x, y = self.photos.clean(self.train[:64])
        head = self.classifier.head
        with torch.no_grad():
            levels = self.classifier.pyramid(x)
            net = MaskNet([f.shape[1] for f in levels]).to(x.device)
            net.start(levels, head[y], head, generator)
        return net

    def run_epoch(self, watcher: TrainWatcher) -> None:
        """One pass over the photos in an order of its own, then the figures."""
        self.net.train()
        s = self.settings
        order = torch.randperm(
            len(self.train), generator=torch.Generator().manual_seed(seed_of(s.seed, "order", self.epoch))
        )
        for step, rows in enumerate(torch.split(order, s.batch_size)[: self.steps]):
            self._rate(self.epoch * self.steps + step)
            terms = self._step([self.train[i] for i in rows.tolist()])
            watcher.step(self.epoch, terms)
        self.epoch += 1
        with self.settled():
            figures = self.figures(self.judged, EPOCH_THRESHOLDS)
            score = self.score(figures)
            better = score < self.best
            if better:
                self.best, self.best_epoch = score, self.epoch
                self.best_state = copy.deepcopy(self.net.state_dict())
        self.history.append(figures)
        watcher.figures(self.epoch, figures, better)

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """The network as it would be used, while it is judged and kept; the training goes on with it as it was."""
        yield

    @property
    def judged(self) -> Sequence[Shown]:
        """The photos that an epoch is judged by."""
        return self.held

    def score(self, figures: Mapping[str, float]) -> float:
        """What the best epoch has the least of."""
        return figures["saliency_metric"]

    @property
    def over(self) -> bool:
        """All epochs run, or no better figure for too long."""
        return self.epoch >= self.settings.epochs or self.epoch - self.best_epoch >= self.settings.patience

    def _rate(self, step: int) -> None:
        total = self.settings.epochs * self.steps
        warm = min(1.0, (step + 1) / min(50, total))
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * step / total)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * warm * cosine

    def _step(self, shown: Sequence[Shown]) -> dict[str, float]:
        s = self.settings
        purpose = f"{s.seed}/{self.epoch}"
        x = self.photos.varied(shown, purpose)
        y = torch.tensor([one.label for one in shown], device=x.device)
        seeds = [seed_of(purpose, "fill", one.photo.sha256) for one in shown]
        with torch.no_grad(), self._cast(x):
            levels = self.classifier.pyramid(x)
            z = self.classifier.scores(levels[-1]).float()
        other = _absent(z, y, seeds, self.classes)
        head = self.classifier.head
        both = maps_of(self.net, [torch.cat([f, f]) for f in levels], head[torch.cat([y, other])])
        m, m_absent = both.chunk(2)
        with self._cast(x):
            terms = loss.objective(self.classifier.logits, x, y, m, loss.fill(x, seeds), s.lam)
        terms["absent"] = s.lam.absent * loss.area(m_absent)
        self.learn(torch.stack(list(terms.values())).sum(0).mean())
        return {name: float(term.detach().mean()) for name, term in terms.items()}

    def learn(self, total: Tensor) -> None:
        """One step of the decoder down a loss."""
        self.optimizer.zero_grad()
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()

    def _cast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    @torch.no_grad()
    def maps(self, shown: Sequence[Shown]) -> Iterator[tuple[Images, Labels, Tensor, list[int]]]:
        """Clean photos, their classes, their maps and a seed each, a batch at a time."""
        self.net.eval()
        size = self.settings.batch_size
        for start in range(0, len(shown), size):
            part = shown[start : start + size]
            x, y = self.photos.clean(part)
            m = maps_of(self.net, self.classifier.pyramid(x), self.classifier.head[y])
            yield x, y, m, [seed_of(self.settings.seed, "block", s.photo.sha256) for s in part]

    @torch.no_grad()
    def figures(self, shown: Sequence[Shown], thresholds: Sequence[float]) -> dict[str, float]:
        """The saliency metric at the best of the thresholds, and what the class loses without the top region."""
        found: dict[str, list[Tensor]] = {}
        metrics: dict[float, list[Tensor]] = {t: [] for t in thresholds}
        logits = self.classifier.logits
        for x, y, m, seeds in self.maps(shown):
            block = quality.random_block(m, SHARE, seeds)
            p = logits(x).softmax(1).gather(1, y[:, None])[:, 0]
            for t in thresholds:
                metrics[t].append(quality.saliency_metric(logits, x, y, m, t))
            parts = {
                "area": loss.area(m),
                "drop_top": p - quality.probability_without(logits, x, y, quality.top_region(m, SHARE)),
                "drop_random": p - quality.probability_without(logits, x, y, block),
            }
            for name, values in parts.items():
                found.setdefault(name, []).append(values)
        best = min(_mean(values) for values in metrics.values())
        return {"saliency_metric": best} | {name: _mean(values) for name, values in found.items()}

    @torch.no_grad()
    def finish(self) -> tuple[float, dict[str, float]]:
        """The best epoch's decoder; t chosen on training photos, for it and for the centre blob; the final figures."""
        self.net.load_state_dict(self.best_state)
        some = evenly(self.train, THRESHOLD_PHOTOS)
        ours, blobs = self._metrics(some, THRESHOLDS, False), self._metrics(some, THRESHOLDS, True)
        t, t_blob = min(THRESHOLDS, key=ours.__getitem__), min(THRESHOLDS, key=blobs.__getitem__)
        figures = self.figures(self.held, (t,))
        figures["saliency_metric_centre_blob"] = self._metrics(self.held, (t_blob,), True)[t_blob]
        figures["drop_ratio"] = figures["drop_top"] / max(1e-6, figures["drop_random"])
        return t, figures | {"photos": float(len(self.train)), "validation_photos": float(len(self.held))}

    def picture(self) -> bytes:
        """A PNG with the maps of a few photos of the validation split."""
        some = evenly(self.held, SHEET)
        names = self.classifier.classes.names
        shown = [
            Explained((255 * photo).round().byte().permute(1, 2, 0).cpu().numpy(), m.cpu().numpy(), names[int(label)])
            for x, y, maps, _ in self.maps(some)
            for photo, m, label in zip(x, maps, y, strict=True)
        ]
        return sheet(shown)

    def _metrics(self, shown: Sequence[Shown], thresholds: Sequence[float], blob: bool) -> dict[float, float]:
        found: dict[float, list[Tensor]] = {t: [] for t in thresholds}
        for x, y, m, _ in self.maps(shown):
            used = quality.centre_blob(len(m), (m.shape[1], m.shape[2])).to(m) if blob else m
            for t in thresholds:
                found[t].append(quality.saliency_metric(self.classifier.logits, x, y, used, t))
        return {t: _mean(values) for t, values in found.items()}

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, path: Path, fingerprint: str) -> None:
        """The whole state: a kill under way leaves the checkpoint before."""
        content = {
            "fingerprint": fingerprint,
            "net": self.net.state_dict(),
            "best_net": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(path, buffer.getvalue())

    def resume(self, path: Path, fingerprint: str) -> None:
        """Go on from a checkpoint.

        Raises:
            UnderfireError: it is damaged, or of a training with other photos or settings.
        """
        try:
            content = torch.load(path, map_location=self.classifier.head.device, weights_only=True)
        except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as e:
            raise UnderfireError(
                f"The checkpoint '{path}' is damaged: delete it, and the training starts again."
            ) from e
        if content.get("fingerprint") != fingerprint:
            raise UnderfireError(
                f"'{path}' belongs to a training with other photos, settings or another classifier: delete it to start "
                "again, or give another --out."
            )
        self.net.load_state_dict(content["net"])
        self.best_state = content["best_net"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.best, self.best_epoch = content["epoch"], content["best"], content["best_epoch"]
        self.history = content["history"]


def _mean(parts: Sequence[Tensor]) -> float:
    return float(torch.cat(list(parts)).double().mean())


def _absent(z: Tensor, y: Labels, seeds: Sequence[int], classes: Sequence[int]) -> Labels:
    """For each image a random one of ``classes`` that is not among its likeliest few."""
    out = []
    for row, seed in enumerate(seeds):
        likely = {*z[row].topk(min(5, len(classes) - 1)).indices.tolist(), int(y[row])}
        allowed = [c for c in classes if c not in likely] or [c for c in classes if c != int(y[row])]
        out.append(allowed[seed % len(allowed)])
    return torch.tensor(out, device=y.device)


@dataclass(frozen=True)
class Trained:
    """A finished training: its file, its card and the picture of validation maps beside it."""

    path: Path
    picture: Path
    card: Card
    skipped: Mapping[str, str]
    fresh: bool


def train_rts(
    classifier: Classifier,
    source: str,
    settings: TrainSettings,
    out: Path,
    watcher: TrainWatcher | None = None,
    begin: Callable[..., Training] = Training,
) -> Trained:
    """Train a decoder; the same command goes on where a kill stopped it, and does nothing once it is done.

    Args:
        classifier: whose predictions shall be explained; one with a feature pyramid and a linear head.
        source: the photos: a folder, or 'demo'.
        settings: how to train.
        out: the file to write; its checkpoint lies beside it as ``out`` + '.partial', and a picture of validation maps,
            new after every epoch, with the ending .png.
        watcher: who is told.
        begin: makes the training of (classifier, photos, shown, settings).

    Raises:
        UnderfireError: photos that nothing can be learnt from, or another training's files at ``out``.
    """
    watcher = watcher or Unwatched()
    photos = Photos(source, settings.limit, classifier)
    classifier.pyramid(torch.zeros(1, 3, *[classifier.preprocess.input_size] * 2, device=classifier.head.device))
    fingerprint = _fingerprint(classifier, photos, settings)
    picture = out.with_suffix(".png")
    if out.exists():
        card = read_card(out)
        if card.settings.get("fingerprint") == fingerprint:
            return Trained(out, picture, card, {}, False)
        raise UnderfireError(
            f"'{out}' is there already, trained for '{card.classifier}' with other photos or settings: give another "
            "--out, or delete it."
        )
    training = begin(classifier, photos, photos.predicted(settings.validation, settings.seed), settings)
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        training.resume(partial, fingerprint)
    watcher.begin(len(training.train), len(training.held), settings.epochs, training.steps, training.epoch)
    while not training.over:
        training.run_epoch(watcher)
        write_whole(picture, training.picture())
        training.save(partial, fingerprint)
    t, figures = training.finish()
    card = Card(
        classifier.name,
        classifier.digest,
        t,
        {
            **asdict(settings),
            "fingerprint": fingerprint,
            "best_epoch": training.best_epoch,
            "epochs_run": training.epoch,
        },
        figures,
        tuple(s.photo.sha256 for s in training.held),
        training.kind,
    )
    write_whole(picture, training.picture())
    write_whole(out, packed(training.net, card))
    partial.unlink(missing_ok=True)
    return Trained(out, picture, card, photos.skipped, True)


def _fingerprint(classifier: Classifier, photos: Photos, settings: TrainSettings) -> str:
    content = [classifier.digest, [p.sha256 for p in photos.photos], asdict(settings), torch.get_num_threads()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def out_folder_writable(out: Path) -> None:
    """Raise UnderfireError now rather than after an hour."""
    if not os.access(out.absolute().parent, os.W_OK):
        raise UnderfireError(f"Cannot write '{out}': its folder is missing or read-only; give another --out.")
