"""Guard states that lose no guard.

torch drops identity guards when it serialises a guard state (``caching_precompile``), from the stored
and from the live function alike. Here the live function keeps every guard, and the stored state gets a
second set in which each identity guard is replaced by one that travels (`loader.identity`). With a guard
for which that can not be done there is no state, and the lane with the compiler can not have the frame.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any

from firebrick import torch_api
from firebrick.errors import CodecError, NotStorable
from firebrick.loader.guard_state import read_guard_state
from firebrick.loader.identity import describe, identity_match
from firebrick.torch_api import registry

Report = Callable[[Any, Any, set[str], str, BaseException | None], None]


def recording_init(original: Callable[..., None], report: Report) -> Callable[..., None]:
    """Return ``CheckFunctionManager.__init__`` that builds live guards whole and stored ones beside.

    Args:
        original: torch's own function.
        report: called with the manager, torch's output graph, the digests of the code that identity guards
            compare, what the guards expect, and the reason why they can not be stored, if so; the state is
            then empty and the frame compiles as if nothing were recorded.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with registry.without_precompile():  # torch's filter would drop identity guards
            call = signature.bind(self, *args, **kwargs)
            if not call.arguments.get("save_guards", False) or call.arguments.get("strict_error"):
                original(self, *args, **kwargs)
                return
            call.arguments["save_guards"] = False
            live = _LiveGuards(self, call.arguments)
            original(*call.args, **call.kwargs)
            del self.build_guards
            graph, digests = call.arguments["output_graph"], set[str]()
            try:
                code = call.arguments["f_code"]
                self.guards_state, expected = guards_state(code, graph, live, digests)
            except Exception as error:
                self.guards_state = b""
                report(self, graph, digests, "", error)
            else:
                report(self, graph, digests, expected, None)

    return init


class _LiveGuards:
    """Notes which guards a manager builds for the live function, and the builder that knows values."""

    def __init__(self, manager: Any, arguments: dict[str, Any]) -> None:
        self.builder: Any = None
        self.guards: list[Any] = list(arguments["output_graph"].guards)
        build = manager.build_guards

        def build_guards(*args: Any, **kwargs: Any) -> Any:
            result = build(*args, **kwargs)
            self.builder = result[0]
            return result

        manager.build_guards = build_guards
        if chosen := arguments.get("guard_filter_fn"):

            def filter_guards(entries: Any) -> Any:
                verdicts = chosen(entries)
                pairs = zip(entries, verdicts, strict=True)
                self.guards = [entry.orig_guard for entry, keep in pairs if keep]
                return verdicts

            arguments["guard_filter_fn"] = filter_guards


def guards_state(code: CodeType, graph: Any, live: _LiveGuards, digests: set[str]) -> tuple[bytes, str]:
    """Return torch's pickled guard state of a frame, with identity guards that travel, and what it expects.

    Args:
        code: code object of the frame.
        graph: torch's output graph.
        live: the guards that were built for the live function.
        digests: gets the digests of the code that the travelling guards compare.

    Raises:
        NotStorable: naming the guard that can not travel.
        PackageError: of torch, for another value that can not be serialised.
    """
    api = torch_api.load()
    guards = [_travelling(api, guard, live.builder.get, digests) for guard in live.guards]

    def pickled(original: Callable[[Any, Any], bytes], state: Any, builder: Any) -> bytes:
        return original(api.canonical_state(state), builder)

    with warnings.catch_warnings():  # torch reads .grad of tensors that are no leaves
        warnings.simplefilter("ignore")
        state: bytes = api.saving_manager(code, graph, guards, pickled).guards_state
    try:
        read_guard_state(state)
    except CodecError as error:
        raise NotStorable(f"a guarded value can not be read back: {error}") from error
    return state, api.expectations(guards)


def _travelling(api: Any, guard: Any, value_of: Callable[[Any], Any], digests: set[str]) -> Any:
    types = api.guard_types(guard)
    source = guard.originating_source
    if refused := sorted(types & api.REFUSED_GUARDS):
        raise NotStorable(f"{refused[0]} guard on {guard.name}")
    if not types & api.IDENTITY_GUARDS and guard.create_fn_name() not in api.IDENTITY_GUARDS:
        return api.fresh_guard(source, guard.create_fn)
    if (base := api.type_of(source)) is not None:  # as torch does: the identity of a type
        return api.fresh_guard(base, api.GuardBuilder.TYPE_MATCH)
    value = value_of(guard)
    if api.is_closure_guard(guard, value):
        source, value = api.code_source(source), value.__code__
    try:
        identity = describe(value)
    except NotStorable as error:
        raise NotStorable(f"{guard.create_fn_name()} guard on {guard.name}: {error}") from error
    digests.add(identity.digest)
    return api.fresh_guard(source, functools.partial(identity_match, (*identity,)))
