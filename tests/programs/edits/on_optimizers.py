"""Edits of optimizers whose compiled steps hold their tensors: which these are is known again, and compared."""

import dataclasses

from edits.case import faces

_PROGRAM = """
def make():
    torch.manual_seed(0)
    a, b = (nn.Parameter(torch.randn(3)) for _ in range(2))
    return [a, b]
params = make()
DEFINED
opt = MADE
SETUP
x = torch.ones(3)
def program():
    step = torch.compile(opt.step)
    for n in range(3):
        for k, p in enumerate(params):
            p.grad = torch.full_like(p, 0.5 + k)
        step()
    return [p.detach().clone() for p in params]
"""
_SGD = "torch.optim.SGD(params, lr=0.1, momentum=0.9)"


def _face(made=_SGD, defined="", setup="", **more):
    return {"DEFINED": defined, "MADE": made, "SETUP": setup, **more}


CASES = faces(
    "tensors of an optimizer",
    _PROGRAM,
    {
        "groups": _face(
            "torch.optim.SGD([{'params': params[:1]}, {'params': params[1:], 'lr': 0.1 * V}], lr=0.1)"
        ),
        "another group": _face(
            "torch.optim.SGD([{'params': params[:1], 'lr': 0.3}, {'params': params[1:]}] if V == 1 else"
            " [{'params': params[1:], 'lr': 0.3}, {'params': params[:1]}], lr=0.1)",
            says="param_groups|params",
        ),
        "a parameter is out": _face("torch.optim.SGD(params if V == 1 else params[:1], lr=0.1)"),
        "a parameter is another's view": _face(
            setup="if V == 2: params[1].data = params[0].data", says="params|memory"
        ),
        "the shape of a parameter": _face(
            defined="if V == 2: params[0] = nn.Parameter(torch.randn(4))", says="params|size|tensor"
        ),
        "the dtype of a parameter": _face(
            defined="if V == 2: params[0] = nn.Parameter(torch.randn(3).double())", says="params|dtype|tensor"
        ),
        "what an own optimizer keeps": _face(
            "Own(params)",
            """
class Own(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.first = 1. * V
    def _init_group(self, group, params, grads, sums):
        for p in group["params"]:
            params.append(p)
            grads.append(p.grad)
            if "sum" not in self.state[p]:
                self.state[p]["sum"] = torch.full_like(p, self.first)
            sums.append(self.state[p]["sum"])
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params, grads, sums = [], [], []
            self._init_group(group, params, grads, sums)
            for p, g, s in zip(params, grads, sums):
                s.add_(g)
                p.sub_(s * group["lr"])
""",
            says="first|self|opt|args",
        ),
        "how an own optimizer begins": _face(
            "Own(params)",
            """
class Own(torch.optim.SGD):
    def _init_group(self, group, params, grads, buffers):
        for p in group["params"]:
            params.append(p)
            grads.append(p.grad)
            self.state[p].setdefault("momentum_buffer", torch.full_like(p, 1. * V))
            buffers.append(self.state[p]["momentum_buffer"])
        return False
    def __init__(self, params):
        super().__init__(params, lr=0.1, momentum=0.9)
""",
            says="_init_group|Own",
        ),
        "the order of the state": _face(
            setup="""
for k in [0, 1] if V == 1 else [1, 0]:
    opt.state[params[k]]["momentum_buffer"] = torch.full_like(params[k], 1. + k)
""",
            says="state|params",
        ),
    },
)
CASES[-1] = dataclasses.replace(CASES[-1], same=True)  # the numbers are the same in any order
