"""Serialise guard states without losing guards.

torch drops identity guards when it serialises a guard state (``caching_precompile``), from the stored and the
live function alike. Here the live function keeps every guard, and the stored state gets a second set with
portable identity guards (`identity`). If a guard has no portable form there is no state, and the full lane
cannot serve the frame.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from firebrick import torch_api
from firebrick.errors import CodecError, NotStorable
from firebrick.guards import unpickler
from firebrick.guards.identity import describe, identity_match, is_found
from firebrick.guards.identity_guards import OBJECT
from firebrick.torch_api import registry

Report = Callable[[Any, Any, set[str], str, BaseException | None], None]


def recording_init(original: Callable[..., None], report: Report) -> Callable[..., None]:
    """Return a ``CheckFunctionManager.__init__`` that builds all live guards and, separately, stored ones.

    Args:
        original: torch's own function.
        report: called with the manager, torch's output graph, the code digests that identity guards compare,
            the guards' expectations, and the reason they cannot be stored, if any; then the state is empty
            and the frame compiles as if nothing were recorded.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with registry.without_precompile():  # torch's filter would drop identity guards
            call = signature.bind(self, *args, **kwargs)
            if not call.arguments.get("save_guards", False) or call.arguments.get("strict_error"):
                original(self, *args, **kwargs)
                return
            digests, expected, fault = set[str](), "", None

            def serialize_guards(builder: Any, guards: list[Any], graph: Any) -> bytes:
                nonlocal expected, fault
                try:
                    state, expected = guards_state(self, builder, guards, graph, digests)
                except Exception as error:
                    fault = error
                    return b""
                return state

            self.serialize_guards = serialize_guards
            try:
                original(*call.args, **call.kwargs)
            finally:
                del self.serialize_guards
            report(self, call.arguments["output_graph"], digests, expected, fault)

    return init


def guards_state(
    manager: Any, builder: Any, guards: list[Any], graph: Any, digests: set[str]
) -> tuple[bytes, str]:
    """Return torch's pickled guard state of a frame, with portable identity guards, and its expectations.

    Args:
        manager: torch's ``CheckFunctionManager`` of the live function.
        builder: its builder, which knows the values.
        guards: the guards built.
        graph: torch's output graph.
        digests: receives the code digests that the portable guards compare.

    Raises:
        NotStorable: naming the guard without a portable form.
        PackageError: torch's, for any other value that cannot be serialised.
    """
    api = torch_api.load()
    identified = dict[Any, Any]()
    built = api.distinct(_travelling(api, guard, builder, digests, identified) for guard in guards)
    with warnings.catch_warnings():  # torch reads .grad of non-leaf tensors
        warnings.simplefilter("ignore")
        state, certain = api.serialize(manager, builder, built, graph, identified, unpickler)
    try:
        if not certain:
            unpickler.read_guard_state(state)
    except CodecError as error:
        raise NotStorable(f"a guarded value cannot be read back: {error}") from error
    return state, api.expectations(built)


def _travelling(api: Any, guard: Any, builder: Any, digests: set[str], identified: dict[Any, Any]) -> Any:
    """Return the stored form of a guard: itself, or one that compares an object's identity."""
    types = api.guard_types(guard)
    source = guard.originating_source
    if refused := sorted(types & api.REFUSED_GUARDS):
        raise NotStorable(f"{refused[0]} guard on {guard.name}")
    if not types & api.IDENTITY_GUARDS and guard.create_fn_name() not in api.IDENTITY_GUARDS:
        if "EQUALS_MATCH" in types and type(builder.get(guard)).__module__.startswith("torch.distributed"):
            raise NotStorable(f"{guard.name} equals that of another rank")  # whose place Dynamo folds
        return guard
    if (base := api.type_of(source)) is not None:  # as torch does: the identity of a type
        return api.type_guard(base, builder)
    value = builder.get(guard)
    if api.is_closure_guard(guard, value):
        source, value = api.code_source(source), value.__code__
    try:
        identity = describe(value)
    except NotStorable as error:
        raise NotStorable(f"{guard.create_fn_name()} guard on {guard.name}: {error}") from error
    digests.add(identity.digest)
    local = api.local_name(source) is not None and identity.kind != "constant" and not is_found(identity)
    if local or identity.kind == OBJECT:
        identified[source] = value
    return api.fresh_guard(source, functools.partial(identity_match, (*identity,)))
