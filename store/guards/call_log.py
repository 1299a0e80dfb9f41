"""A log of torch's calls while it builds a frame's guards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from firebrick.guards.identity_guards import of_compiler
from firebrick.torch_api import native


@dataclasses.dataclass(slots=True)
class GuardCall:
    """One call during a build of guards, with its arguments at that time."""

    name: str
    manager: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    example: tuple[type, int] | None = None  # type, length of a dict or -1
    facts: Any = None
    body: str | None = None
    result: Any = None

    @classmethod
    def of(cls, name: str, manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GuardCall:
        """Log a call; of values that are large or may change, only their facts."""
        call = cls(name, manager, args, kwargs)
        if "example_value" in kwargs:
            value = kwargs["example_value"]
            length = dict.__len__(value) if isinstance(value, dict) else -1
            call.example = type(value), length
            call.kwargs = kwargs | {"example_value": None}
            compiler = isinstance(value, ModuleType) and of_compiler(value.__name__)
            grows = next((table for table in native.FOREACH_TYPES if table is value), None)
            call.facts = value is native.SUPPORTED_NODES, compiler, grows
        elif name == "add_tensor_match_guard":
            value, keys = args[0], args[7]
            applied = (keys | native.included_dispatch_keys()) - (native.excluded_dispatch_keys())
            dtype = repr(value.dtype).removeprefix("torch.")
            device = value.device
            call.facts = [dtype, device.type, device.index, value.requires_grad, applied.raw_repr()]
            call.args = (None, *args[1:7], None)
        elif name == "add_mapping_keys_guard":
            call.facts = list(args[0].keys())
            call.args = (None, *args[1:])
        elif name == "add_default_device_guard":
            call.facts = native.current_device()
        return call


class Log:
    """The calls of one build, and the context needed to interpret them."""

    def __init__(self) -> None:
        self.root: Any = None
        self.calls: list[GuardCall] = []
        self.objects: dict[int, Any] = {}  # address -> object that a guard compares by address
        self.body: str | None = None  # source of the latest guard function written
        self.installed: Iterable[str] = ()
        self.imports: dict[str, str] = {}
        self.builtins = ""

    @classmethod
    def of(cls, graph: Any) -> Log:
        """Start a log for the guards of torch's output graph."""
        log = cls()
        from firebrick.torch_api.dynamo_modules import output_graph  # imported wherever guards are built

        if isinstance(graph, output_graph.OutputGraph):  # false where stored guards are rebuilt
            log.installed = graph.installed_globals
        log.imports = graph.import_sources
        log.builtins = graph.name_of_builtins_dict_key_in_fglobals or ""
        return log

    def add(self, call: GuardCall) -> None:
        """Append a call that torch has executed."""
        if call.name in ("add_lambda_guard", "add_epilogue_lambda_guard"):
            call.body, self.body = self.body, None
        self.calls.append(call)
