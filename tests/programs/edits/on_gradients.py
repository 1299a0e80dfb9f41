"""Edits of what is stored since it is compared: gradients of custom operators, nodes of pytrees under
``torch.func``, classes with compiled methods.
"""

from edits.case import cases

_OPERATOR = """
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return x.sin()
@op.register_fake
def _(x): return torch.empty_like(x)
def setup(ctx, inputs, output): ctx.save_for_backward(*inputs)
"""
_USES = """
op.register_autograd(backward, setup_context=setup)
f = lambda x: op(x) * 2
"""
_BACKWARDS = {
    "a global number": "K = [2., 3.][V - 1]\ndef backward(ctx, g): return g * K",
    "a helper": "def helper(g): return g * [2., 3.][V - 1]\ndef backward(ctx, g): return helper(g)",
    "a default": "def backward(ctx, g, k=[2., 3.][V - 1]): return g * k",
    "a cell": "def make(k): return lambda ctx, g: g * k\nbackward = make([2., 3.][V - 1])",
    "an item of a global": 'K = {"a": [2., 3.][V - 1]}\ndef backward(ctx, g): return g * K["a"]',
    "a class's attribute": "class C: k = [2., 3.][V - 1]\ndef backward(ctx, g): return g * C.k",
    "an object's attribute": "class C: pass\no = C()\no.k = [2., 3.][V - 1]\ndef backward(ctx, g): return g * o.k",
    "a method": "class C:\n    def m(self, g): return g * [2., 3.][V - 1]\no = C()\ndef backward(ctx, g): return o.m(g)",
    "a partial": "def by(k, ctx, g): return g * k\nbackward = functools.partial(by, [2., 3.][V - 1])",
    "a callable object": "class C:\n    def __call__(self, ctx, g): return g * [2., 3.][V - 1]\nbackward = C()",
    "a decorator": "def deco(h): return (lambda ctx, g: h(ctx, g) * 3) if V == 2 else h\n@deco\ndef backward(ctx, g): return g * 2",
    "a sign": "K = [0., -0.][V - 1]\ndef backward(ctx, g): return torch.copysign(g, torch.tensor(K))",
    "a nested function": "def backward(ctx, g):\n    def inner(h): return h * [2., 3.][V - 1]\n    return inner(g)",
    "a patched function of torch": "if V == 2: torch.square = lambda x: x * 5\ndef backward(ctx, g): return torch.square(g + 1)",
    "an import inside": "math.tau = [2., 3.][V - 1]\ndef backward(ctx, g):\n    from math import tau\n    return g * tau",
    "getattr": 'class C: k = [2., 3.][V - 1]\nNAME = "k"\ndef backward(ctx, g): return g * getattr(C, NAME)',
    "getattr of a name that is made": 'class C: kk = [2., 3.][V - 1]\nC.ll = 1.\ndef backward(ctx, g): return g * getattr(C(), "k" * 2)',
    "vars": "class C: pass\no = C()\no.kk = [2., 3.][V - 1]\ndef backward(ctx, g): return g * sum(vars(o).values())",
    "its globals": 'K = [2., 3.][V - 1]\ndef backward(ctx, g): return g * globals()["K"]',
    "eval": 'K = [2., 3.][V - 1]\ndef backward(ctx, g): return g * eval("K * 1.")',
    "a setting of Python": "sys.setrecursionlimit(2000 * V)\nsys.dont_write_bytecode = V == 1\ndef backward(ctx, g): return g * (2 if sys.dont_write_bytecode else 3)",
    "a list that is read": "K = [[2., 3.][V - 1]]\ndef backward(ctx, g):\n    for k in K: g = g * k\n    return g",
    "a tensor it makes": "def backward(ctx, g): return g * torch.full((), [2., 3.][V - 1])",
}
CASES = cases(
    "gradient of an operator",
    "".join(f"\n## {name}\n{_OPERATOR}{backward}\n{_USES}" for name, backward in _BACKWARDS.items())
    + f"""
## what it saves
{_OPERATOR.replace("(*inputs)", "(inputs[0] * V)")}
def backward(ctx, g): return g * ctx.saved_tensors[0]
{_USES}
## what its setup reads
K = [2., 3.][V - 1]
{_OPERATOR.replace("(*inputs)", "(*inputs); ctx.k = K")}
def backward(ctx, g): return g * ctx.k
{_USES}
## another operator that it calls
@torch.library.custom_op("fbm::other", mutates_args=())
def other(g: torch.Tensor) -> torch.Tensor: return torch.cat([g] * V) / 3
@other.register_fake
def _(g): return g.new_empty(g.shape[0] * V)
{_OPERATOR}
def backward(ctx, g): return other(g).sum() + g
{_USES}
## that it has one
{_OPERATOR}
def backward(ctx, g): return g * 5
if V == 2: op.register_autograd(backward, setup_context=setup)
f = lambda x: (op(x) if V == 2 else op(x.detach()) + x * 0) * 2
## the environment
#: env FB_K=2|3
{_OPERATOR}
def backward(ctx, g): return g * float(os.environ["FB_K"])
{_USES}
## the environment, by getenv
#: env FB_K=2|3
from os import getenv
{_OPERATOR}
def backward(ctx, g): return g * float(getenv("FB_K"))
{_USES}
## by torch.library's function
{_OPERATOR}
torch.library.register_autograd("fbm::op", lambda ctx, g: g * [2., 3.][V - 1], setup_context=setup)
f = lambda x: op(x) * 2
""",
    own=True,
    says="op",
)
CASES += cases(
    "node of a pytree",
    """
## the order of its parts
class C:
    def __init__(self, a, b): self.a, self.b = a, b
def flatten(c): return ([c.a, c.b] if V == 1 else [c.b, c.a]), None
torch.utils._pytree.register_pytree_node(C, flatten, lambda parts, _: C(*parts))
f = lambda x: torch.vmap(lambda c: c.a * 2)(C(x, x + 1))

## how it is put together
class C:
    def __init__(self, a, b): self.a, self.b = a, b
def unflatten(parts, _): return C(*parts) if V == 1 else C(*parts[::-1])
torch.utils._pytree.register_pytree_node(C, lambda c: ([c.a, c.b], None), unflatten)
f = lambda x: torch.vmap(lambda c: c.a * 2)(C(x, x + 1))

## what a helper of it reads
K = [2., 3.][V - 1]
class C:
    def __init__(self, a): self.a = a
def flatten(c): return [c.a * K], None
torch.utils._pytree.register_pytree_node(C, flatten, lambda parts, _: C(*parts))
f = lambda x: torch.vmap(lambda c: c.a * 2)(C(x))

## the fields of a data class
@dataclasses.dataclass
class C:
    a: torch.Tensor
    b: torch.Tensor
torch.utils._pytree.register_dataclass(C, field_names=["a", "b"] if V == 1 else ["b", "a"])
def f(x):
    one, two = torch.utils._pytree.tree_leaves(C(x, x + 1))
    return torch.vmap(lambda y: y * 2)(one)

## a node of a class of Python
def flatten(c): return ([c.a, c.b] if V == 1 else [c.b, c.a]), None
torch.utils._pytree.register_pytree_node(types.SimpleNamespace, flatten, lambda p, _: types.SimpleNamespace(a=p[0], b=p[1]))
f = lambda x, c: torch.vmap(lambda y: y * 2)(torch.utils._pytree.tree_leaves(c)[0] + x)
call = lambda f: f(torch.ones(2), types.SimpleNamespace(a=torch.ones(2), b=torch.full((2,), 5.)))

## the function that is mapped
def g(x): return x * [2., 3.][V - 1]
f = lambda x: torch.vmap(g)(x)

## what a gradient inside reads
K = [2., 3.][V - 1]
def g(x): return (x ** 2).sum() * K
f = lambda x: torch.func.grad(g)(x)
""",
)
CASES += cases(
    "compiled method",
    """
## its code
class C:
    @torch.compile
    def m(self, x): return x * [2., 3.][V - 1]
o = C()
f = lambda x: o.m(x) + 1

## code of another method
class C:
    @torch.compile
    def m(self, x): return self.n(x) * 2
    def n(self, x): return x * [2., 3.][V - 1]
o = C()
f = lambda x: o.m(x) + 1

## called by itself
class C(nn.Module):
    k = [2., 3.][V - 1]
    @torch.compile
    def m(self, x): return x * self.k if isinstance(self, C) else x
o = C()
f = lambda x: x
call = lambda f: o.m(torch.ones(2))

## compiled or disabled
def m(self, x): return x * 2 if torch.compiler.is_compiling() else x * 3
class C: pass
C.m = torch.compile(m) if V == 1 else torch.compiler.disable(m)
o = C()
f = lambda x: o.m(x) + 1
""",
)
CASES += cases(
    "named tuple of torch",
    """
## how it is made
import torch.autograd.forward_ad as fwad
def new(cls, primal, tangent): return tuple.__new__(cls, (primal, tangent * 5))
if V == 2: fwad.UnpackedDualTensor.__new__ = staticmethod(new)
def f(x):
    return torch.func.jvp(torch.sin, (x.detach(),), (torch.ones(2),))[1]

## what is differentiated
def g(x): return x ** (V + 1)
f = lambda x: torch.func.jvp(g, (x.detach(),), (torch.ones(2),))[1]
""",
)
CASES += cases(
    "distribution",
    """
## whether it is checked
f = lambda x: torch.distributions.Normal(x.detach(), torch.ones(2)).log_prob(x) * [2., 3.][V - 1]

## another one
D = torch.distributions.Normal if V == 1 else torch.distributions.Laplace
f = lambda x: D(x, torch.ones(2)).log_prob(x + 0.5)
""",
)
