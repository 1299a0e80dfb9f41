"""What is looked up and may be absent, builtins, and what reflection sees."""

from edits.case import cases

CASES = cases(
    "absent until now",
    """
## a global that getattr asks a module for
me = sys.modules[__name__]
if V == 2: fast = 3.
f = lambda x: x * getattr(me, "fast", 2.)

## hasattr of a module
me = sys.modules[__name__]
if V == 2: fast = 3.
f = lambda x: x * 3 if hasattr(me, "fast") else x * 2

## globals()
if V == 2: fast = 3.
f = lambda x: x * globals().get("fast", 2.)

## a name in globals()
if V == 2: fast = 3.
f = lambda x: x * 3 if "fast" in globals() else x * 2

## NameError
if V == 2: fast = 3.
def f(x):
    try: return x * fast
    except NameError: return x * 2

## ImportError
#: file fb_absent
if V == 1: raise ImportError
K = 3.
#: end
try:
    import fb_absent
except ImportError:
    fb_absent = None
f = lambda x: x * 2 if fb_absent is None else x * fb_absent.K

## a module in sys.modules
if V == 2: sys.modules["fb_there"] = types.ModuleType("fb_there")
f = lambda x: x * 2 if "fb_there" in sys.modules else x * 3

## find_spec of a module
if V == 2:
    import importlib.machinery
    m = types.ModuleType("fb_pkg2"); m.__spec__ = importlib.machinery.ModuleSpec("fb_pkg2", None)
    sys.modules["fb_pkg2"] = m
import importlib.util
def have(): return importlib.util.find_spec("fb_pkg2") is not None
f = lambda x: x * 3 if have() else x * 2

## find_spec that a cached helper asks
#: file fb_extra
import importlib.util
@functools.lru_cache
def have(): return V == 2
#: end
import fb_extra
f = lambda x: x * 3 if fb_extra.have() else x * 2

## an attribute of an object
o = types.SimpleNamespace()
if V == 2: o.k = 3.
f = lambda x: x * getattr(o, "k", 2.)

## an attribute of a class
class C: pass
if V == 2: C.k = 3.
f = lambda x: x * getattr(C, "k", 2.)

## an attribute of a base
class B: pass
class C(B): pass
if V == 2: B.k = 3.
o = C()
f = lambda x: x * getattr(o, "k", 2.)

## a class attribute of an object made inside
class C: pass
if V == 2: C.k = 3.
f = lambda x: x * getattr(C(), "k", 2.)

## a method that is called when there
class C:
    if V == 2:
        def prepare(self, x): return x * 3
o = C()
f = lambda x: o.prepare(x) if hasattr(o, "prepare") else x * 2

## an attribute of a module of layers
m = nn.Tanh()
if V == 2: m.scale = 3.
f = lambda x: m(x) * getattr(m, "scale", 2.)

## AttributeError of a module of layers
class M(nn.Module):
    def forward(self, x):
        try: return x * self.scale
        except AttributeError: return x * 2
f = M()
if V == 2: f.scale = 3.

## an attribute of a function
def h(x): return x * getattr(h, "k", 2.)
if V == 2: h.k = 3.
f = lambda x: h(x)

## an attribute of a tensor
t = torch.ones(2)
if V == 2: t.k = 3.
f = lambda x: x * getattr(t, "k", 2.)

## a key of a dict
d = {}
if V == 2: d["k"] = 3.
f = lambda x: x * d.get("k", 2.)

## a key of a dict of an object
o = types.SimpleNamespace(d={})
if V == 2: o.d["k"] = 3.
f = lambda x: x * 3 if "k" in o.d else x * 2

## an element of a set
s = {1}
if V == 2: s.add(2)
f = lambda x: x * 3 if 2 in s else x * 2

## a keyword that an object's __dict__ has
class C:
    def __init__(self, **k): self.__dict__.update(k)
o = C(**({} if V == 1 else {"k": 3.}))
f = lambda x: x * o.__dict__.get("k", 2.)

## __getattr__ of a module
#: file fb_lazy
if V == 2:
    def __getattr__(name): return 3.
#: end
import fb_lazy
f = lambda x: x * getattr(fb_lazy, "k", 2.)

## __getattr__ of a module is edited
#: file fb_lazier
def __getattr__(name): return [2., 3.][V - 1]
#: end
import fb_lazier
f = lambda x: x * fb_lazier.k

## a submodule of a package
#: file fb_sub
#: end
import fb_sub
if V == 2: fb_sub.child = types.SimpleNamespace(k=3.)
f = lambda x: x * fb_sub.child.k if hasattr(fb_sub, "child") else x * 2

## hasattr of torch.ops
f = lambda x: x * 3 if hasattr(torch.ops.aten, "relu") and hasattr(torch, "fb_there") else x * 2
if V == 2: torch.fb_there = 1

## a version of a distribution
import importlib.metadata
old = importlib.metadata.version
if V == 2: importlib.metadata.version = lambda n: "9.9" if n == "torch" else old(n)
def new(): return importlib.metadata.version("torch") >= "9"
f = lambda x: x * 3 if new() else x * 2

## torch.__version__ in a constant
NEW = V == 2
f = lambda x: x * 3 if NEW else x * 2
""",
)
CASES += cases(
    "builtins",
    """
## hidden by a global
if V == 2: len = lambda o: 7
f = lambda x: x * len([1, 2])

## hidden in a helper's module
#: file fb_hidden
if V == 2: abs = lambda o: 7
def h(x): return x * abs(-2)
#: end
import fb_hidden
f = lambda x: fb_hidden.h(x)

## no longer hidden
if V == 1: sum = lambda o: 7
f = lambda x: x * sum([1, 2])

## patched
import builtins
if V == 2: builtins.len = lambda o, n=len: n(o) + 1 if type(o) is list and o == [1, 2, 77] else n(o)
f = lambda x: x * len([1, 2, 77])

## a new one
import builtins
if V == 2: builtins.fb_new = 3.
def f(x):
    try: return x * fb_new
    except NameError: return x * 2

## a global takes a new one's place
import builtins
builtins.fb_k = 2.
if V == 2: fb_k = 3.
f = lambda x: x * fb_k

## isinstance is hidden
if V == 2: isinstance = lambda o, c: True
f = lambda x: x * 2 if isinstance(1, str) else x * 3

## range is hidden
if V == 2: range = lambda n: [1, 2, 3, 4]
def f(x):
    for n in range(2): x = x + n
    return x

## print in a helper
if V == 2: float = lambda o: 9.
f = lambda x: x * float(2)

## math is another module
if V == 2: math = types.SimpleNamespace(sqrt=lambda k: k * 3)
f = lambda x: x * math.sqrt(4.)

## a function of math is patched
if V == 2: math.sqrt = lambda k: k * 3
f = lambda x: x * math.sqrt(4.)

## a function of operator is patched
if V == 2: operator.mul = operator.add
f = lambda x: operator.mul(x, 5)

## super is hidden
class B:
    def m(self, x): return x * 2
if V == 2: super = lambda c, o: types.SimpleNamespace(m=lambda x: x * 3)
class C(B):
    def m(self, x): return super(C, self).m(x)
o = C()
f = lambda x: o.m(x)
""",
)
CASES += cases(
    "reflection",
    """
## annotations of a function
def g(a: int if V == 1 else float): pass
f = lambda x: x * 2 if g.__annotations__["a"] is int else x * 3

## annotations of a class
class C:
    a: int
    if V == 2: b: int
f = lambda x: x * len(C.__annotations__)

## a function's name
def g(): pass
if V == 2: g.__name__ = "other"
f = lambda x: x * len(g.__name__)

## a class's name
C = type("C" * V, (), {})
o = C()
f = lambda x: x * len(type(o).__name__)

## a docstring
def g(): return 1
g.__doc__ = "a" * V
f = lambda x: x * len(g.__doc__)

## a function's defaults
def g(a=[2., 3.][V - 1]): pass
f = lambda x: x * g.__defaults__[0]

## a code's names
g = eval("lambda a: a") if V == 1 else eval("lambda a, b: a")
f = lambda x: x * g.__code__.co_argcount

## __dict__ of a class
class C:
    if V == 2: k = 1
f = lambda x: x * 3 if "k" in C.__dict__ else x * 2

## __slots__
class C: __slots__ = ("a",) if V == 1 else ("a", "b")
f = lambda x: x * len(C.__slots__)

## dir of an object
class C:
    if V == 2: k = 1
def f(x): return x * 3 if "k" in dir(C) else x * 2

## the signature of a function
import inspect
def g(a, b=[2., 3.][V - 1]): pass
f = lambda x: x * inspect.signature(g).parameters["b"].default

## the limit of recursion
sys.setrecursionlimit(4000 + V)
def h(): return sys.getrecursionlimit()
f = lambda x: x * h()

## sys.flags and the like
sys.fb_k = [2., 3.][V - 1]
f = lambda x: x * sys.fb_k

## callable
class C:
    if V == 2:
        def __call__(self): pass
o = C()
f = lambda x: x * 2 if callable(o) else x * 3

## a module's __doc__
#: file fb_named
__doc__ = "text" * V
def h(): return len(__doc__)
#: end
import fb_named
f = lambda x: x * fb_named.h()

## a module's __file__
me = types.SimpleNamespace(file="a" if V == 1 else "ab")
f = lambda x: x * len(me.file)
""",
)
