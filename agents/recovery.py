"""The correction to Faust's recovery: as it comes, messages of a partition that was just taken over are lost.

Upstream: https://github.com/faust-streaming/faust/issues/596 (open at 0.15.3). What goes wrong, and what is done here:

1. During recovery the main thread hands the fetching thread the live set of active partitions and empties it
   meanwhile; aiokafka takes an empty set for "all", reads stream partitions, Faust drops what was read, and the read
   position has moved on. `_wait_next_records` hands over a copy, `_fetch_records` returns nothing for an empty one.
2. At the end of recovery Faust seeks to the committed offsets while a fetch may still be under way, which then moves
   the position again. `resume` stops the flow, waits until the fetch has ended and the loop that drains it is parked,
   seeks, and only then lets partitions and flow go on.
3. aiokafka's `seek_to_committed` leaves a partition without a committed offset, or with 0, where it stands.
   `perform_seek` puts it to the beginning, and notes in `consumer.starts` where each partition begins, which is what
   `agents.delivery` compares the first message with.
4. Acknowledgements of before the rebalance are forgotten, so that they cannot complete a row of offsets they do not
   belong to.
5. A partition that was taken away while its records are handed out, or looked at by Faust's alarm for streams that
   stand still, raises in aiokafka and stops the worker. `_highwater` says None, and the alarm looks no more.
6. A fetch waits at the broker for records for 1.5 s, and a seek takes effect only when it is back, which every
   hand-over would have to wait for: `_create` has it wait for WAIT.
7. A step of recovery that takes longer than its timeout ends Faust's recovery without a word, and the worker idles for
   ever. `_wait` raises, which stops the worker.

Each is a small replacement of one method, so this file is pinned to the very versions it was written against.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}

FETCH = 0.25  # seconds a fetch waits for records; Faust's 1.0 would be added to every hand-over
WAIT = 0.25  # seconds a fetch waits at the broker
IDLE = 0.02  # seconds between two looks while every partition is paused or its buffer full; Faust sleeps 1.0

_wrapped = Consumer._drain_messages
_init = Consumer.__init__
_created = AIOKafkaConsumerThread._create_worker_consumer


class WrongVersion(RuntimeError):
    """The correction was written against other versions than the installed ones."""


class Hangs(RuntimeError):
    """A step of recovery did not end."""


def check(installed: Mapping[str, str] | None = None) -> None:
    """Raises WrongVersion when a package is not the one this file corrects."""
    found = installed if installed is not None else {name: version(name) for name in PINNED}
    wrong = [f"{name} is {found.get(name)}, expected {pin}" for name, pin in PINNED.items() if found.get(name) != pin]
    if wrong:
        raise WrongVersion(
            "agents/recovery.py corrects how Faust recovers and loses messages with any other version: "
            + "; ".join(wrong)
        )


def install() -> None:
    """Put the correction in place; any number of times."""
    check()
    Consumer.__init__ = _consumer_init  # type: ignore[method-assign]
    Consumer._drain_messages = _drain_messages  # type: ignore[method-assign]
    Consumer._wait_next_records = _wait_next_records  # type: ignore[method-assign]
    Consumer.perform_seek = perform_seek  # type: ignore[method-assign]
    Consumer.verify_all_partitions_active = _no_alarm  # type: ignore[method-assign]
    AIOKafkaConsumerThread._create_worker_consumer = _create  # type: ignore[method-assign]
    AIOKafkaConsumerThread._fetch_records = _fetch_records  # type: ignore[method-assign]
    AIOKafkaConsumerThread.highwater = _highwater  # type: ignore[method-assign]
    Recovery._wait = _wait  # type: ignore[method-assign]
    Recovery.on_recovery_completed = _on_recovery_completed  # type: ignore[method-assign]
    Recovery._resume_streams = resume  # type: ignore[method-assign]


def _consumer_init(self: Any, *args: Any, **kwargs: Any) -> None:
    self.parked = asyncio.Event()  # set while the draining loop touches neither a fetch nor its records
    self.parked.set()
    self.starts = {}  # TP -> committed offset at the last seek; None = from the beginning
    _init(self, *args, **kwargs)


def _create(self: Any, transport: Any) -> Any:
    client = _created(self, transport)
    client._fetch_max_wait_ms = int(WAIT * 1000)
    return client


async def _drain_messages(self: Any, fetcher: Any) -> None:
    try:
        await _wrapped(self, fetcher)
    finally:
        self.parked.set()


async def _wait_next_records(self: Any, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
    if not self.flow_active:
        self.parked.set()
        await self.wait(self.can_resume_flow)
    self.parked.clear()  # until this is called again: the records below are handled in between
    if self.app.client_only:
        return await self._getmany(active_partitions=None, timeout=timeout), None
    active = frozenset(self._get_active_partitions())
    if not active:
        await self.sleep(IDLE)
        return {}, active
    return await self._getmany(active_partitions=active, timeout=min(timeout, FETCH)), active


async def _fetch_records(
    self: Any,
    consumer: Any,
    active_partitions: Any,
    timeout: float | None = None,  # noqa: ASYNC109
    max_records: int | None = None,
) -> Any:
    if not self.consumer.flow_active or (active_partitions is not None and not active_partitions):
        return {}
    fetcher = consumer._fetcher
    if consumer._closed or fetcher._closed:
        raise ConsumerStoppedError()
    with fetcher._subscriptions.fetch_context():
        return await fetcher.fetched_records(active_partitions, timeout=timeout, max_records=max_records)


def _highwater(self: Any, tp: Any) -> int | None:
    try:
        return self._ensure_consumer().highwater(tp)  # type: ignore[no-any-return]
    except (AssertionError, AttributeError, KeyError):
        return None


async def _no_alarm(self: Any) -> None:
    return


async def perform_seek(self: Any) -> None:
    """Every stream partition to its committed offset, or to its beginning where there is none."""
    streams = [TopicPartition(*tp) for tp in self.assignment() if not self._is_changelog_tp(tp)]
    if not streams:
        return
    thread = self._thread
    client = thread._ensure_consumer()
    committed = await thread.call_thread(client.seek_to_committed, *streams)
    starts = {TP(tp.topic, tp.partition): offset for tp, offset in committed.items()}
    unset = [tp for tp in streams if not committed[tp]]
    if unset:
        await thread.call_thread(client.seek_to_beginning, *unset)
    for tp, offset in starts.items():
        self._read_offset[tp] = offset or None
        self._committed_offset[tp] = offset or None
    self.starts.update(starts)


async def _wait(self: Any, coro: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109
    result = await self.wait_first(coro, self.signal_recovery_start, timeout=timeout)
    if self.should_stop:
        raise ServiceStopped
    if result.stopped:
        raise Hangs(f"expected each step of table recovery to end within {timeout:.0f} s; is the broker reachable?")
    if self.signal_recovery_start in result.done:
        raise RebalanceAgain


async def _on_recovery_completed(self: Any, generation_id: int = 0) -> None:
    self.log.info("Restore complete!")
    self._set_recovery_ended()
    for table in self.tables.values():
        await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
    await resume(self, generation_id)


async def resume(self: Any, generation_id: int = 0) -> None:
    """Let the streams of this assignment run, from their committed offsets and nowhere else."""
    app = self.app
    consumer = app.consumer
    await app.on_rebalance_complete.send()
    consumer.stop_flow()
    # FETCH at most, unless the group is forming again: then the fetch ends with the next assignment, whose recovery
    # takes this one's place. agents.topology stops a worker that waits for ever.
    await self._wait(consumer.parked)
    streams = {tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)}
    await self._wait(consumer.perform_seek(), timeout=app.conf.broker_request_timeout)
    if app.consumer_generation_id != generation_id:
        self.log.warning("another rebalance began during recovery: its own recovery resumes the flow")
        return
    for tp in streams:
        consumer._acked.pop(tp, None)
        consumer._acked_index.pop(tp, None)
        consumer._gap.pop(tp, None)
    consumer._buffered_partitions.clear()
    consumer.resume_partitions(streams)
    self.completed.set()
    app.flow_control.resume()  # empties the streams' queues too
    consumer.resume_flow()
    await app._fetcher.maybe_start()
    self.tables.on_actives_ready()
    if not self.tables or not app.assignor.assigned_standbys():
        self.tables.on_standbys_ready()
    app.on_rebalance_end()
    self.log.info("Worker ready")
