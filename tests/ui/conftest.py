"""An app on the demo model, driven by Textual's Pilot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.demo import demo_preset

SIZES = [(80, 24), (120, 36)]


@pytest.fixture(params=SIZES, ids=["80x24", "120x36"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The terminal sizes every screen is tested at."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def make_app(demo_model: Path) -> Callable[..., LightX2VApp]:
    """Make the app, on the model list or on the launch form of the demo preset."""

    def make(*, launch: bool = False, places: list[Path] | None = None) -> LightX2VApp:
        values = ("target_width=64", "target_height=64", "target_video_length=5")
        preset = (lambda: demo_preset(demo_model, values)) if launch else None
        return LightX2VApp(places if places is not None else [demo_model.parent], preset)

    return make
