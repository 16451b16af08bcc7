"""The Python and the command line that do the same as the page did."""

from __future__ import annotations

import shlex
from typing import Any

from underfire.app.form import Form
from underfire.app.outcome import settings_of
from underfire.core import ClassifierOptions
from underfire.core.naming import as_flags
from underfire.images.photos import DEMO_PHOTOS

_DEMO = """"$(python -c 'from underfire.images.photos import Folder; print(Folder("demo").root)')"/"""
"""The folder of the demo photos, as a shell finds it."""


def python(wish: Form, name: str, target: int | str, options: ClassifierOptions) -> str:
    """Write the Python that forges the same file.

    Args:
        wish: what was wanted.
        name: the photo's file.
        target: the wanted class.
        options: of the classifier.
    """
    own = {key: value for key, value in vars(options).items() if value is not None}
    build = ", ".join([repr(wish.classifier), *(f"{key}={value!r}" for key, value in own.items())])
    given = {**settings_of(wish), "target": target}
    words = ", ".join(["classifier", repr(wish.interpreter), "photo", *(f"{k}={v!r}" for k, v in given.items())])
    photo = repr(name)
    lines = ["import underfire", ""]
    if name in DEMO_PHOTOS:
        lines[:1] = ["import underfire", "from underfire.images.photos import Folder"]
        photo = f'Folder("demo").root / {name!r}'
    return "\n".join(
        [
            *lines,
            f"classifier = underfire.classifier({build})",
            f"photo = {photo}",
            f"result = underfire.attack({words})",
            "result.show()",
            'result.save("forged")',
        ]
    )


def command(wish: Form, name: str, target: int | str, options: ClassifierOptions) -> str:
    """Write the command line that forges the same file; arguments as in `python`."""
    words = ["underfire", "run"]
    own = vars(options)
    given: dict[str, Any] = {
        "classifier": wish.classifier,
        **own,
        "interpreter": wish.interpreter,
        "attack": wish.attack,
    }
    given |= {"preset": wish.preset, "eps": wish.eps, "target": target}
    given |= {"save_as": wish.save_as} if wish.save_as != "png" else {}
    words += as_flags(given)
    photo = f"--images {_DEMO}{name}" if name in DEMO_PHOTOS else shlex.join(["--images", name])
    return " ".join([shlex.join(words[:2]), photo, shlex.join(words[2:])])
