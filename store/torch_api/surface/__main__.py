"""Print how the installed torch differs from the tables; the exit status is 1 if it does.

Usage: python -m firebrick.torch_api.surface [--minor 2.13]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from firebrick.torch_api import MINORS
from firebrick.torch_api.minors import minor_of
from firebrick.torch_api.surface import Installed, compare, read_tables, report


def main() -> int:
    """Print the differences; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    installed = minor_of(torch.__version__)
    installed = installed if installed in MINORS else MINORS[-1]
    parser.add_argument("--minor", default=installed, help="compare with what the tables say of this minor")
    minor = parser.parse_args().minor
    groups = read_tables()
    differences = list(compare(groups, Installed(Path(torch.__file__).parent), minor))
    names = sum(entry.holds_for(minor) for group in groups for entry in group.entries)
    print(
        f"torch {torch.__version__}, as the tables say of {minor}: {names} names, {len(differences)} differ"
    )
    if differences:
        print(report(differences))
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
