"""Edits of descriptors and metaclasses."""

from edits.case import cases

CASES = cases(
    "descriptor",
    """
## __get__ is edited
class D:
    def __get__(self, o, owner=None): return [2., 3.][V - 1]
class C: k = D()
o = C()
f = lambda x: x * o.k

## its state
class D:
    def __init__(self, k): self.k = k
    def __get__(self, o, owner=None): return self.k
class C: k = D([2., 3.][V - 1])
o = C()
f = lambda x: x * o.k

## becomes a data descriptor
class D:
    def __get__(self, o, owner=None): return 2.
    if V == 2:
        def __set__(self, o, value): pass
class C: k = D()
o = C()
o.__dict__["k"] = 3.
f = lambda x: x * o.k

## in place of an attribute
class D:
    def __get__(self, o, owner=None): return 3.
class C: k = 2. if V == 1 else D()
o = C()
f = lambda x: x * o.k

## on the class of an object made inside
class D:
    def __init__(self, k): self.k = k
    def __get__(self, o, owner=None): return self.k
class C: k = D([2., 3.][V - 1])
f = lambda x: x * C().k

## a property's getter
class C:
    def a(self): return 2.
    def b(self): return 3.
    k = property(a if V == 1 else b)
o = C()
f = lambda x: x * o.k

## a property's setter
class C:
    _k = 1.
    @property
    def k(self): return self._k
    @k.setter
    def k(self, value): self._k = value * V
def f(x):
    o = C()
    o.k = 2.
    return x * o.k

## a property of a module
class M(nn.Module):
    @property
    def k(self): return [2., 3.][V - 1]
    def forward(self, x): return x * self.k
f = M()

## __set_name__
class D:
    def __set_name__(self, owner, name): self.k = len(name) * V
    def __get__(self, o, owner=None): return self.k
class C: field = D()
o = C()
f = lambda x: x * o.field

## a slot
class C:
    __slots__ = ("k",)
    def __init__(self): self.k = [2., 3.][V - 1]
o = C()
f = lambda x: x * o.k

## an instance attribute hides a method
class C:
    def m(self, x): return x * 2
o = C()
if V == 2: o.m = lambda x: x * 3
f = lambda x: o.m(x)

## a class property
class Meta(type):
    @property
    def k(cls): return [2., 3.][V - 1]
class C(metaclass=Meta): pass
f = lambda x: x * C.k
""",
)

CASES += cases(
    "metaclass",
    """
## __instancecheck__ appears
class Meta(type):
    if V == 2:
        def __instancecheck__(cls, o): return True
class A(metaclass=Meta): pass
o = types.SimpleNamespace()
f = lambda x: x * 2 if isinstance(o, A) else x * 3

## __subclasscheck__
class Meta(type):
    def __subclasscheck__(cls, o): return V == 2
class A(metaclass=Meta): pass
f = lambda x: x * 2 if issubclass(int, A) else x * 3

## __call__
class Meta(type):
    def __call__(cls):
        o = super().__call__()
        o.k = [2., 3.][V - 1]
        return o
class C(metaclass=Meta): pass
f = lambda x: x * C().k

## __getattr__
class Meta(type):
    def __getattr__(cls, n): return [2., 3.][V - 1]
class C(metaclass=Meta): pass
f = lambda x: x * C.k

## __len__
class Meta(type):
    def __len__(cls): return V + 1
class C(metaclass=Meta): pass
f = lambda x: x * len(C)

## __contains__
class Meta(type):
    def __contains__(cls, a): return V == 2
class C(metaclass=Meta): pass
f = lambda x: x * 2 if 1 in C else x * 3

## another metaclass
class P(type): k = 2.
class Q(type): k = 3.
class C(metaclass=P if V == 1 else Q): pass
f = lambda x: x * C.k

## __init_subclass__
class B:
    def __init_subclass__(cls): cls.k = [2., 3.][V - 1]
class C(B): pass
f = lambda x: x * C.k

## a class decorator
def deco(cls):
    cls.k = [2., 3.][V - 1]
    return cls
@deco
class C: pass
o = C()
f = lambda x: x * o.k

## __class_getitem__
class C:
    def __class_getitem__(cls, a): return [2., 3.][V - 1]
f = lambda x: x * C[0]
""",
)
