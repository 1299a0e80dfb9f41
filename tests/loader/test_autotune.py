"""Which configuration of a Triton kernel won is measured once, and launched by every process after that."""

import dataclasses
import pickle
import types

import pytest

from firebrick.base.patches import Patches
from firebrick.loader.autotune import AutotuneResults
from firebrick.storage.store import Store
from support.places import PROGRAMS
from support.programs import builders, run_cases

pytestmark = pytest.mark.compiles

PROGRAM = PROGRAMS / "tuned.py"


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store") as store:
        yield store


class Process:
    """A process in which the autotuner stands on the store; ``seconds`` is what each configuration takes."""

    def __init__(self, store, seconds, *, recording=True):
        self.measured, self.built, self.faults, outer = [], [], [], self

        class Tuner:
            """As torch's ``CachingAutotuner``: two configurations are bundled, a third comes of scaling."""

            def __init__(self, kernel_hash="kernel"):
                self.kernel_hash = kernel_hash
                self.compile_results = [self.build("wide"), self.build("narrow")]
                self.launchers = list(self.compile_results)
                outer.built.clear()
                self._dynamic_scale_rblock()

            def build(self, name):
                outer.built.append(name)
                return types.SimpleNamespace(config=types.SimpleNamespace(name=name, found_by_coordesc=False))

            def _dynamic_scale_rblock(self):
                self.compile_results.append(self.build("scaled"))
                self.launchers = list(self.compile_results)

            def autotune_to_one_config(self):
                outer.measured += [one.config.name for one in self.launchers]
                self.launchers = [min(self.launchers, key=lambda one: seconds[one.config.name])]

            def coordinate_descent_tuning(self, launcher):
                outer.measured.append("descent")
                launcher.config.found_by_coordesc = True
                return launcher

            def run(self, *, descend=False):
                if len(self.launchers) > 1:
                    self.autotune_to_one_config()
                if descend and not self.launchers[0].config.found_by_coordesc:
                    self.launchers = [self.coordinate_descent_tuning(self.launchers[0])]
                return self.launchers[0].config.name

        files = type("Files", (), {"_get": lambda self, key: None, "_put": lambda self, key, data: None})
        winners = AutotuneResults(
            store, recording, self.faults.append, lambda config: (("BLOCK", config.name), 4)
        )
        winners.install(Patches(), files, Tuner)
        self.Tuner, self.files = Tuner, files()


@pytest.mark.parametrize("winner", ["wide", "narrow", "scaled"])
def test_a_winner_is_launched_by_the_next_process_whatever_is_quicker_there(store, winner):
    first = Process(store, {"wide": 2, "narrow": 2, "scaled": 2} | {winner: 1})
    assert first.Tuner().run() == winner
    assert first.measured == ["wide", "narrow", "scaled"]
    second = Process(store, {"wide": 2, "narrow": 2, "scaled": 2} | {winner: 3})
    assert second.Tuner().run() == winner
    assert second.measured == []
    assert second.built == (["scaled"] if winner == "scaled" else [])
    assert first.faults == second.faults == []


def test_kernels_are_not_mixed_up(store):
    Process(store, {"wide": 1, "narrow": 2, "scaled": 3}).Tuner("one").run()
    other = Process(store, {"wide": 3, "narrow": 2, "scaled": 1})
    assert other.Tuner("other").run() == "scaled"
    assert other.Tuner("one").run() == "wide"


def test_a_winner_that_is_not_offered_is_measured_anew_and_replaced(store):
    store.registry_update(".autotune", {("launched", "kernel"): b"no such configuration"})
    first = Process(store, {"wide": 2, "narrow": 1, "scaled": 3})
    assert first.Tuner().run() == "narrow"
    assert Process(store, {"wide": 1, "narrow": 2, "scaled": 3}).Tuner().run() == "narrow"


def test_a_descent_that_has_ended_does_not_start_again(store):
    seconds = {"wide": 1, "narrow": 2, "scaled": 3}
    first, second = Process(store, seconds), Process(store, seconds)
    assert first.Tuner().run(descend=True) == second.Tuner().run(descend=True) == "wide"
    assert first.measured[-1] == "descent"
    assert second.measured == []


def test_nothing_is_written_without_recording(store):
    Process(store, {"wide": 1, "narrow": 2, "scaled": 3}, recording=False).Tuner().run(descend=True)
    later = Process(store, {"wide": 3, "narrow": 2, "scaled": 1})
    assert later.Tuner().run() == "scaled"
    assert later.measured


def test_a_store_that_fails_leaves_torch_as_it_is(store):
    process = Process(store, {"wide": 1, "narrow": 2, "scaled": 3})
    store.close()
    assert process.Tuner().run(descend=True) == "wide"
    assert process.measured == ["wide", "narrow", "scaled", "descent"]
    assert process.faults


def test_torchs_files_of_winners_are_there_without_torchs_folder(store):
    Process(store, {}).files._put("/somewhere/ab/kernel.best_config", b"{}")
    files = Process(store, {}).files
    assert files._get("/elsewhere/ab/kernel.best_config") == b"{}"
    assert files._get("/elsewhere/ab/other.best_config") is None
    assert files._get("/elsewhere/ab/kernel.py") is None


class Launched:
    """As torch's autotuner: it cannot be pickled once it has launchers."""

    def __init__(self):
        self.launchers, self.source, self._reload_kernel = ["launcher"], "fn", print
        kernel = types.SimpleNamespace(name="add", n_regs=16, n_spills=0, C_impl="launcher")
        self.compile_results = [types.SimpleNamespace(kernel=kernel)]

    def prepare_for_pickle(self):
        taken_off = self.launchers, self.source
        self.launchers, self.source = [], None
        return taken_off

    def restore_after_unpickle(self, taken_off):
        self.launchers, self.source = taken_off

    def prepare_for_caching(self):
        self.binary = None

    def __getstate__(self):
        assert not self.launchers
        return vars(self)


@dataclasses.dataclass(frozen=True)
class Bundled:
    kernel: Launched


def test_a_bundled_autotuner_that_was_launched_can_be_saved(monkeypatch):
    from firebrick.torch_api import aot_entries

    monkeypatch.setattr(aot_entries, "PlainGraph", Bundled)  # not made here
    for name in ("CompiledFxGraph", "BundledOutputCodeLoadable"):  # what stands for them
        monkeypatch.setattr(aot_entries, name, types.SimpleNamespace)
    tuner, saved = Launched(), []
    graph = types.SimpleNamespace(_triton_bundle=types.SimpleNamespace(static_autotuners=[Bundled(tuner)]))
    entry = types.SimpleNamespace(compiled_fw=types.SimpleNamespace(result=graph), compiled_bw=None)
    aot_entries.saving_entries(lambda key, entry, remote: saved.append(pickle.dumps(entry)))(
        "key", entry, False
    )
    (bundled,) = graph._triton_bundle.static_autotuners
    assert saved
    assert (bundled.kernel.launchers, bundled.kernel._reload_kernel) == ([], None)
    assert vars(bundled.kernel.compile_results[0].kernel) == {"name": "add"}
    assert (tuner.launchers, tuner.source, tuner._reload_kernel) == (["launcher"], "fn", print)
    assert tuner.compile_results[0].kernel.n_regs == 16


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["scaled", "many", "descended"])
def test_the_second_start_measures_nothing_and_gives_the_same_bits(name, tmp_path):
    store = tmp_path / "store"
    first = run_cases(PROGRAM, [name], home=tmp_path / "first", store=store).case(name)
    finished = run_cases(PROGRAM, [name], home=tmp_path / "second", store=store, compilers=False)
    second = finished.case(name)
    assert first["work"]["measurements"]
    assert second["stats"]["hits"] == 1
    # a winner that was found at the first launch is made anew, from what Triton has in its cache
    assert second["work"].keys() <= {"processes", "triton_compiles"}
    assert name == "descended" or builders(finished.report["processes"]) == []
    assert second["value"] == first["value"]
