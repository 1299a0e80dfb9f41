"""The parts that say where a number comes from; `fuzz.parts` says how to read them."""

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

## sum of a set
S$N = {3, 5}
= (sum(sorted(S$N)) * $K)
- item of a set: {3, => {4,

## functions in a class
class Thing$N:
    partial = functools.partial(lambda k, j=1.0: k * j, $K)
    cached = staticmethod(functools.lru_cache(lambda: $L))
= (Thing$N().partial() + Thing$N().cached())
- argument of a partial in a class: j=1.0: k * j, $K) => j=1.0: k * j, $J)
- function of a partial in a class: k * j, => k * j + 1,
- cached function in a class: lambda: $L => lambda: $J

## bound method in a class
class Held$N:
    def __init__(self, k): self.k = k
    def m(self): return self.k * 2
class Thing$N: bound = Held$N($K).m
= Thing$N().bound()
- object of a bound method in a class: Held$N($K) => Held$N($J)
- function of a bound method in a class: self.k * 2 => self.k * 3

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

## values of the whole environment
def all$N(): return $K if any(value == "fb_$N" for value in os.environ.values()) else $L
= all$N()
~ variable changed: FB_$N=other|fb_$N

## version of a package
import importlib.metadata, pathlib, tempfile
installed$N = pathlib.Path(tempfile.mkdtemp()) / "fb_extra_$N-1.0.dist-info"
installed$N.mkdir()
(installed$N / "METADATA").write_text("Metadata-Version: 2.1" + chr(10) + "Name: fb-extra-$N" + chr(10) + "Version: " + "$K" + chr(10))
sys.path.insert(0, str(installed$N.parent))
= float(importlib.metadata.version("fb-extra-$N"))
- version of a package: "Version: " + "$K" => "Version: " + "$J"

## builtin
def pick$N(): return max($K, $L)
= pick$N()
- hidden builtin: def pick => max = min\ndef pick

## rare builtin
def pick$N(): return divmod(7, 2)[0] * $K
= pick$N()
+ patched builtin: import builtins; builtins.divmod = lambda a, b: (a, b)

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
class Base$N: left_k, right_k = $K, $L
class Thing$N(Base$N): ...
SIDE$N = "le"
def attr$N(o): return getattr(o, SIDE$N + "ft" + "_k")
= attr$N(Thing$N())
- attribute by a name that is made: $K, $L => $J, $L
- override of a name that is made: (Base$N): ... => (Base$N): left_k = $J

## method by a name that is made
class Base$N:
    def left_k(self): return $K
class Thing$N(Base$N): ...
SIDE$N = "le"
def attr$N(o): return getattr(o, SIDE$N + "ft" + "_k")()
= attr$N(Thing$N())
- override of a name that is made: (Base$N): ... => (Base$N):\n    def left_k(self): return $J

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
