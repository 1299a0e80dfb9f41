"""Edits of modules: hooks of every kind by every path, and what is inside."""

from edits.case import cases, faces

# How a hook is put on, for V == 2 only; S is what carries it.
_HOOKS = {
    "forward": "S.register_forward_hook(lambda m, a, r: r * 3)",
    "forward, first": "S.register_forward_hook(lambda m, a, r: r * 3, prepend=True)",
    "forward with keywords": "S.register_forward_hook(lambda m, a, k, r: r * 3, with_kwargs=True)",
    "pre": "S.register_forward_pre_hook(lambda m, a: (a[0] * 3,))",
    "backward": "S.register_full_backward_hook(lambda m, i, o: (i[0] * 3,))",
    "backward pre": "S.register_full_backward_pre_hook(lambda m, o: (o[0] * 3,))",
}
_SITES = {
    "an attribute of an object": "o = types.SimpleNamespace(s=s)\nf = lambda x: o.s(x)",
    "a list": "l = [s]\nf = lambda x: l[0](x)",
    "a dict": "d = {'s': s}\nf = lambda x: d['s'](x)",
    "a helper's global": "def helper(x): return s(x)\nf = lambda x: helper(x)",
    "a closure": "f = (lambda s: lambda x: s(x))(s)",
    "a default": "def f(x, s=s): return s(x)",
    "the compiled module": "f = s",
    "a child": "f = nn.Sequential(nn.Tanh(), s)",
    "a child's child": "f = nn.Sequential(nn.Sequential(nn.Tanh(), s), nn.Tanh())",
    "a partial": "h = functools.partial(s)\nf = lambda x: h(x)",
}
_HOOKED = """
class S(nn.Module):
    def forward(self, x): return x * 2
s = S()
if V == 2: HOOK
SITE
"""
CASES = [
    case
    for what, hook in _HOOKS.items()
    for case in faces(
        f"hook, {what}",
        _HOOKED,
        {f"by {where}": {"HOOK": hook.replace("S.", "s."), "SITE": site} for where, site in _SITES.items()},
    )
]
CASES += faces(
    "hook that is edited",
    """
class S(nn.Module):
    def forward(self, x): return x * 2
s = S()
K = [2., 3.][V - 1]
EDIT
SITE
""",
    {
        f"{what} by {where}": {"EDIT": edit, "SITE": _SITES[where]}
        for what, edit in {
            "its code": "s.register_forward_hook((lambda m, a, r: r * 2) if V == 1 else (lambda m, a, r: r * 3))",
            "its cell": "s.register_forward_hook((lambda k: lambda m, a, r: r * k)(K))",
            "a partial's": "s.register_forward_hook(functools.partial(lambda k, m, a, r: r * k, K))",
            "it is gone": "h = s.register_forward_hook(lambda m, a, r: r * 3)\nif V == 2: h.remove()",
        }.items()
        for where in ("a list", "an attribute of an object", "a child", "the compiled module")
    },
)
CASES += cases(
    "hook elsewhere",
    """
## of all modules
m = nn.Tanh()
if V == 2: nn.modules.module.register_module_forward_hook(lambda m, a, r: r * 3)
f = m

## of all modules, before
m = nn.Tanh()
if V == 2: nn.modules.module.register_module_forward_pre_hook(lambda m, a: (a[0] * 3,))
f = m

## of an argument
f = lambda x: x * 2
def call(f):
    x = torch.ones(2, requires_grad=True)
    if V == 2: x.register_hook(lambda g: g * 3)
    f(x).sum().backward()
    return x.grad

## of a tensor inside
def f(x):
    y = x * 2
    y.register_hook((lambda g: g * 3) if V == 1 else (lambda g: g * 5))
    return y * 1

## of a parameter
m = nn.Linear(2, 2)
if V == 2: m.weight.register_hook(lambda g: g * 3)
f = m
def call(f):
    f(torch.ones(2)).sum().backward()
    return m.weight.grad

## after a parameter's gradient
m = nn.Linear(2, 2)
if V == 2: m.weight.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(3) is None or None)
f = m
def call(f):
    f(torch.ones(2)).sum().backward()
    return m.weight.grad

## of a state dict
m = nn.Linear(2, 2, bias=False)
if V == 2: m._register_state_dict_hook(lambda m, d, p, l: d.update(weight=d["weight"] * 3))
f = lambda x: x @ m.state_dict()["weight"]

## that a base's __init__ puts on
class B(nn.Module):
    def __init__(self):
        super().__init__()
        if V == 2: self.register_forward_hook(lambda m, a, r: r * 3)
class M(B):
    def forward(self, x): return x * 2
l = [M()]
f = lambda x: l[0](x)

## on two of three
ms = nn.ModuleList([nn.Tanh(), nn.ReLU(), nn.Tanh()])
for n in range(V): ms[n].register_forward_hook(lambda m, a, r: r * 3)
def f(x):
    for m in ms: x = m(x)
    return x

## of a buffer's registration
if V == 2: nn.modules.module.register_module_buffer_registration_hook(lambda m, n, b: b * 3)
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.ones(2))
    def forward(self, x): return x * self.k
f = M()

## saved tensors
f = lambda x: x.exp() * x
def call(f):
    x = torch.ones(2, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t * V, lambda t: t):
        f(x).sum().backward()
    return x.grad
""",
)
CASES += cases(
    "inside of a module",
    """
## a child is replaced
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.Tanh()
    def forward(self, x): return self.act(x)
m = M()
if V == 2: m.act = nn.Sigmoid()
f = m

## a child is wrapped
class Wrap(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, x): return self.inner(x) * 3
m = nn.Sequential(nn.Tanh())
if V == 2: m[0] = Wrap(m[0])
f = m

## forward of one instance
m = nn.Sequential(nn.Tanh())
if V == 2: m[0].forward = lambda x: x * 3
f = m

## forward of the compiled instance
m = nn.Tanh()
if V == 2: m.forward = lambda x: x * 3
f = m

## a bound forward of one instance
class M(nn.Module):
    def forward(self, x): return x * 2
def other(self, x): return x * 3
m = M()
if V == 2: m.forward = types.MethodType(other, m)
l = [m]
f = lambda x: l[0](x)

## forward of one instance of two
class M(nn.Module):
    def forward(self, x): return x * 2
a, b = M(), M()
if V == 2: b.forward = lambda x: x * 3
f = lambda x: b(a(x))

## a setting of torch's layer
m = nn.Sequential(nn.LeakyReLU(0.1 * V))
f = lambda x: m(x - 5)

## eps of a layer
m = nn.LayerNorm(2, eps=[1e-5, 1e-1][V - 1])
f = m

## momentum of BatchNorm
m = nn.BatchNorm1d(2, momentum=[0.1, 0.5][V - 1])
f = m
def call(f):
    f(torch.tensor([[1., 2.], [3., 5.]]))
    return [m.running_mean, m.running_var]

## eval
m = nn.BatchNorm1d(2)
if V == 2: m.eval()
f = m
def call(f): return f(torch.tensor([[1., 2.], [3., 5.]]))

## eval of a child
m = nn.Sequential(nn.BatchNorm1d(2))
if V == 2: m[0].eval()
f = m
def call(f): return f(torch.tensor([[1., 2.], [3., 5.]]))

## order of children
a, b = nn.Tanh(), nn.Softsign()
f = nn.Sequential(*((a, nn.LeakyReLU(-3.), b) if V == 1 else (b, nn.LeakyReLU(-3.), a)))

## number of children
class M(nn.Module):
    def forward(self, x): return x * 2
ms = nn.ModuleList(M() for _ in range(V))
def f(x):
    for m in ms: x = m(x)
    return x

## a parameter becomes a buffer
class M(nn.Module):
    def __init__(self):
        super().__init__()
        if V == 1: self.w = nn.Parameter(torch.ones(2))
        else: self.register_buffer("w", torch.ones(2))
    def forward(self, x): return x * 2 if isinstance(self.w, nn.Parameter) else x * self.w * 3
f = M()

## a buffer that is None
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("w", None if V == 1 else torch.ones(2) * 3)
    def forward(self, x): return x * 2 if self.w is None else x * self.w
f = M()

## a frozen parameter
m = nn.Linear(2, 2, bias=False)
m.weight.requires_grad_(V == 1)
f = m
def call(f):
    x = torch.ones(2, requires_grad=True)
    r = f(x)
    r.sum().backward()
    return [x.grad, m.weight.grad is None]

## a parameter's type
m = nn.Linear(2, 2, bias=False)
with torch.no_grad(): m.weight.fill_(1 / 3)
if V == 2: m.double()
f = lambda x: m(x.detach().to(m.weight.dtype))

## a parameter's layout
class M(nn.Module):
    def __init__(self):
        super().__init__()
        w = torch.arange(4.).reshape(2, 2)
        self.w = nn.Parameter(w if V == 1 else w.t())
    def forward(self, x): return x * self.w.stride(0) + self.w
f = M()

## __call__ of a module
class M(nn.Module):
    def forward(self, x): return x * 2
    if V == 2:
        def __call__(self, x): return super().__call__(x) * 3
m = M()
f = lambda x: m(x)

## _call_impl of a module
class M(nn.Module):
    def forward(self, x): return x * 2
    if V == 2:
        def _call_impl(self, x): return self.forward(x) * 3
l = [M()]
f = lambda x: l[0](x)

## __getattr__ of a module
class M(nn.Module):
    k = 2.
    def forward(self, x): return x * self.n
    def __getattr__(self, n):
        if n == "n": return [2., 3.][V - 1]
        return super().__getattr__(n)
f = M()

## an extra attribute is a parameter's method
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.w.scale = [2., 3.][V - 1]
    def forward(self, x): return x * self.w.scale
f = M()

## named_children are renamed
m = nn.Module()
m.add_module("a" if V == 1 else "bb", nn.Tanh())
def f(x):
    for name, child in m.named_children(): x = child(x) * len(name)
    return x

## training of an object that is no module
o = types.SimpleNamespace(training=V == 1)
f = lambda x: x * 2 if o.training else x * 3

## a lazy layer's class
m = nn.Sequential(nn.LazyLinear(2, bias=V == 2))
f = m
def call(f):
    x = torch.ones(2)
    m(x)
    with torch.no_grad():
        for p in m.parameters(): p.fill_(.5)
    return f(x)
""",
)
