"""cuBLAS and cuDNN open themselves beside the rest of a start; the GPU tests see that it does no harm."""

import threading
from types import SimpleNamespace

import pytest
import torch

from firebrick.runtime import cuda_warmup
from firebrick.storage.msgpack import unpack
from firebrick.storage.store import Store
from support.places import PROGRAMS
from support.programs import run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "lean.py"


@pytest.fixture
def cuda(monkeypatch):
    """Stand in for a GPU: note what is opened, where, and in which thread."""
    opened: list[tuple[str, int, threading.Thread]] = []
    current = [0]
    here = threading.local()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])

    class Device:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            here.device = self.index

        def __exit__(self, *_):
            del here.device

    here = threading.local()
    monkeypatch.setattr(torch.cuda, "device", Device)
    note = {
        name: lambda name=name: opened.append((name, here.device, threading.current_thread()))
        for name in ("blas", "dnn")
    }
    monkeypatch.setattr(cuda_warmup, "_OPENERS", note)
    monkeypatch.setattr(cuda_warmup, "_opened", set())
    return SimpleNamespace(opened=opened, current=current)


@pytest.mark.parametrize(
    ("names", "libraries"),
    [
        (("extern_kernels", "addmm", "reinterpret_tensor"), {"blas"}),
        (("aten", "convolution_backward", "default"), {"dnn"}),
        (("bmm", "convolution"), {"blas", "dnn"}),
        (("empty_strided_cuda", "cumsum"), set()),
    ],
)
def test_a_wrapper_calls_libraries_by_the_names_of_their_operators(names, libraries):
    assert cuda_warmup.libraries_of(names) == libraries


def test_the_libraries_of_a_backend_are_in_its_bundle(tmp_path):
    run_cases(PROGRAM, ["function", "module"], home=tmp_path / "home", store=tmp_path / "store")
    opens = {}
    with Store.open(tmp_path / "store", readonly=True) as store:
        for recipe in store.recipes():
            for bundle in store.bundles(recipe):
                with store.snapshot() as snapshot:
                    lean = unpack(bytes(snapshot.bundle(bundle)))["lean"]
                if lean != "off":  # of a frame without graphs
                    opens[store.components(recipe)["function.name"]] = lean["opens"]
    assert opens == {"add_function": [], "ModuleNet.forward": ["blas"]}


def test_each_library_is_opened_once_for_a_device_in_a_thread(cuda):
    cuda_warmup.open_libraries(["blas", "dnn"])()
    cuda_warmup.open_libraries(["dnn"])()
    cuda.current[0] = 1
    cuda_warmup.open_libraries(["dnn", "a library of a later release"])()
    assert [entry[:2] for entry in cuda.opened] == [("blas", 0), ("dnn", 0), ("dnn", 1)]
    assert threading.main_thread() not in {entry[2] for entry in cuda.opened}


@pytest.mark.parametrize("name", ["is_initialized", "is_current_stream_capturing"])
def test_nothing_is_opened_before_the_program_uses_cuda_nor_while_it_captures(cuda, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, name, lambda: name != "is_initialized")
    cuda_warmup.open_libraries(["blas"])()
    assert cuda.opened == []


def test_what_can_not_be_opened_is_left_to_torch(cuda, monkeypatch, caplog):
    def fail():
        raise RuntimeError("no such library")

    monkeypatch.setitem(cuda_warmup._OPENERS, "dnn", fail)
    with caplog.at_level("DEBUG", logger="firebrick"):
        cuda_warmup.open_libraries(["dnn"])()
    assert "no such library" in caplog.text


def test_a_process_that_starts_no_threads_goes_on(cuda, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    cuda_warmup.open_libraries(["blas"])()
    assert cuda.opened == []


def test_while_libraries_are_opened_a_start_may_do_more(cuda, monkeypatch):
    going_on = threading.Event()
    monkeypatch.setitem(cuda_warmup._OPENERS, "dnn", going_on.wait)
    assert not cuda_warmup.are_opening()
    wait = cuda_warmup.open_libraries(["dnn"])
    assert cuda_warmup.are_opening()
    going_on.set()
    wait()
    assert not cuda_warmup.are_opening()
