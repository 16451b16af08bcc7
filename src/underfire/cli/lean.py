"""A lean start of --help: what typer's help imports of rich and never uses here is left out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

UNUSED = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
"""Module -> the class that `typer.rich_utils` takes from it, for help in Markdown and for tracebacks in colour.

Both load a highlighter of code, which took a quarter of the time of --help. Our help is rich text, and typer shows no
traceback.
"""


@contextlib.contextmanager
def without_unused() -> Iterator[None]:
    """Stand in for the modules of `UNUSED` while something else is imported; afterwards they are as they were."""
    stands = {name: _stand_in(name, of) for name, of in UNUSED.items() if name not in sys.modules}
    sys.modules.update(stands)
    try:
        yield
    finally:
        for name in stands:
            del sys.modules[name]


def _stand_in(module: str, name: str) -> ModuleType:
    made = ModuleType(module)
    setattr(made, name, type(name, (), {"__module__": module}))
    return made
