"""`magface`: finds the command, and turns what can go wrong into one sentence and an exit code."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import logging
import os
import re
import sys
from contextlib import suppress
from itertools import pairwise
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from magface.cli import options
from magface.errors import MagfaceError, interrupted

COMMANDS = (
    "analyze",
    "embed",
    "verify",
    "quality",
    "best-shot",
    "cluster",
    "gallery",
    "train",
    "finetune",
    "evaluate",
    "plot",
    "export",
    "import",
    "data",
)
INNER = ("quality calibrate", "cluster name", "cluster merge", "cluster split", "cluster move", "cluster undo")
"""Commands inside one that does something by itself; the first argument tells, `./calibrate` is a folder."""
EXTRAS = {
    **dict.fromkeys(("torch", "onnxscript", "tensorboardX"), "train"),
    **dict.fromkeys(("faiss", "networkit", "sklearn", "scipy"), "cluster"),
    **dict.fromkeys(("pymilvus", "milvus_lite"), "milvus"),
    "sqlcipher3": "gallery",
    "ray": "ray",
}
"""The extra of this package that brings another one."""


class _Commands(TyperGroup):
    """Commands by name; only the file of the one that is asked for is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, ImportError) as error:
            if not interrupted(error):
                raise
            options.say("stopped; there is no result yet: run the same command again.")
            raise typer.Exit(options.STOPPED) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        inner = " ".join(args[:2])
        if inner in INNER:
            return inner, self.get_command(ctx, inner), args[2:]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in (*COMMANDS, *INNER):
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name.replace("-", "_")
        module = importlib.import_module(f"magface.cli.{name.replace(' ', '_')}")
        found = getattr(module, name.rpartition(" ")[2])
        one = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
        if isinstance(found, tuple):  # a group is the functions of its commands
            one.callback(help=_help(module))(getattr(module, "common", lambda: None))
        for function in found if isinstance(found, tuple) else (found,):
            name = cmd_name if function is found else function.__name__.rstrip("_")
            one.command(name, help=_help(function))(function)
        return typer.main.get_command(one)


def _help(documented: object) -> str:
    """Its docstring; click wants a control character where raw docstrings have letters."""
    return (inspect.getdoc(documented) or "").replace(r"\b", "\b")


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from magface import __version__

        typer.echo(f"magface {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Who is in a photo, and how far to trust the answer.

    Exit codes: 0 done (verify: match), 1 done but some images are missing or could not be read (verify: no match),
    2 nothing done because of what the message says, 130 stopped.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: without the name of the program; `None` takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    # often a variable of the shell that is not set; as a path it would be the current folder
    if any(not each or re.fullmatch("--[a-z-]+=", each) for each in arguments):
        _fail("an argument is empty; name a file or folder, or . for the current one.", arguments)
    try:
        typer.main.get_command(app)(arguments, prog_name="magface", obj=arguments)
        _flush()
    except SystemExit as end:
        wrong = getattr(end.__context__, "format_message", None)  # of click, which has told people
        if wrong is not None:
            _tell_program(wrong(), arguments)
        if end.code == options.STOPPED:
            _tell_program("stopped before it was done.", arguments)
        _flush()
        sys.exit(end.code)
    except MagfaceError as error:
        _fail(str(error), arguments)
    except ModuleNotFoundError as error:
        extra = "gallery" if error.name == "faiss" and "gallery" in arguments else EXTRAS.get(error.name or "")
        if extra is None:
            raise
        _fail(f"this command needs {error.name}; pip install 'magface[{extra}]'.", arguments)
    except OSError as error:
        place = error.filename or "a file"
        _fail(f"cannot use {place} ({error.strerror or error}); check the path and the room there.", arguments)


def _prepare_streams() -> None:
    """Output that takes every name of a file, even where a terminal knows few letters or there is none."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w")  # noqa: SIM115 open to the end
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # what decoders log about a damaged photo is in the reason that we give
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def _fail(message: str, arguments: list[str]) -> NoReturn:
    """Say on stderr what went wrong, and on stdout too where a program reads that."""
    options.say(message)
    _tell_program(message, arguments)
    sys.exit(2)


def _tell_program(message: str, arguments: list[str]) -> None:
    """Say on stdout what went wrong, where a program reads that."""
    if "--format=json" in arguments or ("--format", "json") in pairwise(arguments):
        with suppress(OSError):  # perhaps it is the output that has no room
            print(json.dumps({"error": message}), flush=True)


def _flush() -> None:
    """Write what is left of the output; a reader that has gone, as in `magface quality ... | head`, is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
