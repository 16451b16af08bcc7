"""Names read from the source are the names that importing gives, and reading them imports no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from underfire import registry


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_source_says_what_importing_says(kind: str) -> None:
    imported = {
        name: (
            (registry.maker(kind, name).__doc__ or "").strip().partition("\n")[0],
            getattr(registry.maker(kind, name), "family", "") if kind == "interpreters" else "",
        )
        for name in registry.names(kind)
    }
    assert {part.name: (part.said, part.family) for part in registry.listed(kind)} == imported


def test_a_list_of_names_imports_no_torch() -> None:
    code = (
        "import sys; from underfire.cli.show_names import show_names; show_names(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0
