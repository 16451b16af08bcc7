"""The kind of a weights file, before anything of it is loaded: most files that fail are no checkpoints at all."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from pathlib import Path

from underfire.core import DamagedFileError, UnderfireError

START = 4096
"""Number of bytes by which a file is recognised."""
STARTS = (
    (b"version https://git-lfs", "is a pointer of git-lfs, not the weights themselves: run 'git lfs pull'"),
    (b"<", "is a web page, as a failed download leaves it: download the file itself"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes them: save the weights with PyTorch or as safetensors"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"GGUF", "is a GGUF file, whose weights are quantised and have no gradient: give the weights from before"),
    (b"\x93NUMPY", "is a NumPy array: save the network's state_dict"),
)


def refuse_foreign(path: str) -> None:
    """Raise DamagedFileError for a file that cannot be a checkpoint of PyTorch; the error says what it is."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(START)
        what = _what(start) or (_zip(path) if start.startswith(b"PK") else "")
    except OSError as e:
        raise UnderfireError(f"Cannot read the weights in '{path}' ({e.strerror or e}).") from e
    if what:
        raise DamagedFileError(f"'{path}' {what}.")


def _what(start: bytes) -> str:
    if not start:
        return "is an empty file: save or copy the weights again"
    if not start.strip(b"\0"):
        return "is all zeros where a checkpoint begins: save or copy it again"
    stripped = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for sign, what in STARTS:
        if stripped.startswith(sign):
            return what
    return "is a text file, not a checkpoint: give the file of the weights" if _is_text(start) else ""


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as e:
        if e.start < len(start) - 3:
            return False
        text = start[: e.start].decode()
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _zip(path: str) -> str:
    """Say what a zip file is, if it is no intact checkpoint: torch itself does not check its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not names:
                return "is an empty zip file: save or copy the weights again"
            if any("/code/" in name for name in names):
                return f"is a TorchScript network, not weights alone: give it as --classifier script:{path}"
            if not any(name.endswith("data.pkl") for name in names):
                return f"is a zip file of other things ({', '.join(names[:3])}): give the file of the weights"
            if any(entry.compress_type for entry in archive.infolist()):
                return "is a compressed zip file, which is not how PyTorch saves: unpack it first"
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, UnicodeError):
        return "is a zip file that is damaged or was cut short: save or copy it again"
    return f"is damaged (the checksum of '{bad}' is wrong): save or copy it again" if bad else ""


def called_by(path: str) -> str:
    """Name what a plain pickle would call when loaded, such as 'posix.mkdir', without loading it; '' for nothing."""
    words: list[str] = []
    try:
        with Path(path).open("rb") as file:
            for opcode, value, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    return str(value).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL":
                    return ".".join(words[-2:])
                if isinstance(value, str):
                    words.append(value)
    except Exception:  # a damaged pickle does not load, so it calls nothing
        return ""
    return ""
