"""Edits of values that compare equal, of which names are one object, and of abstract classes."""

from edits.case import cases, faces

# A value that compares equal to the one before. READ is what f does with v.
_EXACT = {
    "-0.0": ("0.0", "-0.0", "x + math.copysign(1., v)"),
    "1 and 1.0": ("1", "1.0", "x * 2 if isinstance(v, int) else x * 3"),
    "1 and True": ("1", "True", "x * 2 if isinstance(v, bool) else x * 3"),
    "a tuple of 1 and 1.0": ("(1, 2)", "(1.0, 2)", "x * 2 if isinstance(v[0], int) else x * 3"),
    "a frozenset of 1 and 1.0": (
        "frozenset({1})",
        "frozenset({1.0})",
        "x * 2 if isinstance(list(v)[0], int) else x * 3",
    ),
    "0 and False": ("0", "False", "x * 2 if v is False else x * 3"),
    "a complex's sign": ("complex(1., 0.)", "complex(1., -0.)", "x + math.copysign(1., v.imag)"),
}
_HOLDERS = {
    "in a global": "v = VALUE\nf = lambda x: READ",
    "in a list": "l = [VALUE]\ndef f(x):\n    v = l[0]\n    return READ",
    "in a dict": "d = {'a': VALUE}\ndef f(x):\n    v = d['a']\n    return READ",
    "in an attribute": "o = types.SimpleNamespace(v=VALUE)\ndef f(x):\n    v = o.v\n    return READ",
    "in a module": """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = VALUE
    def forward(self, x):
        v = self.v
        return READ
f = M()""",
    "in a default": "def f(x, v=VALUE): return READ",
    "in a cell": "f = (lambda v: lambda x: READ)(VALUE)",
    "in a class": "class C: v = VALUE\ndef f(x):\n    v = C.v\n    return READ",
    "as an argument": "f = lambda x, v: READ\ncall = lambda f: f(torch.ones(2), VALUE)",
}
CASES = []
for _name, (_old, _new, _read) in _EXACT.items():
    CASES += faces(
        "equal values",
        "HOLD\n",
        {
            f"{_name} {place}": {"HOLD": hold, "VALUE": f"({_old} if V == 1 else {_new})", "READ": _read}
            for place, hold in _HOLDERS.items()
        },
    )

CASES += cases(
    "sameness",
    """
## a shared state dict's tensor
a, b = torch.ones(2), torch.ones(2)
d = {"a": a, "b": a if V == 2 else b}
def f(x):
    d["a"].add_(1)
    return x * d["b"]

## two attributes
o = types.SimpleNamespace(a=[1.], b=None)
o.b = o.a if V == 2 else [1.]
def f(x):
    return x * 2 if o.a is o.b else x * 3

## a list and its alias
a = [2.]
b = a if V == 2 else [2.]
def f(x):
    a.append(3.)
    return x * len(b)
def call(f): return f(torch.ones(2))

## a parameter that is tied
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.a.weight, 2.); nn.init.constant_(self.b.weight, 2.)
        if V == 2: self.b.weight = self.a.weight
    def forward(self, x): return self.b(self.a(x))
m = M()
f = m
def call(f):
    f(torch.ones(2)).sum().backward()
    return [p.grad for p in m.parameters()]

## a layer used twice
class S(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0
    def forward(self, x):
        self.n += 1
        return x * self.n
s = S()
ms = [s, s if V == 2 else S()]
f = lambda x: ms[1](ms[0](x))
def call(f): return f(torch.ones(2))

## an argument passed twice
#: says b
f = lambda a, b: a.add_(1) * b
def call(f):
    a = torch.ones(2)
    return f(a, a if V == 2 else torch.ones(2))

## a view of an argument
#: says b
f = lambda a, b: a.add_(1) * b
def call(f):
    a = torch.ones(4)
    return f(a[:2], a[:2] if V == 2 else torch.ones(2))

## a sentinel from another module's name
MISSING = object()
default = MISSING if V == 2 else None
f = lambda x: x * 2 if default is MISSING else x * 3

## a class is another's alias
class A: k = 2.
class B: k = 3.
if V == 2: B = A
f = lambda x: x * 2 if A is B else x * B.k

## a function is another's alias
def a(x): return x * 2
def b(x): return x * 3
if V == 2: b = a
f = lambda x: b(x) if a is b else b(x) + 1

## the index of an object
a, b = types.SimpleNamespace(k=1), types.SimpleNamespace(k=1)
l = [a, b]
p = a if V == 1 else b
def f(x):
    for n, o in enumerate(l):
        if o is p: x = x * (n + 2)
    return x

## a weak reference's target
import weakref
a, b = nn.Linear(1, 1), nn.Linear(1, 1)
r = weakref.ref(a if V == 1 else b)
f = lambda x: x * 2 if r() is a else x * 3

## a dict with one list twice
l = [1.]
d = {"a": l, "b": l if V == 2 else [1.]}
def f(x):
    d["a"][0] = 5.
    return x * d["b"][0]
def call(f): return f(torch.ones(2))

## a global tensor that is an argument too
t = torch.ones(2)
def f(x):
    t.add_(1)
    return x * 3
def call(f): return f(t if V == 2 else torch.ones(2))

## a buffer that is another's
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("a", torch.ones(2))
        self.register_buffer("b", self.a if V == 2 else torch.ones(2))
    def forward(self, x):
        self.a.add_(1)
        return x * self.b
f = M()
""",
)

CASES += cases(
    "ABC",
    """
## register of an instance's class
class A(abc.ABC): pass
class C: pass
if V == 2: A.register(C)
o = C()
f = lambda x: x * 2 if isinstance(o, A) else x * 3

## register of a class
class A(abc.ABC): pass
class C: pass
if V == 2: A.register(C)
f = lambda x: x * 2 if issubclass(C, A) else x * 3

## a class gets what an abstract one asks for
class C:
    if V == 2:
        def __len__(self): return 2
o = C()
f = lambda x: x * 2 if isinstance(o, collections.abc.Sized) else x * 3

## a protocol at run time
@typing.runtime_checkable
class P(typing.Protocol):
    def m(self): ...
class C:
    if V == 2:
        def m(self): pass
o = C()
f = lambda x: x * 2 if isinstance(o, P) else x * 3

## __subclasshook__
class A(abc.ABC):
    @classmethod
    def __subclasshook__(cls, c): return V == 2
o = types.SimpleNamespace()
f = lambda x: x * 2 if isinstance(o, A) else x * 3

## register of a callable
class A(abc.ABC): pass
class C:
    def __call__(self, x): return x
if V == 2: A.register(C)
o = C()
f = lambda x: o(x) * 2 if isinstance(o, A) else o(x) * 3
""",
)
