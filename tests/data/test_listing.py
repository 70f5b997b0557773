"""The files below a folder: in order, without hidden ones, links not followed."""

from __future__ import annotations

from pathlib import Path

from vlm_r1.data.listing import Listing, files_below


def test_what_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("b/a.JPG", "b/c.txt", "a.png", ".git/d.jpg", ".e.jpg", "b/._a.JPG", "__MACOSX/f.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "link").symlink_to(tmp_path)
    listing = Listing(root, tuple(sorted(files_below(root))))
    assert listing.files == ("a.png", "b/a.JPG", "b/c.txt")
    assert listing.pictures == ["a.png", "b/a.JPG"]
    assert listing.ending_in(".txt", ".png") == ["a.png", "b/c.txt"]
