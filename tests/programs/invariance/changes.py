"""Changes between two starts after which everything must still be served, without the compiler."""

import compileall
import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from invariance.program import SOURCES

from support.programs import start

CHILD = Path(__file__).with_name("child.py")


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """What is another in the second start.

    Attributes:
        name: of the change.
        edit: changes the folder of the program; returns what is put on the path of modules instead of it, if anything.
        start: further fields of the start: ``env``, ``cwd``, ``driver``, ``arguments``, and ``prepare``, code that runs
            before the program is imported and may define ``call(main)``.
        process: variables of a process of its own; ``None``: a fork will do.
        options: of the interpreter of a process of its own.
        lane: which lane serves it: guards of the lean lane digest all functions of a class.
    """

    name: str
    edit: Callable[[Path], Path | None] = nothing
    start: dict[str, object] = dataclasses.field(default_factory=dict)
    process: dict[str, str] | None = None
    options: tuple[str, ...] = ()
    lane: str = "lean"


def text(name: str, file: str, old: str, new: str, lane: str = "lean") -> Change:
    """Make a change of a piece of text, which must be there once."""

    def edit(folder: Path) -> None:
        path = folder / file
        before = path.read_text()
        assert before.count(old) == 1, (name, before.count(old))
        path.write_text(before.replace(old, new))

    return Change(name, edit, lane=lane)


def every_file(name: str, change: Callable[[str], str]) -> Change:
    """Make a change of the text of every file."""

    def edit(folder: Path) -> None:
        for path in folder.rglob("*.py"):
            path.write_bytes(change(path.read_text()).encode())

    return Change(name, edit)


def moved(folder: Path) -> Path:
    return folder.rename(folder.with_name(f"{folder.name}-moved"))


def deeper(folder: Path) -> Path:
    target = folder.with_name(f"{folder.name}-deep") / "a" / "b c"
    shutil.copytree(folder, target)
    return target


def linked(folder: Path) -> Path:
    link = folder.with_name(f"{folder.name}-link")
    link.symlink_to(moved(folder))
    return link


def files_linked(folder: Path) -> Path:
    target = moved(folder)
    for path in target.rglob("*.py"):
        link = folder / path.relative_to(target)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.py"):
            file.write(path, path.relative_to(folder))
    shutil.rmtree(folder)
    return archive


def bytecode_only(folder: Path) -> Path:
    compileall.compile_dir(folder, legacy=True, quiet=1)
    for path in folder.rglob("*.py"):
        path.unlink()
    return folder


def with_driver(folder: Path) -> None:
    (folder / "another_driver.py").write_text("import json\nfrom app.run import main as main\n")


def touched(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o400)


def reordered(source: str) -> str:
    """Exchange the order of functions and classes where nothing at import depends on it."""
    parts = re.split(r"\n\n\n(?=def )", source)
    return "\n\n\n".join([parts[0], *reversed(parts[1:])]) if "def step" in source else source


_FORKED = """
import threading
def call(main):
    result = []
    thread = threading.Thread(target=lambda: result.append(main()), name="other")
    thread.start(); thread.join()
    return result[0]
"""

CHANGES = [
    Change("nothing at all"),
    every_file("comments", lambda s: re.sub(r"(?m)$", "  # why", s)),
    every_file("blank lines at the top", lambda s: "\n" * 40 + s),
    every_file("blank lines inside", lambda s: re.sub(r"(?m)^(    .*[^,(])$", r"\1\n\n", s)),
    every_file("line ends of another system", lambda s: s.replace("\n", "\r\n")),
    every_file("a mark of the encoding", lambda s: "\ufeff" + s),
    every_file("an encoding's cookie", lambda s: "# -*- coding: utf-8 -*-\n" + s),
    every_file("tabs in place of spaces", lambda s: re.sub(r"(?m)^( {4})+", lambda m: "\t" * (len(m[0]) // 4), s)),
    every_file("broken lines", lambda s: s.replace("return x - self.shift", "return (\n            x\n            - self.shift\n        )")),
    every_file("the order of functions", reordered),
    every_file("an unrelated function", lambda s: s + "\n\ndef another(x):\n    return x * 9\n"),
    every_file("an unrelated function at the top", lambda s: "def another(x):\n    return x * 9\n\n\n" + s),
    every_file("an unrelated class", lambda s: s + "\n\nclass Another:\n    def forward(self, x):\n        return x * 9\n"),
    every_file("an unrelated global", lambda s: s + "\nANOTHER = 9\n"),
    every_file("an unrelated import", lambda s: "import decimal\n" + s),
    every_file("a docstring of the module", lambda s: '"""Says what it is for."""\n' + s),
    text("an unrelated function is edited", "app/layers.py", "return x + 1\n", "return x + 99\n"),
    text("an unrelated function of a helper's module is edited", "app/helpers.py", "return x - 1\n", "return x - 9\n"),
    text("an unrelated class is edited", "app/helpers.py", "rate = 1\n", "rate = 9\n"),
    text("an unrelated method is edited", "app/helpers.py", "x * self.rate", "x + self.rate"),
    text("an unrelated method of the class of forward is edited", "app/layers.py", "return x * 3\n", "return x * 99\n", lane="full"),
    text("an unrelated method in the class of forward", "app/layers.py", "    def forward(", "    def more(self, x):\n        return x * 9\n\n    def forward(", lane="full"),
    text("an unrelated method in a base", "app/layers.py", "    def tail(", "    def more(self, x):\n        return x * 9\n\n    def tail(", lane="full"),
    text("an unrelated method is gone", "app/layers.py", "    def unused(self, x):\n        return x * 3\n\n", "", lane="full"),
    text("an unrelated global's value", "app/layers.py", "UNUSED = 1\n", "UNUSED = 2\n"),
    text("an unrelated global is gone", "app/layers.py", "UNUSED = 1\n", ""),
    text("an unrelated subclass", "app/layers.py", "def mode():", "class Other(Block):\n    def forward(self, x):\n        return x * 9\n\n\ndef mode():"),
    text("an unrelated annotation", "app/layers.py", "def unrelated(x):", "def unrelated(x: float) -> float:"),
    text("the driver does more", "app/run.py", "    torch.manual_seed(0)\n", "    print(len('more'))\n    torch.manual_seed(0)\n"),
    Change("another folder", moved),
    Change("a folder that is deeper and has a space", deeper),
    Change("a link to the folder", linked),
    Change("links to the files", files_linked),
    Change("an archive", zipped),
    Change("bytecode only", bytecode_only),
    Change("dates and rights of the files", touched),
    Change("another driver", with_driver, {"driver": "another_driver"}),
    Change("another working directory", start={"cwd": "/"}),
    Change("arguments of the command", start={"arguments": ["--verbose", "7"]}),
    Change("another home", start={"env": {"HOME": "/nonexistent"}}, process={"HOME": "/nonexistent-home"}),
    Change("another user", process={"USER": "someone", "LOGNAME": "someone", "USERNAME": "someone"}),
    Change("another locale", process={"LC_ALL": "C", "LANG": "de_DE.UTF-8", "LANGUAGE": "de"}),
    Change("another time zone", process={"TZ": "Asia/Tokyo"}),
    Change("another hash seed", process={"PYTHONHASHSEED": "77"}),
    Change("another hash seed once more", process={"PYTHONHASHSEED": "12345"}),
    Change("unrelated variables", process={"EDITOR": "vi", "APP_OTHER": "1", "SSH_CONNECTION": "1 2 3 4"}),
    Change("an unrelated variable that the program sets", start={"env": {"APP_OTHER": "2"}}),
    Change("ports and ranks", process={"MASTER_ADDR": "localhost", "MASTER_PORT": "29501", "RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8"}),
    Change("a virtual environment's variable", process={"VIRTUAL_ENV": "/opt/another"}),
    Change("no bytecode is written", process={"PYTHONDONTWRITEBYTECODE": "1"}, options=("-B",)),
    Change("output is not buffered", process={"PYTHONUNBUFFERED": "1"}, options=("-u",)),
    Change("a job's variables", process={"SLURM_JOB_ID": "77", "HOSTNAME": "node7", "PWD": "/somewhere"}),
    Change("another temporary folder", process={"TMPDIR": tempfile.gettempdir()}),
    Change("further folders on the path", start={"prepare": "import sys\nsys.path[1:1] = ['/nonexistent', '/tmp']"}),
    Change("print options of torch", start={"prepare": "torch.set_printoptions(precision=2, sci_mode=True)"}),
    Change("another seed", start={"prepare": "torch.manual_seed(77)"}),
    Change("seeds of Python and NumPy", start={"prepare": "import random, numpy\nrandom.seed(7); numpy.random.seed(7)"}),
    Change("other modules first", start={"prepare": "import numpy, json, decimal, xml.dom.minidom\nimport app.helpers"}),
    Change("the modules in another order", start={"prepare": "import app.layers, app.helpers"}),
    Change("an unrelated operator", start={"prepare": "lib = torch.library.Library('other', 'DEF')\nlib.define('op(Tensor x) -> Tensor')\nlib.impl('op', lambda x: x * 9, 'CPU')"}),
    Change("an unrelated layer has a hook", start={"prepare": "m = torch.nn.Linear(2, 2)\nm.register_forward_hook(lambda m, a, r: r * 9)"}),
    Change("an unrelated layer of the program has a hook", start={"prepare": "import app.layers\nm = app.layers.Block()\nm.register_forward_hook(lambda m, a, r: r * 9)"}),
    Change("an unrelated module is patched", start={"prepare": "import json\njson.loads = lambda t: 9"}),
    Change("an unrelated function of the program is patched", start={"prepare": "import app.layers\napp.layers.unrelated = lambda x: x * 9"}),
    Change("a layer of torch that is not used is patched", start={"prepare": "torch.nn.Softsign.forward = lambda self, x: x * 9"}),
    Change("a subclass of the program's layer", start={"prepare": "import app.layers\nclass Mine(app.layers.Block):\n    def forward(self, x): return x * 9"}),
    Change("a logger's level", start={"prepare": "import logging\nlogging.basicConfig(level=logging.DEBUG)"}),
    Change("filters of warnings", start={"prepare": "import warnings\nwarnings.simplefilter('ignore')"}),
    Change("no collection of garbage", start={"prepare": "import gc\ngc.disable()"}),
    Change("another thread", start={"prepare": _FORKED}),
    Change("work before", start={"prepare": "y = torch.nn.Linear(8, 8)(torch.randn(4, 8)).sum()\ny.backward()"}),
    Change("the default dtype was another for a while", start={"prepare": "torch.set_default_dtype(torch.float64)\ntorch.set_default_dtype(torch.float32)"}),
    Change("a gradient was off for a while", start={"prepare": "with torch.no_grad(): torch.ones(2) * 2"}),
    Change("a context around the call that says nothing", start={"prepare": "import contextlib\ndef call(main):\n    with contextlib.nullcontext(), torch.enable_grad(): return main()"}),
    Change("it is called twice", start={"prepare": "def call(main):\n    main()\n    return main()"}),
]  # fmt: skip


class Program:
    """The program, recorded once, and started again with each change.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        folder = self._folder("first")
        request = {"first": {"path": [str(folder)], "store": str(root / "store"), "record": True}}
        self.first = self._start("first", request)["first"]

    def _folder(self, name: str) -> Path:
        folder = self.root / name / "program"
        for file, source in SOURCES.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return folder

    def _start(self, name: str, request: dict, options=(), **env: str) -> dict:
        path = self.root / f"{name}.json"
        path.write_text(json.dumps(request))
        variables = {"FIREBRICK_SELF_TEST": "0", "PYTHONHASHSEED": "1"} | env
        done = start(["-P", *options, CHILD, path], home=self.root / f"{name}-home", env=variables)
        assert done.report, done.stderr
        return done.report

    def again(self, changes: list[Change]) -> dict[str, dict]:
        """Return the report of each change; those that need no process of their own share one."""
        requests, reports = {}, {}
        for number, change in enumerate(changes):
            folder = self._folder(f"change-{number}")
            folder = change.edit(folder) or folder
            store = self.root / f"change-{number}" / "store"
            shutil.copytree(self.root / "store", store)
            store.chmod(0o700)
            fields = {"path": [str(folder)], "store": str(store), "record": True, **change.start}
            if change.process is None:
                requests[change.name] = fields
            else:
                one = {change.name: fields}
                reports |= self._start(f"own-{number}", one, change.options, **change.process)
        if requests:
            reports |= self._start("forks", requests)
        return reports


def main() -> None:
    """Try all changes, or those whose names contain an argument, and print what came of them."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder))
        print("first:", program.first.get("error", program.first["stats"]))
        chosen = [c for c in CHANGES if not sys.argv[1:] or any(a in c.name for a in sys.argv[1:])]
        for name, report in program.again(chosen).items():
            print(f"{verdict(report, program.first):8} {name} | {reasons(report)}", flush=True)


def verdict(report: dict, first: dict) -> str:
    """Say what came of a start: ``lean`` if everything was served without the compiler, and equal."""
    if "error" in report:
        return "error"
    stats = report["stats"]
    if report["value"] != first["value"]:
        return "WRONG"
    if stats["misses"] or stats["bypasses"] or stats["faults"] or not stats["hits"]:
        return "miss"
    return "lean" if stats["lean"] == stats["hits"] and not report["compiler"] else "full"


def reasons(report: dict) -> str:
    """Return why a start was not served, as text."""
    if "error" in report:
        return str(report["error"])
    stats = report["stats"]
    found = [*stats["misses"], *stats["bypasses"], *stats["faults"], *stats["not_lean"], *report["compiler"]]
    return "; ".join(found)


if __name__ == "__main__":
    main()
