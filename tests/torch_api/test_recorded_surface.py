"""Every entry of the tables counts: without it, or renamed in torch, a comparison says so by name."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from firebrick.torch_api.minors import minor_of
from firebrick.torch_api.surface import Installed, _behaviours, _read, compare, read_tables, report
from support.places import ROOT
from support.recorded_surface import MINORS, Recorded, disagreements, record

TABLES = read_tables()
HERE = minor_of(torch.__version__)
SCHEMAS = "torch._functorch._aot_autograd.schemas"
BREAKS = {  # of torch 2.14, found by hand before there were tables
    "fields torch._dynamo.guards:GuardsState local_state": "new",
    "wrapper torch._inductor.codegen.wrapper assert_size_stride_grouped": "new",
    "behaviours torch._C._dynamo.guards state_of_tensor_guards": "changed",
    f"fields {SCHEMAS}:ViewAndMutationMeta act_input_indices": "gone",
    f"fields {SCHEMAS}:InputAliasInfo mutation_is_shallow_copy_data": "new",
    f"fields {SCHEMAS}:ViewAndMutationMeta saved_tensor_is_graph_input": "new",
    "fields torch._guards:Guard _force_dict_keys_match": "new",
    "guards torch._dynamo.guards:GuardBuilder COW_TENSOR_MATCH": "new",
    "context torch._functorch._aot_autograd.runtime_wrappers _external_objects": "new",
    "names torch._dynamo.variables.sets:SetVariable repr_impl": "gone",
}


def heading(group):
    return f"{group.kind} {group.subject}"


@pytest.mark.parametrize("minor", MINORS)
def test_the_tables_say_what_was_recorded(minor):
    assert list(disagreements(TABLES, minor)) == []


@pytest.mark.skipif(HERE not in MINORS, reason="no recording of the installed torch")
def test_the_recording_is_of_the_installed_torch():
    recorded, found = Recorded(HERE), record()
    assert recorded.heads() == found.keys()
    assert {heading(group): recorded.found(group) for group in TABLES if heading(group) in found} == found


def test_the_next_torch_with_the_tables_of_the_last_shows_what_breaks():
    differences = list(compare(TABLES, Recorded("2.14"), "2.13"))
    found = {f"{d.kind} {d.subject} {d.name}": d.what for d in differences}
    assert BREAKS.items() <= found.items()
    assert report(differences) in (ROOT / "docs" / "surface-2.13-2.14.md").read_text()


@pytest.mark.parametrize("group", TABLES, ids=heading)
def test_an_entry_that_is_taken_out_is_named(group):
    for taken in group.entries:
        rest = group._replace(entries=tuple(entry for entry in group.entries if entry is not taken))
        held = [minor for minor in MINORS if taken.holds_for(minor)]
        assert held, f"{taken.name} is of no torch that is recorded"
        for minor in held:
            assert f"{heading(group)} {taken.name}: in no table" in list(disagreements([rest], minor))


def renamed(name):
    """Return the pattern of a name in source: of a setting, that of its last part."""
    return rf"(?<![A-Za-z0-9]){re.escape(name.rpartition('.')[2])}(?![A-Za-z0-9])"


@pytest.mark.parametrize("group", TABLES, ids=heading)
def test_a_name_that_a_stub_of_torch_has_otherwise_is_gone(group, tmp_path, monkeypatch):
    minor = HERE if HERE in MINORS else MINORS[-1]
    installed = Installed(Path(torch.__file__).parent)
    names = [entry.name for entry in group.entries if entry.holds_for(minor)]
    if not names or installed.found(group) is None:
        pytest.skip(f"not of torch {minor}")
    module = group.subject.partition(":")[0]
    if group.kind == "behaviours":
        monkeypatch.setattr(_behaviours, "PROBES", {f"{name}_": str for name in names})
    elif module.startswith("torch._C"):
        there = _read._native(group.subject)
        stub = SimpleNamespace(**{f"{name}_": value for name, value in vars(there).items()})
        monkeypatch.setattr(_read, "_native", lambda subject: stub)
    else:
        pattern = "|".join(renamed(name) for name in sorted(names, key=len, reverse=True))
        path = tmp_path.joinpath(*module.split(".")[1:]).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(pattern, r"\g<0>_renamed", installed._text(module)))
    gone = {d.name for d in compare([group], Installed(tmp_path), minor) if d.what == "gone"}
    assert gone == set(names)
