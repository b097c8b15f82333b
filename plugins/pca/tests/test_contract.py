"""The contract checks that every generator plugin should run on its own class."""

from pathlib import Path

from hseval_pca.generator import Pca

from hseval.testing import check_generator, find_plugin


def test_generator_fulfills_contract(tmp_path: Path) -> None:
    check_generator(Pca, tmp_path=tmp_path)


def test_generator_is_registered() -> None:
    assert find_plugin("generator", "pca") is Pca
