"""Weights from the Hugging Face hub: fetched by the libraries' own code, and held against the hub's digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from underfire.core import DamagedFileError, UnderfireError

SHA256, SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def verify(repo: str) -> None:
    """Check the files of a repository in the cache: each is named by its digest.

    The hub's client checks the length of what it downloads, and nothing of what it finds in its cache.

    Args:
        repo: its name, such as ``timm/resnet18.a1_in1k``.

    Raises:
        DamagedFileError: a file has another digest.
    """
    for name, blob in _used(repo):
        if not _as_named(blob):
            raise DamagedFileError(
                f"'{name}' of '{repo}' in the cache has another digest than the hub gave it: it was changed or came "
                f"broken. Remove '{blob.name}' from the cache of Hugging Face, and fetch it again."
            )


def _used(repo: str) -> Iterator[tuple[str, Path]]:
    """Yield the names and the blobs of the newest snapshot of a repository."""
    from huggingface_hub import constants  # noqa: PLC0415 (timm brings it; it reads its settings when imported)
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    for file in sorted(folder.glob("snapshots/*/**/*")):
        if file.is_file():
            yield file.name, file.resolve()


def _as_named(blob: Path) -> bool:
    """Tell whether a blob has the digest that it is named by: SHA-256, or git's SHA-1 for small files."""
    content = blob.read_bytes()
    if SHA256.fullmatch(blob.name):
        return hashlib.sha256(content).hexdigest() == blob.name
    if SHA1.fullmatch(blob.name):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == blob.name
    return True


def not_fetched(name: str, error: Exception, instead: str) -> UnderfireError:
    """Make the error for weights that could not be downloaded.

    Args:
        name: the classifier.
        error: what the client raised.
        instead: what to do in place of it.
    """
    said = " ".join(_said(error))
    if re.search(r"Consistency check|should be of size|bytes read|prematurely|peer closed", said):
        why = "the download broke off"
    elif re.search(r"\b(404|401|403)\b|not a valid model identifier|RepositoryNotFound", said):
        why = "the hub has no such repository or file, or it is not public"
    else:
        why = f"no answer: {type(error).__name__}"
    return UnderfireError(
        f"The weights of '{name}' could not be downloaded ({why}): go online once, then they are cached; {instead}."
    )


def _said(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an exception and of what caused it."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__
