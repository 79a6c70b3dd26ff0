"""The page in a real browser: it draws every plot, and the console stays empty."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from netsmith.report import write_report

Make = Callable[..., Path]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")


def open_page(page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Return the page's tree after its scripts ran, and what they said on the console."""
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0",
            "--virtual-time-budget=3000", *options, "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def drawn(tree: str) -> set[str]:
    """Names of the plots in whose place plotly has put a drawing."""
    places = re.split(r'(?=<div class="plot[^"]*" id="plot-)', tree)[1:]
    return {
        found[1]
        for place in places
        if (found := re.match(r'<div class="plot[^"]*" id="plot-([a-z-]+)"', place)) and "main-svg" in place
    }


def test_a_finished_design_is_drawn_whole(make_folder: Make, tmp_path: Path) -> None:
    tree, console = open_page(write_report(make_folder()), tmp_path / "profile")
    assert console == []
    assert drawn(tree) == {
        "trade-off", "choices", "paths", "expected", "multiplier", "entropy", "loss", "arch-loss", "open",
        "train-accuracy", "train-loss", "heldout",
    }  # fmt: skip
    assert tree.count('class="point"') > 60
    assert 'data-drawn="0"' not in tree


def test_hostile_text_runs_nothing_in_the_dark(make_folder: Make, tmp_path: Path) -> None:
    bad = "</script><script>console.error(1)</script><img src=x onerror=console.error(2)>"
    path = make_folder(
        label_names=[bad] * 10,
        baselines={bad: {"kind": bad, "accuracy": 0.5, "latency_ms": 1.0}},
        front=[{"name": bad, "latency_ms": 1.0, "validation_accuracy": 0.5, "reason": bad}],
    )
    dark = "--blink-settings=preferredColorScheme=0"
    tree, console = open_page(write_report(path), tmp_path / "profile", dark)
    assert console == []
    assert "<img" not in tree
    assert {"trade-off", "choices"} <= drawn(tree)


def test_an_unfinished_design_opens_without_a_word(make_folder: Make, tmp_path: Path) -> None:
    tree, console = open_page(write_report(make_folder(until="started")), tmp_path / "profile")
    assert console == []
    assert drawn(tree) == set()


def test_a_script_that_is_not_the_page_s_own_is_refused_and_seen(make_folder: Make, tmp_path: Path) -> None:
    """The control: the policy works, and this suite would notice a word on the console."""
    page = write_report(make_folder(until="started"))
    page.write_text(page.read_text().replace("</main>", "</main><script>document.title = 'x'</script>"))
    tree, console = open_page(page, tmp_path / "profile")
    assert "<title>x</title>" not in tree
    assert any("Content Security Policy" in line for line in console)
