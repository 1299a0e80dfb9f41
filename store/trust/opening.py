"""Open the layers that the settings name, each with its policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import FirebrickError, UsageError
from firebrick.storage.directory import is_file
from firebrick.storage.environment import Engine
from firebrick.storage.layers import Guard, Layer
from firebrick.storage.pack import Pack
from firebrick.storage.store import Store
from firebrick.storage.view import Source
from firebrick.trust.folder import TrustFolder
from firebrick.trust.guard import Judge, SignaturePolicy, Verifier
from firebrick.trust.signing import verify_pack

OnFault = Callable[[BaseException], None]
DEFAULT_FOLDER: Final = "~/.config/firebrick"


class LayerName(NamedTuple):
    """A layer's path, and its signature policy."""

    path: str
    policy: SignaturePolicy = SignaturePolicy.REQUIRE


def layer_name(text: str) -> LayerName:
    """Parse ``PATH`` or ``PATH#POLICY``; UsageError for an unknown policy."""
    path, mark, policy = text.rpartition("#")
    if not mark:
        return LayerName(os.path.abspath(os.path.expanduser(text)))
    return LayerName(os.path.abspath(os.path.expanduser(path)), policy_of(policy))


def policy_of(text: str) -> SignaturePolicy:
    """Parse a policy; UsageError for an unknown one."""
    try:
        return SignaturePolicy(text)
    except ValueError:
        raise UsageError(f"no policy {text!r}: expected one of {', '.join(SignaturePolicy)}") from None


def trust_folder(path: Path | None = None) -> TrustFolder:
    """Return the key directory at a path, or this user's own."""
    if path is None:
        home = os.environ.get("XDG_CONFIG_HOME")
        path = Path(home, "firebrick") if home else Path(DEFAULT_FOLDER).expanduser()
    return TrustFolder(path)


def with_layers(
    top: Store, names: Sequence[LayerName], policy: SignaturePolicy, folder: TrustFolder, on_fault: OnFault
) -> Store:
    """Return a store on top of others; closing it closes all.

    A layer that cannot be opened or is not trusted is left out and reported.

    Args:
        top: The store written to, if any; ownership passes on.
        names: The layers below it, in the order of look-up.
        policy: The signature policy of `top`.
        folder: The trusted keys.
        on_fault: Called with each fault.

    Raises:
        UsageError: The keys are in a store, or a layer is the top.
        StoreUntrusted: `top` is a pack, and its seal is not trusted.
    """
    judge = Judge(folder)
    for place in (top.path, *(name.path for name in names)):
        if Path(os.path.realpath(folder.path)).is_relative_to(os.path.realpath(place)):
            raise UsageError(f"the keys in {folder.path} lie in the store {place}: they must be kept outside")
    layers: list[Layer] = []
    try:
        for name in names:
            if os.path.realpath(name.path) == os.path.realpath(top.path):
                raise UsageError(f"{name.path} cannot be a layer below itself")
            try:
                layers.append(_layer(name, judge, on_fault))
            except FirebrickError as error:
                on_fault(error)
        own = LayerName(top.path, policy)
        return top.above(layers, lambda source: _guard(source, own, judge, on_fault), on_fault)
    except BaseException:
        for layer in layers:
            layer.source.release()
        raise


def _layer(name: LayerName, judge: Judge, on_fault: OnFault) -> Layer:
    source: Source
    if is_file(name.path):
        source = Pack.open(name.path, foreign=name.policy is SignaturePolicy.REQUIRE)
    else:
        source = Engine.acquire(name.path, readonly=True, create=False, map_size=None)
    try:
        return Layer(source, _guard(source, name, judge, on_fault))
    except BaseException:
        source.release()
        raise


def _guard(source: Source, name: LayerName, judge: Judge, on_fault: OnFault) -> Guard | None:
    """Return the guard of a layer; a pack is trusted as a whole, now, or not at all."""
    if name.policy is SignaturePolicy.NONE:
        return None
    if not isinstance(source, Pack):
        return Verifier(judge, name.policy, name.path, on_fault)
    try:
        verify_pack(source, judge)
    except FirebrickError as error:
        if name.policy is SignaturePolicy.REQUIRE:
            raise
        on_fault(error)
    return None
