"""The command line: arguments, one exit code, and errors in three lines.

Each command lives in a module of its own under `commands`, imported when it is used.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine.spec.errors import EngineError, JobError
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from lightx2v_tui import __version__
from lightx2v_tui.gpus import number_as_nvml
from lightx2v_tui.output import printable

if TYPE_CHECKING:
    # argparse's own type takes parameters only in its stubs
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

E = TypeVar("E", bound=Enum)
OK, FAILED, USAGE, CANCELLED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 1 failed, 2 wrong usage, 130 cancelled)."""
    for stream in (sys.stdout, sys.stderr):  # names on disks need not be text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    number_as_nvml()
    command = importlib.import_module(f"lightx2v_tui.commands.{args.module}")
    try:
        return int(command.execute(args))
    except EngineError as error:
        if args.debug:
            traceback.print_exc()
        print(printable(str(error), keep="\n"), file=sys.stderr)  # noqa: T201
        return USAGE if isinstance(error, JobError) else FAILED
    except KeyboardInterrupt:
        return CANCELLED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nothing is left to say
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightx2v-tui",
        description="Find, choose and run Wan / LightX2V video models from the keyboard.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--root", type=Path, action="append", default=[], metavar="DIR",
                        help="look for models here as well (may be repeated)")  # fmt: skip
    parser.add_argument("--preset", type=Path, metavar="FILE", help="open this preset")
    parser.set_defaults(module="tui")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_demo(commands)
    _add_scan(commands)
    _add_doctor(commands)
    _add_run(commands)
    _add_runs(commands)
    _add_preset(commands)
    _add_download(commands)
    return parser


def _add(commands: Commands, name: str, module: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(module=module)
    return parser


def _add_demo(commands: Commands) -> None:
    demo = _add(commands, "demo", "demo", "make a tiny model once, and open the app on it")
    demo.add_argument("--headless", action="store_true", help="make one video without a screen")
    demo.add_argument("--dest", type=Path, metavar="DIR", help="where the model goes")
    demo.add_argument("--output", type=Path, metavar="F", help="where the video goes")
    _add_set(demo)


def _add_scan(commands: Commands) -> None:
    scan = _add(commands, "scan", "scan", "list model roots, their variants and what is missing")
    scan.add_argument("folders", type=Path, nargs="*", metavar="DIR")
    scan.add_argument("--json", action="store_true")


def _add_doctor(commands: Commands) -> None:
    doctor = _add(commands, "doctor", "doctor", "say what this machine can run, and why not")
    doctor.add_argument("--json", action="store_true")


def _add_run(commands: Commands) -> None:
    run = _add(commands, "run", "run", "make one video from a preset, or go on with a run")
    run.set_defaults(wrong=run.error)
    run.add_argument("preset", metavar="PRESET", nargs="?",
                     help="a preset file, or the name of a saved one")  # fmt: skip
    run.add_argument("--resume", metavar="RUN", help="go on with a run: its id, or its folder")
    run.add_argument("--model", type=Path, metavar="DIR", help="the model's root folder")
    run.add_argument("--prompt", metavar="T")
    run.add_argument("--negative-prompt", metavar="T")
    run.add_argument("--image", type=Path, metavar="F", help="first frame of image-to-video")
    run.add_argument("--seed", type=int, metavar="N")
    run.add_argument("--output", type=Path, metavar="F", help="where the mp4 goes")
    run.add_argument("--device", metavar="cpu|cuda[:N]")
    run.add_argument("--compute-dtype", type=_one_of(ComputeDtype), metavar=_names(ComputeDtype))
    run.add_argument("--quant-compute", type=_one_of(QuantCompute),
                     metavar=_names(QuantCompute))  # fmt: skip
    run.add_argument("--progress", choices=("auto", "bar", "json", "none"), default="auto")
    run.add_argument("--save-tensors", type=Path, metavar="F", help="keep noise, latents, frames")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    run.add_argument("--wait", action="store_true", help="wait until nobody else uses the device")
    run.add_argument("--force", action="store_true", help="try it with too little RAM")
    _add_set(run)


def _add_runs(commands: Commands) -> None:
    runs = _add(commands, "runs", "runs", "list the runs so far, and how they ended")
    runs.add_argument("--json", action="store_true")


def _add_preset(commands: Commands) -> None:
    preset = commands.add_parser("preset", help="write, check and list presets")
    actions = preset.add_subparsers(title="actions", metavar="ACTION", required=True)
    make = _add(actions, "make", "preset_make", "write a preset for a model root, or a video's own")
    make.add_argument("model", type=Path, metavar="MODEL",
                      help="a model's folder, its DiT's file, or an mp4 of this app")  # fmt: skip
    for network in ("--dit", "--t5", "--clip"):
        make.add_argument(network, type=_one_of(Precision), metavar=_names(Precision))
    make.add_argument("--vae", choices=("full", "tiny"))
    make.add_argument("--lora", action="append", default=[], metavar="F:STRENGTH")
    make.add_argument("-o", "--output", type=Path, metavar="FILE")
    make.add_argument("--force", action="store_true", help="replace a FILE written by hand")
    check = _add(actions, "check", "preset_check", "say what a preset would use, key by key")
    check.add_argument("preset", metavar="FILE")
    check.add_argument("--json", action="store_true")
    saved = _add(actions, "list", "preset_list", "list saved presets")
    saved.add_argument("--json", action="store_true")


def _add_download(commands: Commands) -> None:
    text = "fetch some variants of a model from the Hugging Face hub; goes on where it was stopped"
    download = _add(commands, "download", "download", text)
    download.add_argument("repository", metavar="REPO", help="such as lightx2v/Encoders")
    download.add_argument("--variant", action="append", default=[], metavar="NAME",
                          help="a folder, file, pattern, precision or `all`")  # fmt: skip
    download.add_argument("--dest", type=Path, metavar="DIR",
                          help="the folder for models, which its own is made in")  # fmt: skip
    download.add_argument("--dry-run", action="store_true", help="say what would be fetched")


def _one_of(kind: type[E]) -> Callable[[str], E]:
    """Read a text as a member; argparse itself would not say which there are."""

    def read(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            message = f"{text!r} is not one of {_names(kind)}"
            raise argparse.ArgumentTypeError(message) from None

    return read


def _names(kind: type[Enum]) -> str:
    return "|".join(member.value for member in kind)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assign",
                        help="replace a key of the preset (may be repeated)")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
