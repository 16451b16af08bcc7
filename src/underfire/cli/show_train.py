"""What the terminal shows of a training: its progress, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich import progress as bars

from underfire.cli.flags import classifier_of
from underfire.cli.progress import console, say
from underfire.cli.show import ERRORS_SHOWN
from underfire.images.photos import Folder
from underfire.plan.settings import Settings
from underfire.train.forged import JUDGED_STEPS
from underfire.train.run import Trained, train_rts, training_of


def show_training(
    settings: Settings,
    out: Path | None,
    adversarial: str | None,
    plain: str | None,
    epochs: int | None,
    patience: int | None,
) -> bool:
    """Train a network of RTS, and print how it goes on and how good the network is.

    Args:
        settings: the classifier, the photos and the machine.
        out: the file to write.
        adversarial: 'aid' or 'doubt': on forged images too, starting from a plain network.
        plain: the file of this network; by default the packaged one.
        epochs: epochs at most.
        patience: epochs without a better one after which the training stops.

    Returns:
        False where some photos could not be used.
    """
    how = training_of(adversarial)
    with TrainProgress() as listener:
        done = train_rts(
            classifier_of(settings),
            settings.images,
            out,
            adversarial=how,
            plain=plain,
            epochs=epochs,
            patience=patience,
            limit=settings.limit,
            seed=settings.seed,
            precision=settings.precision or "fp32",
            listener=listener,
        )
    for sentence in Folder(settings.images).left_out:
        say(sentence)
    _say_trained(done)
    return not done.skipped


def _say_trained(done: Trained) -> None:
    """Print what came of a training: photos left out, figures, and how the network is used."""
    for reason in list(done.skipped.values())[:ERRORS_SHOWN]:
        say(f"Left out: {reason}")
    figures, kind = done.card.figures, done.card.kind
    if not done.fresh:
        say(f"'{done.path}' is trained already, with these photos and settings.")
    adversarial = kind != "rts"
    beside = ("plain", "plain_saliency_metric") if adversarial else ("a centre blob", "saliency_metric_centre_blob")
    n = figures.get("test_photos") or figures["validation_photos"]
    chose = "" if figures.get("test_photos") else ", which chose the epoch too"
    say(
        f"On {n:.0f} photos of classes not trained on{chose}: saliency metric "
        f"{figures['saliency_metric']:+.3f} ({beside[0]} {figures[beside[1]]:+.3f}); without the map's top 20 % the "
        f"class loses {figures['drop_top']:.3f}, without a random 20 % {figures['drop_random']:.3f}."
    )
    if adversarial:
        say(
            f"Benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's; forged ones, attacked for "
            f"{JUDGED_STEPS} steps, {figures['forged_l1']:.3f} from benign ones."
        )
    say(f"Written: {done.path}, and a picture of its maps: {done.picture}")
    say(f"Use it: underfire run --images DIR --interpreter {kind} --set {kind}.weights={done.path} …")


class TrainProgress:
    """A listener that shows a bar of steps with the terms of the objective, and a line of figures for each epoch."""

    def __enter__(self) -> TrainProgress:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TextColumn("steps"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=2,
        )
        self._task: bars.TaskID | None = None
        self._means: dict[str, float] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bars.stop()

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """Show a bar over all epochs that may come."""
        say(
            f"{photos} photos to train on, {validation} of other classes to judge by"
            + (f"; going on after epoch {epoch}" if epoch else "")
        )
        self._bars.start()
        self._task = self._bars.add_task("Training", total=epochs * steps, completed=epoch * steps, note="")

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Count a step, and show running means of the terms."""
        if self._task is None:
            return
        self._means = {name: 0.9 * self._means.get(name, value) + 0.1 * value for name, value in terms.items()}
        self._bars.update(
            self._task, advance=1, note=" ".join(f"{name} {value:.2f}" for name, value in self._means.items())
        )

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """Print the figures of an epoch."""
        say(
            f"epoch {epoch:3}: saliency metric {figures['saliency_metric']:+.3f}{' (best)' if best else ''}, the class "
            f"loses {figures['drop_top']:.3f} without the map's top 20 %, {figures['drop_random']:.3f} without a "
            "random 20 %"
        )
        if "forged_l1" in figures:
            say(
                f"           benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's, forged ones "
                f"{figures['forged_l1']:.3f} from benign ones"
            )
