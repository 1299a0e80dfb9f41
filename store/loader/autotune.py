"""Store which configuration of an autotuned Triton kernel won, so that no later start measures again.

torch writes the winner to a file beside the kernel's source at the kernel's first run, after the artifact is
recorded. A fresh machine has no such file. Here the winners are kept in the store's registry under torch's
own file name, a digest of the kernel's source and of torch alone.

torch does not keep two choices: which block of a reduction was faster where it scaled the block for
occupancy, and (torch 2.11) that a coordinate descent has ended. It measures again in each process, which
costs time and bitwise reproducibility, since another block sums in another order. Both are kept here under
the digest of the kernel's source. A descent ends at a configuration that no artifact has: its launch is kept
as well, for processes without Triton.

Source followed: ``torch/_inductor/runtime/autotune_cache.py`` and ``triton_heuristics.py`` beside it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from firebrick.base.patches import Patches
from firebrick.codecs import Encoded
from firebrick.storage.store import Store

CONTEXT = ".autotune"
SECTION = "best_config"
LAUNCHED = "launched"
DESCENDED = "descended"
WINNERS = "winners"  # LAUNCH blobs of configurations in no artifact


class AutotuneResults:
    """The winners of one store. Thread-safe.

    Args:
        store: keeps them.
        recording: whether new ones are written.
        fault: called with a fault of the store; torch's own file is then used.
        describe: ``triton_config_to_hashable``, whose result's ``repr`` names a configuration.
        encode: returns the blobs of a tuner's launcher, the launch last; ``None`` if it is not lean.
    """

    def __init__(
        self,
        store: Store,
        recording: bool,
        fault: Callable[[BaseException], None],
        describe: Callable[[Any], Any],
        encode: Callable[[Any, Any], Encoded | None] | None = None,
    ) -> None:
        self._store = store
        self._recording = recording
        self._fault = fault
        self._describe = describe
        self._encode = encode

    def install(self, patches: Patches, files: Any, tuner: Any) -> None:
        """Put the store behind torch's class for winner files, and its ``CachingAutotuner`` if given."""
        patches.set(files, "_get", self.reading(files._get))
        patches.set(files, "_put", self.writing(files._put))
        if tuner is not None:
            patches.set(tuner, "_dynamic_scale_rblock", self.scaling(tuner._dynamic_scale_rblock))
            patches.set(tuner, "autotune_to_one_config", self.choosing(tuner.autotune_to_one_config))
            patches.set(tuner, "coordinate_descent_tuning", self.descending(tuner.coordinate_descent_tuning))

    def _name(self, config: Any) -> bytes:
        return repr(self._describe(config)).encode()

    def _known(self, section: str, tuner: Any) -> bytes | None:
        try:
            return (
                self._store.registry_get(CONTEXT, section, tuner.kernel_hash) if tuner.kernel_hash else None
            )
        except Exception as error:
            self._fault(error)
            return None

    def _keep(self, section: str, name: str, data: bytes) -> None:
        try:
            if self._recording and name and self._store.registry_get(CONTEXT, section, name) != data:
                self._store.registry_update(CONTEXT, {(section, name): data})
        except Exception as error:
            self._fault(error)

    def _keep_launch(self, tuner: Any, launcher: Any) -> None:
        """Write the launch of a winner, unless an artifact has its configuration."""
        name = tuner.kernel_hash
        try:
            found = {self._name(result.config) for result in tuner.compile_results}
            if (
                not self._recording
                or not name
                or self._encode is None
                or self._name(launcher.config) in found
            ):
                return
            if (encoded := self._encode(tuner, launcher)) is not None:
                blobs = [*encoded.children, encoded.root]
                self._store.registry_update(CONTEXT, {(WINNERS, name): encoded.root.key}, blobs=blobs)
        except Exception as error:
            self._fault(error)

    def _only(self, tuner: Any) -> bool:
        """Leave a tuner only the launcher that won before; tell whether it has it."""
        known = self._known(LAUNCHED, tuner)
        launchers = [one for one in tuner.launchers if self._name(one.config) == known]
        if launchers:
            tuner.launchers = launchers[:1]
            tuner.compile_results = [one for one in tuner.compile_results if self._name(one.config) == known]
        return bool(launchers)

    def scaling(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Wrap ``CachingAutotuner._dynamic_scale_rblock``: nothing is scaled if the winner is present."""

        @functools.wraps(original)
        def scale(tuner: Any) -> None:
            if not self._only(tuner):
                original(tuner)

        return scale

    def choosing(self, original: Callable[..., None]) -> Callable[..., None]:
        """Wrap ``CachingAutotuner.autotune_to_one_config``: a known winner is not measured."""

        @functools.wraps(original)
        def choose(tuner: Any, *args: Any, **kwargs: Any) -> None:
            if not self._only(tuner):
                original(tuner, *args, **kwargs)
                self._keep(LAUNCHED, tuner.kernel_hash, self._name(tuner.launchers[0].config))

        return choose

    def descending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``CachingAutotuner.coordinate_descent_tuning``: none starts if one has ended."""

        @functools.wraps(original)
        def descend(tuner: Any, launcher: Any, *args: Any, **kwargs: Any) -> Any:
            if self._known(DESCENDED, tuner) == self._name(launcher.config):
                launcher.config.found_by_coordesc = True
                return launcher
            best = original(tuner, launcher, *args, **kwargs)
            if getattr(best.config, "found_by_coordesc", False):  # other kernels are left alone
                self._keep_launch(tuner, best)
                self._keep(DESCENDED, tuner.kernel_hash, self._name(best.config))
            return best

        return descend

    def reading(self, original: Callable[[Any, str], bytes | None]) -> Callable[..., Any]:
        """Wrap ``_LocalAutotuneCacheBackend._get``: winners not on disk may be in the store."""

        @functools.wraps(original)
        def get(backend: Any, key: str) -> bytes | None:
            data = original(backend, key)
            name = os.path.basename(key)
            if data is None and name.endswith("." + SECTION):
                try:
                    data = self._store.registry_get(CONTEXT, SECTION, name)
                except Exception as error:
                    self._fault(error)
            return data

        return get

    def writing(self, original: Callable[[Any, str, bytes], None]) -> Callable[..., None]:
        """Wrap ``_LocalAutotuneCacheBackend._put``: a new winner goes to the store as well."""

        @functools.wraps(original)
        def put(backend: Any, key: str, data: bytes) -> None:
            original(backend, key, data)
            name = os.path.basename(key)
            if name.endswith("." + SECTION):
                self._keep(SECTION, name, data)

        return put
