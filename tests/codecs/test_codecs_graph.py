"""Object graphs: what survives, what is refused, and that decoding runs nothing it may not run."""

import copyreg
import dataclasses
import enum
import functools
import math
import os
import random
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from firebrick import codecs
from firebrick.codecs import _graph_format, _graph_nodes
from firebrick.codecs.graph import PLAIN, Leaf, Op, Policy, decode_graph, encode_graph
from firebrick.codecs.wrapper import WrapperCodec
from firebrick.errors import CodecError, DecodeError, EncodeError, ForbiddenGlobal, LimitExceeded
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import pack, unpack
from support.strategies import Node, Pair, Shade, same

HERE = __name__
ADMITTING = Policy(instances=(HERE, Node.__module__), names=("",))
CALLING = dataclasses.replace(ADMITTING, callables=frozenset({f"{HERE}:Value"}))
ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    ran.clear()
    yield
    assert ran == []


class Loud:
    """Everything that decoding must not call says so."""

    def __init__(self) -> None:
        ran.append("init")

    def __setattr__(self, name: str, value: Any) -> None:
        ran.append("setattr")

    def __del__(self) -> None: ...


class WithSetstate:
    def __init__(self, text: str) -> None:
        self.text = text

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.text = state["text"] + "!"


class WithNew:
    def __new__(cls) -> "WithNew":
        ran.append("new")
        return super().__new__(cls)


class Slots:
    __slots__ = ("left", "right")


class SlotsAndDict(Slots):
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    parts: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Value:
    number: int

    def __reduce__(self) -> Any:
        return Value, (self.number,)


class Text(str):
    pass


class Words(list[str]):
    pass


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


class Box(NamedTuple):
    width: int
    depth: Any = None


class Keyword:
    def __init__(self, *, size: int) -> None:
        self.size = size

    def __reduce_ex__(self, protocol: Any) -> Any:
        return copyreg.__newobj_ex__, (type(self), (), {"size": self.size})  # type: ignore[attr-defined]

    def __new__(cls, *, size: int) -> "Keyword":
        made = super().__new__(cls)
        made.size = size
        return made

    def method(self) -> int:
        return self.size


def admitted(number: int) -> int:
    return number + 1


def trip(value: Any, policy: Policy = ADMITTING) -> Any:
    sink = codecs.Collector()
    body, volatile = encode_graph(value, policy, sink)
    again = encode_graph(value, policy, codecs.Collector())
    assert again[0] == body
    return decode_graph(body, policy, sink.blobs.__getitem__, volatile)


def nodes_of(value: Any, policy: Policy = ADMITTING) -> list[Any]:
    return list(unpack(encode_graph(value, policy, codecs.Collector())[0])[0])


def run(nodes: list[Any], policy: Policy = ADMITTING, root: int | None = None) -> Any:
    body = pack([nodes, [], len(nodes) - 1 if root is None else root])
    return decode_graph(body, policy, {}.__getitem__)


def test_a_list_that_holds_itself_comes_back_so() -> None:
    value: list[Any] = [1]
    value += [value, {"me": value}]
    back = trip(value)
    assert back[1] is back
    assert back[2]["me"] is back


def test_objects_that_refer_to_each_other_come_back_so() -> None:
    first, second = Node(), Node()
    first.other, second.other = second, first  # type: ignore[attr-defined]
    first.method = first.__class__
    back = trip(first)
    assert type(back) is Node
    assert back.other.other is back


def test_equal_mutable_objects_stay_apart_and_shared_ones_together() -> None:
    part = [1]
    back = trip([part, part, [1]])
    assert back[0] is back[1]
    assert back[2] is not back[0]


def test_the_identity_of_immutable_values_does_not_show() -> None:
    long = "".join(["identity", "!"])
    apart = [("a", (1, 2.5)), ("a", (1, float("2.5"))), long, "".join(["identity", "!"])]
    together = [apart[0], apart[0], long, long]
    assert nodes_of(apart) == nodes_of(together)


def test_values_that_compare_equal_but_differ_stay_apart() -> None:
    back = trip([1, True, 1.0, 0.0, -0.0, (1,), (True,), (1.0,), 1 + 0j, b"a", "a"])
    assert [type(item) for item in back[:3]] == [int, bool, float]
    assert [math.copysign(1, item) for item in back[3:5]] == [1, -1]
    assert [type(item[0]) for item in back[5:8]] == [int, bool, float]


def test_the_order_of_a_dict_is_kept_and_that_of_a_set_is_not() -> None:
    assert list(trip({"b": 1, "a": 2})) == ["b", "a"]
    words = [f"word{i}" for i in range(50)] + list(range(50)) + [(1, "x"), (1, 2)]
    shuffled = words[:]
    random.Random(1).shuffle(shuffled)
    assert nodes_of(set(words)) == nodes_of(set(shuffled))
    assert nodes_of(frozenset(words)) == nodes_of(frozenset(shuffled))


@pytest.mark.parametrize(
    "value",
    [
        Frozen("a", ("b",)),
        Value(3),
        Box(2, [3]),
        Pair([1], 2),
        Text("written"),
        Shade.DARK,
        Level.HIGH,
        functools.partial(admitted, 3),
        functools.partial(admitted, number=3),
        OrderedDict([("b", [1]), ("a", 2)]),
        Counter("hello"),
        deque([1, [2]], maxlen=2),
        (slice(1, None, 2), range(3)),
        torch.float8_e4m3fn,
        torch.channels_last,
        torch.strided,
        torch.Size([2, 3]),
        torch.device("cpu"),
        torch.device("cuda", 1),
        [Node, admitted, math.sqrt, math, Ellipsis, dict],
        1 << 200,
        -(1 << 63) - 1,
        (1 << 64) - 1,
    ],
    ids=lambda value: re.sub(r"0x[0-9a-f]+", "0x", repr(value)),
)
def test_a_value_comes_back_with_its_type(value: Any) -> None:
    back = trip(value, CALLING)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_subclasses_of_containers_keep_contents_and_attributes() -> None:
    words = Words(["a"])
    words.note = words  # type: ignore[attr-defined]
    text = Text("t")
    text.note = ["x"]  # type: ignore[attr-defined]
    back = trip([words, text])
    assert back == [["a"], "t"]
    assert type(back[0]) is Words
    assert back[0].note is back[0]
    assert back[1].note == ["x"]


def test_a_default_dict_keeps_its_factory() -> None:
    back = trip(defaultdict(list, {"a": [1]}))
    back["b"].append(2)
    assert back == {"a": [1], "b": [2]}


def test_slots_are_filled_without_setattr() -> None:
    value = SlotsAndDict()
    value.left, value.extra = 1, [2]  # type: ignore[attr-defined]
    back = trip(value)
    assert (back.left, back.extra, hasattr(back, "right")) == (1, [2], False)


def test_neither_init_nor_setattr_runs() -> None:
    value = object.__new__(Loud)
    vars(value)["text"] = "kept"
    assert vars(trip(value)) == {"text": "kept"}


def test_a_bound_method_comes_back_on_its_object() -> None:
    value = Keyword(size=3)
    policy = dataclasses.replace(ADMITTING, callables=frozenset({f"{HERE}:Keyword"}))
    owner, method = trip([value, value.method], policy)
    assert method() == 3
    assert method.__self__ is owner


def test_setstate_runs_only_if_the_policy_admits_it() -> None:
    value = WithSetstate("a")
    with pytest.raises(ForbiddenGlobal) as caught:
        trip(value)
    assert caught.value.name == f"{HERE}:WithSetstate.__setstate__"
    policy = dataclasses.replace(ADMITTING, callables=frozenset({caught.value.name}))
    body, _ = encode_graph(value, policy, codecs.Collector())
    assert decode_graph(body, policy, {}.__getitem__).text == "a!"
    with pytest.raises(ForbiddenGlobal):
        decode_graph(body, ADMITTING, {}.__getitem__)


def test_a_class_with_a_new_of_its_own_is_refused() -> None:
    value = object.__new__(WithNew)
    with pytest.raises(ForbiddenGlobal) as caught:
        trip(value)
    assert "__new__" in caught.value.where
    with pytest.raises(ForbiddenGlobal):
        run([[Op.GLOBAL, f"{HERE}:WithNew"], [Op.NEW, 0]])


def test_an_instance_of_another_module_is_refused_in_both_directions() -> None:
    value = Node()
    policy = Policy(instances=(f"{HERE}:Value",), names=("",))
    with pytest.raises(ForbiddenGlobal) as caught:
        encode_graph([{"key": value}], policy, codecs.Collector())
    assert caught.value.name.endswith(":Node")
    assert caught.value.where.startswith("[0]['key']")
    body, _ = encode_graph(value, ADMITTING, codecs.Collector())
    with pytest.raises(ForbiddenGlobal):
        decode_graph(body, policy, {}.__getitem__)


def test_a_call_that_the_policy_does_not_admit_is_refused_in_both_directions() -> None:
    with pytest.raises(ForbiddenGlobal):
        encode_graph(Value(1), Policy(instances=(HERE,), names=("",)), codecs.Collector())
    body, _ = encode_graph(Value(1), CALLING, codecs.Collector())
    with pytest.raises(ForbiddenGlobal) as caught:
        decode_graph(body, ADMITTING, {}.__getitem__)
    assert caught.value.name == f"{HERE}:Value"


def test_an_encoding_that_calls_a_shell_is_refused_and_runs_nothing(tmp_path: Any) -> None:
    made = tmp_path / "made"
    for operation in (Op.CALL, Op.NEW):
        with pytest.raises(ForbiddenGlobal) as caught:
            run([[Op.GLOBAL, f"{os.system.__module__}:system"], f"touch {made}", [operation, 0, 1]])
        assert caught.value.name == f"{os.system.__module__}:system"
    keywords = [[Op.GLOBAL, "subprocess:run"], ["x"], [Op.TUPLE, 0], [Op.CALL_KEYWORDS, 0, 2, 2, 2]]
    keywords[1] = "x"
    with pytest.raises(ForbiddenGlobal):
        run(keywords)
    assert not made.exists()


def test_only_a_name_can_be_called_not_an_object_that_looks_like_one() -> None:
    spoof = [
        [Op.GLOBAL, f"{HERE}:Loud"], "__module__", "collections", "__qualname__", "Counter",
        [Op.OBJECT, 0, 1, 2, 3, 4], [Op.CALL, 5],
    ]  # fmt: skip
    with pytest.raises(ForbiddenGlobal):
        run(spoof)


def test_a_class_of_a_module_that_is_not_imported_is_refused_and_not_imported() -> None:
    assert "this" not in sys.modules
    with pytest.raises(ForbiddenGlobal) as caught:
        run([[Op.GLOBAL, "this:s"]])
    assert "not imported" in caught.value.where
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os:path.join", "another module"),
        (f"{HERE}:os.system", "another module"),
        ("json:JSONDecoder", "its own name is json.decoder:JSONDecoder"),
        ("json.decoder:JSONDecoder.nothing", "there is no nothing"),
        ("json.decoder:JSONDecoder.__init__.__globals__", "there is no __globals__"),
        ("sys:modules", "neither class nor function"),
        ("os", "module:qualname"),
        ("os:", "the policy does not admit"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ForbiddenGlobal) as caught:
        run([[Op.GLOBAL, name]], Policy(names=("json", HERE, "sys:modules")))
    assert caught.value.name == name
    assert reason in caught.value.where


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([[Op.GLOBAL, f"{HERE}:Loud"], "x", 1, [Op.STATE, 0, 1, 2]], "only objects that the graph"),
        (
            [
                [Op.GLOBAL, f"{Shade.__module__}:Shade"],
                [Op.ENUM, 0, "DARK"],
                "x",
                [Op.STATE, 1, 2, 2],
            ],
            "only objects that the graph",
        ),
        ([[Op.GLOBAL, "math:sqrt"], "x", [Op.SET_STATE, 0, 1]], "only objects that the graph"),
    ],
)
def test_what_existed_before_can_not_be_changed(nodes: list[Any], reason: str) -> None:
    with pytest.raises(ForbiddenGlobal) as caught:
        run(nodes)
    assert reason in caught.value.where


def test_what_can_not_be_named_is_refused_with_its_place() -> None:
    def local() -> None: ...

    for value in (lambda: None, local):
        holder = Node()
        holder.items = [0, {"f": value}]  # type: ignore[attr-defined]
        with pytest.raises(EncodeError) as caught:
            trip(holder)
        assert caught.value.where == ".items[1]['f']"
        assert caught.value.type_name == "function"


@pytest.mark.parametrize(
    "value",
    [
        iter([]),
        [].append,
        (i for i in ()),
        sys._getframe(),
        Level.LOW | Level.HIGH,
        torch.Generator(),
        memoryview(b""),
        type("Local", (), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_encoding_is_refused(value: Any) -> None:
    with pytest.raises((EncodeError, ForbiddenGlobal)):
        encode_graph(value, Policy(instances=("",)), codecs.Collector())


def test_a_tuple_that_holds_itself_is_refused() -> None:
    part: list[Any] = []
    value = (part,)
    part.append(value)
    with pytest.raises(EncodeError) as caught:
        trip(value)
    assert "contains itself" in caught.value.reason
    assert trip(part)[0][0][0] is not None  # entered through the list it works


def test_volatile_attributes_are_left_out_and_come_back_in_order() -> None:
    inner, outer = Node(), Node()
    inner.time, inner.kept = 1.5, "i"  # type: ignore[attr-defined]
    outer.inner, outer.time, outer.kept = inner, object, "o"  # type: ignore[attr-defined]
    policy = dataclasses.replace(
        ADMITTING, volatile={f"{Node.__module__}:Node": frozenset({"time", "absent"})}
    )
    body, volatile = encode_graph(outer, policy, codecs.Collector())
    assert volatile == [1.5, object]
    inner.time = 99
    assert encode_graph(outer, policy, codecs.Collector())[0] == body
    back = decode_graph(body, policy, {}.__getitem__, [7, 8])
    assert (back.inner.time, back.time, list(vars(back))) == (7, 8, ["inner", "time", "kept"])
    bare = decode_graph(body, policy, {}.__getitem__)
    assert (bare.inner.time, bare.time, bare.kept) == (None, None, "o")
    for wrong in ([7], [7, 8, 9], []):
        with pytest.raises(DecodeError, match="volatile"):
            decode_graph(body, policy, {}.__getitem__, wrong)


def test_a_reducer_of_the_policy_replaces_the_objects_own() -> None:
    policy = dataclasses.replace(
        ADMITTING,
        callables=frozenset({f"{HERE}:admitted"}),
        replace={f"{HERE}:WithSetstate": lambda value: (admitted, (len(value.text),))},
    )
    assert trip([WithSetstate("abc")], policy) == [4]


def test_a_reducer_can_make_a_part_a_child_of_its_own_kind() -> None:
    policy = dataclasses.replace(
        ADMITTING, replace={f"{Node.__module__}:Node": lambda node: Leaf(WrapperCodec(), node.text)}
    )
    node = Node()
    node.text = "import torch\n"  # type: ignore[attr-defined]
    sink = codecs.Collector()
    body, _ = encode_graph([node], policy, sink)
    assert [(blob.kind, blob.data) for blob in sink.blobs.values()] == [(Kind.WRAPPER, b"import torch\n")]
    assert decode_graph(body, policy, sink.blobs.__getitem__) == ["import torch\n"]


def test_long_texts_bytes_tensors_and_all_code_become_children() -> None:
    code = (lambda: 1).__code__
    value = ["t" * 100, b"b" * 100, torch.arange(100.0), code, "short", b"short", torch.ones(1)]
    policy = dataclasses.replace(ADMITTING, leaf_bytes=100)
    sink = codecs.Collector()
    body, _ = encode_graph(value, policy, sink)
    kinds = sorted(blob.kind.name for blob in sink.blobs.values())
    assert kinds == ["CODE", "GRAPH", "TENSOR", "TEXT"]
    back = decode_graph(body, policy, sink.blobs.__getitem__)
    assert same(back[:3] + back[4:], value[:3] + value[4:])
    assert back[3].co_code == code.co_code


def test_tensors_that_share_a_storage_share_it_again() -> None:
    base = torch.arange(1000.0)
    first, second, third = base[10:20], base[15:30].view(3, 5), base[10:20]
    alone = torch.ones(3)
    back = trip([first, second, alone, third, first])
    assert back[0] is back[4]
    assert back[0].untyped_storage().nbytes() == 20 * 4
    back[0][5] = 99
    assert back[1][0, 0] == 99
    assert back[3][5] == 99
    assert torch.equal(back[2], alone)


def test_attributes_of_a_tensor_and_cycles_through_it_are_kept() -> None:
    tensor = torch.ones(2)
    tensor.note = [tensor]  # type: ignore[attr-defined]
    back = trip(tensor)
    assert back.note[0] is back


def test_nesting_deeper_than_the_stack_is_a_limit() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(LimitExceeded) as caught:
        trip(value)
    assert "nesting" in caught.value.what


def test_too_many_nodes_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_graph_nodes, "MAX_NODES", 10)
    with pytest.raises(LimitExceeded) as caught:
        trip(list(range(10)))
    assert (caught.value.actual, caught.value.limit) == (11, 10)


@pytest.mark.parametrize("last", [[], [[Op.SET, 60]], [[Op.LIST, 60], [Op.DICT, 60, 61]]], ids=len)
def test_a_tuple_that_unfolds_without_end_is_a_limit(last: list[Any]) -> None:
    doubling = [[Op.TUPLE, i, i] for i in range(60)]
    with pytest.raises(LimitExceeded) as caught:
        run([5, *doubling, *last])
    assert "unfolded" in caught.value.what


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([[Op.LIST, 5]], "IndexError"),
        ([[Op.LIST, -1]], "negative"),
        ([1, [Op.LIST, True]], "negative"),
        ([[Op.LIST, "x"]], "TypeError"),
        ([[99]], "KeyError"),
        ([[]], "IndexError"),
        ([[Op.DICT, 0]], "IndexError"),
        ([1, [Op.DICT, 0]], "ValueError"),
        ([1, [Op.DICT, 0, 0, 0, 0]], "twice"),
        ([1, [Op.SET, 0, 0]], "twice"),
        ([[Op.LIST], [Op.SET, 0]], "unhashable"),
        ([[Op.BIGINT, "x"]], "not bytes"),
        ([[Op.BIGINT]], "operands"),
        ([[Op.COMPLEX, 1, 2.0]], "floats"),
        ([[Op.DEVICE, "cpu:0", None]], "not a device"),
        ([[Op.GLOBAL, f"{HERE}:Loud"], [Op.ENUM, 0, "A"]], "not an enumeration"),
        ([[Op.GLOBAL, f"{HERE}:Level"], [Op.ENUM, 0, "A"]], "KeyError"),
        ([[Op.TUPLE], [Op.EXTEND, 0, 0]], "cannot be extended"),
        ([[Op.TUPLE], [Op.UPDATE, 0]], "cannot be updated"),
        ([[Op.LIST], [Op.ADD, 0]], "not a set"),
        ([[Op.GLOBAL, f"{HERE}:Slots"], [Op.NEW, 0], "x", [Op.SLOTS, 1, 2, 2]], "not a slot"),
        ([[Op.GLOBAL, f"{HERE}:Slots"], [Op.NEW, 0], 5, [Op.SLOTS, 1, 2, 2]], "name of an attri"),
        ([[Op.GLOBAL, f"{HERE}:Loud"], "x", [Op.OBJECT, 0, 1]], "has no value"),
        ([1, [Op.NEW, 0]], "not a class"),
        ([[Op.GLOBAL, f"{HERE}:Text"], 5, [Op.CONTENTS, 0, 1]], "not what"),
        ([[Op.CHILD, Kind.BUNDLE, 1, b""]], "no children of kind"),
        ([[Op.TENSOR, 0, "float32", [], [], 0, 0]], "no storage"),
        ([[Op.GLOBAL, f"{HERE}:Slots"], [Op.NEW, 0], [Op.METHOD, 1, "__init__"]], "no function"),
        ([{}], "not a node"),
        ([[Op.PARTIAL, 0, 0, 0, 0]], "IndexError"),
    ],
)
def test_an_operation_that_makes_no_sense_is_refused(nodes: list[Any], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        run(nodes)


@pytest.mark.parametrize("body", [[[], []], [[], [], 0], [1, [], 0], [[1], [], -1], [[1], 5, 0]])
def test_a_body_that_is_no_graph_is_refused(body: Any) -> None:
    with pytest.raises(DecodeError):
        decode_graph(pack(body), ADMITTING, {}.__getitem__)


def test_a_child_of_another_kind_than_expected_is_refused() -> None:
    sink = codecs.Collector()
    body, _ = encode_graph("x" * 5000, PLAIN, sink)
    (blob,) = sink.blobs.values()
    with pytest.raises(DecodeError, match="expected TEXT"):
        decode_graph(body, PLAIN, lambda key: blob._replace(kind=Kind.WRAPPER))


def test_the_plain_policy_names_nothing() -> None:
    for value in (math.sqrt, Node, Node(), Shade.DARK, functools.partial(print)):
        with pytest.raises(CodecError):
            encode_graph(value, PLAIN, codecs.Collector())
    assert trip([torch.float16, ..., Counter("a")], PLAIN) == [torch.float16, ..., Counter("a")]


def test_a_prefix_admits_whole_module_names_only() -> None:
    policy = Policy(instances=("a.b", "c:D"), names=())
    assert policy.may_build("a.b:X")
    assert policy.may_build("a.b.c:X")
    assert policy.may_build("c:D")
    assert not policy.may_build("a.bc:X")
    assert not policy.may_build("c:E")
    assert not policy.may_build("c.d:D")


def test_every_operation_has_one_number_for_ever() -> None:
    assert [(op.name, op.value) for op in Op] == [
        (name, number)
        for number, name in enumerate(
            "GLOBAL TUPLE LIST DICT SET FROZENSET BIGINT COMPLEX BYTEARRAY SLICE RANGE SIZE DEVICE "
            "ENUM PARTIAL CALL CALL_KEYWORDS NEW CONTENTS OBJECT STATE SLOTS SET_STATE EXTEND "
            "UPDATE ADD CHILD TENSOR METHOD".split()
        )
    ]
    assert _graph_format.VERSION == 1
