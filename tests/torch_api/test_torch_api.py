"""What is private of torch is declared for every minor, and nothing of it is read with a default."""

import importlib
import inspect
import sys
from types import SimpleNamespace

import pytest
import torch

from firebrick import torch_api
from firebrick.errors import NotLean, Unsupported
from firebrick.torch_api.minors import PRESENT, has, minor_of
from support.programs import start

STUB = """
import sys
__version__ = "2.99.0+stub"
class Compiler:
    pass
compile = disable = lambda *args, **kwargs: "torch's own"
"""
ENABLE = """
import json, os, sys, warnings
sys.path.insert(0, os.environ["STUB"])
before = list(sys.meta_path)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    {steps}
import torch, firebrick
print(json.dumps({{
    "warnings": [str(warning.message) for warning in seen],
    "folder": os.path.exists(os.environ["STORE"]),
    "finders": len(sys.meta_path) - len(before),
    "compile": torch.compile(None),
    "heavy": sorted({{"lmdb", "msgpack"}} & sys.modules.keys()),
    "faults": sum(firebrick.stats().faults.values()),
}}))
"""


@pytest.fixture
def stub(tmp_path):
    """Return a way to run a program beside a torch that nobody knows."""
    folder = tmp_path / "stub" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(STUB)
    (folder / "version.py").write_text("__all__ = []\n__version__ = '2.99.0+stub'\n")

    def run(steps, **env):
        env = {"STUB": str(folder.parent), "STORE": str(tmp_path / "store"), **env}
        code = ENABLE.format(steps=steps.replace("\n", "\n    "))
        return start(["-c", code], home=tmp_path / "home", env=env)

    return run


class TestAnotherTorch:
    @pytest.mark.parametrize(
        "steps",
        [
            "import torch, firebrick\nfirebrick.enable(os.environ['STORE'])",
            "import firebrick\nfirebrick.enable(os.environ['STORE'])\nimport torch",
            "import firebrick\nfor _ in range(3): firebrick.enable(os.environ['STORE'])",
            "import torch, firebrick._autoload\nfirebrick._autoload.autoload()",
            "import firebrick, torch\nfirebrick.compile(None)\nfirebrick.compile(None)",
        ],
    )
    def test_is_left_alone_with_one_warning_that_names_those_that_are_known(self, stub, tmp_path, steps):
        finished = stub(steps, FIREBRICK_CACHE_DIR=str(tmp_path / "store"))
        assert finished.returncode == 0, finished.stderr
        (warning,) = finished.report["warnings"]
        for version in ("2.99.0", *torch_api.MINORS):
            assert version in warning
        del finished.report["warnings"]
        assert finished.report == {
            "folder": False, "finders": 0, "compile": "torch's own", "heavy": [], "faults": 1,
        }  # fmt: skip

    def test_is_an_error_in_strict_mode(self, stub):
        steps = "import firebrick\nfirebrick.enable(os.environ['STORE'], strict=True)"
        finished = stub(steps)
        assert finished.returncode != 0
        assert "Unsupported: not supported: torch 2.99.0+stub; supported are 2.11" in finished.stderr

    def test_is_an_error_of_its_import_in_strict_mode(self, stub, tmp_path):
        steps = "import torch, firebrick._autoload\nfirebrick._autoload.autoload()"
        finished = stub(steps, FIREBRICK_CACHE_DIR=str(tmp_path / "store"), FIREBRICK_STRICT="1")
        assert finished.returncode != 0
        assert "Unsupported: not supported: torch 2.99.0+stub" in finished.stderr
        assert not (tmp_path / "store").exists()

    def test_sees_nothing_of_an_import_of_firebrick(self, stub):
        steps = (
            "modules, path, environment = set(sys.modules), list(sys.path), dict(os.environ)\n"
            "import firebrick\n"
            "new = set(sys.modules) - modules\n"
            "new = {name for name in new if name.split('.')[0] not in ('importlib', '__future__')}\n"
            "assert new == {'firebrick'}, new\n"
            "assert (path, environment, before) == (sys.path, dict(os.environ), sys.meta_path)"
        )
        finished = stub(steps)
        assert finished.returncode == 0, finished.stderr
        assert finished.report["warnings"] == []

    def test_older_than_all_that_are_known_is_never_tried(self, stub, tmp_path):
        old = tmp_path / "stub" / "torch" / "version.py"
        old.write_text(old.read_text().replace("2.99", "2.9"))
        steps = "import firebrick\nfirebrick.enable(os.environ['STORE'], unknown_torch='try')"
        finished = stub(steps)
        assert ["torch 2.9.0+stub; supported are" in text for text in finished.report["warnings"]] == [True]

    def test_that_lacks_a_name_is_an_error_in_strict_mode(self, tmp_path, monkeypatch):
        from firebrick.session.session import Session
        from firebrick.settings import Settings

        error = Unsupported("torch lacks a name")
        with pytest.raises(Unsupported):
            Session(Settings(strict=True), tmp_path).stand_aside(error)
        with pytest.warns(RuntimeWarning, match="standing aside: not supported: torch lacks a name"):
            Session(Settings(), tmp_path).stand_aside(error)


TRIED = """
import json, os, sys, warnings
import torch, firebrick, firebrick.torch_api as api
api.MINORS = api.MINORS[: api.MINORS.index(api.minor_of(torch.__version__)) + 1]
torch.__version__ = "2.99.0"
{steps}
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    firebrick.enable(os.environ["STORE"], unknown_torch="try", self_test=False)
result = torch.compile(lambda x: x.sin() + 1)(torch.ones(4))
print(json.dumps({{
    "warnings": [str(warning.message) for warning in seen],
    "folder": os.path.exists(os.environ["STORE"]),
    "stats": firebrick.stats().as_dict(),
}}))
"""


class TestATorchThatIsTried:
    @pytest.fixture
    def tried(self, tmp_path):
        def run(steps=""):
            env = {"STORE": str(tmp_path / "store"), "TORCHINDUCTOR_FALLBACK_BY_DEFAULT": "1"}
            finished = start(["-c", TRIED.format(steps=steps)], home=tmp_path / "home", env=env)
            assert finished.returncode == 0, finished.stderr
            (warning,) = finished.report["warnings"]
            return warning, finished.report

        return run

    def test_serves_in_the_full_lane_and_audits_each_hit_where_its_surface_is_known(self, tried):
        warning, first = tried()
        assert warning.startswith("firebrick: trying torch 2.99.0 as if it were 2.1")
        assert first["stats"]["stored"] == 1
        second = tried()[1]["stats"]
        assert (second["hits"], second.get("lean_hits", 0), second["audited"]) == (1, 0, 1)

    def test_is_left_alone_where_its_surface_differs(self, tried):
        steps = (
            "from firebrick.torch_api import surface\n"
            "tables = surface.read_tables()\n"
            "tables[0] = tables[0]._replace(entries=tables[0].entries[1:])\n"
            "surface.read_tables = lambda: tables"
        )
        warning, report = tried(steps)
        assert "standing aside" in warning and "1 names differ: input_info (new)" in warning
        assert not report["folder"]


def value_of(name):
    """Tell whether the installed torch has what a declared name stands for."""
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    if path.startswith("<"):
        return path[1:-1] in inspect.getsource(found)
    for part in path.split("."):
        fields = getattr(found, "__dataclass_fields__", {})
        if part in fields or (callable(found) and part in parameters(found)):
            return True
        if not hasattr(found, part):
            return part in getattr(found, "__annotations__", {})
        found = getattr(found, part)
    return True


def parameters(function):
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


class TestMinors:
    @pytest.mark.parametrize("name", PRESENT)
    def test_what_is_declared_is_what_the_installed_torch_has(self, name):
        import torch._dynamo  # noqa: F401 - before AOTAutograd, which imports it in a circle

        assert value_of(name) == has(name)

    def test_every_minor_has_its_module(self):
        for minor in torch_api.MINORS:
            assert importlib.util.find_spec(f"firebrick.torch_api.v{minor.replace('.', '_')}")
        assert minor_of(torch.__version__) in torch_api.MINORS

    def test_names_begin_and_end_with_a_minor(self):
        name = "torch._functorch._aot_autograd.schemas:ViewAndMutationMeta.act_input_indices"
        assert [has(name, minor) for minor in torch_api.MINORS] == [False, True, True, False]
        with pytest.raises(KeyError):
            has("torch:nothing")


INPUT = {
    "mutates_data": False, "mutates_metadata": False, "requires_grad": False, "is_leaf": True,
    "mutates_storage_metadata": False, "mutation_is_shallow_copy_data": False,
}  # fmt: skip
METADATA = {
    "subclass_inp_meta": [], "subclass_fw_graph_out_meta": [], "subclass_tangent_meta": [], "tokens": {},
    "num_backward_tokens": 0, "is_rng_op_functionalized": False, "num_outputs_rng_offset": 0,
    "num_graphsafe_rng_states": 0, "num_opaque_objects_saved_for_bw": 0, "mutated_inp_stream_indices": None,
    "input_info": [SimpleNamespace(**INPUT)], "output_info": [], "mutated_inp_runtime_indices": [],
    "num_intermediate_bases": 0, "grad_enabled_mutation": None, "act_input_indices": [],
    "act_input_paths": [],
}  # fmt: skip


def entry(**changes):
    """Return what AOTAutograd knows of a graph with one input and nothing else to say."""
    return SimpleNamespace(
        runtime_metadata=SimpleNamespace(**METADATA | changes),
        compiled_bw=None,
        maybe_subclass_meta=None,
        dispatch_wrappers=[],
        sanitized_aot_config=SimpleNamespace(keep_inference_input_mutations=False),
    )


class TestPrograms:
    def test_of_a_graph_with_nothing_to_say_are_made(self):
        from firebrick.capture.aot_program import aot_program

        assert aot_program(entry()).inputs == 1

    def test_of_inputs_that_wait_for_a_collective_are_refused_on_every_minor(self):
        from firebrick.capture.aot_program import aot_program

        name = "act_input_paths" if minor_of(torch.__version__) >= "2.14" else "act_input_indices"
        with pytest.raises(NotLean, match="asynchronous collectives"):
            aot_program(entry(**{name: [(0, ())]}))

    @pytest.mark.skipif(minor_of(torch.__version__) < "2.14", reason="torch 2.14 tells it apart")
    def test_of_inputs_that_get_other_data_are_refused(self):
        from firebrick.capture.aot_program import aot_program

        copied = SimpleNamespace(**INPUT | {"mutation_is_shallow_copy_data": True})
        with pytest.raises(NotLean, match="other data"):
            aot_program(entry(input_info=[copied]))

    def test_without_a_field_that_is_declared_are_an_error_and_no_program(self):
        from firebrick.capture.aot_program import aot_program

        incomplete = entry()
        del incomplete.runtime_metadata.act_input_indices, incomplete.runtime_metadata.act_input_paths
        with pytest.raises(AttributeError, match="act_input"):
            aot_program(incomplete)


class TestTritonKernels:
    @pytest.mark.skipif(
        "triton" not in sys.modules and not importlib.util.find_spec("triton"), reason="Triton"
    )
    def test_for_no_device_in_particular_are_refused(self):
        from firebrick.torch_api.autotuners import device_of

        with pytest.raises(NotLean, match="no device in particular"):
            device_of(SimpleNamespace(triton_meta={"device_type": "cuda", "device": None}))
        assert device_of(SimpleNamespace(triton_meta={"device_type": "cuda", "device": 1})) == ("cuda", 1)
