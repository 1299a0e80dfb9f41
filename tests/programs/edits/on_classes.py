"""Edits of classes: what is inherited, and what overrides it."""

from edits.case import cases, faces

# A subclass gets what it inherited until now. HAS is the inherited thing, NEW the nearer one, USE what f does.
_OVERRIDES = {
    "a method": ("def m(self, x): return x * 2", "def m(self, x): return x * 5", "o.m(x)"),
    "a class method": (
        "@classmethod\n    def m(cls, x): return x * 2",
        "@classmethod\n        def m(cls, x): return x * 5",
        "o.m(x)",
    ),
    "a static method": (
        "@staticmethod\n    def m(x): return x * 2",
        "@staticmethod\n        def m(x): return x * 5",
        "o.m(x)",
    ),
    "a property": (
        "@property\n    def k(self): return 2.",
        "@property\n        def k(self): return 5.",
        "x * o.k",
    ),
    "an attribute": ("k = 2.", "k = 5.", "x * o.k"),
    "an attribute by a property": ("k = 2.", "k = property(lambda self: 5.)", "x * o.k"),
    "__len__": ("def __len__(self): return 2", "def __len__(self): return 5", "x * len(o)"),
    "__contains__": (
        "def __contains__(self, a): return True",
        "def __contains__(self, a): return False",
        "x * 2 if 1 in o else x * 3",
    ),
    "__iter__": (
        "def __iter__(self): return iter([2., 3.])",
        "def __iter__(self): return iter([5., 3.])",
        "x * next(iter(o))",
    ),
    "__call__": ("def __call__(self, x): return x * 2", "def __call__(self, x): return x * 5", "o(x)"),
    "__add__": ("def __add__(self, x): return x * 2", "def __add__(self, x): return x * 5", "o + x"),
    "__radd__": ("def __radd__(self, x): return x * 2", "def __radd__(self, x): return x * 5", "2 + o + x"),
    "__lt__": (
        "def __lt__(self, a): return True",
        "def __lt__(self, a): return False",
        "x * 2 if o < 1 else x * 3",
    ),
    "__bool__": ("def __len__(self): return 1", "def __bool__(self): return False", "x * 2 if o else x * 3"),
    "__hash__": (
        "def __hash__(self): return 1",
        "def __hash__(self): return 2",
        "x * hash(o)",
    ),
    "__str__": ("def __str__(self): return 'a'", "def __str__(self): return 'abc'", "x * len(str(o))"),
    "__getitem__": ("def __getitem__(self, i): return 2.", "def __getitem__(self, i): return 5.", "x * o[0]"),
    "__getattr__": ("def __getattr__(self, n): return 2.", "def __getattr__(self, n): return 5.", "x * o.k"),
    "__enter__": (
        "def __enter__(self): return 2.\n    def __exit__(self, *a): pass",
        "def __enter__(self): return 5.",
        "within(o, x)",
    ),
    "__init__ of an object made inside": (
        "def __init__(self): self.k = 2.",
        "def __init__(self): self.k = 5.",
        "x * M().k",
    ),
    "__new__ of an object made inside": (
        "def __new__(cls):\n        o = object.__new__(cls)\n        o.k = 2.\n        return o",
        "def __new__(cls):\n            o = object.__new__(cls)\n            o.k = 5.\n            return o",
        "x * M().k",
    ),
    "a method that super() reaches": (
        "def m(self, x): return x * 2\n    def n(self, x): return self.m(x) + 1",
        "def m(self, x): return super().m(x) * 5",
        "o.n(x)",
    ),
}
_TEMPLATE = """
def within(o, x):
    with o as k: return x * k
class A:
    HAS
class B(A): pass
class M(B):
    pass
    if V == 2:
        NEW
o = M()
f = lambda x: USE
"""
_MIDDLE = _TEMPLATE.replace("class B(A): pass", "class B(A):\n    if V == 2:\n        NEW").replace(
    "    pass\n    if V == 2:\n        NEW\no", "    pass\no"
)
_WORDS = {name: dict(zip(("HAS", "NEW", "USE"), words, strict=True)) for name, words in _OVERRIDES.items()}

CASES = faces("override", _TEMPLATE, {f"of {name}": words for name, words in _WORDS.items()})
CASES += faces("override half way", _MIDDLE, {f"of {name}": words for name, words in _WORDS.items()})

# The same edit of a module's class, where the module lies elsewhere.
_CHILD = """
class B(nn.Module):
    def forward(self, x): return x * 2
class M(B):
    if V == 2:
        def forward(self, x): return x * 5
PLACE
"""
CASES += faces(
    "override in a child",
    _CHILD,
    {
        "of a list": {"PLACE": "ms = [M()]\nf = lambda x: ms[0](x)"},
        "of a ModuleList": {"PLACE": "ms = nn.ModuleList([nn.ReLU(), M()])\nf = lambda x: ms[1](ms[0](x))"},
        "of a ModuleDict": {"PLACE": "ms = nn.ModuleDict({'a': M()})\nf = lambda x: ms['a'](x)"},
        "of a nested Sequential": {"PLACE": "f = nn.Sequential(nn.Sequential(nn.ReLU(), M()))"},
        "of an object": {"PLACE": "o = types.SimpleNamespace(m=M())\nf = lambda x: o.m(x)"},
        "made inside": {"PLACE": "f = lambda x: M().forward(x)"},
        "of a dict": {"PLACE": "d = {'a': M()}\nf = lambda x: d['a'](x)"},
        "that is looped over": {
            "PLACE": """
ms = nn.ModuleList([M(), M()])
def f(x):
    for m in ms: x = m(x)
    return x"""
        },
        "that forward calls": {"PLACE": "m = M()\nf = lambda x: m.forward(x)"},
        "under Module.compile": {
            "PLACE": """
def program():
    m = M()
    m.compile()
    return m(torch.ones(2))"""
        },
    },
)

CASES += cases(
    "order of bases",
    """
## a mixin comes in
class B:
    def m(self, x): return x * 2
class Mixin:
    def m(self, x): return super().m(x) * 5
class M(*((B,) if V == 1 else (Mixin, B))): pass
o = M()
f = lambda x: o.m(x)

## a mixin of a module
class Mixin:
    def h(self, x): return x * 5
class M(*((nn.Module,) if V == 1 else (Mixin, nn.Module))):
    def forward(self, x): return self.h(x) if hasattr(self, "h") else x
f = M()

## a diamond is turned
class A:
    def m(self, x): return x
class B(A):
    def m(self, x): return super().m(x) * 2 + 1
class C(A):
    def m(self, x): return (super().m(x) + 3) * 5
class M(*((B, C) if V == 1 else (C, B))): pass
o = M()
f = lambda x: o.m(x)

## another base of a base
class P:
    def h(self, x): return x * 2
class Q:
    def h(self, x): return x * 5
class B(P if V == 1 else Q): pass
class M(B): pass
o = M()
f = lambda x: o.h(x)

## bases are set later
class P:
    def h(self, x): return x * 2
class Q:
    def h(self, x): return x * 5
class M(P): pass
if V == 2: M.__bases__ = (Q,)
o = M()
f = lambda x: o.h(x)

## the class of an object is set
class P:
    def h(self, x): return x * 2
class Q:
    def h(self, x): return x * 5
o = P()
if V == 2: o.__class__ = Q
f = lambda x: o.h(x)

## the class of a module is set
class P(nn.Module):
    def forward(self, x): return x * 2
class Q(nn.Module):
    def forward(self, x): return x * 5
m = P()
if V == 2: m.__class__ = Q
f = lambda x: m(x)

## super of two arguments
class A:
    def m(self, x): return x * 2
class B(A):
    def m(self, x): return x * 5
class M(B):
    def m(self, x): return super(M if V == 1 else B, self).m(x)
o = M()
f = lambda x: o.m(x)

## a subclass of list
class P(list):
    def __getitem__(self, i): return 2.
class M(P if V == 1 else list): pass
o = M([7.])
f = lambda x: x * o[0]

## a subclass of dict
class P(dict):
    def __missing__(self, k): return 2.
class Q(dict):
    def __missing__(self, k): return 5.
class M(P if V == 1 else Q): pass
o = M()
f = lambda x: x * o["k"]

## isinstance of a new base
class A: pass
class M(*(() if V == 1 else (A,))): pass
o = M()
f = lambda x: x * 2 if isinstance(o, A) else x * 3

## issubclass
class A: pass
class M(*(() if V == 1 else (A,))): pass
f = lambda x: x * 2 if issubclass(M, A) else x * 3

## __mro__ is read
class A: pass
class M(*(() if V == 1 else (A,))): pass
f = lambda x: x * len(M.__mro__)
""",
)
