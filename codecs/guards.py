"""Store torch's pickled guard states, inspect them without running them, and unpickle by an allow-list.

The body is `[[name, …], pickle]`: the globals that the pickle names ("module:qualname", sorted), so that
tools can show them, and the pickle unchanged. A pickle whose globals differ from its list, or with an opcode
that could reach a global in another way, is refused.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from firebrick.codecs._globals import is_torch_constant, resolve
from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.errors import DecodeError, EncodeError, ForbiddenGlobal
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, pack, unpack

_LIMITS = Limits(depth=2)

# Opcodes of pickle protocols 4 and 5, and the bytes of their arguments. All others are refused: text opcodes,
# persistent references, the extension registry, out-of-band buffers, INST, OBJ and GLOBAL, which call or name
# in other ways, and PUT, whose operand decides the allocation.
_LENGTHS: Final = {
    **dict.fromkeys(b"(.012NRabd}el]st)u\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94", 0),
    **dict.fromkeys(b"\x80Kh", 1),
    ord("M"): 2,
    **dict.fromkeys(b"Jj", 4),
    **dict.fromkeys(b"G\x95", 8),
    # negative: a length of so many bytes precedes the argument
    **dict.fromkeys(b"C\x8a\x8c", -1),
    **dict.fromkeys(b"BX\x8b", -4),
    **dict.fromkeys(b"\x8d\x8e\x96", -8),
}
_REFUSED: Final = -9
_ARGUMENTS: Final = [_LENGTHS.get(code, _REFUSED) for code in range(256)]
_PROTO, _FRAME, _STOP, _STACK_GLOBAL, _MEMOIZE = 0x80, 0x95, 0x2E, 0x93, 0x94
_STRINGS, _GETS = frozenset(b"X\x8c\x8d"), frozenset(b"hj")


def _opcodes(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield code, start, start of the argument's contents and end of each opcode.

    Every byte belongs to one opcode.
    """
    at, size, arguments = 0, len(data), _ARGUMENTS
    while at < size:
        start, code = at, data[at]
        length = arguments[code]
        at += 1
        if length < 0:
            if length == _REFUSED:
                raise DecodeError(f"opcode {code:#x} is not allowed in a guard state")
            width = -length
            length = int.from_bytes(data[at : at + width], "little")
            at += width
        end = at + length
        if end > size:
            raise DecodeError(f"opcode {code:#x} ends {end - size} bytes behind the pickle")
        yield code, start, at, end
        at = end
        if code == _STOP:
            break
    if at != size or not size or data[-1] != _STOP:
        raise DecodeError(f"{size - at} bytes behind the pickle, or no end")


def scan(data: bytes | memoryview) -> list[str]:
    """Return the globals that a pickle names ("module:qualname"), sorted, without running it.

    Raises:
        DecodeError: Not one whole pickle of protocol 4 or 5, an opcode that could reach a global in
            another way, or a global whose name is not two plain strings.
    """
    data = bytes(memoryview(data))
    found: set[str] = set()
    memo: dict[int, str | None] = {}
    module: str | None = None  # the two values on top of the stack, if they are known strings
    name: str | None = None
    for code, _, start, end in _opcodes(data):
        if code in _STRINGS:
            module, name = name, _text(data, start, end)
        elif code == _MEMOIZE:
            memo[len(memo)] = name
        elif code in _GETS:
            module, name = name, memo.get(int.from_bytes(data[start:end], "little"))
        elif code == _STACK_GLOBAL:
            if module is None or name is None:
                raise DecodeError("a global of a guard state is not named by two plain strings")
            found.add(f"{module}:{name}")
            module = name = None
        elif code not in (_FRAME, _PROTO):
            module = name = None
    return sorted(found)


def replace(data: bytes, names: Mapping[str, str]) -> bytes:
    """Replace generated names in the strings of a pickle, also inside longer strings such as guard
    expressions.

    Args:
        data: A pickle that `scan` accepts.
        names: Names, which must be identifiers, to their replacements.

    Returns:
        A pickle whose frames fit their contents; the inverse replacement restores the original bytes.

    Raises:
        DecodeError: As `scan`.
    """
    present = sorted((name for name in names if name.encode() in data), key=len, reverse=True)
    if not present:
        return data
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, present)) + r")(?!\w)")
    hits = (match.start() for match in re.finditer(pattern.pattern.encode(), data))
    hit = next(hits, len(data))
    parts: list[bytes] = []
    done = 0  # `data` before this offset is in `parts`
    # of the current frame: its index in `parts`, its end in `data`, its length in the result
    frame = frame_end = frame_length = 0
    for code, start, argument, end in _opcodes(data):
        if code == _FRAME:
            parts += [data[done:start], data[start:end]]
            frame, done = len(parts) - 1, end
            frame_length = int.from_bytes(data[argument:end], "little")
            frame_end = end + frame_length
        elif hit < end:
            if code in _STRINGS:
                text = _text(data, argument, end)
                part = _string(pattern.sub(lambda match: names[match[0]], text))
                parts += [data[done:start], part]
                done = end
                if start < frame_end:
                    frame_length += len(part) - (end - start)
                    parts[frame] = bytes([_FRAME]) + frame_length.to_bytes(8, "little")
            while hit < end:
                hit = next(hits, len(data))
    return b"".join([*parts, data[done:]])


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return str(data[start:end], "utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DecodeError(f"a string of a guard state: {error}") from None


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    head = b"\x8c" + bytes([len(raw)]) if len(raw) < 256 else b"X" + len(raw).to_bytes(4, "little")
    return head + raw


class GuardUnpickler(pickle.Unpickler):
    """An unpickler of guard states that admits listed globals only.

    Args:
        data: The pickle.
        allowed: "module:qualname" of admitted globals.
        prefixes: Modules below which every class and function is admitted.

    Admitted modules are imported if necessary. A name must be the object's own, so that no module gives
    access to objects it imported.
    """

    def __init__(
        self, data: bytes | memoryview, allowed: Iterable[str], prefixes: Iterable[str] = ()
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = frozenset(allowed)
        self._prefixes = tuple(prefixes)

    def find_class(self, module: str, name: str) -> Any:
        """Return an admitted global; raise ForbiddenGlobal for any other."""
        full = f"{module}:{name}"
        admitted = full in self._allowed or any(
            module == p or module.startswith(p + ".") for p in self._prefixes
        )
        if not admitted:
            raise ForbiddenGlobal(full, "not on the list of the unpickler")
        if module not in sys.modules:
            __import__(module)
        if name.startswith("torch.") and "torch" in sys.modules:
            # Memory formats reduce to "torch.<name>", in any module with an attribute torch.
            constant = vars(sys.modules["torch"]).get(name.removeprefix("torch."))
            if is_torch_constant(constant):
                return constant
        return resolve(full)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse persistent references."""
        raise DecodeError("a guard state has no persistent references")


class GuardsCodec(Codec[bytes]):
    """The codec of pickled guard states, which are never unpickled here."""

    kind = Kind.GUARDS

    def encode(self, value: bytes, sink: Sink) -> bytes:
        """Return the list of globals and the pickle."""
        try:
            if not isinstance(value, bytes):
                raise EncodeError(type(value).__name__, reason="not a pickled guard state")
            return pack([scan(value), value], maps=False)
        except DecodeError as error:
            raise EncodeError("guard state", reason=error.reason) from None

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> bytes:
        """Return the pickle, after comparing its globals with the list."""
        names, state = self.open(data, version)
        found = scan(state)
        if found != names:
            first = next(iter(set(found) ^ set(names)), "the order")
            raise DecodeError(f"a guard state names other globals than its list: {first}")
        return state

    def open(self, data: bytes | memoryview, version: int = 1) -> tuple[list[str], bytes]:
        """Return list and pickle without comparing them, for tools that show them."""
        self.check_version(version)
        body = unpack(data, _LIMITS)
        if (
            type(body) is not list
            or len(body) != 2
            or type(body[0]) is not list
            or type(body[1]) is not bytes
        ):
            raise DecodeError("a guard state is [names, pickle]")
        if not all(type(name) is str for name in body[0]):
            raise DecodeError("a name of a guard state is not text")
        return body[0], body[1]
