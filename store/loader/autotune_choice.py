"""Choose the configuration of a Triton kernel to launch, without the compiler.

torch measures at a kernel's first launch, after its artifact is recorded. The store's registry
(`firebrick.loader.autotune`) holds the winning configuration, and the launch of a winner that torch made only
after measuring the others.
"""

from __future__ import annotations

from firebrick import codecs
from firebrick.codecs.abc import child
from firebrick.codecs.launch import Choice, Launch
from firebrick.loader.autotune import CONTEXT, DESCENDED, LAUNCHED, WINNERS
from firebrick.reports.not_served import Miss
from firebrick.storage.format import Kind
from firebrick.storage.store import Store


class Launches:
    """The choices of one store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def choose(self, choice: Choice) -> int | Launch:
        """Return the index of the winning configuration, or its launch if it is not among them.

        Raises:
            Miss: the winner is unknown.
            BlobMissing, DamagedError, CodecError: the winner cannot be read.
        """
        names, source = choice.configurations, choice.source
        if len(names) == 1 and not choice.descends:
            return 0
        section = DESCENDED if choice.descends else LAUNCHED
        known = self._store.registry_get(CONTEXT, section, source)
        winner = known.decode(errors="replace") if known is not None else None
        if winner in names:
            return names.index(winner)
        key = self._store.registry_get(CONTEXT, WINNERS, source)
        if winner is not None and key is not None:
            blob = child(self._store.get, key, Kind.LAUNCH)
            launch: Launch = codecs.decode(blob.kind, blob.version, blob.data, self._store.get)
            if launch.configuration == winner:
                return launch
        raise Miss(f"which of {len(names)} configurations of a Triton kernel won is not known")
