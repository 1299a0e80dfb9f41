"""What surrounds compiled graphs at each call, on graphs that are written by hand."""

import contextvars
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from firebrick.codecs.lean_backend import LeanBackend, LeanGraph
from firebrick.codecs.lean_program import (
    Mutation,
    MutationKind,
    Output,
    OutputKind,
    Program,
    Tangent,
    Training,
    View,
)
from firebrick.errors import Unsupported
from firebrick.loader.libraries import Libraries
from firebrick.runtime import load
from firebrick.runtime.program import build
from firebrick.runtime.views import aligned, regenerate, tangent_of

PLAIN = Output(OutputKind.PLAIN, -1, False, False, False, None, None)
DIFFERENTIABLE = PLAIN._replace(requires_grad=True)
MARK = "_dynamo_weak_dynamic_indices"


def program(*outputs, **changes):
    fields = {"inputs": 2, "mutations": (), "bases": 0, "versions": (), "grad_enabled": None}
    return Program(**{**fields, "outputs": outputs, "dynamic_mark": MARK, "training": None, **changes})


def training(**changes):
    fields = {
        "detach": (), "saved": 1, "unchecked": 0, "numbers": 0, "saved_dynamic": (), "deterministic": None,
        "tangents": (Tangent(0, "contiguous_format", (), ()),), "donated": (), "mutates": False,
        "always_connected": False, "in_context": False,
    }  # fmt: skip
    return Training(**{**fields, **changes})


def made(program_, forward, backward=None, **options):
    return build(
        program_,
        forward,
        backward,
        (lambda: "forward", lambda: "backward"),
        disable_autocast=False,
        **options,
    )


def squares(**changes):
    """A function x -> x * x with its gradient."""

    def forward(args):
        (x,) = args
        args.clear()
        return x * x, x

    def backward(args):
        x, grad = args
        args.clear()
        grad = 2 * x * grad
        x.zero_()  # as a graph does with memory that was given to it
        return (grad,)

    changes.setdefault("donated", (0,))
    return made(program(DIFFERENTIABLE, inputs=1, training=training(**changes)), forward, backward)


def test_graphs_run_without_recording_gradients():
    modes = []
    function = made(
        program(PLAIN), lambda args: modes.append(torch.is_grad_enabled()) or (args[0] + args[1],)
    )
    x = torch.ones(2, requires_grad=True)
    (result,) = function(x, x)
    assert modes == [False]
    assert not result.requires_grad
    assert torch.is_grad_enabled()


def test_the_gradient_mode_comes_back_after_an_error():
    def fails(args):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        made(program(PLAIN), fails)(1, 2)
    assert torch.is_grad_enabled()
    function = made(program(DIFFERENTIABLE, training=training()), fails, fails)
    with torch.no_grad(), pytest.raises(ValueError, match="broken"):
        function(1, 2)
    assert torch.is_grad_enabled()
    assert not torch._C._is_view_replay_enabled()


def test_results_that_are_too_many_or_too_few_are_an_error():
    for results in ((), (1, 2)):
        with pytest.raises(ValueError, match="unpack"):
            made(program(PLAIN), lambda args, results=results: results)(1, 2)


@pytest.mark.parametrize(
    ("kind", "geometry", "values"),
    [
        (MutationKind.NONE, (2, 3), 0),
        (MutationKind.COPY, (2, 3), 5),
        (MutationKind.RESTRIDE, (3, 2), 0),
        (MutationKind.RESTRIDE_COPY, (3, 2), 5),
        (MutationKind.SET, (3, 2), 5),
    ],
)
def test_mutations_reach_the_input(kind, geometry, values):
    shape = (2, 3) if kind in (MutationKind.NONE, MutationKind.COPY) else (3, 2)
    new, given = torch.full(shape, 5.0), torch.zeros(2, 3)
    mutation = Mutation(1, kind, leaf=True, requires_grad=False, wrapped=False)
    function = made(program(PLAIN, mutations=(mutation,)), lambda args: (new, 1))
    assert function(0, given) == [1]
    assert (tuple(given.shape), given.sum().item()) == (geometry, 6 * values)
    assert (given.data_ptr() == new.data_ptr()) is (kind is MutationKind.SET)


def test_a_mutated_leaf_that_requires_gradients_is_hidden_from_autograd():
    mutation = Mutation(0, MutationKind.COPY, leaf=True, requires_grad=False, wrapped=False)
    x = torch.zeros(2, requires_grad=True)
    made(program(mutations=(mutation,), inputs=1), lambda args: (torch.ones(2),))(x)
    assert x.is_leaf
    assert x.sum().item() == 2


def test_versions_of_inputs_that_a_graph_mutates_grow():
    x = torch.zeros(2)
    made(program(PLAIN, versions=(1,)), lambda args: (1,))(0, x)
    assert x._version == 1


def test_outputs_that_are_inputs_or_views():
    base = torch.arange(6.0)
    outputs = (
        PLAIN._replace(kind=OutputKind.INPUT, base=1),
        PLAIN._replace(kind=OutputKind.VIEW_OF_INPUT, base=1),
        PLAIN._replace(kind=OutputKind.VIEW_OF_RESULT, base=3),
    )
    view = (View("view", (False, True, "mode NeverView", (2, 3))),)
    outputs = (*outputs[:2], outputs[2]._replace(views=view))
    function = made(program(*outputs, bases=1), lambda args: (base, base[2:], base.view(2, 3), base * 2))
    x = torch.arange(6.0)
    same, part, shaped = function(0, x)
    assert same is x
    assert part._base is x
    assert torch.equal(part, x[2:])
    assert torch.equal(shaped, (base * 2).view(2, 3))
    assert shaped._base is not None


def test_a_view_that_this_torch_lacks_is_refused():
    output = PLAIN._replace(kind=OutputKind.INPUT, base=0)
    for view in (View("no_such", ()), View("view", (1,)), View("view", (False, False, "mode Other", (1,)))):
        with pytest.raises(Unsupported, match=f"view {view.name}"):
            made(program(output._replace(views=(view,))), lambda args: (1,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_views_change_between_real_and_complex(dtype):
    base = torch.arange(8.0).view(4, 2) if dtype is torch.float32 else torch.zeros(4, dtype=dtype)
    target = torch.view_as_complex(base) if dtype is torch.float32 else torch.view_as_real(base)
    result = regenerate(base.clone(), target.detach(), False)
    assert (result.dtype, result.shape) == (target.dtype, target.shape)


@pytest.mark.parametrize("views", [None, (View("view", (False, True, "mode NeverView", (6,))),)])
@pytest.mark.parametrize(("given", "wanted"), [(True, True), (True, False), (False, True), (False, False)])
def test_views_require_gradients_as_the_function_did(views, given, wanted):
    output = Output(OutputKind.VIEW_OF_INPUT, 0, wanted, False, False, views, None)
    x = torch.ones(2, 3, requires_grad=given)
    (y,) = made(program(output, inputs=1), lambda args: (args[0].detach().view(6),))(x)
    assert y.requires_grad is wanted
    assert y.data_ptr() == x.data_ptr()
    with pytest.raises(AssertionError if views else RuntimeError):
        made(program(output, inputs=1), lambda args: (args[0].detach().new_ones(7),))(x)


def test_a_view_is_made_again_by_its_own_operator_where_autograd_knows_it():
    base = torch.ones(6, requires_grad=True)
    with torch.autograd._force_original_view_tracking(True):
        target = torch.arange(6.0)[1:].view(5, 1)
        view = regenerate(base, target, True)
    assert (view.shape, view.storage_offset()) == ((5, 1), 1)
    assert type(view.grad_fn).__name__ == "ViewBackward0"
    assert type(regenerate(base, target.detach(), True).grad_fn).__name__ == "AsStridedBackward0"


def test_dynamic_dimensions_are_marked():
    function = made(program(PLAIN._replace(dynamic=(0, 2))), lambda args: (args[0],))
    x = torch.zeros(1)
    function(x, 0)
    function(x, 0)
    assert getattr(x, MARK) == {0, 2}


def test_the_gradient_mode_of_the_graph_stays():
    try:
        made(program(PLAIN, grad_enabled=False), lambda args: (1,))(0, 0)
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


def test_a_backward_runs_and_a_graph_that_is_kept_keeps_its_tensors():
    x = torch.full((2,), 3.0, requires_grad=True)
    (y,) = squares()(x * 1)
    assert type(y.grad_fn).__name__ == "CompiledFunctionBackward"
    for _ in range(2):
        (grad,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        assert grad.tolist() == [6.0, 6.0]
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


@pytest.mark.parametrize("always", [False, True])
def test_a_second_derivative_is_an_error(always):
    x = torch.full((2,), 3.0, requires_grad=True)
    (y,) = squares(always_connected=always)(x * 1)
    (grad,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    assert grad.requires_grad
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        grad.sum().backward()


def test_a_backward_under_other_deterministic_rules_is_an_error():
    x = torch.ones(2, requires_grad=True)
    (y,) = squares(deterministic=False)(x)
    (z,) = squares(deterministic=None)(x)
    fill = torch._C._get_deterministic_algorithms()
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.raises(RuntimeError, match=r"use_deterministic_algorithms\(True\)"):
            y.sum().backward()
        z.sum().backward()
    finally:
        torch._C._set_deterministic_algorithms(fill)


def test_a_backward_that_mutates_inputs_has_no_create_graph():
    x = torch.ones(2, requires_grad=True)
    (y,) = squares(mutates=True)(x)
    with pytest.raises(RuntimeError, match="input mutations with requires_grad in backward"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_a_backward_sees_the_context_variables_of_the_thread_that_asked_for_it():
    if not hasattr(torch._C, "_get_obj_in_tls"):
        pytest.skip("no such slot in this torch")
    variable, seen = contextvars.ContextVar("variable", default="none"), []

    def backward(args):
        seen.append(variable.get())
        return (args[1],)

    shape = program(DIFFERENTIABLE, inputs=1, training=training(in_context=True))
    x = torch.ones(2, requires_grad=True)
    (y,) = made(shape, lambda args: (args[0] * 2, args[0]), backward)(x)
    inner = contextvars.copy_context()
    inner.run(variable.set, "inner")
    torch._C._stash_obj_in_tls("context", inner)
    try:
        y.grad_fn.apply(torch.ones(2))
    finally:
        torch._C._stash_obj_in_tls("context", None)
    assert seen == ["inner"]


def test_saved_integers_and_unchecked_tensors_reach_the_backward():
    def forward(args):
        (x,) = args
        return x * 5, x * 1, x * 2, 5

    def backward(args):
        number, checked, unchecked, grad = args
        assert (number, checked.tolist(), unchecked.tolist()) == (5, [1.0], [2.0])
        return (grad * number,)

    shape = training(unchecked=1, numbers=1, saved_dynamic=((0, (0,)), (1, (0,))))
    x = torch.ones(1, requires_grad=True)
    (y,) = made(program(DIFFERENTIABLE, inputs=1, training=shape), forward, backward)(x)
    y.backward()
    assert x.grad.item() == 5


def test_inputs_without_gradients_are_detached():
    seen = []

    def forward(args):
        seen.extend(args)
        return args[0] * 2, args[0]

    x, y = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    shape = program(DIFFERENTIABLE, training=training(detach=(1,)))
    made(shape, forward, lambda args: (args[1], None))(x * 1, y)
    assert seen[1] is not y
    assert seen[1].data_ptr() == y.data_ptr()


def test_gradients_get_the_layout_of_the_graph():
    contiguous = tangent_of(Tangent(0, "contiguous_format", (), ()))
    strided = tangent_of(Tangent(0, "", (2, 3), (1, 2)))
    x = torch.arange(6.0).view(2, 3)
    assert contiguous(x) is x
    assert contiguous(x.t()).stride() == (2, 1)
    assert strided(x).stride() == (1, 2)
    assert torch.equal(strided(x), x)
    given = strided(x)
    assert strided(given) is given
    assert contiguous(None) is strided(None) is None


def test_gradients_of_subclasses_are_an_error_unless_they_say_what_to_do():
    class Wrapped(torch.Tensor):
        pass

    class Willing(torch.Tensor):
        def __coerce_same_metadata_as_tangent__(self, meta, kind):
            return self.as_subclass(kind)

    for tangent in (Tangent(0, "contiguous_format", (), ()), Tangent(0, "", (2,), (1,))):
        with pytest.raises(RuntimeError, match="guessed its"):
            tangent_of(tangent)(torch.ones(2).as_subclass(Wrapped))
        assert type(tangent_of(tangent)(torch.ones(2).as_subclass(Willing))) is torch.Tensor


def test_inputs_that_are_not_aligned_are_copied_and_copied_back():
    raw = torch.zeros(40, dtype=torch.uint8)
    start = -raw.data_ptr() % 16
    odd = raw[start + 1 : start + 9]
    even = raw[start + 16 : start + 24].view(2, 4)

    def call(args):
        assert all(x.data_ptr() % 16 == 0 for x in args)
        for x in args:
            x.add_(1)
        return len(args)

    assert aligned(call, (), ()) is call
    assert aligned(call, (0, 1), (0,))([odd, even]) == 2
    assert odd.tolist() == [1] * 8
    assert even.sum() == 8
    assert aligned(call, (0,), ())([odd]) == 1
    assert odd.tolist() == [1] * 8


def test_the_profiler_sees_the_ranges_that_torch_has():
    x = torch.ones(2, requires_grad=True)
    function = squares()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        (y,) = function(x)
        y.sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {
        "## Call CompiledFxGraph forward ##",
        "## Call CompiledFxGraph backward ##",
        "AOTDispatcher Runtime Wrapper Prologue",
        "CompiledFunction",
        "CompiledFunctionBackward",
    } <= names


def test_autocast_is_off_inside_graphs_that_were_compiled_with_it():
    def forward(args):
        return (args[0] @ args[1],)

    a = torch.ones(2, 2)
    kinds = []
    for off in (True, False):
        function = build(program(PLAIN), forward, None, (str, str), disable_autocast=off)
        with torch.autocast("cpu", torch.bfloat16):
            kinds.append(function(a, a)[0].dtype)
    assert kinds == [torch.float32, torch.bfloat16]


def test_hooks_on_saved_tensors_run_as_in_torch():
    packed = []
    x = torch.ones(2, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        (y,) = squares()(x)
    assert len(packed) == 1
    y.sum().backward()


def test_vmap_over_a_compiled_backward_is_an_error():
    x = torch.ones(2, requires_grad=True)
    (y,) = squares()(x)
    with pytest.raises(RuntimeError, match="compiled backward function within vmap/grad/vjp"):
        torch.func.vmap(lambda grad: torch.autograd.grad(y, x, grad))(torch.eye(2))


def test_saved_tensors_are_given_up_before_the_backward_runs():
    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    kept, alive = [], []

    def pack(tensor):
        token = Kept(tensor)
        kept.append(weakref.ref(token))
        return token

    def backward(args):
        alive.append(kept[0]() is not None)
        return (args[1],)

    shape = program(DIFFERENTIABLE, inputs=1, training=training())
    function = made(shape, lambda args: (args[0] * 2, args[0]), backward)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda token: token.tensor):
        first, second = (function(torch.ones(2, requires_grad=True))[0] for _ in "12")
    first.sum().backward()
    kept.pop(0)
    second.sum().backward(retain_graph=True)
    assert alive == [False, True]


def test_saved_views_do_not_keep_their_bases_graph():
    packed = []

    def forward(args):
        base = args[0] * 2
        return args[0] * 3, base.view(1, 2), base[:1]

    shape = program(DIFFERENTIABLE, inputs=1, training=training(unchecked=1))
    function = made(shape, forward, lambda args: (args[2],))
    x = torch.ones(2, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t._is_view()) or t, lambda t: t):
        (y,) = function(x)
    assert packed == [False]
    assert not y.grad_fn._tensors_no_vc_check[0]._is_view()


def test_saved_inputs_are_saved_as_they_are():
    """As in torch 2.14, where hooks see the input itself; other views lose their history."""
    packed = []

    def forward(args):
        given, other = args
        return given * 3, other.view(1, 2), given, other[:1], given

    shape = program(DIFFERENTIABLE, training=training(unchecked=2, inputs=(1, 3)))
    function = made(shape, forward, lambda args: (args[3], None))
    base = torch.ones(2, requires_grad=True)
    view, other = (base * 1)[:], torch.ones(2)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        (y,) = function(view, other)
    assert [t._is_view() for t in packed] == [False, True]
    loose = y.grad_fn._tensors_no_vc_check
    assert [t._is_view() for t in loose] == [False, True]
    assert loose[1] is view


def test_an_output_that_only_looks_like_a_view_is_none():
    def forward(args):
        base = args[0] * 2
        return base.view(1, 2), base

    kinds = []
    for unsafe in (True, False):
        shape = program(DIFFERENTIABLE._replace(unsafe_view=unsafe), inputs=1, training=training())
        (y,) = made(shape, forward, lambda args: (args[1],))(torch.ones(2, requires_grad=True))
        kinds.append(y._is_view())
        assert y.shape == (1, 2)
    assert kinds == [False, True]


def test_views_are_recorded_so_that_they_can_be_made_again():
    seen = []

    def forward(args):
        seen.append((torch._C._is_view_replay_enabled(), torch.is_grad_enabled()))
        return args[0] * 2, args[0]

    shape = program(DIFFERENTIABLE, inputs=1, training=training())
    with torch.no_grad():
        (y,) = made(shape, forward, lambda args: (args[1],))(torch.ones(2, requires_grad=True))
    assert y.requires_grad  # the function was compiled for gradients, whatever the mode of its caller
    assert seen == [(True, False)]
    assert not torch._C._is_view_replay_enabled()


def test_outputs_without_gradients_get_none():
    given = []

    def forward(args):
        return args[0] * 2, args[0] * 3, args[0]

    def backward(args):
        given.extend(args[1:])
        return (args[1],)

    tangents = (Tangent(0, "contiguous_format", (), ()), Tangent(1, "contiguous_format", (), ()))
    shape = program(DIFFERENTIABLE, PLAIN, inputs=1, training=training(saved=2, tangents=tangents))
    y, z = made(shape, forward, backward)(torch.ones(2, requires_grad=True))
    assert not z.requires_grad
    y.sum().backward()
    assert given[1] is None


def test_threads_share_a_function():
    function, failures = squares(), []

    def work(number):
        for _ in range(100):
            x = torch.full((3,), float(number), requires_grad=True)
            (y,) = function(x * 1)
            y.sum().backward()
            if x.grad.tolist() != [2.0 * number] * 3:
                failures.append(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not failures


def test_a_function_does_not_live_longer_than_its_user():
    function = squares()
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_equal_programs_share_their_code():
    first, second = (made(program(PLAIN), lambda args: (1,)) for _ in range(2))
    assert first.__code__ is second.__code__
    assert first.__globals__ is not second.__globals__


def backend(source, kernels=None, **parts):
    graph = LeanGraph(compile(source, "wrapper.py", "exec"), kernels or {}, {})
    return LeanBackend(program(PLAIN), graph, None, {}, **parts)


def test_a_backend_without_its_kernel_or_operator_is_refused():
    with pytest.raises(Unsupported, match="kernel 1234: unknown"):
        load(backend("def call(args): pass", {"k": "1234"}), Libraries())
    with pytest.raises(Unsupported, match="name of torch"):
        load(backend("op = torch.ops.aten.no_such_operator"), Libraries())


def test_hooks_that_torch_would_compile_into_the_graph_are_refused():
    function = torch.fx.symbolic_trace(lambda x: x)
    graph = LeanGraph(compile("def call(args): return args", "wrapper.py", "exec"), {}, {})
    trained = LeanBackend(program(DIFFERENTIABLE, training=training()), graph, graph, {})
    load(trained, Libraries())
    with (
        torch.autograd.graph.saved_tensors_hooks(function, function),
        pytest.raises(Unsupported, match="hooks"),
    ):
        load(trained, Libraries())
