"""Restore bundles in a process with the loader alone, and report the results.

    python -m firebrick.loader.self_test FOLDER

Reads content keys of bundles, one per line, and answers each with a line of JSON: ``""`` if it can be
restored, else what is wrong with it. Every part of a bundle that the lean lane uses is read and decoded, code
objects and wrappers are made, libraries are loaded and bound. Nothing is run: the graphs have no inputs here.
Parts that need a GPU or a user operator are only decoded.
"""

from __future__ import annotations

import json
import os
import sys

from firebrick.errors import Unsupported
from firebrick.loader.bundles import Bundles
from firebrick.loader.lean_backends import LeanBackends
from firebrick.reports.counters import Stats
from firebrick.reports.not_served import Miss
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.manifest import NoLeanForm
from firebrick.storage.store import Store

READY = "ready"
_COMPILER = ("torch._dynamo", "torch._inductor", "sympy", "triton")


class Restorer:
    """A restorer of one store's bundles. Not thread-safe.

    Args:
        store: holds them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bundles = Bundles(store, Stats())
        self._backends = LeanBackends(store)
        self._before = frozenset(sys.modules)

    def fault_of(self, key: ContentKey) -> str:
        """Return what is wrong with a bundle; empty for nothing."""
        try:
            self._restore(key)
        except (Unsupported, Miss):
            pass  # not possible here, which says nothing about the recording machine
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        added = sorted(name for name in sys.modules if name in _COMPILER and name not in self._before)
        return f"imports {', '.join(added)}" if added else ""

    def _restore(self, key: ContentKey) -> None:
        manifest = self._bundles.manifest(key)
        made, lean = manifest.compiled, manifest.lean
        if made is None or isinstance(lean, NoLeanForm):
            return
        self._bundles.part(Kind.GUARD_PROGRAM, lean.guards)
        for part in (made.code, *made.resumes.values()):
            self._bundles.part(Kind.CODE, part)
        for part in lean.backends.values():
            if made.requires:
                self._bundles.part(self._store.get(part).kind, part)
            else:
                self._backends.load(part, disable_autocast=False)


def main(folder: str) -> None:
    """Answer lines of standard input until it ends."""
    os.nice(10)  # the program that asks is compiling
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library's output must not look like an answer
    with Store.open(folder, readonly=True) as store:
        restorer = Restorer(store)
        print(READY, file=answers)
        for line in sys.stdin:
            print(json.dumps(restorer.fault_of(ContentKey(bytes.fromhex(line)))), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
