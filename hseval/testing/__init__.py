"""The contract of each kind of plugin as checks that a plugin's own tests call.

    from hseval.testing import check_metric

    def test_the_contract_holds():
        check_metric(MyMetric)

A broken contract raises :class:`ContractError` (an AssertionError) that says what was found, what the contract
asks, and how it is usually met.
"""

from hseval.testing.contract import ContractError
from hseval.testing.examples import make_example_set
from hseval.testing.extractor import check_extractor
from hseval.testing.generator import check_generator
from hseval.testing.metric import check_metric
from hseval.testing.reader import check_reader
from hseval.testing.segmenter import check_segmenter

__all__ = [
    "ContractError",
    "check_extractor",
    "check_generator",
    "check_metric",
    "check_reader",
    "check_segmenter",
    "make_example_set",
]
