"""What is done with a past run on a thread: nothing raises, what went wrong is handed back."""

from __future__ import annotations

from engine.spec.errors import EngineError
from lightx2v_tui.launch.forecast import Held
from lightx2v_tui.messages import RunWanted
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import history
from lightx2v_tui.runs.history import PastRun


def preset_or_error(run: PastRun) -> Preset | EngineError:
    """Read the settings of a run."""
    try:
        return history.preset_of(run)
    except EngineError as error:
        return error


def log_or_reason(run: PastRun) -> str:
    """Read the end of a run's log, or say why there is nothing to read."""
    try:
        return history.log_tail(run).strip() or "The log is empty."
    except OSError as error:
        return f"{run.log} cannot be read: {error.strerror}"


def deleted(run: PastRun) -> EngineError | None:
    """Delete a run's folder; gives what was against it."""
    try:
        history.delete(run)
    except OSError as error:
        why = f"{run.folder}: {error.strerror or error}"
        return EngineError(f"{run.id} was not deleted", why, "Delete the folder yourself.")
    return None


def planned(preset: Preset, held: Held) -> RunWanted | EngineError:
    """Plan a run on this machine as it is now; what is against it is told, not raised."""
    from lightx2v_tui.launch.planning import plan_here

    try:
        plan, _ = plan_here(preset, held)
    except EngineError as error:
        return error
    except Exception as error:  # noqa: BLE001 - boundary: the screen stays, and says what it was
        why = f"{type(error).__name__}: {error}"
        return EngineError("The run could not be planned", why, "Open it with e, and look at it.")
    return RunWanted(plan, own_folder=preset.output is None)
