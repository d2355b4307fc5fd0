import pytest

from tfproj import machine


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_cgroup_quota(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert machine.cgroup_quota(tmp_path) == expected


def test_a_quota_caps_the_cpus(monkeypatch):
    monkeypatch.setattr(machine, "cgroup_quota", lambda: 0.5)
    assert machine.available_cpus() == 1
    monkeypatch.setattr(machine, "cgroup_quota", lambda: None)
    assert machine.available_cpus() >= 1


def test_the_record_names_versions_and_command():
    record = machine.describe("float32")
    assert record["precision"] == "float32"
    assert {"python", "numpy", "onnxruntime", "tfproj"} <= record["versions"].keys()


def test_git_commit_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.git_commit() is None
