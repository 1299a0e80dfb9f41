"""Play guard programs in a process that has not imported Dynamo, then import it.

    python guarded_child.py FILE

FILE is a pickle of (name of case, body of the program, expected verdicts). Prints JSON.
"""

import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import guarded
import torch
from guarded_locals import frame_of
from guarded_mutations import changes, verdicts

from firebrick.codecs.guard_program import GuardProgramCodec
from firebrick.guards import replay as lean

COMPILER = ("torch._dynamo", "torch._inductor", "sympy", "triton")


def source(key: Any) -> Any:
    raise LookupError(key)


def loaded() -> list[str]:
    return sorted(name for name in sys.modules if name.startswith(COMPILER))


def main() -> None:
    rows = pickle.loads(Path(sys.argv[1]).read_bytes())
    result: dict[str, Any] = {
        "before": loaded(),
        "after": [],
        "wrong": [],
        "failed": [],
        "verdicts": 0,
        "passed": 0,
    }
    kept = []
    for name, body, expected in rows:
        case = guarded.CASES[name]
        code, scope, f_locals = frame_of(case.function(), case.args(), case.kwargs())
        program = GuardProgramCodec().decode(body, source, 1)
        try:
            managers = [lean.build(program, scope, code, f_locals), lean.build(program, scope, code)]
        except (lean.ObjectChanged, lean.GuardsNotApplicable) as error:
            result["failed"].append(f"{name}: {error}")
            continue
        found = list(verdicts([m.check for m in managers], f_locals, changes(f_locals, scope, code)))
        result["verdicts"] += len(found)
        if loaded() and not result["after"]:
            result["after"] = [name, *loaded()]
        if [label for label, _ in found] != [label for label, _ in expected]:
            result["wrong"].append([name, "other changes"])
            continue
        for (label, here), (_, there) in zip(found, expected, strict=True):
            result["passed"] += there is True
            if here[0] != there or (here[1] != there and not (here[1] and "= code 0" in label)):
                result["wrong"].append([name, label, here, there])
        kept.append((managers[0], f_locals))

    errors: list[str] = []

    def build_on() -> None:  # while another thread imports Dynamo
        name, body, _ = rows[0]
        case = guarded.CASES[name]
        code, scope, f_locals = frame_of(case.function(), case.args(), case.kwargs())
        program = GuardProgramCodec().decode(body, source, 1)
        while not done.is_set():
            try:
                manager = lean.build(program, scope, code, f_locals)
                if not manager.check(f_locals):
                    errors.append("a guard failed")
            except lean.GuardsNotApplicable:
                pass
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

    done = threading.Event()
    thread = threading.Thread(target=build_on)
    thread.start()
    import torch._dynamo.config as config
    import torch._dynamo.guards as guards

    done.set()
    thread.join()
    lean.on_dynamo_imported()
    result["threads"] = errors
    result["config"] = config.recompile_limit
    result["kinds"] = sorted({type(manager).__name__ for manager, _ in kept})
    result["texts"] = all("RootGuardManager" in str(manager) for manager, _ in kept)
    result["parts"] = all(manager.code_parts for manager, _ in kept)
    result["diff"] = all(isinstance(m.diff_guard_root, guards.RootGuardManager) for m, _ in kept)
    result["still"] = [bool(manager.check(f_locals)) for manager, f_locals in kept]

    @torch.compile(backend="eager", dynamic=True)
    def another(x: Any, table: Any) -> Any:  # C++ compares kinds of managers where it meets a dict
        for value in table.values():
            x = x + value * guarded.TABLE["scale"]
        return x

    result["compiled"] = bool((another(torch.ones(3), {"a": torch.ones(3)}) == 3).all())
    another(torch.ones(3, 4), {"b": torch.ones(3, 4), "c": 2})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
