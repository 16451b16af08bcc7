"""The files beside an ONNX file that its weights lie in (external data), and the digest of all its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PIECE = 2**20
"""Bytes that are read at a time: weights can be larger than the memory."""


def files_beside(model: Any, path: str) -> tuple[str, ...]:
    """List the files that a model's weights lie in, beside its own.

    Args:
        model: the model, without these weights.
        path: its file.

    Returns:
        Absolute paths, sorted; none where the file is whole by itself.
    """
    tensors = [*_tensors(model.graph), *(one for function in model.functions for one in _in_nodes(function.node))]
    external = [one for one in tensors if one.data_location == one.EXTERNAL]
    places = {entry.value for one in external for entry in one.external_data if entry.key == "location"}
    return tuple(str(Path(path).absolute().parent / place) for place in sorted(places))


def content_digest(files: Iterable[str]) -> str:
    """Compute the SHA-256 of the content of files, one after the other."""
    digest = hashlib.sha256()
    for one in files:
        with Path(one).open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    return digest.hexdigest()


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the weights of a graph, and those in the branches and loops of its nodes."""
    yield from graph.initializer
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for attribute in (one for node in nodes for one in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)
