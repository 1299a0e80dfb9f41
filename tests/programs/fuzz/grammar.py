"""Compose programs of parts, and edit one part of each.

A program's function adds up *chains*. A chain begins with a number from a value of `fuzz.parts`, which meets ``x`` in an
operation, and leads outwards through ways; its first layers stand in a second module, the others in the program.
"""

import dataclasses
import string

from edits.case import PRELUDE, Case
from fuzz.parts import VALUE, WAY
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

OPERATIONS = ("(x * $V)", "(x + $V)", "(torch.sin(x) * $V)", "(x - $V * 0.5)", "(torch.relu(x) * $V + 1)")
STYLES = {
    "function": "def f(x): return $E",
    "lambda": "f = lambda x: $E",
    "module": """
class Program(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.last = nn.Linear(2, 2)
    def forward(self, x): return self.last($E)
f = Program()""",
    "bound method": """
class Program:
    def run(self, x): return $E
f = Program().run""",
    "closure": """
def outer(g):
    def f(x): return g(x) * 2
    return f
f = outer(lambda x: $E)""",
    "default": "def inner(x): return $E\ndef f(x, g=inner): return g(x) + 1",
    "graph break": """
def f(x):
    y = $E
    torch._dynamo.graph_break()
    return y * 2 + $E""",
    "static": """
class Program:
    @staticmethod
    def run(x): return $E
f = Program.run""",
}
CALLS = {
    "forward": "def call(f): return f(torch.tensor([1.0, 2.0]))",
    "gradients": """
def call(f):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    result = f(x)
    result.sum().backward()
    parameters = getattr(f, "parameters", list)()
    return [result, x.grad, *(p.grad for p in parameters)]""",
    "two shapes": "def call(f): return [f(torch.tensor([1.0, 2.0])), f(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))]",
    "no_grad": """
def call(f):
    with torch.no_grad(): return f(torch.tensor([1.0, 2.0]))""",
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A part with its numbers.

    Attributes:
        part: of `VALUE` or `WAY`.
        numbers: for ``$K``, ``$L`` and ``$J``, all different.
    """

    part: object
    numbers: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Chain:
    """A value, an operation and ways, of which the first ``far`` layers stand in the second module."""

    layers: tuple[Layer, ...]
    operation: str
    far: int


@dataclasses.dataclass(frozen=True)
class Program:
    """What `f` adds up, what it is, and how it is called."""

    chains: tuple[Chain, ...]
    style: str
    calls: str

    def places(self):
        """Return where an edit can be made: chain, layer, name of the edit."""
        return [
            (c, n, edit.name)
            for c, chain in enumerate(self.chains)
            for n, layer in enumerate(chain.layers)
            for edit in layer.part.edits
        ]

    def render(self, place=None):
        """Return the program, the second module and the variables of both starts, after an edit or before it."""
        main, far, added, env, uses = [], [], [], ({}, {}), []
        for c, chain in enumerate(self.chains):
            inner = ""
            for n, layer in enumerate(chain.layers):
                module = "lib" if n < chain.far else "sys.modules[__name__]"
                words = dict(zip("KLJ", map(str, layer.numbers), strict=True))
                words |= {"N": f"{c}{n}", "E": inner, "M": module}
                edit = layer.part.edit(place[2]) if place and place[:2] == (c, n) else None
                text, inner = layer.part.render(words, edit)
                (far if n < chain.far else main).append(text)
                if n == 0:
                    inner = string.Template(chain.operation).substitute(V=inner)
                if edit and edit.added:
                    added.append(string.Template(edit.added).substitute(words))
                if edit and edit.env:
                    name, *values = (string.Template(text).substitute(words) for text in edit.env)
                    for side, value in zip(env, values, strict=True):
                        side.update({name: value} if value else {})
            uses.append(inner)
        style = string.Template(STYLES[self.style]).substitute(E=" + ".join(uses))
        return "\n".join([*main, *added, style, CALLS[self.calls]]) + "\n", "\n".join(far) + "\n", env


_HEAD = PRELUDE.replace("V = {version}\n", "import importlib.util\n")


class Pair(Case):
    """A program and an edit of it, in full text before and after.

    Attributes:
        program: which.
        place: of the edit: chain, layer, name; ``None``: no edit.
    """

    def __init__(self, program, place=None, without=()):
        main, far, env = program.render(place)
        own = (
            "no edit"
            if place is None
            else f"{program.chains[place[0]].layers[place[1]].part.name}: {place[2]}"
        )
        super().__init__("fuzz", own, main, env=env, same=True, files={"lib": far}, without=without)
        object.__setattr__(self, "program", program)
        object.__setattr__(self, "place", place)

    def text(self, version):
        """Return the program before (1) or after (2) the edit."""
        main, _, _ = self.program.render(self.place if version == 2 else None)
        return f"{_HEAD}import lib\nfrom lib import *\n{main}"

    def modules(self, version):
        """Return the second module before or after the edit."""
        _, far, _ = self.program.render(self.place if version == 2 else None)
        return {"lib": f"{_HEAD}{far}"}


NUMBERS = [1.25, 1.5, 1.75, 2.25, 2.5, 2.75, 3.25, 3.5, 3.75, 4.25]
_numbers = st.permutations(NUMBERS).map(lambda numbers: tuple(numbers[:3]))


def layers(parts):
    """Return a strategy of layers that are of these parts."""
    return st.builds(Layer, st.sampled_from(list(parts)), _numbers)


@st.composite
def chains(draw, part=None):
    """Draw a chain, which has a given part if there is one."""
    value, ways = draw(layers(VALUE.values())), draw(st.lists(layers(WAY.values()), max_size=3))
    if part is not None:
        layer = Layer(part, draw(_numbers))
        if part in VALUE.values():
            value = layer
        else:
            ways.insert(draw(st.integers(0, len(ways))), layer)
    found = (value, *ways)
    return Chain(found, draw(st.sampled_from(OPERATIONS)), draw(st.integers(0, len(found))))


@st.composite
def programs(draw, part=None):
    """Draw a program, which has a given part in its first chain if there is one."""
    found = (draw(chains(part)), *draw(st.lists(chains(), max_size=1)))
    return Program(found, draw(st.sampled_from(sorted(STYLES))), draw(st.sampled_from(sorted(CALLS))))


@st.composite
def groups(draw, least=3, most=8):
    """Draw a program and edits of it: pairs that are alike before the edit, the first without any."""
    program = draw(programs())
    places = program.places()
    fewest = min(least, len(places))
    chosen = draw(st.lists(st.sampled_from(places), min_size=fewest, max_size=most, unique=True))
    return [Pair(program), *(Pair(program, place) for place in chosen)]


@st.composite
def edited(draw, part, edit):
    """Draw a pair with this edit of this part."""
    program = draw(programs(part))
    place = next(p for p in program.places() if p[0] == 0 and part is _part(program, p) and p[2] == edit)
    return Pair(program, place)


def _part(program, place):
    return program.chains[place[0]].layers[place[1]].part


def draws(strategy, number, chosen):
    """Return so many different examples of a strategy, the same for the same seed."""
    found = {}

    @seed(chosen)
    @settings(
        max_examples=number * 2 + 20,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example):
        pairs = example if isinstance(example, list) else [example]
        found.setdefault(tuple((repr(p.program), p.place) for p in pairs), example)

    collect()
    examples = list(found.values())
    return examples[:: max(1, len(examples) // number)][:number]


def pairs(number, chosen):
    """Return at least so many pairs with an edit, and the pairs without one that go with them."""
    found, count = [], 0
    for group in draws(groups(), number // 2, chosen):
        if count >= number:
            break
        found += group
        count += len(group) - 1
    return found


def smaller(pair):
    """Yield pairs with the same edit in smaller programs, the smallest first."""
    for program, place in _smaller(pair.program, pair.place):
        yield Pair(program, place, pair.without)


def _smaller(program, place):
    edited = place and place[:2]
    if len(program.chains) > 1:
        for c, chain in enumerate(program.chains):
            if not place or place[0] == c:
                yield dataclasses.replace(program, chains=(chain,)), place and (0, *place[1:])
    for c, chain in enumerate(program.chains):
        for n in range(1, len(chain.layers)):
            if edited != (c, n):
                layers = (*chain.layers[:n], *chain.layers[n + 1 :])
                less = Chain(layers, chain.operation, chain.far - (n < chain.far))
                moved = place and place[0] == c and place[1] > n
                yield _with(program, c, less), (c, place[1] - 1, place[2]) if moved else place
        if chain.layers[0].part is not VALUE["literal"] and edited != (c, 0):
            literal = Layer(VALUE["literal"], chain.layers[0].numbers)
            yield _with(program, c, dataclasses.replace(chain, layers=(literal, *chain.layers[1:]))), place
        if chain.far:
            yield _with(program, c, dataclasses.replace(chain, far=0)), place
    for name, simplest in (("style", "function"), ("calls", "forward")):
        if getattr(program, name) != simplest:
            yield dataclasses.replace(program, **{name: simplest}), place


def _with(program, number, chain):
    chains = (*program.chains[:number], chain, *program.chains[number + 1 :])
    return dataclasses.replace(program, chains=chains)
