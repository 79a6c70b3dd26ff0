"""Recipes that cannot be run are refused."""

from __future__ import annotations

import pytest

from netsmith.errors import SettingsError
from netsmith.supernet.instance_recipe import InstanceRecipe


@pytest.mark.parametrize(
    "change",
    [{"pretrain_epochs": -1}, {"exploration": 0.5}, {"exploration": 1.1}, {"most_dropped": 1.0},
     {"whole_share": 1.0}, {"controller_lr_every": 0}],
)  # fmt: skip
def test_a_recipe_that_cannot_be_run_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        InstanceRecipe(**change)  # type: ignore[arg-type]
