"""Portable identity guards: an object is recognised by its name and the digest of its code.

torch guards functions, classes, modules and builtins by address, which means nothing in another process.
`describe` turns such an object into a few strings; a stored guard state holds `identity_match` as the guard
instead: when built in the loading process it looks the object up, compares the description, and from then on
guards the address of the object found there.
"""

from __future__ import annotations

import enum
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from firebrick import torch_api
from firebrick.base.digest import Hasher
from firebrick.codecs.code import code_digest
from firebrick.errors import NotStorable
from firebrick.guards.identity_guards import Describer, is_pinned, triton_digest
from firebrick.guards.stored_names import stored_as
from firebrick.reports.events import Change
from firebrick.reports.wording import object_change
from firebrick.torch_api.compiler_free import is_triton_kernel, plain_form
from firebrick.validity.functions import BUILTINS

_SINGLETONS = {None: "None", True: "True", False: "False", ...: "...", NotImplemented: "NotImpl"}


class Identity(NamedTuple):
    """The identity of an object, as far as another process can verify it.

    Attributes:
        kind: sort of object (module, function, code, class, builtin, constant, kernel, named, object).
        name: ``module:qualified name``, or the value of a constant.
        digest: hexadecimal digest of the code behind it; empty for none.
    """

    kind: str
    name: str
    digest: str = ""


class IdentityChanged(Exception):
    """A guarded object is not the one present when the frame was compiled; `change` names both."""

    def __init__(self, change: Change) -> None:
        super().__init__(str(change))
        self.change = change


def describe(value: Any) -> Identity:
    """Return the identity of an object.

    Raises:
        NotStorable: the object has no name that leads to it.
    """
    if value is None or isinstance(value, bool | types.EllipsisType | types.NotImplementedType):
        return Identity("constant", _SINGLETONS[value])
    if isinstance(value, types.ModuleType):
        return Identity("module", value.__name__)
    if isinstance(value, types.CodeType):
        return Identity("code", "", code_digest(value).hex())
    if isinstance(value, types.FunctionType):
        return Identity("function", _path(value), _function_digest(value))
    if isinstance(value, type):
        return Identity("class", _path(value), _class_digest(value))
    if isinstance(value, enum.Enum):
        return Identity("constant", f"{_path(type(value))}.{value.name}")
    if isinstance(value, BUILTINS):
        owner = getattr(value, "__self__", None) or getattr(value, "__objclass__", None)
        if owner is None or isinstance(owner, types.ModuleType | type):
            return Identity("builtin", _path(value))
        return Identity(*Describer().describe(value))
    if is_triton_kernel(value):
        return Identity("kernel", _path(value), triton_digest(value))
    if type(value).__module__ in ("typing", "types"):  # they pose as the class they belong to
        return Identity(*Describer().describe(value))
    if hasattr(value, "__qualname__") and hasattr(value, "__module__"):
        return Identity("named", _path(value), _wrapped_digest(value))
    name = getattr(value, "_qualified_op_name", None) or getattr(value, "_name", None)
    if isinstance(name, str) and type(value).__module__ == "torch._ops":
        return Identity("named", f"{type(value).__name__}:{name}")
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "layout", "device"):
        return Identity("constant", repr(value))
    return Identity(*Describer().describe(value))


def _path(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}:{value.__qualname__}"


def _function_digest(function: types.FunctionType) -> str:
    plain, marks = plain_form(function)
    if marks:
        return marks + _function_digest(plain)
    wrapped = getattr(function, "__wrapped__", None)
    extra = _function_digest(wrapped) if isinstance(wrapped, types.FunctionType) else ""
    return code_digest(function.__code__).hex() + extra


def _wrapped_digest(value: Any) -> str:
    wrapped = getattr(value, "__wrapped__", None)
    return _function_digest(wrapped) if isinstance(wrapped, types.FunctionType) else ""


def _class_digest(cls: type) -> str:
    """Digest the Python functions that a class and its bases define, in order.

    Of classes the platform pins, only the names: Dynamo replaces functions of some at its first frame.
    """
    hasher = Hasher()
    for base in cls.__mro__:
        hasher.update(_path(base).encode())
        if is_pinned(base.__module__):
            continue
        for name, member in base.__dict__.items():
            function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            if isinstance(function, types.FunctionType):
                plain, marks = plain_form(function)
                hasher.update(name.encode() + marks.encode() + code_digest(plain.__code__))
    return hasher.hexdigest()


def find(identity: Identity) -> Any:
    """Return the object of that name among the imported modules, if it is unchanged.

    Raises:
        IdentityChanged: the name leads to nothing, or to something else.
    """
    if identity.kind == "module":
        found: Any = sys.modules.get(identity.name)
    else:
        module, _, qualname = identity.name.partition(":")
        found = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
    _compare(identity, found, identity.name)
    return found


def is_found(identity: Identity) -> bool:
    """Tell whether `find` finds an object."""
    try:
        find(identity)
    except IdentityChanged:
        return False
    return True


def _compare(identity: Identity, value: Any, where: str) -> None:
    try:
        here = describe(value)
    except NotStorable as error:
        raise IdentityChanged(Change(where, f"{identity.kind} {identity.name}", str(error))) from error
    if here != identity:
        raise IdentityChanged(object_change(where, identity[:2], here[:2], value))


def _recognise(identity: Identity) -> Callable[[Any], bool]:
    """Return a check for objects without an importable name; it remembers the last one recognised."""
    known: Callable[[], Any] = lambda: None  # noqa: E731

    def check(value: Any) -> bool:
        nonlocal known
        if value is not None and known() is value:
            return True
        try:
            _compare(identity, value, "")
        except IdentityChanged:
            return False
        known = weakref.ref(value)
        return True

    return check


_changes = threading.local()


def take_changes() -> list[Change]:
    """Return the changes `identity_match` found in this thread since the last call."""
    found: list[Change] = getattr(_changes, "found", [])
    _changes.found = []
    return found


@stored_as("firebrick.loader.identity")
def identity_match(identity: tuple[str, str, str], builder: Any, guard: Any) -> None:
    """Build the guard: torch calls it with its guard builder when a guard state is loaded (or saved).

    A changed global makes the frame's guards fail; `take_changes` tells why.
    """
    api = torch_api.load()
    wanted = Identity(*identity)
    text = f"{guard.name} is {wanted.kind} {wanted.name}"
    if api.local_name(guard.originating_source) is None:
        try:
            value = api.live_value(builder, guard)
            _compare(wanted, value, guard.name)
        except (IdentityChanged, AttributeError, LookupError) as error:
            here = f"{type(error).__name__}: {error}"
            change = Change(guard.name, f"{wanted.kind} {wanted.name}", here)
            _changes.found = [*take_changes(), getattr(error, "change", change)]
            api.add_failing_guard(builder, text)
            return
        api.add_id_guard(builder, guard, value, text)
        return
    try:
        value = find(wanted)
    except IdentityChanged:
        api.add_lambda_guard(builder, guard, _recognise(wanted), text)
    else:
        api.add_id_guard(builder, guard, value, text)
