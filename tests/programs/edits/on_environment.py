"""Variables of the environment, the instructions of the CPU, hash seeds, and constants by contract."""

from edits.case import cases, faces

# Each way to read a variable that is set by the program, changed, set for the first time, or taken away.
_READS = {
    "os.environ[]": "float(os.environ['FB_K']) if os.environ.get('FB_K') is not None else 1.",
    "os.environ.get": "float(os.environ.get('FB_K', '1'))",
    "os.environ.get without a default": "float(os.environ.get('FB_K') or 1)",
    "os.getenv": "float(os.getenv('FB_K', '1'))",
    "os.getenv without a default": "float(os.getenv('FB_K') or '1')",
    "in os.environ": "5. if 'FB_K' in os.environ and os.environ['FB_K'] == '5' else 6. if 'FB_K' in os.environ else 7.",
    "not in os.environ": "6. if 'FB_K' not in os.environ else float(os.environ['FB_K'])",
    "from os import environ": "float(environ.get('FB_K', '1'))",
    "from os import getenv": "float(getenv('FB_K', '1'))",
    "a helper": "helper()",
    "a helper of a class": "C().read()",
    "a property": "C().k",
    "int of it": "int(os.environ.get('FB_K', '1'))",
    "bool of it": "(3. if bool(int(os.environ.get('FB_K', '0')) > 2) else 4.)",
    "try": "tried()",
}
_ENVIRONMENT = """
from os import environ, getenv
BEFORE
def helper(): return float(os.environ.get('FB_K', '1'))
class C:
    def read(self): return float(os.getenv('FB_K', '1'))
    @property
    def k(self): return float(os.environ.get('FB_K', '1'))
def tried():
    try: return float(os.environ['FB_K'])
    except KeyError: return 1.
def f(x): return x * (READ)
"""
_CHANGES = {
    "changed": "os.environ['FB_K'] = '2' if V == 1 else '5'",
    "set for the first time": "os.environ.pop('FB_K', None)\nif V == 2: os.environ['FB_K'] = '5'",
    "taken away": "os.environ.pop('FB_K', None)\nif V == 1: os.environ['FB_K'] = '5'",
}
CASES = [
    case
    for change, before in _CHANGES.items()
    for case in faces(
        f"environment {change}",
        _ENVIRONMENT,
        {f"by {name}": {"BEFORE": before, "READ": read} for name, read in _READS.items()},
    )
]
CASES += cases(
    "environment of the process",
    """
## changed
#: env FB_K=2|3
f = lambda x: x * float(os.environ.get("FB_K", "1"))

## set for the first time
#: env FB_K=|3
f = lambda x: x * float(os.getenv("FB_K", "1"))

## unset
#: env FB_K=3|
f = lambda x: x * 2 if "FB_K" in os.environ else x * 3

## read when a module is imported
#: env FB_K=2|3
K = float(os.environ["FB_K"])
f = lambda x: x * K

## read by a layer's __init__
#: env FB_K=2|3
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = float(os.environ["FB_K"])
    def forward(self, x): return x * self.k
f = M()
""",
)
CASES += cases(
    "instructions of the CPU",
    """
## without vectors
#: env ATEN_CPU_CAPABILITY=|default
f = lambda x: x.exp().sin().sum()
def call(f): return f(torch.linspace(-3, 3, 1001))

## with vectors
#: env ATEN_CPU_CAPABILITY=default|
f = lambda x: torch.softmax(x * 1.7, 0)
def call(f): return f(torch.linspace(-3, 3, 1001))
""",
    same=True,
)
_SEEDS = {
    "a set in a loop": "def f(x):\n    for k in {'a', 'b', 'c', 'd'}: x = x * w[k] + 1\n    return x",
    "a frozenset in a global": "s = frozenset('abcd')\ndef f(x):\n    for k in s: x = x * w[k] + 1\n    return x",
    "a set in an object": "o = types.SimpleNamespace(s=set('abcd'))\ndef f(x):\n    for k in o.s: x = x * w[k] + 1\n    return x",
    "a set as an argument": "def f(x, s):\n    for k in s: x = x * w[k] + 1\n    return x\ncall = lambda f: f(torch.ones(2), set('abcd'))",
    "next of a set": "f = lambda x: x * w[next(iter({'a', 'b', 'c', 'd'}))]",
    "a tuple of a set": "f = lambda x: x * w[tuple({'a', 'b', 'c', 'd'})[0]]",
    "pop of a set": "f = lambda x: x * w[{'a', 'b', 'c', 'd'}.pop()]",
    "enumerate of a set": "def f(x):\n    for n, k in enumerate({'a', 'b', 'c', 'd'}): x = x * w[k] + n\n    return x",
    "a set's difference": "def f(x):\n    for k in {'a', 'b', 'c', 'd', 'e'} - {'e'}: x = x * w[k] + 1\n    return x",
    "dict.fromkeys of a set": "def f(x):\n    for k in dict.fromkeys({'a', 'b', 'c', 'd'}): x = x * w[k] + 1\n    return x",
    "a default": "def f(x, s=frozenset('abcd')):\n    for k in s: x = x * w[k] + 1\n    return x",
    "hash of a text": "f = lambda x: x * (hash('abc') % 97)",
    "hash of a tuple": "f = lambda x: x * (hash(('a', 'b')) % 97)",
    "hash of a frozenset": "f = lambda x: x * (hash(frozenset('abc')) % 97)",
    "hash in a helper": "def h(k): return hash(k) % 97\nf = lambda x: x * h('abc')",
    "hash of a constant": "K = hash('abc') % 97\nf = lambda x: x * K",
    "__hash__ of an object": "class C:\n    def __hash__(self): return hash('abc') % 97\no = C()\nf = lambda x: x * hash(o)",
    "hash of a frozen dataclass": "@dataclasses.dataclass(frozen=True)\nclass C: k: str = 'abc'\no = C()\nf = lambda x: x * (hash(o) % 97)",
    "layers in a set": "ms = {'a': nn.Tanh(), 'b': nn.Softsign(), 'c': nn.ReLU6(), 'd': nn.Sigmoid()}\ndef f(x):\n    for k in {'a', 'b', 'c', 'd'}: x = ms[k](x) + .5\n    return x",
}
for _case in cases(
    "hash seed",
    "".join(
        f"\n## {name}\n#: env PYTHONHASHSEED=1|2\nw = dict(a=2., b=3., c=5., d=7.)\n{text}\n"
        for name, text in _SEEDS.items()
    ),
):
    CASES.append(_case)
CASES += cases(
    "constant by contract",
    """
## a function's cell
def make(k): return torch.compiler.assume_constant_result(lambda: k)
g = make([2., 3.][V - 1])
f = lambda x: x * g()

## a function that reads an object
o = types.SimpleNamespace(k=[2., 3.][V - 1])
@torch.compiler.assume_constant_result
def g(): return o.k
f = lambda x: x * g()

## with an argument
@torch.compiler.assume_constant_result
def g(n): return n * V
f = lambda x: x * g(3)

## of a module's method
class M(nn.Module):
    @torch.compiler.assume_constant_result
    def k(self): return [2., 3.][V - 1]
    def forward(self, x): return x * self.k()
f = M()

## of another module
#: file fb_constant
@torch.compiler.assume_constant_result
def g(): return [2., 3.][V - 1]
#: end
import fb_constant
f = lambda x: x * fb_constant.g()

## that reads a variable
os.environ["FB_C"] = str(V)
@torch.compiler.assume_constant_result
def g(): return float(os.environ["FB_C"])
f = lambda x: x * g()

## that reads a file
#: file fb_read
K = [2., 3.][V - 1]
#: end
import fb_read
@torch.compiler.assume_constant_result
def g(): return fb_read.K
f = lambda x: x * g()

## a tensor
t = torch.tensor([2., 3.]) * V
@torch.compiler.assume_constant_result
def g(): return t
f = lambda x: x * g()

## a text
@torch.compiler.assume_constant_result
def g(): return "a" if V == 1 else "b"
f = lambda x: x * 2 if g() == "a" else x * 3
""",
)
