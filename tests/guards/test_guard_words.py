"""What torch reports of a failed guard becomes words with both values; nothing of the program is run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from firebrick.bundle.recipe import RecipeDifference
from firebrick.guards.evaluate import NoValue, parsed, value_of
from firebrick.guards.failing_guard import StoredState, expectations_differ, failed, told
from firebrick.reports.events import Change
from firebrick.reports.wording import object_change, recipe_changes, shown


class Evil:
    """A class that would notice being looked at."""

    def __init__(self) -> None:
        self.plain = 5

    @property
    def computed(self) -> int:
        raise AssertionError("a property was run")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("__getattr__ was run")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("__eq__ was run")

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        raise AssertionError("__len__ was run")

    def __repr__(self) -> str:
        raise AssertionError("__repr__ was run")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("__getitem__ was run")


X = torch.ones(4, 8)
LOCALS = {"x": X, "n": 3, "xs": [1, 2], "d": {"a": 1}, "e": Evil(), "m": torch.nn.Linear(2, 3), "f": len}
SCOPES = {"L": LOCALS, "G": {"SCALE": 2, "torch": torch}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("L['n'] + 1", 4),
        ("L['x'].size()[1]", 8),
        ("L['x'].stride(0) == 8", True),
        ("len(L['xs']) == 2 and not L['d'] == {}", None),
        ("len(L['xs']) >= 2", True),
        ("list(dict.keys(L['d']))", ["a"]),
        ("___dict_contains('b', L['d'])", False),
        ("L['m'].weight.dtype", torch.float32),
        ("L['m']._modules", {}),
        ("L['e'].plain", 5),
        ("G['torch'].float32 is L['x'].dtype", True),
        ("type(L['n'])", int),
        ("L['n'] in (1, 3)", True),
    ],
)
def test_sources_have_the_values_of_the_frame(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(NoValue):
            value_of(parsed(text), SCOPES)
    else:
        assert value_of(parsed(text), SCOPES) == value


@pytest.mark.parametrize(
    "text",
    [
        "L['e'].computed", "L['e'].unknown", "L['e'] == 3", "len(L['e'])", "L['e'][0]", "L['e'] in (1, 2)",
        "L['m'].forward(1)", "__import__('os')", "open('f')", "G['torch'].ones(3)", "L['absent']",
        "L['xs'][9]", "(lambda: 1)()", "[x for x in L['xs']]", "str(L['e'])", "not L['e']", "max(L['e'], 1)",
        "1 +", "L['x'] == 1",
    ],
)  # fmt: skip
def test_nothing_of_the_program_is_run(text: str) -> None:
    with pytest.raises(NoValue):
        value_of(parsed(text), SCOPES)


def state(**changes: Any) -> str:
    import json

    import torch._C._dynamo.guards as cpp

    return json.dumps({**json.loads(str(cpp.GlobalStateGuard().__getstate__())), **changes})


STORED = StoredState(
    lambda: state(num_threads=77, default_dtype=7),
    lambda source, field: {"size()": "(64, 8)", "stride()": "(1, 4)"}[field] if source == "L['x']" else None,
    lambda: [SimpleNamespace()],
)
Y = "tensor 'L['m'].weight'"


@pytest.mark.parametrize(
    ("text", "code", "change"),
    [
        ("L['n'] == 4      # return x + n  # m.py:3 in f", "value", ("`L['n']`", "4", "3")),
        ("G['SCALE'] == 3", "value", ("global `SCALE`", "3", "2")),
        ("3 == G['SCALE']", "value", ("global `SCALE`", "3", "2")),
        ("len(L['xs']) == 3", "value", ("`len(L['xs'])`", "3", "2")),
        ("not L['xs']", "value", ("`L['xs']`", "false or empty", "[1, 2]")),
        ("'b' in L['d']", "value", ("'b' in L['d']", "true", "false (L['d'] = {'a': 1})")),
        (
            "___check_type_id(L['xs'], 14056), type=<class 'tuple'>  # x (HINT: type list)",
            "value",
            ("type of `L['xs']`", "<class 'tuple'>", "<class 'list'>"),
        ),
        ("___check_obj_id(L['f'], 14)", "object", ("`L['f']`", "another object", "builtin builtins:len")),
        (
            "L['f'] is builtin builtins:max",
            "object",
            ("`L['f']`", "builtin builtins:max", "builtin builtins:len"),
        ),
        (
            "tensor 'L['x']' size mismatch at index 0. expected 64, actual 4",
            "tensor",
            ("`L['x'].size()`", "(64, 8)", "(4, 8)"),
        ),
        (f"{Y} stride mismatch at index 0. expected 5, actual 2", "tensor",
         ("`L['m'].weight.stride(0)`", "5", "2")),
        (f"{Y} dtype mismatch. expected Half, actual Float", "tensor",
         ("`L['m'].weight.dtype`", "torch.float16", "torch.float32")),
        (f"{Y} requires_grad mismatch. expected requires_grad=0", "tensor",
         ("`L['m'].weight.requires_grad`", "False", "True")),
        (f"{Y} rank mismatch. expected 3, actual 2", "tensor", ("`L['m'].weight.dim()`", "3", "2")),
        ("expected type of 'L['n']' to be a tensor type, ' but found <class 'int'>", "value",
         ("type of `L['n']`", "a tensor type", "<class 'int'>")),
        ("GLOBAL_STATE changed: default_dtype ", "state",
         ("default dtype (torch.set_default_dtype)", "torch.float64", "torch.float32")),
        ("___check_torch_function_mode_stack()", "state",
         ("modes of torch functions (a torch.device as a context is one)", "SimpleNamespace", "none")),
        ("Duplicate tensor found where not expected!", "tensor",
         ("tensors that were several", "several", "one tensor")),
        ("something torch says", "value", ("something torch says", None, None)),
    ],
)  # fmt: skip
def test_a_report_of_torch_becomes_words(text: str, code: str, change: tuple[Any, ...]) -> None:
    found = told([text], LOCALS, SCOPES["G"], STORED)
    assert found.code == code
    assert found.changes == (Change(*change),)
    assert str(found)


def test_of_several_conditions_the_one_that_fails_is_named() -> None:
    found = told(["L['n'] == 3", "L['x'].size()[0] == L['x'].size()[1]"], LOCALS, {}, StoredState())
    assert found.changes[0].here == "false (L['x'].size()[0] = 4, L['x'].size()[1] = 8)"


def test_threads_are_both_told() -> None:
    (change,) = told(["GLOBAL_STATE changed: num_threads "], {}, {}, STORED).changes
    assert change == Change("threads (torch.set_num_threads)", "77", str(torch.get_num_threads()))


@pytest.mark.parametrize("manager", [SimpleNamespace(), SimpleNamespace(check_verbose=lambda _: 1 / 0)])
def test_a_report_that_fails_is_a_miss_all_the_same(manager: Any) -> None:
    found = failed(manager, {}, {}, StoredState())
    assert found.code == "value"
    assert "which is not known" in str(found)


def test_expectations_are_compared_by_their_source() -> None:
    old = "\0".join(["G['C'].a == 2", "G['C'].b == 1", "___check_type_id(G['t'], 1), type=<class 'int'>"])
    new = "\0".join(["G['C'].a == 3", "G['C'].b == 1", "___check_type_id(G['t'], 2), type=<class 'str'>"])
    assert expectations_differ(old, new, {}) == [
        Change("`G['C'].a`", "2", "3"),
        Change("`type of G['t']`", "<class 'int'>", "<class 'str'>"),
    ]
    (unknown,) = expectations_differ("", new, {})
    assert "not kept" in unknown.what


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": (1,)}, "{'a': (1,)}"), ([[1, [2, [3, [4]]]]], "[[1, [2, a list object]]]"),
        (Evil, "<class 'Evil'>"), (torch.Size([1, 2]), "(1, 2)"), (X, "Tensor of torch.float32 (4, 8)"),
        ("x" * 300, "'" + "x" * 158 + "…"), (set(), "set()"), (torch.float32, "torch.float32"),
    ],
)  # fmt: skip
def test_values_are_shown(value: Any, text: str) -> None:
    assert shown(value) == text


def test_an_object_is_shown_by_its_class() -> None:
    assert shown([Evil(), 1]) == "[a Evil object, 1]"


def test_recipes_are_compared_in_the_users_words() -> None:
    digest = "0" * 32
    found = recipe_changes(
        [
            RecipeDifference("function.code", "aa", "bb"),
            RecipeDifference("options.config.dynamo", f"{digest}; x=1; y='a; b'", f"1{digest[1:]}; x=2"),
            RecipeDifference("options.config.inductor", digest, f"1{digest[1:]}"),
            RecipeDifference("options.fullgraph", "False", "True"),
            RecipeDifference("platform.torch", "2.12", "2.13"),
        ],
        "m.py:f",
    )
    assert found == [
        Change("`m.py:f`", None, None),
        Change("torch._dynamo.config.x", "1", "2"),
        Change("torch._dynamo.config.y", "'a; b'", "the default"),
        Change("the defaults of torch._inductor.config", None, None),
        Change("`fullgraph` of torch.compile", "False", "True"),
        Change("`torch`", "2.12", "2.13"),
    ]


def test_objects_and_lists_of_lines() -> None:
    same = ("function", "m:f")
    assert (
        str(object_change("m:f", same, same, None))
        == "m:f: stored function m:f, here function m:f with other code"
    )
    code = (lambda: 0).__code__.replace(co_qualname="helper")
    assert str(object_change("G['helper'].__code__", ("code", ""), ("code", ""), code)) == (
        "code of global `helper` changed"
    )
