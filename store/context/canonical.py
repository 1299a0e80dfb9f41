"""Names inside a Dynamo entry that must not be part of stored bytes, and how they come back.

Dynamo numbers what it generates with a counter of the process and, for backends, a uuid
(``unique_id`` in ``torch/_dynamo/bytecode_transformation.py``). Inside stored bytes they are
replaced by names that depend on the entry alone.
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
    """Choose a canonical name for every generated name of a Dynamo entry.

    A backend is called ``__compiled_fn_`` and the first 32 hexadecimal digits of the content key of
    its artifact; one that is not recorded ``__compiled_fn_?<i>``; of two backends with one content
    the later has ``_<i>`` behind its name. Of another name, such as ``__resume_at_<offset>_<n>``,
    the number at the end becomes ``?<i>``. Here i is the place of the name among the generated
    names of the entry, which count from 0 in order of first appearance.

    Args:
        entry: a ``_DynamoCacheEntry``.
        content_of: content key of the artifact recorded for a backend, ``None`` for none.

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
    """List the source files of all code objects of an entry, empty text for those of a module.

    The codec of code objects keeps of a file that is no module's only the last component.

    Returns:
        One name for each code object in a fixed order; nothing at all if every file is a module's.
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
    """Put the source files that `file_names` listed back into a decoded entry."""
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
