"""A dictionary whose values are in a store: names are known at once, values read on access."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

if TYPE_CHECKING:
    from firebrick.context.state import Memory

_LAZY: Final = object()
_MISSING: Final = object()


class Mirror(dict[str, Any]):
    """One section of a context, as the dictionary torch's registry keeps.

    It behaves like a dictionary; every change is written through in one transaction. An unreadable value is a
    fault reported to the context; if the context ignores faults, the name is gone as if it never existed.
    `copy`, pickling and `copy.copy` return a plain dictionary. C code that bypasses a dictionary's methods
    may see a placeholder.

    Made by `Context` only. Every method except those that only look at names takes the context's lock.
    """

    __slots__ = ("_context", "_section")
    __hash__ = None

    def __init__(self, context: Memory, section: str) -> None:
        super().__init__()
        self._context = context
        self._section = section

    # For the context: changes without a write.

    def empty(self) -> None:
        """Remove every name in memory."""
        super().clear()

    def keep(self, key: str, value: Any = _LAZY) -> None:
        """Set a value in memory; if omitted, it is read from the store on access."""
        super().__setitem__(key, value)

    def drop(self, key: str) -> None:
        """Remove a name from memory if present."""
        super().pop(key, None)

    def lazy(self, key: str) -> bool:
        """Tell whether a name's value is not in memory yet."""
        return super().get(key) is _LAZY

    def in_memory(self) -> dict[str, Any]:
        """Return a plain dictionary of the values read or set in this process."""
        return {key: value for key, value in super().items() if value is not _LAZY}

    def load(self) -> None:
        """Read every value that is not in memory yet."""
        for key in list(super().keys()):
            self.get(key)

    # Reading.

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return self._context.read(self._section, key) if value is _LAZY else value

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a name, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        # Python copies a dictionary without calling its methods unless it has its own iterator.
        return super().__iter__()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return a live view of the values, after reading all of them."""
        self.load()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return a live view of names and values, after reading all values."""
        self.load()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """Return a plain dictionary with the present contents."""
        return dict(self.items())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return self.__reduce__()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mirror):
            other.load()
        self.load()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return repr(self.copy())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    # Writing.

    def __setitem__(self, key: str, value: Any) -> None:
        self._context.write(self._section, {key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._context.remove([(self._section, key)])

    def __ior__(self, other: Any) -> Mirror:  # type: ignore[override]
        self.update(other)
        return self

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several values in one transaction."""
        self._context.write(self._section, dict(*args, **kwargs))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a name, setting it to the default if there is none."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            self[key] = value = default
        return value

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a name and return its value, or the default if there is none."""
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            del self[key]
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove the last name and return it with its value."""
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")

    def clear(self) -> None:
        """Remove every name of this section, in the store too, in one transaction."""
        self._context.clear(self._section)
