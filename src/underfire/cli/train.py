"""The verb that trains: `train rts`, and what the terminal shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underfire.cli.flags import SOME_FAILED, Flags, examples, settings_of, takes
from underfire.cli.show import ERRORS_SHOWN
from underfire.core import UnderfireError

if TYPE_CHECKING:
    from underfire.plan.settings import Settings

train_app = typer.Typer(
    help="Train the networks of learned interpreters.", no_args_is_help=True, rich_markup_mode="rich"
)


@train_app.command(
    epilog=examples(
        "underfire train rts --images photos",
        "underfire train rts --classifier resnet50 --weights mine.pt --images photos --out mine-rts.safetensors",
        "underfire run --images photos --classifier resnet50 --weights mine.pt --interpreter rts "
        "--set rts.weights=mine-rts.safetensors",
        "underfire train rts --adversarial --images photos",
    )
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "interpolation"),
    *("classes", "limit", "seed", "threads", "device", "precision"),
)
def rts(
    *,
    flags: Flags,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Train RTSᴬ: on forged images too, starting from a plain network.")
    ] = False,
    plain: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="The plain network --adversarial starts from. \\[default: packaged]"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            min=1,
            help="At most so many passes over the photos, of --adversarial over an eighth. \\[default: 24 or 16]",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            help="Stop after so many epochs without a better one. \\[default: 8 or 16]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="\\[default: rts-CLASSIFIER.safetensors, or rts-a-…]")
    ] = None,
) -> None:
    """Train the RTS interpreter's network for a classifier, on photos without labels.

    The same command goes on where a kill stopped it. Count on an hour for 600 photos on two CPU cores,
    and as long with --adversarial.
    """
    if "images" not in flags:
        raise UnderfireError(
            "Nothing to train on: give --images DIR, some 500 photos or more of the classifier's kind."
        )
    if plain and not adversarial:
        raise UnderfireError(f"--from {plain}: a plain network starts from the photos alone; add --adversarial.")
    if not _train(settings_of(None, flags), epochs, patience, out, adversarial, plain):
        raise typer.Exit(SOME_FAILED)


def _train(
    settings: Settings,
    epochs: int | None,
    patience: int | None,
    out: Path | None,
    adversarial: bool = False,
    plain: str | None = None,
) -> bool:
    """Train an RTS network and say what came of it; False where some photos could not be used.

    Args:
        settings: classifier, photos and machine.
        epochs: at most so many.
        patience: epochs without a better one after which to stop.
        out: the file to write.
        adversarial: on forged images too, starting from a plain network.
        plain: that network's file; by default the packaged one.
    """
    from underfire.cli.flags import classifier_of
    from underfire.cli.progress import TrainProgress, say
    from underfire.images.photos import Folder
    from underfire.train.forged import JUDGED_STEPS
    from underfire.train.run import train_rts as train

    with TrainProgress() as listener:
        done = train(
            classifier_of(settings),
            settings.images,
            out,
            adversarial=adversarial,
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
    for reason in list(done.skipped.values())[:ERRORS_SHOWN]:
        say(f"Left out: {reason}")
    figures = done.card.figures
    if not done.fresh:
        say(f"'{done.path}' is trained already, with these photos and settings.")
    beside = ("a centre blob", "saliency_metric_centre_blob") if not adversarial else ("plain", "plain_saliency_metric")
    say(
        f"On {figures['validation_photos']:.0f} photos of classes not trained on: saliency metric "
        f"{figures['saliency_metric']:+.3f} ({beside[0]} {figures[beside[1]]:+.3f}); without the map's top 20 % the "
        f"class loses {figures['drop_top']:.3f}, without a random 20 % {figures['drop_random']:.3f}."
    )
    if adversarial:
        say(
            f"Benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's; forged ones, attacked for "
            f"{JUDGED_STEPS} steps, {figures['forged_l1']:.3f} from benign ones."
        )
    say(f"Written: {done.path}, and what its maps look like: {done.picture}")
    kind = done.card.kind
    say(f"Use it: underfire run --images DIR --interpreter {kind} --set {kind}.weights={done.path} …")
    return not done.skipped
