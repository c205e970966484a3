"""The smoke recipe, run once for all tests of this folder."""

import pytest
from installation import Installation


@pytest.fixture(scope="session")
def smoke(installation: Installation) -> Installation:
    """Run the whole road once, from url lists to a chat model."""
    installation.internvl("run", "internvl", "--recipe", "smoke", timeout=1500)
    return installation
