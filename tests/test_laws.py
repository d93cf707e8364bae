"""Every law of every mechanism of the catalogue, with each of its examples."""

import pytest

from attnkit.catalog import all_mechanisms
from attnkit.laws import UNIVERSAL

CASES = [
    pytest.param(mechanism, law, options, id=f"{name}-{law.__name__}-{number}")
    for name, mechanism in all_mechanisms().items()
    for law in (*UNIVERSAL, *mechanism.laws)
    for number, options in enumerate(mechanism.examples)
]


@pytest.mark.parametrize(("mechanism", "law", "options"), CASES)
def test_a_law_holds(mechanism, law, options):
    law(mechanism, **options)
