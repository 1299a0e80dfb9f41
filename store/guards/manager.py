"""Guard managers that work without torch's Python compiler until it is imported.

torch's C++ guard managers look up two things in Python modules of Dynamo: ``GuardManagerType`` of
``torch._dynamo.guards``, once, kept forever and compared by identity; and two settings of
``torch._dynamo.config``. `stand_ins` supplies both while Dynamo is not loaded; `on_dynamo_imported` swaps in
the real ones. Source followed: ``torch/csrc/dynamo/guards.cpp``, ``torch/_dynamo/guards.py``.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from firebrick.reports.not_served import GuardsNotApplicable
from firebrick.torch_api import imported

_DYNAMO: Final = "torch._dynamo"
_GUARDS: Final = "torch._dynamo.guards"
_CONFIG: Final = "torch._dynamo.config"

_bootstrap: Any = vars(importlib)["_bootstrap"]  # holds the import locks
_lock = threading.RLock()
_managers: weakref.WeakSet[Any] = weakref.WeakSet()
# From Python 3.12 on C++ watches dictionaries that a check has passed, and forgets to stop when a later
# check failed: a manager that was checked twice must not die before the dictionaries that it watches.
_WATCHES: Final = sys.version_info >= (3, 12)
_immortal: list[Any] = []
_depth = 0  # of `stand_ins`, in the thread that holds the locks
_handed_out = False  # whether C++ has our GuardManagerType


class GuardManagerType(enum.Enum):
    """Stand for ``torch._dynamo.guards.GuardManagerType``."""

    GUARD_MANAGER = 1
    DICT_GUARD_MANAGER = 2


class _StandIn(ModuleType):
    """A stand-in for a module of Dynamo; other threads that ask it for more wait for the real one.

    Args:
        name: of the module.
        values: attributes that only the creating thread sees.
    """

    def __init__(self, name: str, **values: Any) -> None:
        super().__init__(name)
        self.__dict__["_values"] = values
        self.__dict__["_owner"] = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        global _handed_out
        if threading.get_ident() != self._owner:
            with _bootstrap._ModuleLockManager(_DYNAMO):
                pass
            return getattr(importlib.import_module(self.__name__), name)
        try:
            value = self._values[name]
        except KeyError:
            raise AttributeError(name) from None
        _handed_out = _handed_out or value is GuardManagerType
        return value


_DEFAULTS: Final = {
    "skip_tensor_guards_with_matching_dict_tags": True,
    "max_saved_pointers_for_recursive_dict_tags_check": 256,
}


def real_guards() -> Any | None:
    """Return ``torch._dynamo.guards`` if it is completely imported."""
    return imported(_GUARDS)


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Let torch's C++ guards be built while Dynamo is not imported; do nothing if it is.

    Another thread's import of Dynamo waits until the end. Reentrant.

    Raises:
        GuardsNotApplicable: this thread itself is importing Dynamo.
    """
    global _depth
    if real_guards() is not None:
        on_dynamo_imported()
        yield
        return
    # always the import lock first: `on_dynamo_imported` runs under it
    with _bootstrap._ModuleLockManager(_DYNAMO), _lock:
        if real_guards() is not None:  # another thread was faster
            on_dynamo_imported()
            yield
            return
        if _DYNAMO in sys.modules:
            raise GuardsNotApplicable("the compiler is being imported")
        _depth += 1
        try:
            if _depth == 1:
                sys.modules[_GUARDS] = _StandIn(_GUARDS, GuardManagerType=GuardManagerType)
                sys.modules[_CONFIG] = config = _StandIn(_CONFIG)
                # read for every guarded value: plain attributes are faster than `__getattr__`
                vars(config).update(_DEFAULTS, __path__=[])
            yield
        finally:
            _depth -= 1
            if _depth == 0:
                for name in (_GUARDS, _CONFIG):
                    if isinstance(sys.modules.get(name), _StandIn):
                        del sys.modules[name]


def configure(immutable_tensors: bool, saved_pointers: int) -> None:
    """Set the values of the stand-in for Dynamo's configuration; call under `stand_ins`."""
    config = sys.modules.get(_CONFIG)
    if isinstance(config, _StandIn):
        vars(config).update(zip(_DEFAULTS, (immutable_tensors, saved_pointers), strict=True))


def manager_types() -> tuple[Any, Any]:
    """Return the two members of the ``GuardManagerType`` in force; call under `stand_ins`."""
    kind = GuardManagerType if (real := real_guards()) is None else real.GuardManagerType
    return kind.GUARD_MANAGER, kind.DICT_GUARD_MANAGER


class Manager:
    """A counterpart of torch's ``GuardManagerWrapper``, which cache entries hold and call.

    It has the attributes of torch's class. When Dynamo is imported, `on_dynamo_imported` makes it an instance
    of that class.

    Args:
        root: the C++ root guard manager.
        scope: the frame's globals.
        tensors: sources of guarded tensors that are not parameters.
        aliased: sources of tensors that must not be identical.
    """

    def __init__(self, root: Any, scope: dict[str, Any], tensors: list[str], aliased: list[str]) -> None:
        self.root = root
        self.diff_guard_root: Any = None
        self.closure_vars: Any = None
        self.args: Any = None
        self.code_parts: list[str] = []
        self.verbose_code_parts: Any = None
        self.global_scope = {"G": scope}
        self.guard_fail_fn: Any = None
        self.cache_entry: Any = None
        self.extra_state: Any = None
        self.id_matched_objs: dict[str, Any] = {}
        self.no_tensor_aliasing_sources = aliased
        self.printed_relational_guards: set[Any] = set()
        self.diff_guard_sources: Any = tensors
        self.statics: dict[str, Any] = {}  # tensors that torch puts into the graph itself
        self._held: list[Any] = []
        self._checked = False
        _managers.add(self)

    def check(self, f_locals: Any) -> bool:
        """Tell whether the guards pass for a frame's locals."""
        if self._checked and self.root not in _immortal:
            _immortal.append(self.root)
        self._checked = _WATCHES
        return bool(self.root.check(f_locals))

    def check_verbose(self, f_locals: Any) -> Any:
        """Return torch's report on the first guard that fails."""
        return self.root.check_verbose(f_locals)


class _DeletedManager(Manager):
    """A counterpart of torch's ``DeletedGuardManagerWrapper``."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, {}, [], [])
        self.invalidation_reason = reason


def hold(manager: Manager, value: Any, name: str) -> None:
    """Tie a manager to an object whose address it guards: it ends with the object.

    Otherwise the address could become another object's. Follows ``CheckFunctionManager.id_ref``.
    """
    try:
        manager._held.append(weakref.ref(value, _Ending(manager, name)))
    except TypeError:  # not weakly referenceable: keep it alive
        manager._held.append(value)


class _Ending:
    """A callback that retires a cache entry when an object it guards is gone."""

    __slots__ = ("_manager", "_name")

    def __init__(self, manager: Manager, name: str) -> None:
        self._manager = weakref.ref(manager)
        self._name = name

    def __call__(self, _: Any, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        manager = self._manager()
        if manager is None or is_finalizing():  # bound above: globals are gone at process exit
            return
        reason = f"Cache line invalidated because {self._name} got deallocated"
        entry, state = manager.cache_entry, manager.extra_state
        if entry is None or state is None:
            manager.root.add_lambda_guard(lambda _: False, [reason], None)
            return
        real = real_guards()
        with stand_ins() if real is None else contextlib.nullcontext():
            kind = _DeletedManager if real is None else real.DeletedGuardManagerWrapper
            state.invalidate(entry, kind(reason))


def on_dynamo_imported() -> None:
    """Pass the live managers to Dynamo; call once ``torch._dynamo.guards`` is imported.

    Its ``GuardManagerType`` becomes the one C++ knows (otherwise no more guards could be built), and every
    manager becomes one of torch's, so that logs, limits and ``reset`` treat it as such. Does nothing without
    Dynamo, or a second time.
    """
    real = real_guards()
    if real is None:
        return
    with _lock:
        if _handed_out and real.GuardManagerType is not GuardManagerType:
            real.GuardManagerType = GuardManagerType
        while _managers:
            manager = _managers.pop()
            _introduce(real, manager)


def _introduce(real: ModuleType, manager: Any) -> None:
    """Make a manager an instance of torch's class, in the state ``compile_check_fn`` leaves one."""
    if isinstance(manager, _DeletedManager):
        manager.__class__ = real.DeletedGuardManagerWrapper
        return
    manager.__class__ = real.GuardManagerWrapper
    manager.diff_guard_sources = real.OrderedSet(manager.diff_guard_sources)
    manager.closure_vars = {
        "___check_tensors": None,
        "___check_tensors_verbose": None,
        "___check_global_state": None,
        "___check_torch_function_mode_stack": None,
        **real.SYMPY_INTERP,
        **real._get_closure_vars(),
    }
    manager.args = ["**___kwargs_ignored"]
    manager.verbose_code_parts = []
    manager.populate_code_parts_for_debugging()
    manager.prepare_diff_guard_manager()
