"""Edits of code that does not lie where it is found: exec, cells of a notebook, reload, patches from outside."""

from edits.case import cases, faces

# What is edited, in a module of a third party. Only the program is edited where V is read there.
_FACES = {
    "a function": ("def h(x): return x * 2", "lib.h = lambda x: x * 3", "lib.h(x)"),
    "a function for another": ("def h(x): return x * 2\ndef g(x): return x * 3", "lib.h = lib.g", "lib.h(x)"),
    "a function is wrapped": ("def h(x): return x * 2", "old = lib.h; lib.h = lambda x: old(x) * 3", "lib.h(x)"),
    "a helper of a function": ("def k(x): return x * 2\ndef h(x): return k(x) + 1", "lib.k = lambda x: x * 3", "lib.h(x)"),
    "a constant": ("K = 2.\ndef h(x): return x * K", "lib.K = 3.", "lib.h(x)"),
    "a method": ("class C:\n    def m(self, x): return x * 2", "lib.C.m = lambda self, x: x * 3", "lib.C().m(x)"),
    "a method of a layer": ("class L(nn.Module):\n    def forward(self, x): return x * 2", "lib.L.forward = lambda self, x: x * 3", "layer(x)"),
    "a layer in a Sequential": ("class L(nn.Module):\n    def forward(self, x): return x * 2", "lib.L.forward = lambda self, x: x * 3", "seq(x)"),
    "a class": ("class C:\n    k = 2.", "lib.C = type('C', (), {'k': 3.})", "x * lib.C().k"),
    "a class attribute": ("class C:\n    k = 2.", "lib.C.k = 3.", "x * lib.C().k"),
    "a default": ("def h(x, k=2.): return x * k", "lib.h.__defaults__ = (3.,)", "lib.h(x)"),
    "a keyword default": ("def h(x, *, k=2.): return x * k", "lib.h.__kwdefaults__['k'] = 3.", "lib.h(x)"),
    "code": ("def h(x): return x * 2", "lib.h.__code__ = (lambda x: x * 3).__code__", "lib.h(x)"),
    "an attribute of a function": ("def h(x): return x * h.k\nh.k = 2.", "lib.h.k = 3.", "lib.h(x)"),
    "an element of a table": ("T = {'a': lambda x: x * 2}", "lib.T['a'] = lambda x: x * 3", "lib.T['a'](x)"),
    "a new override of a base's": ("class B:\n    def m(self, x): return x * 2\nclass C(B): pass", "lib.C.m = lambda self, x: x * 3", "lib.C().m(x)"),
    "a base's method": ("class B:\n    def m(self, x): return x * 2\nclass C(B): pass", "lib.B.m = lambda self, x: x * 3", "lib.C().m(x)"),
    "an operator's method": ("class C:\n    def __add__(self, x): return x * 2", "lib.C.__add__ = lambda self, x: x * 3", "lib.C() + x"),
    "a property": ("class C:\n    k = property(lambda self: 2.)", "lib.C.k = property(lambda self: 3.)", "x * lib.C().k"),
    "__getattr__ of the module": ("", "lib.__getattr__ = lambda n: 3.", "x * getattr(lib, 'k', 2.)"),
}  # fmt: skip
CASES = []
for _name, (_library, _patch, _use) in _FACES.items():
    CASES += cases(
        "third party patched",
        f"""
## {_name}
#: file fb_third
{_library}
#: end
import fb_third as lib
layer = lib.L() if hasattr(lib, "L") else None
seq = nn.Sequential(nn.Tanh(), layer) if layer else None
if V == 2:
    {_patch}
f = lambda x: {_use}
""",
    )
_EDITED = {
    "a function": ("def h(x): return x * V", "lib.h(x)"),
    "a helper two deep": ("def a(x): return x * V\ndef h(x): return a(x) + 1", "lib.h(x)"),
    "a default": ("def h(x, k=V): return x * k", "lib.h(x)"),
    "a method of an object made inside": ("class C:\n    def m(self, x, k=V): return x * k", "lib.C().m(x)"),
    "a layer": ("class L(nn.Module):\n    def forward(self, x): return x * V", "layer(x)"),
    "a layer in a Sequential": ("class L(nn.Module):\n    def forward(self, x): return x * V", "seq(x)"),
    "a base of a layer": ("class B(nn.Module):\n    def m(self, x): return x * V\nclass L(B):\n    def forward(self, x): return self.m(x)", "layer(x)"),
    "a decorator": ("def deco(g): return lambda *a: g(*a) * V\n@deco\ndef h(x): return x + 1", "lib.h(x)"),
    "a constant": ("K = V * 2.", "x * lib.K"),
    "an enum": ("class E(enum.IntEnum): A = V + 1", "x * lib.E.A"),
    "a dataclass": ("@dataclasses.dataclass\nclass C:\n    k: float = V * 2.", "x * lib.C().k"),
    "a name that is imported on": ("from fb_deep import h", "lib.h(x)"),
    "a star import": ("from fb_deep import *", "lib.h(x)"),
}  # fmt: skip
for _name, (_library, _use) in _EDITED.items():
    CASES += cases(
        "third party edited",
        f"""
## {_name}
#: file fb_deep
def h(x, k=V * 2.): return x * k
#: end
#: file fb_third
{_library}
#: end
import fb_third as lib
layer = lib.L() if hasattr(lib, "L") else None
seq = nn.Sequential(nn.Tanh(), layer) if layer else None
f = lambda x: {_use}
""",
    )
_MADE = {
    "a helper": ("def h(x): return x * K", "h(x)"),
    "a helper's default": ("def h(x, k=K): return x * k", "h(x)"),
    "a method": ("def m(self, x): return x * K\nclass C: pass\nC.m = m", "C().m(x)"),
    "a class": ("class C:\n    def m(self, x): return x * K", "C().m(x)"),
    "a class's __init__": ("class C:\n    def __init__(self): self.k = K", "x * C().k"),
    "a layer": ("class L(nn.Module):\n    def forward(self, x): return x * K\nlayer = L()", "layer(x)"),
    "a lambda": ("h = lambda x: x * K", "h(x)"),
    "a cell": ("h = (lambda k: lambda x: x * k)(K)", "h(x)"),
    "a decorator": ("def deco(g): return lambda x: g(x) * K\n@deco\ndef h(x): return x + 1", "h(x)"),
    "a generator": ("def g(x):\n    yield x * K", "next(g(x))"),
}
_MAKERS = {
    "exec": "exec(TEXT, globals())",
    "exec with a file's name": "exec(compile(TEXT, '<generated>', 'exec'), globals())",
    "a cell of a notebook": """
import linecache
name = f"<ipython-input-{V}-{abs(hash(TEXT))}>"
linecache.cache[name] = (len(TEXT), None, TEXT.splitlines(True), name)
exec(compile(TEXT, name, "exec"), globals())""",
    "a temporary file": "exec(compile(TEXT, f'/tmp/ipykernel_{V}77/{V}.py', 'exec'), globals())",
}
for _maker, _make in _MAKERS.items():
    CASES += faces(
        f"code made by {_maker}",
        "TEXT = SOURCE.replace('K', '[2., 3.][V - 1]' if 'k=K' in SOURCE or '(K)' in SOURCE else str([2., 3.][V - 1]))\n"
        "MAKE\nf = lambda x: USE\n",
        {name: {"SOURCE": repr(text), "MAKE": _make, "USE": use} for name, (text, use) in _MADE.items()},
    )
CASES += cases(
    "code made otherwise",
    """
## the compiled function
exec(f"def f(x): return x * {V}", globals())

## eval
f = eval(f"lambda x: x * {V}")

## a function of types.FunctionType
def a(x): return x * 2
def b(x): return x * 3
h = types.FunctionType((a if V == 1 else b).__code__, globals(), "h")
f = lambda x: h(x)

## type() with a namespace
C = type("C", (), {"m": (lambda self, x: x * 2) if V == 1 else (lambda self, x: x * 3)})
o = C()
f = lambda x: o.m(x)

## make_dataclass
C = dataclasses.make_dataclass("C", [("k", float, [2., 3.][V - 1])])
f = lambda x: x * C().k

## a method that setattr puts
class C: pass
setattr(C, "m", (lambda k: lambda self, x: x * k)([2., 3.][V - 1]))
o = C()
f = lambda x: o.m(x)

## a replaced code object
def h(x): return x * 2
if V == 2: h.__code__ = h.__code__.replace(co_consts=tuple(3 if c == 2 else c for c in h.__code__.co_consts))
f = lambda x: h(x)

## a class that a function makes
def make(k):
    class C:
        def m(self, x): return x * k
    return C
C = make([2., 3.][V - 1])
o = C()
f = lambda x: o.m(x)

## a layer that a function makes
def make(k):
    class L(nn.Module):
        def forward(self, x): return x * k
    return L()
l = [make([2., 3.][V - 1])]
f = lambda x: l[0](x)

## a copied function
def h(x, k=[2., 3.][V - 1]): return x * k
g = types.FunctionType(h.__code__, h.__globals__, h.__name__, h.__defaults__, h.__closure__)
f = lambda x: g(x)

## __main__ is the program
exec("def h(x): return x * " + str(V), sys.modules["__main__"].__dict__)
h = sys.modules["__main__"].h
f = lambda x: h(x)

## a loader of its own
import importlib.abc, importlib.util
class L(importlib.abc.Loader):
    def create_module(self, spec): return None
    def exec_module(self, module): exec(f"def h(x): return x * {V}", module.__dict__)
spec = importlib.util.spec_from_loader("fb_own", L())
m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m); sys.modules["fb_own"] = m
f = lambda x: m.h(x)

## a module that types makes
m = types.ModuleType("fb_made")
m.h = (lambda x: x * 2) if V == 1 else (lambda x: x * 3)
f = lambda x: m.h(x)
""",
)
CASES += cases(
    "reload",
    """
## a helper, after it was compiled
#: file fb_reloaded
K = int(os.environ.get("FB_R", "1")) + 1
def h(x): return x * K
#: end
import fb_reloaded
if V == 2:
    os.environ["FB_R"] = "2"
    importlib.reload(fb_reloaded)
f = lambda x: fb_reloaded.h(x)

## a name that was imported before
#: file fb_reloaded
def h(x, k=int(os.environ.get("FB_R", "1")) + 1.): return x * k
#: end
import fb_reloaded
from fb_reloaded import h
os.environ["FB_R"] = "2"
if V == 2:
    importlib.reload(fb_reloaded)
    from fb_reloaded import h
f = lambda x: h(x)

## a layer's class
#: file fb_reloaded
K = int(os.environ.get("FB_R", "1")) + 1.
class L(nn.Module):
    def forward(self, x, k=K): return x * k
#: end
import fb_reloaded
if V == 2:
    os.environ["FB_R"] = "2"
    importlib.reload(fb_reloaded)
l = [fb_reloaded.L()]
f = lambda x: l[0](x)

## an old object of a class that was reloaded
#: file fb_reloaded
class C: pass
#: end
import fb_reloaded
o = fb_reloaded.C()
if V == 2: importlib.reload(fb_reloaded)
f = lambda x: x * 2 if isinstance(o, fb_reloaded.C) else x * 3

## in the same process, after the first call
#: file fb_reloaded
K = int(os.environ.get("FB_R", "1")) + 1.
def h(x): return x * K
#: end
import fb_reloaded
f = lambda x: fb_reloaded.h(x)
def program():
    first = torch.compile(f)(torch.ones(2))
    os.environ["FB_R"] = str(V + 1)
    importlib.reload(fb_reloaded)
    return [first, torch.compile(f)(torch.ones(2))]

## a cell is run again
exec("def h(x): return x * 2", globals())
if V == 2: exec("def h(x): return x * 3", globals())
f = lambda x: h(x)
""",
)
CASES += cases(
    "patched in a run",
    """
## a global between two calls
K = 2.
f = lambda x: x * K
def program():
    global K
    g = torch.compile(f)
    first = g(torch.ones(2))
    K = [3., 5.][V - 1]
    return [first, g(torch.ones(2))]

## a default between two calls
def h(x, k=2.): return x * k
f = lambda x: h(x)
def program():
    g = torch.compile(f)
    first = g(torch.ones(2))
    h.__defaults__ = ([3., 5.][V - 1],)
    return [first, g(torch.ones(2))]

## a closure's cell between two calls
def make():
    k = 2.
    def f(x): return x * k
    def put(v):
        nonlocal k
        k = v
    return f, put
f, put = make()
def program():
    g = torch.compile(f)
    first = g(torch.ones(2))
    put([3., 5.][V - 1])
    return [first, g(torch.ones(2))]

## a variable between two calls
os.environ["FB_K"] = "2"
f = lambda x: x * float(os.environ["FB_K"])
def program():
    g = torch.compile(f)
    first = g(torch.ones(2))
    os.environ["FB_K"] = "35"[V - 1]
    return [first, g(torch.ones(2))]

## the second of two compiled functions
f = lambda x: x * 2
h = (lambda x: x * 3) if V == 1 else (lambda x: x * 5)
def program(): return [torch.compile(f)(torch.ones(2)), torch.compile(h)(torch.ones(2))]

## what a resume function calls
def k(x): return x * [2., 3.][V - 1]
def f(x):
    x = x + 1
    torch._dynamo.graph_break()
    return k(x)

## what a resume function inherits
class B(nn.Module):
    def h(self, x): return x * 2
class M(B):
    if V == 2:
        def h(self, x): return x * 5
    def forward(self, x):
        x = x + 1
        torch._dynamo.graph_break()
        return self.h(x)
f = M()
""",
)
