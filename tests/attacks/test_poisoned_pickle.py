"""A pickle that runs something, put where each kind of artifact is read, runs nothing."""

import contextlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firebrick import codecs
from firebrick.codecs.guards import GuardUnpickler
from firebrick.errors import FirebrickError, NotFoundError
from firebrick.guards.unpickler import _Unpickler
from firebrick.storage.blob import StoredBlob
from firebrick.storage.format import Kind
from firebrick.storage.keys import ContentKey
from firebrick.storage.msgpack import pack


class Poison:
    """Runs a function where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def poisons(made: Path) -> Iterator[Any]:
    """Yield objects whose unpickling makes a file, if it is done by Python's own unpickler."""
    code = f"open({os.fspath(made)!r}, 'w').close()"
    yield Poison(os.system, f"touch {made}")
    yield Poison(eval, code)
    yield Poison(exec, code)
    yield Poison(os.open, os.fspath(made), os.O_CREAT)
    yield Poison(map, eval, [code]), Poison(list, Poison(map, eval, [code]))
    yield {Poison(eval, code): 1}


def pickles(made: Path) -> list[bytes]:
    return [
        pickle.dumps(poison, protocol)
        for poison in poisons(made)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ]


def bodies(data: bytes) -> list[bytes]:
    """Return a pickle as it is, and inside what codecs read first."""
    return [
        data,
        pack(data),
        pack([data]),
        pack([[], data]),
        pack([["os:system"], data]),
        pack([1, [data], data]),
    ]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made"


def test_the_poison_is_one(made: Path) -> None:
    for data in pickles(made):
        with contextlib.suppress(TypeError):
            pickle.loads(data)
        assert made.exists(), data
        made.unlink()


@pytest.mark.parametrize("kind", codecs.CODECS)
def test_no_codec_unpickles(kind: Kind, made: Path) -> None:
    for data in pickles(made):
        for body in bodies(data):

            def child(key: ContentKey, body: bytes = body) -> StoredBlob:
                if len(key) != 32:
                    raise NotFoundError(key)
                return StoredBlob(kind, 1, body)

            with contextlib.suppress(FirebrickError):
                codecs.decode(kind, 1, body, child)
            assert not made.exists(), (kind, body)


def test_the_unpickler_of_guard_states_calls_nothing_that_is_not_on_its_list(made: Path) -> None:
    import io

    for data in pickles(made):
        with contextlib.suppress(FirebrickError, Exception):
            _Unpickler(io.BytesIO(data)).load()
        assert not made.exists(), data
        with pytest.raises(FirebrickError):
            GuardUnpickler(data, ["builtins:list"]).load()
        assert not made.exists(), data
