"""Networks that stay loaded between runs, so that a second run loads only what changed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

import torch
from torch import Tensor, nn

from engine.build import make_cancellable
from engine.spec.events import Event
from engine.spec.header import unreadable
from engine.spec.job import Placing, Placings

Build = Callable[[], Generator[Event, None, nn.Module]]


@dataclass
class _Loaded:
    key: Hashable
    model: nn.Module
    device: torch.device


class Engine:
    """What is loaded: at most one network per slot, and features of the last prompt and image."""

    def __init__(self) -> None:
        self._loaded: dict[str, _Loaded] = {}
        self._features: dict[str, tuple[Hashable, Tensor]] = {}
        self._stop = StopEvent()
        # float32 is asked for where it matters: in comparisons, and in encoding the first frame.
        torch.backends.cudnn.allow_tf32 = False

    def follow(self, stop: StopEvent) -> None:
        """Let the layers of all networks look at the stop event of the run that begins."""
        self._stop = stop

    def network(
        self, slot: str, key: Hashable, device: torch.device, build: Build
    ) -> Generator[Event, None, nn.Module]:
        """Give the network of a slot, loading it with `build` unless it is there under `key`."""
        loaded = self._loaded.get(slot)
        if loaded is not None and loaded.key == key:
            if loaded.device != device:
                loaded.model.to(device)
                loaded.device = device
            return loaded.model
        del loaded
        self.drop(slot)
        model = yield from build()
        make_cancellable(model, lambda: self._stop.is_set())
        self._loaded[slot] = _Loaded(key, model, device)
        return model

    def done(self, slot: str, placing: Placing) -> None:
        """Put the network of a slot where it stays until it is needed again."""
        loaded = self._loaded.get(slot)
        if loaded is None:
            return
        if placing is Placing.DROP:
            del loaded
            self.drop(slot)
        elif placing is Placing.CPU and loaded.device.type != "cpu":
            loaded.model.to("cpu")
            loaded.device = torch.device("cpu")
            release()

    def settle(self, placings: Placings) -> None:
        """Put every network where it stays, however the run ended."""
        places = {"t5": placings.t5, "clip": placings.clip, "dit": placings.dit,
                  "vae": placings.vae, "vae_encoder": placings.vae,
                  "preview_vae": placings.vae}  # fmt: skip
        for slot, placing in places.items():
            self.done(slot, placing)

    def features(self, slot: str, key: Hashable) -> Tensor | None:
        """Give the features kept under `key`."""
        kept = self._features.get(slot)
        return kept[1] if kept is not None and kept[0] == key else None

    def keep_features(self, slot: str, key: Hashable, features: Tensor) -> None:
        """Keep features for the next run with the same `key`."""
        self._features[slot] = (key, features)

    def held(self) -> tuple[int, int]:
        """Bytes of the loaded networks: on the device, and in RAM."""
        vram = ram = 0
        for loaded in list(self._loaded.values()):  # the engine's thread may change it meanwhile
            nbytes = sum(parameter.nbytes for parameter in loaded.model.parameters())
            vram += nbytes if loaded.device.type == "cuda" else 0
            ram += nbytes if loaded.device.type == "cpu" else 0
        return vram, ram

    def held_on(self, kind: str) -> tuple[str, ...]:
        """The slots of the networks that are on the CPU or on CUDA."""
        return tuple(slot for slot, held in self._loaded.items() if held.device.type == kind)

    def drop(self, slot: str) -> None:
        """Let the network of a slot go."""
        if self._loaded.pop(slot, None) is not None:
            release()

    def unload(self) -> None:
        """Let everything go."""
        self._loaded.clear()
        self._features.clear()
        release()


def identity(files: tuple[Path, ...]) -> Hashable:
    """Tell files apart by path, size and time of change: a replaced file is loaded anew.

    Raises:
        CheckpointError: a file is not there any more.
    """
    facts = []
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        facts.append((path, status.st_size, status.st_mtime_ns))
    return tuple(facts)


def release() -> None:
    """Give back the memory of networks that went out of scope."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
