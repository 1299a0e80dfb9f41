"""Copy what is in use of a store into a smaller file, and put it in the place of the old one.

Others read and write while it is copied; a copy that a write has overtaken is made again. Who has the old
file open keeps it on the disk until the next use, or the end: see `swap`.
"""

from __future__ import annotations

import contextlib
import os

from firebrick.errors import StoreLocked
from firebrick.storage import format as fmt
from firebrick.storage.directory import Place, prepare
from firebrick.storage.environment import Engine
from firebrick.storage.swap import swap

_TRIES = 5


def compact(engine: Engine) -> int:
    """Make the file smaller; see `Store.compact`."""
    with prepare(engine.path, readonly=False, create=False) as place:
        before = _size(place)
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                place.unlink(fmt.COPY_FILE)
            number = engine.last_number()
            fd = place.open(fmt.COPY_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                engine.copy(fd)
                os.ftruncate(fd, os.fstat(fd).st_size + fmt.MARGIN_BYTES)
                os.fsync(fd)
                with engine.at_rest() as last:
                    if last == number:
                        swap(place)
                        break
            finally:
                os.close(fd)
        else:
            raise StoreLocked(engine.path, "others write to it faster than it can be copied")
        engine.follow()
        return before - _size(place)


def _size(place: Place) -> int:
    info = place.stat(fmt.DATA_FILE)
    return 0 if info is None else info.st_blocks * 512
