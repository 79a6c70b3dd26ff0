"""The line to an agent: asks until there is an answer, and believes nothing of it that is not checked."""

from __future__ import annotations

import json
import math
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from netsmith.errors import DeviceError, MissingExtraError

TOKEN, AUTHORITY = "NETSMITH_AGENT_TOKEN", "NETSMITH_AGENT_CA"
SCHEMES = {"agent": "http", "agents": "https"}
MAX_ANSWER_BYTES = 256 * 2**20
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_LONGEST_PAUSE_S = 30.0
_ANSWER_S = 120.0  # beyond what a task may take: others may be before it
_COME_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, the header ``x-shape``, and a body within bounds."""

    address: str
    status: int
    shape: str
    content: bytes

    def json(self) -> dict[str, Any]:
        """Return the JSON object of the body. Raises :class:`DeviceError` where it is none."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise DeviceError(
                f"what answers at {self.address} is no agent of Netsmith: {self.content[:100]!r}"
            )
        return value


class Line:
    """Asks the agent at ``address`` for up to ``patience_s`` seconds while it is busy, gone or starting."""

    def __init__(self, address: str, patience_s: float) -> None:
        self.address, self._patience_s = address, patience_s

    def ask(
        self,
        method: str,
        path: str,
        asked: Mapping[str, str] | None = None,
        content: bytes = b"",
        *,
        limit_s: float = 0.0,
    ) -> Answer:
        """Return the answer: a success, or a 404 that names missing files.

        ``limit_s`` is what the task may take there. Raises :class:`DeviceError` on a refusal, and where there
        is no answer within the patience.
        """
        until, tries = time.monotonic() + self._patience_s, 0
        while True:
            answer, trouble, pause_s = self._try(method, path, asked or {}, content, limit_s + _ANSWER_S)
            if answer is not None and answer.status not in _COME_AGAIN:
                return self._checked(answer)
            wait_s = pause_s or _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
            if time.monotonic() + wait_s > until:
                raise DeviceError(
                    f"no answer from the agent at {self.address} for {self._patience_s:.0f} s ({trouble}). "
                    "Start it there with `netsmith agent`, and run the same command again"
                )
            time.sleep(wait_s)
            tries += 1

    def _try(
        self, method: str, path: str, asked: Mapping[str, str], content: bytes, timeout_s: float
    ) -> tuple[Answer | None, str, float]:
        """Ask once; return the answer or None, what was wrong, and how long to wait before the next time."""
        try:
            with self._client.stream(
                method, path, params=asked, content=content, timeout=timeout_s
            ) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise DeviceError(
                            f"the agent at {self.address} answers with over {MAX_ANSWER_BYTES} bytes"
                        )
                status, shape = int(response.status_code), response.headers.get("x-shape", "")
                pause_s = _seconds(response.headers.get("retry-after", ""))
        except _httpx().TransportError as error:
            return None, str(error) or type(error).__name__, 0.0
        return Answer(self.address, status, shape, bytes(body)), f"it answered {status}", pause_s

    def _checked(self, answer: Answer) -> Answer:
        if answer.status == 401:
            raise DeviceError(
                f"the agent at {self.address} refused the token; set {TOKEN} to the text of its token file"
            )
        if answer.status == 200 or (answer.status == 404 and "missing" in answer.json()):
            return answer
        said = answer.json().get("error", f"status {answer.status}")
        raise DeviceError(f"the agent at {self.address} says: {said!s:.2000}")

    @cached_property
    def _client(self) -> Any:
        token = os.environ.get(TOKEN)
        if not token:
            raise DeviceError(
                f"the agent at {self.address} wants a token; set {TOKEN} to the text of its token file"
            )
        scheme, _, rest = self.address.partition("://")
        authority = os.environ.get(AUTHORITY)
        return _httpx().Client(
            base_url=f"{SCHEMES[scheme]}://{rest}",
            headers={"authorization": f"Bearer {token.strip()}"},
            verify=ssl.create_default_context(cafile=authority) if authority else True,
        )


def _seconds(text: str) -> float:
    """Read how long the agent asks to wait: 0 where it says nothing of use."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return min(value, _LONGEST_PAUSE_S) if math.isfinite(value) and value > 0 else 0.0


def _httpx() -> Any:
    try:
        import httpx2
    except ImportError:
        raise MissingExtraError("httpx2", "agent", "a device of another machine") from None
    return httpx2
