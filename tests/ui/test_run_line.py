"""The line of runs on the run screen: one follows another by itself, by keys alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.messages import RunWanted
from lightx2v_tui.screens.dialogs import ErrorDialog, Question
from lightx2v_tui.screens.run import RunScreen
from lightx2v_tui.widgets.waiting import WaitingList
from tests.ui.driver import cut_off, text_of, until, until_text
from tests.ui.run_driver import LONG, plan_of, start, start_paused

MakeApp = Callable[..., LightX2VApp]


def seeded(plan: Plan, seed: int) -> Plan:
    """The same run from another seed."""
    return plan.with_seed(seed)


def toasts(app: LightX2VApp) -> set[str]:
    """What is told in passing, without its particulars."""
    return {note.message.partition(":")[0] for note in app._notifications}


def seeds(app: LightX2VApp) -> list[int]:
    """Seeds of the waiting runs, the first one first."""
    return [wanted.plan.job.seed for wanted in app.launcher.waiting]


async def test_a_new_seed_is_queued_while_a_run_is_under_way_and_starts_by_itself(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model))
        first = screen.run_shown
        await pilot.press("n")
        await until_text(pilot, "1 waiting")
        assert not cut_off(app)
        assert "paused" in text_of(app)
        await pilot.press("space")
        await until(pilot, lambda: len(app.launcher.runs) == 2, "the second run")
        await until(pilot, lambda: screen.run_shown is not first, "the screen follows")
        assert app.launcher.waiting == ()
        assert "1 waiting" not in text_of(app)
        await until(pilot, lambda: "Saved" in toasts(app), "the first one's end in passing")
        await until_text(pilot, "Made in")
        one, two = app.launcher.runs
        assert one.plan.job.seed != two.plan.job.seed
        assert one.plan.job.output != two.plan.job.output
        assert one.plan.job.output.exists()
        assert two.plan.job.output.exists()
        assert "Run 2 of 2" in text_of(app)
        await pilot.press("left_square_bracket")
        assert "Run 1 of 2" in text_of(app)
        assert f"seed {one.plan.job.seed}" in text_of(app)
        await pilot.press("right_square_bracket", "right_square_bracket")
        await until_text(pilot, "This is the newest run.")
        assert "Run 2 of 2" in text_of(app)


async def test_waiting_runs_are_reordered_removed_and_put_back_by_keys(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=size, notifications=True) as pilot:
        plan = plan_of(demo_model)
        screen = await start_paused(pilot, plan)
        for seed in (11, 22, 33):
            await start(pilot, seeded(plan, seed))
        await until_text(pilot, "3 waiting")
        for _ in range(5):
            if isinstance(app.focused, WaitingList):
                break
            await pilot.press("tab")
        assert isinstance(app.focused, WaitingList)
        told = [line for line in text_of(app).splitlines() if "Queued" in line]
        assert len(told) == 1  # the newest alone, over the keys
        assert "after 3 other runs" in told[0]
        app.clear_notifications()
        await pilot.pause()
        assert not cut_off(app)
        assert "Keys" in text_of(app).splitlines()[-1]
        await pilot.press("shift+down")
        assert seeds(app) == [22, 11, 33]
        await pilot.press("J")
        assert seeds(app) == [22, 33, 11]
        await pilot.press("J")  # it is the last one already
        assert seeds(app) == [22, 33, 11]
        await pilot.press("shift+up")
        assert seeds(app) == [22, 11, 33]
        await pilot.press("x")
        assert seeds(app) == [22, 33]
        await until_text(pilot, "2 waiting")
        await until_text(pilot, "u puts it back.")
        await pilot.press("u")
        assert seeds(app) == [22, 11, 33]
        await pilot.press("delete", "delete", "delete")
        assert seeds(app) == []
        assert not screen.query_one(WaitingList).display
        await pilot.press("q")
        assert isinstance(app.screen, Question)
        await pilot.press("y")


async def test_cancelling_starts_the_next_and_only_the_run_that_was_asked_about_ends(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        plan = plan_of(demo_model, LONG)
        screen = await start(pilot, plan)
        await start(pilot, seeded(plan, 5))
        await until(pilot, lambda: "● Denoise" in text_of(app), "denoising")
        await pilot.press("c")
        assert isinstance(app.screen, Question)
        assert "(1 waiting)" in text_of(app)
        await pilot.press("y")
        await until(pilot, lambda: len(app.launcher.runs) == 2, "the second run")
        await until(pilot, lambda: screen.run_shown.plan.job.seed == 5, "the screen follows")
        await until(pilot, lambda: "The run was cancelled" in toasts(app), "the end in passing")
        assert app.launcher.busy
        await pilot.press("c", "y")
        await until_text(pilot, "Cancelled.")


async def test_a_question_about_a_run_that_ended_meanwhile_cancels_nothing(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model))
        first = screen.run_shown
        await start(pilot, plan_of(demo_model, LONG))
        await pilot.press("c")
        assert isinstance(app.screen, Question)
        app.launcher.resume()
        await until(pilot, lambda: screen.run_shown is not first, "the screen follows")
        await pilot.press("y")
        await until_text(pilot, "● Denoise")
        assert first.plan.job.output.exists()
        assert not screen.run_shown.ended
        await pilot.press("q", "y")


async def test_a_failed_run_does_not_hold_the_line_up(
    make_app: MakeApp, demo_model: Path, model_copy: Path
) -> None:
    broken = plan_of(model_copy)
    damage = model_copy / "distill_models" / "distill_model.safetensors"
    data = damage.read_bytes()
    app = make_app(places=[])
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model))
        damage.write_bytes(data[:-4000] + b"\xff" * 4000)  # bf16 values that are not numbers
        for plan in (broken, broken, plan_of(demo_model)):
            await start(pilot, plan)
        await pilot.press("space")
        await until(pilot, lambda: len(app.launcher.runs) == 4, "the last run")
        await until(pilot, lambda: "The run failed" in toasts(app), "the failures in passing")
        await until_text(pilot, "Made in")
        assert not any(isinstance(each, ErrorDialog) for each in app.screen_stack)
        await pilot.press("left_square_bracket")
        assert "not finite" in text_of(app)
        assert str(app.launcher.runs[2].folder.log)[:40] in text_of(app)
        assert screen.run_shown is app.launcher.runs[2]


async def test_quitting_names_what_waits_and_starts_none_of_it(
    make_app: MakeApp, demo_model: Path, own_home: Path
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        plan = plan_of(demo_model, LONG)
        await start(pilot, plan)
        await start(pilot, seeded(plan, 77))
        await pilot.press("q")
        assert isinstance(app.screen, Question)
        await until_text(pilot, "One waiting run is dropped too")
        assert "seed 77" in text_of(app)
        await pilot.press("y")
        await pilot.pause()
    assert app.return_code == 0
    assert len(app.launcher.runs) == 1
    assert not app.launcher.busy
    assert len(list((own_home / "data").rglob("status.json"))) == 1


async def test_a_new_seed_does_not_write_over_a_video_with_a_name_of_its_own(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    plan = plan_of(demo_model)
    plan = plan.with_output(tmp_path / "fox.mp4").with_seed(1)
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        app.post_message(RunWanted(plan, own_folder=False))
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await until_text(pilot, "Made in")
        for count in (2, 3):
            await pilot.press("n")
            await until(pilot, lambda: len(app.launcher.runs) == count, "another run")  # noqa: B023
            await until_text(pilot, "Made in")
        runs = app.launcher.runs
        assert [run.plan.job.output.name for run in runs] == [
            "fox.mp4", *(f"fox-{run.plan.job.seed}.mp4" for run in runs[1:]),
        ]  # fmt: skip
        assert all(run.plan.job.output.exists() for run in runs)


async def test_what_cannot_start_is_told_and_keeps_the_line(
    make_app: MakeApp, demo_model: Path, own_home: Path
) -> None:
    plan = plan_of(demo_model)
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        (own_home / "data").write_text("no folder")
        app.post_message(RunWanted(plan, own_folder=True))
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        assert "No run folder could be made" in text_of(app)
        assert app.launcher.waiting == ()
        assert not app.launcher.busy
        await pilot.press("escape")
        (own_home / "data").unlink()
        await start(pilot, replace(plan))
        await until_text(pilot, "Made in")
