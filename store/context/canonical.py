"""Replace the names in a Dynamo entry that must not enter stored bytes, and restore them.

Dynamo numbers generated names with a per-process counter and, for backends, a uuid (``unique_id`` in
``torch/_dynamo/bytecode_transformation.py``). In stored bytes they are replaced by names that depend on the
entry alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

from firebrick.codecs.code import module_files
from firebrick.codecs.dynamo import generated_names
from firebrick.storage.keys import ContentKey

_BACKEND = "__compiled_fn_"
_COUNTER = re.compile(r"(_\d+)?\Z")


def canonical_names(entry: Any, content_of: Callable[[str], ContentKey | None]) -> dict[str, str]:
    """Return a canonical name for every generated name of a Dynamo entry.

    A backend becomes ``__compiled_fn_`` followed by the first 32 hexadecimal digits of its artifact's content
    key; an unrecorded one ``__compiled_fn_?<i>``; of two backends with one content the later gets the suffix
    ``_<i>``. In any other name, such as ``__resume_at_<offset>_<n>``, the final number becomes ``?<i>``. Here
    i is the index of the name among the entry's generated names, from 0 in order of first appearance.

    Args:
        entry: a ``_DynamoCacheEntry``.
        content_of: returns the content key of a backend's recorded artifact, ``None`` for none.

    Returns:
        Generated name -> canonical name; no two names share a canonical one.
    """
    backends = entry.backend_ids
    names: dict[str, str] = {}
    used: set[str] = set()
    for place, generated in enumerate(generated_names(entry)):
        if generated not in backends:
            name = _COUNTER.sub(f"_?{place}", generated, count=1)
        elif (key := content_of(generated)) is None:
            name = f"{_BACKEND}?{place}"
        else:
            name = _BACKEND + key.hex()[:32]
        names[generated] = name = f"{name}_{place}" if name in used else name
        used.add(name)
    return names


def file_names(entry: Any) -> list[str]:
    """Return the source files of all code objects of an entry, empty text for those of a module.

    Of a file that is not a module's, the codec of code objects keeps only the last component.

    Returns:
        One name per code object, in a fixed order; empty if every file is a module's.
    """
    files = module_files()
    names = [
        "" if code.co_filename in files else code.co_filename
        for part in entry.codes
        for top in (part.python_code, *(guarded.dynamo_code for guarded in part.guarded_codes))
        for code in _nested(top)
    ]
    return names if any(names) else []


def restore_files(entry: Any, names: list[str]) -> None:
    """Restore the source files that `file_names` returned in a decoded entry."""
    files = iter(names)
    for part in entry.codes:
        part.python_code = _filed(part.python_code, files)
        for guarded in part.guarded_codes:
            guarded.dynamo_code = _filed(guarded.dynamo_code, files)


def _nested(code: Any) -> Iterator[Any]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _nested(constant)


def _filed(code: Any, files: Iterator[str]) -> Any:
    file = next(files, "") or code.co_filename
    constants = tuple(_filed(c, files) if isinstance(c, type(code)) else c for c in code.co_consts)
    return dataclasses.replace(code, co_filename=file, co_consts=constants)
