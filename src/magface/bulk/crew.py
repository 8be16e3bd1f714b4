"""Processes that read shards, and what becomes of a shard whose process dies.

A process marks each photo in shared memory when it begins and when it has done it. When it dies (a damaged file that a
decoder cannot bear, or no memory), those that were begun and not done are suspects. The next process reads each suspect
alone before it reads the shard again: dies it over one, that photo is to blame, and after the second time it is left
out and written down as a failure. So neither a file nor a kill loses any other photo, or stops the job.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from magface.bulk import shards
from magface.bulk.plan import Entry, Plan
from magface.bulk.reader import Reader, Source
from magface.bulk.shards import Found
from magface.errors import EngineError, MagfaceError

_BEGUN, _DONE = 1, 2
_SECONDS = 0.2
_BLAMED = 2
"""Deaths over one photo after which it is left out."""
_CRASHES = 3
"""Deaths over several photos at once after which all photos of the shard are read alone."""
_HOPELESS = 6
"""Deaths over several photos or none after which the job ends."""


@dataclass(slots=True)
class Task:
    """A shard, and what is known of its photos.

    Attributes:
        shard: its number.
        left_out: index of photos that must not be read, and why.
        suspects: index of photos to read alone first.
        alone: whether to read every photo alone.
        deaths: of processes over one photo, by its index.
        crashes: deaths over several photos, or none.
    """

    shard: int
    left_out: dict[int, str] = field(default_factory=dict)
    suspects: list[int] = field(default_factory=list)
    alone: bool = False
    deaths: dict[int, int] = field(default_factory=dict)
    crashes: int = 0

    def learn(self, states: Sequence[int], entries: Sequence[Entry], cause: str) -> None:
        """Take what the marks of a process say that died.

        Args:
            states: mark of each photo.
            entries: the photos.
            cause: how it died.

        Raises:
            EngineError: it died too often without a photo to blame.
        """
        begun = [index for index, state in enumerate(states) if state == _BEGUN]
        self.suspects = [*begun, *(index for index in self.suspects if states[index] == 0)]
        if len(begun) != 1:
            self.crashes += 1
            self.alone = self.crashes >= _CRASHES
            if self.crashes >= _HOPELESS:
                raise EngineError(
                    f"the processes that read photos end before they are done ({cause}); make sure that there is "
                    "enough memory, or choose fewer --processes. What is done is kept."
                )
            return
        [index] = begun
        self.deaths[index] = self.deaths.get(index, 0) + 1
        if self.deaths[index] >= _BLAMED:
            self.suspects.remove(index)
            name = entries[index].name
            self.left_out[index] = f"{name} ends the process that reads it ({cause}); leave it out, or save it again."


class Crew:
    """Processes that wait for shards; as a context manager it ends them.

    Args:
        plan: of the photos.
        source: what reads them.
        processes: how many, >= 1.
        threads: of each, >= 1.
    """

    def __init__(self, plan: Plan, source: Source, processes: int, threads: int) -> None:
        self._plan, self._source, self._processes, self._threads = plan, source, processes, threads
        self._idle: list[_Hand] = []
        self._busy: dict[_Hand, Task] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        hands = [*self._idle, *self._busy]
        for hand in hands:
            hand.process.terminate()
        for hand in hands:
            hand.end()

    def run(self, numbers: Iterable[int], progress: Callable[[int], object] = lambda photos: None) -> None:
        """Read shards, each once.

        Args:
            numbers: of the shards.
            progress: called with the photos that were done since the last call; a negative number where a shard must be
                read again.

        Raises:
            MagfaceError: the model cannot be used, a detector fails, or processes die whatever they read.
            OSError: a shard cannot be written.
        """
        waiting = deque(Task(number) for number in numbers)
        finished = told = 0
        while waiting or self._busy:
            while waiting and len(self._busy) < self._processes:
                hand = self._idle.pop() if self._idle else _Hand(self._plan, self._source, self._threads)
                self._busy[hand] = waiting.popleft()
                hand.give(self._busy[hand])
            ready = connection.wait([hand.pipe for hand in self._busy], _SECONDS)
            for hand, task in [(hand, task) for hand, task in self._busy.items() if hand.pipe in ready]:
                if hand.finished():
                    finished += self._plan.sizes[task.shard]
                    self._idle.append(hand)
                else:
                    cause = hand.cause()
                    task.learn(hand.states, self._plan.entries(task.shard), cause)
                    waiting.appendleft(task)
                del self._busy[hand]
            done = finished + sum(bytes(hand.states).count(_DONE) for hand in self._busy)
            progress(done - told)
            told = done


class _Hand:
    """One process."""

    def __init__(self, plan: Plan, source: Source, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.states: Any = context.RawArray("B", max(plan.sizes))
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(plan, source, threads, self.states, other), daemon=True)
        with _interrupts_held():
            self.process.start()
        other.close()
        self._words = ""

    def give(self, task: Task) -> None:
        self.states[:] = bytes(len(self.states))
        with suppress(OSError):  # it has died, and the pipe tells
            self.pipe.send(task)

    def finished(self) -> bool:
        """Whether the task was done; otherwise the process has ended, or will.

        Raises:
            MagfaceError: of the process.
            OSError: likewise.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            return False
        if isinstance(answer, BaseException):
            raise answer
        self._words = answer
        return not answer

    def cause(self) -> str:
        """How the process died."""
        self.end()
        code = self.process.exitcode or 0
        return self._words or (signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def end(self) -> None:
        self.pipe.close()
        self.process.join()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process that starts inherit that Ctrl-C is not for it; where there are no masks it learns that later."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(plan: Plan, source: Source, threads: int, states: Any, pipe: Any) -> None:
    """What a process does: task after task, to the end of the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        reader = Reader(source, threads)
        reader.check(plan)
        while True:
            task: Task = pipe.recv()
            shards.write(plan, task.shard, _found(reader, plan.entries(task.shard), task, states), reader.card)
            pipe.send("")
    except EOFError:
        return
    except (MagfaceError, OSError) as error:
        pipe.send(error)
    except Exception as error:  # of a detector, or of memory: as if the process had died
        pipe.send(traceback.format_exception_only(error)[-1].strip())


def _found(reader: Reader, entries: Sequence[Entry], task: Task, states: Any) -> Iterator[Found]:
    """What is in each photo of a shard, marked as it is read."""

    def read(indices: Sequence[int]) -> Iterator[Found]:
        def begin(place: int) -> None:
            states[indices[place]] = _BEGUN

        found = reader.read([entries[index] for index in indices], begin)
        for index, each in zip(indices, found, strict=True):
            states[index] = _DONE
            yield each

    for index in task.suspects:
        list(read([index]))
    states[:] = bytes(len(states))
    kept = [index for index in range(len(entries)) if index not in task.left_out]
    found = (each for index in kept for each in read([index])) if task.alone else read(kept)
    for index in range(len(entries)):
        if index in task.left_out:
            states[index] = _DONE
            yield Found(error=task.left_out[index])
        else:
            yield next(found)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)
