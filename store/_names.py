"""Canonical names for the names that Dynamo generates inside an entry.

Dynamo numbers what it generates with a counter of the process and, for backends, a uuid
(``unique_id`` in ``torch/_dynamo/bytecode_transformation.py``). Inside stored bytes they are
replaced by names that depend on the entry alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from firebrick.keys import ContentKey

_BACKEND = "__compiled_fn_"
_UUID_BACKEND = re.compile(r"__compiled_fn_\d+_[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}")
_RESUME = re.compile(r"(__resume_at_\d+)_\d+")


def canonical_names(entry: Any, content_of: Callable[[str], ContentKey | None]) -> dict[str, str]:
    """Choose a canonical name for every generated name of a Dynamo entry.

    A backend is called ``__compiled_fn_`` and the first 32 hexadecimal digits of the content key of
    its artifact; one that is not recorded ``__compiled_fn_?<i>``, where i is its place among the
    backends of the entry; of two backends with one content the later has ``_<i>`` behind its name.
    A resume function is called ``__resume_at_<offset>_?<i>``, where i is its place among the resume
    functions. Places count from 0 in order of first appearance.

    Args:
        entry: a ``_DynamoCacheEntry``.
        content_of: content key of the artifact recorded for a backend, ``None`` for none.

    Returns:
        Generated name -> canonical name; no two names share a canonical one.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    backends = dict.fromkeys(_backends(entry))
    for place, backend in enumerate(backends):
        key = content_of(backend)
        name = _BACKEND + (f"?{place}" if key is None else key.hex()[:32])
        names[backend] = f"{name}_{place}" if name in used else name
        used.add(names[backend])
    for place, resume in enumerate(dict.fromkeys(filter(_RESUME.fullmatch, _all_names(entry)))):
        names[resume] = _RESUME.sub(rf"\1_?{place}", resume)
    return names


def _backends(entry: Any) -> Iterator[str]:
    for code in entry.codes:
        yield from code.backend_ids
    yield from filter(_UUID_BACKEND.fullmatch, _all_names(entry))


def _all_names(entry: Any) -> Iterator[str]:
    for code in entry.codes:
        yield from code.function_names
        for serialized in (code.python_code, *(g.dynamo_code for g in code.guarded_codes)):
            yield from _names_of(serialized)


def _names_of(serialized: Any) -> Iterable[str]:
    yield from serialized.co_names
    for constant in serialized.co_consts:
        if isinstance(constant, type(serialized)):
            yield from _names_of(constant)
