"""Named tuples with cheap class creation, for those that a lean start needs at once.

`typing.NamedTuple` compiles every annotation and a constructor per class, about 0.15 ms; a first call needs
some thirty classes. Type checkers see `typing.NamedTuple` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter
    from collections.abc import Iterable
    from typing import Self

    class _Slotless(type):
        @classmethod
        def __prepare__(mcs, _name: str, _bases: tuple[type, ...]) -> dict[str, Any]:
            return {"__slots__": ()}

    class NamedTuple(tuple, metaclass=_Slotless):
        """A base of named tuples, used like `typing.NamedTuple`."""

        _fields: tuple[str, ...] = ()
        _field_defaults: dict[str, Any] = {}
        _defaults: tuple[Any, ...] = ()

        def __init_subclass__(cls) -> None:
            if not (fields := tuple(cls.__annotations__)):
                return  # the base's fields
            cls._fields = cls.__match_args__ = fields
            cls._field_defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
            cls._defaults = tuple(cls._field_defaults.values())
            for position, name in enumerate(fields):
                setattr(cls, name, _tuplegetter(position, None))

        def __new__(cls, *values: Any, **named: Any) -> Self:
            fields = cls._fields
            if not named and 0 < (absent := len(fields) - len(values)) <= len(cls._defaults):
                values += cls._defaults[-absent:]
            if named or len(values) != len(fields):
                given = dict(zip(fields, values, strict=False))
                unknown = [name for name in named if name in given or name not in fields]
                given = cls._field_defaults | given | named
                missing = [name for name in fields if name not in given]
                if missing or unknown or len(values) > len(fields):
                    raise TypeError(
                        f"{cls.__name__}({', '.join(fields)}) got {len(values)} values by position; "
                        f"missing: {missing}, unknown or given twice: {unknown}"
                    )
                values = [given[name] for name in fields]
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            return cls(*values)

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes: Any) -> Self:
            return type(self)(**{**self._asdict(), **changes})

        def __repr__(self) -> str:
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._asdict().items())})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)


def namedtuple_scope(name: str) -> dict[str, Any] | None:
    """Return the globals of named tuples' ``__new__``, or ``None`` for the name of a real module.

    They belong to no module: ``collections.namedtuple`` makes equal ones for each class.

    Args:
        name: their ``__name__``.
    """
    if not name.startswith("namedtuple_"):
        return None
    return {"_tuple_new": tuple.__new__, "__builtins__": {}, "__name__": name}
