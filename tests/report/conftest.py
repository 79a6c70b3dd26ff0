"""A design folder as a finished design leaves it, and the earlier states of one."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from netsmith.spaces.mbconv import mbconv

LABELS = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
FINGERPRINT = {
    "processor": "Intel(R) Xeon(R) Processor @ 2.10GHz",
    "runtime": "onnxruntime",
    "version": "1.23.2",
    "threads": "1",
    "precision": "float32",
    "os": "Linux x86_64",
}
EPOCHS = 24
BUDGET_MS = 0.6


def search_epochs(edges: list[list[str]], choices: tuple[int, ...], rng: Random) -> list[dict[str, Any]]:
    """Probabilities that start even and close on ``choices``."""
    events = []
    for epoch in range(1, EPOCHS + 1):
        heat = max(0, epoch - 6) * 0.32
        rows = []
        for options, choice in zip(edges, choices, strict=True):
            row = [math.exp(heat * (j == choice) + 0.2 * rng.random()) for j in range(len(options))]
            rows.append([value / sum(row) for value in row])
        entropy = -sum(p * math.log(p) for row in rows for p in row) / len(rows)
        events.append(
            {
                "event": "search_epoch",
                "time": 1_790_000_100.0 + epoch,
                "epoch": epoch - 1,
                "phase": "warm-up" if epoch <= 6 else "search",
                "loss": 0.55 + 1.7 * math.exp(-epoch / 5) + 0.03 * rng.random(),
                "arch_loss": None if epoch <= 6 else 0.9 - 0.01 * epoch,
                "expected_ms": 0.57 + 0.3 * math.exp(-heat),
                "multiplier": 0.0 if epoch <= 6 else 0.4 * (1 - math.exp(-heat)),
                "entropy": entropy,
                "probabilities": rows,
                "open_paths": sum(len(row) for row in rows) - epoch,
                "seconds": 4.2,
            }
        )
    return events


def network(name: str, kind: str, accuracy: float, latency_ms: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "params": int(2_100_000 * latency_ms),
        "macs": int(31_000_000 * latency_ms),
        "size_bytes": int(8_500_000 * latency_ms),
        "peak_bytes": int(14_000_000 + 9_000_000 * latency_ms),
        "accuracy": accuracy,
        "accuracy_exported": accuracy,
        "validation_accuracy": accuracy + 0.0021,
        "parity_worst": 3.1e-06,
        "latency_ms": latency_ms,
        "latency_ms_spread": {
            "low": latency_ms * 0.97,
            "high": latency_ms * 1.05,
            "interval": [latency_ms * 0.99, latency_ms * 1.01],
            "rounds": 40,
            "wide": False,
        },
        "latency_ms_predicted": latency_ms * 1.02,
        "latency_budget_ms": BUDGET_MS,
        "budget": {"latency_ms": BUDGET_MS},
        "budget_met": latency_ms <= BUDGET_MS,
        "reasons": [] if latency_ms <= BUDGET_MS else [f"{name} is over the budget"],
    }


def train_epochs(name: str, end: float, rng: Random) -> list[dict[str, Any]]:
    return [
        {
            "event": "train_epoch",
            "time": 1_790_000_300.0 + epoch,
            "name": name,
            "epoch": epoch - 1,
            "loss": 0.5 + 1.5 * math.exp(-epoch / 6) + 0.02 * rng.random(),
            "accuracy": end - 0.35 * math.exp(-epoch / 5) - 0.004 * rng.random(),
            "lr": 0.1 * (1 + math.cos(math.pi * epoch / 30)) / 2,
            "seconds": 6.0,
        }
        for epoch in range(1, 31)
    ]


def build(folder: Path, *, until: str = "result", size: int = 28, **changes: Any) -> Path:
    """Write a design's folder; ``until`` names the last event, ``changes`` are fields of the result."""
    rng = Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    space = mbconv((1, size, size), len(LABELS), width=0.5)
    arch = space.sample(rng)
    plan = space.plan(arch)
    edges = [[block.key for block in options] for options in space.edges]
    costs = [0.001 if b.op == "skip" else 0.008 + 2e-6 * b.hidden * b.kernel**2 for b in plan.blocks]
    front = []
    for i in range(9):
        measured = 0.34 + 0.035 * i
        front.append(
            {
                "arch": space.sample(rng).to_dict(),
                "latency_ms": measured,
                "latency_ms_predicted": measured * (0.98 + 0.05 * rng.random()),
                "validation_accuracy": 0.9 - 0.05 * math.exp(-i / 3),
                "figures": {"macs": 2e7},
                "reason": "" if measured <= BUDGET_MS else "latency_ms 0.62 over the budget's 0.6",
            }
        )
    points = [
        {"predicted_ms": x, "measured_ms": x * (0.97 + 0.06 * rng.random())}
        for x in (0.3 + 0.02 * i for i in range(30))
    ]
    baselines = {
        f"mobilenetv2-{width}": network(f"mobilenetv2-{width}", "mobilenetv2", accuracy, latency)
        for width, accuracy, latency in (
            (0.25, 0.9121, 0.322), (0.5, 0.9234, 0.571), (0.75, 0.9301, 0.842), (1.0, 0.9342, 1.174),
        )
    }  # fmt: skip
    baselines["random"] = network("random", "random", 0.9262, 0.588)
    command = "netsmith design fashion_mnist --device onnxruntime:threads=1 --latency 0.6ms --seed 0"
    events: list[dict[str, Any]] = [
        {"event": "started", "time": 1_790_000_000.0, "command": command, "versions": {"netsmith": "0.1.0"}},
        {
            "event": "data", "time": 1_790_000_001.0, "train": 54_000, "validation": 6_000, "test": 10_000,
            "skipped": [{"path": "coat/broken <3>.png", "reason": "the file is cut short"}],
            "input_shape": [1, size, size], "classes": len(LABELS),
        },
        {"event": "reach", "time": 1_790_000_002.0, "width": 0.5,
         "space": space.id, "least": {"latency_ms": 0.21, "macs": 4e6}, "most": {"latency_ms": 1.42}},
        {
            "event": "space", "time": 1_790_000_003.0, "id": space.id, "width": 0.5,
            "count": str(space.count()), "edges": len(edges),
        },
        {
            "event": "profile", "time": 1_790_000_090.0, "blocks": len(space.blocks), "seconds": 87.5,
            "heldout": {
                "error": 0.0162, "spearman": 0.996, "rmse_ms": 0.0113,
                "points": points,
            },
        },
        *search_epochs(edges, arch.choices, rng),
    ]  # fmt: skip
    for stage, item in (("derive", front[0]), *(("measure", item) for item in front)):
        figures = {
            "error": 1 - item["validation_accuracy"],
            "latency_ms_predicted": item["latency_ms_predicted"],
        }
        figures |= {"latency_ms": item["latency_ms"]} if stage == "measure" else {}
        trial = {"arch": item["arch"], "figures": figures, "reason": item["reason"]}
        events.append({"event": "trial", "time": 1_790_000_200.0, "stage": stage, "trial": trial})
    events += train_epochs("design", 0.938, rng)
    for name, item in baselines.items():
        events += train_epochs(name, item["accuracy"], rng)
    events.append({"event": "warning", "time": 1_790_000_400.0, "text": "the machine was busy while timing"})
    events.append({"event": "result", "time": 1_790_000_500.0})
    confusion = [[950 if i == j else (i * 7 + j * 3) % 11 for j in range(10)] for i in range(10)]
    result = {
        "netsmith": "0.1.0",
        "space": space.id,
        "strategy": "proxyless",
        "device": "onnxruntime:threads=1",
        "device_fingerprint": FINGERPRINT,
        "seed": 0,
        "arch": arch.to_dict(),
        "width": 0.5,
        **network("design", "design", 0.9364, 0.5631),
        "search_seconds": 612.4,
        "train_seconds": 1811.0,
        "profile_seconds": 87.5,
        "total_seconds": 2544.2,
        "baselines": baselines,
        "front": front,
        "command": command,
        "warnings": ["the machine was busy while timing"],
        "label_names": LABELS,
        "test_images": 10_000,
        "confusion": confusion,
        **changes,
    }
    if until == "result":
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "arch.json").write_text(
            json.dumps(
                {
                    "arch": arch.to_dict(),
                    "plan": plan.to_list(),
                    "latency_ms": costs,
                    "edges": edges,
                    "input_shape": [1, size, size],
                    "label_names": result["label_names"],
                }
            )
        )
    else:
        last = max(i for i, event in enumerate(events) if event["event"] == until)
        events = events[: last + 1]
    (folder / "design.toml").write_text('data = "fashion_mnist"\nlatency = "0.6ms"\nseed = 0\n')
    (folder / "journal").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Build a folder called ``fashion`` in the test's own directory."""
    return lambda **changes: build(tmp_path / "fashion", **changes)
