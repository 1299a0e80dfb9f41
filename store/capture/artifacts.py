"""Store the backend artifacts that torch records, with their libraries, and derive their lean forms."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from firebrick import torch_api
from firebrick.capture.ddp_buckets import Splits
from firebrick.capture.lean_part import LeanPart
from firebrick.capture.manifest_writer import Part
from firebrick.codecs import encode
from firebrick.errors import CodecError, EncodeError, NotStorable
from firebrick.loader.wrapper_libraries import WrapperLibraries
from firebrick.storage.format import Kind
from firebrick.storage.manifest import NoLeanForm
from firebrick.torch_api.compiler_free import wants_own_precompile

if TYPE_CHECKING:
    from firebrick.capture.recorder import Recorder
    from firebrick.context.context import Context
    from firebrick.settings import Settings


_CALL = re.compile(r"^[^#\n]*?torch\.ops\.(\w+\.\w+)", re.MULTILINE)


class ArtifactSession(Protocol):
    """The session as `Artifacts` sees it."""

    settings: Settings
    context: Context | None

    def fault(self, error: BaseException, /) -> None:
        """Record an error of Firebrick."""


class Artifacts:
    """The backend artifacts of one session. Serialised by torch's compile lock.

    Args:
        session: its context mirrors torch's registry.
        kernels: knows the libraries of the wrappers that this process loaded.
    """

    def __init__(self, session: ArtifactSession, kernels: WrapperLibraries) -> None:
        self._session = session
        self._kernels = kernels
        self._lean: dict[str, LeanPart | NoLeanForm] = {}
        self._splits: Splits | None = None
        self._calls: dict[str, set[str]] = {}

    def recording(self, original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
        """Wrap ``PrecompileContext.record_artifact`` (a function whose first parameter is the class)."""
        api = torch_api.load()

        @functools.wraps(original)
        def record_artifact(cls: Any, artifact: Any) -> None:
            try:
                if absent := self._kernels.absent(graph.cache_key for graph in api.graphs_of(artifact)):
                    # torch found it in its cache and records it before loading the wrappers
                    found = api.pristine(artifact)
                    self._kernels.when_loaded(absent, lambda: record_artifact(cls, found))
                    return
                called = (_CALL.findall(graph.source_code) for graph in api.graphs_of(artifact))
                self._calls[artifact.key] = {operator for found in called for operator in found}
                if self._splits is not None and self._splits.take(
                    artifact.key, lambda: self._lean_backend(artifact)
                ):
                    recorder.artifact_recorded(artifact.key)
                    return
                if self._session.settings.lean:
                    self._lean[artifact.key] = self._lean_backend(artifact)
                context = self._session.context
                with api.holding_libraries(artifact, self._kernels.of):
                    if context is None or wants_own_precompile():
                        original(cls, artifact)
                    else:  # nobody reads it soon: torch's deep copy, slow for kernels, is not needed
                        context.deposit(artifact.key, artifact)
                recorder.artifact_recorded(artifact.key)
            except (NotStorable, CodecError) as error:  # the reason for a bypass, not a fault
                recorder.artifact_refused(artifact.key, error)
            except Exception as error:
                recorder.artifact_refused(artifact.key, error)
                self._session.fault(error)

        return record_artifact

    def splits(self, recorder: Recorder) -> Splits:
        """Return the collector for graphs that torch compiles in parts."""
        self._splits = Splits(recorder, recorder.artifact_recorded, self._session.fault)
        return self._splits

    def _lean_backend(self, artifact: Any) -> LeanPart | NoLeanForm:
        from firebrick.capture.lowering import gpus_of, lean_backend, libraries_of  # needs the compiler

        try:
            made = lean_backend(artifact, self._kernels.of, self._kernels.tuners_of)
            return LeanPart(encode(Kind.LEAN_BACKEND, made), libraries_of(made), *gpus_of(artifact, made))
        except NotStorable as error:
            return NoLeanForm(error.reason)
        except EncodeError as error:
            return NoLeanForm(str(error))
        except Exception as error:
            self._session.fault(error)
            return NoLeanForm(f"backend: {type(error).__name__}")

    def calls(self, backend_id: str) -> set[str]:
        """Return the operators that the wrappers of a backend call, ``namespace.name``.

        An operator in Dynamo's graph that no wrapper calls was decomposed by AOTAutograd into user code that
        the recipe does not cover.
        """
        parts = [] if self._splits is None else self._splits.buckets(backend_id)
        return set[str]().union(*(self._calls.get(part, set()) for part in (backend_id, *parts)))

    def lean_part(self, backend_id: str) -> LeanPart | NoLeanForm:
        """Return the lean form of a backend of this process, or the reason there is none."""
        if self._splits is not None and (joined := self._splits.joined(backend_id)) is not None:
            return joined[1]
        return self._lean.get(backend_id, NoLeanForm("its backend was not compiled in this process"))

    def backend_part(self, backend_id: str) -> Part | None:
        """Return the stored artifact of a backend of this process; None until it is recorded."""
        if self._splits is not None and (joined := self._splits.joined(backend_id)) is not None:
            return joined[0]
        context = self._session.context
        found = context.stored(backend_id) if context is not None else None
        return Part(found[0], found[1]) if found is not None else None
