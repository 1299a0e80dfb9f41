"""Lock files: a program's requirements of a store, so that a start can be refused before it begins.

The file is JSON: a format, the platform, and for each function its recipe and bundles.
"""

import json
from pathlib import Path
from typing import Any, Final

from firebrick.errors import FirebrickError, UsageError, WouldCompile
from firebrick.reports.inventory import EAGER, Held
from firebrick.storage.keys import parse_key
from firebrick.storage.store import Store

FORMAT: Final = "firebrick.lock/1"


def lock(bundles: list[Held]) -> dict[str, Any]:
    """Return the content of a lock file for bundles."""
    listed = [
        {"name": held.name, "place": held.place, "recipe": held.recipe.hex(), "bundle": held.key.hex()}
        for held in bundles
        if held.lane != EAGER
    ]
    return {"schema": FORMAT, "bundles": sorted(listed, key=lambda entry: (entry["place"], entry["bundle"]))}


def read_lock(path: Path) -> list[dict[str, str]]:
    """Return the entries of a lock file.

    Raises:
        UsageError: it cannot be read, or is not a lock file.
    """
    try:
        value = json.loads(path.read_text())
        entries = [
            {name: str(entry[name]) for name in ("name", "recipe", "bundle")} for entry in value["bundles"]
        ]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is no lock file: {type(error).__name__}: {error}") from None
    if value["schema"] != FORMAT:
        raise UsageError(
            f"{path} is a lock file of another format: {value['schema']!r:.40}, expected {FORMAT}"
        )
    return entries


def check_lock(path: Path, folder: Path) -> None:
    """Check that a store has everything a lock file names.

    Raises:
        WouldCompile: naming the first function that is missing or damaged.
        UsageError, StoreError: the file or the store cannot be read.
    """
    entries = read_lock(path)
    with Store.open(folder, create=False) as store, store.snapshot() as snapshot:
        for entry in entries:
            recipe, bundle = parse_key(entry["recipe"]), parse_key(entry["bundle"])
            try:
                if bundle not in snapshot.bundles(recipe):
                    raise WouldCompile(entry["name"], f"bundle {entry['bundle'][:12]} is not in {folder}")
                for part in snapshot.parts(bundle):
                    snapshot.get(part)
            except WouldCompile:
                raise
            except FirebrickError as error:
                raise WouldCompile(entry["name"], str(error)) from None
