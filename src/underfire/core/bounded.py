"""Bounded reading: a bad file from elsewhere cannot take more time and memory than a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from underfire.core.place import Place

LARGEST_YAML = 1 << 20
"""Bytes of a plan at most; the plan of a large study has some hundred thousand."""
MOST_NODES = 20_000
"""Values of a plan at most; a value that is used several times counts each time."""
DEEPEST = 100
"""Depth of lists and mappings inside each other at most."""


def read_yaml(path: Place) -> Any:
    """Read the content of a YAML file.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError: it is no YAML, no text, or too large, as a file or after its references are followed.
    """
    content = _at_most(path, LARGEST_YAML + 1)
    if len(content) > LARGEST_YAML:
        raise yaml.YAMLError(f"it has more than {LARGEST_YAML // 1024:,} KB")
    try:
        return load_yaml(content.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise yaml.YAMLError(f"it is no UTF-8 text: {e}") from e


def load_yaml(text: str) -> Any:
    """Read the content of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, or too large after its references are followed.
    """
    try:
        loader = _Bounded(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > MOST_NODES:
                raise yaml.YAMLError(f"it unfolds to more than {MOST_NODES:,} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError:
        raise
    except Exception as e:  # a date of month 13, a number of 5,000 digits: constructors raise whatever they like
        raise yaml.YAMLError(str(e) or type(e).__name__) from e


class _Bounded(yaml.SafeLoader):
    """A loader that gives up while it reads: the time of PyYAML grows with the square of the depth."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read the next node of the text."""
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        if self.nodes > MOST_NODES:
            raise yaml.YAMLError(f"it holds more than {MOST_NODES:,} values")
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _at_most(path: Place, size: int) -> bytes:
    if not isinstance(path, Path):
        return path.read_bytes()
    with path.open("rb") as file:  # an endless file is not read to its end
        return file.read(size)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values below a node; a node that holds itself is endless."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_NODES + 1  # a node that holds itself comes again before it is counted
        below = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in below)
    return known[id(node)]
