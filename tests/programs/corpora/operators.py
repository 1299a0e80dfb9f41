"""Operators, and what is listed like them: higher-order and custom ones, functions with own gradients.

The frame that is compiled is the same code for all of them, with another operator in its closure, so a store
has many bundles under one recipe.
"""

import importlib

from corpora.subject import gradients

INTERNAL = "torch.testing._internal"
DATABASES = {
    "op_db": f"{INTERNAL}.common_methods_invocations",
    "hop_db": f"{INTERNAL}.hop_db",
    "custom_op_db": f"{INTERNAL}.custom_op_db",
    "autograd_function_db": f"{INTERNAL}.autograd_function_db",
}


def through(operator):
    """Return a function that calls an operator."""

    def call(*args, **kwargs):
        return operator(*args, **kwargs)

    return call


class Operator:
    """One entry of a database, as a subject (see `corpora.subject`)."""

    def __init__(self, info):
        self._info = info
        self.name = info.formatted_name
        self._function = through(info.op)

    def supports(self, dtype):
        """Say whether the entry has samples of a dtype."""
        return self._info.supports_dtype(dtype, "cpu")

    def samples(self, dtype):
        """Return all samples, made anew."""
        train = self._info.supports_autograd and dtype in self._info.supported_backward_dtypes("cpu")
        inputs = self._info.sample_inputs("cpu", dtype, requires_grad=train)
        return [Call(self._function, sample) for sample in inputs]


class Call:
    """One call of an operator."""

    def __init__(self, function, sample):
        self.function, self._sample = function, sample

    def measure(self, function):
        """Return the result, the gradients, and what became of the arguments."""
        sample = self._sample
        arguments = [sample.input, sample.args, sample.kwargs]
        result = function(sample.input, *sample.args, **sample.kwargs)
        return [result, gradients(sample.output_process_fn_grad(result), arguments), arguments]


def subjects(database):
    """Return the subjects of a database."""
    entries = vars(importlib.import_module(DATABASES[database]))[database]
    return [Operator(info) for info in entries]
