"""The surface of torch that Firebrick relies on, as tables, and where the installed torch is not as they say.

The tables are the ``*.txt`` files beside this module; `_table` says how they are written. Each name in them
is *handled*, *refused* (by a name that users see) or *irrelevant*, and says why. In a closed group every name
that torch has must stand in the table, so that a new field, guard or name in generated code is seen before
it is lost; in an open group only what the table names is looked for.

``python -m firebrick.torch_api.surface`` compares; it needs no GPU and does not import torch's compiler.
"""

from firebrick.torch_api.surface._compare import Difference, compare, report
from firebrick.torch_api.surface._read import Installed
from firebrick.torch_api.surface._table import Entry, Group, read_tables

__all__ = ["Difference", "Entry", "Group", "Installed", "compare", "read_tables", "report"]
