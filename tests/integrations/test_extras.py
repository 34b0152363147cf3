"""Without the library that an integration is for, one sentence says how to get it."""

from __future__ import annotations

import importlib
import sys

import pytest

from mithridate.errors import MissingExtraError


@pytest.mark.parametrize(("extra", "library"), [("lightning", "lightning.pytorch"), ("transformers", "transformers")])
def test_without_the_library_the_extra_is_named(extra, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"mithridate.integrations.{extra}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'mithridate\[{extra}\]'"):
        importlib.import_module(f"mithridate.integrations.{extra}")
