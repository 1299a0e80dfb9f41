"""Edits of a context are whole, in memory and on disk, whatever happens and whoever else writes."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest

from firebrick.context.context import Context
from firebrick.errors import (
    EditConflict,
    EncodeError,
    StoreFull,
    UsageError,
)
from firebrick.storage.store import Store
from support.contexts import BACKENDS, ENTRIES, run_script, small_artifact, small_entry

KEY, OTHER, THIRD = BACKENDS
ENTRY = ENTRIES[0]


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every write fail from now on."""

    def full(self: Store, *args: Any, **more: Any) -> None:
        raise StoreFull(self.path, "no space left on device")

    monkeypatch.setattr(Store, "registry_update", full)


def everything(context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    return context.backend_artifacts.copy(), context.dynamo_cache_entries.copy()


def blobs(store: Store) -> set[bytes]:
    return {info.key for info in store.list()}


class TestEdits:
    @pytest.fixture(autouse=True)
    def contents(self, context: Context) -> None:
        context.record_artifact(small_artifact(KEY, [1]))
        context.record_artifact(small_artifact(OTHER, [2]))
        context.record_dynamo_cache_entry(small_entry(1, (KEY, OTHER)), ENTRY)

    @staticmethod
    def change(edit: Any) -> None:
        edit.edit_artifact(KEY, lambda content: [*content, "edited"])
        edit.record_artifact(small_artifact(THIRD, [3]))
        edit.edit_entry(ENTRY, lambda entry: small_entry(2, (KEY, THIRD)))
        edit.delete(OTHER)

    @staticmethod
    def conflict(context: Context, change: Any, rival: Any) -> EditConflict:
        def attempt() -> None:
            with context.edit() as edit:
                change(edit)
                rival()

        with pytest.raises(EditConflict) as caught:
            attempt()
        return caught.value

    def test_happen_together_in_one_transaction(
        self, store: Store, context: Context, writes: list[Any]
    ) -> None:
        handed_out = context.backend_artifacts[KEY]
        with context.edit() as edit:
            self.change(edit)
            edit.artifact(KEY).content.append("in place")
            assert context.backend_artifacts[KEY].content == [1]
            assert writes == []
        assert len(writes) == 1
        expected = {
            KEY: small_artifact(KEY, [1, "edited", "in place"]),
            THIRD: small_artifact(THIRD, [3]),
        }
        for each in (context, Context.open(store)):
            assert everything(each) == (expected, {ENTRY: small_entry(2, (KEY, THIRD))})
        assert handed_out.content == [1]

    def failing(self, context: Context, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        with context.edit() as edit:
            self.change(edit)
            if how == "body":
                raise ZeroDivisionError
            if how == "value":
                edit.artifact(KEY).content = threading.Lock()
            if how == "store":
                broken(monkeypatch)
            if how == "rival":
                Context.open(context.store).edit_artifact(KEY, lambda content: ["rival"])

    @pytest.mark.parametrize("on_fault", [None, lambda error: None], ids=["strict", "open"])
    @pytest.mark.parametrize(
        ("how", "error"),
        [
            ("body", ZeroDivisionError),
            ("value", EncodeError),
            ("store", StoreFull),
            ("rival", EditConflict),
        ],
    )
    def test_that_fail_change_nothing(
        self,
        store: Store,
        context: Context,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
        error: type[Exception],
        on_fault: Any,
    ) -> None:
        context.on_fault = on_fault
        before = copy.deepcopy(everything(context))
        registered = store.registry("default")
        with monkeypatch.context() as patch, pytest.raises(error):
            self.failing(context, patch, how)
        assert everything(context) == before
        if how == "rival":
            before[0][KEY].content = ["rival"]
        else:
            assert store.registry("default") == registered
        assert everything(Context.open(store)) == before
        with context.edit() as edit:  # and the next one goes through
            self.change(edit)
        assert THIRD in Context.open(store).backend_artifacts

    def test_are_whole_when_the_process_dies(self, store: Store, context: Context) -> None:
        before = everything(context)
        script = """
            class Dying(dict):
                # Iterated inside the transaction, when blobs and half of the changes are written.
                def items(self):
                    pairs = list(super().items())
                    yield from pairs[:len(pairs) // 2]
                    os._exit(9)

            def dying(point):
                update = Store.registry_update
                def update_and_die(self, context, changes, **more):
                    if point == "before the commit":
                        os._exit(9)
                    changes = Dying(changes) if point == "inside the commit" else changes
                    update(self, context, changes, **more)
                    os._exit(9)
                with context.edit() as edit:
                    Store.registry_update = update_and_die
                    edit.edit_artifact(KEY, lambda content: ["dying"])
                    edit.record_artifact(small_artifact(THIRD, ["dying"]))
                    edit.delete(OTHER)
                    if point == "in the body":
                        os._exit(9)

            for point in ("in the body", "before the commit", "inside the commit", "after it"):
                if (child := os.fork()) == 0:
                    dying(point)
                print(point, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=": ")
                print(*Context.open(store).backend_artifacts.values(), store.stat().blobs)
        """
        old = f"{before[0][KEY]} {before[0][OTHER]} {store.stat().blobs}"
        new = f"{small_artifact(KEY, ['dying'])} {small_artifact(THIRD, ['dying'])}"
        *unchanged, changed = run_script(script, store.path).splitlines()
        assert unchanged == [
            f"in the body 9: {old}",
            f"before the commit 9: {old}",
            f"inside the commit 9: {old}",
        ]
        assert changed.startswith(f"after it 9: {new}")
        assert everything(context) == before
        context.refresh()
        assert everything(context) == everything(Context.open(store)) != before

    def test_conflict_with_another_process_names_what_it_changed(
        self, store: Store, context: Context
    ) -> None:
        script = """
            context.record_artifact(small_artifact(KEY, "theirs"))
            del context.dynamo_cache_entries[ENTRIES[0]]
            context.record_artifact(small_artifact("untouched", "theirs"))
        """
        caught = self.conflict(context, self.change, lambda: run_script(script, store.path))
        assert caught.context == "default"
        assert caught.names == (f"backend/{KEY}", f"dynamo/{ENTRY}")

    def test_conflict_if_what_was_only_looked_at_has_changed(self, store: Store, context: Context) -> None:
        rival = Context.open(store)
        self.conflict(
            context,
            lambda edit: edit.artifact(KEY),
            lambda: rival.edit_artifact(KEY, lambda content: ["rival"]),
        )

    def test_of_one_context_by_two_threads_conflict(self, context: Context) -> None:
        def other() -> None:
            with context.edit() as edit:
                edit.edit_artifact(KEY, lambda content: ["other thread"])

        def run_other() -> None:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

        self.conflict(context, self.change, run_other)
        assert context.backend_artifacts[KEY].content == ["other thread"]

    def test_start_from_what_is_stored_not_from_stale_memory(self, store: Store, context: Context) -> None:
        Context.open(store).edit_artifact(KEY, lambda content: ["newer"])
        with context.edit() as edit:
            edit.edit_artifact(KEY, lambda content: [*content, "edited"])
        assert context.backend_artifacts[KEY].content == ["newer", "edited"]

    def test_can_not_be_nested(self, context: Context) -> None:
        with pytest.raises(UsageError, match="nested"), context.edit(), context.edit():
            pass
        with context.edit() as edit:  # the refusal left nothing behind
            edit.delete(KEY)

    def test_are_over_when_the_block_ends(self, context: Context) -> None:
        with context.edit() as edit:
            pass
        with pytest.raises(UsageError, match="ended"):
            edit.delete(KEY)

    def test_refuse_names_that_are_not_there(self, context: Context) -> None:
        with context.edit() as edit:
            for call in (
                lambda: edit.artifact("other"),
                lambda: edit.entry(KEY),
                lambda: edit.edit_artifact(ENTRY, lambda content: content),
                lambda: edit.delete("other"),
            ):
                with pytest.raises(UsageError, match="key"):
                    call()
            edit.delete(KEY)
            with pytest.raises(UsageError, match="nothing"):
                edit.artifact(KEY)


class TestOtherProcesses:
    def test_see_the_same_contents(self, store: Store, context: Context) -> None:
        script = """
            print([*context.backend_artifacts.items()], [*context.dynamo_cache_entries.items()])
            context.record_artifact(small_artifact(KEY, 'theirs'))
        """
        for n, key in enumerate(reversed(BACKENDS)):
            context.record_artifact(small_artifact(key, {"n": n, "tuple": (1, 2.5), "none": None}))
        for n, key in enumerate(ENTRIES):
            context.record_dynamo_cache_entry(small_entry(n, BACKENDS[: n + 1], resume=n), key)
        artifacts, entries = everything(context)
        assert run_script(script, store.path) == f"{[*artifacts.items()]} {[*entries.items()]}\n"
        assert context.backend_artifacts[KEY] == artifacts[KEY]
        context.refresh()
        artifacts[KEY] = small_artifact(KEY, "theirs")
        assert everything(context) == (artifacts, entries)

    def test_that_record_the_same_add_no_blob(self, store: Store) -> None:
        script = """
            import uuid
            for step in (1, 2, 4):
                keys = [f"__compiled_fn_{n}_{uuid.uuid4()}".replace("-", "_") for n in range(step)]
                for n, key in enumerate(keys[1:]):  # the first is not recorded
                    context.record_artifact(small_artifact(key, {"n": n % 2}))
                entry = small_entry(step, tuple(keys), resume=os.getpid())
                context.record_dynamo_cache_entry(entry, ENTRIES[0])
            print(entry.codes[0].backend_ids)
        """
        first = run_script(script, store.path)
        before = blobs(store)
        second = run_script(script, store.path)
        assert first != second
        assert blobs(store) == before
        (entry,) = Context.open(store).dynamo_cache_entries.values()
        assert f"{entry.codes[0].backend_ids}\n" == second
        assert len(Context.open(store).history(ENTRY)) == 3

    def test_that_write_one_name_lose_no_revision(self, store: Store) -> None:
        script = """
            for n in range(15):
                context.record_artifact(small_artifact(KEY, [sys.argv[2], n]))
        """
        runs = [threading.Thread(target=run_script, args=(script, store.path, who)) for who in "ab"]
        for each in runs:
            each.start()
        for each in runs:
            each.join()
        history = Context.open(store).history(KEY)
        assert len(history) == 30
        assert [r.parent for r in history] == [*(r.key for r in history[1:]), None]
