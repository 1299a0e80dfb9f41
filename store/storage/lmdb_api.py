"""Open LMDB files and translate LMDB's errors; apart from it, only `environment` knows about lmdb.

This is the only module that imports lmdb. Its functions hold no state; any thread may call them.

Source: LMDB 0.9 `lmdb.h` and `mdb.c`, py-lmdb 3.0 `cpython.c` and its documentation.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import lmdb

from firebrick.errors import (
    DamagedError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotFound,
    StoreUntrusted,
    StoreVersionError,
)
from firebrick.storage import format as fmt
from firebrick.storage.blob import decode_record, encode_record
from firebrick.storage.directory import Place
from firebrick.storage.lock_file import LockFile
from firebrick.storage.os_errors import from_system, store_error
from firebrick.storage.tree_order import disorder

T = TypeVar("T")
Environment = lmdb.Environment
Handles: TypeAlias = "dict[str, lmdb._Database]"
Stamp: TypeAlias = "tuple[int, ...]"
Raw: TypeAlias = "lmdb.Transaction[memoryview]"
MapFull = lmdb.MapFullError
MapResized = lmdb.MapResizedError


class AlreadyOpen(Exception):
    """Something else in this process has the file open; closing its lock file would unlock it."""


def build() -> tuple[str, bool | None]:
    """Return the version of LMDB in use, and whether it has py-lmdb's patches against damaged files.

    They are missing if py-lmdb was built against the system's LMDB; None if the build does not say.
    """
    version = ".".join(map(str, lmdb.version(lib_version=fmt.LMDB_MAJOR)))
    try:
        from lmdb._config import CONFIG
    except ImportError:
        return version, None
    return version, "-DHAVE_PATCHED_LMDB=1" in str(CONFIG.get("extra_compile_args"))


def open_environment(
    place: Place, map_size: int | None, limit: int = 0, *, write: bool, lock_file: LockFile | None
) -> Environment:
    """Open the environment in a directory, with as much address space as requested or available.

    Args:
        place: The directory.
        map_size: Bytes of address space; None for the default.
        limit: Bytes of address space at most, if the file is not larger already; 0: no limit.
        write: Open it for writing.
        lock_file: Its lock file, which is prepared for each attempt; None for none.

    Raises:
        AlreadyOpen: Something other than Firebrick has it open in this process.
        StoreLocked: The lock file is unavailable, or the map grows too fast.
        StoreDamaged: A process died with the file open, perhaps of it: its structure is unsound.
        StoreError: LMDB cannot handle the path.
    """
    inside = place.inside
    for _ in range(fmt.MAX_REMAPS):
        data = place.stat(fmt.DATA_FILE)
        used = (
            0 if data is None else max(0, data.st_size - fmt.MARGIN_BYTES)
        )  # LMDB takes no less than it needs
        sizes = _map_sizes(map_size, used)
        if limit:
            sizes = [*dict.fromkeys(min(size, max(limit, used)) for size in sizes)]
        while sizes:
            if lock_file is not None:
                lock_file.make_ready()
                if write and lock_file.abandoned:  # LMDB forgets it, and the caller keeps writers out
                    _refuse_unsound(place)
                    lock_file.abandoned = False
            try:
                return lmdb.Environment(
                    inside,
                    map_size=sizes.pop(0),
                    readonly=not write,
                    lock=lock_file is not None,
                    metasync=False,
                    mode=fmt.DIRECTORY_MODE,
                    create=False,
                    max_readers=fmt.MAX_READERS,
                    max_dbs=len(fmt.DATABASES),
                    lib_version=fmt.LMDB_MAJOR,
                )
            except lmdb.MemoryError:
                if not sizes:
                    raise
            except MapResized:  # in the transaction that py-lmdb begins immediately
                break
            except UnicodeError:
                raise _not_utf8(place.path) from None
            except lmdb.Error as error:
                if "already open" not in str(error):  # py-lmdb has neither a class nor a code for this
                    raise
                raise AlreadyOpen(str(error)) from None
    raise outgrown(place.path)


def _not_utf8(path: str) -> StoreError:
    return StoreError(path, "without /proc, its path must be valid UTF-8")


def write_new(file: str, path: str) -> None:
    """Write a new file with its databases, and flush it; `path` is that of its store.

    No lock file is used; nobody else may know the file yet.
    """
    try:
        env = lmdb.Environment(
            file,
            map_size=fmt.NEW_MAP_SIZE,
            subdir=False,
            lock=False,
            mode=fmt.DIRECTORY_MODE & 0o666,
            max_dbs=len(fmt.DATABASES),
            lib_version=fmt.LMDB_MAJOR,
        )
    except UnicodeError:
        raise _not_utf8(path) from None
    try:
        create_databases(env, path, create=True)
        env.sync(True)
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            add_margin(env, fd)
        finally:
            os.close(fd)
    finally:
        env.close()


def add_margin(env: Environment, fd: int) -> None:
    """Have zeros behind the last page of a file, where a damaged pointer of LMDB's tree may lead.

    A pointer inside a page reaches at most 64 KiB beyond it, and a read beyond the end of the file would kill
    the process. The zeros take no room. The caller holds the writers' lock.
    """
    used = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if os.fstat(fd).st_size < used + fmt.MARGIN_BYTES // 2:
        with contextlib.suppress(OSError):  # a limit of sizes of files, perhaps
            os.ftruncate(fd, used + fmt.MARGIN_BYTES)


def _map_sizes(wanted: int | None, used: int) -> list[int]:
    small = max(fmt.MIN_MAP_SIZE, 2 * used)
    if wanted is not None:
        sizes = [max(wanted, used)]
    elif resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        sizes = [small]  # the rest belongs to the program
    else:
        sizes = [size for size in (fmt.MAP_SIZE, *fmt.SMALL_MAP_SIZES) if size > small] + [small]
    return [-(-size // 65536) * 65536 for size in sizes]


def remapped(env: Environment, path: str, action: Callable[[], T]) -> T:
    """Rerun an action while others grow the map; nothing else may use the environment.

    Raises:
        StoreLocked: The map grows too fast to follow.
    """
    for _ in range(fmt.MAX_REMAPS):
        try:
            return action()
        except MapResized:
            env.set_mapsize(0)
        except MapFull:
            env.set_mapsize(2 * env.info()["map_size"])
    raise outgrown(path)


def outgrown(path: str) -> StoreLocked:
    """Return the error for a map that grows too fast to follow."""
    return StoreLocked(path, "other processes let its map grow faster than it can be followed")


def open_databases(env: Environment, path: str) -> Handles:
    """Open the named databases of an environment open for reading, and check the format.

    Raises:
        StoreVersionError: It is not a store, or has an unknown format.
    """
    try:
        handles = {
            name: env.open_db(name.encode(), create=False, dupsort=dup, dupfixed=dup)
            for name, dup in fmt.DATABASES.items()
        }
    except lmdb.NotFoundError:
        raise StoreVersionError(path, "it is not a finished Firebrick store") from None
    with env.begin(buffers=True) as raw:
        _check_version(path, raw.get(fmt.META_FORMAT, db=handles["meta"]))
    return handles


def create_databases(env: Environment, path: str, *, create: bool) -> Handles:
    """Open the named databases of an environment open for writing, and check the format.

    If the file is empty, one transaction creates all of them, with the format record. It is always a writing
    transaction, as py-lmdb drops handles opened by a reading one.

    Raises:
        StoreNotFound: The file is empty, and `create` is False.
        StoreVersionError: It is not a store, or has an unknown format.
    """
    with env.begin(write=True, buffers=True) as raw:
        fresh = not raw.stat()["entries"]
        if fresh and not create:
            raise StoreNotFound(path, "the file is empty")
        try:
            handles = {
                name: env.open_db(name.encode(), txn=raw, create=fresh, dupsort=dup, dupfixed=dup)
                for name, dup in fmt.DATABASES.items()
            }
        except lmdb.NotFoundError:
            raise StoreVersionError(path, "it is not a Firebrick store") from None
        if fresh:
            body = str(fmt.FORMAT_VERSION).encode()
            record = encode_record("meta", fmt.META_FORMAT, body)
            raw.put(fmt.META_FORMAT, record, db=handles["meta"])
        _check_version(path, raw.get(fmt.META_FORMAT, db=handles["meta"]))
    return handles


def _check_version(path: str, value: memoryview | None) -> None:
    try:
        found = b"" if value is None else decode_record("meta", fmt.META_FORMAT, value)
    except DamagedError as error:  # or a later format
        raise StoreVersionError(path, str(error)) from None
    if found != str(fmt.FORMAT_VERSION).encode():
        raise StoreVersionError(path, f"found {found!r}, known is {fmt.FORMAT_VERSION}")


def begin(env: Environment, *, write: bool) -> Raw:
    """Start a transaction.

    A writer first frees the slots of dead readers, since the space they saw cannot be reused before; a reader
    does so when all slots are taken.
    """
    if write:
        env.reader_check()
    try:
        return env.begin(write=write, buffers=True)
    except lmdb.ReadersFullError:
        if not env.reader_check():
            raise
        return env.begin(write=write, buffers=True)


def check_file(env: Environment, place: Place) -> None:
    """Refuse a file with missing pages, before a read beyond its end kills the process with SIGBUS.

    Free pages at the end may be missing, so a short file is verified.
    """
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    inside = place.inside
    size = os.stat(os.path.join(inside, fmt.DATA_FILE)).st_size
    if size < needed and (problems := verify(inside)):
        raise StoreDamaged(place.path, f"{size} bytes of {needed} are there: {problems[0]}")


def _refuse_unsound(place: Place) -> None:
    if problems := faults(place.inside):
        raise StoreDamaged(place.path, problems[0])


def is_hardened() -> bool:
    """Tell whether the running LMDB has py-lmdb's patches against hostile files.

    They are missing if it was built against the system's LMDB, or with LMDB_PURE. The version numbers of both
    are compiled in; `lmdb._config` only tells what a build requested.
    """
    number: tuple[int, ...] = lmdb.version(subpatch=True)
    return len(number) == 4 and number[3] > 0


def vet(place: Place) -> Stamp | None:
    """Verify a file that others may have written, before LMDB maps it.

    Returns:
        The stamp the file must still have once it is open; None if there is no file.

    Raises:
        StoreUntrusted: py-lmdb lacks its patches against hostile files.
        StoreDamaged: The file's structure is unsound.
    """
    before = stamp(place)
    if before is None:
        return None
    if not is_hardened():
        raise StoreUntrusted(
            place.path, "others may have written it, and this py-lmdb has no patches for that"
        )
    if problems := verify(place.inside):
        raise StoreDamaged(place.path, f"others may have written it, and it is not sound: {problems[0]}")
    return before


def stamp(place: Place) -> Stamp | None:
    """Return a stamp that changes when a file is replaced or written to; None if it is missing."""
    info = place.stat(fmt.DATA_FILE)
    if info is None:
        return None
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def verify(path: str) -> list[str]:
    """Return the faults of a file's structure, without trusting it; nobody may be writing to it."""
    try:
        return faults(path)
    except (OSError, MemoryError) as error:
        return [f"{type(error).__name__}: {error}"]


def faults(path: str) -> list[str]:
    """Return the same as `verify`; raise OSError or MemoryError if the file cannot be looked at."""
    import lmdb.verify  # needed only for doubtful files

    try:
        file = os.path.join(path, fmt.DATA_FILE)
        problems: list[str] = lmdb.verify.verify(file)
        return problems or [fault for fault in [disorder(file)] if fault]
    except (OSError, MemoryError):
        raise
    except Exception as error:  # any other failure is a fault of the file
        return [f"{type(error).__name__}: {error}"]


class translated(Generic[T]):
    """A translator of LMDB and system errors into store errors.

    A context manager, for a store at `path`; `with` returns `value`.
    """

    __slots__ = ("_path", "_value")

    def __init__(self, path: str, value: T) -> None:
        """Remember path and value."""
        self._path = path
        self._value = value

    def __enter__(self) -> T:
        """Return the value."""
        return self._value

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise the corresponding store error."""
        if isinstance(error, lmdb.Error):
            raise _translate(self._path, error) from error
        if isinstance(error, OSError):
            raise from_system(self._path, error) from error


def _translate(path: str, error: lmdb.Error) -> StoreError:
    detail = str(error)
    if isinstance(error, lmdb.ReadersFullError):
        return StoreLocked(path, f"all reader slots are in use: {detail}")
    if isinstance(error, MapFull):
        return StoreFull(path, detail)
    if isinstance(error, MapResized):
        return StoreLocked(path, f"others let its map grow: {detail}")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return StoreDamaged(path, detail)
    if isinstance(error, lmdb.VersionMismatchError | lmdb.InvalidError | lmdb.IncompatibleError):
        return StoreVersionError(path, f"not a file of LMDB 0.9: {detail}")
    return store_error(path, getattr(error, "code", None) or 0, detail)
