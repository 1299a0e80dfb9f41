"""Triton kernels are captured, stored and launched without Triton; no test here needs a GPU.

Kernels are real ones where Triton is installed: it assembles for a GPU that is not there.
"""

import contextlib
import re
import types

import pytest
import torch

from firebrick import codecs
from firebrick.base.patches import Patches
from firebrick.capture import triton_kernels
from firebrick.capture.wrapper_source import rewrite
from firebrick.codecs.launch import Autotuned, Choice, Launch
from firebrick.codecs.lean_backend import CudaGraphs, LeanBackend, LeanBackendCodec, LeanGraph
from firebrick.codecs.lean_program import DYNAMIC_MARKS, Program
from firebrick.codecs.triton import TritonKernel
from firebrick.errors import DecodeError, EncodeError, NotLean, Unsupported
from firebrick.loader.autotune import CONTEXT, DESCENDED, LAUNCHED, WINNERS, AutotuneResults
from firebrick.loader.autotune_choice import Launches
from firebrick.reports.not_served import Miss
from firebrick.runtime import assemble as runtime_backend
from firebrick.runtime import cuda_warmup, load
from firebrick.runtime import triton_launch as runtime
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from firebrick.storage.store import Store

FACTS = b'{"name": "add", "shared": 0, "num_warps": 4, "target": {"backend": "cuda", "arch": 90}}'
KERNEL = TritonKernel("HASH", (("add.cubin", b"\x7fELF of add"), ("add.json", FACTS)))
BLOCKS = ("negative", ("divide", ("argument", 2), -128))
LAUNCH = Launch(
    "add", "((('XBLOCK', 128),), 4, 1)", 90, 3, (0, 1, 2), "OOi", 2, (), (BLOCKS, 1, 1), 4, 16, KERNEL
)
OTHER = LAUNCH._replace(configuration="other", grid=(7, 1, 1))
PLAIN = Program(0, (), (), 0, (), None, DYNAMIC_MARKS[0], None)
CODE = compile("def call(args): return args", "wrapper.py", "exec")


class Launcher:
    """A launcher that keeps what it is asked for; kernels are handles that count up."""

    def __init__(self, *, release="2.11"):
        self.release, self.loads, self.launches = release, [], []

    def _load_kernel(self, path, name, shared, device):
        with open(path, "rb") as file:
            self.loads.append((file.read(), name, shared, device))
        found = (len(self.loads), 32, 0)
        return found if self.release == "2.11" else ("module", *found)

    def _launch_kernel(self, *arguments):
        self.launches.append(arguments)


@pytest.fixture(params=["2.11", "2.13"])
def launcher(request, monkeypatch):
    """The static launcher of both releases, on a machine with one GPU of sm_90."""
    made = Launcher(release=request.param)
    monkeypatch.setattr(runtime, "static_launcher", lambda: made)
    monkeypatch.setattr(runtime, "_loaded", {})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return made


# Launching.


def test_a_kernel_is_loaded_at_its_first_launch_and_once(launcher):
    kernel, same = runtime.TritonLauncher(LAUNCH), runtime.TritonLauncher(LAUNCH)
    assert launcher.loads == []
    kernel.run("x", "out", 1000, stream=5)
    kernel.run("y", "out", 128, stream=6)
    same.run("z", "out", 129, stream=7)
    assert launcher.loads == [(b"\x7fELF of add", "add", 16, 0)]
    assert launcher.launches == [
        (1, 8, 1, 1, 4, 16, "OOiOO", ("x", "out", 1000, None, None), 5),
        (1, 1, 1, 1, 4, 16, "OOiOO", ("y", "out", 128, None, None), 6),
        (1, 2, 1, 1, 4, 16, "OOiOO", ("z", "out", 129, None, None), 7),
    ]


@pytest.mark.parametrize(("busy", "current", "loads"), [(True, 0, 1), (True, 1, 0), (False, 0, 0)])
def test_while_libraries_are_opened_kernels_are_loaded_early(launcher, monkeypatch, busy, current, loads):
    monkeypatch.setattr(cuda_warmup, "are_opening", lambda: busy)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    kernels = {"k": Autotuned("", 0, False, (LAUNCH,))}
    load(LeanBackend(PLAIN, LeanGraph(CODE, {}, {}, (), (), kernels), None, {}), None)
    assert len(launcher.loads) == loads
    assert launcher.launches == []


def test_devices_have_functions_of_their_own(launcher, monkeypatch):
    runtime.TritonLauncher(LAUNCH).run(1, 2, 3, stream=0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    runtime.TritonLauncher(LAUNCH).run(1, 2, 3, stream=0)
    assert [load[3] for load in launcher.loads] == [0, 1]
    assert [launch[0] for launch in launcher.launches] == [1, 2]


def test_only_what_the_kernel_takes_is_passed(launcher):
    launch = LAUNCH._replace(passed=(1,), letters="O", scratch=0, grid=(("argument", 2), 1, ("argument", 0)))
    runtime.TritonLauncher(launch).run(3, "out", 5, stream=0)
    assert launcher.launches[0][1:] == (5, 1, 3, 4, 16, "O", ("out",), 0)


def test_profiles_name_the_kernel(launcher):
    from torch.profiler import ProfilerActivity, profile

    kernel = runtime.TritonLauncher(LAUNCH)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        kernel.run(torch.ones(2), torch.ones(2), 2, stream=0)
    assert "add" in {event.key for event in seen.key_averages()}
    assert len(launcher.launches) == 1


def test_a_backend_is_not_moved_to_a_device_of_another_kind(launcher, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9 + device, 0))
    graph = LeanGraph(CODE, {}, {}, (), (), {"k": Autotuned("", 0, False, (LAUNCH,))}, None, 0)
    load(LeanBackend(PLAIN, graph, None, {}), None)
    with pytest.raises(Unsupported, match="a kernel for sm_90, device 1 is sm_100"):
        load(LeanBackend(PLAIN, graph, None, {}), None, device=1)


@pytest.mark.parametrize(
    ("changes", "device", "reason"),
    [
        ({"architecture": 80}, 0, "a kernel for sm_80, device 0 is sm_90"),
        ({"architecture": 100}, 0, "a kernel for sm_100, device 0 is sm_90"),
        ({}, 1, "no CUDA device 1"),
    ],
)
def test_a_device_of_another_kind_is_refused_before_anything_is_loaded(launcher, changes, device, reason):
    kernels = {"k": Autotuned("", device, False, (LAUNCH._replace(**changes),))}
    with pytest.raises(Unsupported, match=reason):
        load(LeanBackend(PLAIN, LeanGraph(CODE, {}, {}, (), (), kernels), None, {}), None)
    assert launcher.loads == []


def test_a_torch_without_cuda_is_refused(monkeypatch):
    monkeypatch.delattr(torch._C, "_StaticCudaLauncher", raising=False)
    with pytest.raises(Unsupported, match="without a launcher"):
        runtime.TritonLauncher(LAUNCH)


# What is stored.


def stored(value, kind=Kind.LAUNCH):
    encoded = codecs.encode(kind, value)
    blobs = {blob.key: StoredBlob(blob.kind, blob.version, bytes(blob.data)) for blob in encoded.children}
    return encoded, blobs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passed": (3,), "letters": "O"}, "takes argument 3 of 3"),
        ({"letters": "O"}, "types 'O' of 3 arguments"),
        ({"letters": "OOx"}, "types 'OOx'"),
        ({"scratch": 3}, "scratch 3, expected 0 to 2"),
        ({"warps": 0}, "warps 0"),
        ({"shared": -1}, "shared memory -1"),
        ({"architecture": True}, "architecture True"),
        ({"symbol": "a b"}, "'a b' is no symbol"),
        ({"grid": (1, 1)}, "a grid of 2 dimensions"),
        ({"grid": (1, 1, "x")}, "'x' is no expression"),
        ({"grid": (1, 1, ("eval", 1))}, "is no expression"),
        ({"grid": (1, 1, ("add", 1))}, "add of 1 operands"),
        ({"grid": (1, 1, ("argument", 3))}, "argument 3 of 3"),
        ({"grid": (1, 1, ("temporary", 0))}, "temporary 0 of 0"),
        ({"temporaries": (("temporary", 0),)}, "temporary 0 of 0"),
    ],
)
def test_what_a_launch_may_not_say_is_refused(changes, reason):
    with pytest.raises(EncodeError, match=reason):
        stored(LAUNCH._replace(**changes))


def test_two_graphs_with_one_kernel_store_it_once():
    kernels = {"a": Autotuned("s", 0, False, (LAUNCH, OTHER)), "b": Autotuned("t", 0, True, (LAUNCH,))}
    graph = LeanGraph(CODE, {}, {}, (), (), kernels)
    encoded, blobs = stored(LeanBackend(PLAIN, graph, None, {}), Kind.LEAN_BACKEND)
    assert [blob.kind for blob in encoded.children].count(Kind.TRITON) == 1
    assert [blob.kind for blob in encoded.children].count(Kind.LAUNCH) == 2
    back = codecs.decode(Kind.LEAN_BACKEND, 1, encoded.root.data, blobs.__getitem__)
    assert back.forward.launches == kernels


def test_only_the_configuration_that_is_chosen_is_read():
    graph = LeanGraph(CODE, {}, {}, (), (), {"a": Autotuned("s", 3, False, (LAUNCH, OTHER))})
    encoded, blobs = stored(LeanBackend(PLAIN, graph, None, {}), Kind.LEAN_BACKEND)
    asked, read = [], []

    def source(key):
        read.append(blobs[key].kind)
        return blobs[key]

    def choose(choice):
        asked.append(choice)
        return 1

    codec = LeanBackendCodec()
    back = codec.choosing(encoded.root.data, source, 1, choose)
    assert asked == [Choice("s", 3, False, (LAUNCH.configuration, "other"))]
    assert back.forward.launches["a"].launches == (OTHER,)
    assert read.count(Kind.LAUNCH) == read.count(Kind.TRITON) == 1
    elsewhere = OTHER._replace(configuration="found later")
    back = codec.choosing(encoded.root.data, source, 1, lambda choice: elsewhere)
    assert back.forward.launches["a"].launches == (elsewhere,)


def test_a_kernel_without_configurations_or_with_one_twice_is_not_stored():
    for launches in ((), (LAUNCH, LAUNCH)):
        graph = LeanGraph(CODE, {}, {}, (), (), {"a": Autotuned("s", 0, False, launches)})
        with pytest.raises(EncodeError, match="not all different"):
            stored(LeanBackend(PLAIN, graph, None, {}), Kind.LEAN_BACKEND)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([[]], "nothing where something belongs"),
        ([[], None], "nothing where something belongs"),
        ([[], None, None], "nothing where something belongs"),
        ([[], None, 0, 1], "9 fields of a graph"),
        ([[], None, -1], "a graph for device -1"),
        ([[], None, True], "a graph for device True"),
    ],
)
def test_there_is_one_form_of_what_a_graph_lacks(more, reason):
    encoded, blobs = stored(LeanBackend(PLAIN, LeanGraph(CODE, {}, {}), None, {}), Kind.LEAN_BACKEND)
    body = unpack(encoded.root.data)
    body[1] += more
    with pytest.raises(DecodeError, match=reason):
        codecs.decode(Kind.LEAN_BACKEND, 1, pack(body), blobs.__getitem__)


@pytest.mark.parametrize("graphs", [None, CudaGraphs(2, ((0,),))])
@pytest.mark.parametrize("kernels", [{}, {"a": Autotuned("s", 2, False, (LAUNCH,))}])
@pytest.mark.parametrize("device", [None, 0, 2])
def test_a_graph_comes_back_with_its_device(graphs, kernels, device):
    graph = LeanGraph(CODE, {}, {}, (), (), kernels, graphs, device)
    encoded, blobs = stored(LeanBackend(PLAIN, graph, None, {}), Kind.LEAN_BACKEND)
    back = codecs.decode(Kind.LEAN_BACKEND, 1, encoded.root.data, blobs.__getitem__).forward
    assert (back.launches, back.cuda_graphs, back.device) == (kernels, graphs, device)


# Which configuration is launched.


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store") as store:
        yield store


def names(*launches):
    return tuple(launch.configuration for launch in launches)


def test_one_configuration_needs_no_measurement(store):
    assert Launches(store).choose(Choice("", 0, False, ("only",))) == 0


def test_of_several_the_one_that_won_is_launched_and_none_before_that(store):
    choice = Choice("source", 0, False, names(LAUNCH, OTHER))
    with pytest.raises(Miss, match="which of 2 configurations"):
        Launches(store).choose(choice)
    store.registry_update(CONTEXT, {(LAUNCHED, "source"): b"other"})
    assert Launches(store).choose(choice) == 1
    with pytest.raises(Miss, match="which of 2 configurations"):
        Launches(store).choose(choice._replace(source="another"))


def test_where_torch_descends_only_the_end_of_it_is_launched(store):
    choice = Choice("source", 0, True, names(LAUNCH))
    store.registry_update(CONTEXT, {(LAUNCHED, "source"): LAUNCH.configuration.encode()})
    with pytest.raises(Miss):
        Launches(store).choose(choice)
    store.registry_update(CONTEXT, {(DESCENDED, "source"): LAUNCH.configuration.encode()})
    assert Launches(store).choose(choice) == 0


def tuner_class(found):
    """As torch's ``CachingAutotuner``, with one configuration and a descent that ends at ``found``."""

    class Tuner:
        kernel_hash = "source"

        def __init__(self):
            self.compile_results = [types.SimpleNamespace(config=config("first"))]

        def _dynamic_scale_rblock(self):
            pass

        def autotune_to_one_config(self):
            pass

        def coordinate_descent_tuning(self, launcher):
            return types.SimpleNamespace(config=config(found, found_by_coordesc=True))

    return Tuner


def config(name, *, found_by_coordesc=False):
    return types.SimpleNamespace(name=name, found_by_coordesc=found_by_coordesc)


@pytest.mark.parametrize("found", ["first", "found later"])
def test_what_launches_the_end_of_a_descent_is_kept(store, found):
    made = LAUNCH._replace(configuration=repr(found))
    files = type("Files", (), {"_get": lambda *_: None, "_put": lambda *_: None})
    faults, asked, tuner = [], [], tuner_class(found)

    def encode(one, launcher):
        asked.append(launcher.config.name)
        return codecs.encode(Kind.LAUNCH, made)

    winners = AutotuneResults(store, True, faults.append, lambda config: config.name, encode)
    winners.install(Patches(), files, tuner)
    one = tuner()
    one.coordinate_descent_tuning(types.SimpleNamespace(config=config("first")))
    assert faults == []
    choice = Choice("source", 0, True, (repr("first"),))
    if found == "first":
        assert asked == []
        assert Launches(store).choose(choice) == 0
    else:
        assert Launches(store).choose(choice) == made
        store.registry_update(CONTEXT, {(WINNERS, "source"): None})
        with pytest.raises(Miss):
            Launches(store).choose(choice)


# Grids.


GRIDS = [
    ("Grid1D", {}, {"XBLOCK": 128}, {"xnumel": 1000}),
    ("Grid2D", {}, {"XBLOCK": 16, "YBLOCK": 32}, {"xnumel": 100, "ynumel": 99}),
    ("Grid3D", {}, {"XBLOCK": 4, "YBLOCK": 2, "ZBLOCK": 8}, {"xnumel": 9, "ynumel": 5, "znumel": 17}),
    ("BatchMatmulGrid3D", {}, {"XBLOCK": 4, "YBLOCK": 2}, {"xnumel": 9, "ynumel": 5, "znumel": 17}),
    ("Grid2DWithYZOverflow", {}, {"XBLOCK": 4, "YBLOCK": 1}, {"xnumel": 9, "ynumel": 200000}),
    ("SplitScanGrid", {}, {"XBLOCK": 1, "R0_BLOCK": 64}, {"xnumel": 9, "r0_numel": 1000}),
    ("MixOrderReductionGrid", {}, {"XBLOCK": 4, "RSPLIT_SIZE": 64}, {"xnumel": 1000}),
    (
        "FixedGrid",
        {"fixed_grid": ["_grid_0", "_grid_1", "_grid_2"]},
        {},
        {"_grid_0": 3, "_grid_1": 4, "_grid_2": 5},
    ),
    (
        "PrecomputedGrid",
        {"precomputed_grids": [{"config": {"B": 256}, "python": ["(255 + n) // 256", "n * 2 - 1", 1]}]},
        {"B": 256},
        {"n": 1000},
    ),
    *(
        (
            kind,
            {
                "combo_grid_meta": {
                    "num_kernels": 3, "min_blocks": 4, "default_config": None,
                    "xnumel_0": 100, "xnumel_1": None, "xnumel_2": 7,
                    "no_x_dim_0": False, "no_x_dim_1": False, "no_x_dim_2": True, "ynumel_1": None,
                }
            },
            {"XBLOCK": 32, "YBLOCK": 8},
            {"xnumel_1": 1000, "ynumel_1": 300000},
        )
        for kind in ("SequentialComboKernelGrid", "RoundRobinComboKernelGrid")
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "meta", "block", "sizes"), GRIDS, ids=lambda value: value if type(value) is str else ""
)
def test_grids_are_those_of_torch(launcher, kind, meta, block, sizes):
    pytest.importorskip("triton")  # without it torch takes any object for a configuration
    from torch._inductor.runtime.triton_heuristics import GridExpr

    grid = GridExpr.from_meta({"grid_type": kind, **meta}, block)
    texts = str(grid.x_grid), str(grid.y_grid), str(grid.z_grid)
    temporaries, expressions = triton_kernels.grid_of("k", list(sizes), grid.prefix, texts)
    launch = LAUNCH._replace(
        arguments=len(sizes), passed=(), letters="", temporaries=temporaries, grid=expressions
    )
    stored(launch)
    for more in (0, 1, 70000):
        values = {name: value + more for name, value in sizes.items()}
        runtime.launcher(launch, 1)(*values.values(), 0)
        assert launcher.launches.pop()[1:4] == grid.eval_slow(values)


def test_a_grid_that_guards_against_dividing_by_zero(launcher):
    """torch 2.13 writes it so."""
    lines = ["y_grid_raw_ = -((n) // -(8))", "y_grid_div_ = -((y_grid_raw_) // -(65535))"]
    texts = "1", "(0 if y_grid_div_ == 0 else -((y_grid_raw_) // -(y_grid_div_)))", "y_grid_div_"
    temporaries, grid = triton_kernels.grid_of("k", ["n"], lines, texts)
    launch = LAUNCH._replace(arguments=1, passed=(), letters="", temporaries=temporaries, grid=grid)
    stored(launch)
    for n, expected in ((0, (1, 0, 0)), (9, (1, 2, 1)), (8 * 65536, (1, 32768, 2))):
        runtime.launcher(launch, 1)(n, 0)
        assert launcher.launches.pop()[1:4] == expected


@pytest.mark.parametrize(
    "text", ["f(n)", "n.real", "n / 2", "[n]", "n if n else 1", "lambda: 1", "m", "n n", "n ** 2"]
)
def test_other_expressions_in_a_grid_are_refused(text):
    with pytest.raises(NotLean, match="Triton kernel k: grid"):
        triton_kernels.grid_of("k", ["n"], [], (text, "1", "1"))


# Kernels that Triton makes, and the autotuners that torch has of them.

HEAD = """
import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers, triton_heuristics
from torch._inductor.runtime.hints import DeviceProperties, ReductionHint
DEVICE = DeviceProperties(type='cuda', index=0, multi_processor_count=132, cc=90, major=9,
    regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    warp_size=32)
META = {'autotune_hints': set(), 'mutated_arg_names': [], 'autotune_local_cache': False,
    'autotune_remote_cache': False, 'max_autotune': False, 'max_autotune_pointwise': False,
    'store_cubin': False}
"""
WAVES = """
@triton_heuristics.pointwise(size_hints={'x': 1024}, filename=__file__, min_elem_per_thread=0,
    triton_meta={
        'signature': {'in_ptr0': '*fp32', 'out_ptr0': '*fp32', 'xnumel': 'i32', 'XBLOCK': 'constexpr'},
        'device': DEVICE, 'constants': {}, 'configs': [{(0,): [['tt.divisibility', 16]]}]},
    inductor_meta={**META, 'grid_type': 'Grid1D', 'kernel_name': 'NAME', 'autotune_pointwise': True})
@triton.jit
def NAME(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    x = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:]
    tmp0 = tl.load(in_ptr0 + x, x < xnumel)
    tl.store(out_ptr0 + x, tmp0 * 2 + 1, x < xnumel)
"""
OWN = """
@triton_heuristics.user_autotune(configs=[{'num_warps': 4, 'num_stages': 3}], filename=__file__,
    triton_meta={
        'signature': {'x_ptr': '*fp32', 'out_ptr': '*fp32', 'n': 'i32', 'scale': 'SCALE', 'B': 'constexpr'},
        'device': DEVICE, 'constants': {'B': 256}, 'configs': [{(0,): [['tt.divisibility', 16]]}]},
    inductor_meta={**META, 'kernel_name': 'NAME', 'extra_launcher_args': ['_launcher_s0'],
        'grid_type': 'PrecomputedGrid',
        'precomputed_grids': [{'config': {}, 'python': ['(255 + _launcher_s0) // 256', '1', '1']}]},
    custom_kernel=True)
@triton.jit
def NAME(x_ptr, out_ptr, n, scale, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * scale, mask=at < n)
"""
LONG = "triton_poi_fused_" + "_".join(f"operator_number_{number}" for number in range(10)) + "_0"


@pytest.fixture(scope="module")
def tuner(tmp_path_factory):
    """Gives torch's autotuner of a kernel whose configurations are compiled for an H100."""
    pytest.importorskip("triton")
    from torch._inductor import codecache
    from torch._inductor.runtime import triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class Driver:
        """A machine with a GPU, as far as compilation asks for it."""

        utils = types.SimpleNamespace(get_device_properties=lambda device: {"max_shared_mem": 232448})

        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self):
            return 0

        def get_active_torch_device(self):
            return torch.device("cpu")

        def is_active(self):
            return True

    folder = str(tmp_path_factory.mktemp("triton"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", folder)
        patch.setattr(driver, "_active", Driver())
        patch.setattr(triton_helpers, "set_driver_to_gpu", lambda: None)

        def build(source, name="triton_poi_fused_add_mul_0", scale="fp32"):
            text = HEAD + source.replace("NAME", name).replace("SCALE", scale)
            found = getattr(codecache.PyCodeCache.load(text), name)
            found._precompile_worker()
            return found

        yield build


def test_every_configuration_of_a_kernel_is_captured(tuner):
    made = tuner(WAVES)
    found = triton_kernels.autotuned("k", made, [3], {})
    assert len(found.launches) == len(made.compile_results) == 2
    assert re.fullmatch("c[a-z0-9]+", found.source)
    assert (found.device, found.descends) == (0, False)
    blocks = {int(re.search(r"'XBLOCK', (\d+)", one.configuration)[1]) for one in found.launches}
    assert blocks == {-one.grid[0][1][2] for one in found.launches}
    for one in found.launches:
        assert (one.architecture, one.letters, one.passed, one.scratch) == (90, "OOi", (0, 1, 2), 2)
        assert one.kernel.symbol == one.symbol == "triton_poi_fused_add_mul_0"
        assert one.kernel.binary.startswith(b"\x7fELF")
    assert {blob.kind for blob in stored(found.launches[0])[0].children} == {Kind.TRITON}


def test_only_the_launchers_that_are_left_are_captured(tuner):
    made = tuner(WAVES, "triton_poi_fused_add_mul_1")
    config = made.compile_results[1].config
    made.launchers = [types.SimpleNamespace(config=config)]
    (one,) = triton_kernels.autotuned("k", made, [3], {}).launches
    assert f"'XBLOCK', {config.kwargs['XBLOCK']}" in one.configuration


def test_a_kernel_whose_name_is_too_long_for_a_file_is_captured_all_the_same(tuner):
    made = tuner(WAVES, LONG)
    assert not made.is_statically_launchable()
    found = triton_kernels.autotuned("k", made, [3], {})
    plain = triton_kernels.autotuned("k", tuner(WAVES), [3], {})
    assert [one.symbol for one in found.launches] == [LONG, LONG]
    for one, like in zip(found.launches, plain.launches, strict=True):
        assert one[1:-1] == like[1:-1]


def test_a_kernel_of_the_program_is_captured(tuner):
    found = triton_kernels.autotuned("k", tuner(OWN, "add_scaled"), [5], {})
    (one,) = found.launches
    assert (one.arguments, one.passed, one.letters) == (5, (0, 1, 2, 3), "OOif")
    assert one.grid == (("divide", ("add", 255, ("argument", 4)), 256), 1, 1)


def test_a_descent_is_noted(tuner):
    made = tuner(WAVES, "triton_poi_fused_add_mul_2")
    made.inductor_meta["coordinate_descent_tuning"] = True
    assert triton_kernels.autotuned("k", made, [3], {}).descends


@pytest.mark.parametrize("name", ["triton_poi_fused_add_mul_3", LONG.replace("_0", "_1")])
def test_what_launches_a_winner_is_read_from_its_launcher(tuner, name):
    made = tuner(WAVES, name)
    result = made.compile_results.pop()
    scope = {"runner": result.kernel.run} if made.is_statically_launchable() else {"bin": result.kernel}
    launcher = types.FunctionType(CODE.co_consts[0], scope)
    launcher.config, launcher._is_static = result.config, "runner" in scope
    encoded = triton_kernels.encoded_winner(made, launcher)
    blobs = {blob.key: StoredBlob(blob.kind, blob.version, bytes(blob.data)) for blob in encoded.children}
    found = codecs.decode(Kind.LAUNCH, 1, encoded.root.data, blobs.__getitem__)
    assert found == triton_kernels.launch("k", result, 0, {})
    result.kernel.hash = "00" * 32
    assert triton_kernels.encoded_winner(made, launcher) is None


def no_binary(made):
    for result in made.compile_results:
        result.kernel.hash = "00" * 32


def other_binary(made):
    made.compile_results[0].kernel.shared += 1


def combined(made):
    made.inductor_meta["combo_tuning_groups"] = [{}]


def for_another_device(made):
    made.triton_meta["device_type"] = "xpu"


def debugged(made):
    made.__class__ = type("DebugAutotuner", (type(made),), {})


def nameless(made):
    made.kernel_hash = ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_binary, "no binary"),
        (other_binary, "a binary that is not the autotuner's"),
        (combined, "tuned part by part"),
        (for_another_device, "device xpu"),
        (debugged, "autotuner DebugAutotuner"),
        (nameless, "no name by which"),
    ],
)
def test_what_can_not_be_launched_is_refused_by_its_name(tuner, change, reason):
    made = tuner(WAVES, f"triton_poi_fused_{change.__name__}_0")
    change(made)
    with pytest.raises(NotLean, match=f"Triton kernel k: .*{reason}"):
        triton_kernels.autotuned("k", made, [3], {})


def test_calls_with_other_arguments_are_refused(tuner):
    with pytest.raises(NotLean, match="Triton kernel k: 4 arguments of 3"):
        triton_kernels.autotuned("k", tuner(WAVES), [3, 4], {})


def test_scalars_that_torchs_launcher_would_widen_are_refused(tuner):
    with pytest.raises(NotLean, match="scalars of type fp16"):
        triton_kernels.autotuned("k", tuner(OWN, "add_halves", "fp16"), [5], {})


# From a wrapper to a call.

WRAPPER = """
import torch
from torch._inductor.async_compile import AsyncCompile
from torch._C import _cuda_getCurrentRawStream as get_raw_stream
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda
async_compile = AsyncCompile()
triton_poi_fused_add_mul_0 = async_compile.triton('triton_poi_fused_add_mul_0', '''
import triton
''', device_str='cuda')
async_compile.wait(globals())
del async_compile
class Runner:
    def __init__(self, partitions):
        self.partitions = partitions
    def call(self, args):
        arg0_1, = args
        args.clear()
        assert_size_stride(arg0_1, (1000, ), (1, ))
        with torch.cuda._DeviceGuard(0):
            torch.cuda.set_device(0)
            buf0 = empty_strided_cuda((1000, ), (1, ), torch.float32)
            stream0 = get_raw_stream(0)
            triton_poi_fused_add_mul_0.run(arg0_1, buf0, 1000, stream=stream0)
            del arg0_1
        return (buf0, )
runner = Runner(partitions=[])
call = runner.call
"""


@pytest.mark.parametrize("moved", [None, 0, 1])
def test_a_wrapper_runs_on_its_kernels_and_on_the_device_that_it_is_moved_to(launcher, monkeypatch, moved):
    made = rewrite(WRAPPER, (), lambda types, source: "")
    assert made.launches == {"triton_poi_fused_add_mul_0": [3]}
    assert made.device == 0
    kernels = {"triton_poi_fused_add_mul_0": Autotuned("s", 0, False, (LAUNCH,))}
    graph = LeanGraph(made.code, {}, {}, (), (), kernels, None, made.device)
    encoded, blobs = stored(LeanBackend(PLAIN, graph, None, {}), Kind.LEAN_BACKEND)
    back = codecs.decode(Kind.LEAN_BACKEND, 1, encoded.root.data, blobs.__getitem__)

    def launch(handle, *numbers):
        x, out, n, *scratch = numbers[6]
        out.copy_(x * 2 + 1)
        launcher.launches.append((handle, *numbers[:6], n, *scratch, numbers[7]))

    launcher._launch_kernel = launch
    here, places = moved or 0, []
    names = {"get_raw_stream": lambda device: 77 + device}
    namespace, guards = runtime_backend.namespace, torch._C._dynamo.guards
    monkeypatch.setattr(runtime_backend, "namespace", lambda device: namespace(device) | names)
    monkeypatch.setattr(guards, "_empty_strided_cuda", guards._empty_strided_cpu)
    monkeypatch.setattr(
        torch.cuda, "_DeviceGuard", lambda device: contextlib.nullcontext(places.append(device))
    )
    monkeypatch.setattr(torch.cuda, "set_device", places.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: here)
    call = runtime_backend._graph(back.forward, None, moved)
    for _ in range(2):
        x = torch.rand(1000)
        (out,) = call([x])
        assert torch.equal(out, x * 2 + 1)
    assert launcher.launches == [(1, 8, 1, 1, 4, 16, "OOiOO", 1000, None, None, 77 + here)] * 2
    assert places == [here] * 4
    assert [load[3] for load in launcher.loads] == [here]


def test_the_assembler_that_torch_chooses_does_not_change_how_options_are_found(monkeypatch):
    from firebrick.validity.configuration import ambient_key

    before = ambient_key({"mode": "'default'"})
    monkeypatch.setenv("TRITON_PTXAS_PATH", "/somewhere/ptxas")
    monkeypatch.setenv("TRITON_PTXAS_BLACKWELL_PATH", "/somewhere/else/ptxas")
    assert ambient_key({"mode": "'default'"}) == before
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert ambient_key({"mode": "'default'"}) != before
