"""For tests: a device of known latencies, and the suites that devices, spaces and searchers must pass."""

from netsmith.testing.contracts import buildable_contract, device_contract, searcher_contract, space_contract
from netsmith.testing.fake import FakeDevice

__all__ = ["FakeDevice", "buildable_contract", "device_contract", "searcher_contract", "space_contract"]
