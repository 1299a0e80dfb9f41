"""Replace `torch.compile` where the store may have the result: return without the compiler.

A compiled function or module made here asks the lean lane at its first call. If that has no answer, or torch
has special rules (tracing, export, stances), it *falls back to the compiler*: the compiler is imported and
makes the real compiled object, to which every later call goes; served code stays in use.
"""

from __future__ import annotations
import __future__

import builtins
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol

import torch

from firebrick.base.gc_pause import no_collection
from firebrick.errors import AuditError, NotStorable
from firebrick.guards import replay
from firebrick.loader import lean_module
from firebrick.loader.lean_frames import LeanFrames
from firebrick.loader.lean_module import LeanModule
from firebrick.loader.optimizers import Optimizers
from firebrick.torch_api import compiler_free as api
from firebrick.validity.configuration import ARGUMENTS, text_of

if TYPE_CHECKING:
    from firebrick.reports.counters import Stats
    from firebrick.settings import Settings
    from firebrick.storage.store import Store
    from firebrick.validity.audit import Auditor

_log = logging.getLogger("firebrick")
_PLAIN = ("fullgraph", "dynamic", "mode", "options")  # arguments of torch.compile that the lane supports
_WRAPPED = 8  # nested wrappers
_SPECIAL_OPTIONS = ("guard_filter_fn", "use_aoti")


class BackendPlaceholder:
    """A placeholder for the Inductor backend in cache entries until the compiler makes it; then becomes it.

    torch's hook compares the backend of a cache entry with that of the caller by ``==``. Compilations with
    equal arguments share one.
    """

    def resolve(self, backend: Any) -> None:
        """Turn into the backend that torch made."""
        placeholder: Any = self
        placeholder.__dict__ = dict(backend.__dict__)
        placeholder.__class__ = type(backend)


class CompileCall:
    """One call of torch's own ``torch.compile``: its arguments as texts, and its results."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.result: Any = None
        self.backend: Any = None
        self.context: Any = None


class Serving(Protocol):
    """The session as `LeanEntry` sees it."""

    settings: Settings
    stats: Stats
    auditor: Auditor | None

    def fault(self, error: BaseException, /) -> None:
        """Record an error of Firebrick."""


class LeanEntry:
    """One session's `torch.compile`.

    Args:
        session: provides counters, and accepts faults.
        store: holds the bundles.
        original: torch's own function.
    """

    def __init__(self, session: Serving, store: Store, original: Callable[..., Any]) -> None:
        self.session = session
        self.original = original
        self.frames = LeanFrames(
            store,
            session.stats,
            tested=session.settings.self_test,
            on_fault=session.fault,
            auditing=lambda: session.auditor,
        )
        self._backends: dict[str, Any] = {}  # arguments -> placeholder, or torch's backend once made
        self._calls = threading.local()  # of torch's own torch.compile
        self._optimizers = Optimizers()
        self._serving = session.settings.load
        if self._serving and api.dynamo() is None:
            self._optimizers.quiet()
        self.closed = False

    def on_dynamo_imported(self) -> None:
        """Let Dynamo, just imported, take over served functions."""
        self._optimizers.unmark()
        api.register_with_dynamo()
        replay.on_dynamo_imported()
        lean_module.on_dynamo_imported()
        self.frames.on_dynamo_imported()

    def close(self) -> None:
        """Stop serving."""
        self.closed = True
        self._optimizers.restore()

    def on_compiled(self, backend: Any, context: Any) -> None:
        """Record the results of torch's own ``torch.compile`` for the current call in this thread."""
        if (call := getattr(self._calls, "call", None)) is not None:
            setattr(backend, ARGUMENTS, call.texts)
            call.backend, call.context = backend, context
            placeholder = self._backends.setdefault(_one_text(call.texts), backend)
            if type(placeholder) is BackendPlaceholder:
                placeholder.resolve(backend)

    def torch_compile(self, model: Any, arguments: dict[str, Any]) -> CompileCall:
        """Call torch's own ``torch.compile``."""
        call, outer = CompileCall(_texts(arguments)), getattr(self._calls, "call", None)
        self._calls.call = call
        try:
            call.result = self.original(model, **arguments)
        finally:
            self._calls.call = outer
        return call

    def compile(self, model: Any = None, **arguments: Any) -> Any:
        """Compile like ``torch.compile``."""
        if model is None and _are_plain(arguments) and self._may_serve():
            return functools.partial(self._decorate, arguments)
        try:
            with no_collection():
                lean = self._lean(model, arguments)
        except NotStorable:  # the full lane says why
            lean = None
        except Exception as error:
            self.session.fault(error)
            lean = None
        if lean is not None:
            return lean
        if model is None or not _are_plain(arguments):
            return self.original(model, **arguments)
        return self.torch_compile(model, arguments).result

    def _decorate(self, arguments: dict[str, Any], model: Any) -> Any:
        """Compile what ``@torch.compile(...)`` stands above."""
        if model is None:
            raise RuntimeError("Model can't be None")
        return self.compile(model, **arguments)

    def _may_serve(self) -> bool:
        if self.closed or not self._serving or api.wants_own_precompile():
            return False
        return not api.is_traced() and api.has_default_stance()

    def _lean(self, model: Any, arguments: dict[str, Any]) -> Any | None:
        if not _are_plain(arguments) or not self._may_serve():
            return None
        texts = _texts(arguments)
        options = self.frames.options(texts)
        if options is None:
            return None
        target = next((way for way in _targets(model) if self._knows(way, options)), None)
        if target is None:
            return None
        api.leave_distributions_unchecked()
        backend = self._backends.setdefault(_one_text(texts), BackendPlaceholder())
        region = Region(self, backend, texts, model, arguments)
        if isinstance(model, torch.nn.Module):
            return LeanModule(model, region, region.wrap(target))
        return region.wrap(target)

    def _knows(self, target: Callable[..., Any], options: Mapping[str, str]) -> bool:
        return any(self.frames.knows(code, module, options) for code, module in _first_frames(target))


class Region:
    """One compiled function or module: its callback, and its fallback to the compiler."""

    def __init__(
        self,
        entry: LeanEntry,
        backend: Any,
        texts: Mapping[str, str],
        model: Any,
        arguments: dict[str, Any],
    ) -> None:
        self._entry = entry
        self._torchdynamo_orig_backend = backend  # where torch's hook looks for the backend
        self._texts = texts
        self.model = model
        self.arguments = arguments
        self._real: CompileCall | None = None
        self._lock = threading.RLock()
        self.on_hand_over: Callable[[Any], None] | None = None

    def __call__(self, frame: Any, cache_entry: Any, frame_state: Any) -> Any:
        """Answer torch's hook for a frame without a matching cache entry."""
        if self._real is None and not self._entry.closed and not api.wants_own_precompile():
            try:
                with no_collection():
                    answer = self._entry.frames.serve(frame, frame_state, self._texts)
            except AuditError:
                raise
            except Exception as error:
                self._entry.session.fault(error)
                answer = None
            if answer is not None:
                return answer
        _log.debug("asking the compiler for %s", frame.f_code.co_qualname)
        return api.compiled_under(self.fall_back_to_compiler().context, frame, cache_entry, frame_state)

    def wrap(self, target: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that runs `target` with torch's hook set to this region."""
        set_eval_frame, is_traced, default = api.set_eval_frame, api.is_traced, api.has_default_stance
        real: Callable[..., Any] | None = None

        @functools.wraps(target)
        def compile_wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal real
            if real is not None:
                return real(*args, **kwargs)
            if self._real is not None or is_traced() or not default():
                made = self.fall_back_to_compiler().result
                real = made.forward if isinstance(made, torch.nn.Module) else made
                return real(*args, **kwargs)
            prior = set_eval_frame(self)
            try:
                return target(*args, **kwargs)
            finally:
                set_eval_frame(prior)

        wrapper: Any = compile_wrapper
        wrapper._torchdynamo_orig_callable = target
        wrapper._torchdynamo_inline = target
        wrapper._torchdynamo_wrapper_id = id(wrapper)
        wrapper.get_compiler_config = lambda: self.fall_back_to_compiler().result.get_compiler_config()
        return compile_wrapper

    def fall_back_to_compiler(self) -> CompileCall:
        """Return the result of torch's own ``torch.compile``, called at most once.

        Imports torch's compiler. The placeholder becomes the backend: served code stays valid.
        """
        with self._lock:
            if self._real is None:
                self._real = call = self._entry.torch_compile(self.model, self.arguments)
                if self.on_hand_over is not None:
                    self.on_hand_over(call.result)
        return self._real


def _one_text(texts: Mapping[str, str]) -> str:
    return repr(sorted(texts.items()))


def _texts(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of ``torch.compile`` as texts, equal if torch treats them alike."""
    texts = {name: text_of(arguments.get(name)) for name in _PLAIN}
    texts["fullgraph"] = text_of(bool(arguments.get("fullgraph")))
    if texts["mode"] == "None" and not arguments.get("options"):
        texts |= {"mode": "'default'", "options": "None"}
    return texts


def _are_plain(arguments: Mapping[str, Any]) -> bool:
    """Tell whether the lane supports these arguments of ``torch.compile``; torch handles the others."""
    rest = {name: value for name, value in arguments.items() if name not in _PLAIN}
    if rest.pop("backend", "inductor") not in ("inductor", None):
        return False
    options = arguments.get("options") or {}
    if not isinstance(options, dict) or any(name in options for name in _SPECIAL_OPTIONS):
        return False
    if arguments.get("mode") is not None and arguments.get("options") is not None:
        return False  # torch reports what is wrong
    return not any(rest.values())


def _wrap_inline(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a callable that Dynamo skips a frame, as torch does (``external_utils``)."""
    made = wrap_inline(fn)
    flags = made.__code__.co_flags & ~__future__.annotations.compiler_flag  # torch's file has no such import
    scope = {"__name__": "torch._dynamo.external_utils", "__builtins__": builtins}
    inner = FunctionType(made.__code__.replace(co_flags=flags), scope, made.__name__, None, made.__closure__)
    return functools.update_wrapper(inner, fn)


def wrap_inline(fn: Callable[..., Any]) -> FunctionType:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return inner  # type: ignore[return-value]


def _targets(model: Any) -> Iterator[Callable[..., Any]]:
    """Yield the callables torch may run under its hook; none if the model is better left to torch.

    A function from a file that Dynamo skips, like those of ``torch.autocast``, gets a frame around it.
    """
    if (target := _target(model)) is not None:
        yield target
        if isinstance(target, FunctionType) and target is model and _is_of_torch(model):
            yield _wrap_inline(model)


def _target(model: Any) -> Callable[..., Any] | None:
    """Return the callable that torch runs first under its hook."""
    if hasattr(model, "_torchdynamo_orig_callable"):
        return None
    if isinstance(model, torch.nn.Module):
        if isinstance(model, torch.jit.ScriptModule | torch.fx.GraphModule) or hasattr(
            model, "_initialize_hook"
        ):
            return None
        forward = model.forward
        if isinstance(forward, MethodType) and _is_of_torch(forward.__func__):
            return _wrap_inline(model)
        return model.__call__
    if inspect.isclass(model) or not callable(model):
        return None
    function = model.__func__ if isinstance(model, MethodType) else model
    if isinstance(function, FunctionType):
        return model if not inspect.isgeneratorfunction(function) else None
    return _wrap_inline(model)


def _is_of_torch(function: Any) -> bool:
    scope = getattr(function, "__globals__", {})
    return str(scope.get("__name__", "")).startswith("torch.")


def _first_frames(target: Callable[..., Any]) -> list[tuple[CodeType, str]]:
    """Return the frames that torch may compile first when `target` is called."""
    bound = getattr(target, "__self__", None)
    frames = [target]
    if isinstance(bound, torch.nn.Module):
        frames.append(bound.forward)
    found: list[tuple[CodeType, str]] = []
    for frame in frames:
        function: Any = frame
        while function is not None and len(found) < _WRAPPED:
            function = function.__func__ if isinstance(function, MethodType) else function
            if not isinstance(function, FunctionType):
                break
            found.append((function.__code__, function.__globals__.get("__name__", "")))
            function = vars(function).get("__wrapped__")  # Dynamo may skip a decorator of torch
    return found
