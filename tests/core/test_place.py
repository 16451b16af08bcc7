"""Places of files, as users write them."""

from __future__ import annotations

from pathlib import Path

from underfire.core.place import place


def test_a_home_is_a_home_in_quotes_too() -> None:
    assert place("~/audit") == Path.home() / "audit"
    assert place("photos/~") == Path("photos/~")
    assert place("~nobody-of-this-name/audit") == Path("~nobody-of-this-name/audit")
