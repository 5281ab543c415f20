"""What every sink promises, as a test suite: derive from `SinkContract` and say how to make yours."""

from __future__ import annotations

from abc import abstractmethod

from holdfast.sink import Delivery, Findable, Sink


class SinkContract:
    """Tests of a sink. `sink()` makes one to the same receiver each time; `arrived()` says which keys came there."""

    @abstractmethod
    def sink(self) -> Sink:
        """A sink as after a restart: with nothing in memory."""

    @abstractmethod
    async def arrived(self) -> list[str]:
        """The keys that arrived, in order."""

    def delivery(self, key: str, text: str = "Done.", attempt: int = 1) -> Delivery:
        """Something to deliver."""
        return Delivery(
            key=key,
            sink="box",
            session_id="session_" + "0" * 32,
            turn_id=key.partition(":")[2],
            agent="clerk",
            status="completed",
            stop="end_turn",
            text=text,
            attempt=attempt,
        )

    async def test_what_is_delivered_arrives_and_has_a_receipt(self) -> None:
        receipt = await self.sink().deliver(self.delivery("box:turn_1"))
        assert isinstance(receipt, str)
        assert await self.arrived() == ["box:turn_1"]

    async def test_any_text_can_be_delivered(self) -> None:
        for number, text in enumerate(("", "a\x00b\u2028é\n", "x" * 1_000_000)):
            await self.sink().deliver(self.delivery(f"box:turn_{number}", text))
        assert len(await self.arrived()) == 3

    async def test_what_arrived_is_found_by_its_key_after_a_restart(self) -> None:
        sink = self.sink()
        if not isinstance(sink, Findable):
            return
        assert await sink.look_up("box:turn_1") is None
        receipt = await sink.deliver(self.delivery("box:turn_1"))
        again = self.sink()
        assert isinstance(again, Findable)
        assert await again.look_up("box:turn_1") == receipt
        assert await again.look_up("box:turn_") is None
        assert await again.look_up("box:turn_11") is None
