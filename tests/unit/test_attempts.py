"""Where memory is not enough a lower plan is tried: which, how often, and who is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.errors import EngineError, OutOfMemoryFailure
from engine.spec.events import Attempt, CancelledByUser, Done, Event, Failed, StageStarted
from engine.spec.job import Guidance, Job, Placing, Placings, Previews
from engine.spec.ladder import Ask
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import attempts as module
from lightx2v_tui.runs.attempts import attempts, difference

DONE = Done(Path("x"), 1.0)


class Record:
    """Keeps what is written down."""

    def __init__(self) -> None:
        self.begun: list[tuple[Job, str, bool]] = []
        self.failed: list[str] = []

    def begin(self, job: Job, what: str = "", *, lowered: bool = False) -> None:
        self.begun.append((job, what, lowered))

    def gave_up(self, error: EngineError) -> None:
        self.failed.append(error.what)


@pytest.fixture
def job(demo_model: Path, tmp_path: Path) -> Job:
    preset = Preset(model_path=demo_model, width=64, height=64, frames=5)
    return jobs.plan(preset, Options(), tmp_path / "a.mp4").job


def lack(stage: str = "decode", beside: tuple[str, ...] = ()) -> OutOfMemoryFailure:
    return OutOfMemoryFailure("RAM ran out", "of it", "less", stage=stage, device="ram",
                              beside=beside)  # fmt: skip


def running(*endings: Event) -> tuple[Callable[[Job], Iterator[Event]], list[Job]]:
    """An engine that ends each attempt in its turn."""
    ran: list[Job] = []

    def once(job: Job) -> Iterator[Event]:
        ran.append(job)
        yield StageStarted("prepare")
        yield endings[min(len(ran), len(endings)) - 1]

    return once, ran


@pytest.mark.parametrize("ending", [DONE, CancelledByUser(), Failed(EngineError("something else"))])
def test_every_other_end_is_the_end(ending: Event, job: Job) -> None:
    once, ran = running(ending)
    assert list(attempts(job, once, Record())) == [StageStarted("prepare"), ending]
    assert ran == [job]


def test_a_lower_plan_is_tried_and_told(job: Job) -> None:
    once, ran = running(Failed(lack(beside=("dit", "t5"))), DONE)
    record = Record()
    events = list(attempts(job, once, record))
    assert [type(event) for event in events] == [StageStarted, Attempt, StageStarted, Done]
    assert events[1] == Attempt(2, "RAM ran out; now T5 unloaded after use")
    assert ran[1].placings.t5 is Placing.DROP
    assert record.failed == ["RAM ran out"]
    ((begun, _, lowered),) = record.begun
    assert (begun, lowered) == (ran[1], True)


def test_it_ends_when_nothing_is_left_to_try(job: Job) -> None:
    failure = Failed(lack(stage="decode"))
    once, ran = running(failure)
    events = list(attempts(job, once, Record()))
    assert events[-1] is failure
    assert sum(isinstance(event, Failed) for event in events) == 1
    assert len(set(ran)) == len(ran)  # never the same twice
    assert ran[-1].tiling


def test_there_is_an_end_even_where_the_ladder_has_none(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "lower", lambda job, _: replace(job, seed=job.seed + 1))
    failure = Failed(lack())
    once, ran = running(failure)
    events = list(attempts(job, once, Record()))
    assert len(ran) == module.MOST
    assert events[-1] is failure


@pytest.mark.parametrize("answer", [True, False, None])
def test_what_changes_the_picture_is_asked_for(answer: bool | None, job: Job) -> None:
    job = replace(job, tiling=True, preview_vae=job.vae, placings=Placings(*[Placing.DROP] * 4))
    failure = Failed(lack(stage="decode"))
    once, ran = running(failure, DONE)
    asked: list[Ask] = []

    def ask(question: Ask) -> bool:
        asked.append(question)
        return bool(answer)

    events = list(attempts(job, once, Record(), None if answer is None else ask))
    assert len(asked) == (0 if answer is None else 1)
    if answer:
        assert ran[1].tiny_vae
        assert events[-1] is DONE
    else:
        assert events[-1] is failure
        assert len(ran) == 1


def test_differences_in_words(job: Job) -> None:
    guided = replace(job, guidance=Guidance(5.0, batched=True), preview=Previews.LATENTS)
    lower = replace(
        guided, placings=Placings(dit=Placing.CPU, t5=Placing.DROP, clip=Placing.DROP),
        tiling=True, tiny_vae=True, preview=Previews.OFF, guidance=Guidance(5.0),
    )  # fmt: skip
    said = difference(guided, lower)
    for words in ("DiT in RAM until needed", "T5", "unloaded after use", "tiles", "one by one",
                  "tiny VAE", "previews"):  # fmt: skip
        assert words in said
    assert "CLIP" not in said  # there is none
    assert difference(job, job) == "once more"
