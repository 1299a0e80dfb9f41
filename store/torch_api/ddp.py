"""``DDPOptimizer``'s splits of frames in DistributedDataParallel: a graph per gradient bucket.

Source followed: ``torch/_dynamo/backends/distributed.py``, ``CatchErrorsWrapper`` of
``torch/_dynamo/convert_frame.py``. Importing this module imports torch's compiler.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch._dynamo import convert_frame, eval_frame
from torch._dynamo.backends import distributed
from torch.fx import GraphModule, Node

from firebrick.codecs.lean_split import NO_PART, Step, Steps
from firebrick.errors import NotLean
from firebrick.storage.manifest import NoLeanForm

if TYPE_CHECKING:
    from firebrick.base.patches import Patches

BucketCompiled = Callable[[str, str], None]
SplitMade = Callable[[str, Steps | NoLeanForm], None]


def backend_behind(convert: Any) -> Any:
    """Return the backend behind a frame converter, even one wrapped by ``DDPOptimizer``."""
    backend = eval_frame.innermost_backend(convert)
    optimizer = getattr(backend, "__self__", None)
    if isinstance(optimizer, distributed.DDPOptimizer):
        return eval_frame.innermost_backend(optimizer.backend_compile_fn)
    return backend


def record_buckets(patches: Patches, bucket: BucketCompiled, made: SplitMade) -> None:
    """Make torch record the graphs compiled for buckets, until the patches are undone.

    Args:
        patches: keeps the originals.
        bucket: called with torch's id of a backend and an id for one of its graphs, before that is compiled.
        made: called with torch's id once all its graphs are compiled, and with the steps that join them or
            the reason they are unknown; for unsplit graphs too.
    """
    for owner, name, wrap in (
        (distributed.SubmodCompiler, "compile_submod", functools.partial(_naming, told=bucket)),
        (distributed.DDPOptimizer, "compile_fn", functools.partial(_telling, told=made)),
    ):
        patches.set(owner, name, wrap(getattr(owner, name)))
    for converter in (convert_frame.ConvertFrame, convert_frame.ConvertFrameAssert):
        cloning: Any = inspect.getattr_static(converter, "_clone_with_backend")
        patches.set(converter, "_clone_with_backend", property(_with_package(cloning.fget)))


def _with_package(original: Any) -> Callable[[Any], Any]:
    """Wrap ``_clone_with_backend`` of a converter: the clone records into the package of the original."""

    def clone_with_backend(self: Any) -> Callable[[Any], Any]:
        clone = original(self)

        def cloned(backend: Any) -> Any:
            made = clone(backend)
            inner, original_inner = (
                one._inner_convert if isinstance(one, convert_frame.ConvertFrame) else one
                for one in (made, self)
            )
            inner._package = original_inner._package
            return made

        return cloned

    return clone_with_backend


def _naming(original: Callable[..., Any], told: BucketCompiled) -> Callable[..., Any]:
    """Wrap ``SubmodCompiler.compile_submod``: give each graph an id, under which it is recorded."""

    @functools.wraps(original)
    def compile_submod(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        if (backend_id := module.meta.get("backend_id")) is not None:
            compiled = sum(name.startswith("compiled_") for name, _ in self.module.named_children())
            module._backend_id = f"{backend_id}_bucket_{compiled}"
            told(backend_id, module._backend_id)
        return original(self, module, *args, **kwargs)

    return compile_submod


def _telling(original: Callable[..., Any], told: SplitMade) -> Callable[..., Any]:
    """Wrap ``DDPOptimizer.compile_fn``: report how the graphs of a split one are joined."""

    @functools.wraps(original)
    def compile_fn(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(self, module, *args, **kwargs)
        if (backend_id := module.meta.get("backend_id")) is not None:
            try:
                steps: Steps | NoLeanForm = steps_of(made)
            except Exception as error:
                own = error.reason if isinstance(error, NotLean) else f"a split graph: {type(error).__name__}"
                steps = NoLeanForm(own)
            told(backend_id, steps)
        return made

    return compile_fn


def steps_of(module: GraphModule) -> Steps:
    """Return the steps that join the compiled graphs of a split one, numbered by its calls.

    Raises:
        NotLean: naming a node that is neither a graph call nor an item of a result.
    """
    numbers: dict[Any, int] = {}
    steps: list[Step] = []
    inputs = parts = 0

    def values(nodes: Any) -> tuple[int, ...]:
        if not isinstance(nodes, tuple | list) or not all(
            isinstance(n, Node) and n in numbers for n in nodes
        ):
            raise NotLean(f"a split graph with the arguments {nodes!r:.60}")
        return tuple(numbers[node] for node in nodes)

    for node in module.graph.nodes:
        match node.op, node.target, node.args:
            case "placeholder", _, _:
                numbers[node] = inputs
                inputs += 1
            case "call_module", target, arguments if not node.kwargs:
                first = module.get_submodule(target).unwrap_singleton_tuple
                numbers[node] = inputs + len(steps)
                steps.append(Step(parts, values(arguments), 0 if first else None))
                parts += 1
            case "call_function", operator.getitem, (value, int(item)):
                numbers[node] = inputs + len(steps)
                steps.append(Step(NO_PART, values((value,)), item))
            case "output", _, (outputs,):
                return Steps(inputs, tuple(steps), values(outputs))
            case _:
                raise NotLean(f"a split graph with {node.op} {node.target!s:.60}")
    raise NotLean("a split graph without outputs")
