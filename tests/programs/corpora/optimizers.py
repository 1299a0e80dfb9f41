"""Steps of torch's optimizers, with the arguments that torch lists and each implementation it names."""

import torch
from corpora.subject import seed

DATABASES = {"optim_db": "torch.testing._internal.common_optimizers"}
STEPS = 3


class Optimizer:
    """One class of optimizers, as a subject (see `corpora.subject`)."""

    def __init__(self, info):
        self._info = info
        self.name = info.optim_cls.__name__

    def supports(self, dtype):
        """Say whether parameters may have a dtype."""
        return dtype.is_floating_point and not self._info.only_supports_sparse_grads

    def samples(self, dtype):
        """Return optimizers with all arguments, made anew."""
        given = [item.kwargs for item in self._info.optim_inputs_func(device="cpu")]
        chosen = [{}, *({name: True} for name in self._info.supported_impls if name != "differentiable")]
        return [Steps(self._info, dtype, kwargs | more) for more in chosen for kwargs in given]


class Steps:
    """A few steps of one optimizer."""

    def __init__(self, info, dtype, kwargs):
        seed()
        self._params = [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((3, 4), (4, 2))]
        self._optimizer = info.optim_cls(self._params, **kwargs)
        self._closure = info.step_requires_closure
        self.function = self._optimizer.step

    def measure(self, function):
        """Return the parameters after some steps, and the optimizer's state."""
        for number in range(STEPS):
            seed(number)
            for param in self._params:
                param.grad = torch.randn_like(param)
            function(*([self._loss] if self._closure else []))
        return [self._params, self._optimizer.state_dict()]

    def _loss(self):
        return sum((param.detach() ** 2).sum() for param in self._params)


def subjects(database):
    """Return the classes."""
    from torch.testing._internal.common_optimizers import optim_db

    return [Optimizer(info) for info in optim_db]
