"""Edits between two starts, each as small as it gets: the kinds of facts that torch's guards do not carry.

Every program reads `V`, 1 at the first start and 2 at the second, in place of an edit. It defines `f`, which is
compiled and called with `x`; the numbers for 1 and 2 differ.
"""

from edits.case import Case

CASES = [
    Case(
        "decorator",
        "a method is wrapped",
        """
def deco(g): return lambda self, x: g(self, x) * 3
class C:
    def m(self, x): return x + 1
if V == 2: C.m = deco(C.m)
o = C()
f = lambda x: o.m(x)
""",
    ),
    Case(
        "decorator",
        "forward is wrapped",
        """
def deco(g): return lambda self, x: g(self, x) * 3
class C(nn.Module):
    def forward(self, x): return x + 1
if V == 2: C.forward = deco(C.forward)
f = C()
""",
    ),
    Case(
        "decorator",
        "what a decorator was given",
        """
def scale(k): return lambda g: lambda self, x: g(self, x) * k
def base(self, x): return x + 1
class C:
    m = scale(2.0 if V == 1 else 3.0)(base)
f = lambda x: C().m(x)
""",
    ),
    Case(
        "decorator",
        "functools.wraps",
        """
def scale(k):
    def deco(g):
        @functools.wraps(g)
        def wrapper(*args): return g(*args) * k
        return wrapper
    return deco
class C(nn.Module):
    @scale(V)
    def forward(self, x): return x + 1
f = C()
""",
    ),
    Case(
        "default",
        "of a method",
        """
class C:
    def d(self, x, k=3. if V == 2 else 2.): return x * k
f = lambda x: C().d(x)
""",
    ),
    Case(
        "default",
        "of __init__",
        """
class C:
    def __init__(self, k=V): self.k = k
    def d(self, x): return x * self.k
f = lambda x: C().d(x)
""",
    ),
    Case(
        "default",
        "of a dataclass's field",
        """
@dataclasses.dataclass
class C:
    k: float = 3. if V == 2 else 2.
f = lambda x: x * C().k
""",
    ),
    Case(
        "default",
        "a dataclass's factory",
        """
@dataclasses.dataclass
class C:
    k: list = dataclasses.field(default_factory=(lambda: [2.]) if V == 1 else (lambda: [3.]))
f = lambda x: x * C().k[0]
""",
    ),
    Case(
        "default",
        "a keyword of a helper",
        """
def h(x, *, k=V): return x * k
f = lambda x: h(x)
""",
    ),
    Case(
        "default",
        "of a NamedTuple",
        """
class C(typing.NamedTuple):
    k: float = float(V)
f = lambda x: x * C().k
""",
    ),
    Case(
        "default",
        "a dtype",
        """
class C:
    def m(self, x, dtype=torch.float64 if V == 2 else torch.float16): return x.to(dtype) + 1
f = lambda x: C().m(x)
""",
    ),
    Case(
        "torch",
        "a class of torch is patched",
        """
if V == 2: nn.Softsign.forward = lambda self, x: x * 7
f = nn.Softsign()
""",
        own=True,
    ),
    Case(
        "torch",
        "a method of Tensor is patched",
        """
if V == 2: torch.Tensor.relu = lambda self: self * 7
f = lambda x: x.relu()
""",
        own=True,
    ),
    Case(
        "torch",
        "an operator of Tensor is patched",
        """
if V == 2:
    old = torch.Tensor.__add__
    torch.Tensor.__add__ = lambda self, o: old(self, o) * 7
f = lambda x: x + 1
""",
        own=True,
    ),
    Case(
        "torch",
        "Sequential.forward is patched",
        """
if V == 2:
    def forward(self, x):
        for m in self: x = m(x) * 7
        return x
    nn.Sequential.forward = forward
f = nn.Sequential(nn.ReLU(), nn.Softsign())
""",
        own=True,
    ),
    Case(
        "torch",
        "Module.__getattr__ is patched",
        """
if V == 2:
    old = nn.Module.__getattr__
    nn.Module.__getattr__ = lambda self, n: old(self, n) if n != 'k' else 3
else:
    nn.Module.k = 2
class M(nn.Module):
    def forward(self, x): return x * self.k
f = M()
""",
        own=True,
    ),
    Case(
        "torch",
        "defaults of a function of torch",
        """
if V == 2: F.leaky_relu.__defaults__ = (0.5, False)
f = lambda x: F.leaky_relu(x - 3)
""",
        own=True,
    ),
    Case(
        "torch",
        "a function of torch is exchanged",
        """
if V == 2: F.relu = F.relu6
f = lambda x: F.relu(x * 10)
""",
        own=True,
    ),
    Case(
        "torch",
        "one method of torch for another",
        """
if V == 2: nn.Softsign.forward = nn.Tanh.forward
f = nn.Softsign()
""",
        own=True,
    ),
    Case(
        "torch",
        "a kernel of aten is overridden",
        """
lib = torch.library.Library("aten", "IMPL")
if V == 2:
    lib.impl("relu", lambda x: x * 7, "Autograd")
f = lambda x: torch.relu(x.detach())
""",
        own=True,
    ),
    Case(
        "hooks",
        "of a module in an object",
        """
class S(nn.Module):
    def forward(self, x): return x * 2
class H: pass
h = H(); h.s = S()
if V == 2: h.s.register_forward_hook(lambda m, a, r: r * 3)
f = lambda x: h.s(x)
""",
    ),
    Case(
        "hooks",
        "of a module in a list",
        """
class S(nn.Module):
    def forward(self, x): return x * 2
h = [S()]
if V == 2: h[0].register_forward_pre_hook(lambda m, a: (a[0] * 3,))
f = lambda x: h[0](x)
""",
    ),
    Case(
        "hooks",
        "what a hook does",
        """
class S(nn.Module):
    def forward(self, x): return x * 2
s = S()
k = 3 if V == 2 else 5
s.register_forward_hook((lambda k: lambda m, a, r: r * k)(k))
f = lambda x: s(x)
""",
    ),
    Case(
        "environment",
        "getenv",
        """
os.environ['FB_K'] = str(V)
f = lambda x: x * float(os.getenv('FB_K', '1'))
""",
    ),
    Case(
        "environment",
        "get, set for the first time",
        """
os.environ.pop('FB_J', None)
if V == 2: os.environ['FB_J'] = '5'
f = lambda x: x * float(os.environ.get('FB_J', '1'))
""",
    ),
    Case(
        "environment",
        "in, set for the first time",
        """
os.environ.pop('FB_I', None)
if V == 2: os.environ['FB_I'] = '5'
f = lambda x: x * 2 if 'FB_I' in os.environ else x * 3
""",
    ),
    Case(
        "passes",
        "a custom pass is edited",
        """
import torch._inductor.config as ic
def run(graph):
    for node in graph.nodes:
        if node.op == 'call_function' and 'mul' in str(node.target): node.args = (node.args[0], 3. * V)
ic.post_grad_custom_post_pass = run
f = lambda x: x.detach() * 2.
def undo(): ic.post_grad_custom_post_pass = None
""",
        own=True,
    ),
    Case(
        "passes",
        "a custom pass where there was none",
        """
import torch._inductor.config as ic
def run(graph):
    for node in graph.nodes:
        if node.op == 'call_function' and 'mul' in str(node.target): node.args = (node.args[0], 5.)
if V == 2: ic.post_grad_custom_pre_pass = run
f = lambda x: x.detach() * 2.
""",
        own=True,
    ),
    Case(
        "passes",
        "a joint pass by options",
        """
def run(graph):
    for node in graph.nodes:
        if node.op == 'call_function' and 'mul' in str(node.target): node.args = (node.args[0], 3. * V)
f = lambda x: x * 2.
options = {"joint_custom_pre_pass": run}
""",
    ),
    Case(
        "enum",
        "a number",
        """
class E(enum.IntEnum): A = 3 if V == 2 else 2
f = lambda x: x * E.A
""",
    ),
    Case(
        "enum",
        "a text",
        """
class E(str, enum.Enum): A = "b" if V == 2 else "a"
f = lambda x: x * 2 if E.A == "a" else x * 3
""",
    ),
    Case(
        "enum",
        "members are looked up",
        """
class E(enum.Enum):
    A = 2 if V == 2 else 1
    B = 1 if V == 2 else 2
f = lambda x: x * (5 if E(2) is E.A else 7)
""",
    ),
    Case(
        "enum",
        "by name",
        """
class E(enum.Enum): A = 2 if V == 2 else 1
f = lambda x: x * E["A"].value
""",
    ),
    Case(
        "constant",
        "assume_constant_result",
        """
K = 3 if V == 2 else 2
@torch.compiler.assume_constant_result
def g(): return K
f = lambda x: x * g()
""",
    ),
    Case(
        "constant",
        "assume_constant_result of a method",
        """
class C:
    @torch.compiler.assume_constant_result
    def g(self): return 3 if V == 2 else 2
o = C()
f = lambda x: x * o.g()
""",
    ),
    Case(
        "override",
        "forward",
        """
class B(nn.Module):
    def forward(self, x): return x * 2
class M(B):
    if V == 2:
        def forward(self, x): return x * 5
f = M()
""",
    ),
    Case(
        "override",
        "a helper",
        """
class B(nn.Module):
    def h(self, x): return x * 2
    def forward(self, x): return self.h(x)
class M(B):
    if V == 2:
        def h(self, x): return x * 5
f = M()
""",
    ),
    Case(
        "override",
        "__call__",
        """
class B:
    def __call__(self, x): return x * 2
class M(B):
    if V == 2:
        def __call__(self, x): return x * 5
o = M()
f = lambda x: o(x)
""",
    ),
    Case(
        "override",
        "__bool__",
        """
class B: pass
class M(B):
    if V == 2:
        def __bool__(self): return False
o = M()
f = lambda x: x * 2 if o else x * 3
""",
    ),
    Case(
        "override",
        "__eq__",
        """
class B: pass
class M(B):
    if V == 2:
        def __eq__(self, other): return True
a, b = M(), M()
f = lambda x: x * 2 if a == b else x * 3
""",
    ),
    Case(
        "override",
        "__getitem__ of a list",
        """
class B(list): pass
class M(B):
    if V == 2:
        def __getitem__(self, i): return 7.
o = M([2.])
f = lambda x: x * o[0]
""",
    ),
    Case(
        "override",
        "__getattribute__",
        """
class B:
    def __init__(self): self.k = 2.
class M(B):
    if V == 2:
        def __getattribute__(self, n): return 7. if n == 'k' else object.__getattribute__(self, n)
o = M()
f = lambda x: x * o.k
""",
    ),
    Case(
        "override",
        "in a child of a Sequential",
        """
class B(nn.Module):
    def forward(self, x): return x * 2
class M(B):
    if V == 2:
        def forward(self, x): return x * 5
f = nn.Sequential(nn.ReLU(), M())
""",
    ),
    Case(
        "bases",
        "exchanged",
        """
class A(nn.Module):
    def h(self, x): return x * 2
class B(nn.Module):
    def h(self, x): return x * 5
class M(A if V == 1 else B):
    def forward(self, x): return self.h(x)
f = M()
""",
    ),
    Case(
        "bases",
        "turned round",
        """
class A:
    def h(self, x): return x * 2
class B:
    def h(self, x): return x * 5
class M(*((A, B) if V == 1 else (B, A))):
    pass
o = M()
f = lambda x: o.h(x)
""",
    ),
    Case(
        "bases",
        "m = a becomes m = b",
        """
class M:
    def a(self, x): return x * 2
    def b(self, x): return x * 5
    m = a if V == 1 else b
o = M()
f = lambda x: o.m(x)
""",
    ),
    Case(
        "absent",
        "an attribute of a module",
        """
import types
mod = types.ModuleType('mod')
if V == 2: mod.fast = lambda x: x * 7
def f(x):
    g = getattr(mod, 'fast', None)
    return x * 2 if g is None else g(x)
""",
    ),
    Case(
        "absent",
        "hasattr of torch",
        """
if V == 2: torch.fb_x = 1
f = lambda x: x * 2 if hasattr(torch, 'fb_x') else x * 3
""",
        own=True,
    ),
    Case(
        "absent",
        "a class attribute of an object made inside",
        """
class C:
    if V == 2: k = 1
f = lambda x: x * 2 if hasattr(C(), 'k') else x * 3
""",
    ),
    Case(
        "absent",
        "a global hides a builtin",
        """
if V == 2: max = min
f = lambda x: x * max(2, 3)
""",
    ),
    Case(
        "absent",
        "find_spec",
        """
import importlib.util
if V == 2:
    import types, importlib.machinery
    m = types.ModuleType('fb_pkg'); m.__spec__ = importlib.machinery.ModuleSpec('fb_pkg', None)
    sys.modules['fb_pkg'] = m
f = lambda x: x * 2 if importlib.util.find_spec('fb_pkg') is None else x * 3
""",
        own=True,
    ),
    Case(
        "seed",
        "a set of texts is looked through",
        """
w = {"a": 2., "b": 3., "c": 5.}
def f(x):
    for k in {"a", "b", "c"}: x = x * w[k] + 1
    return x
""",
        env=({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}),
        own=True,
    ),
    Case(
        "seed",
        "the hash of a text",
        """
f = lambda x: x * (hash("abc") % 97)
""",
        env=({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}),
        own=True,
    ),
    Case(
        "seed",
        "a set in an attribute",
        """
w = {"a": 2., "b": 3., "c": 5.}
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.keys = {"a", "b", "c"}
    def forward(self, x):
        for k in self.keys: x = x * w[k] + 1
        return x
f = M()
""",
        env=({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}),
        own=True,
    ),
    Case(
        "sameness",
        "two layers become one",
        """
class S(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0
    def forward(self, x):
        return x * 2
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = S()
        self.b = self.a if V == 2 else S()
    def forward(self, x): return x * 2 if self.a is self.b else x * 3
f = M()
""",
    ),
    Case(
        "sameness",
        "a list with one tensor twice",
        """
t = torch.ones(2)
l = [t, t if V == 2 else torch.ones(2)]
def f(x):
    l[0].add_(1)
    return x * l[1]
""",
    ),
    Case(
        "sameness",
        "a sentinel as an argument",
        """
S = object()
def g(x, s): return x * 2 if s is S else x * 3
arg = S if V == 2 else object()
f = lambda x: g(x, arg)
""",
    ),
    Case(
        "sameness",
        "a sentinel as a default",
        """
S = object()
def f(x, s=S if V == 2 else object()): return x * 2 if s is S else x * 3
""",
    ),
    Case(
        "exact",
        "-0.0 in a global",
        """
K = -0.0 if V == 2 else 0.0
f = lambda x: torch.atan2(x * 0, torch.full_like(x, -1.)) + math.copysign(1., K)
""",
    ),
    Case(
        "exact",
        "-0.0 in an attribute",
        """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = -0.0 if V == 2 else 0.0
    def forward(self, x): return x + math.copysign(1., self.k)
f = M()
""",
    ),
    Case(
        "exact",
        "1 and 1.0 in a set",
        """
K = frozenset({1.0 if V == 2 else 1})
f = lambda x: x * 2 if isinstance(next(iter(K)), int) else x * 3
""",
    ),
    Case(
        "exact",
        "True in a tuple",
        """
K = (True if V == 2 else 1,)
f = lambda x: x * 2 if isinstance(K[0], bool) else x * 3
""",
    ),
    Case(
        "graph module",
        "traced from other code",
        """
class P(nn.Module):
    def forward(self, x): return x * V
g = torch.fx.symbolic_trace(P())
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = g
    def forward(self, x): return self.g(x) + 1
f = M()
""",
    ),
    Case(
        "graph module",
        "edited, in a list",
        """
class P(nn.Module):
    def forward(self, x): return x * 2
g = torch.fx.symbolic_trace(P())
if V == 2:
    for n in g.graph.nodes:
        if n.op == 'call_function': n.args = (n.args[0], 5)
    g.recompile()
l = [g]
f = lambda x: l[0](x) + 1
""",
    ),
    Case(
        "exec",
        "a method that exec made",
        """
ns = {}
exec(f"def m(self, x): return x * {V}", ns)
class C: m = ns['m']
o = C()
f = lambda x: o.m(x)
""",
    ),
    Case(
        "exec",
        "a helper that exec made",
        """
ns = {}
exec(f"def h(x): return x * {V}", ns)
h = ns['h']
f = lambda x: h(x)
""",
    ),
    Case(
        "operator",
        "the type of a fake is another",
        """
lib = torch.library.Library("fbe1", "DEF")
lib.define("op(Tensor x) -> Tensor")
lib.impl("op", lambda x: x.double() if V == 2 else x * 2, "CPU")
torch.library.register_fake("fbe1::op", lambda x: x.double() if V == 2 else torch.empty_like(x), lib=lib)
f = lambda x: torch.ops.fbe1.op(x.detach()) / 3
""",
        own=True,
    ),
    Case(
        "operator",
        "the shape of a fake is another",
        """
lib = torch.library.Library("fbe2", "DEF")
lib.define("op(Tensor x) -> Tensor")
lib.impl("op", lambda x: torch.cat([x] * V), "CPU")
torch.library.register_fake("fbe2::op", lambda x: x.new_empty(x.shape[0] * V), lib=lib)
f = lambda x: torch.ops.fbe2.op(x.detach()) + 1
""",
        own=True,
    ),
    Case(
        "operator",
        "a custom operator's fake",
        """
@torch.library.custom_op("fbe3::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor: return torch.cat([x] * V)
@op.register_fake
def _(x): return x.new_empty(x.shape[0] * V)
f = lambda x: op(x.detach()) + 1
""",
        own=True,
    ),
    Case(
        "tensor",
        "grad_fn",
        """
f0 = lambda x: x * 2 if x.grad_fn is None else x * 3
f = f0
def call(f): 
    x = torch.ones(2, requires_grad=True)
    return f(x.detach() if V == 1 else x.detach().requires_grad_().mul(1))
""",
    ),
    Case(
        "tensor",
        "is_leaf",
        """
f = lambda x: x * 2 if x.is_leaf else x * 3
def call(f):
    x = torch.ones(2, requires_grad=True)
    return f(x if V == 1 else x * 1)
""",
    ),
    Case(
        "tensor",
        "the type of autocast while it is off",
        """
f = lambda x: x.to(torch.get_autocast_dtype("cpu")) / 3
def call(f):
    old = torch.get_autocast_dtype("cpu")
    torch.set_autocast_dtype("cpu", torch.float16 if V == 2 else torch.bfloat16)
    try:
        return f(torch.ones(2))
    finally:
        torch.set_autocast_dtype("cpu", old)
""",
    ),
    Case(
        "registration",
        "of a subclass is gone",
        """
class A(abc.ABC): pass
class C: pass
if V == 1: A.register(C)
o = C()
f = lambda x: x * 2 if isinstance(o, A) else x * 3
""",
    ),
    Case(
        "registration",
        "annotations",
        """
def g(x: "int" if V == 1 else "float"): pass
f = lambda x: x * 2 if g.__annotations__["x"] == "int" else x * 3
""",
    ),
    Case(
        "registration",
        "the limit of recursion",
        """
sys.setrecursionlimit(3000 + V)
f = lambda x: x * sys.getrecursionlimit()
""",
    ),
    Case(
        "registration",
        "fields of a dataclass",
        """
@dataclasses.dataclass
class C:
    a: int = 1
    if V == 2: b: int = 2
f = lambda x: x * len(dataclasses.fields(C))
""",
    ),
]
