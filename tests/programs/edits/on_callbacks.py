"""Edits of functions that the compiled one hands to Python's own: to sort by, to map, to make a default."""

from edits.case import cases, faces

_USES = {
    "sorted": "f = lambda x: x * sorted([1, 4, 2], key=h)[0]",
    "list.sort": "def f(x):\n    l = [1, 4, 2]\n    l.sort(key=h)\n    return x * l[0]",
    "max": "f = lambda x: x * max([1, 4, 2], key=h)",
    "min": "f = lambda x: x * min(1, 4, 2, key=h)",
    "map": "f = lambda x: x * sum(map(h, [1, 4]))",
    "filter": "f = lambda x: x * len(list(filter(lambda v: h(v) > 0, [1, 4])))",
    "reduce": "f = lambda x: x * functools.reduce(lambda a, b: a + h(b), [1, 4], 0)",
    "accumulate": "import itertools\nf = lambda x: x * list(itertools.accumulate([1, 4], lambda a, b: a + h(b)))[-1]",
    "groupby": "import itertools\nf = lambda x: x * [k for k, g in itertools.groupby([1, 4], h)][0]",
    "starmap": "import itertools\nf = lambda x: x * sum(itertools.starmap(lambda a, b: h(a) * b, [(1, 2), (3, 4)]))",
    "filterfalse": "import itertools\nf = lambda x: x * (1 + len(list(itertools.filterfalse(lambda v: h(v) > 0, [1, 4]))))",
    "takewhile": "import itertools\nf = lambda x: x * (1 + len(list(itertools.takewhile(lambda v: h(v) > 0, [1, 4]))))",
    "any": "f = lambda x: x * (3 if any(h(v) > 0 for v in [1, 4]) else 2)",
    "a default's factory": "f = lambda x: x * collections.defaultdict(lambda: h(4))['a']",
    "iter until": "f = lambda x: x * (1 + sum(1 for v, _ in zip(iter(lambda: h(4), -4), range(3))))",
    "partial": "f = lambda x: x * functools.partial(h, 4)()",
    "methodcaller": "class C:\n    def m(self, v): return h(v)\nf = lambda x: x * operator.methodcaller('m', 4)(C())",
    "cmp_to_key": "f = lambda x: x * sorted([1, 4, 2], key=functools.cmp_to_key(lambda a, b: h(a) - h(b)))[0]",
    "tree_map": "from torch.utils._pytree import tree_map\nf = lambda x: x * sum(tree_map(h, [1, 4]))",
    "vmap": "f = lambda x: torch.vmap(lambda r: r * h(1))(x)",
    "a table of functions": "T = {'a': h, 'b': abs}\nf = lambda x: x * T['a'](4)",
    "a method's default": "class C:\n    def m(self, v, g=h): return g(v)\no = C()\nf = lambda x: x * o.m(4)",
}

CASES = [
    case
    for way, edit in {
        "code": "if V == 1:\n    def h(v): return v\nelse:\n    def h(v): return -v",
        "a global": "K = [1, -1][V - 1]\ndef h(v): return v * K",
        "a default": "def h(v, k=[1, -1][V - 1]): return v * k",
    }.items()
    for case in faces(
        f"callback, {way}",
        f"{edit}\nUSE\n",
        {name: {"USE": use} for name, use in _USES.items()},
    )
]

CASES += cases(
    "callback otherwise",
    """
## a key that orders a set of texts
K = [1, -1][V - 1]
names = {"a", "bb", "ccc"}
f = lambda x: x * len(sorted(names, key=lambda n: K * len(n))[0])

## an operator in place of a function
h = operator.neg if V == 2 else operator.pos
f = lambda x: x * max([1, 4, 2], key=h)

## a method of an instance
class C:
    k = [1, -1][V - 1]
    def h(self, v): return v * self.k
o = C()
f = lambda x: x * max([1, 4, 2], key=o.h)

## a class as a key
class C:
    def __init__(self, v): self.v = v * [1, -1][V - 1]
    def __lt__(self, other): return self.v < other.v
f = lambda x: x * sorted([1, 4, 2], key=C)[0]

## a callable object
class C:
    def __call__(self, v): return v * [1, -1][V - 1]
o = C()
f = lambda x: x * max([1, 4, 2], key=o)
""",
)
