"""How the app ends: by a key, by a signal, or as its terminal goes away while a run goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver

from lightx2v_tui.shell.downloading import DownloadingApp
from lightx2v_tui.shell.hardy_driver import HardyDriver

if TYPE_CHECKING:
    from lightx2v_tui.downloads.downloader import Downloader
    from lightx2v_tui.runs.launcher import Launcher

QUIT_SECONDS = 5.0  # how long leaving waits for the engine to notice that it should stop
TWICE = 2.0  # seconds in which a second Ctrl+C is meant for good
BY_SIGNAL = 128  # an exit code above this one says by which signal


class LeavingApp(DownloadingApp):
    """Ends as it was asked to; without a terminal it leaves what runs to `detached.finish`."""

    _launcher: Launcher | None = None
    _asked_at = float("-inf")  # when it was asked by Ctrl+C to end

    def get_driver_class(self) -> type[Driver]:
        """The driver of this platform; on a real terminal one that survives it."""
        usual = super().get_driver_class()
        return HardyDriver if usual is LinuxDriver else usual

    def on_mount(self) -> None:
        """Listen to signals, where there is a terminal they can come from."""
        if self.is_headless:
            return
        self._loop_of_app = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    @property
    def ongoing(self) -> tuple[Launcher | None, Downloader | None]:
        """What goes on without a screen."""
        return self._launcher, self._downloader

    @property
    def busy(self) -> bool:
        """True while a run is under way."""
        return self._launcher is not None and self._launcher.busy

    @property
    def _at_work(self) -> bool:
        """True while a run is under way or waits."""
        return self.busy or (self._launcher is not None and bool(self._launcher.waiting))

    def _signalled(self, number: int, _frame: object) -> None:
        """Heed a signal; this is called between any two steps of the program."""
        now = time.monotonic()
        if number != signal.SIGHUP and now - self._asked_at < TWICE:
            self._force(BY_SIGNAL + number)
        if number == signal.SIGTERM:
            self._asked_at = now
        self._loop_of_app.call_soon_threadsafe(self._heed, number)

    def _heed(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.terminal_lost()
        elif number == signal.SIGTERM:
            self._end(BY_SIGNAL + number)
        else:
            self.action_help_quit()

    def terminal_lost(self) -> None:
        """Go without a screen; what was asked meanwhile is answered by nobody."""
        if self.hung_up:
            return
        self.hung_up = True
        if isinstance(self._driver, HardyDriver):
            self._driver.lose()
        self.answer_for_nobody()
        if self._launcher is not None and self._launcher.paused:
            self._launcher.resume()  # nobody else could
        self.exit(0)

    def answer_for_nobody(self) -> None:
        """Answer what the engine asks with no."""

    def action_help_quit(self) -> None:
        """Ask as `q` does; once more within two seconds leaves at once."""
        now = time.monotonic()
        if now - self._asked_at < TWICE:
            self._force(BY_SIGNAL + signal.SIGINT)
        self._asked_at = now
        self.action_leave()

    async def action_quit(self) -> None:
        """Quit as `q` does, wherever the wish comes from."""
        self.action_leave()

    def action_leave(self) -> None:
        """Quit, asking first where a run is under way or waits."""
        if self._at_work:
            from lightx2v_tui.widgets.waiting import in_words

            assert self._launcher is not None
            text = (
                "A video is being made. Quitting stops it; the steps that were done are kept, and "
                "the next start offers to go on." + in_words(self._launcher.waiting)
            )
            self._ask("Quit and stop the run?", text)
        elif self.downloading:
            text = "What has arrived is kept: the next download of it goes on from there."
            self._ask("Quit and stop the download?", text)
        else:
            self._leave(True)

    def _ask(self, title: str, text: str) -> None:
        from lightx2v_tui.screens.dialogs import Question

        if not any(isinstance(screen, Question) and screen.has_class("leaving")
                   for screen in self.screen_stack):  # fmt: skip
            question = Question(title, text)
            question.add_class("leaving")
            self.push_screen(question, self._leave)

    def _leave(self, yes: bool | None) -> None:
        if yes:
            if self._launcher is not None:
                self._launcher.close(0.0)  # without this the next in line would start
            self.exit(0)

    def _end(self, code: int) -> None:
        """End without asking; what was done is kept."""
        if self._launcher is not None:
            self._launcher.interrupt()
        self.exit(0, return_code=code)

    def _force(self, code: int) -> None:
        """End now, whatever is under way; the last checkpoint is whole."""
        if self._launcher is not None:
            self._launcher.abandon()
        if isinstance(self._driver, HardyDriver):
            self._driver.restore_now()
        os._exit(code)

    def on_unmount(self) -> None:
        """Let the engine end before the process does; without a terminal it goes on."""
        self.answer_for_nobody()
        if self._launcher is not None and not self.hung_up:
            self._launcher.close(QUIT_SECONDS)
            self._launcher.abandon()  # where it has not noticed: this is how it ended
