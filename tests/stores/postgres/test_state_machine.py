"""Whatever is asked of a Postgres store, in whatever order: it does what the memory store does."""

from uuid import uuid4

import asyncpg
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.stores.postgres import PostgresStore
from tests.stores.side_by_side import SideBySide


class WithPostgres(SideBySide):
    """The other store is a schema of its own."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.schema = f"test_{uuid4().hex}"

    def another(self) -> PostgresStore:
        return PostgresStore(self.url, schema=self.schema)

    async def pass_time(self, seconds: float) -> None:
        await self.do(
            f"UPDATE {self.schema}.sessions SET held_until = held_until - $1 * interval '1 second'", seconds
        )

    async def clean_up(self) -> None:
        await self.do(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    async def do(self, statement: str, *arguments: float) -> None:
        connection = await asyncpg.connect(self.url, server_settings={"client_min_messages": "error"})
        await connection.execute(statement, *arguments)
        await connection.close()


def test_a_postgres_store_does_what_the_memory_store_does(postgres_url: str) -> None:
    class Here(WithPostgres):
        url = postgres_url

    steps = settings(max_examples=12, stateful_step_count=40, phases=(Phase.reuse, Phase.generate))
    run_state_machine_as_test(Here, settings=steps)  # shrinking takes minutes
