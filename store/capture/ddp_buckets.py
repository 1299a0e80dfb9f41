"""Join graphs that torch compiled in parts, one per gradient bucket of DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from firebrick.capture.lean_part import LeanPart
from firebrick.capture.manifest_writer import Part
from firebrick.codecs import Encoded
from firebrick.codecs.lean_split import LeanSplitCodec, Steps, put_split
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import NoLeanForm
from firebrick.storage.store import Blob

if TYPE_CHECKING:
    from firebrick.capture.recorder import Recorder

_NOT_FULL = "a graph for each bucket of gradients"


class Splits:
    """The split graphs of one session. Serialised by torch's compile lock.

    Args:
        recorder: knows the compilation under way.
        whole: called with torch's id of a backend once all its parts exist.
        fault: called with an error of Firebrick.
    """

    def __init__(
        self, recorder: Recorder, whole: Callable[[str], None], fault: Callable[[BaseException], None]
    ) -> None:
        self._recorder = recorder
        self._whole = whole
        self._fault = fault
        self._buckets: dict[str, list[str]] = {}
        self._owners: dict[str, str] = {}
        self._steps: dict[str, Steps | NoLeanForm] = {}
        self._lean: dict[str, LeanPart | NoLeanForm] = {}
        self._joined: dict[str, tuple[Part, LeanPart | NoLeanForm]] = {}

    def bucket_compiled(self, backend_id: str, bucket: str) -> None:
        """Record that torch is about to compile a graph of a backend."""
        self._buckets.setdefault(backend_id, []).append(bucket)
        self._owners[bucket] = backend_id
        if (compilation := self._recorder.current) is not None:
            compilation.not_full = _NOT_FULL

    def made(self, backend_id: str, steps: Steps | NoLeanForm) -> None:
        """Record how the graphs of a backend are joined, or why that is unknown."""
        if backend_id not in self._buckets:  # it is not split
            return
        self._steps[backend_id] = steps
        try:
            self._finish(backend_id)
        except Exception as error:
            self._recorder.refuse(error)
            self._fault(error)

    def buckets(self, backend_id: str) -> list[str]:
        """Return the ids of a split backend's graphs; empty for any other."""
        return self._buckets.get(backend_id, [])

    def take(self, bucket: str, part: Callable[[], LeanPart | NoLeanForm]) -> bool:
        """Take a lean form, or the reason there is none, if the graph is one of several; tell if it is."""
        if (backend_id := self._owners.get(bucket)) is None:
            return False
        self._lean[bucket] = part()
        self._finish(backend_id)
        return True

    def _finish(self, backend_id: str) -> None:
        buckets = self._buckets[backend_id]
        if (steps := self._steps.get(backend_id)) is not None and self._lean.keys() >= set(buckets):
            self._joined[backend_id] = _join(steps, [self._lean.pop(bucket) for bucket in buckets])
            self._whole(backend_id)

    def joined(self, backend_id: str) -> tuple[Part, LeanPart | NoLeanForm] | None:
        """Return a complete backend, as a part of bundles and in lean form; ``None`` for any other."""
        return self._joined.get(backend_id)


def _join(
    steps: Steps | NoLeanForm, found: list[LeanPart | NoLeanForm]
) -> tuple[Part, LeanPart | NoLeanForm]:
    parts = [part for part in found if isinstance(part, LeanPart)]
    if isinstance(steps, NoLeanForm) or len(parts) < len(found):
        reason = next(one for one in (steps, *found) if isinstance(one, NoLeanForm))
        return Part(ContentKey(bytes(32))), reason  # neither lane can have it
    roots = [part.encoded.root for part in parts]
    body = put_split(steps, [(root.version, root.key) for root in roots])
    children = {blob.key: blob for part in parts for blob in (*part.encoded.children, part.encoded.root)}
    joined = LeanPart(
        Encoded(Blob(Kind.LEAN_SPLIT, body, LeanSplitCodec.version), list(children.values())),
        frozenset().union(*(part.libraries for part in parts)),
        frozenset().union(*(part.gpus for part in parts)),
        next((part.pinned for part in parts if part.pinned), ""),
    )
    return Part(joined.encoded.root.key, tuple(children)), joined
