"""Record guard programs: Dynamo's operations on torch's guard managers while it builds a frame's guards.

The methods of the C++ classes are wrapped once per session; outside a build the wrappers only call through. A
recorded build becomes a program only if the closed language of `firebrick.codecs.guard_program` can express
every operation and value in it. Source followed: ``torch/_dynamo/guards.py``.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from firebrick.base.patches import Patches
from firebrick.codecs.guard_program import GuardProgram
from firebrick.errors import NotLean
from firebrick.guards.call_log import GuardCall, Log
from firebrick.guards.writer import Writer
from firebrick.torch_api.native import guards as cpp

# Methods that only read, or do not affect verdicts.
_READERS: Final = re.compile(
    r"_.*|check|check_verbose|get_(?!key_manager$|value_manager$|generic_dict_manager$).*|is_.*|has_.*"
    r"|repr|fail_count|type_of_guarded_value|clone_manager|attach_compile_id"
)
_FUNCTIONS: Final = (
    "install_object_aliasing_guard",
    "install_no_tensor_aliasing_guard",
    "install_storage_overlapping_guard",
    "install_symbolic_shape_guard",
)
_KEPT: Final = 4  # builds per thread that can still become programs


class _Local(threading.local):
    """The builds of one thread."""

    def __init__(self) -> None:
        self.logs: deque[Log] = deque(maxlen=_KEPT)
        self.log: Log | None = None  # the current build


class _AllDefaults:
    """The configuration as seen by the tracer of functions: defaults are always guarded.

    Not a change of the configuration itself, which is part of recipes.
    """

    skip_guards_on_constant_func_defaults = False

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


class GuardRecorder:
    """A recorder of guard builds. torch's compile lock serialises builds; each thread has its own."""

    def __init__(self) -> None:
        self._local = _Local()

    def install(self, patches: Patches) -> None:
        """Wrap the functions that build guards, until the patches are undone. Imports the compiler."""
        from firebrick.torch_api.dynamo_modules import functions, guards

        for cls in (cpp.GuardManager, cpp.RootGuardManager, cpp.DictGuardManager):
            for name, member in list(vars(cls).items()):
                if callable(member) and not _READERS.fullmatch(name):
                    patches.set(cls, name, self._method(name, getattr(cls, name)))
        for name in _FUNCTIONS:
            patches.set(guards, name, self._function(name, getattr(guards, name)))
        manager = guards.CheckFunctionManager
        patches.set(manager, "build_guards", self._building(manager.build_guards))
        patches.set(manager, "compile_check_fn", self._finishing(manager.compile_check_fn))
        patches.set(manager, "id_ref", self._naming(manager.id_ref))
        # torch 2.11 does not guard constant defaults of functions: they are code in one process, but may
        # differ in the next
        patches.set(functions, "config", _AllDefaults(functions.config))
        patches.set(guards, "build_guard_function", self._writing(guards.build_guard_function))

    def program(
        self, built: Any, scope: dict[str, Any], code: CodeType, names: dict[int, str] | None = None
    ) -> GuardProgram:
        """Return the program of the guards this thread just built.

        Args:
            built: ``CheckFunctionManager``, its guard manager, or the root guard manager.
            scope: globals of the frame.
            code: code object of the frame.
            names: gets the names of tensors that are guarded by their addresses, by these.

        Raises:
            NotLean: naming the first guard that cannot be rebuilt elsewhere.
        """
        from firebrick.torch_api.dynamo_modules import guards

        root = built.guard_manager if isinstance(built, guards.CheckFunctionManager) else built
        root = root if isinstance(root, cpp.RootGuardManager) else root.root
        for log in self._local.logs:
            if log.root is root:
                self._local.logs.remove(log)
                writer = Writer(log, scope, code)
                program = writer.program()
                (names if names is not None else {}).update(writer.static.names)
                return program
        raise NotLean("guards whose building was not seen")

    def discard(self) -> None:
        """Forget this thread's recordings."""
        self._local.logs.clear()
        self._local.log = None

    # Wrappers.

    def _method(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def method(manager: Any, *args: Any, **kwargs: Any) -> Any:
            if (log := local.log) is None:
                return original(manager, *args, **kwargs)
            call = GuardCall.of(name, manager, args, kwargs)
            call.result = original(manager, *args, **kwargs)
            log.add(call)
            return call.result

        return method

    def _function(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if (log := local.log) is not None:
                log.add(GuardCall.of(name, None, args, kwargs))
            return original(*args, **kwargs)

        return function

    def _building(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def build_guards(
            manager: Any, guards: Any, sources: Any, code: Any, graph: Any, *args: Any, **kwargs: Any
        ) -> Any:
            local.log = log = Log.of(graph)
            try:
                builder, wrapper = original(manager, guards, sources, code, graph, *args, **kwargs)
            except BaseException:
                local.log = None
                raise
            log.root = wrapper.root
            local.logs.append(log)
            return builder, wrapper

        return build_guards

    def _finishing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def compile_check_fn(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            finally:
                local.log = None

        return compile_check_fn

    def _naming(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def id_ref(manager: Any, value: Any, name: str) -> int:
            address: int = original(manager, value, name)
            if (log := local.log) is not None:
                log.objects[address] = value
            return address

        return id_ref

    def _writing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self._local

        @functools.wraps(original)
        def build_guard_function(parts: Any, arguments: Any) -> Any:
            body, source = original(parts, arguments)
            if (log := local.log) is not None:
                log.body = body
            return body, source

        return build_guard_function
