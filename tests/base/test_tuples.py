"""The named tuples that are cheap to make behave as those of `typing`."""

import copy
import pickle
import typing

import pytest

from firebrick.base import namedtuple

_CHEAP: typing.Any = namedtuple.NamedTuple


class Standard(typing.NamedTuple):
    """A point of the standard library's kind."""

    x: int
    y: "list[int]"
    z: int = 3

    @property
    def total(self) -> int:
        """Give a sum."""
        return self.x + self.z


class Cheap(_CHEAP):
    """A point of ours."""

    x: int
    y: "list[int]"
    z: int = 3

    @property
    def total(self) -> int:
        """Give a sum."""
        return self.x + self.z


class Derived(Cheap):
    """It has the fields of its base."""


@pytest.mark.parametrize("kind", [Standard, Cheap, Derived])
class TestNamedTuples:
    def test_fields_defaults_and_methods(self, kind):
        made = kind(1, y=[2])
        assert made == (1, [2], 3)
        assert (made.x, made.y, made.z, made.total) == (1, [2], 3, 4)
        assert kind._fields == kind.__match_args__ == ("x", "y", "z")
        assert kind._field_defaults == {"z": 3}
        assert made._asdict() == {"x": 1, "y": [2], "z": 3}
        assert made._replace(z=5) == kind._make([1, [2], 5])
        assert repr(made) == f"{kind.__name__}(x=1, y=[2], z=3)"
        match made:
            case kind(x, _, z=3):
                assert x == 1
            case _:
                pytest.fail("no match")

    def test_is_copied_and_pickled_as_what_it_is(self, kind):
        made = kind(1, [2])
        for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert type(again) is kind and again == made
        assert copy.deepcopy(made).y is not made.y

    def test_has_no_place_for_more(self, kind):
        made = kind(1, [2])
        assert not hasattr(made, "__dict__")
        for name in ("x", "total"):
            with pytest.raises(AttributeError):
                setattr(made, name, 1)

    @pytest.mark.parametrize(
        ("values", "named"),
        [((1,), {}), ((1, 2, 3, 4), {}), ((1, 2), {"x": 3}), ((1, 2), {"w": 3}), ((), {"x": 1})],
    )
    def test_refuses_what_does_not_fit(self, kind, values, named):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_a_replacement_by_an_unknown_name_is_refused():
    with pytest.raises(TypeError, match=r"Cheap\(x, y, z\).*\['w'\]"):
        Cheap(1, [])._replace(w=1)
