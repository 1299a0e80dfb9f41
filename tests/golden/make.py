"""Write the golden corpus of this folder; the same bytes every time.

    python tests/golden/make.py

Needs torch, for the kinds that hold its objects. What depends on the Python version (`PER_PYTHON`)
is written for the Python that runs; the files of other versions stay.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch._dynamo.package as package
from torch._functorch._aot_autograd.aot_autograd_result import BundledAOTAutogradCacheArtifact

from firebrick import codecs
from firebrick.codecs.graph import Op
from firebrick.codecs.guard_program import NUMBERS, GuardProgram, Term
from firebrick.codecs.launch import Autotuned, Launch
from firebrick.codecs.lean_backend import CudaGraphs, LeanBackend, LeanGraph
from firebrick.codecs.lean_program import (
    DYNAMIC_MARKS,
    Mutation,
    MutationKind,
    Output,
    OutputKind,
    Program,
    Tangent,
    Training,
    View,
)
from firebrick.codecs.lean_split import NO_PART, LeanSplit, Step, Steps
from firebrick.codecs.library import Library
from firebrick.codecs.triton import TritonKernel
from firebrick.storage.format import MANIFEST_VERSION, Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import Compiled, Fact, LeanForm, Manifest, NoLeanForm, Placement, Reached
from firebrick.storage.msgpack import pack, unpack

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.strategies import Shade, elf

FOLDER = Path(__file__).parent
PER_PYTHON = (
    *("code-function", "lean-backend", "lean-backend-device", "lean-backend-graphs", "lean-backend-triton"),
    "lean-split",
)
TAG = sys.implementation.cache_tag
HASH = "WUISSU76HOI4J6QWUMOB4QQNWSRMSVJ2EBMEFHA7VLULMZMFLNUQ"  # of the kernel in kernel/


def cycle() -> Any:
    value: Any = ["shared", {"list": []}]
    value[1]["list"] = value
    value.append(value[1])
    return value


def shared_tensors() -> Any:
    base = torch.arange(40, dtype=torch.int16)
    return [base[3:9], base[6:26].view(torch.float32).view(2, 5).t(), torch.empty(0)]


def entry() -> Any:
    source = package.InlinedSource("module_that_is_gone", 3, 9, "0" * 64, "def f(): ...\n")
    system = package.SystemInfo("3.11.0", "2.13.0", None, (0, 0), None)
    value = package._DynamoCacheEntry([], package.SourceInfo({source}), "cpu", system, "f", "3")
    value.note = {"kept": [1, 2]}  # type: ignore[attr-defined]
    return value


def kernel() -> TritonKernel:
    payloads = {path.name: path.read_bytes() for path in (FOLDER / "kernel" / HASH).iterdir()}
    return TritonKernel.from_payloads(HASH, payloads)


def function() -> Any:
    source = (
        "def f(x, /, y=1, *, z: int = 2):\n"
        "    '''Text.'''\n"
        "    return [x + i for i in (y, -0.0, 1e999, 3j, ...)], x in {'a', b'b'}, 1 << 80\n"
    )
    return compile(source, "/some/where/made.py", "exec")


def guard_program() -> GuardProgram:
    number = NUMBERS.__getitem__
    return GuardProgram(
        True, 256, "__builtins_dict___firebrick", [["__import_math", "math"]], [Term.DEVICE, "cpu", None],
        ["x", "L['x']", "{}"],
        [["L['x'] == 3"], ["check_type_id(L['x'], \0)"]],
        [3, [Term.TUPLE, 1.5, [Term.IDENTITY, 0]], [Term.LIST, None, 2]],
        [["class", "builtins:int", "00", 0]],
        [[0, 1, -1], [-1, 0, 2]],
        [["float32", "cuda", 0, False, 1 << 40]],
        [["no_functorch"], ["base_value", "int", 0], ["shapes", "if not L[0]:\n    return False"]],
        [
            [number("framelocals_manager"), 0, 0, 1, 0, 0],
            [number("add_type_match_guard"), 1, 0, 1],
            [number("add_equals_match_guard"), 1, 0, 0],
            [number("add_tensor_match_guard"), 1, 0, 2, 2, 1, 0, 0],
            [number("add_length_check_guard"), 1, -7, 0],
            [number("add_lambda_guard"), 0, 0, 0],
            [number("install_no_tensor_aliasing_guard"), -1, [1, 1], 0, 0],
            [number("mark_tag_safe"), 1],
        ],
    )  # fmt: skip


def lean_backend() -> LeanBackend:
    view = View("view", (False, False, "mode NeverView", (2, 3)))
    outputs = (
        Output(OutputKind.PLAIN, -1, True, True, False, None, None),
        Output(OutputKind.VIEW_OF_RESULT, 2, True, False, False, (view,), (0,)),
    )
    mutation = Mutation(0, MutationKind.RESTRIDE_COPY, False, True, False)
    tangents = (Tangent(0, "", (2, 3), (3, 1)), Tangent(1, "contiguous_format", (), ()))
    training = Training((1,), 4, 1, 2, ((0, (1,)),), tangents, False, (2,), False, True, True)
    program = Program(2, outputs, (mutation,), 1, (1,), None, "_dynamo_weak_dynamic_indices", training)
    library = Library("k.so", ("PyInit_kernel",), "avx2", ("avx2",), elf())
    code = compile("def call(args):\n    return args\n", "<firebrick>/wrapper.py", "exec")
    forward = LeanGraph(code, {"kernel": "ab"}, {"_tensor_constant0": torch.ones(2)}, (0,), (0,))
    return LeanBackend(program, forward, LeanGraph(code, {}, {}), {"ab": library})


def launch(block: int = 128) -> Launch:
    blocks = ("negative", ("divide", ("argument", 2), -block))
    rows = ("guarded", ("temporary", 0), ("maximum", ("argument", 1), ("temporary", 0), 1))
    return Launch(
        "add_one",
        f"(('XBLOCK', {block}), 4, 1)",
        90,
        3,
        (0, 2),
        "Oi",
        2,
        (blocks,),
        (blocks, rows, 1),
        4,
        0,
        kernel(),
    )


def lean_backend_triton() -> LeanBackend:
    program = Program(1, (), (), 0, (), None, DYNAMIC_MARKS[0], None)
    code = compile("def call(args):\n    return args\n", "<firebrick>/wrapper.py", "exec")
    kernels = {
        "a": Autotuned("ab", 0, False, (launch(), launch(256))),
        "b": Autotuned("", 1, True, (launch(),)),
    }
    return LeanBackend(program, LeanGraph(code, {}, {}, (), (), kernels), None, {})


def lean_backend_graphs() -> LeanBackend:
    program = Program(2, (), (), 0, (), None, DYNAMIC_MARKS[0], None)
    part = "def part(args):\n    return args\n\npartitions = [part]\n"
    source = f"{part}def call(args):\n    return partitions[0](args)\n"
    code = compile(source, "<firebrick>/wrapper.py", "exec")
    return LeanBackend(program, LeanGraph(code, {}, {}, cuda_graphs=CudaGraphs(1, ((0, 2),))), None, {})


def lean_backend_device() -> LeanBackend:
    program = Program(1, (), (), 0, (), None, DYNAMIC_MARKS[0], None)
    code = compile("def call(args):\n    return device_index\n", "<firebrick>/wrapper.py", "exec")
    return LeanBackend(program, LeanGraph(code, {}, {}, device=3), None, {})


def lean_split() -> LeanSplit:
    steps = Step(0, (0,), None), Step(NO_PART, (1,), 2), Step(1, (2, 0), 0)
    return LeanSplit(Steps(1, steps, (3, 0)), (lean_backend_device(), lean_backend_graphs()))


def key(number: int) -> ContentKey:
    return ContentKey(bytes([number]) * 32)


def manifest() -> Manifest:
    """Make the manifest of a frame on a GPU, with a graph break, for both lanes."""
    backends = {"__compiled_fn_01": key(1)}
    imports = {"__import_torch_dot_math": "math"}
    return Manifest(
        recipe=key(2),
        parts=key(3),
        process=[Fact("current GPU", [], "0"), Fact("torch.distributed.get_rank", [None, 1, "x"], "0")],
        buckets="26214400",
        reached=Reached(key(4), key(5), key(6)),
        compiled=Compiled(
            key(7), {"__resume_at_08": key(8)}, backends, imports, {"gpu": "H100"}, key(9), "ab" * 32, key(10)
        ),
        lean=LeanForm(key(11), imports, {"__compiled_fn_01": key(12)}, ["blas", "dnn"], Placement(0, "")),
    )


def manifest_of_a_skip() -> Manifest:
    return Manifest(key(2), key(3), [], "", None, None, NoLeanForm("off"))


# Name -> kind and the value that the file decodes to.
VALUES: dict[str, tuple[Kind, Any]] = {
    "backend-plain": (Kind.BACKEND, lambda: BundledAOTAutogradCacheArtifact("", {"a": [1, None]})),
    "code-function": (Kind.CODE, function),
    "manifest-of-both-lanes": (Kind.BUNDLE, manifest),
    "manifest-of-a-skip": (Kind.BUNDLE, manifest_of_a_skip),
    "dynamo-no-code": (Kind.DYNAMO, entry),
    "graph-containers": (
        Kind.GRAPH,
        lambda: {
            "dict": OrderedDict([("b", 1), ("a", {})]),
            "sets": [{3, "x", b"x", None, (1, 2)}, frozenset(), Counter("hello")],
            "slices": (slice(1, None, -1), range(0, 9, 3), bytearray(b"raw")),
        },
    ),
    "graph-cycle": (Kind.GRAPH, cycle),
    "graph-long-parts": (Kind.GRAPH, lambda: ["text " * 1000, b"bytes" * 1000, "text " * 1000]),
    "graph-scalars": (
        Kind.GRAPH,
        lambda: [
            None, True, 1, 1.0, -0.0, float("inf"), -1, 1 << 63, 1 << 64, -(1 << 70), 2 - 0.5j,
            "é\ud800", b"\0\xff", ..., torch.bfloat16, torch.strided, torch.channels_last,
            torch.device("cuda", 1), torch.Size([2, 0]),
        ],
    ),
    "graph-tensors": (Kind.GRAPH, shared_tensors),
    "guards-state": (
        Kind.GUARDS,
        lambda: pickle.dumps([OrderedDict(a=1), Counter, Shade, "G['x']"], 4),
    ),
    "lean-backend": (Kind.LEAN_BACKEND, lean_backend),
    "launch": (Kind.LAUNCH, launch),
    "lean-backend-device": (Kind.LEAN_BACKEND, lean_backend_device),
    "lean-backend-graphs": (Kind.LEAN_BACKEND, lean_backend_graphs),
    "lean-backend-triton": (Kind.LEAN_BACKEND, lean_backend_triton),
    "lean-split": (Kind.LEAN_SPLIT, lean_split),
    "guard-program": (Kind.GUARD_PROGRAM, guard_program),
    "library-two-needed": (
        Kind.LIBRARY,
        lambda: Library(
            "kernel.so", ("kernel", "more"), "avx2", ("avx2", "fma"),
            elf(("libstdc++.so.6", "libc.so.6"), soname="libkernel.so", extra=b"code"),
        ),
    ),
    "tensor-conjugate-parameter": (
        Kind.TENSOR,
        lambda: torch.nn.Parameter(torch.tensor([1 + 2j, -3j]).conj()),
    ),
    "tensor-view": (Kind.TENSOR, lambda: torch.arange(24.0).view(4, 6)[1:3, 1:4].t()),
    "text-lines": (Kind.TEXT, lambda: "a\r\nb\n\u2028\ud800"),
    "triton-add-one": (Kind.TRITON, kernel),
    "wrapper-source": (Kind.WRAPPER, lambda: "import torch\r\n\ndef call(args):\n\treturn args\n"),
}  # fmt: skip


def _graph(*nodes: Any) -> bytes:
    return pack([[list(map(_plain, n)) if isinstance(n, list) else n for n in nodes], [], len(nodes) - 1])


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Op) else value


def _changed(name: str, at: list[int], value: Any) -> bytes:
    """Encode a value of the corpus and replace one field of its msgpack body."""
    body = unpack(codecs.encode(VALUES[name][0], VALUES[name][1]()).root.data)
    place = body
    for index in at[:-1]:
        place = place[index]
    place[at[-1]] = value
    return pack(body)


def _root(name: str) -> bytes:
    return bytes(codecs.encode(VALUES[name][0], VALUES[name][1]()).root.data)


# Name, which is the defect -> kind, version, bytes, error and a part of its message.
ERRORS: dict[str, tuple[Kind, int, Any, str, str]] = {
    "backend-is-a-list": (
        Kind.BACKEND, 1, lambda: _graph([Op.LIST]), "DecodeError", "not a backend artifact",
    ),
    "code-of-another-python": (
        Kind.CODE, 1, lambda: pack(["cpython-27", b"\x03\xf3\r\n", []]), "UnknownVersion", "62211",
    ),
    "dynamo-names-a-function": (
        Kind.DYNAMO, 1, lambda: _graph([Op.GLOBAL, "builtins:eval"]), "ForbiddenGlobal", "eval",
    ),
    "graph-calls-a-shell": (
        Kind.GRAPH, 1, lambda: _graph([Op.GLOBAL, "posix:system"], "true", [Op.CALL, 0, 1]),
        "ForbiddenGlobal", "posix:system",
    ),
    "graph-byte-left-over": (
        Kind.GRAPH, 1, lambda: _root("graph-cycle") + b"\0", "DecodeError", "1 bytes left over",
    ),
    "graph-forward-reference": (
        Kind.GRAPH, 1, lambda: _graph([Op.LIST, 1], 5), "DecodeError", "node 0",
    ),
    "graph-item-twice": (Kind.GRAPH, 1, lambda: _graph(1, [Op.SET, 0, 0]), "DecodeError", "twice"),
    "graph-module-not-imported": (
        Kind.GRAPH, 1, lambda: _graph([Op.GLOBAL, "this:s"]), "ForbiddenGlobal", "not imported",
    ),
    "graph-nested-too-deeply": (
        Kind.GRAPH, 1, lambda: b"\x91" * 100 + b"\x01", "LimitExceeded", "nesting",
    ),
    "graph-of-version-2": (Kind.GRAPH, 2, lambda: _root("graph-cycle"), "UnknownVersion", "2"),
    "graph-unknown-operation": (Kind.GRAPH, 1, lambda: _graph([99]), "DecodeError", "99"),
    "guards-global-not-listed": (
        Kind.GUARDS, 1, lambda: _changed("guards-state", [0], []), "DecodeError", "other globals",
    ),
    "guards-opcode-inst": (
        Kind.GUARDS, 1, lambda: pack([[], b"(ios\nsystem\n."]), "DecodeError", "opcode 0x69",
    ),
    "manifest-field-to-come": (
        Kind.BUNDLE, MANIFEST_VERSION, lambda: _changed("manifest-of-both-lanes", ["colour"], 1),
        "DecodeError", "'colour', which is not known",
    ),
    "manifest-lean-without-guards": (
        Kind.BUNDLE, MANIFEST_VERSION, lambda: _changed("manifest-of-both-lanes", ["lean"], {"gpu": "x"}),
        "DecodeError", "a lean form without guards",
    ),
    "manifest-key-too-short": (
        Kind.BUNDLE, MANIFEST_VERSION, lambda: _changed("manifest-of-both-lanes", ["backends", "f"], b"key"),
        "DecodeError", "backends of a manifest: expected 32 bytes",
    ),
    "manifest-of-an-older-version": (
        Kind.BUNDLE, MANIFEST_VERSION, lambda: _changed("manifest-of-both-lanes", ["version"], 2),
        "UnknownVersion", "2",
    ),
    "part-of-a-lean-split-out-of-range": (
        Kind.LEAN_SPLIT, 1, lambda: pack([1, [[2, [0], None]], [1], []]), "DecodeError", "part 2 of 0",
    ),
    "base-of-a-lean-backend-out-of-range": (
        Kind.LEAN_BACKEND, 1,
        lambda: pack([[1, [[1, 1, False, False, False, None, None]], [], 0, [], None, DYNAMIC_MARKS[0], None],
                      None, None, []]),
        "DecodeError", "not a lean backend",
    ),
    "guard-program-operation-99": (
        Kind.GUARD_PROGRAM, 1, lambda: _changed("guard-program", [12, 0], [99, 0]),
        "DecodeError", "operation 99",
    ),
    "guard-program-of-a-manager-to-come": (
        Kind.GUARD_PROGRAM, 1, lambda: _changed("guard-program", [12, 1, 1], 9), "DecodeError", "manager of",
    ),
    "guard-program-unknown-function": (
        Kind.GUARD_PROGRAM, 1, lambda: _changed("guard-program", [11, 0], ["eval", "1"]),
        "DecodeError", "eval",
    ),
    "launch-of-an-argument-out-of-range": (
        Kind.LAUNCH, 1, lambda: _changed("launch", [4, 1], 3), "DecodeError", "argument 3 of 3",
    ),
    "library-for-another-machine": (
        Kind.LIBRARY, 1,
        lambda: _root("library-two-needed").replace(b"\3\0\x3e\0", b"\3\0\x08\0"),
        "DecodeError", "machine 8",
    ),
    "library-truncated": (
        Kind.LIBRARY, 1, lambda: _root("library-two-needed")[:-20], "DecodeError", "behind the file",
    ),
    "tensor-of-a-pdp-11": (
        Kind.TENSOR, 1, lambda: _root("tensor-view").replace(b"little", b"middle"),
        "DecodeError", "byte order 'middle'",
    ),
    "tensor-reaches-behind-its-storage": (
        Kind.TENSOR, 1, lambda: _root("tensor-view").replace(b"\x92\x03\x02", b"\x92\x04\x02"),
        "DecodeError", "reaches behind its storage",
    ),
    "text-is-not-utf8": (Kind.TEXT, 1, lambda: b"a\xff", "DecodeError", "invalid start byte"),
    "triton-leaves-its-directory": (
        Kind.TRITON, 1, lambda: _changed("triton-add-one", [1, 0, 0], "../x.json"),
        "DecodeError", "not a plain file name",
    ),
    "triton-without-a-binary": (
        Kind.TRITON, 1, lambda: pack([HASH, [["k.json", b"{}"]]]), "DecodeError", "no binary",
    ),
    "wrapper-has-a-surrogate": (
        Kind.WRAPPER, 1, lambda: b"x = '\xed\xa0\x80'\n", "DecodeError", "WRAPPER blob",
    ),
}  # fmt: skip


def file_name(name: str) -> str:
    """Name the file of a value; what depends on the Python version carries its tag."""
    return f"{name}.{TAG}.bin" if name in PER_PYTHON else f"{name}.bin"


def build() -> dict[str, bytes]:
    """Make every file of the corpus: name to contents, `index.json` among them."""
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {}
    for name, (kind, make) in VALUES.items():
        encoded = codecs.encode(kind, make())
        file = file_name(name)
        files[file] = bytes(encoded.root.data)
        children = []
        for number, blob in enumerate(encoded.children):
            child = f"{file.removesuffix('.bin')}.child{number}.bin"
            files[child] = bytes(blob.data)
            facts = {"kind": blob.kind.name, "version": blob.version, "key": blob.key.hex()}
            children.append({"file": child} | facts)
        facts = {"kind": kind.name, "version": encoded.root.version, "key": encoded.root.key.hex()}
        index[file] = facts | {"children": children}
    for name, (kind, version, make, error, reason) in ERRORS.items():
        files[f"{name}.bad"] = make()
        facts = {"kind": kind.name, "version": version, "error": error, "reason": reason}
        index[f"{name}.bad"] = facts
    files["index.json"] = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    return files


def main() -> None:
    """Write the corpus, keeping what was made by other Python versions."""
    path = FOLDER / "index.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    kept = {name: facts for name, facts in known.items() if name.startswith(PER_PYTHON) and TAG not in name}
    keeping = {*kept, *(child["file"] for facts in kept.values() for child in facts["children"])}
    for old in (*FOLDER.glob("*.bin"), *FOLDER.glob("*.bad")):
        if old.name not in keeping:
            old.unlink()
    files = build()
    index = json.loads(files.pop("index.json")) | kept
    files["index.json"] = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
