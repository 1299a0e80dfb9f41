"""Backends restored without the compiler do what torch's own restored backends do.

One process compiles everything and notes what torch's functions do; a second one restores the lean form
from a store and must do the same, without ever importing the compiler.
"""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from support.places import PROGRAMS

pytestmark = pytest.mark.compiles

NAMES = (
    "layers", "without_gradients", "inference", "mutated_inputs", "mutated_with_gradients",
    "mutated_beside_autograd", "mutated_metadata", "mutated_metadata_with_gradients", "another_storage",
    "batch_norm", "views_of_inputs", "views_of_results", "views_of_results_without_gradients",
    "dynamic_shapes", "dynamic_shapes_without_gradients", "embedding", "scattered", "random_numbers",
    "random_numbers_of_aten", "convolution", "complex_numbers", "attention", "fallbacks", "inputs_only",
    "nothing_computed", "constants", "gradient_mode_left_off", "autocast", "losses", "planned_memory",
    "recurrent", "no_differentiable_tensor_saved", "products", "checked", "two_of_one", "data_dependent",
    "nonzero", "symbolic_views",
)  # fmt: skip
REFUSED = {"same_twice": "not lean: mutated inputs that share memory"}
DOUBLE = ["RuntimeError", "torch.compile with aot_autograd does not currently support double backward"]


def run(code, *args, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *args],
        cwd=PROGRAMS,
        env={**os.environ, **environment, "PYTHONPATH": str(PROGRAMS)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lean")
    compiler = folder / "g++-quick"
    compiler.write_text('#!/bin/sh\nexec g++ "$@" -O0\n')  # the kernels are the same on both sides
    compiler.chmod(0o700)
    saved, restored = {}, {"seen": {}, "modules": []}

    def both(names, folder):
        result, seen, store = (str(folder / name) for name in ("saved", "seen", "store"))
        run(
            "import backends, sys; backends.save(*sys.argv[1:3], sys.argv[3:])",
            result, store, *names,
            CXX=str(compiler),
            TORCHINDUCTOR_COMPILE_THREADS="1",
            TORCHINDUCTOR_CACHE_DIR=str(folder / "cache"),
        )  # fmt: skip
        run("import backends, sys; backends.load(*sys.argv[1:])", result, store, seen, PATH="/nowhere")
        saved.update(pickle.loads(Path(result).read_bytes()))
        found = pickle.loads(Path(seen).read_bytes())
        restored["seen"].update(found["seen"])
        restored["modules"] += found["modules"]

    with ThreadPoolExecutor() as pool:
        names = (*NAMES, *REFUSED)
        halves = [(names[0::2], folder / "even"), (names[1::2], folder / "odd")]
        for _, place in halves:
            place.mkdir()
        list(pool.map(lambda half: both(*half), halves))
    return saved, restored


def differences(first, second, place=""):
    """Yield where two observations differ."""
    if type(first) is not type(second):
        yield f"{place}: {first!r:.200} and {second!r:.200}"
    elif isinstance(first, dict):
        for key in first.keys() | second.keys():
            yield from differences(first.get(key), second.get(key), f"{place}.{key}")
    elif isinstance(first, list | tuple):
        if len(first) != len(second):
            yield f"{place}: {len(first)} and {len(second)} items"
        for index, pair in enumerate(zip(first, second, strict=False)):
            yield from differences(*pair, f"{place}[{index}]")
    elif torch.is_tensor(first):
        try:
            torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
        except AssertionError as error:
            yield f"{place}: {error}"
    elif first != second:
        yield f"{place}: {first!r:.200} and {second!r:.200}"


def expected(saved):
    """Give what must be seen: what torch did, but that a kept graph never fails for donated buffers."""
    wanted = {variant: seen for variant, (_, seen) in saved["seen"].items()}
    if saved["donated"]:
        once = wanted["backward"].get("backward")
        if "backward, retained" in wanted:
            wanted["backward, retained"]["backward, retained"] = [once, once]
        if "double backward" in wanted:
            wanted["double backward"]["double backward"] = DOUBLE
    return wanted


def test_the_compiler_stays_out(runs):
    assert runs[1]["modules"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_backend_does_what_torch_does(runs, name):
    saved, restored = runs[0][name], runs[1]["seen"][name]
    assert saved
    for backend, seen in zip(saved, restored, strict=True):
        assert "refused" not in backend, backend["refused"]
        assert list(differences(expected(backend), seen)) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_vocabulary_lacks_is_refused_by_name(runs, name):
    assert [backend.get("refused") for backend in runs[0][name]] == [REFUSED[name]]


def test_the_same_artifact_gives_the_same_bytes(runs):
    assert all(backend["again"] for saved in runs[0].values() for backend in saved if "key" in backend)


def test_the_cases_show_what_they_are_there_for(runs):
    saved = runs[0]
    assert saved["layers"][0]["donated"]
    assert saved["layers"][0]["kernels"] > 1
    assert saved["nothing_computed"][0]["kernels"] == 0
    graphs = [seen["outputs"][0]["graph"] for _, seen in saved["layers"][0]["seen"].values()]
    assert set(graphs) == {"CompiledFunctionBackward"}
    assert any(
        fact["base is"] is not None for fact in saved["views_of_inputs"][0]["seen"]["backward"][1]["outputs"]
    )
    errors = [
        seen["backward, twice"][0]
        for _, seen in saved["layers"][0]["seen"].values()
        if "backward, twice" in seen
    ]
    assert errors == ["RuntimeError"]
