"""Keep tests away from the developer's caches, and tests of GPUs away from other machines."""

import os
import shutil
import tempfile

import pytest

from firebrick import settings

CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")
TOOLCHAIN = "FIREBRICK_TESTING_TOOLCHAIN"  # one for all workers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--differential-all",
        action="store_true",
        help="run every case of the differential suite: half an hour",
    )


def pytest_configure(config: pytest.Config) -> None:
    root = tempfile.mkdtemp(prefix="firebrick-tests-")
    config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))
    toolchain = os.environ.get(TOOLCHAIN) if hasattr(config, "workerinput") else None
    for name in [name for name in os.environ if name.startswith("FIREBRICK_")]:
        del os.environ[name]
    for name in ("GITHUB_EVENT_NAME", *settings.PULL_REQUEST):  # tests of a pull request write all the same
        os.environ.pop(name, None)
    os.environ[TOOLCHAIN] = toolchain or os.path.join(root, "toolchain")
    path = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))  # children import support
    os.environ["FIREBRICK_SELF_TEST"] = "0"  # a process for each test that records
    for name in CACHES:
        os.environ[name] = os.path.join(root, name.lower())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU, and torch sees none here")
