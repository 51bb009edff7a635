"""The zip files of the functions."""

import runpy
import zipfile
from pathlib import Path

pack = runpy.run_path(str(Path(__file__).parents[2] / "infra/package/pack.py"))["pack"]


def test_package_replaces_a_link_and_equal_files_give_equal_bytes(tmp_path):
    target, link, other = (tmp_path / name for name in ("target", "step.zip", "other.zip"))
    target.write_text("of the user")
    link.symlink_to(target)
    pack(b"binary", "config", link)
    pack(b"binary", "config", other)
    assert target.read_text() == "of the user"
    assert not link.is_symlink() and link.read_bytes() == other.read_bytes()
    assert zipfile.ZipFile(link).read("bootstrap") == b"binary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zip", "step.zip", "target"]
