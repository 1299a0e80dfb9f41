"""The parts that programs are composed of, each with the edits that change it.

*Values* say where a number comes from, *ways* how code is reached. ``## name`` begins a part; what follows defines it.
``= text`` is how it is used: a value as a number, a way as an expression of ``x``. ``- name: old => new`` is an edit
of the definition (``\\n`` is a line), ``+ name: text`` one that adds a text at the end of the
program, and ``~ name: VARIABLE=first|second`` one of the environment; an empty side: unset.

``$N`` is the part's number, ``$K`` and ``$L`` are numbers of its own, ``$J`` another one, ``$E`` is what a way leads
to, an expression of ``x``, and ``$M`` the module in which the part stands.
"""

import dataclasses
import string

VALUES = r"""
## literal
= $K
- literal: $K => $J

## global
G$N = $K
= G$N
- global: G$N = $K => G$N = $J
- type: G$N = $K => G$N = torch.tensor($J)

## sign of zero
Z$N = 0.0
= (1.5 + math.copysign($K, Z$N))
- sign of zero: Z$N = 0.0 => Z$N = -0.0

## sign of zero in a tuple
Z$N = (0.0, 1.0)
= (1.5 + math.copysign($K, Z$N[0]))
- sign of zero in a tuple: (0.0, 1.0) => (-0.0, 1.0)

## sign of zero in a default
def zero$N(z=0.0): return math.copysign($K, z)
= zero$N()
- sign of zero in a default: z=0.0 => z=-0.0

## type in a tuple
T$N = (1, $K)
= ($K if type(T$N[0]) is int else $L)
- type in a tuple: (1, => (1.0,
- item of a tuple: (1, $K) => (1, $K, 3)

## tuple
T$N = ($K, $L)
= T$N[0]
- item: ($K, $L) => ($J, $L)
- order: ($K, $L) => ($L, $K)

## list
LIST$N = [$K, $L]
= LIST$N[-1]
- item: $L => $J
- one more: , $L] => , $L, $J]

## dict
D$N = {"a": $K, 2: $L}
= D$N["a"]
- value: $K => $J
- key: "a": $K, 2: $L => "a": $J, 3: $L

## order of a dict
D$N = {"a": $K, "b": $L}
= next(iter(D$N.values()))
- order of a dict: "a": $K, "b": $L => "b": $L, "a": $K

## set
S$N = {3, 5}
= ($K if 3 in S$N else $L)
- item of a set: {3, => {4,

## frozenset
S$N = frozenset({"a", "b"})
def in$N(items=S$N): return $K if "a" in items else $L
= in$N()
- item of a frozenset: "a", "b"}) => "c", "b"})

## type in a set
S$N = frozenset({1})
def in$N(items=S$N): return $K if all(type(i) is int for i in items) else $L
= in$N()
- type in a set: {1} => {1.0}

## order of a set
def order$N():
    k = 1.0
    for s in {"a", "b", "c"}: k = k * 1.5 + len(s) * {"a": $K, "b": $L, "c": 0.25}[s]
    return k
= order$N()
~ hash seed: PYTHONHASHSEED=1|2

## hash of a text
def hashed$N(): return $K + hash("text") % 7
= hashed$N()
~ hash seed: PYTHONHASHSEED=1|2

## IntEnum
class Enum$N(enum.IntEnum):
    A = int($K * 4)
    B = 101
= Enum$N.A
- member of an IntEnum: A = int($K * 4) => A = int($J * 4)
- alias: B = 101 => B = 101; C = 7

## member by name
class Enum$N(enum.IntEnum):
    A = int($K * 4)
    B = 101
NAME$N = "A"
= Enum$N[NAME$N]
- member by name: int($K * 4) => int($J * 4)

## Enum
class Enum$N(enum.Enum):
    A = $K
    B = "b"
    @property
    def double(self): return self.value * 2
= Enum$N.A.double
- member of an Enum: A = $K => A = $J
- property of an Enum: * 2 => * 3

## member in a default
class Enum$N(float, enum.Enum):
    A = $K
    B = $L
def member$N(k=Enum$N.A): return k.value * 2
= member$N()
- member in a default: A = $K => A = $J
- another member in a default: k=Enum$N.A => k=Enum$N.B

## IntFlag
class Flag$N(enum.IntFlag):
    A = 1
    B = 2
= (Flag$N.A | Flag$N.B) * $K
- member of an IntFlag: B = 2 => B = 4

## dataclass made inside
@dataclasses.dataclass
class Data$N:
    k: float = $K
    more: list = dataclasses.field(default_factory=lambda: [$L])
    def __post_init__(self): self.sum = self.k + self.more[0] * 2
= Data$N().sum
- default of a field: k: float = $K => k: float = $J
- factory of a field: [$L] => [$J]
- __post_init__: * 2 => * 3

## dataclass made outside
@dataclasses.dataclass(frozen=True)
class Data$N:
    k: float = $K
    def twice(self): return self.k * 2
data$N = Data$N()
= data$N.twice()
- default of a field of an object: = $K => = $J
- method of a dataclass: * 2 => * 3

## NamedTuple
class Named$N(typing.NamedTuple):
    k: float = $K
    j: float = $L
= Named$N().k
- default of a NamedTuple: k: float = $K => k: float = $J
- names are exchanged: k: float = $K\n    j: float = $L => j: float = $K\n    k: float = $L

## environment
= float(os.environ.get("FB_$N", "$K"))
~ variable set for the first time: FB_$N=|$J

## environment by getenv
= float(os.getenv("FB_$N", "$K"))
~ variable set for the first time: FB_$N=|$J
~ variable changed: FB_$N=$L|$J
~ variable taken away: FB_$N=$L|

## environment by in
= ($K if "FB_$N" in os.environ else $L)
~ variable set for the first time: FB_$N=|1

## environment in a helper
def env$N(): return float(os.environ["FB_$N"]) if "FB_$N" in os.environ else $K
= env$N()
~ variable changed: FB_$N=$L|$J
~ variable set for the first time: FB_$N=|$J

## whole environment
def all$N(): return $K if len([name for name in os.environ if name == "FB_$N"]) else $L
= all$N()
~ variable set for the first time: FB_$N=|1

## version of a package
import importlib.metadata
def version$N():
    try: return float(len(importlib.metadata.version("fb-extra-$N"))) + $K
    except importlib.metadata.PackageNotFoundError: return $L
= version$N()
- package appears: fb-extra-$N => torch

## builtin
def pick$N(): return max($K, $L)
= pick$N()
- hidden builtin: def pick => max = min\ndef pick

## builtin that is a class
def pick$N(): return float(int($K * 8))
= pick$N()
- hidden builtin: def pick => int = lambda x: x + 1\ndef pick

## absent attribute of a module
import types as types_
mod$N = types_.ModuleType("mod$N")
= getattr(mod$N, "fast", $K)
- attribute of a module appears: ModuleType("mod$N") => ModuleType("mod$N"); mod$N.fast = $J

## absent global
def ask$N(): return $K if "opt$N" in globals() else $L
= ask$N()
- global appears: def ask => opt$N = 1\ndef ask

## hasattr of an object
class Thing$N: k = $L
thing$N = Thing$N()
= ($K if hasattr(thing$N, "opt") else thing$N.k)
- attribute of a class appears: k = $L => k, opt = $L, 1
- attribute of an object appears: thing$N = Thing$N() => thing$N = Thing$N(); thing$N.opt = 1

## name made from parts
class Thing$N: left_k, right_k = $K, $L
SIDE$N = "le"
def attr$N(o): return getattr(o, SIDE$N + "ft" + "_k")
= attr$N(Thing$N())
- attribute by a name that is made: $K, $L => $J, $L

## class attribute
class Base$N: k = $K
class Thing$N(Base$N): ...
= Thing$N().k
- attribute of a base: Base$N: k = $K => Base$N: k = $J
- attribute overridden: (Base$N): ... => (Base$N): k = $J
- attribute becomes a property: (Base$N): ... => (Base$N): k = property(lambda self: $J)

## __init__
class Base$N:
    def __init__(self, k=$K): self.k = k
class Thing$N(Base$N): ...
= Thing$N().k
- default of __init__: k=$K => k=$J
- __init__ appears: (Base$N): ... => (Base$N):\n    def __init__(self): self.k = $J
- __new__ appears: (Base$N): ... => (Base$N):\n    def __new__(cls): return types.SimpleNamespace(k=$J)

## order of bases
class A$N: k = $K
class B$N: k = $L
class Thing$N(A$N, B$N): ...
= Thing$N.k
- bases turned round: A$N, B$N => B$N, A$N
- another base: (A$N, B$N) => (B$N)

## diamond
class Root$N:
    def k(self): return $K
class A$N(Root$N):
    def k(self): return super().k() * 2
class B$N(Root$N):
    def k(self): return super().k() + 3
class Thing$N(A$N, B$N): ...
thing$N = Thing$N()
= thing$N.k()
- a diamond is turned: A$N, B$N => B$N, A$N
- a mixin goes: A$N, B$N => A$N

## super's order
class Root$N:
    def k(self): return $K
class A$N(Root$N):
    def j(self): return super().j0()
class B$N:
    def j0(self): return $L
class C$N:
    def j0(self): return $J
class Thing$N(A$N, B$N, C$N): ...
= Thing$N().j()
- bases behind turned round: B$N, C$N => C$N, B$N

## alias in a class
class Thing$N:
    def a(self): return $K
    def b(self): return $L
    m = a
thing$N = Thing$N()
= thing$N.m()
- alias: m = a => m = b

## slots
class Thing$N:
    __slots__ = ("k", "g")
    def __init__(self): self.k, self.g = $K, lambda: $L
thing$N = Thing$N()
= thing$N.k
- slot: = $K, => = $J,

## function in a slot
class Thing$N:
    __slots__ = ("g",)
thing$N = Thing$N()
thing$N.g = lambda: $K
= thing$N.g()
- function in a slot: lambda: $K => lambda: $J

## property
class Thing$N:
    def __init__(self): self._k = $K
    @property
    def k(self): return self._k * 2
thing$N = Thing$N()
= thing$N.k
- getter: * 2 => * 3
- attribute: = $K => = $J

## cached property
class Thing$N:
    @functools.cached_property
    def k(self): return $K
= Thing$N().k
- cached property: $K => $J

## descriptor
class Descriptor$N:
    def __init__(self, k): self.k = k
    def __get__(self, o, cls=None): return self.k * 2
class Thing$N: k = Descriptor$N($K)
thing$N = Thing$N()
= thing$N.k
- descriptor's state: ($K) => ($J)
- __get__: * 2 => * 3
- becomes a data descriptor: thing$N = => Descriptor$N.__set__ = lambda self, o, v: None\nthing$N =

## __getattr__
class Thing$N:
    def __getattr__(self, name):
        if name[0] == "_": raise AttributeError(name)
        return $K
thing$N = Thing$N()
= thing$N.k
- __getattr__: return $K => return $J
- attribute in front of __getattr__: thing$N = => Thing$N.k = $J\nthing$N =
- __getattribute__ appears: thing$N = => Thing$N.__getattribute__ = lambda self, n: $J if n == "k" else object.__getattribute__(self, n)\nthing$N =

## truth
class Thing$N: ...
thing$N = Thing$N()
= ($K if thing$N else $L)
- __bool__ appears: : ... => : __bool__ = lambda self: False
- __len__ appears: : ... => : __len__ = lambda self: 0

## equality
class Thing$N: ...
a$N, b$N = Thing$N(), Thing$N()
= ($K if a$N == b$N else $L)
- __eq__ appears: : ... => : __eq__ = lambda self, other: True

## items
class Thing$N(dict): ...
thing$N = Thing$N(a=$K)
= thing$N["a"]
- __getitem__ appears: : ... => : __getitem__ = lambda self, key: $J
- item: a=$K => a=$J

## metaclass
class Meta$N(type):
    @property
    def k(cls): return $K
class Thing$N(metaclass=Meta$N): ...
= Thing$N.k
- property of a metaclass: $K => $J
- length of a class: metaclass=Meta$N): ... => metaclass=Meta$N): k = $J

## instance check
class Meta$N(type): ...
class Thing$N(metaclass=Meta$N): ...
= ($K if isinstance(3, Thing$N) else $L)
- __instancecheck__ appears: Meta$N(type): ... => Meta$N(type): __instancecheck__ = lambda cls, o: True

## registered
class Abstract$N(abc.ABC): ...
class Thing$N: ...
= ($K if issubclass(Thing$N, Abstract$N) else $L)
- registered: Thing$N: ... => Thing$N: ...\nAbstract$N.register(Thing$N)

## cell
def make$N(k): return lambda: k
cell$N = make$N($K)
= cell$N()
- cell: ($K) => ($J)
- code in a closure: lambda: k => lambda: k + 7

## partial
partial$N = functools.partial(lambda k, j=1.0: k * j, $K)
= partial$N()
- argument of a partial: , $K) => , $J)
- keyword of a partial: , $K) => , $K, j=$J)
- function of a partial: k * j => k * j + 1

## cached function
@functools.lru_cache
def cached$N(k): return k * 2
= cached$N($K)
- cached function: * 2 => * 3

## attribute of a function
def named$N(): return named$N.k
named$N.k = $K
= named$N()
- attribute of a function: $K => $J

## annotations
def noted$N(a: "$K", b: int): ...
def read$N(): return $K if noted$N.__annotations__["b"] is int else $L
= read$N()
- annotations: b: int => b: float

## sameness
one$N = [0]
two$N = [0]
= ($K if one$N is two$N else $L)
- two are one: two$N = [0] => two$N = one$N

## sentinel
none$N = object()
def maybe$N(k=none$N): return $K if k is none$N else $L
= maybe$N()
- another sentinel: def maybe => none$N, old$N = object(), none$N\ndef maybe
- default is exchanged: def maybe$N(k=none$N) => def maybe$N(k=object())

## find_spec
= ($K if importlib.util.find_spec("fb_extra_$N") is None else $L)
- package appears: find_spec("fb_extra_$N") => find_spec("json")

## limit of recursion
= (sys.getrecursionlimit() / 1000 * $K)
+ limit of recursion: sys.setrecursionlimit(3000)

## leaf
def leaf$N(t): return $K if t.is_leaf else $L
W$N = torch.ones(2, requires_grad=True)
= leaf$N(W$N)
- leaf: requires_grad=True) => requires_grad=True) * 1

## length of a list
LIST$N = [lambda: 1] * 2
= len(LIST$N) * $K
- length: * 2 => * 3

## item of an object in a list
class Thing$N:
    def __init__(self, k): self.k = k
THINGS$N = [Thing$N($K), Thing$N($L)]
= sum(t.k for t in THINGS$N)
- attribute of an item: Thing$N($L) => Thing$N($J)
- another class of an item: $L)] => $L)]\nclass Other$N(Thing$N): k = property(lambda self: $J, lambda self, k: None)\nTHINGS$N[1] = Other$N(1)
"""

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
def h$N(x, dtype=torch.float64): return $E.to(dtype) * 1.1
= h$N(x)
- dtype in a default: torch.float64 => torch.float32

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


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of a part.

    Attributes:
        name: of the edit.
        swaps: texts of the definition and what stands in their place.
        added: text at the end of the program.
        env: variable, its value at the first and at the second start; empty: unset.
    """

    name: str
    swaps: tuple[tuple[str, str], ...] = ()
    added: str = ""
    env: tuple[str, str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """A value or a way, as this module's text has it."""

    name: str
    text: str
    use: str
    edits: tuple[Edit, ...]

    def edit(self, name):
        """Return the edit of a name."""
        return next(edit for edit in self.edits if edit.name == name)

    def render(self, words, edit=None):
        """Return the definition and the use, after an edit if one is given."""
        text = self.text + "\n=" + self.use
        for old, new in edit.swaps if edit else ():
            if old not in text:
                raise ValueError(f"{self.name}: {edit.name}: {old!r} is not there")
            text = text.replace(old, new)
        text, _, use = string.Template(text).substitute(words).rpartition("\n=")
        return text, use


def read(text):
    """Return the parts that a text defines, by name."""
    parts = {}
    for block in text.split("\n## ")[1:]:
        name, *lines = block.splitlines()
        kept, use, edits = [], "", []
        for line in lines:
            if line.startswith("= "):
                use = line[2:]
            elif line[:2] in ("- ", "+ ", "~ "):
                title, _, rest = line[2:].partition(": ")
                edits.append(_edit(line[0], title, rest))
            else:
                kept.append(line)
        parts[name] = Part(name, "\n".join(kept).strip("\n"), use, tuple(edits))
    return parts


def _edit(kind, title, rest):
    rest = rest.replace("\\n", "\n")
    if kind == "+":
        return Edit(title, added=rest)
    if kind == "~":
        variable, _, values = rest.partition("=")
        return Edit(title, env=(variable, *values.split("|")))
    old, _, new = rest.partition(" =>")
    return Edit(title, swaps=((old, new.removeprefix(" ")),))


VALUE, WAY = read(VALUES), read(WAYS)
