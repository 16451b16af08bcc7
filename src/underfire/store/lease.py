"""The lease of an output folder: one driver at a time.

On a file system it is the kernel's lock, which ends with its process. An object store has no locks, but it can create
an object only if it does not exist: whoever creates ``.lease`` is the driver, and renews it again and again. A lease
that does not change for `STALE` seconds belongs to a dead driver. These seconds are counted on the *observer's*
monotonic clock, so wrong clocks of other machines do no harm.
"""

from __future__ import annotations

import contextlib
import itertools
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from underfire.core import BusyError
from underfire.core.place import Place, Remote

RENEW = 10.0
"""Seconds between two renewals."""
STALE = 45.0
"""Seconds without a renewal after which another driver takes the folder over."""


@contextlib.contextmanager
def only_driver(root: Place) -> Iterator[Callable[[], None]]:
    """Hold the output folder for the time of a `with` block.

    Yields:
        A check, which raises UnderfireError once another driver has taken the folder over.

    Raises:
        UnderfireError: another driver holds the folder.
    """
    with _locked(root) if isinstance(root, Path) else _leased(root) as check:
        yield check


def _in_use(root: Place, by: str = "") -> BusyError:
    return BusyError(f"Another run{by} is writing into '{root}': wait for it, stop it, or give another --out.")


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[Callable[[], None]]:
    from filelock import FileLock, Timeout  # noqa: PLC0415 (reading results needs no lock)

    try:
        # No soft lock where a file system has no locks: it would outlive its process. There we fail.
        held = FileLock(root / ".lock", timeout=0, fallback_to_soft=False).acquire()
    except Timeout as e:
        raise _in_use(root) from e
    with held:
        yield lambda: None


@contextlib.contextmanager
def _leased(root: Remote) -> Iterator[Callable[[], None]]:
    lease = root / ".lease"
    name = f"{platform.node()}-{uuid.uuid4().hex}"
    _take(root, lease, name)
    stop, lost = threading.Event(), threading.Event()

    def check() -> None:
        if lost.is_set():
            raise BusyError(
                f"Another run has taken over '{root}', because this one could not renew its lease for {STALE:.0f} s. "
                "What is finished is kept."
            )

    keeper = threading.Thread(target=_renew, args=(lease, name, RENEW, stop, lost), daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        keeper.join()
        if not lost.is_set():
            with contextlib.suppress(OSError):  # the store does not answer: the lease grows stale by itself
                lease.unlink(missing_ok=True)


def _take(root: Remote, lease: Remote, name: str) -> None:
    while True:
        try:
            return lease.create(f"{name} 0".encode())
        except FileExistsError:
            there = _read(lease)
        if there.startswith(name):  # a try of ours has created it, and the answer was lost
            return None
        until = time.monotonic() + STALE
        while there and time.monotonic() < until:
            time.sleep(min(1.0, STALE / 10))
            if (now := _read(lease)) != there:
                if now:
                    raise _in_use(root, " on " + now.rpartition("-")[0])
                there = now
        if there:
            lease.unlink(missing_ok=True)


def _renew(lease: Remote, name: str, every: float, stop: threading.Event, lost: threading.Event) -> None:
    for beat in itertools.count(1):
        if stop.wait(every):
            return
        with contextlib.suppress(OSError):  # tried again at the next beat, which also sees who has taken over
            if not _read(lease).startswith(name):
                lost.set()
                return
            lease.write_bytes(f"{name} {beat}".encode())


def _read(lease: Remote) -> str:
    try:
        return lease.read_text()
    except FileNotFoundError:
        return ""
