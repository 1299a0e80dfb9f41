"""Layers that are wrapped, graphs that were traced, and optimizers."""

from edits.case import cases

CASES = cases(
    "wrapped layer",
    """
## LoRA comes in
class LoRA(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.a, self.b = base, nn.Parameter(torch.ones(2, 1)), nn.Parameter(torch.ones(1, 2))
    def forward(self, x): return self.base(x) + x @ self.a @ self.b
m = nn.Sequential(nn.Tanh())
if V == 2: m[0] = LoRA(m[0])
f = m

## LoRA's scale
class LoRA(nn.Module):
    def __init__(self, base, alpha):
        super().__init__()
        self.base, self.scale = base, alpha / 2
        self.a, self.b = nn.Parameter(torch.ones(2, 1)), nn.Parameter(torch.ones(1, 2))
    def forward(self, x): return self.base(x) + x @ self.a @ self.b * self.scale
f = nn.Sequential(LoRA(nn.Tanh(), [2., 3.][V - 1]))

## LoRA is merged
class LoRA(nn.Module):
    merged = False
    def forward(self, x): return x * 2 if self.merged else x * 3
m = LoRA()
if V == 2: m.merged = True
f = nn.Sequential(m)

## LoRA's rank
class LoRA(nn.Module):
    def __init__(self, r):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(2, r)), nn.Parameter(torch.ones(r, 2))
    def forward(self, x): return x @ self.a @ self.b
f = LoRA(V)

## forward is patched for an adapter
m = nn.Tanh()
def adapted(old): return lambda x: old(x) * 3
if V == 2: m.forward = adapted(m.forward)
l = [m]
f = lambda x: l[0](x)

## an adapter's factor
m = nn.Tanh()
def adapted(old, k): return lambda x: old(x) * k
m.forward = adapted(m.forward, [2., 3.][V - 1])
l = [m]
f = lambda x: l[0](x)

## a quantised weight's scale
class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("q", torch.tensor([[10, 20], [30, 40]], dtype=torch.int8))
        self.scale = [0.1, 0.2][V - 1]
    def forward(self, x): return x @ (self.q.float() * self.scale)
f = Q()

## a quantised weight's zero point
class Q(nn.Module):
    zero = [0, 3][V - 1]
    def __init__(self):
        super().__init__()
        self.register_buffer("q", torch.tensor([[10, 20], [30, 40]], dtype=torch.int8))
    def forward(self, x): return x @ (self.q - self.zero).float()
f = Q()

## a quantised weight's type
class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("q", torch.tensor([200, 20]).to(torch.int8 if V == 1 else torch.uint8))
    def forward(self, x): return x * self.q
f = Q()

## weight_norm
m = nn.Linear(2, 2)
with torch.no_grad(): m.weight.fill_(2.); m.bias.fill_(1.)
if V == 2: nn.utils.parametrizations.weight_norm(m, dim=None); m.parametrizations.weight.original0.data.fill_(7.)
f = m

## a parametrization
class P(nn.Module):
    def forward(self, w): return w * 3
m = nn.Linear(2, 2, bias=False)
with torch.no_grad(): m.weight.fill_(2.)
if V == 2: nn.utils.parametrize.register_parametrization(m, "weight", P())
f = m

## a parametrization is edited
class P(nn.Module):
    def forward(self, w): return w * V
m = nn.Linear(2, 2, bias=False)
with torch.no_grad(): m.weight.fill_(2.)
nn.utils.parametrize.register_parametrization(m, "weight", P())
f = m

## a parametrization's state
class P(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k
    def forward(self, w): return w * self.k
m = nn.Linear(2, 2, bias=False)
with torch.no_grad(): m.weight.fill_(2.)
nn.utils.parametrize.register_parametrization(m, "weight", P([2., 3.][V - 1]))
l = [m]
f = lambda x: l[0](x)

## spectral_norm of a child
m = nn.Sequential(nn.Linear(2, 2, bias=False)).eval()
with torch.no_grad(): m[0].weight.copy_(torch.eye(2) * 3)
if V == 2: nn.utils.parametrizations.spectral_norm(m[0])
f = m

## a pruned weight
import torch.nn.utils.prune
m = nn.Linear(2, 2, bias=False)
with torch.no_grad(): m.weight.copy_(torch.tensor([[1., 2.], [3., 4.]]))
if V == 2: nn.utils.prune.l1_unstructured(m, "weight", 2)
f = m
""",
)
CASES += cases(
    "graph module",
    """
## a traced child
class P(nn.Module):
    def forward(self, x): return x * V
f = nn.Sequential(torch.fx.symbolic_trace(P()))

## a traced function in a dict
d = {"g": torch.fx.symbolic_trace((lambda x: x * 2) if V == 1 else (lambda x: x * 3))}
f = lambda x: d["g"](x)

## an attribute of a graph
class P(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.tensor([2., 3.][V - 1]))
    def forward(self, x): return x * self.k
l = [torch.fx.symbolic_trace(P())]
f = lambda x: l[0](x) + 1

## a transformed graph
class T(torch.fx.Transformer):
    def call_function(self, target, args, kwargs):
        return super().call_function(operator.add if V == 2 else target, args, kwargs)
l = [T(torch.fx.symbolic_trace(lambda x: x * 5)).transform()]
f = lambda x: l[0](x)

## exported
class P(nn.Module):
    def forward(self, x): return x * V
g = torch.export.export(P(), (torch.ones(2),)).module()
f = lambda x: g(x)
def call(f): return f(torch.ones(2))

## the compiled one itself
f = torch.fx.symbolic_trace((lambda x: x * 2) if V == 1 else (lambda x: x * 3))
""",
)
CASES += cases(
    "optimizer",
    "".join(
        f"""
## {name} of {kind}
p = nn.Parameter(torch.tensor([1., 2.]))
o = torch.optim.{kind}([p], **({one} if V == 1 else {two}))
def step():
    o.step()
def program():
    h = torch.compile(step)
    for _ in range(2):
        p.grad = torch.tensor([.5, .25])
        h()
    return p
"""
        for name, kind, one, two in (
            ("lr", "SGD", "dict(lr=.1)", "dict(lr=.2)"),
            ("momentum", "SGD", "dict(lr=.1)", "dict(lr=.1, momentum=.9)"),
            ("nesterov", "SGD", "dict(lr=.1, momentum=.9)", "dict(lr=.1, momentum=.9, nesterov=True)"),
            ("weight_decay", "SGD", "dict(lr=.1)", "dict(lr=.1, weight_decay=.1)"),
            ("maximize", "SGD", "dict(lr=.1)", "dict(lr=.1, maximize=True)"),
            ("betas", "Adam", "dict(lr=.1)", "dict(lr=.1, betas=(.5, .6))"),
            ("eps", "Adam", "dict(lr=.1)", "dict(lr=.1, eps=.1)"),
            ("amsgrad", "Adam", "dict(lr=.1)", "dict(lr=.1, amsgrad=True, weight_decay=.1)"),
            ("weight_decay", "AdamW", "dict(lr=.1)", "dict(lr=.1, weight_decay=.5)"),
            ("alpha", "RMSprop", "dict(lr=.1)", "dict(lr=.1, alpha=.5)"),
        )
    )
    + """
## lr of a group
p, q = nn.Parameter(torch.tensor([1., 2.])), nn.Parameter(torch.tensor([1., 2.]))
o = torch.optim.SGD([{"params": [p]}, {"params": [q], "lr": [.1, .2][V - 1]}], lr=.5)
def step(): o.step()
def program():
    p.grad, q.grad = torch.ones(2), torch.ones(2)
    torch.compile(step)()
    return [p, q]

## another class
p = nn.Parameter(torch.tensor([1., 2.]))
o = (torch.optim.SGD if V == 1 else torch.optim.Adagrad)([p], lr=.1)
def step(): o.step()
def program():
    for _ in range(2):
        p.grad = torch.tensor([.5, .25])
        torch.compile(step)()
    return p

## a hook before the step
p = nn.Parameter(torch.tensor([1., 2.]))
o = torch.optim.SGD([p], lr=.1)
def scale(o, a, k):
    for g in o.param_groups:
        for p in g["params"]: p.grad.mul_(3)
if V == 2: o.register_step_pre_hook(scale)
def step(): o.step()
def program():
    p.grad = torch.ones(2)
    torch.compile(step)()
    return p

## step of a subclass
class O(torch.optim.SGD):
    if V == 2:
        def step(self):
            super().step()
            super().step()
p = nn.Parameter(torch.tensor([1., 2.]))
o = O([p], lr=.1)
def step(): o.step()
def program():
    p.grad = torch.ones(2)
    torch.compile(step)()
    return p
""",
)
