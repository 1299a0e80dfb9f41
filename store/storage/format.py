"""Every constant of the format on disk; docs/format.md is its normative description.

Changing a value that decides how stored bytes are read (`MAGIC`, `HEADER`, `Kind`, `DATABASES`, the layout of
a record) requires a new `FORMAT_VERSION`; changing how keys are made requires a new `KEY_VERSION`. Levels,
sizes and limits of the writer may change at any time.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

FORMAT_VERSION: Final = 1  # of the whole store; kept in `meta`
KEY_VERSION: Final = 1  # mixed into every key
RECIPE_VERSION: Final = 1  # a component of every recipe; raise it when the meaning of a bundle changes
MANIFEST_VERSION: Final = 4  # codec version of bundle manifests

MAGIC: Final = b"FBRK"
# magic, kind u8, codec version u8, flags u16, stored length u64, raw length u64
HEADER: Final = struct.Struct("<4sBBHQQ")
FLAG_ZSTD: Final = 1  # the body is one zstd frame with its content size
KNOWN_FLAGS: Final = FLAG_ZSTD
KEY_BYTES: Final = 32
RECORD: Final = 0  # header kind of values that are not blobs: checksum, then body
RECORD_VERSION: Final = 1
CHECK_BYTES: Final = 16  # checksum of a record


class Kind(enum.IntEnum):
    """The kinds of blobs; names and numbers never change and are never reused."""

    CODE = 1  # code object, field by field
    TENSOR = 2  # contents of a tensor
    TRITON = 3  # Triton kernel binary with its launch facts
    LIBRARY = 4  # shared library
    WRAPPER = 5  # Python source of an Inductor wrapper
    GUARDS = 6  # guard state that torch pickled
    DYNAMO = 7  # Dynamo entry
    BACKEND = 8  # backend artifact
    GRAPH = 9  # object graph
    BUNDLE = 10  # manifest of a bundle
    REVISION = 11  # revision of a context
    TEXT = 12  # UTF-8 text
    GUARD_PROGRAM = 13  # recorded steps that build guards
    LEAN_BACKEND = 14  # backend function that needs no compiler
    LAUNCH = 15  # launch of a Triton kernel in one configuration
    LEAN_SPLIT = 16  # backend function made of several


# Named databases and whether they are DUPSORT|DUPFIXED.
DATABASES: Final[dict[str, bool]] = {
    "blobs": False,
    "bundles": False,
    "recipes": True,
    "components": False,
    "registry": False,
    "names": False,
    "clock": False,
    "leases": False,
    "meta": False,
}
META_FORMAT: Final = b"format"  # key in `meta`; its body is FORMAT_VERSION in ASCII digits
NAMES_FUNCTION: Final = b"f"  # prefix in `names`: a recipe, by its function
CLOCK_USE: Final = b"u"  # prefix in `clock`: last use
CLOCK_NOTE: Final = b"n"  # prefix in `clock`: facts
CLOCK_JOURNAL: Final = b"j"  # prefix in `clock`: keys that a transaction needs, by its number
CLOCK_DROPPED: Final = b"d"  # key in `clock`: the last transaction whose journal entry was dropped
META_PIN: Final = b"pin "  # prefix in `meta`: a bundle that is never evicted
META_SIGNATURE: Final = b"sig "  # prefix in `meta`: signatures of an index entry, by their keys
NAMES_RECIPE: Final = b"r"  # prefix in `names`: a recipe, by its bundle
NAME_PARTS: Final = b"p"  # prefix in `names`: check of a bundle's list of parts
DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
NEW_FILE: Final = "data.mdb.new-"  # how the name of a file begins that is being made
COPY_FILE: Final = "data.mdb.copy"  # while the file is compacted
SWAP_FILE: Final = "data.mdb.swap"  # a copy that takes the place of the file
DAMAGED_FILE: Final = "data.mdb.damaged"  # a file that another one has replaced
LEFTOVERS: Final = (COPY_FILE, DAMAGED_FILE)
LMDB_MAJOR: Final = 0  # LMDB version of new files: 0.9, which every LMDB tool reads

# zstd level per kind, None = stored uncompressed. Measured: docs/compression.md.
COMPRESSION: Final[dict[Kind, int | None]] = {
    Kind.CODE: None,
    Kind.TENSOR: None,
    Kind.TRITON: 3,
    Kind.LIBRARY: 3,
    Kind.WRAPPER: 3,
    Kind.GUARDS: 3,
    Kind.DYNAMO: 3,
    Kind.BACKEND: 3,
    Kind.GRAPH: 3,
    Kind.BUNDLE: None,
    Kind.REVISION: None,
    Kind.TEXT: 3,
    Kind.GUARD_PROGRAM: 3,
    Kind.LEAN_BACKEND: None,
    Kind.LAUNCH: None,
    Kind.LEAN_SPLIT: None,
}
MIN_COMPRESS_BYTES: Final = 512  # smaller bodies are stored uncompressed
MIN_SAVING: Final = 0.10  # as are those that shrink by less than this share

# Limits.
MAX_BLOB_BYTES: Final = 1 << 30  # LMDB writes a value with one pwrite, which Linux cuts at 2 GiB - 4 KiB
MAX_PARTS: Final = 1 << 20  # of one bundle
MAX_COMPONENT_BYTES: Final = 16 << 20  # of one recipe, names and values together
MAX_RECORD_BYTES: Final = 16 << 20

MAP_SIZE: Final = 1 << 40  # virtual; the file has only the pages in use
SMALL_MAP_SIZES: Final = (64 << 30, 1 << 30)  # tried in turn if the address space is too small
MIN_MAP_SIZE: Final = 256 << 20  # start under an address space limit; then grows
NEW_MAP_SIZE: Final = 1 << 20  # while a file is made
MARGIN_BYTES: Final = 1 << 20  # of zeros behind the last page, without blocks on the disk
VERIFIED_BYTES: Final = 256 << 20  # files of at most so many are verified before a process records into them
MAX_READERS: Final = 4096
LOCK_TIMEOUT_S: Final = 60.0  # longest wait for the write lock
OPEN_TIMEOUT_S: Final = 1.0  # the same when a store is opened, which then starts read-only
GROW_TIMEOUT_S: Final = 5.0  # longest wait for snapshots of this process before the map grows
LMDB_TIMEOUT_S: Final = 5.0  # longest wait for LMDB's own locks
MAX_REMAPS: Final = 100  # times one call follows a map grown by others
MAX_MAP_SIZE: Final = 1 << 62
LOOK_PERIOD_S: Final = 1.0  # how often a reader checks whether the files were swapped
TOUCH_PERIOD_S: Final = 3600  # a last use is written at most once per this time
FLUSH_INTERVAL_S: Final = 1.0  # longest time from a commit to its flush at the level "interval"
GRACE_S: Final = 600.0  # blobs put or released within it are not collected
SLICE_S: Final = 0.01  # longest work inside one transaction of upkeep
MIN_MAX_BYTES: Final = 2 << 20  # smallest limit of bytes on disk
MAX_BYTES: Final = 10 << 30  # the default limit,
MAX_SHARE: Final = 0.1  # or this share of the disk if that is less
DIRECTORY_MODE: Final = 0o700

# File systems (as in /proc/self/mountinfo) shared between machines: their maps and locks are not
# coherent.
NETWORK_FILESYSTEMS: Final = frozenset(
    (
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs"),
        *("gpfs", "kafs", "lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs"),
        *("prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "vmhgfs", "wekafs"),
    )
)
# FUSE file systems over local files; every other FUSE type is refused, because its maps are unknown.
LOCAL_FUSE: Final = frozenset(
    (
        *("fuseblk", "fuse.bindfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs"),
        *("fuse.ntfs-3g", "fuse.zfs"),
    )
)
