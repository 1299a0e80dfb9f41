"""Edits of functions that are called by the compiled one: what wraps them, what they were given, where they lie."""

from edits.case import cases, faces

# One edit of a function through every way that leads to it. REACH makes `f` from `h`, made from `base` and `K`.
_EDITS = {
    "another default": "def h(x, k=K): return x * k",
    "another keyword default": "def h(x, *, k=K): return x * k",
    "another cell": "h = (lambda k: lambda x: x * k)(K)",
    "wrapped": """
def base(x): return x * 2
def wrap(g):
    @functools.wraps(g)
    def wrapper(x): return g(x) + 5
    return wrapper
h = base if V == 1 else wrap(base)""",
    "a wrapper is edited": """
def base(x): return x * 2
def wrap(g):
    def wrapper(x): return g(x) + K
    wrapper.__name__, wrapper.__qualname__ = g.__name__, g.__qualname__
    return wrapper
h = wrap(base)""",
    "other code": """
if V == 1:
    def h(x): return x * 2
else:
    def h(x): return x * 3""",
    "exchanged code": """
def h(x): return x * 2
def other(x): return x * 3
if V == 2: h.__code__ = other.__code__""",
    "exchanged defaults": """
def h(x, k=2.): return x * k
if V == 2: h.__defaults__ = (3.,)""",
    "a partial's argument": """
def base(x, k): return x * k
h = functools.partial(base, k=K)""",
}
_WAYS = {
    "a global": "f = lambda x: h(x)",
    "a helper's global": "def middle(x): return h(x)\nf = lambda x: middle(x) + 1",
    "a list": "table = [None, h]\nf = lambda x: table[1](x)",
    "a dict": "table = {'h': h}\nf = lambda x: table['h'](x)",
    "an attribute": "o = types.SimpleNamespace(h=h)\nf = lambda x: o.h(x)",
    "a static method": "class C: m = staticmethod(h)\nf = lambda x: C.m(x)",
    "a static method of an object made inside": "class C: m = staticmethod(h)\nf = lambda x: C().m(x)",
    "a module's attribute": """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = h
    def forward(self, x): return self.h(x)
f = M()""",
    "a closure": "f = (lambda g: lambda x: g(x))(h)",
    "a default": "def f(x, g=h): return g(x)",
    "an argument": "def inner(x, g): return g(x)\nf = inner\ncall = lambda f: f(torch.ones(2), h)",
}

_SAYS = {
    "a list": "table",
    "a closure": "g",
    "a default": "g",
    "an argument": "g",
}  # what it goes by at the end of the way

CASES = [
    case
    for way, reach in _WAYS.items()
    for case in faces(
        "function through " + way,
        "K = [2., 3.][V - 1]\nEDIT\nREACH\n",
        {
            name: {
                "EDIT": edit,
                "REACH": reach,
                "says": "K|" + _SAYS.get(way, "m" if "static" in way else "h|base"),
            }
            for name, edit in _EDITS.items()
        },
    )
]

CASES += cases(
    "decorator of a method",
    """
## patched from outside
class C:
    def m(self, x): return x + 1
def patched(g): return lambda self, x: g(self, x) * 3
o = C()
if V == 2: C.m = patched(C.m)
f = lambda x: o.m(x)

## unwrapped
def deco(g): return lambda self, x: g(self, x) * 3
class C:
    def m(self, x): return x + 1
    if V == 1: m = deco(m)
o = C()
f = lambda x: o.m(x)

## a base's method
def deco(g): return lambda self, x: g(self, x) * 3
class B(nn.Module):
    def m(self, x): return x + 1
if V == 2: B.m = deco(B.m)
class M(B):
    def forward(self, x): return self.m(x)
f = M()

## twice
def deco(k): return lambda g: lambda self, x: g(self, x) * k
class M(nn.Module):
    @deco(2.)
    def forward(self, x): return x + 1
    if V == 2: forward = deco(5.)(forward)
f = M()

## two in another order
def add(g): return lambda self, x: g(self, x) + 1
def mul(g): return lambda self, x: g(self, x) * 3
class M(nn.Module):
    def forward(self, x): return x * 2
    forward = add(mul(forward)) if V == 1 else mul(add(forward))
f = M()

## a class as a decorator
class Scaled:
    def __init__(self, g, k): self.g, self.k = g, k
    def __get__(self, o, owner=None): return lambda x: self.g(o, x) * self.k
class C:
    def m(self, x): return x + 1
    m = Scaled(m, [2., 3.][V - 1])
o = C()
f = lambda x: o.m(x)

## with an argument that is a function
def after(h): return lambda g: lambda self, x: h(g(self, x))
class M(nn.Module):
    @after((lambda y: y * 2) if V == 1 else (lambda y: y * 3))
    def forward(self, x): return x + 1
f = M()

## with a list
def scaled(ks):
    def deco(g):
        def wrapper(self, x):
            for k in ks: x = x * k
            return g(self, x)
        return wrapper
    return deco
class M(nn.Module):
    @scaled([2., 3., V])
    def forward(self, x): return x + 1
f = M()

## a property is wrapped
def deco(g): return lambda self: g(self) * 3
class C:
    def _k(self): return 2.
    k = property(_k if V == 1 else deco(_k))
o = C()
f = lambda x: x * o.k

## a class method's cell
def make(k): return classmethod(lambda cls, x: x * k)
class C: m = make([2., 3.][V - 1])
f = lambda x: C.m(x)

## an operator's cell
def make(k): return lambda self, x: x * k
class C: __matmul__ = make([2., 3.][V - 1])
o = C()
f = lambda x: o @ x

## a context's exit
def deco(k):
    @contextlib.contextmanager
    def c(box):
        box.append(k)
        yield
    return c
c = deco([2., 3.][V - 1])
def f(x):
    box = []
    with c(box): x = x + 1
    return x * box[0]
""",
)

CASES += cases(
    "functools",
    """
## a partial's function
def a(x, k): return x * k
def b(x, k): return x + k
f = functools.partial(a if V == 1 else b, k=3.)

## a partial of a partial
h = functools.partial(functools.partial(lambda x, a, b: x * a + b, a=2.), b=float(V))
f = lambda x: h(x)

## a partial in a module
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = functools.partial(F.leaky_relu, negative_slope=0.1 * V)
    def forward(self, x): return self.act(x - 5)
f = M()

## a partialmethod
class C:
    def m(self, x, k): return x * k
    double = functools.partialmethod(m, k=float(V))
o = C()
f = lambda x: o.double(x)

## lru_cache
@functools.lru_cache
def k(): return [2., 3.][V - 1]
f = lambda x: x * k()

## cache of a method
class C:
    @functools.cache
    def k(self, n): return n * V
o = C()
f = lambda x: x * o.k(3)

## cached_property
class C:
    @functools.cached_property
    def k(self): return [2., 3.][V - 1]
o = C()
f = lambda x: x * o.k

## cached_property that is set already
class C:
    @functools.cached_property
    def k(self): return 2.
o = C()
if V == 2: o.__dict__["k"] = 3.
f = lambda x: x * o.k

## a single dispatch registers another
@functools.singledispatch
def g(a, x): return x
@g.register
def _(a: int, x): return x * 2
if V == 2:
    @g.register
    def _(a: bool, x): return x * 3
f = lambda x: g(True, x)

## a single dispatch's implementation
@functools.singledispatch
def g(a, x): return x
g.register(int, (lambda k: lambda a, x: x * k)(float(V)))
f = lambda x: g(1, x)

## a single dispatch on a class that is derived
class A: pass
class B(A if V == 1 else object): pass
@functools.singledispatch
def g(a, x): return x * 2
@g.register
def _(a: A, x): return x * 3
b = B()
f = lambda x: g(b, x)

## a single dispatch method
class C:
    @functools.singledispatchmethod
    def g(self, a, x): return x * 2
    if V == 2:
        @g.register
        def _(self, a: int, x): return x * 3
o = C()
f = lambda x: o.g(1, x)

## total_ordering
@functools.total_ordering
class C:
    def __init__(self, k): self.k = k
    def __eq__(self, o): return self.k == o.k
    def __lt__(self, o): return (self.k < o.k) if V == 1 else (self.k > o.k)
a, b = C(1), C(2)
f = lambda x: x * 2 if a <= b else x * 3

## reduce's function
h = [operator.add, operator.mul][V - 1]
f = lambda x: functools.reduce(h, [x, x + 1, x + 2])

## cmp_to_key
order = functools.cmp_to_key((lambda a, b: a - b) if V == 1 else (lambda a, b: b - a))
f = lambda x: x * sorted([3, 1, 2], key=order)[0]

## an operator's getter
get = operator.attrgetter("ab"[V - 1])
o = types.SimpleNamespace(a=2., b=3.)
f = lambda x: x * get(o)

## itemgetter
get = operator.itemgetter(V - 1)
f = lambda x: x * get([2., 3.])

## methodcaller
get = operator.methodcaller(["sin", "cos"][V - 1])
f = lambda x: get(x)

## wraps of a function that is edited
def base(x): return x * V
@functools.wraps(base)
def h(x): return base(x) + 1
f = lambda x: h(x)

## __wrapped__ is called
def base(x): return x * 2
@functools.wraps(base)
def h(x): return x * 7
if V == 2: h.__wrapped__ = lambda x: x * 3
f = lambda x: h.__wrapped__(x)
""",
)

CASES += cases(
    "table",
    """
## a lambda
ops = {"a": (lambda x: x * 2) if V == 1 else (lambda x: x * 3)}
f = lambda x: ops["a"](x)

## equal lambdas on one line with another constant
ops = [lambda x: x * 2, lambda x: x * 3]
if V == 2: ops.reverse()
f = lambda x: ops[0](x)

## cells in a loop
ops = [(lambda k: lambda x: x * k)(k) for k in ((2., 3.) if V == 1 else (3., 2.))]
f = lambda x: ops[0](x)

## of torch's functions
ops = {"act": torch.sin if V == 1 else torch.cos}
f = lambda x: ops["act"](x)

## of classes
class A:
    def m(self, x): return x * 2
class B:
    def m(self, x): return x * 3
table = {"a": A if V == 1 else B}
f = lambda x: table["a"]().m(x)

## a registry that a decorator fills
table = {}
def register(name): return lambda g: table.setdefault(name, g)
if V == 2: register("a")(lambda x: x * 3)
register("a")(lambda x: x * 2)
f = lambda x: table["a"](x)

## nested
table = {"a": {"b": [lambda x: x * V]}}
f = lambda x: table["a"]["b"][0](x)

## a default of a table
table = collections.defaultdict((lambda: 2.) if V == 1 else (lambda: 3.))
f = lambda x: x * table["a"]

## an ordered dict's order
table = collections.OrderedDict([("a", 2.), ("b", 3.)])
if V == 2: table.move_to_end("a")
def f(x):
    for k in table: x = (x + 1) * table[k]
    return x

## a chain of dicts
table = collections.ChainMap({"a": 2.} if V == 1 else {}, {"a": 3.})
f = lambda x: x * table["a"]

## a deque
line = collections.deque([2., 3.], maxlen=2 if V == 1 else None)
def f(x):
    q = collections.deque(line, maxlen=2 if V == 1 else 1)
    return x * q[0]

## a view of a dict
d = {"a": 2.} if V == 1 else {"a": 3.}
view = types.MappingProxyType(d)
f = lambda x: x * view["a"]
""",
)
