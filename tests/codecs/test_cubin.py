"""What a cubin says of its kernels is read without a driver, and damage is an error of its own."""

import random

import pytest

from firebrick.codecs.cubin import registers
from firebrick.codecs.triton import TritonCodec
from firebrick.errors import DecodeError
from support.places import GOLDEN

BLOB = GOLDEN / "triton-add-one.bin"


@pytest.fixture(scope="module")
def cubin() -> bytes:
    return TritonCodec().decode(BLOB.read_bytes(), lambda key: pytest.fail("no children"), 1).binary


def test_registers_are_those_of_the_kernel(cubin: bytes) -> None:
    assert registers(cubin) == {"add_one": 10}


def test_what_is_no_cubin_is_refused() -> None:
    for data in (b"", b"\x7fELF", bytes(4096)):
        with pytest.raises(DecodeError, match="not a cubin"):
            registers(data)


def test_damage_gives_an_error_or_another_number_and_nothing_else(cubin: bytes) -> None:
    chosen = random.Random(0)
    refused = 0
    for _ in range(3000):
        data = bytearray(cubin)
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        try:
            registers(data[: chosen.choice([len(data), chosen.randrange(len(data))])])
        except DecodeError:
            refused += 1
    assert refused > 300
