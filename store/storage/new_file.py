"""Create the data file of a store, completely or not at all.

LMDB begins a new file with two pages that it neither flushes nor writes together: after a system crash only
one may exist, and such a file is refused forever. So a new file is made under a temporary name, with its
databases, flushed, and then linked to its place; if two processes do so at once, the second uses the first
one's file. Then the directory is flushed, since only that puts the name on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

from firebrick.storage import format as fmt
from firebrick.storage import lmdb_api
from firebrick.storage.directory import Place

_NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))


def make_file(place: Place) -> None:
    """Create the data file of a place, unless another process does so meanwhile.

    Raises:
        OSError, lmdb.Error: The system refuses it, or there is no room; nothing is left behind.
    """
    inside = place.inside
    data = os.path.join(inside, fmt.DATA_FILE)
    new = os.path.join(inside, f"{fmt.NEW_FILE}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        lmdb_api.write_new(new, place.path)
        try:
            os.link(new, data)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(new, data)
    except (FileExistsError, FileNotFoundError):
        if not os.path.exists(data):  # otherwise another process was first, and may have cleaned up
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)
    place.flush()


def leftovers(path: str) -> list[str]:
    """Return the files that killed processes left in a store's directory."""
    with contextlib.suppress(OSError):
        return [
            os.path.join(path, name)
            for name in os.listdir(path)
            if name in fmt.LEFTOVERS or name.startswith(fmt.NEW_FILE)
        ]
    return []
