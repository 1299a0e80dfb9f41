"""Advice on each reason, for explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ADVICE: Final[Mapping[str, str]] = {
    "unknown": (
        "Nothing is wrong if the function is new: the next start finds it. Otherwise check that the previous "
        "process used the same store and could store the function."
    ),
    "code": "The function was edited and therefore compiled again. The next start finds it.",
    "options": (
        "Use the options and configuration of the process that stored it, or let this one store its own."
    ),
    "platform": "A store serves the platform it was filled on. Fill it here once.",
    "value": (
        "Pass the same value if it should not matter, or make it a tensor or a dynamic argument. A value "
        "that changes at every start is stored anew at every start."
    ),
    "tensor": (
        "Each form of a tensor is compiled separately, by torch as well. Pass tensors of the stored form, "
        "or compile with dynamic=True if only sizes differ."
    ),
    "state": (
        "Set the same state before the first call in every process, at the top of the program if possible."
    ),
    "object": ("The program now has another function, class or module there. The next start finds this one."),
    "changed": "Something the compiled code reaches was edited, added or removed. The next start finds it.",
    "buckets": "Use the same bucket_cap_mb, and wrap the module the same way.",
    "process": "Start the processes in the same way, or let each fill the store once.",
    "lane": ("Nothing to do: the other lane was tried, and torch compiled if that could not serve either."),
    "untested": ("Let a process with FIREBRICK_SELF_TEST=1 exit normally; the reason reports a failed test."),
    "missing": (
        "The function is compiled and stored again. If this recurs, check the store with Store.check()."
    ),
    "damaged": "The function is compiled and stored again. If this recurs, check the disk.",
    "version": "Another version of Firebrick filled the store. The function is stored again.",
    "another-recipe": "The store is damaged: check it with Store.check().",
    "error": ("This is a fault of Firebrick or the store; FIREBRICK_STRICT=1 raises it where it happens."),
    "not-storable": (
        "Change what the reason names, or accept that this function is compiled at every start."
    ),
    "no-room": "Free disk space, unpin unneeded bundles, or raise FIREBRICK_MAX_BYTES.",
    "no-backward": (
        "Run the backward once, or call firebrick.flush() after the warm-up; "
        "FIREBRICK_COMPILE_BACKWARD=1 compiles it at the end."
    ),
    "failed": "torch itself could not compile it; see its own error.",
    "unwatched": "Enable Firebrick before torch.compile is called, preferably with FIREBRICK_CACHE_DIR.",
    "own-precompile": "Turn torch's caching_precompile off to let Firebrick serve and store.",
    "export": "Nothing to do.",
    "other-backend": "Only functions compiled with backend='inductor' are stored.",
    "left-alone": "Nothing to do.",
    "volatile-key": (
        "Make this part equal at every start: it must not contain a time, directory, port or counter."
    ),
    "audited": "Nothing to do.",
    "differs": (
        "The served function is stale, which is a fault of Firebrick: please report the difference. "
        "FIREBRICK_LOAD=0 serves nothing."
    ),
    "not-audited": "Refill the store if it is older than this Firebrick; otherwise audit in the foreground.",
    "divergence": (
        "Results are right; nothing to do. If this recurs, the compiler is not deterministic here."
    ),
}
