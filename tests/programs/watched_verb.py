"""Run the command line, and end with code 99 where it runs, loads or unpickles anything that it read.

Python's audit events say so, whatever way it takes. What happens while a module is imported is that module's
own code, but a library of ctypes, a pickle that names something and torch are refused there too.
"""

import sys
from types import FrameType
from typing import Any

FORBIDDEN = ("pickle.find_class", "ctypes.dlopen", "code.__new__")  # whoever asks
RUNNING = ("exec", "compile", "marshal.loads", "marshal.load")  # outside of imports
REFUSED = ("torch", "triton", "cloudpickle")
found: list[str] = []


def importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    bad = event in FORBIDDEN or (event in RUNNING and not importing(sys._getframe(1)))
    if bad or (event == "import" and str(arguments[0]).partition(".")[0] in REFUSED):
        found.append(f"{event} {arguments!r:.200}")


sys.addaudithook(watch)
code: object = 0
try:
    from firebrick.cli import main

    main()
except SystemExit as error:
    code = error.code
if found:
    print("\n".join(found), file=sys.stderr)
    sys.exit(99)
sys.exit(code)  # type: ignore[arg-type]
