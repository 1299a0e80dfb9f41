"""CUDA graphs without the compiler, on a GPU: inference compiled with ``mode="reduce-overhead"``."""

import threading

import torch
from lean_cuda import CUDA, Mlp, digest, initialised, ramp
from torch import nn
from torch.nn import functional as F

_replay = torch.cuda.CUDAGraph.replay
_replays = []


def _counted(graph):
    _replays.append(graph)
    _replay(graph)


torch.cuda.CUDAGraph.replay = _counted


def replayed(case):
    """Run a case without gradients; its results, and whether graphs were replayed in it."""

    def run():
        _replays.clear()
        with torch.no_grad():
            values = case()
        return values, bool(_replays)

    run.__name__ = case.__name__
    return run


def graphed(function, **options):
    return torch.compile(function, mode="reduce-overhead", **options)


def inputs(count=5, *shape):
    return [ramp(*(shape or (32, 64))) * (n + 1) for n in range(count)]


def net():
    return initialised(Mlp).to(CUDA).eval()


@replayed
def forward():
    compiled = graphed(net())
    return [digest(compiled(x)) for x in inputs()]


@replayed
def kept():
    """As `forward`, with every result held to the end; torch's own graphs overwrite them."""
    compiled = graphed(net())
    results = [compiled(x) for x in inputs()]
    return [digest(result) for result in results]


@replayed
def threads():
    """As `forward`, each call in a thread of its own, several times; torch's graphs belong to one thread."""
    compiled, values = graphed(net()), {}

    def work(number, x):
        with torch.no_grad():
            for _ in range(20):
                found = digest(compiled(x))
                assert values.setdefault(number, found) == found

    workers = [threading.Thread(target=work, args=item) for item in enumerate(inputs())]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [values[number] for number in range(len(workers))]


@replayed
def steps():
    """What programs do with torch's graphs; the results of a step are used before the next."""
    compiled, seen = graphed(lambda x: x.exp() - x.sin()), []
    for x in inputs():
        torch.compiler.cudagraph_mark_step_begin()
        seen.append(digest(compiled(x) + 1))
    return seen


@replayed
def weights():
    model = net()
    compiled, seen = graphed(model), []
    for number, x in enumerate(inputs(8)):
        seen.append(digest(compiled(x)))
        if number == 2:
            for parameter in model.parameters():
                parameter.mul_(0.5)
        if number == 4:
            state = {name: value * 3 for name, value in model.state_dict().items()}
            model.load_state_dict(state, assign=True)
    return seen


@replayed
def dynamic():
    compiled, seen = graphed(lambda x: (x * x.shape[0]).softmax(-1), dynamic=True), []
    for rows in (8, 16, 8, 16, 8, 16, 24):
        seen.append(digest(compiled(ramp(rows, 64))))
    return seen


@replayed
def dropout():
    torch.manual_seed(5)
    compiled = graphed(lambda x: F.dropout(x * 2, 0.5))
    return [digest(compiled(x)) for x in inputs()], digest(torch.rand(4, device=CUDA))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(64))

    def forward(self, x):
        self.count.add_(x.sum(0))
        return self.count * 2


@replayed
def buffer():
    model = Counter().to(CUDA)
    compiled = graphed(model)
    return [[digest(compiled(x)), digest(model.count)] for x in inputs()]


@replayed
def parts():
    """A result that is made on the CPU, between two parts that are launched on the GPU."""

    def function(x):
        y = x.sin()
        return (y.cpu() + 1).to(CUDA) * y.cos()

    compiled = graphed(function)
    return [digest(compiled(x)) for x in inputs()]


@replayed
def convolution():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    compiled = graphed(initialised(lambda: model).to(CUDA).eval())
    torch.manual_seed(0)
    return [digest(compiled(x)) for x in inputs(5, 2, 3, 16, 16)]


@replayed
def streams():
    compiled, seen = graphed(lambda x: (x.sin() * x).cumsum(0)), []
    other = torch.cuda.Stream()
    for x in inputs(8):
        seen.append(digest(compiled(x)))
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            seen.append(digest(compiled(x + 1)))
        torch.cuda.current_stream().wait_stream(other)
    return seen


@replayed
def tuned():
    compiled = torch.compile(lambda x, y: (x @ y).relu(), mode="max-autotune")
    return [digest(compiled(x, ramp(64, 128))) for x in inputs()]


@replayed
def inference():
    compiled = graphed(lambda x: x.tanh() * 3)
    with torch.inference_mode():
        return [digest(compiled(x)) for x in inputs()]


def training():
    """Graphs with a backward, which the full lane serves."""
    model = initialised(lambda: nn.Linear(64, 8)).to(CUDA)
    compiled, seen = graphed(model), []
    for x in inputs():
        torch.compiler.cudagraph_mark_step_begin()
        out = compiled(x)
        out.square().mean().backward()
        seen += digest(out, *(p.grad for p in model.parameters()))
        model.zero_grad()
    return seen
