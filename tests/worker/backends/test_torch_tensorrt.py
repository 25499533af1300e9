from __future__ import annotations

from pathlib import Path

import pytest

from worker.backends.torch_tensorrt import LEAST, Program, load_library, open_torch_tensorrt
from worker.errors import ConfigError
from worker.extras import missing


@pytest.mark.skipif(not missing(("torch_tensorrt",)), reason="torch_tensorrt is installed")
def test_a_missing_library_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs torch_tensorrt: .*SOURCE\[gpu\]"):
        load_library()
    with pytest.raises(ConfigError, match="needs torch_tensorrt"):
        open_torch_tensorrt(tmp_path, checkpoint_sha256="0" * 64)


@pytest.mark.parametrize(("least", "padded_to"), [(1, LEAST), (2, 2), (4, 4)])
def test_a_batch_of_one_is_never_run(least: int, padded_to: int) -> None:
    assert Program(None, least=least, greatest=8).least == padded_to
