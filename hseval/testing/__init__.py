"""Contract checks for each kind of plugin, to be called from a plugin's own tests.

    from hseval.testing import check_metric

    def test_it_fulfills_the_contract():
        check_metric(MyMetric)

Each check returns a :class:`CheckRecord`: how many requirements it checked, and which it skipped and why; printed, one
line. A broken contract raises :class:`ContractError` (an AssertionError) that states what was found, what the contract
requires, and how it is usually met.
"""

from hseval.testing.contract import CheckRecord, ContractError, find_plugin
from hseval.testing.examples import make_example_set
from hseval.testing.extractor import check_extractor
from hseval.testing.generator import check_generator
from hseval.testing.metric import check_metric
from hseval.testing.reader import check_reader
from hseval.testing.segmenter import check_segmenter

__all__ = [
    "CheckRecord",
    "ContractError",
    "check_extractor",
    "check_generator",
    "check_metric",
    "check_reader",
    "check_segmenter",
    "find_plugin",
    "make_example_set",
]
