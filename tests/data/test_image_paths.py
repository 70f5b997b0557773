"""Rows name files below `image_root`, and what the recipe allows beside them."""

import pytest

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.data.image_paths import image_paths
from vlm_r1.errors import DataError


@pytest.fixture
def disk(tmp_path):
    for folder in ("data/images", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("data/images/a.png", "elsewhere/b.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "data/images/link.png").symlink_to(tmp_path / "elsewhere/b.png")
    (tmp_path / "data/images/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/images/inside.png").symlink_to("a.png")
    return tmp_path


def places(disk, root="", allowed=NOTHING):
    return image_paths(DataSource(path=str(disk / "data/x.jsonl"), image_root=root), allowed, disk / "cache")


OUTSIDE = {
    "upwards": "../elsewhere/b.png",
    "upwards from below": "images/../../elsewhere/b.png",
    "absolute": "{disk}/elsewhere/b.png",
    "file URL": "file://{disk}/elsewhere/b.png",
    "FILE URL": "FILE://{disk}/elsewhere/b.png",
    "local URL": "local://{disk}/elsewhere/b.png",
    "link": "images/link.png",
    "folder that is a link": "images/folder/b.png",
    "a folder with the same beginning": "{disk}/data-2/b.png",
}


@pytest.mark.parametrize("name", OUTSIDE.values(), ids=OUTSIDE)
def test_names_that_lead_out(disk, name):
    name = name.format(disk=disk)
    with pytest.raises(DataError, match=r"outside of image_root .*allowed_local_media_path"):
        places(disk).path(name)
    assert places(disk, allowed=Allowed(allowed_local_media_path=["/"])).path(name)


def test_a_name_with_a_nul_is_an_error(disk):
    with pytest.raises(DataError, match="NUL"):
        places(disk).path("a\0/b.png")


def test_names_that_stay_inside(disk):
    for name in ("images/a.png", f"{disk}/data/images/a.png", "images/../images/inside.png", "not there.png"):
        assert places(disk).path(name).startswith(f"{disk}/data/")
    listed = Allowed(allowed_local_media_path=[str(disk / "elsewhere")])
    assert places(disk, allowed=listed).path("images/link.png") == f"{disk}/data/images/link.png"
    assert places(disk).path(f"{disk}/cache/images/ab/ab.png")


def test_a_root_that_is_itself_a_link(disk):
    (disk / "root").symlink_to(disk / "data/images")
    assert places(disk, str(disk / "root")).path("a.png") == f"{disk}/root/a.png"


@pytest.mark.parametrize(
    "name",
    [
        *("../x.png", "%2e%2e/x.png", "a/%252e%252e/x.png", "..\\x.png", "a::file", "/etc/passwd"),
        *("s3://other/a.png", "simplecache::s3://b/coco/a.png", "zip://a.png::s3://b/coco/z.zip", "memory://a.png"),
    ],
)
def test_names_that_lead_out_of_a_remote_root(disk, name):
    assert places(disk, "s3://b/coco/").path("c/a.png") == "s3://b/coco/c/a.png"
    with pytest.raises(DataError):
        places(disk, "s3://b/coco/").path(name)


def test_protocols_and_hosts_need_leave(disk):
    url = "https://x.org/a.png"
    with pytest.raises(DataError, match=r"data\.allowed_protocols"):
        places(disk).path(url)
    assert places(disk, allowed=Allowed(allowed_protocols=["HTTPS"])).path(url) == url
    listed = Allowed(allowed_protocols=["https"], allowed_media_domains=["y.org"])
    with pytest.raises(DataError, match=r"data\.allowed_media_domains"):
        places(disk, allowed=listed).path(url)
    with pytest.raises(DataError, match="chained"):
        places(disk, allowed=Allowed(allowed_protocols=["zip"])).path("zip://a.png::https://x.org/z.zip")
