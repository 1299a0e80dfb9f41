"""Put an empty file in the place of one whose structure is damaged, which only another file mends.

LMDB follows its tree blindly, so what is to be recorded must not go into such a file. Only the offline
verifier decides, under the writers' lock; a failure of the system, and a file that is none of LMDB's, change
nothing. The damaged file is kept under another name until the next collection. Whoever has it open goes on to
the new one, as after a compaction.
"""

from __future__ import annotations

import contextlib
import os
import secrets

from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.directory import Place, prepare
from firebrick.storage.lmdb_api import translated
from firebrick.storage.swap import swap
from firebrick.storage.writer_lock import WriterLock

_MAGIC = (0xBEEFC0DE).to_bytes(4, "little")
_META = 16  # where the magic stands in each of the first two pages


def set_aside(path: str, *, most: int = 0) -> str:
    """Replace the file of a store if its structure is damaged, and return the first fault; else "".

    Args:
        path: The directory; it must be this user's, and writable.
        most: A larger file is not looked at; 0: look at any. It takes about half a millisecond per MiB.

    Raises:
        StoreLocked: Others write to it, or open it, and do not get on.
        StoreFull: There is no room for the new file.
        StoreError: What else the system says.
    """
    with prepare(path, readonly=False, create=False) as place, translated(place.path, None):
        info = place.stat(fmt.DATA_FILE)
        if info is None or 0 < most < info.st_size or not _is_of_lmdb(place):
            return ""
        lock = WriterLock(place.path)
        try:
            lock.open(place)
            with lock.held(fmt.OPEN_TIMEOUT_S):
                faults = lmdb_api.faults(place.inside)
                if faults:
                    _replace(place)
                return faults[0] if faults else ""
        finally:
            lock.close()


def _is_of_lmdb(place: Place) -> bool:
    """Tell whether one of the two first pages is LMDB's; otherwise it is not known whose file it is."""
    fd = place.open(fmt.DATA_FILE, os.O_RDONLY)
    try:
        pages = (0, os.sysconf("SC_PAGE_SIZE"))
        return any(os.pread(fd, len(_MAGIC), page + _META) == _MAGIC for page in pages)
    finally:
        os.close(fd)


def _replace(place: Place) -> None:
    name = f"{fmt.NEW_FILE}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        lmdb_api.write_new(os.path.join(place.inside, name), place.path)
        with contextlib.suppress(OSError):  # some file systems have no links, and then it is lost
            with contextlib.suppress(FileNotFoundError):
                place.unlink(fmt.DAMAGED_FILE)
            place.link(fmt.DATA_FILE, fmt.DAMAGED_FILE)
        swap(place, name)
    finally:
        with contextlib.suppress(OSError):
            place.unlink(name)
