"""Edits of objects that guards know by their address: they are known again by class and state."""

from edits.case import cases

CASES = cases(
    "object known by address",
    """
## a method of a frozen set
contains = frozenset({"a"} if V == 1 else {"b"}).__contains__
f = lambda x: x * 2 if contains("a") else x * 3

## the dtype of autocast around a function
@torch.autocast("cpu", dtype=torch.bfloat16 if V == 1 else torch.float16)
def f(x): return torch.mm(x[None], x[:, None]) + 1.001

## autocast that is off now
@torch.autocast("cpu", dtype=torch.bfloat16, enabled=V == 1)
def f(x): return torch.mm(x[None], x[:, None]) * 1.001

## the dtype of autocast in a closure
def make(region):
    def f(x):
        with region:
            return torch.mm(x[None], x[:, None]) + 1.001
    return f
f = make(torch.autocast("cpu", dtype=torch.bfloat16 if V == 1 else torch.float16))

## two sentinels that were one
A = object()
B = A if V == 1 else object()
f = lambda x, y=A: x * 2 if y is B else x * 3

## a type variable that was another one's equal
A = typing.TypeVar("A")
B = A if V == 1 else typing.TypeVar("A")
def f(x):
    a, b = A, B
    return x * 2 if a is b else x * 3

## an argument is another sentinel
A, B = object(), object()
f = lambda x, y: x * 2 if y is A else x * 3
call = lambda f: f(torch.ones(2), A if V == 1 else B)

## the order of a set that the code fills
NAMES = ["ab", "abc"] if V == 1 else ["abc", "ab"]
def axes():
    found = set()
    for name in NAMES:
        found.add(name)
    return found
def f(x):
    for name in axes():
        x = x * len(name) + 1
    return x

## what is added to a set that the code writes out
N = "abc" if V == 1 else "abcd"
def f(x):
    for name in {"a", N}:
        x = x * len(name) + 1
    return x

## a class is registered that an argument is of
class A(abc.ABC): pass
class C: pass
if V == 2: A.register(C)
f = lambda x, c: x * 2 if isinstance(c, A) else x * 3
call = lambda f: f(torch.ones(2), C())

## the base of a class is registered that the code makes
class A(abc.ABC): pass
class B: pass
class C(B): pass
if V == 2: A.register(B)
def f(x):
    return x * 2 if isinstance(C(), A) else x * 3
""",
)
