"""Cases for the lane that does not import the compiler: what surrounds a served frame."""

import copy
import io
import os
import pickle
import threading
import warnings

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)
        self.register_buffer("count", torch.zeros(()))
        self.note = "kept"

    def forward(self, x):
        return self.second(self.first(x).relu())


def net(kind):
    torch.manual_seed(3)
    return kind()


def ones(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape) / 7


def add_function(x):
    return x.sin() + x.cos()


def function():
    return torch.compile(add_function)(ones(5))


def add_by_type(x):
    y = x * 2
    return y + 1 if type(y) is torch.Tensor and type(x).__module__ == "torch" else y


def tensor_type():
    return torch.compile(add_by_type)(ones(5))


@torch.compiler.disable
def aside(x):
    return x * 3


@torch.compiler.disable(recursive=False)
def shallow(x):
    return x - 1


def add_disabled(x):
    return shallow(aside(x.sin()) + 1) * 2


def disabled():
    return torch.compile(add_disabled)(ones(5)), aside(ones(2)), shallow(ones(2))


class ModuleNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


def module():
    compiled = torch.compile(net(ModuleNet))
    out = compiled(ones(3, 4))
    out.square().mean().backward()
    return out, [p.grad for p in compiled.parameters()]


class AttributesNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def attributes():
    """What can be seen of a compiled module; nothing here asks for the compiler."""
    model = net(AttributesNet)
    compiled = torch.compile(model)
    compiled(ones(3, 4))
    compiled.note = "changed"
    compiled.eval()
    with_hook = []
    handle = compiled.register_forward_hook(lambda *_: with_hook.append(1))
    compiled(ones(3, 4))
    handle.remove()
    compiled.train()
    return {
        "keys": sorted(compiled.state_dict()),
        "same": compiled._orig_mod is model,
        "note": model.note,
        "training": [model.training, compiled.training],
        "hook": with_hook,
        "names": sorted(name for name, _ in compiled.named_modules()),
        "dir": "first" in dir(compiled),
        "name": type(compiled._orig_mod).__name__,
        "repr": "Net" in repr(compiled),
        "buffers": [name for name, _ in compiled.named_buffers()],
        "parameters": sum(p.numel() for p in compiled.parameters()),
    }


class IsOptimizedModuleNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def is_optimized_module():
    from torch._dynamo import OptimizedModule

    compiled = torch.compile(net(IsOptimizedModuleNet))
    return compiled(ones(3, 4)), isinstance(compiled, OptimizedModule)


class InPlaceNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def in_place():
    model = net(InPlaceNet)
    model.compile()
    return model(ones(3, 4))


def decorated():
    @torch.compile
    def inner(x):
        return x.tanh() * 3

    return inner(ones(6))


class CopiedNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def copied():
    compiled = torch.compile(net(CopiedNet))
    twin = copy.deepcopy(compiled)
    with torch.no_grad():
        twin._orig_mod.first.weight.zero_()
    return compiled(ones(3, 4)), twin(ones(3, 4))


class PickledNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def pickled():
    compiled = torch.compile(net(PickledNet))
    twin = pickle.loads(pickle.dumps(compiled._orig_mod))
    return compiled(ones(3, 4)), torch.compile(twin)(ones(3, 4))


class SavedNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def saved():
    compiled = torch.compile(net(SavedNet))
    first, file = compiled(ones(3, 4)), io.BytesIO()
    torch.save(compiled, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    assert b"firebrick." not in file.getvalue()  # nothing of ours is needed to read it
    return first, sorted(twin.state_dict()), isinstance(twin._orig_mod, SavedNet), type(twin).__name__


def raising(x, wrong):
    y = x * 2
    if wrong:
        raise ValueError(f"wrong: {wrong}")
    return y


def exceptions():
    compiled = torch.compile(raising)
    first = compiled(ones(3), "")
    try:
        compiled(ones(3), "this")
    except ValueError as error:
        text = str(error)
    return first, text, compiled(ones(3), "")


def add_threads(x):
    return x.sin() + x.cos()


def threads():
    compiled = torch.compile(add_threads)
    found = {}

    def work(number):
        found[number] = compiled(ones(5) + number)

    every = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in every:
        thread.start()
    for thread in every:
        thread.join()
    return [found[n] for n in range(8)]


def depth(x, n):
    return x if n == 0 else depth(x + 1, n - 1) * 2


def recursion():
    return torch.compile(depth)(ones(3), 3)


def add_nested(x):
    return x.sin() + x.cos()


def nested():
    """A compiled function that calls another."""
    inner = torch.compile(add_nested)

    def outer(x):
        return inner(x * 2) + 1

    return torch.compile(outer)(ones(5))


def loop(x):
    for _ in range(3):
        x = x + 1
        print(end="")
        x = x * 2
    return x


def graph_breaks():
    return torch.compile(loop)(ones(3))


def generators():
    @torch.compile
    def total(x):
        return sum(part * n for n, part in enumerate(x.unbind()))

    return total(ones(4))


class GradModesNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


def grad_modes():
    compiled = torch.compile(net(GradModesNet))
    with torch.no_grad():
        quiet = compiled(ones(3, 4))
    out = compiled(ones(3, 4))
    out.sum().backward()
    return quiet, out, compiled.first.weight.grad


class RetainedNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


def retained():
    compiled = torch.compile(net(RetainedNet))
    x = ones(3, 4).requires_grad_()
    loss = compiled(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    return x.grad


def mutated(x, into):
    into.add_(x)
    return into.view(-1), x


def mutation():
    x, into = ones(2, 3), torch.zeros(2, 3)
    view, same = torch.compile(mutated)(x, into)
    return into, view._base is into, same is x, into._version


def add_two_shapes(x):
    return x.sin() + x.cos()


def two_shapes():
    """The second shape is dynamic: two specialisations."""
    compiled = torch.compile(add_two_shapes)
    return compiled(ones(7)), compiled(ones(8)), compiled(ones(9))


def add_fullgraph(x):
    return x.sin() + x.cos()


def fullgraph():
    return torch.compile(add_fullgraph, fullgraph=True)(ones(5))


def add_mode(x):
    return x.sin() + x.cos()


def mode():
    return torch.compile(add_mode, mode="max-autotune-no-cudagraphs")(ones(5))


def add_option(x):
    return x.sin() + x.cos()


def option():
    return torch.compile(add_option, options={"epilogue_fusion": False})(ones(5))


# What follows hands over to the compiler.


def add_new_type(x):
    return x.sin() + x.cos()


def new_type():
    """Run by the second process with a type of elements that the first did not have."""
    compiled = torch.compile(add_new_type)
    return compiled(ones(5)), compiled(ones(5).to(getattr(torch, os.environ["DTYPE"])))


def add_any_size(x):
    return x.sin() + x.cos()


def any_size():
    """As `new_type`, where the function is compiled for all sizes at once."""
    compiled = torch.compile(add_any_size, dynamic=True)
    new = getattr(torch, os.environ["DTYPE"])
    return compiled(ones(5)), compiled(ones(5).to(new)), compiled(ones(6).to(new)), compiled(ones(7).to(new))


def add_stance(x):
    return x.sin() + x.cos()


def stance():
    compiled = torch.compile(add_stance)
    first = compiled(ones(5))
    with torch.compiler.set_stance("force_eager"):
        second = compiled(ones(6))
    return first, second, compiled(ones(5))


def add_reset(x):
    return x.sin() + x.cos()


def reset():
    compiled = torch.compile(add_reset)
    first = compiled(ones(5))
    torch._dynamo.reset()
    return first, compiled(ones(5))


class RecompileAfterNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def recompile_after():
    """Served, then a guard fails, then both are used again."""
    compiled = torch.compile(net(RecompileAfterNet))
    first = compiled(ones(3, 4))
    other = compiled(ones(3, 4).requires_grad_())
    return first, other, compiled(ones(5, 4)), compiled(ones(3, 4))


def add_other_backend(x):
    return x.sin() + x.cos()


def other_backend():
    compiled = torch.compile(add_other_backend)
    first = compiled(ones(5))
    return first, torch.compile(add_other_backend, backend="eager")(ones(5)), compiled(ones(5))


def add_traced(x):
    return x.sin() + x.cos()


def traced():
    compiled = torch.compile(add_traced)
    first = compiled(ones(5))
    try:
        torch.jit.trace(compiled, (ones(5),))
    except RuntimeError as error:
        return first, str(error)[:60]
    return first, "no error"


class WarnedNet(Net):
    def forward(self, x):
        return self.second(self.first(x).relu())


@torch.no_grad()
def warned():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
        try:
            torch.compile(net(WarnedNet))(ones(3, 4))
        finally:
            handle.remove()
    return any("global" in str(w.message) and "hooks" in str(w.message) for w in seen)


@torch.no_grad()
def recurrent():
    """A module of torch that Dynamo runs as it is; its frame is one that all modules of torch share."""
    return torch.compile(nn.LSTM(4, 4))(ones(3, 2, 4))[0]


@torch.no_grad()
def linear():
    return torch.compile(nn.Linear(4, 4))(ones(3, 4))
