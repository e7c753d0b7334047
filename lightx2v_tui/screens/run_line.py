"""What a screen does with the line of waiting runs: reorder it, shorten it, undo that."""

from __future__ import annotations

from engine.spec.errors import EngineError
from lightx2v_tui.messages import ErrorMet
from lightx2v_tui.runs.launcher import Launcher, Run
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.widgets.waiting import WaitingList, described


class LineScreen(AppScreen[None]):
    """A screen with a `WaitingList` on it."""

    _launcher: Launcher

    def show_run(self, run: Run) -> None:
        """Show a run that was started here."""
        raise NotImplementedError

    def show_waiting(self) -> None:
        """Show the line as it is now."""
        self.query_one(WaitingList).show(self._launcher.waiting)

    def on_waiting_list_moved(self, message: WaitingList.Moved) -> None:
        """Reorder the line."""
        message.stop()
        self._launcher.move(message.number, message.by)
        self.show_waiting()

    def on_waiting_list_dropped(self, message: WaitingList.Dropped) -> None:
        """Shorten the line."""
        message.stop()
        self._launcher.drop(message.number)
        if (wanted := self._launcher.dropped) is not None:
            words = f"u puts it back.  {described(wanted.plan)}"
            self.notify(words, title="Removed", markup=False)
        self.show_waiting()
        self.refresh_bindings()

    def action_put_back(self) -> None:
        """Put the run back that was taken out of the line last."""
        try:
            started = self._launcher.put_back()
        except OSError as error:
            self.post_message(ErrorMet(EngineError("The run could not be recorded", str(error))))
        except EngineError as error:
            self.post_message(ErrorMet(error))
        else:
            if started is not None:
                self.show_run(started)
        self.show_waiting()
        self.refresh_bindings()
