"""Encode one compiled Triton kernel: its directory in Triton's cache.

The body is `[kernel hash, [[file name, bytes], …]]`, sorted by name. Paths in the JSON files are replaced:
the directory's by `[REPLACE]`, as torch's TritonBundler does, and the installed triton package's by
`[TRITON]`.

Triton's intermediate representations are dropped unless asked for: nothing that loads a kernel reads them,
and they are most of the bytes. Triton's own list of the directory names them still; it loses them when the
files are put down, since Triton 3.8 compiles again where a file of the list is missing.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from firebrick.codecs.abc import Codec, Sink, Source
from firebrick.errors import CodecError, DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import Limits, pack, unpack

DIRECTORY: Final = b"[REPLACE]"  # triton_bundler.TritonBundler._REPLACE_BYTES
PACKAGE: Final = b"[TRITON]"
INTERMEDIATE: Final = frozenset({".ttir", ".ttgir", ".llir", ".ptx", ".source", ".amdgcn"})
BINARIES: Final = frozenset({".cubin", ".hsaco", ".zebin", ".spv"})
MAX_FILES: Final = 64

_LIMITS = Limits(depth=3, items=MAX_FILES)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}\Z")
_INSTALLED = re.compile(rb'"(/[^"\n]*?|[A-Za-z]:[^"\n]*?)/triton/backends/')


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """One kernel: the hash that names its directory, and its files, sorted by name.

    The files hold placeholders for paths.
    """

    kernel_hash: str
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def from_bundled(cls, kernel: Any) -> TritonKernel:
        """Make a kernel from torch's ``TritonKernelArtifacts``; raises as `from_payloads`."""
        return cls.from_payloads(kernel.kernel_hash, {a.filename: a.payload for a in kernel.artifacts})

    @classmethod
    def from_payloads(
        cls, kernel_hash: str, payloads: Mapping[str, bytes], *, intermediate: bool = False
    ) -> TritonKernel:
        """Make a kernel from files whose directory is already replaced by `[REPLACE]`.

        Args:
            kernel_hash: Name of the directory.
            payloads: File name to contents.
            intermediate: Keep the intermediate representations too.

        Raises:
            EncodeError: A JSON file holds `[TRITON]`, a name is not a plain file name, or there is
                no binary.
        """
        files = []
        for name, data in sorted(payloads.items()):
            if os.path.splitext(name)[1] in INTERMEDIATE and not intermediate:
                continue
            if name.endswith(".json"):
                if PACKAGE in data:
                    raise EncodeError("Triton kernel", name, "it holds a placeholder already")
                data = _INSTALLED.sub(b'"' + PACKAGE + b"/backends/", data)
            files.append((name, bytes(memoryview(data))))
        kernel = cls(kernel_hash, tuple(files))
        if reason := kernel._fault():
            raise EncodeError("Triton kernel", kernel_hash, reason)
        return kernel

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str], *, intermediate: bool = False) -> TritonKernel:
        """Read a directory of Triton's cache; raise OSError, or EncodeError as `from_payloads`."""
        directory = os.path.abspath(path)
        payloads = {}
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                data = file.read()
            if name.endswith(".json"):
                if DIRECTORY in data:
                    raise EncodeError("Triton kernel", name, "it holds a placeholder already")
                data = data.replace(os.fsencode(directory), DIRECTORY)
            payloads[name] = data
        return cls.from_payloads(os.path.basename(directory), payloads, intermediate=intermediate)

    def payloads(self, directory: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
        """Return the files with the path of this machine's triton, and `directory`, filled in."""
        package = _triton_directory()
        result = {}
        for name, data in self.files:
            if name.endswith(".json"):
                data = self._listing(data) if name.startswith("__grp__") else data
                data = data.replace(PACKAGE, package) if package else data
                data = data if directory is None else data.replace(DIRECTORY, os.fsencode(directory))
            result[name] = data
        return result

    def _listing(self, data: bytes) -> bytes:
        """Return Triton's list of the directory without files that were dropped."""
        try:
            listing = json.loads(data)
            paths = {name: path for name, path in listing["child_paths"].items() if name in dict(self.files)}
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return data  # no list that Triton could read
        same = len(paths) == len(listing["child_paths"])
        return data if same else json.dumps(listing | {"child_paths": paths}).encode()

    def _fault(self) -> str:
        names = [name for name, _ in self.files]
        if bad := [name for name in (self.kernel_hash, *names) if not _PLAIN_NAME.match(name)]:
            return f"{bad[0]!r:.80} is not a plain file name"
        if names != sorted(set(names)):
            return "files are not sorted, or there twice"
        if len(names) > MAX_FILES:
            return f"{len(names)} files"
        binaries = [name for name in names if os.path.splitext(name)[1] in BINARIES]
        if len(binaries) != 1:  # one of several would be loaded here, perhaps another by Triton
            return f"{len(binaries)} binaries" if binaries else "no binary"
        return ""

    @property
    def metadata(self) -> dict[str, Any]:
        """Return Triton's description of the kernel; raise DecodeError if there is none."""
        text = next(
            (data for name, data in self.files if name.endswith(".json") and not name.startswith("__grp__")),
            b"",
        )
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"metadata of kernel {self.kernel_hash}: {error}") from None
        if not isinstance(parsed, dict):
            raise DecodeError(f"metadata of kernel {self.kernel_hash} is not a map")
        return parsed

    def _fact(self, name: str, kind: type) -> Any:
        value = self.metadata.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DecodeError(f"kernel {self.kernel_hash}: {name} is {value!r:.40}, expected {kind.__name__}")
        return value

    @property
    def symbol(self) -> str:
        """The name of the entry point in the binary."""
        return str(self._fact("name", str))

    @property
    def shared(self) -> int:
        """The bytes of dynamic shared memory."""
        return int(self._fact("shared", int))

    @property
    def num_warps(self) -> int:
        """The warps per block."""
        return int(self._fact("num_warps", int))

    @property
    def target(self) -> tuple[str, int | str, int]:
        """Back end, architecture (90 for sm_90, a name for AMD) and threads per warp."""
        target = self._fact("target", dict)
        try:
            return str(target["backend"]), target["arch"], int(target["warp_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"kernel {self.kernel_hash}: target {target!r:.80}: {error}") from None

    @property
    def binary(self) -> bytes:
        """The bytes that the driver loads."""
        return next(data for name, data in self.files if os.path.splitext(name)[1] in BINARIES)


@functools.cache
def _triton_directory() -> bytes:
    try:
        spec = importlib.util.find_spec("triton")
    except (ImportError, ValueError):
        spec = None
    return os.fsencode(os.path.dirname(spec.origin)) if spec and spec.origin else b""


class TritonCodec(Codec[TritonKernel]):
    """The codec of TritonKernel, unchanged; the kernel's constructor decides what to drop."""

    kind = Kind.TRITON

    def encode(self, value: TritonKernel, sink: Sink) -> bytes:
        """Return hash and files."""
        if not isinstance(value, TritonKernel):
            raise EncodeError(type(value).__name__, reason="not a TritonKernel")
        if reason := value._fault():
            raise EncodeError("Triton kernel", value.kernel_hash, reason)
        return pack([value.kernel_hash, [list(file) for file in value.files]], maps=False)

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> TritonKernel:
        """Read hash and files, refusing names that could leave the kernel's directory."""
        self.check_version(version)
        try:
            kernel_hash, files = unpack(data, _LIMITS)
            kernel = TritonKernel(
                str(kernel_hash), tuple((name, bytes(memoryview(file))) for name, file in files)
            )
            reason = kernel._fault()
        except CodecError:
            raise
        except (TypeError, ValueError) as error:
            raise DecodeError(f"not a Triton kernel: {error}") from None
        if reason:
            raise DecodeError(f"not a Triton kernel: {reason}")
        return kernel
