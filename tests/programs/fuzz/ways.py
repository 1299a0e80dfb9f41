"""The parts that lead to code; `fuzz.parts` says how to read them."""

WAYS = r"""
## function
def h$N(x): return $E
= h$N(x)
- code: return $E => return $E + 5
- wrapped: def h$N(x): return $E => def h0$N(x): return $E\n@functools.wraps(h0$N)\ndef h$N(x): return h0$N(x) * 3
+ patched: old$N = h$N; $M.h$N = lambda x: old$N(x) * 7
+ code is exchanged: h$N.__code__ = (lambda x: x * $J).__code__

## default
def h$N(x, s=$K): return $E * s
= h$N(x)
- default: s=$K => s=$J
+ defaults are exchanged: h$N.__defaults__ = ($J,)

## keyword default
def h$N(x, *, s=$K): return $E * s
= h$N(x)
- keyword default: s=$K => s=$J
+ keyword defaults are exchanged: h$N.__kwdefaults__ = {"s": $J}

## dtype in a default
def h$N(x, dtype=torch.float16): return ($E.to(dtype) * 1.1).to(torch.float32)
= h$N(x)
- dtype in a default: torch.float16 => torch.bfloat16

## closure
def make$N(s, g):
    def inner(x): return g(x) * s
    return inner
h$N = make$N($K, lambda x: $E)
= h$N(x)
- cell: make$N($K => make$N($J
- code in a cell: $E) => $E + 3)

## list of lambdas
table$N = [lambda x: $E, lambda x: x * $K]
= table$N[0](x)
- a lambda in a list: lambda x: $E, => lambda x: $E - 2,
- lambdas turned round: = [lambda x: $E, lambda x: x * $K] => = [lambda x: x * $K, lambda x: $E]

## dict of functions
def a$N(x): return $E
def b$N(x): return x * $K
table$N = {"a": a$N, "b": b$N}
KEY$N = "a"
= table$N[KEY$N](x)
- a function in a dict: "a": a$N => "a": b$N
- key: KEY$N = "a" => KEY$N = "b"

## partial
def base$N(x, s): return $E * s
h$N = functools.partial(base$N, s=$K)
= h$N(x)
- argument of a partial: s=$K) => s=$J)
- function of a partial: base$N, s => lambda x, s: x * s, s

## decorator
def scale$N(s):
    def wrap(g):
        @functools.wraps(g)
        def wrapper(*args): return g(*args) * s
        return wrapper
    return wrap
@scale$N($K)
def h$N(x): return $E
= h$N(x)
- what a decorator was given: @scale$N($K) => @scale$N($J)
- no decorator: @scale$N($K)\n =>
- a decorator's code: (*args) * s => (*args) + s

## method
class Base$N:
    def m(self, x): return $E
class Middle$N(Base$N): ...
class C$N(Middle$N): ...
o$N = C$N()
= o$N.m(x)
- base method: return $E => return $E * 3
- override: class C$N(Middle$N): ... => class C$N(Middle$N):\n    def m(self, x): return x * $J
- override half way: class Middle$N(Base$N): ... => class Middle$N(Base$N):\n    def m(self, x): return super().m(x) * $J
- a mixin comes in: class C$N(Middle$N): ... => class Mixin$N:\n    def m(self, x): return x * $J\nclass C$N(Mixin$N, Middle$N): ...
- __getattribute__ appears: class C$N(Middle$N): ... => class C$N(Middle$N):\n    def __getattribute__(self, n): return (lambda x: x * $J) if n == "m" else object.__getattribute__(self, n)
+ a method is wrapped: old$N = Base$N.m; Base$N.m = lambda self, x: old$N(self, x) * 3
+ a method of the instance: o$N.m = lambda x: x * $J
+ bases are set: class Other$N(Base$N):\n    def m(self, x): return x * $J\nC$N.__bases__ = (Other$N,)
+ the class is set: class Other$N(C$N):\n    def m(self, x): return x * $J\no$N.__class__ = Other$N

## method of an object made inside
class Base$N:
    def __init__(self, s=$K): self.s = s
    def m(self, x): return $E * self.s
class C$N(Base$N): ...
= C$N().m(x)
- base method: return $E => return $E + 3
- override: class C$N(Base$N): ... => class C$N(Base$N):\n    def m(self, x): return x * $J
- default of __init__: s=$K => s=$J
- __init__ appears: class C$N(Base$N): ... => class C$N(Base$N):\n    def __init__(self): self.s = $J
- __call__ in between: class C$N(Base$N): ... => class C$N(Base$N):\n    m = property(lambda self: lambda x: x * $J)

## method with what functions hold
def make$N(s): return lambda self, x: x * s
class C$N:
    def kw(self, x, *, s=$K): return $E * s
    cell = make$N($L)
    def noted(self, x): return x * C$N.noted.s
    noted.s = $L
= C$N().noted(C$N().cell(C$N().kw(x)))
- keyword default of a method: *, s=$K => *, s=$J
- cell of a method: make$N($L) => make$N($J)
- attribute of a method: noted.s = $L => noted.s = $J

## pytree
import torch.utils._pytree as pytree$N
class Node$N:
    def __init__(self, a): self.a = a
def flatten$N(node): return [node.a * $K], None
def unflatten$N(leaves, _): return Node$N(leaves[0])
pytree$N.register_pytree_node(Node$N, flatten$N, unflatten$N)
def h$N(x): return pytree$N.tree_map(lambda t: t + 1, Node$N($E)).a
= h$N(x)
- flatten: node.a * $K => node.a * $J
- unflatten: (leaves[0]) => (leaves[0] * $J)

## class method
class Base$N:
    s = $K
    @classmethod
    def m(cls, x): return $E * cls.s
    @staticmethod
    def n(x): return x
class C$N(Base$N): ...
= C$N.m(C$N.n(x))
- attribute of the class: s = $K => s = $J
- override of a class method: (Base$N): ... => (Base$N):\n    @classmethod\n    def m(cls, x): return x * $J
- override of a static method: (Base$N): ... => (Base$N):\n    @staticmethod\n    def n(x): return x * $J
- static method: return x\nclass => return x + 1\nclass

## call of an object
class C$N:
    def __init__(self, s): self.s = s
    def __call__(self, x): return $E * self.s
o$N = C$N($K)
= o$N(x)
- __call__: * self.s => + self.s
- state: C$N($K) => C$N($J)

## operator of an object
class C$N:
    def __init__(self, s): self.s = s
    def __radd__(self, x): return $E * self.s
    __add__ = __radd__
o$N = C$N($K)
= (o$N + x)
- operator: * self.s => - self.s
- operator overridden: o$N = => C$N.__add__ = lambda self, x: x * $J\no$N =

## method that a property gives
class C$N:
    @property
    def m(self): return lambda x: $E * $K
o$N = C$N()
= o$N.m(x)
- getter: * $K => * $J

## method that __getattr__ gives
class C$N:
    def __getattr__(self, name): return (lambda x: $E * $K) if name == "m" else object.__getattribute__(self, name)
o$N = C$N()
= o$N.m(x)
- __getattr__: * $K => * $J
- method in front of __getattr__: o$N = => C$N.m = lambda self, x: x * $J\no$N =

## function in a slot
class C$N:
    __slots__ = ("g",)
o$N = C$N()
o$N.g = lambda x: $E
= o$N.g(x)
- function in a slot: o$N.g = lambda x: $E => o$N.g = lambda x: $E * 3

## bound method
class C$N:
    def __init__(self, s): self.s = s
    def m(self, x): return $E * self.s
bound$N = C$N($K).m
= bound$N(x)
- object of a bound method: C$N($K).m => C$N($J).m
- function of a bound method: * self.s => + self.s

## code made by exec
exec(compile("def h$N(x, s=$K): return " + repr(1.0) + " * x * s", "<string>", "exec"))
def e$N(x): return $E
= (h$N(x) + e$N(x))
- code of a text: * x * s => + x * s
- default in a text: s=$K => s=$J

## module
class Base$N(nn.Module):
    def forward(self, x): return $E
class Middle$N(Base$N): ...
class C$N(Middle$N): ...
m$N = C$N()
= m$N(x)
- forward: return $E => return $E * 3
- override of forward: class C$N(Middle$N): ... => class C$N(Middle$N):\n    def forward(self, x): return x * $J
- override of forward half way: class Middle$N(Base$N): ... => class Middle$N(Base$N):\n    def forward(self, x): return super().forward(x) * $J
- override of __call__: class C$N(Middle$N): ... => class C$N(Middle$N):\n    def __call__(self, x): return x * $J
- a mixin of a module: class C$N(Middle$N): ... => class Mixin$N:\n    def forward(self, x): return x * $J\nclass C$N(Mixin$N, Middle$N): ...
+ forward is wrapped: old$N = Base$N.forward; Base$N.forward = lambda self, x: old$N(self, x) * 3
+ forward of an instance: m$N.forward = lambda x: x * $J
+ forward hook: m$N.register_forward_hook(lambda m, a, r: r * $J)
+ forward pre-hook: m$N.register_forward_pre_hook(lambda m, a: (a[0] * $J,))
+ hook of all modules: nn.modules.module.register_module_forward_hook(lambda m, a, r: r * $J)

## module with a hook
class C$N(nn.Module):
    def forward(self, x): return $E
m$N = nn.Sequential(C$N(), nn.Softsign())
m$N[0].register_forward_hook(lambda m, a, r: r * $K)
= m$N(x)
- a hook's code: r * $K => r + $K
- a hook's constant: r * $K => r * $J
- no hook: m$N[0].register_forward_hook(lambda m, a, r: r * $K) =>
- a hook elsewhere: m$N[0].reg => m$N[1].reg

## module with a hook's cell
class C$N(nn.Module):
    def forward(self, x): return $E
def hook$N(s): return lambda m, a: (a[0] * s,)
m$N = nn.ModuleList([C$N()])
m$N[0].register_forward_pre_hook(hook$N($K))
holder$N = types.SimpleNamespace(m=m$N)
= holder$N.m[0](x)
- a hook's cell: hook$N($K) => hook$N($J)

## module with settings
class C$N(nn.Module):
    def __init__(self):
        super().__init__()
        self.s, self.on, self.g = $K, True, F.softsign
        self.register_buffer("b", torch.full((2,), $L))
    def forward(self, x): return self.g($E * self.s + self.b) if self.on else x
m$N = C$N()
= m$N(x)
- setting: self.on, self.g = $K, True => self.on, self.g = $J, True
- switch: True => False
- function of a module: F.softsign => torch.sin
- a property hides a setting: m$N = => C$N.s = property(lambda self: $J, lambda self, v: None)\nm$N =
- buffer: (2,), $L => (2,), $J

## layers
class C$N(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.b.load_state_dict(self.a.state_dict())
    def forward(self, x): return self.b(self.a($E)) * ($K if self.a is self.b else $L)
m$N = C$N()
= m$N(x)
- a shared layer: self.b.load_state_dict(self.a.state_dict()) => self.b = self.a
- a tied weight: self.b.load_state_dict(self.a.state_dict()) => self.b.weight = self.a.weight
- weights: manual_seed(7) => manual_seed(8)
- a layer is exchanged: self.b.load_state_dict(self.a.state_dict()) => self.b = nn.Softsign()
+ a hook of a layer: m$N.a.register_forward_hook(lambda m, a, r: r * $J)
+ Linear.forward is patched: nn.Linear.forward = lambda self, x: x @ self.weight

## Sequential
class C$N(nn.Module):
    def forward(self, x): return $E
m$N = nn.Sequential(C$N(), nn.Softsign(), nn.LeakyReLU($L))
= m$N(x * 3 - 4)
- slope: ($L) => ($J)
- order of layers: C$N(), nn.Softsign() => nn.Softsign(), C$N()
+ Softsign.forward is patched: nn.Softsign.forward = lambda self, x: x * $J
+ Sequential.forward is patched: nn.Sequential.forward = lambda self, x: self[0](x) * $J
+ Module.__getattr__ is patched: old$N = nn.Module.__getattr__; nn.Module.__getattr__ = lambda self, n: $J if n == "negative_slope" else old$N(self, n)
+ a layer's function is patched: F.softsign = lambda x: x * $J

## function of torch
def h$N(x): return F.leaky_relu($E - 9).relu() + F.leaky_relu($E - 9)
= h$N(x)
- function: .relu() => .abs()
+ a function of torch is patched: F.leaky_relu = lambda x: x * $J
+ defaults of a function of torch: F.leaky_relu.__defaults__ = (0.5, False)
+ a method of Tensor is patched: torch.Tensor.relu = lambda self: self * $J
+ an operator of Tensor is patched: torch.Tensor.__sub__ = lambda self, o: self * $J
+ a function of torch for another: F.leaky_relu = F.softplus

## autograd function
class A$N(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * $K
    @staticmethod
    def backward(ctx, g): return g * $L
def h$N(x): return A$N.apply($E)
= h$N(x)
- forward of an autograd function: x * $K => x * $J
- backward of an autograd function: g * $L => g * $J

## single dispatch
@functools.singledispatch
def h$N(s, x): return x * $K
@h$N.register
def _(s: int, x): return $E
= h$N(1, x)
- an implementation: s: int, x): return $E => s: int, x): return $E * 3
- another implementation: s: int => s: str

## generator
def each$N(x):
    yield $E
    yield x * $K
= sum(each$N(x))
- generator: yield x * $K => yield x * $J

## context
class Context$N:
    def __enter__(self): return $K
    def __exit__(self, *a): return None
def h$N(x):
    with Context$N() as s: return $E * s
= h$N(x)
- __enter__: return $K => return $J

## string method
def h$N(x, how="sin"): return getattr(torch, how)($E)
= h$N(x)
- name of a function: "sin" => "cos"
"""
