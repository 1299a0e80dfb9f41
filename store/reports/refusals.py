"""Turn the error that kept a bundle from serving a frame into a reason, and choose among several reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.errors import DamagedError, NotFoundError, UnknownVersion
from firebrick.reports.events import MISS, Change, Event, Function
from firebrick.reports.not_served import GuardsNotApplicable, Miss, ObjectChanged
from firebrick.reports.wording import ANOTHER_OBJECT

# The nearer a bundle was to serving, the better its reason explains. Guards come last in a look-up.
_ORDER: Final = (
    "error", "another-recipe", "version", "missing", "damaged", "lane", "untested", "unknown", "platform",
    "options", "code", "buckets", "process", "changed", "object", "state", "value", "tensor",
)  # fmt: skip
_RANK: Final = {code: number for number, code in enumerate(_ORDER)}
_GUARDS: Final = frozenset({"object", "state", "value", "tensor"})


class Refusal(NamedTuple):
    """Why a bundle, or all of a recipe's, did not serve: stable name, words, differences."""

    code: str
    reason: str
    changes: tuple[Change, ...] = ()


def refusal_of(error: BaseException) -> Refusal:
    """Return why a bundle does not serve, from the error raised."""
    if isinstance(error, Miss):
        return Refusal(error.code, str(error), error.changes)
    if isinstance(error, ObjectChanged | GuardsNotApplicable):
        return Refusal(error.code, str(error), error.changes)
    if isinstance(error, NotFoundError):
        return Refusal("missing", "a part is missing")
    if isinstance(error, DamagedError):
        return Refusal("damaged", "a part is damaged")
    if isinstance(error, UnknownVersion):
        return Refusal("version", "unknown version")
    return Refusal("error", f"{type(error).__name__}: {error}")


def nearest(refusals: Sequence[Refusal]) -> Refusal:
    """Return the refusal that explains best: that of the last bundle among those nearest to serving."""
    return max(reversed(refusals), key=lambda refusal: _RANK.get(refusal.code, 0))


def miss(
    function: Function, lane: str, refusals: Sequence[Refusal], *, seconds: float = 0.0, recipe: bytes = b""
) -> Event:
    """Return the event of a frame that no bundle served, with the best reason; `refusals` is not empty."""
    best = nearest(refusals)
    others = tuple(dict.fromkeys(other.reason for other in refusals if other.reason != best.reason))
    return Event(
        function, lane, MISS, best.code, best.reason, best.changes, seconds, recipe.hex(), others[:20]
    )  # fmt: skip


def joined(full: Event, lean: Event | None) -> Event:
    """Return the miss of the full lane, with the lean lane's reason if that says more."""
    if lean is None:
        return full
    nearer = _RANK.get(lean.code, 0) - _RANK.get(full.code, 0)
    both = lean.code in _GUARDS and full.code in _GUARDS
    if (nearer > 0 and not both) or (both and not _says_more(full, lean)):
        others = tuple(o for o in dict.fromkeys((*full.others, full.reason)) if o != lean.reason)
        return full._replace(code=lean.code, reason=lean.reason, changes=lean.changes, others=others)
    return full


def _says_more(event: Event, other: Event) -> bool:
    def valued(changes: tuple[Change, ...]) -> int:
        return sum(change.stored not in (None, ANOTHER_OBJECT) for change in changes)

    return valued(event.changes) > valued(other.changes)
