"""The runtime of restored functions; no part of it imports torch's compiler.

`load` turns a `LeanBackend` into the function that Dynamo's bytecode calls.
"""

from firebrick.runtime.assemble import KernelSource, load

__all__ = ["KernelSource", "load"]
