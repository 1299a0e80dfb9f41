"""Edits of dataclasses, named tuples and enums."""

from edits.case import cases, faces

CASES = cases(
    "dataclass",
    """
## a default of an object made inside
@dataclasses.dataclass
class C: k: float = [2., 3.][V - 1]
f = lambda x: x * C().k

## a default of an object made outside
@dataclasses.dataclass
class C: k: float = [2., 3.][V - 1]
o = C()
f = lambda x: x * o.k

## a field's default
@dataclasses.dataclass
class C: k: float = dataclasses.field(default=[2., 3.][V - 1])
f = lambda x: x * C().k

## a factory's function
def a(): return 2.
def b(): return 3.
@dataclasses.dataclass
class C: k: float = dataclasses.field(default_factory=a if V == 1 else b)
f = lambda x: x * C().k

## a factory of an object made outside
@dataclasses.dataclass
class C: k: list = dataclasses.field(default_factory=lambda: [2., 3.][V - 1:])
o = C()
f = lambda x: x * o.k[0]

## __post_init__
@dataclasses.dataclass
class C:
    k: float = 2.
    if V == 2:
        def __post_init__(self): self.k = self.k * 3
f = lambda x: x * C().k

## a frozen one's default
@dataclasses.dataclass(frozen=True)
class C: k: float = [2., 3.][V - 1]
f = lambda x: x * C().k

## becomes frozen
@dataclasses.dataclass(frozen=V == 2)
class C: k: float = 2.
def f(x):
    o = C()
    try: o.k = 3.
    except Exception: pass
    return x * o.k

## one with slots
@dataclasses.dataclass(slots=True)
class C: k: float = [2., 3.][V - 1]
o = C()
f = lambda x: x * o.k

## slots of an object made inside
@dataclasses.dataclass(slots=True)
class C: k: float = [2., 3.][V - 1]
f = lambda x: x * C().k

## order of the fields
@dataclasses.dataclass
class C:
    if V == 1: a: float = 2.; b: float = 3.
    else: b: float = 3.; a: float = 2.
f = lambda x: x * C(5.).a

## keyword only
@dataclasses.dataclass
class C:
    k: float = [2., 3.][V - 1]
    _: dataclasses.KW_ONLY
    l: float = [4., 5.][V - 1]
f = lambda x: x * C().l

## an inherited default
@dataclasses.dataclass
class B: k: float = 2.
@dataclasses.dataclass
class C(B):
    if V == 2: k: float = 3.
f = lambda x: x * C().k

## eq is written
@dataclasses.dataclass(eq=V == 1)
class C: k: float = 2.
a, b = C(), C()
f = lambda x: x * 2 if a == b else x * 3

## a field is not compared
@dataclasses.dataclass
class C: k: float = dataclasses.field(default=2., compare=V == 1)
a, b = C(2.), C(3.)
f = lambda x: x * 2 if a == b else x * 3

## asdict
@dataclasses.dataclass
class C:
    a: float = 2.
    if V == 2: b: float = 3.
o = C()
f = lambda x: x * len(dataclasses.asdict(o))

## replace
@dataclasses.dataclass
class C:
    a: float = 2.
    b: float = [2., 3.][V - 1]
f = lambda x: x * dataclasses.replace(C(), a=5.).b

## a field's metadata
@dataclasses.dataclass
class C: a: float = dataclasses.field(default=2., metadata={"k": [2., 3.][V - 1]})
f = lambda x: x * dataclasses.fields(C)[0].metadata["k"]

## init is left out
@dataclasses.dataclass
class C: a: float = dataclasses.field(default=[2., 3.][V - 1], init=False)
f = lambda x: x * C().a

## as an argument
@dataclasses.dataclass
class C: a: float = [2., 3.][V - 1]
f = lambda x, o: x * o.a
call = lambda f: f(torch.ones(2), C())

## a method's default
@dataclasses.dataclass
class C:
    a: float = 2.
    def m(self, x, k=[2., 3.][V - 1]): return x * k
o = C()
f = lambda x: o.m(x)
""",
)

CASES += cases(
    "named tuple",
    """
## a default of one made inside
class C(typing.NamedTuple): k: float = [2., 3.][V - 1]
f = lambda x: x * C().k

## collections.namedtuple
C = collections.namedtuple("C", ["a", "b"], defaults=[2., 3.] if V == 1 else [3., 2.])
f = lambda x: x * C().a

## names are exchanged
C = collections.namedtuple("C", ["a", "b"] if V == 1 else ["b", "a"])
o = C(2., 3.)
f = lambda x: x * o.a

## a method
class C(typing.NamedTuple):
    k: float = 2.
    def m(self, x): return x * self.k * V
o = C()
f = lambda x: o.m(x)

## _replace of a default
class C(typing.NamedTuple):
    a: float = 2.
    b: float = [2., 3.][V - 1]
f = lambda x: x * C()._replace(a=7.).b

## _fields are counted
class C(typing.NamedTuple):
    a: float = 2.
    if V == 2: b: float = 3.
f = lambda x: x * len(C._fields)
""",
)

# Each way to read a member, for each kind of enum with its two values.
_ENUMS = {
    "IntEnum": ("class E(enum.IntEnum): A, B = (2, 3) if V == 1 else (3, 2)", "x * E.A"),
    "IntFlag": ("class E(enum.IntFlag): A, B = (2, 4) if V == 1 else (4, 2)", "x * E.A"),
    "Enum": ("class E(enum.Enum): A, B = (2, 3) if V == 1 else (3, 2)", "x * E.A.value"),
    "Flag": ("class E(enum.Flag): A, B = (2, 4) if V == 1 else (4, 2)", "x * (E.A).value"),
    "float Enum": ("class E(float, enum.Enum): A, B = (2., 3.) if V == 1 else (3., 2.)", "x * E.A"),
    "StrEnum": (
        "class E(enum.StrEnum): A, B = ('p', 'q') if V == 1 else ('q', 'p')",
        "x * 2 if E.A == 'p' else x * 3",
    ),
    "text Enum": (
        "class E(str, enum.Enum): A, B = ('p', 'q') if V == 1 else ('q', 'p')",
        "x * 2 if E.A == 'p' else x * 3",
    ),
    "Enum of functions' names": (
        "class E(enum.Enum): A, B = ('sin', 'cos') if V == 1 else ('cos', 'sin')",
        "getattr(torch, E.A.value)(x)",
    ),
}
_READS = {
    "a global": "f = lambda x: USE",
    "an attribute": "o = types.SimpleNamespace(e=E.A)\nf = lambda x: USE_O",
    "a default": "def f(x, e=E.A): return USE_E",
    "an argument": "f = lambda x, e: USE_E\ncall = lambda f: f(torch.ones(2), E.A)",
    "a list": "l = [E.A]\nf = lambda x: USE_L",
    "a name": "f = lambda x: USE_N",
    "a module": """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = E.A
    def forward(self, x): return USE_S
f = M()""",
    "a key": "d = {E.A: 5., E.B: 7.}\nf = lambda x: USE * d[E.A]",
}
for _kind, (_class, _use) in _ENUMS.items():
    CASES += faces(
        "enum",
        "CLASS\nREAD\n",
        {
            f"{_kind} read from {name}": {
                "CLASS": _class,
                "READ": read,
                "USE_O": _use.replace("E.A", "o.e"),
                "USE_E": _use.replace("E.A", "e"),
                "USE_L": _use.replace("E.A", "l[0]"),
                "USE_N": _use.replace("E.A", "E['A']"),
                "USE_S": _use.replace("E.A", "self.e"),
                "USE": _use,
            }
            for name, read in _READS.items()
        },
    )
CASES += cases(
    "enum's class",
    """
## a method
class E(enum.Enum):
    A = 1
    def k(self): return [2., 3.][V - 1]
f = lambda x: x * E.A.k()

## a property
class E(enum.Enum):
    A = 1
    @property
    def k(self): return [2., 3.][V - 1]
f = lambda x: x * E.A.k

## auto
class E(enum.Enum):
    if V == 2: Z = enum.auto()
    A = enum.auto()
f = lambda x: x * E.A.value

## an alias
class E(enum.Enum):
    A = 1
    B = 1 if V == 2 else 2
f = lambda x: x * 2 if E.A is E.B else x * 3

## how many
class E(enum.Enum):
    A = 1
    if V == 2: B = 2
f = lambda x: x * len(E)

## looped over
class E(enum.IntEnum):
    A = 2
    if V == 2: B = 3
def f(x):
    for e in E: x = x * e + 1
    return x

## by value
class E(enum.Enum): A, B = (2, 3) if V == 1 else (3, 2)
f = lambda x: x * (2. if E(2).name == "A" else 3.)

## _missing_
class E(enum.Enum):
    A, B = 2, 3
    @classmethod
    def _missing_(cls, value): return cls.A if V == 1 else cls.B
f = lambda x: x * E(7).value

## a member is compared with a number
class E(enum.IntEnum): A = 1 + V
f = lambda x: x * 2 if E.A == 2 else x * 3
""",
)

# What Python runs of an enumeration, because its members are constants to the compiler.
CASES += faces(
    "enum, run by Python",
    "K = [2, 3][V - 1]\nclass E(enum.Enum):\n    A, B = 1, 2\n    METHOD\nf = lambda x: x * USE\n",
    {
        "a property": {"METHOD": "k = property(lambda self: K)", "USE": "E.A.k"},
        "a property that calls another": {
            "METHOD": "j = property(lambda self: K)\n    k = property(lambda self: self.j)",
            "USE": "E.A.k",
        },
        "__str__": {"METHOD": "def __str__(self): return 'a' * K", "USE": "len(str(E.A))"},
        "__repr__": {"METHOD": "def __repr__(self): return 'a' * K", "USE": "len(repr(E.A))"},
        "__format__": {"METHOD": "def __format__(self, spec): return 'a' * K", "USE": "len(f'{E.A}')"},
        "__int__": {"METHOD": "def __int__(self): return K", "USE": "int(E.A)"},
        "__index__": {"METHOD": "def __index__(self): return K", "USE": "[5, 6, 7, 8][E.A]"},
        "__len__": {"METHOD": "def __len__(self): return K", "USE": "len(E.A)"},
        "__add__": {"METHOD": "def __add__(self, other): return K", "USE": "(E.A + 1)"},
        "__lt__": {"METHOD": "def __lt__(self, other): return K == 2", "USE": "(2 if E.A < E.B else 3)"},
        "__eq__": {
            "METHOD": "def __eq__(self, other): return K == 2\n    __hash__ = object.__hash__",
            "USE": "(2 if E.A == E.B else 3)",
        },
        "__contains__": {
            "METHOD": "def __contains__(self, other): return K == 2",
            "USE": "(2 if 1 in E.A else 3)",
        },
        "__bool__": {"METHOD": "def __bool__(self): return K == 2", "USE": "(2 if E.A else 3)"},
        "__call__": {"METHOD": "def __call__(self): return K", "USE": "E.A()"},
        "__getitem__": {"METHOD": "def __getitem__(self, i): return K", "USE": "E.A[0]"},
        "__getattr__": {
            "METHOD": "def __getattr__(self, name):\n        if name != 'k': raise AttributeError(name)\n        return K",
            "USE": "E.A.k",
        },
        "a method": {"METHOD": "def m(self): return K", "USE": "E.A.m()"},
        "a class method": {"METHOD": "@classmethod\n    def m(cls): return K", "USE": "E.m()"},
        "a static method": {"METHOD": "@staticmethod\n    def m(): return K", "USE": "E.A.m()"},
        "_missing_": {
            "METHOD": "@classmethod\n    def _missing_(cls, value): return cls.A if K == 2 else cls.B",
            "USE": "E(9).value",
        },
    },
)
