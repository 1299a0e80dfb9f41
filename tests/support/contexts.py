"""Small artifacts and entries for tests of contexts, and scripts in processes of their own."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
import textwrap
from typing import Any

from firebrick.torch_api import registry

BACKENDS = tuple(f"__compiled_fn_{i}_{i:08x}_0000_4000_8000_{i:012x}" for i in range(3))
ENTRIES = ("a" * 64, "b" * 64)
KEYS = BACKENDS + ENTRIES


def small_artifact(key: str, content: Any) -> Any:
    """Return a backend artifact of torch's with plain data as its content."""
    return registry.artifact_module().BundledAOTAutogradCacheArtifact(key, content)


def small_entry(number: int, backends: tuple[str, ...] = (), resume: int = 0) -> Any:
    """Return a Dynamo entry of torch's that names backends and one resume function.

    Args:
        number: makes the entry differ from others.
        backends: generated names of the backends that the entry calls, maybe none.
        resume: number at the end of the generated name of the resume function.
    """
    package = registry.package_module()
    module = compile(f"def f(x):\n    return x + {number}\n", "<small entry>", "exec")
    python_code = package.SerializedCode.from_code_object(module.co_consts[0])
    resume_name = f"__resume_at_{number}_{resume}"
    names = (*python_code.co_names, *backends, resume_name)
    code = package._DynamoCodeCacheEntry(
        python_code=python_code,
        python_module=__name__,
        function_names=[resume_name],
        guarded_codes=[
            package._GuardedCodeCacheEntry(
                guards_state=pickle.dumps(number),
                dynamo_code=dataclasses.replace(python_code, co_names=names),
            )
        ],
        import_sources={"__import_math": "math"},
        backend_ids=list(backends),
        code_source=None,
        install_to_global=True,
    )
    return package._DynamoCacheEntry(
        codes=[code],
        source_info=package.SourceInfo(inlined_sources=set()),
        device_type="cpu",
        system_info=package.SystemInfo("3.11.0", "2.13.0", None, (0, 0), None),
        fn_name="f",
        fn_first_lineno=1,
    )


_PRELUDE = """
import os, sys
from firebrick.context.context import Context
from firebrick.storage.store import Store
from support.contexts import *
KEY, OTHER, THIRD = BACKENDS
store = Store.open(sys.argv[1], durable=False)
context = Context.open(store)
"""


def run_script(script: str, path: str | os.PathLike[str], *arguments: object) -> str:
    """Run a script on the default context of a store, in a process of its own.

    Args:
        script: Python statements; they see ``store``, ``context`` and the names of this module.
        path: where the store is.
        arguments: ``sys.argv[2:]`` of the script.

    Returns:
        What it printed.

    Raises:
        RuntimeError: with what it wrote to the standard error, if it failed.
    """
    text = _PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-c", text, os.fspath(path), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the script ended with {done.returncode}: {done.stderr}")
    return done.stdout
