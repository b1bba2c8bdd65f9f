"""Tell how far the work has got, and end it within one chunk.

Threads of this process report to the `Watch` that waits for them. Workers of ``dask.distributed``
have none: they send events, which the scheduler hands on to the client.
"""

import sys
import threading
from contextlib import contextmanager

__all__ = ["Stopped", "Watch", "step", "steps_of"]

# Of this process alone, by the topic of the plan.
_watches = {}


class Stopped(RuntimeError):
    """Raised in place of starting a chunk whose result nobody waits for any more."""


def steps_of(plan):
    """Number of times that a chunk is worked on."""
    cells = (len(plan.row_ends) - 1) * (len(plan.column_ends) - 1)
    return cells * max(len(plan.sweeps), 1)


@contextmanager
def step(plan):
    """Report the work within, once it is done."""
    watch = _watches.get(plan.topic)
    if watch is None:
        yield
        _send(plan.topic)
        return
    watch._begin()
    try:
        yield
    except BaseException:
        watch._end(done=False)
        raise
    watch._end(done=True)


def _send(topic):
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return
    try:
        worker = distributed.get_worker()
    except ValueError:
        return
    worker.log_event(topic, 1)


class Watch:
    """Listen to the work on a plan while it is computed.

    Left with an exception, Ctrl-C for one, it lets no further chunk start in this process, and
    waits for those that are under way.

    Parameters
    ----------
    plan : Plan
    report : callable
        Called as ``report(done)`` with the number of steps done, from any thread.
    client : distributed.Client, optional
        Where the work runs, if not in this process.
    """

    def __init__(self, plan, report, client=None):
        self.topic, self.report, self.client = plan.topic, report, client
        self._condition = threading.Condition()
        self._active, self._done, self._stopped = 0, 0, False

    def __enter__(self):
        _watches[self.topic] = self
        if self.client is not None:
            self.client.subscribe_topic(self.topic, lambda _: self._count())
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            with self._condition:
                self._stopped = True
                self._condition.wait_for(lambda: not self._active)
        _watches.pop(self.topic, None)
        if self.client is not None and self.client.status == "running" and kind is None:
            self.client.unsubscribe_topic(self.topic)

    def _begin(self):
        with self._condition:
            if self._stopped:
                raise Stopped("The work was ended before this chunk.")
            self._active += 1

    def _end(self, done):
        with self._condition:
            self._active -= 1
            self._condition.notify_all()
        if done:
            self._count()

    def _count(self):
        with self._condition:
            self._done += 1
            done = self._done
        self.report(done)
