"""Put another data file in the place of a store's, whatever dies on the way.

The lock file goes with its data file, as it holds numbers of transactions. Two names cannot be changed at
once, so nobody opens the store meanwhile: who opens it shares a `flock` of the directory, who swaps has it
alone. The new file first gets the name `format.SWAP_FILE`, which decides that the swap takes place: who
finds that name, and its maker gone, finishes it. Whoever has the old files open goes on to read them, and
finds at the next write, or a while later, that others have taken their place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from firebrick.errors import StoreLocked
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place
from firebrick.storage.lock_file import pauses


@contextlib.contextmanager
def opening(place: Place) -> Iterator[None]:
    """Keep the files from being swapped while they are opened, and finish a swap that was cut off.

    Raises:
        StoreLocked: Somebody swaps them, and does not get on.
    """
    with _flock(place, fcntl.LOCK_SH):
        if not is_cut_off(place):
            yield
            return
    with _flock(place, fcntl.LOCK_EX):
        if is_cut_off(place):
            _finish(place)
    with opening(place):
        yield


def is_cut_off(place: Place) -> bool:
    """Tell whether a swap was decided, and not finished; the caller keeps others from swapping."""
    return place.stat(fmt.SWAP_FILE) is not None


def swap(place: Place, new: str = fmt.COPY_FILE) -> None:
    """Put the file of a name in the place of the data file; it must be on the disk.

    The caller holds the writers' lock of the old one.

    Raises:
        StoreLocked: Somebody opens the store, and does not get on.
        OSError: The system refuses; everything is as before, or will be finished by who opens the store next.
    """
    with _flock(place, fcntl.LOCK_EX):
        place.rename(new, fmt.SWAP_FILE)
        place.flush()
        _finish(place)


def _finish(place: Place) -> None:
    with contextlib.suppress(FileNotFoundError):
        place.unlink(fmt.LOCK_FILE)
    place.rename(fmt.SWAP_FILE, fmt.DATA_FILE)
    place.flush()


@contextlib.contextmanager
def _flock(place: Place, how: int) -> Iterator[None]:
    fd = place.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in pauses(fmt.LMDB_TIMEOUT_S):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                break
        else:
            raise StoreLocked(place.path, "another process opens it or swaps its files, and does not get on")
        yield
    finally:
        os.close(fd)
