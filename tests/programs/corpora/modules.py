"""Modules of torch.nn with the arguments and inputs that torch lists, for training and for evaluation."""

from corpora.subject import gradients, seed

DATABASES = {"module_db": "torch.testing._internal.common_modules"}


class Module:
    """One class of modules in one mode, as a subject (see `corpora.subject`)."""

    def __init__(self, info, training):
        self._info, self._training = info, training
        self.name = info.formatted_name + ("" if training else "_eval")

    def supports(self, dtype):
        """Say whether the class has inputs of a dtype."""
        return dtype in self._info.supported_dtypes("cpu")

    def samples(self, dtype):
        """Return all modules with their inputs, made anew."""
        options = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": self._training}
        inputs = self._info.module_inputs_func(self._info, **options)
        return [
            Forward(self._info.module_cls, dtype, self._training, given)
            for given in inputs
            if given.forward_input is not None
        ]


class Forward:
    """One module and one call of it."""

    def __init__(self, kind, dtype, training, given):
        seed()
        arguments = given.constructor_input
        self.function = kind(*arguments.args, **arguments.kwargs).to(dtype).train(training)
        self._given = given.forward_input

    def measure(self, function):
        """Return the result, the gradients, and what became of arguments, parameters and buffers."""
        arguments = [self._given.args, self._given.kwargs]
        result = function(*self._given.args, **self._given.kwargs)
        state = dict(self.function.state_dict(keep_vars=True))
        return [result, gradients(result, [arguments, state]), arguments, state]


def subjects(database):
    """Return the classes, in one or two modes."""
    from torch.testing._internal.common_modules import module_db

    modes = {True: (True, False), False: (True,)}
    return [Module(info, mode) for info in module_db for mode in modes[bool(info.train_and_eval_differ)]]
