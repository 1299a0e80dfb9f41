"""Wrappers are rewritten to a closed vocabulary, and whatever else they hold is refused by its name."""

import contextlib

import pytest
import torch

from firebrick.capture.wrapper_source import plain_wrapper, rewrite
from firebrick.codecs.lean_backend import LeanGraph
from firebrick.errors import NotLean, NotStorable
from firebrick.runtime import names
from firebrick.runtime.assemble import _graph
from firebrick.torch_api.minors import has

HEAD = """
from ctypes import c_void_p
import torch
import os
from math import inf, nan
from torch import device, empty_strided
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.select_algorithm import extern_kernels
aten = torch.ops.aten
inductor_ops = torch.ops.inductor
empty_strided_cpu = torch._C._dynamo.guards._empty_strided_cpu
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda
empty_strided_xpu = torch._C._dynamo.guards._empty_strided_xpu
empty_strided_p2p = torch._C._distributed_c10d._SymmetricMemory.empty_strided_p2p
async_compile = AsyncCompile()
"""
TAIL = """
async_compile.wait(globals())
del async_compile
class Runner:
    def __init__(self, partitions):
        self.partitions = partitions
    def recursively_apply_fns(self, fns):
        self.partitions = [fn(c) for fn, c in zip(fns, self.partitions)]
    def call(self, args):
        x, = args
        args.clear()
        %s
        return (x, )
runner = Runner(partitions=[%s])
call = runner.call
recursively_apply_fns = runner.recursively_apply_fns
def get_args():
    from torch._dynamo.testing import rand_strided
def benchmark_compiled_module(args, times=10, repeat=10):
    from torch._inductor.utils import print_performance
if __name__ == "__main__":
    import sys
"""


def wrapper(body="pass", top="", partitions=""):
    return HEAD + top + TAIL % (body, partitions)


def digest(types, source):
    return f"{','.join(types)}:{source}"


def run(source, *args, constants=(), values=None):
    graph = rewrite(source, constants, digest)
    return _graph(LeanGraph(graph.code, {}, values or {}), None)(list(args))


def test_what_runs_at_each_call_stays():
    (result,) = run(
        wrapper("x = aten.add.Tensor(x, 1); x = extern_kernels.mm(x, x); del args"), torch.ones(2, 2)
    )
    assert torch.equal(result, torch.full((2, 2), 8.0))


def test_only_names_that_are_used_are_kept():
    code = rewrite(wrapper("x = aten.sin.default(x)"), (), digest).code
    assert set(code.co_names) == {"torch", "ops", "aten", "call"}


def test_kernels_become_requests():
    top = "cpp_fused_0 = async_compile.cpp_pybinding(['const float*', 'float*'], '''void kernel''')\n"
    assert rewrite(wrapper("cpp_fused_0(x, x)", top), (), digest).kernels == {
        "cpp_fused_0": "const float*,float*:void kernel"
    }
    assert rewrite(wrapper("pass", top), (), digest).kernels == {}


def test_launches_of_triton_kernels_stay_and_their_arguments_are_counted():
    top = "k = async_compile.triton('k', '''source''', device_str='cuda')\n"
    guard = "from torch._C import _cuda_getCurrentRawStream as get_raw_stream\n"
    body = "torch.cuda.set_device(0); k.run(x, 1, stream=get_raw_stream(0)); k.run(x, 2, stream=3)"
    made = rewrite(wrapper(body, guard + top), (), digest)
    assert made.launches == {"k": [2, 2]}
    assert made.kernels == {}
    assert rewrite(wrapper("pass", top), (), digest).launches == {}


def test_the_parts_of_a_sum_are_added_in_the_wrapper():
    source = wrapper("x = x[0 * 2 * 3 : (0 + 1) * 2 * 3].view(2, 3).sum(dim=0).to(torch.float64)")
    (result,) = run(source, torch.ones(8))
    assert torch.equal(result, torch.full((3,), 2.0, dtype=torch.float64))


def test_partitions_stay():
    top = "def partition_0(args):\n    y, = args\n    return (aten.neg.default(y), )\n"
    (result,) = run(wrapper("x, = self.partitions[0]([x])", top, "partition_0"), torch.ones(2))
    assert torch.equal(result, -torch.ones(2))


def test_constants_come_from_outside():
    source = wrapper("x = x + _tensor_constant0", "_tensor_constant0 = None  # 1234\n")
    values = {"_tensor_constant0": torch.ones(2)}
    assert torch.equal(run(source, torch.ones(2), constants=values, values=values)[0], torch.full((2,), 2.0))
    with pytest.raises(NotLean, match="global of the wrapper: _tensor_constant0 = None"):
        rewrite(source, (), digest)


def test_a_graph_that_calls_nothing_returns_inputs_and_constants():
    graph = plain_wrapper(["input_0", "input_1"], ["input_1", None, 3])
    assert _graph(LeanGraph(graph.code, {}, {}), None)([1, 2]) == (2, None, 3)
    assert _graph(LeanGraph(plain_wrapper([], []).code, {}, {}), None)([]) == ()


GROUPED = "assert_size_stride_grouped = torch._C._dynamo.guards.assert_size_stride_grouped\n"
METADATA = "from torch._inductor.runtime.runtime_utils import assert_tensor_metadata\n"


def test_what_torch_asserts_of_many_inputs_at_once_is_in_the_vocabulary():
    body = "assert_size_stride_grouped((x, x), ((2, ), (2, )), ((1, ), (1, )), 'input')"
    assert "assert_size_stride_grouped" in rewrite(wrapper(body, GROUPED), (), digest).code.co_names
    if has("torch._C._dynamo.guards:assert_size_stride_grouped"):
        run(wrapper(body, GROUPED), torch.ones(2))
        with pytest.raises(AssertionError, match="expected size 2"):
            run(wrapper(body.replace("(2, )", "(3, )"), GROUPED), torch.ones(2))


@pytest.mark.parametrize(
    ("assertion", "error", "text"),
    [
        ("x, (2, ), (1, ), torch.float32, 'op'", None, ""),
        ("None, (2, ), (1, ), torch.float32", None, ""),
        (
            "x, (2, ), (1, ), torch.int64, 'op'",
            RuntimeError,
            "expected dtype torch.int64 but got torch.float32",
        ),
        ("x, (2, ), (1, ), torch.int64, 'op'", RuntimeError, "Error in op: op"),
        ("x, (3, ), (1, ), torch.float32, 'op'", AssertionError, "Error in op: op"),
    ],
)
def test_what_torch_asserts_of_the_result_of_an_operator_is_asserted(assertion, error, text):
    source = wrapper(f"assert_tensor_metadata({assertion})", METADATA)
    with pytest.raises(error, match=text) if error else contextlib.nullcontext():
        run(source, torch.ones(2))
    if has("torch._C._dynamo.guards:assert_size_stride_grouped"):  # and torch itself says the same
        from torch._inductor.runtime import runtime_utils

        scope = {"x": torch.ones(2), "torch": torch}
        with pytest.raises(error, match=text) if error else contextlib.nullcontext():
            eval(f"f({assertion})", scope | {"f": runtime_utils.assert_tensor_metadata})


@pytest.mark.parametrize(
    ("body", "top", "reason"),
    [
        ("f(k)", "k = async_compile.triton('k', 'source')\n", "k in the wrapper, but for its launches"),
        ("k.run(x, n=1, stream=2)", "k = async_compile.triton('k', '')\n", "the wrapper uses k.run"),
        ("k.run(*x, stream=2)", "k = async_compile.triton('k', '')\n", "the wrapper uses k.run"),
        ("k.launchers(x)", "k = async_compile.triton('k', '')\n", "the wrapper uses k.launchers"),
        ("pass", "k = async_compile.cpp('void kernel')\n", "kernel made by async_compile.cpp"),
        ("pass", "k = async_compile.cpp_pybinding([x], '')\n", "kernel made by async_compile.cpp_pybinding"),
        ("pass", "print('hello')\n", r"statement of the wrapper: print\('hello'\)"),
        ("pass", "k = open('/etc/passwd')\n", "global of the wrapper: k = open"),
        ("pass", "from elsewhere import align\n", "the wrapper imports elsewhere.align as align"),
        (
            "s = _get_stream_by_index(1)",
            "from torch._dynamo.variables.streams import _get_stream_by_index\n",
            "the wrapper uses _get_stream_by_index",
        ),
        ("open('/etc/passwd')", "", "the wrapper uses open"),
        ("os.system('true')", "", "the wrapper uses os"),
        ("import os", "", "Import in the wrapper"),
        ("x = lambda: x", "", "Lambda in the wrapper"),
        ("x.__class__", "", "the wrapper uses .__class__"),
        ("self.secret = x", "", "attribute secret of the wrapper's Runner"),
        ("torch.load(x)", "", "the wrapper uses torch.load"),
        ("torch._C._jit(x)", "", "the wrapper uses torch._C._jit"),
        ("torch.cuda.synchronize()", "", "CUDA code"),
        ("x = empty_strided_xpu((2,), (1,), torch.float32)", "", "XPU memory"),
        ("x = empty_strided_p2p((2,))", "", "the wrapper uses torch._C._distributed_c10d"),
        ("x = extern_kernels.secret(x)", "", "extern kernel secret"),
        ("x = torch.ops.mylib.op.default(x)", "", "operator mylib.op.default"),
        ("x = torch.ops.prims.fma.default(x)", "", "operator prims.fma.default"),
        ("x = aten.no_such_operator(x)", "", "operator aten.no_such_operator"),
        ("x = aten.add.NoSuchOverload(x)", "", "operator aten.add.NoSuchOverload"),
        ("x = torch.ops.higher_order.cond(x)", "", "operator of higher_order"),
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused(body, top, reason):
    with pytest.raises(NotLean, match=reason):
        rewrite(wrapper(body, top), (), digest)


def test_cpp_wrappers_are_refused():
    with pytest.raises(NotLean, match="no Python"):
        rewrite("#include <torch/all.h>\nvoid call() {}", (), digest)
    with pytest.raises(NotLean, match="has no call"):
        rewrite(HEAD, (), digest)


def test_what_is_not_lean_is_not_storable_in_lean_form():
    assert issubclass(NotLean, NotStorable)


def test_the_runtime_has_every_extern_kernel_that_may_be_named():
    for name in (*names.EXTERN_KERNELS, *names.OWN_KERNELS):
        if name != "_mkl_linear" or hasattr(torch.ops.mkl, "_mkl_linear"):
            assert callable(getattr(names.extern_kernels, name))
    with pytest.raises(AttributeError):
        names.extern_kernels.secret  # noqa: B018


def test_sizes_are_aligned_and_one_row_of_a_bias_is_enough():
    assert [names.align(size) for size in (0, 1, 64, 65)] == [0, 64, 64, 128]
    a, b, row = torch.rand(3, 2), torch.rand(2, 4), torch.rand(4)
    for bias in (row.expand(3, 4), torch.rand(3, 4), row[None]):
        assert torch.allclose(names.bias_addmm(bias, a, b), bias + a @ b)
