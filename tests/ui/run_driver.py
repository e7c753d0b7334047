"""Words for what tests of the run screen do: plans for the demo model, and starting them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot

from engine.spec.job import Previews
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.messages import RunWanted
from lightx2v_tui.screens.run import RunScreen
from tests.ui.driver import until

SHORT = ("target_width=64", "target_height=64", "target_video_length=5")
MEDIUM = ("target_width=256", "target_height=160", "target_video_length=9")
LONG = ("target_width=832", "target_height=480", "target_video_length=81")


def plan_of(
    model: Path, values: tuple[str, ...] = SHORT, *, previews: Previews = Previews.OFF
) -> Plan:
    """A planned run of the demo model; its own folder will hold the video."""
    plan = jobs.plan(demo_preset(model, values), jobs.Options(), Path("video.mp4").absolute())
    return replace(plan, job=replace(plan.job, preview=previews))


async def start(pilot: Pilot[int], plan: Plan) -> RunScreen:
    """Ask for a run as screens do, and wait until it is shown."""
    app = pilot.app
    assert isinstance(app, LightX2VApp)
    before = len(app.launcher.runs) + len(app.launcher.waiting)
    app.post_message(RunWanted(plan, own_folder=True))
    await until(
        pilot,
        lambda: (
            len(app.launcher.runs) + len(app.launcher.waiting) > before
            and isinstance(app.screen, RunScreen)
            and app.screen.is_mounted
        ),
        "the run",
    )
    await pilot.pause()
    assert isinstance(app.screen, RunScreen)
    return app.screen


async def start_paused(pilot: Pilot[int], plan: Plan) -> RunScreen:
    """Start a run that stands still from its first look at its control, and show it."""
    app = pilot.app
    assert isinstance(app, LightX2VApp)
    assert app.launcher.want(plan, own_folder=True) is not None
    app.launcher.pause()
    app.action_view_run()
    await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
    await pilot.pause()
    assert isinstance(app.screen, RunScreen)
    return app.screen
