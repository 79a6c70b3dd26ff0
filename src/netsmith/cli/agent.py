"""``netsmith agent``: measures on this machine for designs that run on another."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Annotated

import typer

from netsmith.errors import MissingExtraError, SettingsError

_LEAST_TOKEN = 16


def agent(
    token_file: Annotated[
        Path, typer.Option(help="file of the token that clients must know; made where there is none")
    ],
    listen: Annotated[str, typer.Option(help="HOST:PORT")] = "127.0.0.1:7070",
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate, PEM")] = None,
    key: Annotated[Path | None, typer.Option(help="its private key, PEM")] = None,
) -> None:
    """Serve measurements of exported files on this machine's devices, until stopped."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise SettingsError(f"--listen is HOST:PORT, such as 0.0.0.0:7070; got '{listen}'")
    if (certificate is None) != (key is None):
        raise SettingsError("--certificate and --key belong together; give both or none")
    token = _token(token_file)
    try:
        from netsmith.devices.agent.server import make_app, serve
    except ImportError as error:
        raise MissingExtraError(str(error.name), "agent", "netsmith agent") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    scheme = "agents" if certificate else "agent"
    typer.echo(f"listening; elsewhere: --device '{scheme}://{host}:{port}?runtime=onnxruntime'", err=True)
    if certificate is None and host not in ("127.0.0.1", "::1", "localhost"):
        typer.echo(
            "without --certificate the token and the files can be read by whoever sees the network", err=True
        )
    serve(
        make_app(token),
        host,
        int(port),
        certificate=None if certificate is None else str(certificate),
        key=None if key is None else str(key),
    )


def _token(path: Path) -> str:
    """Read the token, or make one that nobody else can read."""
    try:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
            typer.echo(f"made a token in {path}; clients need it in NETSMITH_AGENT_TOKEN", err=True)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"cannot read a token from {path}: {error}") from None
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise SettingsError(f"the token in {path} must be one word of {_LEAST_TOKEN} characters or more")
    return token
