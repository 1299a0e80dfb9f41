"""The surface of torch that Firebrick relies on, as tables, and the installed torch's deviations.

The tables are the ``*.txt`` files beside this module; `_table` defines their syntax. Each name in them is
*handled*, *refused* (by a name that users see) or *irrelevant*, and says why. In a closed group every name of
torch must be in the table, so that a new field, guard or name in generated code is noticed before it is lost;
in an open group only the table's names are looked for.

``python -m firebrick.torch_api.surface`` compares; it needs no GPU and does not import torch's compiler.
"""

from firebrick.torch_api.surface._compare import Difference, compare, report
from firebrick.torch_api.surface._read import Installed
from firebrick.torch_api.surface._table import Entry, Group, read_tables

__all__ = ["Difference", "Entry", "Group", "Installed", "compare", "read_tables", "report"]
