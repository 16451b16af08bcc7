"""The verb inspect: how underfire understands a classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from underfire.cli.flags import MISTAKE, Flags, classifier_of, examples, takes
from underfire.core import UnderfireError

verbs = typer.Typer()


@verbs.command(
    epilog=examples(
        "underfire inspect",
        "underfire inspect --classifier timm:vit_tiny_patch16_224 --weights mine.safetensors",
        "underfire inspect --classifier resnet50 --images photos --interpreter grad --out seen.png",
        "underfire inspect --classifier resnet50 --weights mine.pt --json",
    )
)
@takes(
    *("classifier", "weights", "input_size", "resize", "mean", "std", "interpolation", "classes"),
    *("door", "head", "channels", "layout", "order", "scale", "output", "key"),
    *("images", "interpreter", "set_", "device", "threads"),
)
def inspect(
    *,
    flags: Flags,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.png", help="Write what the network sees of the photo.", dir_okay=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show how underfire understands a classifier: its head, its input, its twin, and the interpreters that fit.

    The exit status is 2 where the classifier is refused.
    """
    from underfire.audit.insight import look, photo_of
    from underfire.core.naming import DEMO
    from underfire.images.pixels import encode_png
    from underfire.plan.settings import Settings

    settings = Settings.parse({"images": DEMO, **flags})
    classifier = classifier_of(settings)
    photo = photo_of(settings.images, classifier)
    names: Any = settings.interpreter if "interpreter" in flags else None
    found = look(classifier, photo, names, settings.options)
    if out is not None:
        _write(out, encode_png(photo[1]))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=1, allow_nan=False))
    else:
        from underfire.cli.show_inspect import show

        show(found, out)
    if found.problem:
        raise typer.Exit(MISTAKE)


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as e:
        raise UnderfireError(f"Cannot write '{file}' ({e.strerror or e}): give another --out.") from e
