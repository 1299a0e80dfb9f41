"""Edits around torch: patches of it, operators of the program, autograd functions."""

from edits.case import cases, faces

CASES = faces(
    "torch patched",
    """
OLD
if V == 2: PATCH
f = lambda x: USE
""",
    {
        name: {"OLD": old, "PATCH": patch, "USE": use}
        for name, (old, patch, use) in {
            "a layer's forward": ("", "nn.Tanh.forward = lambda self, x: x * 7", "m(x)"),
            "a layer's forward is wrapped": (
                "old = nn.Tanh.forward",
                "nn.Tanh.forward = lambda self, x: old(self, x) * 7",
                "m(x)",
            ),
            "the base class of layers": (
                "",
                "nn.modules.batchnorm._NormBase._check_input_dim = lambda s, x: None",
                "m(x) * V",
            ),
            "a container's forward": ("", "nn.Sequential.forward = lambda self, x: self[0](x) * 7", "seq(x)"),
            "Module.__call__": ("", "nn.Module.__call__ = lambda self, x: self.forward(x) * 7", "m(x)"),
            "a function of nn.functional": ("", "F.softsign = lambda x: x * 7", "F.softsign(x)"),
            "a function that a layer calls": ("", "F.softsign = lambda x: x * 7", "softsign(x)"),
            "a function of torch": ("", "torch.sin = lambda x: x * 7", "torch.sin(x)"),
            "a function of torch for another": ("", "torch.sin = torch.cos", "torch.sin(x)"),
            "a method of Tensor": ("", "torch.Tensor.sin = lambda self: self * 7", "x.sin()"),
            "a method of Tensor for another": ("", "torch.Tensor.sin = torch.Tensor.cos", "x.sin()"),
            "a new method of Tensor": (
                "torch.Tensor.fb_m = lambda s: s * 2",
                "torch.Tensor.fb_m = lambda s: s * 3",
                "x.fb_m()",
            ),
            "an operator of Tensor": (
                "old = torch.Tensor.__mul__",
                "torch.Tensor.__mul__ = lambda s, o: old(s, o) + 7",
                "x * 2",
            ),
            "a property of Tensor": ("", "torch.Tensor.T = property(lambda s: s * 7)", "x.T"),
            "defaults of F.leaky_relu": (
                "",
                "F.leaky_relu.__defaults__ = (.5, False)",
                "F.leaky_relu(x - 5)",
            ),
            "defaults of F.layer_norm": (
                "",
                "F.layer_norm.__defaults__ = (None, None, .5)",
                "F.layer_norm(x, (2,))",
            ),
            "a default of a layer's __init__": (
                "",
                "nn.LeakyReLU.__init__.__defaults__ = (.5, False)",
                "nn.LeakyReLU()(x - 5)",
            ),
            "code of a function": (
                "def other(input, inplace=False): return input * 7",
                "F.relu6.__code__ = other.__code__",
                "F.relu6(x)",
            ),
            "a class attribute of a layer": ("", "nn.Tanh.scale = 3.", "x * getattr(m, 'scale', 2.)"),
            "a method of a layer's class": ("", "nn.Linear.forward = lambda self, x: x * 7", "lin(x) * 1"),
            "init of a function": ("", "nn.functional.silu = lambda x, inplace=False: x * 7", "silu(x)"),
            "a method of Parameter": ("", "nn.Parameter.sin = lambda self: self * 7", "par.sin() * x"),
            "math that torch calls": (
                "",
                "F.scaled_dot_product_attention = lambda q, k, v: q * 7",
                "sdpa(x)",
            ),
            "torch.where": ("", "torch.where = lambda c, a, b: b * 7", "torch.where(x > 1, x, x)"),
            "F.dropout": ("", "F.dropout = lambda x, p, t, i=False: x * 7", "drop(x)"),
            "a submodule of torch": (
                "",
                "torch.special = types.SimpleNamespace(expit=lambda x: x * 7)",
                "torch.special.expit(x)",
            ),
            "torch.compiler.is_compiling": (
                "",
                "torch.compiler.is_compiling = lambda: False",
                "x * 2 if torch.compiler.is_compiling() else x * 3",
            ),
            "__torch_function__ of Parameter": (
                "",
                "nn.ReLU6.__getattr__ = lambda s, n: 7. if n == 'kk' else object.__getattribute__(s, n)",
                "x * r6.kk if hasattr(r6, 'kk') else x",
            ),
        }.items()
    },
)
_MADE = """
m, seq, lin, par = nn.Tanh(), nn.Sequential(nn.Tanh()), nn.Linear(2, 2), nn.Parameter(torch.ones(2))
softsign, silu, drop, r6 = nn.Softsign(), nn.SiLU(), nn.Dropout().eval(), nn.ReLU6()
def sdpa(x): return F.scaled_dot_product_attention(x.view(1, 1, 2), x.view(1, 1, 2), x.view(1, 1, 2)).view(2)
"""
CASES = [type(c)(c.kind, c.name, _MADE + c.source, own=True) for c in CASES]

_OPERATORS = {
    "the kernel": ("x * [2., 3.][V - 1]", "torch.empty_like(x)"),
    "the fake's shape": ("torch.cat([x] * V)", "x.new_empty(x.shape[0] * V)"),
    "the fake's type": ("x.to([torch.float32, torch.float64][V - 1], copy=True) / 3", "torch.empty_like(x, dtype=[torch.float32, torch.float64][V - 1])"),
    "the fake's layout": ("x.repeat(3, 1).t().contiguous() if V == 2 else x.repeat(3, 1).t().clone(memory_format=torch.preserve_format)", "x.new_empty_strided((2, 3), (3, 1) if V == 2 else (1, 2))"),
}  # fmt: skip
CASES += [
    case
    for what, (real, fake) in _OPERATORS.items()
    for case in cases(
        "operator",
        f"""
## {what}, by custom_op
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return {real}
@op.register_fake
def _(x): return {fake}
f = lambda x: op(x.detach()) + 1

## {what}, by Library
lib = torch.library.Library("fbm", "DEF")
lib.define("op(Tensor x) -> Tensor")
lib.impl("op", lambda x: {real}, "CPU")
torch.library.register_fake("fbm::op", lambda x: {fake}, lib=lib)
f = lambda x: torch.ops.fbm.op(x.detach()) + 1

## {what}, by torch.library's functions
torch.library.define("fbm::op", "(Tensor x) -> Tensor")
@torch.library.impl("fbm::op", "cpu")
def real(x): return {real}
@torch.library.register_fake("fbm::op")
def fake(x): return {fake}
f = lambda x: torch.ops.fbm.op(x.detach()) + 1
""",
    )
]
CASES += cases(
    "operator otherwise",
    """
## its schema gets a default
lib = torch.library.Library("fbm", "DEF")
lib.define(f"op(Tensor x, float k={V + 1}.) -> Tensor")
lib.impl("op", lambda x, k=V + 1.: x * k, "CPU")
torch.library.register_fake("fbm::op", lambda x, k=1.: torch.empty_like(x), lib=lib)
f = lambda x: torch.ops.fbm.op(x.detach()) + 1

## it mutates now
@torch.library.custom_op("fbm::op", mutates_args=() if V == 1 else ("x",))
def op(x: torch.Tensor) -> torch.Tensor:
    if V == 2: x.mul_(3)
    return x.clone() + 1
@op.register_fake
def _(x): return torch.empty_like(x)
def f(x):
    y = x.detach() * 2
    z = op(y)
    return z + y

## two results
lib = torch.library.Library("fbm", "DEF")
lib.define("op(Tensor x) -> " + ("(Tensor, Tensor)" if V == 2 else "Tensor[]"))
lib.impl("op", lambda x: (x * V, x * 2) if V == 2 else [x * V, x * 2], "CPU")
torch.library.register_fake("fbm::op", lambda x: (torch.empty_like(x), torch.empty_like(x)) if V == 2 else [torch.empty_like(x), torch.empty_like(x)], lib=lib)
f = lambda x: torch.ops.fbm.op(x.detach())[0] + 1

## register_autograd
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return x * 2
@op.register_fake
def _(x): return torch.empty_like(x)
op.register_autograd(lambda ctx, g: g * [2., 3.][V - 1])
f = lambda x: op(x)

## register_autograd with setup
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return x.sin()
@op.register_fake
def _(x): return torch.empty_like(x)
def setup(ctx, inputs, output): ctx.save_for_backward(inputs[0] * V)
op.register_autograd(lambda ctx, g: g * ctx.saved_tensors[0].cos(), setup_context=setup)
f = lambda x: op(x)

## its autocast
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return x / 3
@op.register_fake
def _(x): return torch.empty_like(x)
if V == 2: op.register_autocast("cpu", torch.bfloat16)
f = lambda x: op(x.detach())
def call(f):
    with torch.autocast("cpu"): return f(torch.ones(2))

## a composite one
lib = torch.library.Library("fbm", "DEF")
lib.define("op(Tensor x) -> Tensor")
lib.impl("op", (lambda x: x * 2) if V == 1 else (lambda x: x * 3), "CompositeImplicitAutograd")
f = lambda x: torch.ops.fbm.op(x)

## its vmap
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return x * 2
@op.register_fake
def _(x): return torch.empty_like(x)
@op.register_vmap
def _(info, dims, x): return op(x) * V, dims[0]
f = lambda x: torch.vmap(lambda y: op(y.detach()))(x.detach().view(2, 1))

## of aten, overridden
lib = torch.library.Library("aten", "IMPL")
def relu(x): return torch.where(x > 1.5, x, x * 0)
if V == 2: lib.impl("relu", relu, "CompositeImplicitAutograd" if False else "CPU")
f = lambda x: torch.relu(x.detach()) + 1

## of aten, by autograd
lib = torch.library.Library("aten", "IMPL")
if V == 2: lib.impl("softplus", lambda x, *a: x * 7, "AutogradCPU")
f = lambda x: F.softplus(x)

## in another library of its name
#: file fb_ops
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return torch.cat([x] * V)
@op.register_fake
def _(x): return x.new_empty(x.shape[0] * V)
#: end
import fb_ops
f = lambda x: fb_ops.op(x.detach()) + 1

## a fake that asks a helper
def size(x): return x.shape[0] * V
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return torch.cat([x] * V)
@op.register_fake
def _(x): return x.new_empty(size(x))
f = lambda x: op(x.detach()) + 1

## a fake with a cell
def make(n): return lambda x: x.new_empty(x.shape[0] * n)
@torch.library.custom_op("fbm::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return torch.cat([x] * V)
op.register_fake(make(V))
f = lambda x: op(x.detach()) + 1
""",
    own=True,
)
CASES += cases(
    "autograd function",
    "".join(
        f"""
## {name}
K = [2., 3.][V - 1]
def helper(g): return g * K
class Fn(torch.autograd.Function):
    scale = K
    @staticmethod
    def forward({forward}
    @staticmethod
    def backward(ctx, g): return {backward}
f = lambda x: {use}
"""
        for name, forward, backward, use in (
            ("forward", "ctx, x): return x * K", "g * 2", "Fn.apply(x)"),
            ("backward", "ctx, x): return x * 2", "g * K", "Fn.apply(x)"),
            ("a helper of backward", "ctx, x): return x * 2", "helper(g)", "Fn.apply(x)"),
            ("a class attribute", "ctx, x): return x * Fn.scale", "g", "Fn.apply(x)"),
            (
                "what is saved",
                "ctx, x):\n        ctx.k = K\n        return x * 2",
                "g * ctx.k",
                "Fn.apply(x)",
            ),
            (
                "its argument",
                "ctx, x, k):\n        ctx.k = k\n        return x * k",
                "(g * ctx.k, None)",
                "Fn.apply(x, K)",
            ),
            ("a default", "ctx, x, k=K): return x * k", "g", "Fn.apply(x)"),
            ("in a helper", "ctx, x): return x * 2", "g * K", "(lambda y: Fn.apply(y))(x) + 1"),
        )
    )
    + """
## setup_context
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(x): return x.sin()
    @staticmethod
    def setup_context(ctx, inputs, output): ctx.save_for_backward(inputs[0] * V)
    @staticmethod
    def backward(ctx, g): return g * ctx.saved_tensors[0]
f = lambda x: Fn.apply(x)

## setup_context is inherited
class B(torch.autograd.Function):
    @staticmethod
    def forward(x): return x.sin()
    @staticmethod
    def setup_context(ctx, inputs, output): ctx.save_for_backward(inputs[0])
    @staticmethod
    def backward(ctx, g): return g * ctx.saved_tensors[0]
class Fn(B):
    if V == 2:
        @staticmethod
        def setup_context(ctx, inputs, output): ctx.save_for_backward(inputs[0] * 3)
f = lambda x: Fn.apply(x)

## backward is overridden
class B(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g * 2
class Fn(B):
    if V == 2:
        @staticmethod
        def backward(ctx, g): return g * 3
f = lambda x: Fn.apply(x)

## backward is patched
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g * 2
if V == 2: Fn.backward = staticmethod(lambda ctx, g: g * 3)
f = lambda x: Fn.apply(x)

## once_differentiable
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    def backward(ctx, g): return g * [2., 3.][V - 1]
    backward = staticmethod(torch.autograd.function.once_differentiable(backward))
f = lambda x: Fn.apply(x)

""",
)
