"""The download under way: how far, how fast, which file, and what waits behind it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.widgets import Static

from lightx2v_tui.downloads.fetching import CHECKING, WAITING
from lightx2v_tui.messages import DownloadCancelWanted, DownloadOpened, DownloadWanted
from lightx2v_tui.output import printable
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.units import seconds, size
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.lines import Line
from lightx2v_tui.widgets.meters import bar

if TYPE_CHECKING:
    from lightx2v_tui.downloads.downloader import Download, Downloader

REDRAW_SECONDS = 0.5
BAR = 30  # cells, where there is room
MARKS = {True: "✓", False: "·"}


class DownloadsScreen(AppScreen[None]):
    """Draws what the downloader is doing, twice a second at most."""

    CSS_PATH = "downloads.tcss"
    BINDINGS = [
        Binding("c", "cancel", "Stop", id="downloads.cancel",
                tooltip="Stop the download; what has arrived is kept"),
        Binding("s", "again", "Go on", id="downloads.again",
                tooltip="Go on with a download that was stopped or failed"),
        Binding("n", "another", "Another", id="downloads.another",
                tooltip="Choose something else to fetch after this"),
        Binding("escape,enter", "back", "Models", id="downloads.back",
                tooltip="Back; the download goes on"),
    ]  # fmt: skip

    def __init__(self, downloader: Downloader) -> None:
        super().__init__()
        self._downloader = downloader
        self._listed: object = None  # what the list of files was drawn for

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with Vertical(id="progress", classes="panel"):
            for name in ("overall", "current", "state"):
                yield Line(id=name)
        with VerticalScroll(id="files", classes="panel"):
            yield Static(id="list", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Draw, and go on drawing."""
        self.query_one(TitleBar).place = "Models › Download"
        self.query_one("#files").border_title = "Files"
        self.query_one("#files").focus()
        self._draw()
        self.set_interval(REDRAW_SECONDS, self._draw)

    def on_resize(self) -> None:
        """Bars are as long as there is room for."""
        self._draw()

    def reason_against(self, action: str) -> str:
        """What can be done depends on whether it is still under way."""
        download = self._downloader.download
        running = download is not None and not download.ended
        if action == "cancel" and not running:
            return "Nothing is being fetched."
        if action == "again" and running:
            return "It is under way."
        stopped = download is not None and bool(download.cancelled or download.error)
        return "It is complete." if action == "again" and not stopped else ""

    def _draw(self) -> None:
        download = self._downloader.download
        if download is None or not self.is_mounted:
            return
        event, width = download.event, max(8, min(BAR, self.size.width - 46))
        self.query_one("#overall", Line).show(_progress("all", event.done, event.total, width))
        file = self.query_one("#current", Line)
        if event.file and not download.ended:
            file.show(_progress("file", event.file_done, event.file_total, width))
        else:
            file.hide()
        words, style = _state(download)
        self.query_one("#state", Line).show(Content.styled(printable(words), style))
        self._list(download)

    def _list(self, download: Download) -> None:
        """List the files anew where another one is under way, or what waits has changed."""
        waiting = self._downloader.waiting
        shown = (download.plan, download.event.file, download.ended, waiting)
        if shown == self._listed:
            return
        self._listed = shown
        self.refresh_bindings()
        panel = self.query_one("#progress")
        panel.border_title = escape(printable(download.plan.repository))
        panel.border_subtitle = escape(printable(str(download.plan.folder)))
        lines = _files(download)
        for plan in waiting:
            lines.append((f"then {plan.repository}: {', '.join(plan.variants)}", "$text-muted"))
        told = [(f"{printable(text)}\n", style) for text, style in lines]
        self.query_one("#list", Static).update(Content.assemble(*told))

    def action_cancel(self) -> None:
        """Stop, asking first."""
        from lightx2v_tui.screens.dialogs import Question

        text = "What has arrived is kept: the next download of it goes on from there."
        self.app.push_screen(Question("Stop the download?", text), self._cancel)

    def _cancel(self, yes: bool | None) -> None:
        if yes:
            self.post_message(DownloadCancelWanted())

    def action_again(self) -> None:
        """Go on."""
        if self._downloader.download is not None:
            self.post_message(DownloadWanted(self._downloader.download.plan))

    def action_another(self) -> None:
        """Choose another."""
        self.post_message(DownloadOpened(another=True))

    def action_back(self) -> None:
        """Go back."""
        self.dismiss()


def _progress(title: str, done: int, total: int, width: int) -> Content:
    share = done / total if total else 1.0
    return Content.assemble(
        (f"{title:<5}", "$text-muted"),
        (bar(share, width), "$primary"),
        (f" {share:4.0%}", "bold"),
        f"  {size(done)} of {size(total)}",
    )


def _state(download: Download) -> tuple[str, str]:
    """What is going on, in words, and its style."""
    if download.error is not None:
        return f"failed: {download.error.why or download.error.what}", "$error"
    if download.cancelled:
        return "stopped; what has arrived is kept", "$warning"
    if download.ended:
        return f"complete: it is in {download.plan.folder}", "$success"
    if download.event.state in (WAITING, CHECKING):
        note = download.event.note
        return f"{note}; trying again" if note else "checking what is here of it", "$warning"
    if download.seconds_left is None:
        return "beginning", "$text-muted"
    return f"{size(int(download.speed))}/s, {seconds(download.seconds_left)} left", "$success"


def _files(download: Download) -> list[tuple[str, str]]:
    """A line per file: whether it is here, under way, or to come."""
    names = [planned.file.path for planned in download.plan.files]
    complete = download.ended and not (download.cancelled or download.error)
    at = names.index(download.event.file) if download.event.file in names else 0
    lines = []
    for place, planned in enumerate(download.plan.files):
        here = planned.whole or complete or place < at
        now = place == at and not here and not download.ended
        mark, style = (
            ("▸", "bold $primary") if now else (MARKS[here], "" if here else "$text-muted")
        )
        where = PurePosixPath(planned.file.path)
        lines.append((f"{mark} {size(planned.file.nbytes):>9}  {where}", style))
    return lines
