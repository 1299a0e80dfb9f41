"""What configures the compiler is told apart without importing it, and found again under the same facts."""

import contextlib

import pytest
import torch
import torch._dynamo.config as dynamo
import torch._inductor.config as inductor

from firebrick.torch_api import compiler_free
from firebrick.validity import configuration

PLAIN = {"mode": "'default'", "options": "None", "fullgraph": "False"}


def key(**changes):
    return configuration.ambient_key(PLAIN | {"dynamic": "None"} | changes)


@pytest.mark.parametrize(
    "change",
    [
        dynamo.patch(assume_static_by_default=False),
        inductor.patch(max_autotune=True),
        inductor.patch({"triton.cudagraphs": True}),
    ],
)
def test_what_a_program_changes_changes_the_key(change):
    before = key()
    with change:
        assert key() != before
    assert key() == before


@pytest.mark.parametrize(
    "change",
    [
        contextlib.nullcontext(),
        inductor.patch(max_autotune=inductor.max_autotune),
        inductor.patch(compile_threads=1),
        dynamo.patch(verbose=True),
    ],
)
def test_what_says_nothing_leaves_the_key(change):
    before = key()
    with change:
        assert key() == before


def test_what_dynamic_sets_while_a_frame_is_compiled_leaves_the_key():
    always, never = key(dynamic="True"), key(dynamic="False")
    with dynamo.patch(assume_static_by_default=False):
        assert key(dynamic="True") == always
    with dynamo.patch(assume_static_by_default=True, automatic_dynamic_shapes=False):
        assert key(dynamic="False") == never
        assert key(dynamic="True") != always
    assert len({always, never, key()}) == 3


@pytest.mark.parametrize("name", ["TORCHINDUCTOR_MAX_AUTOTUNE", "TORCH_COMPILE_X", "AOTINDUCTOR_X", "CI"])
def test_variables_of_the_compiler_change_the_key(monkeypatch, name):
    before = key()
    monkeypatch.setenv(name, "1")
    assert key() != before


@pytest.mark.parametrize("name", ["TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CIRCLE", "HOME_X"])
def test_other_variables_do_not(monkeypatch, name):
    before = key()
    monkeypatch.setenv(name, "/somewhere")
    assert key() == before


def test_frames_of_files_that_dynamo_passes_by_are_known_once_it_is_loaded():
    assert compiler_free.is_of_skipped_file(torch.nn.Module._call_impl.__code__)
    assert not compiler_free.is_of_skipped_file(key.__code__)
