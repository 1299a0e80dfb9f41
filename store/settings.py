"""Firebrick's settings: one named tuple, read in one place.

Arguments take precedence over ``FIREBRICK_*`` variables, variables over defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import UsageError

_PREFIX = "FIREBRICK_"
_TRUE = frozenset({"1", "true", "yes", "on"})
LEVELS = ("info", "debug")
DURABILITIES = ("each", "interval", "system")
MIN_MAX_BYTES = 2 << 20
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:I?B)?")
PULL_REQUEST = (
    *("CI_MERGE_REQUEST_IID", "SYSTEM_PULLREQUEST_PULLREQUESTID", "BUILDKITE_PULL_REQUEST"),
    *("CIRCLE_PULL_REQUEST", "TRAVIS_PULL_REQUEST", "CHANGE_ID", "DRONE_PULL_REQUEST", "BITBUCKET_PR_ID"),
)
POLICIES = ("none", "warn", "require")
_FALSE = frozenset({"0", "false", "no", "off"})


class Settings(NamedTuple):
    """One process's use of one store. Immutable, so it may be shared between threads.

    A field without an argument is read from the variable ``FIREBRICK_<FIELD>``.
    """

    cache_dir: Path | None = None
    """Directory of the store; ``None`` means that Firebrick stays off."""
    context: str = "default"
    """Name of the context that mirrors torch's ``PrecompileContext``."""
    load: bool = True
    """Serve compiled functions from the store."""
    record: bool = True
    """Write torch's compilations to the store."""
    lean: bool = True
    """Serve functions without the compiler where possible, and record what this needs."""
    self_test: bool = True
    """Let another process restore each new bundle before it is served without the compiler."""
    compile_backward: bool = True
    """At exit, compile backward graphs that never ran, so that functions waiting for them can be stored."""
    readonly: bool = False
    """Open the store without touching its directory; implies that nothing is recorded."""
    strict: bool = False
    """Raise faults of Firebrick instead of logging them and continuing without the store."""
    audit: float = 0.0
    """Trace each hit afresh and raise if it differs (1); or only report, for a share of starts."""
    durable: str = "each"
    """When a write survives a power failure: ``each`` at once, ``interval`` in a second, ``system`` later."""
    map_size: int | None = None
    """Initial size of the store's memory map in bytes, which grows as needed; ``None`` chooses one."""
    max_bytes: int | None = None
    """Limit of bytes on disk, kept by evicting what saves least; 0: no limit; ``None`` chooses one."""
    layers: tuple[str, ...] = ()
    """Read-only stores and packs below this one: ``PATH#POLICY``, or ``PATH``, which requires signatures."""
    signatures: str = "none"
    """Signature policy of the store itself: ``none``, ``warn`` or ``require``."""
    sign: str | None = None
    """Name of the secret key in `trust_dir` with which what is recorded is signed; ``None`` signs nothing."""
    trust_dir: Path | None = None
    """Directory of trusted keys; ``None``: ``~/.config/firebrick``."""
    log: str | None = None
    """Level from which events go to standard error: ``info`` or ``debug``; ``None`` leaves the log alone."""
    locked: bool = False
    """Raise `WouldCompile` instead of compiling a frame the store does not serve."""
    stats_dir: Path | None = None
    """Directory in which the process leaves its counters as JSON at exit; ``None`` leaves none."""
    unknown_torch: str | None = None
    """``try``: use a newer torch where all that is relied on is as in the newest supported one."""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Settings:
        """Return the settings from arguments, the environment and the defaults.

        Args:
            environ: variables to read instead of the process's own.
            arguments: values by field name; ``None`` counts as omitted.

        Raises:
            UsageError: an argument is unknown or a value does not fit its field.
        """
        environ = os.environ if environ is None else environ
        fields = cls._fields
        if unknown := sorted(set(arguments) - set(fields)):
            raise UsageError(
                f"unknown setting {', '.join(unknown)}: expected one of {', '.join(sorted(fields))}"
            )
        values: dict[str, Any] = {}
        for name, value in arguments.items():
            if value is not None:
                values[name] = _PARSERS[name](name, value)
        for name in fields:
            text = environ.get(_PREFIX + name.upper(), "")
            if name not in values and text:
                values[name] = _PARSERS[name](_PREFIX + name.upper(), text)
        if not values.keys() & {"readonly", "record"} and in_pull_request(environ):
            values["readonly"] = True
        return cls(**values)


def in_pull_request(environ: Mapping[str, str]) -> bool:
    """Tell whether this is a CI job for an unreviewed change, whose results are not stored.

    Source: the variables that GitHub, GitLab, Azure, Buildkite, CircleCI, Travis, Jenkins, Drone and
    Bitbucket set.
    """
    event = environ.get("GITHUB_EVENT_NAME", "")
    told = (environ.get(name, "").strip().lower() for name in PULL_REQUEST)
    return event.startswith("pull_request") or any(text not in ("", "false", "0") for text in told)


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise UsageError(f"{name} is {value!r}: expected one of 1, 0, true, false, yes, no, on, off")


def _size(name: str, value: object) -> int:
    found = _SIZE.fullmatch(str(value).strip().upper())
    size = int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else 0
    if size <= 0:
        raise UsageError(f"{name} is {value!r}: expected a positive number of bytes, such as 5G or 300M")
    return size


def _limit(name: str, value: object) -> int:
    if str(value).strip().lower() in _FALSE:
        return 0
    size = _size(name, value)
    if size < MIN_MAX_BYTES:
        raise UsageError(f"{name} is {value!r}: expected at least 2M, or 0 for no limit")
    return size


def _share(name: str, value: object) -> float:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return float(text in _TRUE)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"{name} is {value!r}: expected 0, 1 or a share between them, such as 0.01")
    return share


def _folder(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise UsageError(f"{name} is {value!r}: expected the path of a folder")
    return Path(value).expanduser().absolute()


def _name(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 200:
        raise UsageError(f"{name} is {value!r}: expected a name of 1 to 200 characters")
    return value


def _paths(name: str, value: object) -> tuple[str, ...]:
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str | os.PathLike) for part in parts):
        raise UsageError(f"{name} is {value!r}: expected paths, separated by {os.pathsep!r}")
    return tuple(os.fspath(part) for part in parts if os.fspath(part))


def _policy(name: str, value: object) -> str:
    text = str(value).strip().lower()
    if text not in POLICIES:
        raise UsageError(f"{name} is {value!r}: expected one of {', '.join(POLICIES)}")
    return text


def _durability(name: str, value: object) -> str:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return "each" if text in _TRUE else "system"
    if text not in DURABILITIES:
        raise UsageError(f"{name} is {value!r}: expected one of {', '.join(DURABILITIES)}")
    return text


def _level(name: str, value: object) -> str:
    text = str(value).strip().lower()
    if text not in LEVELS:
        raise UsageError(f"{name} is {value!r}: expected one of {', '.join(LEVELS)}")
    return text


def _unknown_torch(name: str, value: object) -> str:
    if str(value).strip().lower() != "try":
        raise UsageError(f"{name} is {value!r}: expected try, or nothing to stand aside")
    return "try"


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "cache_dir": _folder,
    "context": _name,
    "load": _flag,
    "lean": _flag,
    "self_test": _flag,
    "compile_backward": _flag,
    "record": _flag,
    "readonly": _flag,
    "strict": _flag,
    "audit": _share,
    "durable": _durability,
    "map_size": _size,
    "max_bytes": _limit,
    "layers": _paths,
    "signatures": _policy,
    "sign": _name,
    "trust_dir": _folder,
    "log": _level,
    "locked": _flag,
    "stats_dir": _folder,
    "unknown_torch": _unknown_torch,
}
_OTHERS = frozenset({"FIREBRICK_TESTING_TOOLCHAIN"})  # of the tests


def misspelt(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables that look like settings but are not, each with the nearest setting, or ``""``.

    Args:
        environ: variables to check instead of the process's own.
    """
    known = [name.upper() for name in Settings._fields]
    names = os.environ if environ is None else environ
    ours = {name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX) and name not in _OTHERS}
    if not (unknown := sorted(ours.difference(known))):
        return {}
    import difflib  # not needed without a mistake

    near = {name: difflib.get_close_matches(name, known, 1, 0.7) for name in unknown}
    return {_PREFIX + name: _PREFIX + found[0] if found else "" for name, found in near.items()}


def worded_misspelt(environ: Mapping[str, str] | None = None) -> str:
    """Return one line naming variables that are not settings; empty if there are none."""
    found = misspelt(environ).items()
    return "; ".join(f"{name} is no setting" + f" (is {near} meant?)" * bool(near) for name, near in found)
