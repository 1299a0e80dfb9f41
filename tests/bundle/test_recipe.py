"""A recipe holds what decides whether a bundle may be used, and tells two recipes apart."""

from types import CodeType

from firebrick.bundle.recipe import RecipeDifference, differences, frame_name, make_recipe, nearest

PLATFORM = {"python": "3.11", "torch": "2.13.0"}


def code_of(source: str) -> CodeType:
    scope: dict[str, object] = {}
    exec(compile(source, "kiln.py", "exec"), scope)
    return scope["f"].__code__  # type: ignore[attr-defined, no-any-return]


PLAIN = code_of("def f(x):\n    return x + 1\n")


def test_line_numbers_and_file_names_do_not_count() -> None:
    moved = code_of("\n\n\n# a remark\ndef f(x):\n    return x + 1\n")
    assert moved.co_firstlineno != PLAIN.co_firstlineno
    assert make_recipe(moved, "kiln", {}, PLATFORM) == make_recipe(PLAIN, "kiln", {}, PLATFORM)


def test_code_module_options_and_platform_count() -> None:
    base = make_recipe(PLAIN, "kiln", {"dynamic": "None"}, PLATFORM)
    others = [
        make_recipe(code_of("def f(x):\n    return x + 2\n"), "kiln", {"dynamic": "None"}, PLATFORM),
        make_recipe(PLAIN, "oven", {"dynamic": "None"}, PLATFORM),
        make_recipe(PLAIN, "kiln", {"dynamic": "True"}, PLATFORM),
        make_recipe(PLAIN, "kiln", {"dynamic": "None"}, {**PLATFORM, "torch": "2.12.0"}),
    ]
    assert len({base.key, *(other.key for other in others)}) == 5
    changed = [differences(base.components, other.components)[0].component for other in others]
    assert changed == ["function.code", "function.module", "options.dynamic", "platform.torch"]


def test_a_resume_function_is_known_without_its_line() -> None:
    code = PLAIN.replace(co_name="torch_dynamo_resume_in_f_at_17")
    assert frame_name(code) == "f (resumed)"


def test_the_nearest_recipe_is_of_the_same_function_and_differs_least() -> None:
    wanted = make_recipe(PLAIN, "kiln", {"mode": "a", "dynamic": "None"}, PLATFORM)
    far = make_recipe(PLAIN, "kiln", {"mode": "b", "dynamic": "True"}, PLATFORM)
    near = make_recipe(PLAIN, "kiln", {"mode": "b", "dynamic": "None"}, PLATFORM)
    foreign = make_recipe(PLAIN, "oven", {"mode": "a", "dynamic": "None"}, PLATFORM)
    known = {r.key: r.components for r in (far, near, foreign)}
    assert nearest(wanted.components, known) == (near.key, [RecipeDifference("options.mode", "b", "a")])
    assert nearest(wanted.components, {foreign.key: foreign.components}) is None
