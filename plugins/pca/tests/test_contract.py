"""What every generator plugin should have: the contract checks on its own class."""

from pathlib import Path

from hseval_pca.generator import Pca

from hseval.core.plugin_manager import plugins
from hseval.testing import check_generator


def test_keeps_the_contract_of_generators(tmp_path: Path) -> None:
    check_generator(Pca, tmp_path=tmp_path)


def test_is_found_by_its_name() -> None:
    assert plugins().find("generator", "pca") is Pca
