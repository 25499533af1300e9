"""Against the published vectors: FIPS 197 (appendix B), SP 800-38A (F.2.2)."""

from __future__ import annotations

import pytest

from worker.source.aes import AT_ONCE, BLOCK, decrypt_cbc

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
IV = bytes(range(16))
PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
CIPHER = bytes.fromhex(
    "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"
)
PADDING = bytes.fromhex("8cb82807230e1321d3fae00d18cc2012")
"""A block of sixteen 16s, encrypted behind the others."""


def test_published_vectors() -> None:
    assert decrypt_cbc(CIPHER + PADDING, KEY, IV) == PLAIN


def test_what_is_longer_than_is_worked_on_at_once() -> None:
    """The seam lies between the vector's first block and its second."""
    plain = decrypt_cbc(bytes(BLOCK) * (AT_ONCE - 1) + CIPHER + PADDING, KEY, IV)
    assert len(plain) == BLOCK * (AT_ONCE - 1) + len(PLAIN)
    assert plain.endswith(PLAIN[BLOCK:])


@pytest.mark.parametrize(
    ("data", "key", "iv"),
    [
        (CIPHER, KEY, IV),  # without padding
        (CIPHER[:-1], KEY, IV),
        (b"", KEY, IV),
        (CIPHER + PADDING, KEY[:-1], IV),
        (CIPHER + PADDING, KEY, IV + b"\0"),
        (CIPHER + PADDING, IV, IV),
    ],
)
def test_what_was_not_encrypted_so(data: bytes, key: bytes, iv: bytes) -> None:
    with pytest.raises(ValueError, match=r"blocks|padding"):
        decrypt_cbc(data, key, iv)
