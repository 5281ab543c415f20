"""Readable failures for the suite that ships in the package."""

import pytest

pytest.register_assert_rewrite("holdfast.testing.store_contract")
