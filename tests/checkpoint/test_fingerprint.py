"""The fingerprint of a set of files."""

from __future__ import annotations

import os
from pathlib import Path

from mlc_serve.checkpoint.fingerprint import fingerprint_of, portable_fingerprint_of


def test_documents_count_by_content_and_weights_by_size_and_time(tmp_path: Path) -> None:
    """Touching a document does not change the fingerprint; touching or growing weights does."""
    document, weights = tmp_path / "config.json", tmp_path / "weights.bin"
    document.write_text("{}")
    weights.write_bytes(b"1234")
    before = fingerprint_of([document], [weights])

    os.utime(document, ns=(1, 1))
    assert fingerprint_of([document], [weights]) == before

    os.utime(weights, ns=(1, 1))
    touched = fingerprint_of([document], [weights])
    weights.write_bytes(b"12345")
    os.utime(weights, ns=(1, 1))
    grown = fingerprint_of([document], [weights])
    assert len({before, touched, grown}) == 3


def test_order_and_place_make_no_difference(tmp_path: Path) -> None:
    """A directory that is moved or listed in another order keeps its fingerprint."""
    prints = set()
    for place in (tmp_path / "a", tmp_path / "b"):
        place.mkdir()
        files = [place / "1.json", place / "2.json"]
        for file in files:
            file.write_text(file.name)
        prints |= {fingerprint_of(files, []), fingerprint_of(files[::-1], [])}

    assert len(prints) == 1


def test_copies_of_weights_have_one_portable_fingerprint(tmp_path: Path) -> None:
    """Neither time nor place count, but the document's content, and the weights' size, beginning and end."""
    ones = b"1" * 10_000
    files = [("{}", ones), ("{}", ones), ("{ }", ones), ("{}", ones + b"1"), ("{}", b"")]
    files += [("{}", b"2" + ones[1:]), ("{}", ones[1:] + b"2")]
    prints = []
    for number, (text, weights) in enumerate(files):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "config.json").write_text(text)
        (place / "weights.bin").write_bytes(weights)
        os.utime(place / "weights.bin", ns=(number, number))
        prints.append(portable_fingerprint_of([place / "config.json"], [place / "weights.bin"]))

    assert prints[0] == prints[1]
    assert len(set(prints)) == len(prints) - 1
