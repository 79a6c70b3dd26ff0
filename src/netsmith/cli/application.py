"""The commands by name."""

from __future__ import annotations

from typing import Annotated

import typer

import netsmith
from netsmith.cli.agent import agent
from netsmith.cli.compare import compare
from netsmith.cli.compress import compress
from netsmith.cli.design import design
from netsmith.cli.devices import devices
from netsmith.cli.measure import measure
from netsmith.cli.pick import pick
from netsmith.cli.predict import predict
from netsmith.cli.profile import profile
from netsmith.cli.report import report
from netsmith.cli.sweep import sweep

application = typer.Typer(
    name="netsmith",
    help="Design convolutional networks for a device, within a budget, measured there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (design, pick, compare, compress, sweep, measure, predict, devices, profile, report, agent):
    application.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(netsmith.__version__)
        raise typer.Exit


@application.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Design convolutional networks for a device, within a budget, measured there."""
