"""A seal tells damage, and nothing of files that have none."""

from __future__ import annotations

from netsmith.export.seal import is_broken, seal


def test_damage_anywhere_breaks_a_seal() -> None:
    sealed = seal(b"content")
    assert sealed.startswith(b"content")
    assert not is_broken(sealed)
    for place in (0, 6, len(sealed) - 1):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        assert is_broken(bytes(damaged))


def test_a_file_without_a_seal_is_not_known_to_be_broken() -> None:
    assert not is_broken(b"")
    assert not is_broken(b"content" * 100)
