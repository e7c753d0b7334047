"""The Hugging Face hub as the app sees it: what a repository holds, and bytes of its files.

`huggingface_hub` brings addresses, login, proxies and mirrors. Its own downloads start a file anew
when they were interrupted, so the bytes are asked for here, from where the last try ended.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from engine.spec.errors import Cancelled, EngineError, JobError
from lightx2v_tui.catalog.repositories import MODELS
from lightx2v_tui.downloads.parts import RemoteFile

TIMEOUT = 20.0  # seconds without an answer
AHEAD = 64  # pieces that are read while one is written
TICK = 0.1
LOGIN = "run `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Repository:
    """A repository at one revision."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]


class PassingError(Exception):
    """The connection failed in a way that may pass: another try is worth it."""


def look(name: str) -> Repository:
    """Ask the hub what a repository holds.

    Raises:
        EngineError: there is no such repository, it is not open to this user, or no answer came.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    _be_quiet()
    try:
        if name.count("/") != 1:  # the hub's oldest names have no owner; no video model does
            raise HFValidationError(name)
        info = HfApi().model_info(name, files_metadata=True, timeout=TIMEOUT)
    except HFValidationError:
        why = "a repository is called OWNER/NAME, such as lightx2v/Encoders"
        raise JobError(f"`{name}` is no name of a repository", why, _near(name)) from None
    except (OSError, _network_error()) as error:
        raise in_words(error, name) from error
    files = tuple(
        RemoteFile(each.rfilename, each.size or 0,
                   each.lfs.sha256 if each.lfs is not None else each.blob_id or "")
        for each in info.siblings or ()
    )  # fmt: skip
    return Repository(name, info.sha or "main", files)


def _network_error() -> type[Exception]:
    """The errors of the HTTP library that this release of huggingface_hub stands on."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__bases__[0])


def _be_quiet() -> None:
    """Its warnings would be written over the screen; what matters is told by errors."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def in_words(error: Exception, name: str) -> EngineError:
    """A failure of the hub or of the way to it, told so that the user can act on it."""
    from huggingface_hub import constants, errors

    what = f"{name} cannot be fetched"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return EngineError(what, "HF_HUB_OFFLINE forbids to ask the hub", "Unset HF_HUB_OFFLINE.")
    if isinstance(error, errors.GatedRepoError):
        fix = f"Ask on {constants.ENDPOINT}/{name}, then {LOGIN}."
        return EngineError(what, "its owner gives it only to those who asked for it", fix)
    if isinstance(error, errors.RepositoryNotFoundError):
        why = f"{constants.ENDPOINT} shows no such repository, or only to its owner"
        return EngineError(what, why, f"{_near(name)} For a private one, {LOGIN}.")
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(what, error.response.status_code, error)
    fix = "Check the network and its proxy (HTTPS_PROXY); HF_ENDPOINT names a mirror."
    return EngineError(what, f"{constants.ENDPOINT} cannot be reached: {_first_line(error)}", fix)


def _of_status(what: str, status: int, error: Exception) -> EngineError:
    if status in (401, 403):
        return EngineError(what, f"the hub refuses this login ({status})", f"Log in: {LOGIN}.")
    if status == 404:
        return EngineError(what, f"the hub has not got it: {_first_line(error)}", "Look again.")
    if status == 429:
        fix = f"Wait some minutes; the hub allows more to users it knows: {LOGIN}."
        return EngineError(what, "the hub wants fewer requests (429)", fix)
    why = f"the hub answers with an error ({status})"
    return EngineError(what, why, "Try again later; what has arrived is kept.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _near(name: str) -> str:
    """The known repository that a name is most like, as a question."""
    last = {known.partition("/")[2].lower(): known for known in MODELS if known != name}
    near = get_close_matches(name.rpartition("/")[2].lower(), [*last], 1, 0.5)
    return f"Did you mean {last[near[0]]}?" if near else "Check its name on huggingface.co."


def pieces(
    repository: str, revision: str, file: str, start: int, stop: threading.Event
) -> Iterator[int | bytes]:
    """Yield where the answer really begins, then the bytes of a file from there on.

    A thread reads, because a connection that is silent cannot be interrupted: it is left behind.

    Raises:
        Cancelled: `stop` was set.
        PassingError: worth another try.
        EngineError: not worth one.
    """
    line: queue.Queue[int | bytes | Exception | None] = queue.Queue(AHEAD)
    gone = threading.Event()
    reader = _Reader(repository, revision, file, start, line, gone)
    threading.Thread(target=reader.run, daemon=True, name="download").start()
    try:
        while True:
            if stop.is_set():
                raise Cancelled
            try:
                item = line.get(timeout=TICK)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        gone.set()


@dataclass(frozen=True)
class _Reader:
    """Reads one answer into a line, until nobody takes from it any more."""

    repository: str
    revision: str
    file: str
    start: int
    line: queue.Queue[int | bytes | Exception | None]
    gone: threading.Event

    def run(self) -> None:
        """Read; whatever goes wrong is handed over too."""
        try:
            for item in self._read():
                if not self._put(item):
                    return
            self._put(None)
        except Exception as error:  # noqa: BLE001 - boundary: of a thread that nobody waits for
            self._put(self._judged(error))

    def _put(self, item: int | bytes | Exception | None) -> bool:
        while not self.gone.is_set():
            with suppress(queue.Full):
                self.line.put(item, timeout=TICK)
                return True
        return False

    def _read(self) -> Iterator[int | bytes]:
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported all the same
            build_hf_headers,
            hf_raise_for_status,
        )

        url = hf_hub_url(self.repository, self.file, revision=self.revision)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self.start:
            headers["Range"] = f"bytes={self.start}-"
        stream = get_session().stream("GET", url, headers=headers, timeout=TIMEOUT)
        with stream as response:
            if response.status_code >= 400:
                response.read()
                hf_raise_for_status(response)
            yield self.start if response.status_code == 206 else 0
            yield from response.iter_bytes()  # of any size: what has come is not waited with

    def _judged(self, error: Exception) -> Exception:
        """Whether another try is worth it, with the reason in words."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        told = in_words(error, f"{self.file} of {self.repository}")
        if isinstance(error, HfHubHTTPError):
            passing = error.response.status_code in (408, 416, 429) or (
                error.response.status_code >= 500
            )
        else:
            passing = not isinstance(error, OfflineModeIsEnabled)
        if not passing:
            return in_words(error, self.repository)
        made = PassingError(told.why)
        made.__cause__ = told
        return made
