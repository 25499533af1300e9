from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import yaml

from worker.errors import ConfigError
from worker.settings import Settings, default_file, load_settings
from worker.types import Strategy

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("VERIFRAME_")]:
        monkeypatch.delenv(name)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "worker.yaml"
    path.write_text(text)
    return path


def test_the_committed_file_holds_every_setting_at_its_default() -> None:
    path = REPOSITORY / "configs" / "worker.yaml"
    assert default_file() == path
    assert yaml.safe_load(path.read_text()) == Settings().model_dump(mode="json")
    assert load_settings(path) == Settings()


def test_every_setting_in_the_committed_file_has_a_comment() -> None:
    for line in (REPOSITORY / "configs" / "worker.yaml").read_text().splitlines():
        assert not line.startswith("  ") or re.search(r": \S+ +# \S", line), line


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "decode: {timeout_s: 10, threads: 3, cpu_s: 7}\nsampling: {strategy: uniform}")
    monkeypatch.setenv("VERIFRAME_DECODE__TIMEOUT_S", "20")
    monkeypatch.setenv("VERIFRAME_DECODE__THREADS", "4")
    settings = load_settings(path, {"decode": {"threads": 5}})
    assert (settings.decode.cpu_s, settings.decode.timeout_s, settings.decode.threads) == (7, 20, 5)
    assert settings.sampling.strategy is Strategy.UNIFORM
    assert settings.decode.max_streams == Settings().decode.max_streams


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decode: {timeout: 3}", "decode.timeout: there is no such setting"),
        ("decoding: {timeout_s: 3}", "decoding: there is no such setting"),
        ("redis: {patience_s: 301}", "redis.patience_s: input should be less than or equal to 300, not 301"),
        ("decode: {timeout_s: 0}", "decode.timeout_s: input should be greater than 0, not 0"),
        ("source: {allow_hosts: a.example}", "source.allow_hosts: input should be a list, as in [a, b], not 'a.example'"),
        ("decode: {decoder: ffmpeg}", "decode.decoder: input should be 'auto', 'pyav', 'decord' or 'nvdec', not 'ffmpeg'"),
        ("decode: 3", "decode: input should be a section, as in {a: b}, not 3"),
        ("- decode", "expected sections"),
        ("decode: [", "cannot read settings"),
        ("decode: {3: 4}", "decode.3: "),
        ("a: 1\x00", "cannot read settings"),
        ("sampling: {start_s: 2024-13-45}", "month must be in 1..12"),
        ("sampling: {start_s: !!timestamp x}", "cannot read settings"),
        ("decode: {threads: !!int ''}", "cannot read settings"),
        ("decode: {threads: !!bool x}", "cannot read settings"),
        ("[" * 3000, "nested too deeply"),
        ("sampling: {start_s: 9, end_s: 9}", "sampling: end_s 9 must lie after start_s 9"),
        ("sampling: {strategy: fps}", "sampling: strategy fps needs fps"),
        ("verdict: {real_below: 0.6, fake_above: 0.4}", "verdict: real_below 0.6 must not lie above fake_above 0.4"),
        ("calibration: {offset_video: -0.5}", "calibration: offsets need model_sha256"),
        (
            f"calibration: {{model_sha256: {'a' * 64}, offset_video: -9}}",
            "calibration.offset_video: input should be greater than",
        ),
        ("calibration: {model_sha256: abc}", "calibration.model_sha256: "),
        ("model: {cache_dir: ~no_such_user_here/x}", "model.cache_dir: ~no_such_user_here/x: there is no such home folder"),
    ],
)
def test_mistakes_in_the_file_are_told_by_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_settings(write(tmp_path, text))


@pytest.mark.parametrize("keys", [{}, {"threads": 2}])
def test_flags_do_not_hide_what_is_no_section(tmp_path: Path, keys: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"decode: input should be .*, not 5"):
        load_settings(write(tmp_path, "decode: 5"), {"decode": keys})


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)model\.batch.*nothing\.here"):
        load_settings(write(tmp_path, "model: {batch: 0}\n"), {"verdict": {"nothing.here": 1}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VERIFRAME_DECODE__TIMEOUT", "3", "decode.timeout: there is no such setting"),
        ("VERIFRAME_DECODE", "3", "expected VERIFRAME_SECTION__KEY"),
        ("VERIFRAME_", "3", "expected VERIFRAME_SECTION__KEY"),
        ("VERIFRAME_DECODE__THREADS", "many", "decode.threads: "),
        ("VERIFRAME_DECODE__THREADS", "{", "VERIFRAME_DECODE__THREADS cannot be read: "),
        ("VERIFRAME_SAMPLING__START_S", "2024-13-45", "VERIFRAME_SAMPLING__START_S cannot be read: month must be in 1..12"),
        ("VERIFRAME_DECODE__THREADS__X", "3", "decode.threads__x: there is no such setting"),
    ],
)
def test_mistakes_in_the_environment_are_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_settings()


PASSWORDS = ["@Secr3t", "%Secr3t", "*Secr3t", "!Secr3t", "&Secr3t", "[Secr3t", '"Secr3t"', "Secr3t: #1", "#Secr3t", "47", "null"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_in_the_environment_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    for value in (password, f"{password}\n", f"{password}\r\n"):
        monkeypatch.setenv("VERIFRAME_REDIS__PASSWORD", value)
        told = load_settings().redis.password
        assert told is not None
        assert told.get_secret_value() == password


def test_texts_in_the_environment_are_taken_as_they_stand_and_unset_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFRAME_REDIS__USERNAME", "4711")
    monkeypatch.setenv("VERIFRAME_MODEL__CHECKPOINT", "/own #2.safetensors")
    settings = load_settings()
    assert (settings.redis.username, settings.model.checkpoint) == ("4711", Path("/own #2.safetensors"))
    monkeypatch.setenv("VERIFRAME_REDIS__USERNAME", "ada\n")
    monkeypatch.setenv("VERIFRAME_MODEL__CHECKPOINT", "/own #2.safetensors\n")
    settings = load_settings()
    assert (settings.redis.username, settings.model.checkpoint) == ("ada", Path("/own #2.safetensors"))
    for nothing in ("", "null", "\n"):
        monkeypatch.setenv("VERIFRAME_REDIS__USERNAME", nothing)
        monkeypatch.setenv("VERIFRAME_MODEL__CHECKPOINT", nothing)
        monkeypatch.setenv("VERIFRAME_REDIS__PASSWORD", "")
        assert load_settings() == Settings()


@pytest.mark.parametrize(
    "text",
    [
        *(f"redis:\n  username: ada\n  password: {mark}Secr3t" for mark in ("@", "%", "*", "!", "[", "!!int ")),
        *(f"redis:\n  username: ada\n  password: {mark}Secr3t" for mark in ("!O'", "!!int O'", "!!float O'", "!'", "!!int '")),
        "redis: {password:Secr3t}",
        "redis: {username: [Secr3t]}",
        "redis: {password: 4711081512}",
        "redis:\n  password:Secr3t",
        "redis: {url: [redis://ada:Secr3t@host]}",
        "source: {proxy: http://ada:Secr3t@host:3128}",
        "artifacts: {url: {key: Secr3t}}",
    ],
)
def test_no_error_quotes_a_password(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings(write(tmp_path, text))
    assert not re.search("Secr|4711", str(told.value))
    assert re.search(r"redis|source\.proxy|artifacts\.url|line 3|invalid literal|could not convert", str(told.value))


def test_no_number_is_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        (section, key)
        for section in Settings.model_fields
        for key, field in type(getattr(Settings(), section)).model_fields.items()
        if "float" in str(field.annotation)
    ]
    assert ("decode", "timeout_s") in keys
    assert ("calibration", "offset_video") in keys
    for (section, key), number in itertools.product(keys, (math.inf, -math.inf, math.nan)):
        with pytest.raises(ConfigError, match=rf"^settings cannot be used:\n  {section}\.{key}: "):
            load_settings(flags={section: {key: number}})
    monkeypatch.setenv("VERIFRAME_DECODE__MAX_DURATION_S", ".inf")
    with pytest.raises(ConfigError, match=r"decode\.max_duration_s: input should be a finite number, not inf"):
        load_settings()


def test_an_empty_file_or_section_changes_nothing(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "")) == Settings()
    assert load_settings(write(tmp_path, "decode:\n  # threads: 3\n")) == Settings()


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read settings"):
        load_settings(tmp_path / "nothing.yaml")


def test_home_folders_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("VERIFRAME_MODEL__CHECKPOINT", "~/own.safetensors")
    model = load_settings(write(tmp_path, "model: {cache_dir: ~/cache}")).model
    assert (model.checkpoint, model.cache_dir) == (Path("/home/ada/own.safetensors"), Path("/home/ada/cache"))


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().decode.threads = 3  # type: ignore[misc]
