"""Convert blobs and records to values on disk and back: header, compression, digest."""

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import DamagedError, DecodeError, LimitExceeded, UnknownKind, UsageError
from firebrick.storage import format as fmt
from firebrick.storage.compression import compress, content_size, decompress
from firebrick.storage.format import FLAG_ZSTD, HEADER, MAGIC, Kind
from firebrick.storage.keys import ContentKey, Data, content_key, record_check


class Blob(NamedTuple):
    """Bytes on their way into a store."""

    kind: Kind
    data: Data
    version: int = 1  # of the codec that wrote the bytes

    @property
    def key(self) -> ContentKey:
        """Return the hash of the bytes; not cached, so call it once."""
        return content_key(self.kind, self.data, self.version)


class StoredBlob(NamedTuple):
    """Verified bytes from a store: owned, or a read-only view valid inside its snapshot."""

    kind: Kind
    version: int
    data: bytes | memoryview


class BlobInfo(NamedTuple):
    """A blob's description from its header, unverified; sizes in bytes without the header."""

    key: ContentKey
    kind: Kind
    version: int
    stored: int
    raw: int


class Header(NamedTuple):
    """The fields of a header; this version may not know `kind`."""

    kind: int
    version: int
    flags: int
    stored: int
    raw: int


def check_blob(kind: Kind, data: Data, version: int) -> None:
    """Refuse a blob that no header can describe: UsageError or LimitExceeded."""
    if not isinstance(kind, Kind):
        raise UsageError(f"kind must be a Kind, not {kind!r}")
    if not isinstance(data, bytes | bytearray | memoryview) or (
        isinstance(data, memoryview) and not (data.c_contiguous and data.itemsize == 1)
    ):
        raise UsageError("data must be bytes, bytearray or a contiguous memoryview of bytes")
    if not 1 <= version <= 255:
        raise UsageError(f"codec version must be 1 to 255, not {version}")
    if len(data) > fmt.MAX_BLOB_BYTES:
        raise LimitExceeded("size of a blob", len(data), fmt.MAX_BLOB_BYTES)


def encode_blob(blob: Blob) -> bytes:
    """Return a blob as a value: header and bytes, compressed if its kind calls for it and it pays."""
    kind, data, version = blob
    check_blob(kind, data, version)
    body, flags, level = data, 0, fmt.COMPRESSION[kind]
    if level is not None and len(data) >= fmt.MIN_COMPRESS_BYTES:
        packed = compress(data, level)
        if len(packed) <= len(data) * (1 - fmt.MIN_SAVING):
            body, flags = packed, FLAG_ZSTD
    return b"".join((HEADER.pack(MAGIC, kind, version, flags, len(body), len(data)), body))


def parse_header(key: bytes, value: Data) -> Header:
    """Return the header of a value, checked field by field; DamagedError names the first bad one."""
    if len(value) < HEADER.size:
        raise DamagedError(key, f"value has {len(value)} bytes, less than a header of {HEADER.size}")
    magic, kind, version, flags, stored, raw = HEADER.unpack_from(value)
    if magic != MAGIC:
        raise DamagedError(key, f"magic is {magic!r}, expected {MAGIC!r}")
    if flags & ~fmt.KNOWN_FLAGS:
        raise DamagedError(key, f"flags are {flags:#x}, known are {fmt.KNOWN_FLAGS:#x}")
    if stored > len(value) - HEADER.size:
        raise DamagedError(key, f"stored length is {stored}, but {len(value) - HEADER.size} bytes are there")
    if raw > fmt.MAX_BLOB_BYTES:
        raise DamagedError(key, f"raw length is {raw}, more than {fmt.MAX_BLOB_BYTES}")
    return Header(kind, version, flags, stored, raw)


def decode_blob(key: bytes, value: Data, *, copy: bool = True) -> StoredBlob:
    """Check a value against its header and key, and return its bytes.

    Args:
        key: Content key the bytes must have.
        value: Header and body, no byte more.
        copy: False returns a view of `value` if the body is not compressed.

    Raises:
        DamagedError: A field or the digest is wrong.
        UnknownKind: The digest is right, but this version does not know the kind.
    """
    header = parse_header(key, value)
    if header.stored != len(value) - HEADER.size:
        raise DamagedError(key, f"stored length is {header.stored}, not {len(value) - HEADER.size}")
    body = memoryview(value)[HEADER.size :].toreadonly()
    data = _inflate(key, header, body) if header.flags & FLAG_ZSTD else bytes(body) if copy else body
    if len(data) != header.raw:
        raise DamagedError(key, f"raw length is {header.raw}, but there are {len(data)} bytes")
    # An unknown kind can still be distinguished from a damaged one.
    digest = content_key(header.kind, data, header.version)  # type: ignore[arg-type]
    if digest != key:
        raise DamagedError(key, f"digest is {digest.hex()}")
    try:
        return StoredBlob(Kind(header.kind), header.version, data)
    except ValueError:
        raise UnknownKind(header.kind) from None


def _inflate(key: bytes, header: Header, body: memoryview) -> bytes:
    try:
        size = content_size(body)
        if size != header.raw:  # before anything is allocated
            raise DamagedError(key, f"raw length is {header.raw}, but the frame says {size}")
        return decompress(body, header.raw)
    except DecodeError as error:
        raise DamagedError(key, error.reason) from None


def encode_record(database: str, key: bytes, body: Data) -> bytes:
    """Return a record (a value that is not a blob): header of kind `format.RECORD`, checksum, body."""
    if len(body) > fmt.MAX_RECORD_BYTES:
        raise LimitExceeded(f"size of a record in {database}", len(body), fmt.MAX_RECORD_BYTES)
    head = HEADER.pack(MAGIC, fmt.RECORD, fmt.RECORD_VERSION, 0, fmt.CHECK_BYTES + len(body), len(body))
    return b"".join((head, record_check(database, key, body), body))


def decode_record(database: str, key: bytes, value: Data) -> bytes:
    """Check a record against header, key and checksum, and return its body; DamagedError."""
    header = parse_header(key, value)
    expected = (
        fmt.RECORD,
        fmt.RECORD_VERSION,
        0,
        len(value) - HEADER.size,
        header.stored - fmt.CHECK_BYTES,
    )
    if tuple(header) != expected:
        raise DamagedError(key, f"header of a record in {database} is {tuple(header)}, expected {expected}")
    start = HEADER.size + fmt.CHECK_BYTES
    body = bytes(value[start:])
    if record_check(database, key, body) != bytes(value[HEADER.size : start]):
        raise DamagedError(key, f"checksum of a record in {database} is wrong")
    return body
