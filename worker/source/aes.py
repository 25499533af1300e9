"""AES-128-CBC decryption of whole media segments (FIPS 197, SP 800-38A), all blocks at once in numpy.

Only for what a playlist publishes together with its key: nothing secret is kept by it, so time that depends on data is no harm.
There is no encryption here and must not be: for secrets, use a cryptographic library.

Legend: N blocks, 4 columns (32-bit words, first byte lowest), 16 bytes.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_UInt8 = NDArray[np.uint8]
_UInt32 = NDArray[np.uint32]
ROUNDS = 10
BLOCK = 16
AT_ONCE = 1 << 16
"""Blocks that are worked on at once: a round takes some ten times their size in memory."""


def decrypt_cbc(data: bytes, key: bytes, iv: bytes) -> bytes:
    """Plain bytes with their padding (PKCS 7) taken off. Raises ValueError for what was not encrypted so."""
    if len(key) != BLOCK or len(iv) != BLOCK or not data or len(data) % BLOCK:
        raise ValueError("not whole blocks of AES-128")
    cipher_N4 = np.frombuffer(data, "<u4").reshape(-1, 4)
    plain = bytearray()
    before_14 = np.frombuffer(iv, "<u4").reshape(1, 4)
    for at in range(0, len(cipher_N4), AT_ONCE):
        some_N4 = cipher_N4[at : at + AT_ONCE]
        before_N4 = np.vstack([before_14, some_N4[:-1]])
        plain += (_decrypt_blocks(some_N4, key) ^ before_N4).astype("<u4").tobytes()
        before_14 = some_N4[-1:]
    pad = plain[-1]
    if not 1 <= pad <= BLOCK or plain[-pad:] != bytes([pad]) * pad:
        raise ValueError("no padding at the end")
    return bytes(plain[:-pad])


def _decrypt_blocks(cipher_N4: _UInt32, key: bytes) -> _UInt32:
    """The equivalent inverse cipher (FIPS 197, 5.3.5): a round is four look-ups for each word."""
    inverse_sbox, tables = _tables()
    keys_R4 = _round_keys(key)
    state_N4: _UInt32 = cipher_N4 ^ keys_R4[ROUNDS]
    for i in range(ROUNDS - 1, 0, -1):
        state_N4 = _looked_up(state_N4, tables) ^ _mixed(keys_R4[i], tables)
    last = [inverse_sbox.astype(np.uint32) << np.uint32(8 * row) for row in range(4)]
    state_N4 = _looked_up(state_N4, last) ^ keys_R4[0]
    return state_N4


def _looked_up(state_N4: _UInt32, tables: list[_UInt32]) -> _UInt32:
    """InvShiftRows (row r of column c comes from column c - r) and a table for each row."""
    bytes_N4R = np.ascontiguousarray(state_N4).view(np.uint8).reshape(-1, 4, 4)
    out_N4 = np.zeros(state_N4.shape, np.uint32)
    for row in range(4):
        out_N4 ^= tables[row][np.roll(bytes_N4R[:, :, row], row, axis=1)]
    return out_N4


def _mixed(key_4: _UInt32, tables: list[_UInt32]) -> _UInt32:
    """InvMixColumns of a round key: the tables begin with the inverse S-box, which the S-box takes back."""
    sbox, _ = _sboxes()
    bytes_4R = sbox[np.ascontiguousarray(key_4).view(np.uint8)].reshape(4, 4)
    out_4 = np.zeros(4, np.uint32)
    for row in range(4):
        out_4 ^= tables[row][bytes_4R[:, row]]
    return out_4


def _round_keys(key: bytes) -> _UInt32:
    sbox, _ = _sboxes()
    words = [list(key[i : i + 4]) for i in range(0, BLOCK, 4)]
    constant = 1
    for i in range(4, 4 * (ROUNDS + 1)):
        word = words[-1]
        if i % 4 == 0:
            word = [int(sbox[byte]) for byte in (*word[1:], word[0])]
            word[0] ^= constant
            constant = _doubled(constant)
        words.append([a ^ b for a, b in zip(words[i - 4], word, strict=True)])
    return np.array(words, np.uint8).reshape(-1, 16).view("<u4").astype(np.uint32)


def _doubled(value: int) -> int:
    """Times x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _product(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = _doubled(a), b >> 1
    return product


@functools.cache
def _sboxes() -> tuple[_UInt8, _UInt8]:
    """The S-box, the inverse in GF(2^8) and an affine map (FIPS 197, 5.1.1), and its inverse."""
    powers = [1]
    for _ in range(254):
        powers.append(_doubled(powers[-1]) ^ powers[-1])  # of the generator x + 1
    inverse = [0] * 256
    for i, power in enumerate(powers):
        inverse[power] = powers[-i % 255]
    sbox = np.zeros(256, np.uint8)
    for value, b in enumerate(inverse):
        turned = b | b << 8
        sbox[value] = (b ^ turned >> 4 ^ turned >> 5 ^ turned >> 6 ^ turned >> 7 ^ 0x63) & 0xFF
    back = np.zeros(256, np.uint8)
    back[sbox] = np.arange(256, dtype=np.uint8)
    return sbox, back


@functools.cache
def _tables() -> tuple[_UInt8, list[_UInt32]]:
    """The inverse S-box, and for each row its share in InvMixColumns of an inverse S-box's value."""
    _, inverse_sbox = _sboxes()
    tables = []
    for row in range(4):
        factors = [(14, 9, 13, 11)[(out - row) % 4] for out in range(4)]
        words = [sum(_product(int(value), factor) << 8 * out for out, factor in enumerate(factors)) for value in inverse_sbox]
        tables.append(np.array(words, np.uint32))
    return inverse_sbox, tables
