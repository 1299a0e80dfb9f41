"""Transforms of functions, subclasses of tensors, and modes that the call runs in."""

from edits.case import cases

CASES = cases(
    "transform",
    """
## torch.func.grad of
def h(x): return (x * x * V).sum()
f = lambda x: torch.func.grad(h)(x)

## torch.func.grad's argument
def h(a, b): return (a * b * b).sum()
f = lambda x: torch.func.grad(h, argnums=V - 1)(x, x + 1)

## vmap of
def h(x): return x * [2., 3.][V - 1]
f = lambda x: torch.vmap(h)(x)

## vmap's dimension
def h(x): return x.sum()
f = lambda x: torch.vmap(h, in_dims=V - 1)(torch.stack([x, x * 5]))

## vmap of a cell
h = (lambda k: lambda x: x * k)([2., 3.][V - 1])
f = lambda x: torch.vmap(h)(x)

## vmap of a method
class C:
    def m(self, x): return x * [2., 3.][V - 1]
o = C()
f = lambda x: torch.vmap(o.m)(x)

## jvp
def h(x): return x * x * V
f = lambda x: torch.func.jvp(h, (x,), (x,))[1]

## jacrev
def h(x): return x * x * V
f = lambda x: torch.func.jacrev(h)(x)

## functional_call
class M(nn.Module):
    def forward(self, x): return x * V
m = M()
f = lambda x: torch.func.functional_call(m, {}, (x,))

## checkpoint of
import torch.utils.checkpoint
def h(x): return x.sin() * V
f = lambda x: torch.utils.checkpoint.checkpoint(h, x, use_reentrant=False)

## checkpoint of a module
import torch.utils.checkpoint
class M(nn.Module):
    def forward(self, x): return x.sin() * V
m = M()
f = lambda x: torch.utils.checkpoint.checkpoint(m, x, use_reentrant=False)

## checkpoint's policy
import torch.utils.checkpoint as c
def h(x): return x.sin().cos() * [2., 3.][V - 1]
def policy(ctx, op, *a, **k): return c.CheckpointPolicy.MUST_SAVE if V == 1 else c.CheckpointPolicy.PREFER_RECOMPUTE
def contexts(): return c.create_selective_checkpoint_contexts(policy)
f = lambda x: c.checkpoint(h, x, use_reentrant=False, context_fn=contexts)

## cond
def a(x): return x * 2
def b(x): return x * (3 if V == 1 else 4)
f = lambda x: torch.cond(x.sum() > 100, a, b, (x.detach(),))

## while_loop
from torch._higher_order_ops.while_loop import while_loop
def c(n, x): return n < V + 1
def b(n, x): return n + 1, x * 2
f = lambda x: while_loop(c, b, (torch.tensor(0), x.detach()))[1]

""",
)
CASES += cases(
    "tensor subclass",
    """
## a subclass of Parameter
class P(nn.Parameter):
    @property
    def scale(self): return [2., 3.][V - 1]
p = P(torch.ones(2))
f = lambda x: x * p.scale

## __torch_dispatch__
class T(torch.Tensor):
    @staticmethod
    def __new__(cls, a): return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype)
    def __init__(self, a): self.a = a
    def __tensor_flatten__(self): return ["a"], None
    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride): return T(inner["a"])
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args = [a.a if isinstance(a, T) else a for a in args]
        r = func(*args, **(kwargs or {}))
        if V == 2 and func is torch.ops.aten.sin.default: r = r + 5
        return T(r) if isinstance(r, torch.Tensor) else r
f = lambda x: torch.sin(x)
def call(f): return f(T(torch.ones(2))).a

## a function mode
class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.sin: func = torch.cos if V == 1 else torch.tan
        return func(*args, **(kwargs or {}))
f = lambda x: torch.sin(x)
def call(f):
    with Mode(): return f(torch.ones(2))

## a function mode inside
class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        r = func(*args, **(kwargs or {}))
        return r * 3 if V == 2 and func is torch.sin else r
def f(x):
    with Mode(): return torch.sin(x)

## a function mode where there was none
class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        r = func(*args, **(kwargs or {}))
        return r + 3 if func is torch.sin else r
f = lambda x: torch.sin(x)
def call(f):
    with Mode() if V == 2 else contextlib.nullcontext(): return f(torch.ones(2))

## a dispatch mode around
from torch.utils._python_dispatch import TorchDispatchMode
class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        r = func(*args, **(kwargs or {}))
        return r + 3 if func is torch.ops.aten.sin.default else r
f = lambda x: torch.sin(x)
def call(f):
    with Mode() if V == 2 else contextlib.nullcontext(): return f(torch.ones(2))

## an object with __torch_function__
class W:
    def __init__(self, t): self.t = t
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return func(*[a.t if isinstance(a, W) else a for a in args]) * V
w = W(torch.ones(2))
f = lambda x: torch.add(x, w)
""",
)
CASES += cases(
    "modes of the call",
    """
## autocast
f = lambda x: x @ x / 3
def call(f):
    with torch.autocast("cpu", enabled=V == 2): return f(torch.ones(2, 2))

## the type of autocast
f = lambda x: x @ x / 3
def call(f):
    with torch.autocast("cpu", torch.bfloat16 if V == 1 else torch.float16): return f(torch.ones(2, 2))

## autocast inside
def f(x):
    with torch.autocast("cpu", torch.bfloat16 if V == 1 else torch.float16): return x @ x.T / 3
def call(f): return f(torch.ones(2, 2))

## the type of autocast while it is off, in a helper
def h(): return torch.get_autocast_dtype("cpu")
f = lambda x: x.to(h()) / 3
def call(f):
    torch.set_autocast_dtype("cpu", torch.float16 if V == 2 else torch.bfloat16)
    return f(torch.ones(2))

## is_autocast_enabled
f = lambda x: x * 2 if torch.is_autocast_enabled("cpu") else x * 3
def call(f):
    with torch.autocast("cpu", enabled=V == 2): return f(torch.ones(2))

## no_grad
f = lambda x: x * 2 if torch.is_grad_enabled() else x * 3
def call(f):
    with torch.set_grad_enabled(V == 1): return f(torch.ones(2))

## no_grad inside
def f(x):
    with torch.set_grad_enabled(V == 1): y = x * 2
    return y * x

## inference mode
f = lambda x: x * 2 if torch.is_inference_mode_enabled() else x * 3
def call(f):
    with torch.inference_mode(V == 2): return f(torch.ones(2)).clone()

## requires_grad of an argument
f = lambda x: x * 2 if x.requires_grad else x * 3
def call(f): return f(torch.ones(2, requires_grad=V == 2))

## grad_fn of an argument
f = lambda x: x * 2 if x.grad_fn is None else x * 3
def call(f):
    x = torch.ones(2, requires_grad=True)
    return f(x if V == 1 else x * 1)

## is_leaf of an argument in a helper
def h(x): return x.is_leaf
f = lambda x: x * 2 if h(x) else x * 3
def call(f):
    x = torch.ones(2, requires_grad=True)
    return f(x if V == 1 else x * 1)

## grad of an argument
f = lambda x: x * 2 if x.grad is None else x * 3
def call(f):
    x = torch.ones(2, requires_grad=True)
    if V == 2: x.grad = torch.ones(2)
    return f(x)

## is_leaf of a global
t = torch.ones(2, requires_grad=True)
if V == 2: t = t * 1
f = lambda x: x * 2 if t.is_leaf else x * 3

## a tensor's name
f = lambda x: x * 2 if x.is_contiguous() else x * 3
def call(f):
    x = torch.ones(2, 2)
    return f(x if V == 1 else torch.ones(2, 4)[:, ::2])

## inference tensors
f = lambda x: x * 2 if x.is_inference() else x * 3
def call(f):
    with torch.inference_mode(V == 2): x = torch.ones(2)
    with torch.no_grad(): return f(x).clone()

## a sparse gradient
m = nn.Embedding(4, 2, sparse=V == 2)
with torch.no_grad(): m.weight.fill_(1.)
f = lambda i: m(i) * (2 if not m.sparse else 3)
def call(f): return f(torch.tensor([1, 2]))

## conj bit
f = lambda x: x * 2 if x.is_conj() else x * 3
def call(f):
    x = torch.ones(2, dtype=torch.complex64)
    return torch.view_as_real(f(x if V == 1 else x.conj()).resolve_conj())
""",
)
