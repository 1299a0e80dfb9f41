"""The store on LMDB against the conformance suite, the state machine and its document."""

from pathlib import Path
from typing import Any

import lmdb
from hypothesis import settings

from firebrick.storage.format import DATABASES
from firebrick.storage.store import Store
from support.store_machine import StoreMachine
from support.store_suite import Change, StoreSuite


class TestStore(StoreSuite):
    def open(self, path: Path, **options: Any) -> Store:
        return Store.open(path, durable=False, **options)

    def change(self, path: Path, database: str, key: bytes, change: Change) -> None:
        with lmdb.Environment(str(path), max_dbs=9, map_size=1 << 30, sync=False) as env:
            dup = DATABASES[database]
            handle = env.open_db(database.encode(), create=False, dupsort=dup, dupfixed=dup)
            with env.begin(write=True, db=handle) as txn:
                value = change(txn.get(key, b""))
                txn.delete(key)  # with all its duplicates
                if value is not None:
                    txn.put(key, value)


TestMachine = StoreMachine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
