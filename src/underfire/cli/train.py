"""The verb that trains: `train rts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import SOME_FAILED, Flags, examples, settings_of, takes
from underfire.core import UnderfireError

train_app = typer.Typer(
    help="Train the networks of learned interpreters.", no_args_is_help=True, rich_markup_mode="rich"
)
AdversarialFlag = Annotated[
    str | None,
    typer.Option(
        "--adversarial",
        metavar="aid|doubt",
        help="Train on forged images too, starting from a plain network: as the paper does (aid), or RTSᴬ (doubt).",
    ),
]
FromFlag = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="The plain network --adversarial starts from. \\[default: packaged]"),
]
EpochsFlag = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        min=1,
        help="Passes over the photos at most; doubt: over an eighth of them. \\[default: 24, aid 12, doubt 16]",
    ),
]
PatienceFlag = Annotated[
    int | None,
    typer.Option(
        "--patience",
        metavar="N",
        min=1,
        help="Stop after N epochs without a better one. \\[default: 8, aid 12, doubt 16]",
    ),
]
NetworkFlag = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="\\[default: rts-CLASSIFIER.safetensors, or rts-a-…, rts-aid-…]"),
]


@train_app.command(
    epilog=examples(
        "underfire train rts --images photos",
        "underfire train rts --classifier resnet50 --weights mine.pt --images photos --out mine-rts.safetensors",
        "underfire run --images photos --classifier resnet50 --weights mine.pt --interpreter rts "
        "--set rts.weights=mine-rts.safetensors",
        "underfire train rts --adversarial doubt --images photos",
        "underfire train rts --adversarial aid --images photos",
    )
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "interpolation", "channels", "head"),
    *("classes", "limit", "seed", "threads", "device", "precision"),
)
def rts(
    *,
    flags: Flags,
    adversarial: AdversarialFlag = None,
    plain: FromFlag = None,
    epochs: EpochsFlag = None,
    patience: PatienceFlag = None,
    out: NetworkFlag = None,
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
    from underfire.cli.show_train import show_training

    if not show_training(settings_of(None, flags), out, adversarial, plain, epochs, patience):
        raise typer.Exit(SOME_FAILED)
