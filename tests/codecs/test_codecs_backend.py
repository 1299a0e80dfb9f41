"""Backend artifacts of real compilations: the same bytes everywhere, and they run elsewhere."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
import torch._dynamo.source
from torch._functorch._aot_autograd.aot_autograd_result import (
    BundledAOTAutogradCacheArtifact,
    serialize_graph_module,
)
from torch._inductor.output_code import CompiledFxGraph
from torch.fx.experimental.symbolic_shapes import SymIntEqByExpr
from torch.utils._sympy.functions import FloorDiv, Max, Mod, ModularIndexing

from firebrick import codecs
from firebrick.codecs import _torch_reduce as reduce
from firebrick.codecs._torch_policy import policy
from firebrick.codecs.attached import LibrarySet
from firebrick.codecs.backend import decode_backend, encode_backend
from firebrick.codecs.dynamo import DynamoCodec
from firebrick.codecs.graph import Op, decode_graph, encode_graph
from firebrick.codecs.library import Library
from firebrick.errors import DecodeError, EncodeError, ForbiddenGlobal
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.places import PROGRAMS
from support.strategies import elf

pytestmark = pytest.mark.compiles

with warnings.catch_warnings():  # torch warns of functions of its own
    warnings.simplefilter("ignore")
    import torch._inductor.compile_fx  # decoding looks only at what is imported


def start(root: Path, name: str, call: str, seed: str) -> subprocess.Popen[bytes]:
    """Start a function of tests/programs/artifacts.py with caches and a directory of its own."""
    work = root / name / "deep" / name
    work.mkdir(parents=True)
    variables = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(PROGRAMS), "HOME": str(work)}
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(work / "caches")}
    code = f"import warnings; warnings.simplefilter('ignore'); import artifacts; artifacts.{call}"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=work, env=os.environ | variables | caches)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two processes, of which one compiles something else before; a third one that loads."""
    root = tmp_path_factory.mktemp("artifacts")
    first, second, loaded = root / "first.pkl", root / "second.pkl", root / "loaded.pkl"
    saving = [
        start(root, "a", f"save({str(first)!r}, ['train', 'graph_break'])", "1"),
        start(root, "bb", f"save({str(second)!r}, ['graph_break'])", "2"),
    ]
    assert [process.wait() for process in saving] == [0, 0]
    assert start(root, "c", f"load({str(first)!r}, {str(loaded)!r})", "3").wait() == 0
    results = [pickle.loads(path.read_bytes()) for path in (first, second, loaded)]
    return {"root": root, "first": results[0], "second": results[1], "loaded": results[2]}


CASES = pytest.mark.parametrize("case", ["train", "graph_break"])


def both(saved: dict[str, Any], what: str) -> Any:
    first, second = (saved[run]["graph_break"][what].values() for run in ("first", "second"))
    return zip(first, second, strict=True)


def test_two_processes_encode_the_same_bytes(saved: dict[str, Any]) -> None:
    assert len(saved["first"]["graph_break"]["backends"]) == 2
    for (body, blobs, volatile), (other, others, count) in both(saved, "backends"):
        assert body == other
        assert blobs == others
        assert volatile == count > 10


def test_two_processes_encode_the_same_dynamo_entry(saved: dict[str, Any]) -> None:
    """Guard states apart: torch pickles hashes into them, which capture takes out."""
    for (body, blobs, names), (other, others, more) in both(saved, "entries"):
        assert list(names.values()) == list(more.values())
        assert names != more
        keys = [[key for key, blob in found.items() if blob.kind == Kind.GUARDS] for found in (blobs, others)]
        for mine, theirs in zip(*keys, strict=True):
            body = body.replace(bytes(mine), bytes(theirs))
        assert body == other
        assert blobs.keys() - set(keys[0]) == others.keys() - set(keys[1])


@CASES
def test_another_process_runs_them_without_compiling(saved: dict[str, Any], case: str) -> None:
    assert saved["loaded"][case]["values"] == saved["first"][case]["values"]


def test_nothing_was_traced_or_lowered_there(saved: dict[str, Any]) -> None:
    assert (saved["loaded"]["hits"], saved["loaded"]["graphs"]) == (2, 0)


@CASES
def test_extra_attributes_survive(saved: dict[str, Any], case: str) -> None:
    backends = len(saved["first"][case]["backends"])
    assert saved["loaded"][case]["private"] == [42] * backends + [[42]]


@CASES
def test_no_path_name_or_time_is_in_the_bytes(saved: dict[str, Any], case: str) -> None:
    recorded = saved["first"][case]
    for key, (body, blobs, _) in recorded["backends"].items():
        for data in (body, *(blob.data for blob in blobs.values())):
            assert key.encode() not in data
            assert os.fsencode(saved["root"]) not in data
            assert os.fsencode(PROGRAMS) not in data
    for body, blobs, names in recorded["entries"].values():
        kinds = (blob for blob in blobs.values() if blob.kind != Kind.GUARDS)
        for data in (body, *(blob.data for blob in kinds)):
            assert os.fsencode(PROGRAMS) not in data
            assert not any(name.encode() in data for name in names)


@CASES
def test_wrappers_are_children(saved: dict[str, Any], case: str) -> None:
    for body, blobs, _ in saved["first"][case]["backends"].values():
        wrappers = [blob.data for blob in blobs.values() if blob.kind == Kind.WRAPPER]
        assert len(wrappers) == 2
        assert all(b"def call(" in text for text in wrappers)
        assert b"def call(" not in body


def first_of(saved: dict[str, Any], case: str = "train") -> tuple[bytes, Any]:
    body, blobs, _ = next(iter(saved["first"][case]["backends"].values()))
    return body, blobs.__getitem__


def test_an_artifact_comes_back_whole_and_encodes_the_same(saved: dict[str, Any]) -> None:
    body, source = first_of(saved)
    artifact = decode_backend(body, source, key="__compiled_fn_9")
    assert type(artifact) is BundledAOTAutogradCacheArtifact
    assert list(vars(artifact)) == ["key", "content"]
    assert artifact.key == "__compiled_fn_9"
    graph = artifact.content.compiled_fw.result
    assert graph.cache_linemap is None
    sink = codecs.Collector()
    again, volatile = encode_backend(artifact, sink)
    assert again == body
    assert set(volatile) == {None}
    assert artifact.key == "__compiled_fn_9"
    with_times = decode_backend(body, source, key="", volatile=list(range(len(volatile))))
    assert encode_backend(with_times, sink) == (body, list(range(len(volatile))))
    copied = copy.deepcopy(artifact)
    assert encode_backend(copied, sink)[0] == body


def test_the_file_of_a_wrapper_is_named_as_torch_would(saved: dict[str, Any]) -> None:
    from torch._inductor.codecache import code_hash

    graph = decode_backend(*first_of(saved), key="").content.compiled_fw.result
    assert graph.cache_key == code_hash(graph.source_code)
    assert "# AOT ID: ['forward']" in graph.source_code


def test_libraries_of_a_graph_become_children(saved: dict[str, Any]) -> None:
    body, source = first_of(saved)
    artifact = decode_backend(body, source, key="")
    library = Library("k.so", ("kernel",), "avx2", ("avx2",), elf())
    artifact.content.compiled_fw.result._firebrick_libraries = LibrarySet({"b": library})
    sink = codecs.Collector()
    body, _ = encode_backend(artifact, sink)
    assert [blob.kind for blob in sink.blobs.values()].count(Kind.LIBRARY) == 1
    back = decode_backend(body, sink.blobs.__getitem__, key="")
    libraries = back.content.compiled_fw.result._firebrick_libraries
    assert type(libraries) is LibrarySet
    assert libraries == {"b": library}


def test_what_torch_can_not_travel_with_is_refused_with_its_place(saved: dict[str, Any]) -> None:
    body, source = first_of(saved)
    artifact = decode_backend(body, source, key="")
    artifact.content.compiled_fw.example = [lambda: None]
    with pytest.raises(EncodeError) as caught:
        encode_backend(artifact, codecs.Collector())
    assert caught.value.where == ".content.compiled_fw.example[0]"
    artifact = decode_backend(body, source, key="")
    artifact.content.runtime_metadata.lock = torch.nn.Linear(1, 1)
    with pytest.raises(ForbiddenGlobal) as forbidden:
        encode_backend(artifact, codecs.Collector())
    assert forbidden.value.name == "torch.nn.modules.linear:Linear"
    artifact = decode_backend(body, source, key="")
    artifact.content.compiled_fw.result.current_callable = print
    with pytest.raises(EncodeError) as unprepared:
        encode_backend(artifact, codecs.Collector())
    assert "prepared" in unprepared.value.reason


def test_graphs_in_a_serialised_graph_are_made_when_torch_asks_for_it_and_not_before() -> None:
    x, root = torch.arange(3.0), torch.nn.Module()
    root.inner = torch.fx.symbolic_trace(lambda y: y.sin() + 1)
    root.other = torch.nn.Identity()
    graph = torch.fx.Graph()
    y = graph.placeholder("y")
    graph.output(graph.call_function(torch.add, (graph.call_module("inner", (y,)), y)))
    serialized = serialize_graph_module(torch.fx.GraphModule(root, graph))
    sink, made = codecs.Collector(), list[Any]()
    body, _ = encode_graph(serialized, policy(), sink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fx.graph_module, "_forward_from_src", lambda *source: made.append(source))
        back = decode_graph(body, policy(), sink.blobs.__getitem__)
    assert made == []
    assert torch.equal(back.deserialize()(x), x.sin() + 1 + x)
    assert torch.equal(trip(back).deserialize()(x), x.sin() + 1 + x)


def test_only_artifacts_are_encoded_and_decoded() -> None:
    with pytest.raises(EncodeError):
        codecs.encode(Kind.BACKEND, {"key": "x"})
    body = codecs.encode(Kind.GRAPH, [1]).root.data
    with pytest.raises(DecodeError, match="not a backend artifact"):
        codecs.decode(Kind.BACKEND, 1, body, {}.__getitem__)


def test_an_artifact_that_names_a_shell_is_refused(saved: dict[str, Any]) -> None:
    nodes, storages, root = unpack(first_of(saved)[0])
    at = next(i for i, n in enumerate(nodes) if type(n) is list and "reduce_graph_module" in str(n))
    nodes[at] = [Op.GLOBAL, f"{os.system.__module__}:system"]
    with pytest.raises(ForbiddenGlobal) as caught:
        decode_backend(pack([nodes, storages, root]), first_of(saved)[1], key="")
    assert caught.value.name == f"{os.system.__module__}:system"


def trip(value: Any) -> Any:
    sink = codecs.Collector()
    body, _ = encode_graph(value, policy(), sink)
    return decode_graph(body, policy(), sink.blobs.__getitem__)


S0, S1 = sympy.Symbol("s0", positive=True, integer=True), sympy.Symbol("u1", integer=True)


@pytest.mark.parametrize(
    "expression",
    [
        sympy.Integer(5), sympy.S.Zero, sympy.S.One, sympy.S.NegativeOne, sympy.S.Half,
        sympy.Rational(-7, 3), S0, S1, S0 * 2 + S1 - 1, S0**2, FloorDiv(S0 + 3, 4), Mod(S0, S1),
        ModularIndexing(S0, 2, 3), Max(S0, S1 + 1),
    ],
    ids=str,
)  # fmt: skip
def test_symbolic_sizes_survive(expression: Any) -> None:
    size = object.__new__(SymIntEqByExpr)
    size.val = expression
    back = trip([size, expression, expression])
    assert type(back[0]) is SymIntEqByExpr
    assert back[0].val == expression
    assert back[1] is back[2]
    assert type(back[1]) is type(expression)
    assert back[1].free_symbols == expression.free_symbols


def test_text_never_reaches_sympys_parser(tmp_path: Path) -> None:
    made = tmp_path / "made"
    evil = f"__import__('pathlib').Path({str(made)!r}).touch()"
    rebuild = [Op.GLOBAL, "firebrick.codecs._torch_reduce:expression"]
    for name in ("sympy.core.mul:Mul", "torch.utils._sympy.functions:FloorDiv"):
        nodes = [rebuild, [Op.GLOBAL, name], evil, [Op.CALL, 0, 1, 2, 2]]
        with pytest.raises(DecodeError, match="not an expression"):
            decode_graph(pack([nodes, [], 3]), policy(), {}.__getitem__)
    assert not made.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda: reduce.expression(list, 1),
        lambda: reduce.expression(sympy.Symbol, 5, ()),
        lambda: reduce.expression(sympy.Symbol, "x", (("real", "maybe"),)),
        lambda: reduce.expression(sympy.Integer, 1, 0),
        lambda: reduce.expression(sympy.Integer, "1", 1),
        lambda: reduce.kernel_artifacts("kernel", 0),
        lambda: reduce.cache_path("..", "x"),
        lambda: reduce.cache_path("a/b", "x"),
        lambda: reduce.cache_path(5),
    ],
    ids=range(9),
)
def test_a_rebuilding_function_refuses_what_it_does_not_expect(call: Any) -> None:
    with pytest.raises(DecodeError):
        call()


def test_comments_of_a_wrapper_lose_counts_and_directories() -> None:
    source = (
        "# AOT ID: ['12_backward']\nimport torch\n"
        "# kernel path: /tmp/cache/ab/cabc.py\n  # kernel path: C:\\x\\cdef.py\nx = '# AOT ID: [0_'\n"
    )
    expected = (
        "# AOT ID: ['backward']\nimport torch\n"
        "# kernel path: cabc.py\n  # kernel path: cdef.py\nx = '# AOT ID: [0_'\n"
    )
    assert reduce.wrapper_text(source) == expected
    assert reduce.wrapper_text(expected) == expected


def test_the_policy_calls_constructors_and_nothing_else() -> None:
    names = policy().callables
    sources = {name for name in names if name.startswith("torch._dynamo.source:")}
    assert "torch._dynamo.source:LocalSource" in sources
    assert "torch._dynamo.source:AttrSource" in sources
    base = torch._guards.Source
    assert all(issubclass(getattr(torch._dynamo.source, n.partition(":")[2]), base) for n in sources)
    rest = sorted(name for name in names - sources if "_functionalization:" not in name)
    assert rest == [
        "firebrick.codecs._torch_reduce:cache_path",
        "firebrick.codecs._torch_reduce:expression",
        "firebrick.codecs._torch_reduce:kernel_artifacts",
        "firebrick.codecs.attached:library_set",
        "inspect:Parameter",
        "inspect:Parameter.__setstate__",
        "inspect:Signature",
        "inspect:Signature.__setstate__",
        "torch._inductor.runtime.autotune_cache:AutotuneCache.__setstate__",
        "torch._inductor.runtime.triton_heuristics:CachingAutotuner.__setstate__",
        "torch._inductor.runtime.triton_heuristics:InductorConfig.__setstate__",
        "torch.utils._ordered_set:OrderedSet",
        "triton.runtime.autotuner:Config.__setstate__",
    ]


def test_volatile_attributes_are_attributes_of_torch() -> None:
    fields = set(CompiledFxGraph.__dataclass_fields__) | {"inductor_provenance_stack_traces_str"}
    assert policy().volatile["torch._inductor.output_code:CompiledFxGraph"] <= fields


@CASES
def test_dynamo_entries_come_back_equal(saved: dict[str, Any], case: str) -> None:
    for body, blobs, names in saved["first"][case]["entries"].values():
        back = {canonical: name for name, canonical in names.items()}
        entry = DynamoCodec().decode(body, blobs.__getitem__, 1, back)
        sink = codecs.Collector()
        assert DynamoCodec().encode(entry, sink, names) == body
        assert sink.blobs.keys() == blobs.keys()
