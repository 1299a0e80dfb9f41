"""Advice on each reason, for explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ADVICE: Final[Mapping[str, str]] = {
    "unknown": (
        "Nothing is wrong where the function is new: the next start finds it. Else look whether the "
        "process that ran before used the same store, and whether it could store the function."
    ),
    "code": "The function was edited, so it was compiled again. The next start finds it.",
    "options": (
        "Give the same options and configuration as the process that stored it, or let this one store "
        "its own."
    ),
    "platform": "A store serves the platform that it was filled on. Fill it here once.",
    "value": (
        "Pass the same value where it should not matter, or make it a tensor or an argument that is "
        "dynamic. A value that changes at every start is stored anew at every start."
    ),
    "tensor": (
        "Each form of a tensor is a compilation of its own, in torch as well. Give tensors the form "
        "that was stored, or compile with dynamic=True where only sizes differ."
    ),
    "state": (
        "Set the same state before the first call in every process, at the top of the program if possible."
    ),
    "object": ("The program has another function, class or module there now. The next start finds this one."),
    "changed": "What the compiled code reaches was edited, added or removed. The next start finds it.",
    "buckets": "Use the same bucket_cap_mb, and wrap the module the same way.",
    "process": "Start the processes in the same way, or let each fill the store once.",
    "lane": (
        "Nothing has to be done: the other lane was asked, and torch compiled where it could not serve "
        "either."
    ),
    "untested": (
        "Let a process with FIREBRICK_SELF_TEST=1 end in the ordinary way; a failed test is told in the "
        "reason."
    ),
    "missing": (
        "The function is compiled and stored again. If it comes back, check the store with Store.check()."
    ),
    "damaged": "The function is compiled and stored again. If it comes back, look at the disk.",
    "version": "Another version of Firebrick filled the store. The function is stored again.",
    "another-recipe": "The store is damaged: check it with Store.check().",
    "error": (
        "This is a fault of Firebrick or of the store; with FIREBRICK_STRICT=1 it is raised where it happens."
    ),
    "not-storable": (
        "Change what the reason names, or accept that this function is compiled at every start."
    ),
    "no-room": "Free disk space, unpin what is not needed, or raise FIREBRICK_MAX_BYTES.",
    "no-backward": (
        "Run the backward once, or call firebrick.flush() after the warm-up; "
        "FIREBRICK_COMPILE_BACKWARD=1 compiles it at the end."
    ),
    "failed": "torch itself could not compile it; see its own error.",
    "unwatched": "Enable Firebrick before torch.compile is called, best by FIREBRICK_CACHE_DIR.",
    "own-precompile": "Turn torch's caching_precompile off to let Firebrick serve and store.",
    "export": "Nothing has to be done.",
    "other-backend": "Only what backend='inductor' compiles is stored.",
    "left-alone": "Nothing has to be done.",
    "volatile-key": (
        "Make this part the same at every start: a time, a folder, a port or a counter in it does not belong."
    ),
    "audited": "Nothing has to be done.",
    "differs": (
        "What was served is stale, which is a fault of Firebrick: please report the difference. "
        "FIREBRICK_LOAD=0 serves nothing."
    ),
    "not-audited": "Fill the store anew where it is older than this Firebrick; else audit in the foreground.",
    "divergence": (
        "Nothing has to be done for right results. If it comes back, the compiler is not deterministic here."
    ),
}
