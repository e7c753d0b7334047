"""The part of the app that owns the downloads: they go on whatever screen is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.timer import Timer

from lightx2v_tui.messages import (
    DownloadEnded,
    DownloadOpened,
    DownloadWanted,
    ErrorMet,
    ModelsChanged,
)
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.shell.appearance import DressedApp
from lightx2v_tui.units import size

if TYPE_CHECKING:
    from lightx2v_tui.downloads.downloader import Download, Downloader

TELL_SECONDS = 1.0  # between two figures in the title of the models
CLOSE_SECONDS = 2.0


def in_short(download: Download) -> str:
    """How far a download is, in a few letters."""
    return f"↓ {download.fraction:.0%} {size(int(download.speed))}/s"


class DownloadingApp(DressedApp):
    """Starts, shows and ends downloads."""

    hung_up = False  # the terminal is gone
    _downloader: Downloader | None = None
    _telling: Timer | None = None

    @property
    def downloader(self) -> Downloader:
        """The downloads, made when they are first needed."""
        if self._downloader is None:
            from lightx2v_tui.downloads.downloader import Downloader

            self._downloader = Downloader(self._tell_download_ended)
        return self._downloader

    @property
    def downloading(self) -> bool:
        """True while something is fetched."""
        return self._downloader is not None and self._downloader.busy

    def _tell_download_ended(self, download: Download) -> None:
        self.post_message(DownloadEnded(download))

    def on_download_opened(self, message: DownloadOpened) -> None:
        """Show the download under way, or let one be chosen."""
        if self.downloading and not message.another:
            self._show_downloads()
            return
        from lightx2v_tui.screens.download import DownloadScreen
        from lightx2v_tui.screens.downloads import DownloadsScreen

        screen = DownloadScreen(message.repository, message.place)
        if isinstance(self.screen, DownloadsScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def _show_downloads(self) -> None:
        from lightx2v_tui.screens.download import DownloadScreen
        from lightx2v_tui.screens.downloads import DownloadsScreen

        screen = DownloadsScreen(self.downloader)
        if isinstance(self.screen, DownloadScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def on_download_wanted(self, message: DownloadWanted) -> None:
        """Fetch something, and show it."""
        if not self.downloader.want(message.plan):
            self.notify("It begins after the one under way.", title="Queued")
        if self._telling is None:
            self._telling = self.set_interval(TELL_SECONDS, self._tell_models)
        self._show_downloads()

    def on_download_cancel_wanted(self) -> None:
        """Stop the download under way."""
        if self._downloader is not None:
            self._downloader.cancel()

    def on_download_ended(self, message: DownloadEnded) -> None:
        """Say how a download ended, and look at what it brought."""
        download = message.download
        name = download.plan.repository
        if download.error is not None:
            self.post_message(ErrorMet(download.error))
        elif download.cancelled:
            text = f"{name}: what has arrived is kept, and is not fetched again."
            self.notify(text, title="Download stopped", markup=False)
        else:
            self.notify(f"{name} is in {download.plan.folder}", title="Downloaded", markup=False)
        self._tell_models()
        if not self.downloading and self._telling is not None:
            self._telling.stop()
            self._telling = None
        self.post_message(ModelsChanged())

    def _tell_models(self) -> None:
        """Say on the models' screen how far the download is.

        Not below another screen, which would be drawn anew as a whole; but the end of it always.
        """
        download = self._downloader.download if self._downloader is not None else None
        text = in_short(download) if download is not None and self.downloading else ""
        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen) and (screen.is_active or not text):
                screen.tell_download(text)

    def on_unmount(self) -> None:
        """Stop what is fetched before the process ends; without a terminal it goes on."""
        if self._downloader is not None and not self.hung_up:
            self._downloader.close(CLOSE_SECONDS)
