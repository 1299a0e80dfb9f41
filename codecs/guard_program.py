"""Encode guard programs: the recorded steps that built the tree of guard managers of one specialisation.

A program is a closed language. Its body is msgpack, one array with the fields of `GuardProgram` in their
order. `steps` refer to the other fields, its tables, by position; `OPERATIONS` lists the operands of each
operation. Values that guards compare with are *terms*: values msgpack can hold are literals, anything else is
an array whose first item is a `Term`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from firebrick.base.namedtuple import NamedTuple
from firebrick.codecs.abc import MAX_COUNT, Codec, Sink, Source
from firebrick.errors import CodecError, DecodeError, EncodeError
from firebrick.storage.format import Kind
from firebrick.storage.msgpack import INT64, Limits, pack, unpack

_LIMITS = Limits(size=64 << 20, depth=24, items=1 << 20)


class Term:
    """The kinds of values that msgpack cannot hold."""

    BIGINT = 0  # big-endian, signed
    COMPLEX = 1  # real, imaginary
    TUPLE = 2  # items
    LIST = 3  # items
    SET = 4  # items, sorted by encoding
    FROZENSET = 5  # the same
    DICT = 6  # keys and values in turn
    SLICE = 7  # start, stop, step
    RANGE = 8  # start, stop, step
    SIZE = 9  # items of a torch.Size
    TORCH = 10  # name of a dtype, layout or memory format in torch
    DEVICE = 11  # type, index or None
    ENUM = 12  # identity of the class, name of the member
    IDENTITY = 13  # position in `identities`
    ELLIPSIS = 14
    NOT_IMPLEMENTED = 15
    NUMPY = 16  # dtype, bytes: a NumPy scalar
    KEYS = 17  # items: a dict's view of its keys


_MANY = -1
_TERMS: Final = {
    Term.BIGINT: (bytes,),
    Term.COMPLEX: (float, float),
    Term.TORCH: (str,),
    Term.DEVICE: (str, (int, type(None))),
    Term.ENUM: (int, str),
    Term.IDENTITY: (int,),
    Term.ELLIPSIS: (),
    Term.NOT_IMPLEMENTED: (),
    Term.NUMPY: (str, bytes),
}
_TERM_ITEMS: Final = {
    Term.TUPLE: _MANY,
    Term.LIST: _MANY,
    Term.SET: _MANY,
    Term.FROZENSET: _MANY,
    Term.DICT: _MANY,
    Term.SLICE: 3,
    Term.RANGE: 3,
    Term.SIZE: _MANY,
    Term.KEYS: _MANY,
}


class Operand:
    """The kinds of operands of a step, as used in `OPERATIONS`."""

    SCOPE = "scope"  # the globals of the frame; not stored
    STACK = "stack"  # a user's stack; not stored
    EMPTY = "empty"  # an empty list; not stored
    LOCAL = "local"  # name of a local variable
    TEXT = "text"
    TEXTS = "texts"  # position in `parts`
    NAMES = "names"  # position in `parts`
    TERM = "term"
    MAPPING = "mapping"  # position of a term: the list of a mapping's keys
    EXAMPLE = "example"
    DICT = "dict"  # 1 for a manager that guards the order of keys
    NUMBER = "number"  # the number itself
    IDENTITY = "identity"  # the address of an object
    TYPE = "type"  # a class, as an identity
    TENSOR = "tensor"  # facts of a tensor, dispatch keys included
    KEYS = "keys"  # dispatch keys of the same tensor; not stored
    KEY_SET = "key_set"  # a dispatch key set, in its raw form
    STATE = "state"  # text of torch's global state
    FUNCTION = "function"
    MANAGER = "manager"
    MANAGERS = "managers"


class Operation(NamedTuple):
    """One method or function of ``torch._C._dynamo.guards``.

    Attributes:
        name: of the method or function.
        operands: argument name and kind, in the order of the C++ signature.
        makes: the result is a manager, which gets the next number.
        function: a function, not a method of a manager.
    """

    name: str
    operands: tuple[tuple[str, str], ...]
    makes: bool = False
    function: bool = False


def _access(name: str, **operands: str) -> Operation:
    operands |= {"source": "text", "example_value": "example", "guard_manager_enum": "dict"}
    return Operation(name, tuple(operands.items()), True)


def _leaf(name: str, *, function: bool = False, **operands: str) -> Operation:
    operands |= {"verbose_code_parts": "texts", "user_stack": "stack"}
    if name == "add_tensor_match_guard":
        operands |= {"pytype": "type", "dispatch_keys": "keys"}
    return Operation(name, tuple(operands.items()), False, function)


# The position of an operation is its number in stored programs: append only.
OPERATIONS: Final[tuple[Operation, ...]] = (
    _access("globals_dict_manager", f_globals="scope"),
    _access("framelocals_manager", key="local"),
    _access("dict_getitem_manager", key="term"),
    _access("grad_manager"),
    _access("generic_getattr_manager", attr="text"),
    _access("getitem_manager", key="term"),
    _access("get_generic_dict_manager"),
    _access("list_getitem_manager", key="term"),
    _access("tuple_getitem_manager", key="term"),
    _access("set_getitem_manager", index="term"),
    _access("func_defaults_manager"),
    _access("func_kwdefaults_manager"),
    _access("tuple_iterator_getitem_manager", index="term"),
    _access("call_function_no_args_manager"),
    _access("type_manager"),
    _access("getattr_manager", attr="text"),
    _access("lambda_manager", python_lambda="function"),
    _access("type_dict_manager"),
    _access("type_mro_manager"),
    _access("code_manager"),
    _access("closure_manager"),
    _access("get_key_manager", index="number"),
    _access("get_value_manager", index="number"),
    _leaf("add_lambda_guard", user_lambda="function"),
    _leaf("add_id_match_guard", id_val="identity"),
    _leaf("add_equals_match_guard", equals_val="term"),
    _leaf("add_global_state_guard", initial_state="state"),
    _leaf("add_torch_function_mode_stack_guard", initial_stack="empty"),
    _leaf("add_mapping_keys_guard", value="mapping"),
    _leaf("add_dict_length_check_guard", value="number"),
    _leaf("add_length_check_guard", value="number"),
    _leaf("add_true_match_guard"),
    _leaf("add_false_match_guard"),
    _leaf("add_none_match_guard"),
    _leaf("add_not_none_guard"),
    _leaf("add_dispatch_key_set_guard", dispatch_key="key_set"),
    _leaf("add_tensor_match_guard", value="tensor", sizes="term", strides="term", tensor_name="text"),
    _leaf("add_dimension_marking_guard", expected_attrs="term", absent_attrs="term", dependent_attrs="term"),
    _leaf("add_dynamic_indices_guard", value="term"),
    _leaf("add_no_hasattr_guard", attr_name="text"),
    _leaf("add_dict_contains_guard", contains="number", key="term"),
    _leaf("add_set_contains_guard", contains="number", item="term"),
    _leaf("add_type_match_guard", value="identity"),
    _leaf("add_dual_level_match_guard", level="number"),
    _leaf("add_float_is_nan_guard"),
    _leaf("add_complex_is_nan_guard"),
    _leaf("add_tuple_iterator_length_guard", length="number", type_id="identity"),
    _leaf("add_range_iterator_match_guard", start="number", stop="number", step="number", type_id="identity"),
    _leaf("add_default_device_guard"),
    Operation("mark_tag_safe", ()),
    Operation("mark_tag_safe_root", ()),
    _leaf("add_epilogue_lambda_guard", guard="function"),
    _leaf("install_object_aliasing_guard", function=True, x="manager", y="manager"),
    _leaf("install_no_tensor_aliasing_guard", function=True, guard_managers="managers", tensor_names="names"),
    _leaf(
        "install_storage_overlapping_guard",
        function=True,
        overlapping_guard_managers="managers",
        non_overlapping_guard_managers="managers",
    ),
)
NUMBERS: Final = {operation.name: number for number, operation in enumerate(OPERATIONS)}
_NOT_STORED: Final = frozenset({Operand.SCOPE, Operand.STACK, Operand.EMPTY, Operand.KEYS})
STORED: Final = tuple(tuple(s for _, s in o.operands if s not in _NOT_STORED) for o in OPERATIONS)

# Python functions used in guards and accessors: name -> types of its operands.
FUNCTIONS: Final[dict[str, tuple[type, ...]]] = {
    "module": (str,),  # accessor: the imported module of this name
    "from_numpy": (),  # accessor: the tensor over a NumPy array
    "item": (),  # accessor: x.item()
    "as_tensor": (),  # accessor: the tensor of a Python number
    "int": (),  # accessor: int(x)
    "dataclass_fields": (),  # accessor
    "namedtuple_fields": (),  # accessor
    "no_functorch": (),  # guard: no functorch transformation is on
    "no_inline_hooks": (),  # guard: no saved-tensor hooks that Dynamo would inline
    "count": (int,),  # guard: an itertools.count of (position of a term, a tuple)
    "foreach_types": (int,),  # guard: a list of torch's has these types, DTensor aside (position of a tuple)
    "pytree_nodes": (int,),  # guard: the table of pytree nodes (position of a tuple: the program's)
    "base_value": (str, int),  # guard: an instance of a subclass of int, float or str with this value
    "shapes": (str,),  # guard over all locals: statements in the language of `firebrick.guards.shapes`
}
BASES: Final = frozenset({"int", "float", "str"})
OF_NODES: Final = -2  # length of torch's pytree node table, which grows when the compiler is imported
FIND, SOURCE = 0, 1  # how an identity is found: by its name, or at the guard's source


class GuardProgram(NamedTuple):
    """A recorded guard program.

    Attributes:
        immutable_tensors: Dynamo configuration that torch's C++ code read while building the guards.
        saved_pointers: likewise.
        builtins: generated global through which guards reach the builtins; empty for none.
        imports: other generated globals and their modules.
        device: the default device that guards compare with, as a term; None for none.
        texts: names and sources.
        parts: texts of guards; ``"\\0"`` marks the address of the object in question.
        terms: values, as terms.
        identities: kind, name, digest and how to find the object (`FIND`, `SOURCE`).
        examples: of guarded values: identity of the type or -1, immutable, length of a dict (-1 for no dict,
            or `OF_NODES`).
        tensors: dtype, device type, device index or None, requires_grad, dispatch keys.
        functions: name and operands, as in `FUNCTIONS`.
        steps: operation, manager (0 is the root, -1 none), operands.
    """

    immutable_tensors: bool
    saved_pointers: int
    builtins: str
    imports: list[list[str]]
    device: Any
    texts: list[str]
    parts: list[list[str]]
    terms: list[Any]
    identities: list[list[Any]]
    examples: list[list[int]]
    tensors: list[list[Any]]
    functions: list[list[Any]]
    steps: list[list[Any]]


class GuardProgramCodec(Codec[GuardProgram]):
    """The codec of guard programs."""

    kind: ClassVar[Kind] = Kind.GUARD_PROGRAM

    def encode(self, value: GuardProgram, sink: Sink) -> bytes:
        """Return the body; EncodeError says where the program contradicts itself."""
        if type(value) is not GuardProgram:
            raise EncodeError(type(value).__name__, reason="not a guard program")
        body = pack(list(value), maps=False)
        try:
            self.decode(body, _no_children, self.version)
        except DecodeError as error:
            raise EncodeError("GuardProgram", reason=error.reason) from None
        return body

    def decode(self, data: bytes | memoryview, source: Source, version: int) -> GuardProgram:
        """Rebuild a program; every position in it is valid."""
        self.check_version(version)
        fields = unpack(data, _LIMITS)
        if type(fields) is not list or len(fields) != len(GuardProgram._fields):
            raise DecodeError("a guard program has 13 fields")
        program = GuardProgram(*fields)
        try:
            _check(program)
        except CodecError:
            raise
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise DecodeError(f"guard program: {type(error).__name__}: {error}") from None
        return program


def _no_children(key: Any) -> Any:
    raise DecodeError("a guard program has no children")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise DecodeError(f"guard program: {what}")


def _rows(rows: Any, *types: type | tuple[type, ...], what: str) -> None:
    _need(type(rows) is list, what)
    for row in rows:
        _need(type(row) is list and len(row) == len(types), what)
        for item, wanted in zip(row, types, strict=True):
            _need(type(item) in (wanted if isinstance(wanted, tuple) else (wanted,)), what)


def _check(program: GuardProgram) -> None:
    _need(type(program.immutable_tensors) is bool, "immutable_tensors")
    _need(type(program.saved_pointers) is int and program.saved_pointers >= 0, "saved_pointers")
    _need(type(program.builtins) is str, "builtins")
    _rows(program.imports, str, str, what="imports")
    _need(type(program.texts) is list and all(type(text) is str for text in program.texts), "texts")
    _need(type(program.parts) is list, "parts")
    for part in program.parts:
        _need(type(part) is list and all(type(text) is str for text in part), "parts")
    _rows(program.identities, str, str, str, int, what="identities")
    _need(all(row[3] in (FIND, SOURCE) for row in program.identities), "identities")
    identities = len(program.identities)
    _rows(program.examples, int, int, int, what="examples")
    for cls, immutable, length in program.examples:
        _need(-1 <= cls < identities and immutable in (0, 1) and OF_NODES <= length <= MAX_COUNT, "examples")
    _rows(program.tensors, str, str, (int, type(None)), bool, int, what="tensors")
    _need(all(row[4] >= 0 for row in program.tensors), "tensors")
    _need(type(program.terms) is list, "terms")
    _check_term(program.device, identities)
    for term in program.terms:
        _check_term(term, identities)
    _need(type(program.functions) is list, "functions")
    for function in program.functions:
        _need(type(function) is list and type(function[0]) is str, "functions")
        name, *operands = function
        _need(tuple(map(type, operands)) == FUNCTIONS[name], f"function {name!r:.40}")
        if FUNCTIONS[name][-1:] == (int,):
            _need(0 <= operands[-1] < len(program.terms), f"function {name}")
        _need(name != "base_value" or operands[0] in BASES, f"function {name}")
    _check_steps(program)


def _check_term(term: Any, identities: int) -> None:
    if type(term) is not list:
        _need(type(term) in (type(None), bool, int, float, str, bytes), "a term")
        return
    tag, *items = term
    if (types := _TERMS.get(tag)) is not None:
        _need(len(items) == len(types), f"term {tag}")
        for item, wanted in zip(items, types, strict=True):
            _need(type(item) in (wanted if isinstance(wanted, tuple) else (wanted,)), f"term {tag}")
        if tag in (Term.ENUM, Term.IDENTITY):
            _need(0 <= items[0] < identities, f"term {tag}")
        return
    count = _TERM_ITEMS[tag]
    _need(count in (_MANY, len(items)) and (tag != Term.DICT or not len(items) % 2), f"term {tag}")
    for item in items:
        _check_term(item, identities)


def _check_steps(program: GuardProgram) -> None:
    limits: dict[str, int] = {
        Operand.LOCAL: len(program.texts),
        Operand.TEXT: len(program.texts),
        Operand.STATE: len(program.texts),
        Operand.TEXTS: len(program.parts),
        Operand.NAMES: len(program.parts),
        Operand.TERM: len(program.terms),
        Operand.MAPPING: len(program.terms),
        Operand.EXAMPLE: len(program.examples),
        Operand.DICT: 2,
        Operand.IDENTITY: len(program.identities),
        Operand.TYPE: len(program.identities),
        Operand.TENSOR: len(program.tensors),
        Operand.KEY_SET: 1 << 64,
        Operand.FUNCTION: len(program.functions),
    }
    tables = [[limits.get(sort, 0) for sort in sorts] for sorts in STORED]
    special = [any(sort not in limits for sort in sorts) for sorts in STORED]
    managers = 1
    _need(type(program.steps) is list, "steps")
    for step in program.steps:
        number, manager, *operands = step
        if type(number) is not int or not 0 <= number < len(OPERATIONS):
            raise DecodeError(f"guard program: operation {number!r:.20}")
        operation, table = OPERATIONS[number], tables[number]
        lowest = -1 if operation.function else 0
        if type(manager) is not int or not lowest <= manager < (0 if operation.function else managers):
            raise DecodeError(f"guard program: manager of {operation.name}")
        if len(operands) != len(table):
            raise DecodeError(f"guard program: operands of {operation.name}")
        if special[number]:
            _check_special(operation.name, STORED[number], operands, managers, limits)
        else:
            for operand, limit in zip(operands, table, strict=True):
                if type(operand) is not int or not 0 <= operand < limit:
                    raise DecodeError(f"guard program: operand of {operation.name}")
        managers += operation.makes


def _check_special(
    name: str, sorts: tuple[str, ...], operands: list[Any], managers: int, limits: dict[str, int]
) -> None:
    fits: dict[str, Callable[[Any], bool]] = {
        Operand.NUMBER: lambda value: type(value) is int and value in INT64,
        Operand.MANAGER: lambda value: type(value) is int and 0 <= value < managers,
        Operand.MANAGERS: lambda value: (
            type(value) is list and all(type(item) is int and 0 <= item < managers for item in value)
        ),
    }
    for sort, operand in zip(sorts, operands, strict=True):
        limit = limits.get(sort)
        if limit is not None:
            _need(type(operand) is int and 0 <= operand < limit, f"operand of {name}")
        else:
            _need(fits[sort](operand), f"operand of {name}")
