"""List, create, trust and revoke signature keys."""

from typing import Annotated

import typer

from firebrick.cli import output
from firebrick.cli.options import JsonOption, TrustOption
from firebrick.errors import UsageError
from firebrick.trust.folder import TrustFolder
from firebrick.trust.opening import trust_folder

_ACTIONS = ("list", "new", "trust", "revoke")


def command(
    action: Annotated[str, typer.Argument(metavar="ACTION", help=f"One of {', '.join(_ACTIONS)}.")] = "list",
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A name for a new key; else NAME:BASE64, a name or an id.")
    ] = "",
    trust: TrustOption = None,
    json: JsonOption = False,
) -> None:
    """List the trusted keys, create one to sign with, trust somebody's, or revoke one.

    To rotate a key, trust the new one, sign again with it, and revoke the old one.
    """
    folder = trust_folder(trust)
    if action == "list" and not key:
        return _list(folder, json=json)
    if action not in _ACTIONS[1:] or not key:
        raise UsageError(f"expected one of {', '.join(_ACTIONS)}, and a key for all but the first")
    if action == "new":
        print(folder.make(key).text)
        output.note(f"the secret key is {folder.path / key}.key; hand on the line above, which others trust")
    elif action == "trust":
        folder.trust(folder.find(key))
    else:
        folder.revoke(folder.find(key))


def _list(folder: TrustFolder, *, json: bool) -> None:
    secrets = folder.secrets()
    keys = [
        {"name": key.name, "id": key_id.hex(), "state": state, "secret": key.name in secrets, "key": key.text}
        for state, found in (("trusted", folder.trusted()), ("revoked", folder.revoked()))
        for key_id, key in found.items()
    ]
    if json:
        output.print_json("keys", {"folder": str(folder.path), "keys": keys})
        return
    rows = [(key["state"], key["name"], key["id"], "signs" if key["secret"] else "") for key in keys]
    output.table(("state", "name", "id", "here"), [[str(cell) for cell in row] for row in rows])
