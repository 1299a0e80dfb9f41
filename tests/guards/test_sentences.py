"""Guards are put into sentences that name things as the program does."""

import pytest

from firebrick.guards.sentences import of_expectations, reworded, source_words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("L['x']", "`x`"),
        ("G['SCALE']", "global `SCALE`"),
        ("L['self']._modules['q']._parameters['bias']", "`self.q.bias`"),
        ("G['__import_torch_dot_nn_dot_functional'].relu", "`torch.nn.functional.relu`"),
    ],
)
def test_sources_are_as_the_program_writes_them(source: str, words: str) -> None:
    assert source_words(source) == words


@pytest.mark.parametrize(
    ("guard", "sentence"),
    [
        (
            "___check_type_id(L['n'], 139), type=<class 'int'>  # x + n  # a.py:3",
            "`n` is of type <class 'int'>",
        ),
        ("___check_obj_id(G['f'], \0), type=<class 'function'>", "global `f` is the object that it was"),
        ("not ___dict_contains('forward', L['self'].__dict__)", "`self.__dict__` has no key 'forward'"),
        ("hasattr(L['x'], '_dynamo_static_indices') == False", "`x` has no marks of dynamic sizes"),
        ("len(L['items']) == 3", "`items` has length 3"),
        ("L['n'] == 3", "`n` is 3"),
        ("2 <= L['x'].size()[0]", "`2 <= L['x'].size()[0]`"),
    ],
)
def test_guards_are_sentences(guard: str, sentence: str) -> None:
    assert reworded(guard) == sentence


def test_expectations_are_said_once_each() -> None:
    assert of_expectations("L['n'] == 3\0L['n'] == 3\0") == ["`n` is 3"]
    assert of_expectations("") == []
