"""Pack and unpack msgpack in one canonical form; the only module that imports msgpack.

Canonical means: shortest integers and lengths, floats as 64 bits, maps sorted by their packed keys,
no extension types. Text may hold lone surrogates, as Python's does; they are kept by
`surrogatepass`.
"""

from typing import Any

import msgpack

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import CodecError, DecodeError, EncodeError, LimitExceeded
from firebrick.storage.format import MAX_BLOB_BYTES

Data = bytes | bytearray | memoryview
INT64 = range(-(1 << 63), 1 << 64)  # integers that msgpack can hold


class Limits(NamedTuple):
    """The limits of `unpack`: bytes, nesting depth, items per array or map."""

    size: int = MAX_BLOB_BYTES
    depth: int = 64
    items: int = 1 << 22


DEFAULT_LIMITS = Limits()


def _sorted_maps(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = [(key, _sorted_maps(item)) for key, item in value.items()]
        return dict(sorted(pairs, key=lambda pair: _packb(pair[0])))
    if isinstance(value, list | tuple):
        return [_sorted_maps(item) for item in value]
    return value


def _packb(value: Any) -> bytes:
    packed: bytes | None = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    if packed is None:
        raise EncodeError(type(value).__name__, reason="msgpack returned nothing")
    return packed


def pack(value: Any, *, maps: bool = True) -> bytes:
    """Pack None, bool, int of 64 bits, float, str, bytes, lists, tuples (as lists) and dicts.

    Args:
        value: The value to pack.
        maps: False promises that it contains no dict, which saves a walk over it.

    Raises:
        EncodeError: A part has another type, or an integer does not fit into 64 bits.
        LimitExceeded: The result is larger than a blob may be.
    """
    try:
        packed = _packb(_sorted_maps(value) if maps else value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(type(value).__name__, reason=str(error)) from None
    if len(packed) > MAX_BLOB_BYTES:
        raise LimitExceeded("encoding in bytes", len(packed), MAX_BLOB_BYTES)
    return packed


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise DecodeError("a map has the same key twice")
    return result


def _refuse_extension(code: int, _: bytes) -> Any:
    raise DecodeError(f"extension type {code} is not used here")


def unpack(data: Data, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Unpack one value that fills `data` exactly; arrays become lists.

    Raises:
        DecodeError: Not msgpack, trailing bytes, a map with a duplicate key, or an extension type.
        LimitExceeded: Larger, longer or deeper than `limits`; sizes are checked before anything is allocated.
    """
    if len(data) > limits.size:
        raise LimitExceeded("encoding in bytes", len(data), limits.size)
    most = min(limits.items, len(data))
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            unicode_errors="surrogatepass",
            object_pairs_hook=_unique,
            ext_hook=_refuse_extension,
            max_str_len=len(data),
            max_bin_len=len(data),
            max_ext_len=0,
            max_array_len=most,
            max_map_len=most,
        )
    except CodecError:
        raise
    except msgpack.ExtraData as error:
        raise DecodeError(f"{len(error.extra)} bytes left over") from None
    except msgpack.StackError:
        raise LimitExceeded("nesting", limits.depth + 1, limits.depth) from None
    except MemoryError:
        raise DecodeError("there is no memory for what it says it holds") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {error}") from None
    _check_depth(value, limits.depth)
    return value


def _check_depth(value: Any, limit: int) -> None:
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for item in level
            if type(item) in (list, dict)
            for child in (item if type(item) is list else item.values())
        ]
        if not level:
            return
    raise LimitExceeded("nesting", limit + 1, limit)
