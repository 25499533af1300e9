from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from optimize.cli import app


def test_a_folder_without_clips_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["scan", str(tmp_path)])
    assert result.exit_code == 2
    assert "no video files" in result.output


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from optimize.cli import app; app(['scan', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--repeat" in done.stdout
