"""Work of a widget that must not hold up the screen, nor the leaving of the app."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

from textual.message_pump import MessagePump

T = TypeVar("T")


def in_background(widget: MessagePump, work: Callable[[], T], take: Callable[[T], None]) -> None:
    """Do `work` on a thread of its own and hand its result to `take`, in the event loop.

    A disk that does not answer keeps the thread for ever; as it is a daemon, the app still ends.
    `work` must not raise: what can go wrong is part of its result. What comes back while the app
    ends is dropped, because its screens are taken down before it stops to listen.
    """

    def hand_over(result: T) -> None:
        if widget.app.is_running:
            take(result)

    def run() -> None:
        result = work()
        with suppress(RuntimeError):  # the app has ended meanwhile
            widget.call_later(hand_over, result)

    Thread(target=copy_context().run, args=(run,), daemon=True).start()
