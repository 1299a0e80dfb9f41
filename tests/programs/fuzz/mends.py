"""The mends of Firebrick: what each takes to be taken out, and which edits then find that it is gone."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mend:
    """What keeps a kind of edit from being served stale, and how it is taken out.

    Attributes:
        name: of the mend.
        finds: edits that must be served stale without it, as `fuzz.run` or ``edits/run.py`` name them.
        changes: place (``module:qualified name``), text of its source, what stands there instead.
        also: mends that catch the same edits, and are taken out with it.
        caught: what else catches the same edits, and cannot be taken out; empty where an edit is found.
        kernels: ``fallback``, or ``cpp`` where ATen's show nothing.
    """

    name: str
    finds: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    also: tuple[str, ...] = ()
    caught: str = ""
    kernels: str = "fallback"


def _mend(name, finds, *changes, **more):
    return Mend(name, tuple(finds.split("; ")), changes, **more)


_CLASSES, _FUNCTIONS, _WALK = (
    "validity.classes:Classes",
    "validity.functions:Functions",
    "validity.reach:Walk",
)
_TRACED, _BUNDLES = "capture.traced:Traced", "loader.bundles:Bundles"
_DENY = "code that no walk meets"
_ENTRY = 'self.add(f"{path}.__defaults__[{number}]", value, whole=True)'


def _no_fact(name):
    return (f"{_TRACED}.fact", "fact = [", f"if name == {name}: return\n    fact = [")


def _no_refusal(text):
    return (f"{_TRACED}.refuse", "self.refused = ", f"if {text!r} in reason: return\n    self.refused = ")


_ALL = [
    # The walk: classes
    _mend(
        "order in which things are met",
        "super's order: bases behind turned round",
        (f"{_WALK}.finish", "in self.entries.items():", "in sorted(self.entries.items()):"),
        also=("bases of a class", "classes that guards compare"),
    ),
    _mend(
        "bases of a class",
        "order of bases: bases turned round; diamond: a diamond is turned; super's order: bases behind turned round",
        (f"{_CLASSES}.of_class", """self.note(f"class {label}", f"bases {', '.join(bases)}")""", "pass"),
        also=("order in which things are met", "classes that guards compare"),
    ),
    _mend(
        "what was absent",
        "class attribute: attribute overridden; method: override; hasattr of an object: attribute of a class appears; truth: __bool__ appears",
        (
            f"{_BUNDLES}._check_reach",
            "if found.digest != wanted.digest:",
            "if any(c[1] is not None for c in changes(self.part(Kind.TEXT, wanted.entries), found)):",
        ),
    ),
    _mend(
        "special methods that no name finds",
        "truth: __bool__ appears; truth: __len__ appears; equality: __eq__ appears",
        (f"{_CLASSES}._entries", 'special = name[:2] == "__" and name[-2:] == "__"', "special = False"),
    ),
    _mend(
        "members of enumerations",
        "IntEnum: member of an IntEnum; IntFlag: member of an IntFlag; member by name: member by name",
        (f"{_CLASSES}._kind", "if isinstance(cls, enum.EnumType):", "if False:"),
    ),
    _mend(
        "subclasses that are registered",
        "registered: registered",
        (f"{_CLASSES}.registrations", "if names:", "if False:"),
    ),
    _mend(
        "metaclass",
        "metaclass: another metaclass; metaclass: property of a metaclass; instance check: __instancecheck__ appears",
        (
            f"{_CLASSES}._kind",
            """self.note(f"class {label}", f"metaclass {self.of_class(type(cls))}")""",
            "pass",
        ),
    ),
    _mend(
        "classes of torch that were patched",
        "Sequential: Softsign.forward is patched; layers: Linear.forward is patched; function of torch: a method of Tensor is patched",
        (f"{_CLASSES}._entries", "if shipped:", "if shipped:\n            continue\n        if shipped:"),
    ),
    _mend(
        "values of class attributes",
        "dataclass made inside: default of a field; NamedTuple: default of a NamedTuple",
        (f"{_CLASSES}._entries", "member, whole=not shipped)", "member)"),
        also=("defaults",),
    ),
    _mend(
        "methods that make objects",
        "__init__: __new__ appears; __init__: __init__ appears",
        (f"{_TRACED}.makes", 'self.names |= {"__init__", "__new__", "__post_init__"}', "pass"),
        (
            f"{_TRACED}.inlined",
            "{*names, code.co_name}",
            "{*names, code.co_name} - {'__new__', '__init__', '__post_init__'}",
        ),
        caught="Dynamo makes objects by a polyfill whose code names these methods",
    ),
    _mend(
        "what methods run that are not traced",
        "ABC: __subclasshook__; hash seed: __hash__ of an object; metaclass: __instancecheck__ appears; metaclass: __subclasscheck__; metaclass: __class_getitem__",
        (f"{_CLASSES}._entries", "if not shipped and not self.whole:", "if False:"),
    ),
    _mend(
        "pytree nodes",
        "pytree: flatten; pytree: unflatten",
        (f"{_CLASSES}._kind", "if node is not None:", "if False:"),
        also=("code that no walk meets",),
        caught="torch's guards on the code of what is registered",
    ),
    # The walk: functions
    _mend(
        "code of functions",
        "function: code; list of lambdas: a lambda in a list; method: base method",
        (f"{_FUNCTIONS}.function", ", code {facts.digest}", ""),
    ),
    _mend(
        "defaults",
        "default: default; __init__: default of __init__; dataclass made inside: default of a field; method of an object made inside: default of __init__",
        (f"{_FUNCTIONS}._state", _ENTRY, "pass"),
    ),
    _mend(
        "keyword defaults",
        "method with what functions hold: keyword default of a method",
        (
            f"{_FUNCTIONS}._state",
            'self.add(f"{path}.__kwdefaults__[{name!r}]", value, whole=True)',
            "pass",
        ),
    ),
    _mend(
        "closures",
        "method with what functions hold: cell of a method; decorator: what a decorator was given",
        (f"{_FUNCTIONS}._state", 'self.cell(f"{path} closure {name}", cell)', "pass"),
        also=("code that no walk meets",),
    ),
    _mend(
        "globals of functions that were traced",
        "function: patched; default: default; global: global; builtin: hidden builtin",
        (f"{_FUNCTIONS}.function", "if facts.digest in self.scope.codes or", "if False or"),
    ),
    _mend(
        "builtins that a global hides",
        "builtin: hidden builtin; builtin that is a class: hidden builtin",
        (
            f"{_FUNCTIONS}.follow",
            "if name in scope:",
            "if name in builtins:\n            continue\n        if name in scope:",
        ),
    ),
    _mend(
        "builtins that were patched",
        "rare builtin: patched builtin; builtins: patched",
        (f"{_FUNCTIONS}.follow", 'self.add(f"builtins.{name}", value)', "pass"),
        caught="torch's guards on the builtins that it folds",
    ),
    _mend(
        "functions of torch and Python that were patched",
        "function of torch: a function of torch is patched; function of torch: a function of torch for another; Sequential: a layer's function is patched",
        (f"{_FUNCTIONS}.is_patched", "kind = type(value)", "return False\n    kind = type(value)"),
        also=("functions that the graph calls",),
        caught="torch's guards on the code of a function",
    ),
    _mend(
        "functions of torch in another's place",
        "function of torch: a function of torch for another; torch: one method of torch for another; torch patched: a method of Tensor for another",
        ("validity.functions:_is_in_place", "if path.startswith", "return True\n    if path.startswith"),
        ("validity.reach:roots_changed", "return [", "return []\n    return ["),
    ),
    _mend(
        "functions that the graph calls",
        "function of torch: defaults of a function of torch; torch patched: defaults of F.layer_norm; torch patched: code of a function",
        ("validity.reach:roots_changed", "return [", "return []\n    return ["),
    ),
    _mend(
        "attributes of functions",
        "method with what functions hold: attribute of a method",
        (f"{_FUNCTIONS}._state", "for name, value in vars(function).items():", "for name, value in ():"),
        caught="torch's guards on the attribute",
    ),
    _mend(
        "annotations",
        "annotations: annotations",
        (f"{_FUNCTIONS}._state", 'if "__annotations__" in self.scope.names', "if False"),
    ),
    _mend(
        "descriptors",
        "property: getter; class method: static method; class method: override of a class method; method that a property gives: getter",
        (f"{_FUNCTIONS}.descriptor", "kind = type(value)", "kind = None"),
        also=(_DENY, "classes that guards compare"),
        caught="torch's guards on entries of the dictionaries of classes",
    ),
    _mend(
        "marks of functions",
        "what the compiler is told: disable is new; what the compiler is told: disable is taken back; what the compiler is told: disable of a method",
        (
            f"{_FUNCTIONS}.function",
            'marks.append("disabled" if recursive else "disabled, not recursively")',
            "pass",
        ),
        caught="guards on the code of what stands for the function",
    ),
    # The walk: objects
    _mend(
        "what a partial was given",
        "functions in a class: argument of a partial in a class",
        (f"{_WALK}._object", "(*value.args, value.keywords), whole=True)", "())"),
        caught="torch's guards on `args` and `keywords`",
    ),
    _mend(
        "the function of a partial",
        "functions in a class: function of a partial in a class",
        (f"{_WALK}._object", 'self.add(f"{path}.func", value.func)', "pass"),
        also=("code that no walk meets",),
        caught="torch's guards on the code of `func`",
    ),
    _mend(
        "the function of a cached one",
        "functions in a class: cached function in a class",
        (f"{_WALK}._object", 'self.add(f"{path}.__wrapped__", value.__wrapped__)', "pass"),
        also=("code that no walk meets",),
        caught="torch's guards on the code of `__wrapped__`",
    ),
    _mend(
        "bound methods",
        "bound method in a class: object of a bound method in a class; bound method in a class: function of a bound method in a class",
        (f"{_WALK}._object", 'self.add(f"{path}.__func__", value.__func__)', "pass"),
        (f"{_WALK}._object", 'self.add(f"{path}.__self__", value.__self__)', "pass"),
        also=("code that no walk meets",),
        caught="torch's guards on `__self__` and `__func__`",
    ),
    _mend(
        "sameness",
        "sameness: two are one; sentinel: default is exchanged; layers: a shared layer",
        (f"{_WALK}._visit", 'self.note(path, f"is {first}")', "pass"),
    ),
    _mend(
        "hooks of modules",
        "module: forward hook; module: forward pre-hook; module with a hook: a hook's constant; module with a hook's cell: a hook's cell; layers: a hook of a layer",
        (f"{_WALK}._nn_module", "elif name in _HOOKS:", "elif name in _HOOKS and False:"),
    ),
    _mend(
        "hooks of all modules",
        "module: hook of all modules; hook elsewhere: of all modules",
        (f"{_WALK}.root", "for name, hooks in vars(nn_module).items():", "for name, hooks in ():"),
    ),
    _mend(
        "forward of an instance",
        "module: forward of an instance",
        (f"{_WALK}._nn_module", "elif self.counts(name) or name in CALLED:", "elif False:"),
        caught="torch's guards on what the dictionary of an instance contains",
    ),
    _mend(
        "attributes of modules",
        "module: forward of an instance; module with settings: switch",
        (f"{_WALK}._nn_module", "elif self.counts(name) or name in CALLED:", "elif False:"),
        caught="torch's guards on what the dictionary of an instance contains, and on its items",
    ),
    _mend(
        "modules in modules",
        "Sequential: Softsign.forward is patched; Sequential: order of layers; layers: a hook of a layer",
        (f"{_WALK}._nn_module", 'self.add(f"{path}.{key}", item)', "pass"),
        also=("code that no walk meets",),
    ),
    _mend(
        "attributes of objects",
        "method: a method of the instance; hasattr of an object: attribute of an object appears",
        (f"{_WALK}._instance", "if self.counts(name):\n", "if False:\n"),
        caught="torch's guards on what the dictionary of an instance contains, and on its items",
    ),
    _mend(
        "slots of objects",
        "function in a slot: function in a slot; slots: slot",
        (f"{_WALK}._instance", "if type(member) is types.MemberDescriptorType and", "if False and"),
        also=("classes that guards compare",),
        caught="torch's guards on the slot",
    ),
    _mend(
        "the class of an object",
        "method: the class is set; method: bases are set",
        (f"{_WALK}._instance", 'self.note(path, f"a {self.of_class(kind)}")', "pass"),
        also=(_DENY, "classes that guards compare"),
        caught="torch's guards on types",
    ),
    _mend(
        "what stands in containers",
        "module with a hook: a hook's constant; module with a hook's cell: a hook's cell; list of lambdas: a lambda in a list",
        (f"{_WALK}._container", "if base is not None:", "if False:"),
        also=("code that no walk meets",),
        caught="torch's guards on items",
    ),
    _mend(
        "items of sets",
        "sum of a set: item of a set; set: item of a set",
        (f"{_WALK}._set", """self.note(path, "{" + ", ".join(sorted(plain)) + "}")""", "pass"),
        caught="torch's guards on the set",
    ),
    _mend(
        "that a value is there",
        "absent attribute of a module: attribute of a module appears; absent global: global appears; hasattr of an object: attribute of an object appears",
        (f"{_CLASSES}.named", 'self.note(path, peculiarity(value) or "there")', "self.add(path, value)"),
    ),
    # Values
    _mend(
        "the sign of a zero that guards compare",
        "sign of zero: sign of zero; exact: -0.0 in an attribute",
        (
            "validity.exact:peculiarity",
            "if kind is float:",
            "if kind is float:\n        return ''\n    if kind is float:",
        ),
    ),
    _mend(
        "what equality does not see in tuples",
        "type in a tuple: type in a tuple; sign of zero in a tuple: sign of zero in a tuple",
        ("validity.exact:peculiarity", "if kind in (tuple, frozenset):", "if False:"),
    ),
    _mend(
        "the bits of values",
        "sign of zero in a default: sign of zero in a default; default: default",
        ("validity.exact:exact", "text = repr(value)", "text = repr(value).strip('-')"),
    ),
    _mend(
        "the types of values",
        "type in a set: type in a set; equal values: 1 and 1.0 in a default",
        ("validity.exact:exact", "text = repr(value)", "text = repr(value).removesuffix('.0')"),
    ),
    _mend(
        "members of enumerations by name",
        "member in a default: another member in a default",
        ("validity.exact:exact", ".{value._name_}", ""),
        also=("sameness",),
        caught="the members of the class, entry by entry",
    ),
    _mend(
        "state of tensors",
        "leaf: leaf; tensor: grad_fn; tensor: is_leaf",
        ("validity.tensors:tensor_state", "found = []", "return ''\n    found = []"),
    ),
    # What Dynamo looked at
    _mend(
        "names that code makes",
        "method by a name that is made: override of a name that is made; name made from parts: override of a name that is made",
        ("torch_api.tracing:_builtin", "traced.names.add(name)", "pass"),
        caught="torch's guards on the attribute; code of the name that is inlined names it",
    ),
    _mend(
        "texts as names",
        "string method: name of a function; member by name: member by name; absent attribute of a module: attribute of a module appears",
        ("validity.code_facts:names_in", "names.add(text)", "pass"),
        ("torch_api.tracing:_builtin", "traced.names.add(name)", "pass"),
    ),
    _mend(
        "code that no walk meets",
        "property: getter; method that a property gives: getter; pytree: unflatten",
        (f"{_TRACED}.walk", "if not (shipped or", "if False and not (shipped or"),
        also=("descriptors", "pytree nodes", "classes that guards compare"),
        caught="torch's guards on code",
    ),
    _mend(
        "constants by contract",
        "constant: assume_constant_result; constant by contract: a function's cell; constant by contract: with an argument",
        _no_refusal("declared to be constant"),
    ),
    _mend(
        "calls of which it is not known what they depend on",
        "reflection: sys.flags and the like; reflection: callable; absent until now: a module in sys.modules",
        _no_refusal("of which it is not known"),
        caught="nothing that is known: no call of the corpora is on neither list",
    ),
    _mend(
        "going through the whole environment",
        "whole environment: variable set for the first time; values of the whole environment: variable changed",
        _no_refusal("the whole environment"),
        caught="guards on the length, and the variables that are read on the way",
    ),
    _mend(
        "order of objects that hash by address",
        "hash seed: layers in a set; hash seed: __hash__ of an object",
        _no_refusal("another in each process"),
        also=("hash seed",),
    ),
    _mend(
        "classes that guards compare",
        "super's order: bases behind turned round",
        ("guards.identity_guards:Describer._class", "hasher = Hasher()", "return b''\n    hasher = Hasher()"),
        ("guards.identity:_class_digest", "hasher = Hasher()", "return ''\n    hasher = Hasher()"),
        also=("bases of a class", "order in which things are met"),
    ),
    _mend(
        "the whole walk",
        "module: forward hook; method: override; IntEnum: member of an IntEnum; registered: registered; annotations: annotations; truth: __bool__ appears",
        (f"{_BUNDLES}.usable", "if manifest.reached is not None:", "if False:"),
    ),
    # Facts
    _mend(
        "environment",
        "environment: variable set for the first time; environment by in: variable set for the first time; environment by getenv: variable set for the first time; environment by getenv: variable changed",
        _no_fact("'environment'"),
    ),
    _mend(
        "packages that are there",
        "absent until now: find_spec of a module; absent: find_spec",
        _no_fact("'find_spec'"),
    ),
    _mend(
        "versions of packages",
        "version of a package: version of a package",
        _no_fact("'package version'"),
    ),
    _mend(
        "hash seed",
        "order of a set: hash seed; hash of a text: hash seed",
        _no_fact("HASH_SEED"),
    ),
    _mend(
        "what Dynamo folds",
        "limit of recursion: limit of recursion; tensor: the type of autocast while it is off",
        (f"{_TRACED}.folded", "self.fact(path, arguments)", "pass"),
    ),
    _mend(
        "operators of torch that were changed",
        "torch: a kernel of aten is overridden; operator otherwise: of aten, overridden; operator otherwise: of aten, by autograd",
        _no_fact("OVERRIDES"),
    ),
    _mend(
        "meaning of operators",
        "operator: the fake's layout, by Library; operator: the fake's shape, by Library; operator otherwise: its autocast; operator otherwise: a fake that asks a helper",
        ("capture.recorder:Compilation.reach", "self.tracing.fact(OPERATOR, [operator])", "pass"),
    ),
    _mend(
        "operators that torch takes apart",
        "operator otherwise: a composite one",
        (
            "capture.recorder:Recorder._check_operators",
            "if compilation.devices.opaque:",
            "return\n    if compilation.devices.opaque:",
        ),
        also=("meaning of operators",),
    ),
    # The recipe
    _mend(
        "code of the frame",
        "literal: literal; tuple: item; sum of a set: item of a set",
        ("bundle.recipe:make_recipe", '"function.code": code_digest(code).hex(),', '"function.code": "",'),
    ),
    _mend(
        "options of torch.compile",
        "options of torch.compile: an option of Inductor; options of torch.compile: fullgraph; custom pass: post_grad_custom_post_pass by options, edited",
        ("bundle.recipe:make_recipe", '**{f"options.{name}": text for name, text in options.items()},', ""),
    ),
    _mend(
        "custom passes and other functions of the compiler",
        "passes: a custom pass is edited; custom pass otherwise: its cell; custom pass: joint_custom_post_pass is edited",
        ("validity.compiler_code:named_digest", " {whole_digest(value)}", ""),
    ),
    _mend(
        "custom passes where there were none",
        "passes: a custom pass where there was none; custom pass: joint_custom_pre_pass where there was none",
        ("validity.configuration:_ignored", "if not name.startswith(_HANDLED_ELSEWHERE)", ""),
    ),
    _mend(
        "registrations of the compiler",
        "decomposition: one of the program; decomposition: one where there was none; decomposition: one is taken away",
        ("validity.registrations:registrations", "return ", "return ''\n    return "),
    ),
    _mend(
        "torch's own functions in another's place",
        "torch's own in another's place: a decomposition for another; torch's own in another's place: a lowering for another",
        ("validity.registrations:_is_of_another", "return key not in", "return False and key not in"),
        ("validity.registrations:_is_new", "return noted is not function and", "return False and"),
    ),
    _mend(
        "patterns of the program",
        "pattern: one where there was none; pattern: another handler",
        ("validity.registrations:registrations", "*_in_patterns(), ", ""),
    ),
    _mend(
        "patches of the compiler",
        "patch of the compiler: a function; patch of the compiler: a method; patch of the compiler: another body of a patch",
        ("validity.registrations:registrations", ", *changed_code()", ""),
    ),
    _mend(
        "the compiler's environment",
        "instructions of the CPU: without vectors",
        ("validity.configuration:compiler_environment", "return ", "return ''\n    return "),
        kernels="cpp",
    ),
]
MENDS = {mend.name: mend for mend in _ALL}
