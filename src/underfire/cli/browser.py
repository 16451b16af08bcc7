"""The verb app: forge, check and browse in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import Flags, examples, takes
from underfire.core import UnderfireError

verbs = typer.Typer()


@verbs.command(
    epilog=examples(
        "underfire app",
        "underfire app underfire-out/demo-1a2b3c4d",
        "underfire app underfire-out/study-5e6f7a8b",
        "underfire app --classifier resnet50 --weights mine.pt --defense alarm.json",
    )
)
@takes(
    *("classifier", "weights", "input_size", "resize", "mean", "std", "interpolation", "channels", "head"),
    *("classes", "device", "threads"),
)
def app(
    *,
    audit: Annotated[
        str | None,
        typer.Argument(metavar="[DIR|URL]", help="The folder of an audit or a study to browse, finished or not."),
    ] = None,
    flags: Flags,
    defense: Annotated[
        list[Path] | None,
        typer.Option("--defense", metavar="FILE", help="An alarm to check files against. Repeatable."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="\\[default: the first free one from 8765 on]"),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Forge a photo in the browser and watch it, check files against an alarm, browse an audit or a study.

    It serves this machine alone (127.0.0.1), and nothing leaves it. Ctrl-C ends it and forgets all photos.
    """
    import threading
    import webbrowser

    try:
        from underfire.app.server import Choice, serve
    except ModuleNotFoundError as e:
        raise UnderfireError(f"The app needs {e.name}: pip install 'underfire[app]'.") from e
    from underfire.core.place import place
    from underfire.plan.settings import Settings

    settings = Settings.parse({"images": "demo", **flags})

    def ready(address: str) -> None:
        typer.echo(f"Open {address} in a browser on this machine. Ctrl-C ends it.")
        if open_:
            # Some browsers stay in the foreground, and the page is served only when this returns.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    choice = Choice(
        None if audit is None else place(audit),
        settings.classifier,
        settings.classifier_options,
        settings.device,
        tuple(defense or ()),
        settings.threads,
    )
    serve(choice, port, ready)
