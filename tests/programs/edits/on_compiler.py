"""Edits of what steers the compiler: options, settings of torch, custom passes, decompositions, what is let in."""

from edits.case import cases, faces

CASES = faces(
    "settings of torch",
    """
BEFORE
f = lambda x: USE
""",
    {
        "default dtype": {
            "BEFORE": "torch.set_default_dtype(torch.float32 if V == 1 else torch.float64)",
            "USE": "x.detach() + torch.ones(2) / 3",
        },
        "default dtype of a constant": {
            "BEFORE": "torch.set_default_dtype(torch.float32 if V == 1 else torch.float64)",
            "USE": "torch.full((2,), 1 / 3) + x.detach()",
        },
        "default dtype that is asked": {
            "BEFORE": "torch.set_default_dtype(torch.float32 if V == 1 else torch.float64)",
            "USE": "x * 2 if torch.get_default_dtype() == torch.float32 else x * 3",
        },
        "deterministic algorithms": {
            "BEFORE": "torch.use_deterministic_algorithms(V == 2)",
            "USE": "x * 2 if torch.are_deterministic_algorithms_enabled() else x * 3",
        },
        "deterministic, only warned of": {
            "BEFORE": "torch.use_deterministic_algorithms(True, warn_only=V == 2)",
            "USE": "x * 2 if torch.is_deterministic_algorithms_warn_only_enabled() else x * 3",
        },
        "precision of matmul": {
            "BEFORE": "torch.set_float32_matmul_precision('highest' if V == 1 else 'medium')",
            "USE": "x * 2 if torch.get_float32_matmul_precision() == 'highest' else x * 3",
        },
        "threads": {"BEFORE": "torch.set_num_threads(V)", "USE": "x * torch.get_num_threads()"},
        "a flag of a backend": {
            "BEFORE": "torch.backends.mkldnn.enabled = V == 1",
            "USE": "x * 2 if torch.backends.mkldnn.enabled else x * 3",
        },
        "cudnn's flags": {
            "BEFORE": "torch.backends.cudnn.benchmark = V == 2",
            "USE": "x * 2 if torch.backends.cudnn.benchmark else x * 3",
        },
        "anomaly mode": {
            "BEFORE": "torch.autograd.set_detect_anomaly(V == 2)",
            "USE": "x * 2 if torch.is_anomaly_enabled() else x * 3",
        },
        "flags of attention": {
            "BEFORE": "torch.backends.cuda.enable_flash_sdp(V == 1)",
            "USE": "x * 2 if torch.backends.cuda.flash_sdp_enabled() else x * 3",
        },
        "fill of uninitialised memory": {
            "BEFORE": "torch.utils.deterministic.fill_uninitialized_memory = V == 1",
            "USE": "x * 2 if torch.utils.deterministic.fill_uninitialized_memory else x * 3",
        },
        "capability of the CPU": {
            "BEFORE": "torch.cpu.fb_k = [2., 3.][V - 1]",
            "USE": "x * torch.cpu.fb_k",
        },
    },
)
CASES += cases(
    "options of torch.compile",
    """
## the default device
f = lambda x: x * 2 if torch.empty(2).device.type == "cpu" else x * 3
def call(f):
    x = torch.ones(2)
    if V == 2: torch.set_default_device("meta")
    return f(x)

## mode
f = lambda x: x.sin() * [2., 3.][V - 1]
arguments = {"mode": "default" if V == 1 else "max-autotune-no-cudagraphs"}

## fullgraph
def h(x): return x * 2 if torch.compiler.is_compiling() else x * 3
def f(x):
    x = x + 1
    torch._dynamo.graph_break()
    return h(x)
def program():
    try:
        return torch.compile(f, fullgraph=V == 2)(torch.ones(2))
    except Exception:
        return torch.zeros(2)

## dynamic
f = lambda x: x * [2., 3.][V - 1] * x.shape[0]
arguments = {"dynamic": V == 2}

## the backend
def backend(graph, inputs): return lambda *a: [r * 3 if isinstance(r, torch.Tensor) and r.is_floating_point() else r for r in graph(*a)]
f = lambda x: x.detach() * 2
arguments = {"backend": "inductor" if V == 1 else backend}

## a backend is edited
def backend(graph, inputs): return lambda *a: [r * V for r in graph(*a)]
f = lambda x: x.detach() * 2
arguments = {"backend": backend}

## disabled
f = lambda x: x * 2 if torch.compiler.is_compiling() else x * 3
arguments = {"disable": V == 2}

## an option of Inductor
f = lambda x: x.detach() * 2 + 1 / 3 * V
options = {"epilogue_fusion": V == 1}

## fallback of random numbers
f = lambda x: x * torch.rand(2)
options = {"fallback_random": V == 2}

## a setting of Dynamo
import torch._dynamo.config
f = lambda x: x * [2., 3.][V - 1]
torch._dynamo.config.specialize_float = V == 1

## specialised integers
def f(x, n): return x * n if isinstance(n, int) else x
def call(f): return [f(torch.ones(2), V + 1), f(torch.ones(2), V + 3)]

## emulated precision casts
f = lambda x: (x.detach().bfloat16() * 1.7 + .3).float() * V
options = {"emulate_precision_casts": V == 2}

## fast math of the kernels
import torch._inductor.config
torch._inductor.config.cpp.enable_floating_point_contract_flag = ["off", "fast"][V - 1]
f = lambda x: x * 1.1 + .3 * V

## a stance
f = lambda x: x * 2 if torch.compiler.is_compiling() else x * 3
def call(f):
    torch.compiler.set_stance("default" if V == 1 else "force_eager")
    return f(torch.ones(2))

""",
)
_PASS = """
import torch._inductor.config as ic
def change(graph):
    for node in graph.nodes:
        if node.op == 'call_function' and 'mul' in str(node.target): node.args = (node.args[0], FACTOR)
f = lambda x: x.detach() * 2.
"""
CASES += [
    case
    for name in (
        "post_grad_custom_pre_pass",
        "post_grad_custom_post_pass",
        "joint_custom_pre_pass",
        "joint_custom_post_pass",
    )
    for case in cases(
        "custom pass",
        f"""
## {name} is edited
{_PASS.replace("FACTOR", "3. * V")}
ic.{name} = change

## {name} where there was none
{_PASS.replace("FACTOR", "5.")}
if V == 2: ic.{name} = change

## {name} by options, edited
{_PASS.replace("FACTOR", "3. * V")}
options = {{"{name}": change}}

## {name} by options, where there was none
{_PASS.replace("FACTOR", "5.")}
options = {{"{name}": change}} if V == 2 else {{}}
""",
        own=True,
    )
]
_OTHERWISE = """
## its cell
import torch._inductor.config as ic
def make(k):
    def change(graph):
        for node in graph.nodes:
            if node.op == "call_function" and "mul" in str(node.target): node.args = (node.args[0], k)
    return change
f = lambda x: x.detach() * 2.
ic.post_grad_custom_post_pass = make(3. * V)

## its global
PASS K[0]
K = [3. * V]
ic.post_grad_custom_post_pass = change

## a helper of it
PASS k()
def k(): return 3. * V
ic.post_grad_custom_post_pass = change

## a class with another uuid
PASS 3. * V
from torch._inductor.custom_graph_pass import CustomGraphPass
class P(CustomGraphPass):
    def __call__(self, graph): change(graph)
    def uuid(self): return f"pass {V}"
ic.post_grad_custom_post_pass = P()

## a class with the same uuid
PASS 3. * V
from torch._inductor.custom_graph_pass import CustomGraphPass
class P(CustomGraphPass):
    def __call__(self, graph): change(graph)
    def uuid(self): return "pass " + "ab"[V - 1]
ic.joint_custom_pre_pass = P()

## by config.patch around the call
PASS 3. * V
def call(f):
    with ic.patch(post_grad_custom_post_pass=change): return f(torch.ones(2))

## of the graph before the gradient
def change(gm, inputs):
    for node in gm.graph.nodes:
        if node.op == "call_function" and node.target is operator.mul: node.args = (node.args[0], 3. * V)
    gm.recompile()
    return gm
import torch._inductor.config as ic
ic.pre_grad_custom_pass = lambda graph: [setattr(n, "args", (n.args[0], 3. * V)) for n in graph.nodes if n.op == "call_function" and n.target is operator.mul] and None
f = lambda x: x * 2.
"""
for _factor in ("3. * V", "K[0]", "k()"):
    _OTHERWISE = _OTHERWISE.replace(f"PASS {_factor}\n", _PASS.replace("FACTOR", _factor))
CASES += cases("custom pass otherwise", _OTHERWISE, own=True)
CASES += cases(
    "torch's own in another's place",
    """
## a decomposition for another
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
if V == 2: d.decompositions[torch.ops.aten.mish_backward.default] = d.decompositions[torch.ops.aten.silu_backward.default]
f = lambda x: F.mish(x)

## a decomposition where there was none
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
if V == 2: d.decompositions[torch.ops.aten.sin.default] = torch._refs.cos
f = lambda x: torch.sin(x.detach())

## a decomposition is taken away
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
if V == 2: del d.decompositions[torch.ops.aten.mish_backward.default]
f = lambda x: F.mish(x)

## a lowering for another
import torch._inductor.lowering as l
torch._inductor.config.fallback_by_default = False
if V == 2: l.lowerings[torch.ops.aten.sin.default] = l.lowerings[torch.ops.aten.cos.default]
f = lambda x: torch.sin(x.detach())
""",
    own=True,
)
CASES += cases(
    "patch of the compiler",
    """
## a function
import torch._inductor.compile_fx as p
original = p.post_grad_passes
def patched(gm, is_inference):
    for n in gm.graph.nodes:
        if n.op == "call_function" and n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
    return original(gm, is_inference)
if V == 2: p.post_grad_passes = patched
f = lambda x: x.detach() * 2.

## a function, wrapped
import torch._inductor.fx_passes.joint_graph as p
original = p.joint_graph_passes
@functools.wraps(original)
def patched(gm, *args, **kwargs):
    for n in gm.graph.nodes:
        if n.op == "call_function" and n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
    return original(gm, *args, **kwargs)
if V == 2:
    import torch._inductor.compile_fx
    p.joint_graph_passes = torch._inductor.compile_fx.joint_graph_passes = patched
f = lambda x: x.detach() * 2.

## a method
import torch._inductor.graph as g
original = g.GraphLowering.run_node
def patched(self, n):
    if n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
    return original(self, n)
if V == 2: g.GraphLowering.run_node = patched
f = lambda x: x.detach() * 2.

## another body of a patch
import torch._inductor.graph as g
original = g.GraphLowering.run_node
def patched(self, n):
    if n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 5. + V)
    return original(self, n)
g.GraphLowering.run_node = patched
f = lambda x: x.detach() * 2.

## an object that is called
import torch._inductor.compile_fx as p
class Patched:
    original = staticmethod(p.post_grad_passes)
    def __call__(self, gm, is_inference):
        for n in gm.graph.nodes:
            if n.op == "call_function" and n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
        return self.original(gm, is_inference)
if V == 2: p.post_grad_passes = Patched()
f = lambda x: x.detach() * 2.

## of AOTAutograd
import torch._functorch.aot_autograd as a
original = a.aot_stage1_graph_capture
def patched(*args):
    captured = original(*args)
    for n in captured.graph_module.graph.nodes:
        if n.op == "call_function" and n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
    return captured
if V == 2: a.aot_stage1_graph_capture = patched
f = lambda x: x.detach() * 2.

## of a module that torch imports at once
import torch.fx.graph_module as g
original = g.GraphModule.recompile
def patched(self):
    for n in self.graph.nodes:
        if n.op == "call_function" and n.target is torch.ops.aten.mul.Tensor: n.args = (n.args[0], 7.)
    return original(self)
if V == 2: g.GraphModule.recompile = patched
f = lambda x: x.detach() * 2.
""",
    own=True,
)
_PATTERN = """
from torch._inductor import pattern_matcher as m
import torch._inductor.fx_passes.post_grad as p
"""
CASES += cases(
    "pattern",
    f"""
## one where there was none
{_PATTERN}
if V == 2:
    @m.register_graph_pattern(m.CallFunction(torch.ops.aten.mul.Tensor, m.Arg(), 2.), pass_dict=p.pass_patterns[1])
    def own(match, x): match.nodes[0].args = (x, 7.)
f = lambda x: x.detach() * 2.

## another handler
{_PATTERN}
@m.register_graph_pattern(m.CallFunction(torch.ops.aten.mul.Tensor, m.Arg(), 2.), pass_dict=p.pass_patterns[1])
def own(match, x): match.nodes[0].args = (x, 5. + V)
f = lambda x: x.detach() * 2.

## another operator
{_PATTERN}
name = ["mul", "add"][V - 1]
@m.register_graph_pattern(m.CallFunction(getattr(torch.ops.aten, name).Tensor, m.Arg(), 2.), pass_dict=p.pass_patterns[1])
def own(match, x): match.nodes[0].args = (x, 5.)
f = lambda x: x.detach() * 2. + 2.

## a replacement by tracing
{_PATTERN}
def search(x): return torch.ops.aten.mul.Tensor(x, 2.)
def replace(x): return torch.ops.aten.mul.Tensor(x, 5. + V)
m.register_replacement(search, replace, [torch.ones(2)], m.fwd_only, p.pass_patterns[1])
f = lambda x: x.detach() * 2.
""",
    own=True,
)
CASES += cases(
    "decomposition",
    """
## one of the program
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
@torch._decomp.register_decomposition([torch.ops.aten.sin.default], d.decompositions)
def sin(x): return x * [2., 3.][V - 1]
f = lambda x: torch.sin(x.detach())

## one where there was none
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
if V == 2: d.decompositions[torch.ops.aten.sin.default] = lambda x: x * 3
f = lambda x: torch.sin(x.detach())

## one is taken away
import torch._inductor.decomposition as d
d.fast_random_decomps.cache_clear()
def hard(x): return x * 3
d.decompositions[torch.ops.aten.tanh.default] = hard
if V == 2: del d.decompositions[torch.ops.aten.tanh.default]
f = lambda x: torch.tanh(x.detach())

## py_impl of an operator
def sin(x): return x * 3
if V == 2: torch.ops.aten.sin.default.py_impl(torch._C.DispatchKey.CompositeImplicitAutograd)(sin)
def auto(x): return x * [2., 3.][V - 1]
f = lambda x: torch.sin(x.detach()) + auto(x.detach())
""",
    own=True,
)
CASES += cases(
    "what the compiler is told",
    """
## allow_in_graph of a function
@torch._dynamo.allow_in_graph
def g(x): return x * [2., 3.][V - 1]
f = lambda x: g(x) + 1

## allow_in_graph is new
def g(x): return x * (2 if not torch.compiler.is_compiling() else 3) * V
if V == 2: torch.compiler.allow_in_graph(g)
f = lambda x: g(x) + 1

## allow_in_graph with a helper
def h(x): return x * [2., 3.][V - 1]
@torch._dynamo.allow_in_graph
def g(x): return h(x)
f = lambda x: g(x) + 1

## disable of a function
@torch.compiler.disable
def g(x): return x * [2., 3.][V - 1]
f = lambda x: g(x + 1) + 1

## disable is new
def g(x): return x * 2 if torch.compiler.is_compiling() else x * 3
if V == 2: g = torch.compiler.disable(g)
f = lambda x: g(x + 1) + 1

## disable of a method
class M(nn.Module):
    def h(self, x): return x * 2 if torch.compiler.is_compiling() else x * 3
    if V == 2: h = torch.compiler.disable(h)
    def forward(self, x): return self.h(x + 1) + 1
f = M()

## disable, not recursive
def h(x): return x * 2 if torch.compiler.is_compiling() else x * 3
def g(x): return h(x)
g = torch._dynamo.disable(g, recursive=V == 1)
f = lambda x: g(x + 1) + 1

## disable is taken back
def g(x): return x * 2 if torch.compiler.is_compiling() else x * 3
if V == 1: g = torch.compiler.disable(g)
f = lambda x: g(x + 1) + 1

## nonstrict_trace
@torch._dynamo.nonstrict_trace
def g(x): return x * [2., 3.][V - 1]
f = lambda x: g(x) + 1

## substitute_in_graph
def g(n): return n
@torch.compiler.substitute_in_graph(g, skip_signature_check=True)
def other(n): return n * V
def h(x): return x * g(2)
f = h

## forbid_in_graph or a break
def f(x):
    x = x + 1
    if V == 2: torch._dynamo.graph_break()
    return x * 2 if V == 1 else x * 3

## a pytree's flatten
import torch.utils._pytree as p
class C:
    def __init__(self, a): self.a = a
p.register_pytree_node(C, lambda c: ([c.a * V], None), lambda l, _: C(l[0]))
f = lambda x: p.tree_map(lambda t: t + 1, C(x)).a

## a pytree's unflatten
import torch.utils._pytree as p
class C:
    def __init__(self, a): self.a = a
p.register_pytree_node(C, lambda c: ([c.a], None), lambda l, _: C(l[0] * V))
f = lambda x: p.tree_map(lambda t: t + 1, C(x)).a

## a pytree is registered for the first time
import torch.utils._pytree as p
class C:
    def __init__(self, a): self.a = a
if V == 2: p.register_pytree_node(C, lambda c: ([c.a], None), lambda l, _: C(l[0]))
f = lambda x: x * (len(p.tree_leaves([C(1), 2, C(3)])) + (0 if V == 1 else 5))

## a pytree as an argument
import torch.utils._pytree as p
class C:
    def __init__(self, a, b): self.a, self.b = a, b
p.register_pytree_node(C, lambda c: ([c.a, c.b] if V == 1 else [c.b, c.a], None), lambda l, _: C(*l))
f = lambda c: p.tree_leaves(c)[0] * 2
def call(f): return f(C(torch.ones(2), torch.ones(2) * 5))

## a constant pytree
import torch.utils._pytree as p
@dataclasses.dataclass(frozen=True)
class C: k: float = [2., 3.][V - 1]
p.register_constant(C)
f = lambda x: x * C().k

## a safe global
torch.fb_safe = [2., 3.][V - 1]
f = lambda x: x * torch.fb_safe

## force_parameter_static_shapes and the like
torch._dynamo.config.assume_static_by_default = V == 1
f = lambda x: x * 2 if isinstance(x.shape[0], int) else x * 3
def call(f): return f(torch.ones(4)) * V
""",
    own=True,
)
