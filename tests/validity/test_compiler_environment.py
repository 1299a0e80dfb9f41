"""Each variable that torch's compiler reads from the environment is in the recipe, or named here."""

import re
from pathlib import Path

import torch

from firebrick.validity import configuration

READ = re.compile(
    r"""(?:os\.environ(?:\.get|\.setdefault)?[\[(]|os\.getenv\(|env_name_\w+=)\s*["']([A-Za-z0-9_]+)["']"""
)
PARTS = "_inductor _dynamo _functorch fx _higher_order_ops _subclasses _library _decomp _prims".split()
# Variables that decide where things are, what is logged or shown, or how compilation is distributed, and not
# what is computed.
NOT_OF_RESULTS = {
    "places": """
        CUDA_HOME CUDACXX CXX CPLUS_INCLUDE_PATH ONEAPI_ROOT HALIDE_LIB HALIDE_INCLUDE WINDOWS_CUDA_HOME
        LEVEL_ZERO_V1_SDK_PATH LD_LIBRARY_PATH OMP_PREFIX CONDA_PREFIX CONDA_EXE PYTORCH_KEEP_TMPDIR
        HALIDE_REPRO ProgramFiles TORCH_CUSTOM_PYTHONPATH PYTHONPATH PATH
    """,
    "logs and pictures": """
        PYTORCH_MATCHER_LOGLEVEL TORCH_ENRICH_RPOFILER_STACK_TRACE TORCHEXPORT_EXTENDED_DEBUG_CURRENT_LOC
        LOG_TLPARSE FX_GRAPH_SHOW_STRIDE FX_GRAPH_SHOW_META FX_GRAPH_SHOW_DEVICE DUMP_AOTI_MINIFIER
    """,
    "processes and services": """
        ROLE_RANK MAST_HPC_JOB_NAME TORCH_WARM_POOL TORCH_TNT_IN_USE KMP_DUPLICATE_LIB_OK LOCAL_RANK RANK
        WORLD_SIZE CUDA_VISIBLE_DEVICES
    """,
    "packages compiled ahead of time": "TORCH_CUDA_ARCH_LIST",
    "what torch sets for itself": "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR JAX_PLATFORMS",
}


def names_read():
    root, found = Path(torch.__file__).parent, {}
    for part in PARTS:
        for file in (root / part).rglob("*.py"):
            for name in READ.findall(file.read_text()):
                found.setdefault(name, file.relative_to(root))
    return found


def is_known(name):
    if any(name in names.split() for names in NOT_OF_RESULTS.values()):
        return True
    placed = (
        name.startswith(configuration._VARIABLES)
        or name == "CI"
        or bool(re.match(configuration._PLACES, name))
    )
    return placed or name in configuration._READ_LATER


def test_every_variable_that_the_compiler_reads_is_known():
    unknown = {name: str(file) for name, file in names_read().items() if not is_known(name)}
    assert unknown == {}


def test_the_search_finds_variables():
    assert {"ATEN_CPU_CAPABILITY", "TENSORIFY_PYTHON_SCALARS"} <= names_read().keys()


def test_what_is_read_later_is_text_of_the_recipe(monkeypatch):
    assert "ATEN_CPU_CAPABILITY" not in configuration.compiler_environment()
    before = configuration.ambient_key({})
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert configuration.compiler_environment() == "ATEN_CPU_CAPABILITY=default"
    assert configuration.ambient_key({}) != before
