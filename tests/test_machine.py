import pytest

from tfproj.core import hardware
from tfproj.runs import environment

pytestmark = pytest.mark.light


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
    assert hardware.cgroup_quota(tmp_path) == expected


def test_a_quota_caps_the_cpus(monkeypatch):
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: 0.5)
    assert hardware.available_cpus() == 1
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: None)
    assert hardware.available_cpus() >= 1


GIB = 2**30


def memory_files(tmp_path, available=16, **groups):
    """meminfo, membership and cgroup files: {folder: {file: text}} with __ for /."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {available << 20} kB\n")
    (tmp_path / "membership").write_text("0::/a/b\n7:memory:/c\n")
    for folder, files in groups.items():
        place = tmp_path / "groups" / folder.replace("__", "/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(str(text))
    return tmp_path / "groups", tmp_path / "membership", tmp_path / "meminfo"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, 16),
        ({"a": {"memory.max": "max", "memory.current": 2 * GIB}}, 16),
        ({"a": {"memory.max": 8 * GIB, "memory.current": 2 * GIB}}, 6),
        ({"a__b": {"memory.max": 8 * GIB, "memory.current": 9 * GIB}}, 0),
        ({"a": {"memory.max": 8 * GIB, "memory.current": 7 * GIB,
                "memory.stat": f"anon 5\ninactive_file {4 * GIB}\n"}}, 5),
        ({"memory__c": {"memory.limit_in_bytes": 4 * GIB, "memory.usage_in_bytes": GIB}}, 3),
        ({"memory__c": {"memory.limit_in_bytes": 4 * GIB, "memory.usage_in_bytes": 3 * GIB,
                        "memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n"}}, 2),
    ],
)  # fmt: skip
def test_free_memory_is_what_the_nearest_limit_leaves(tmp_path, groups, expected):
    assert hardware.free_memory(*memory_files(tmp_path, **groups)) == expected * GIB


def test_memory_is_capped_by_the_group(tmp_path):
    group = {"memory.max": GIB, "memory.current": 0}
    root, membership, _ = memory_files(tmp_path, a=group)
    assert hardware.memory(root, membership) == GIB
    assert hardware.memory(tmp_path / "none", membership) > GIB


def test_a_system_that_does_not_tell_its_memory(tmp_path, monkeypatch):
    """Windows has no sysconf, macOS not all of its names."""
    nothing = tmp_path / "nothing"
    known = _known(SC_PAGE_SIZE=2, SC_PHYS_PAGES=GIB)
    monkeypatch.setattr("os.sysconf", known, raising=False)
    assert hardware.memory(nothing, nothing) == 2 * GIB
    assert hardware.free_memory(nothing, nothing, nothing) == GIB
    monkeypatch.delattr("os.sysconf")
    assert hardware.memory(nothing, nothing) == hardware.ASSUMED_MEMORY
    assert hardware.free_memory(nothing, nothing, nothing) == hardware.ASSUMED_MEMORY // 2


def _known(**values):
    def sysconf(name):
        if name not in values:
            raise ValueError("unrecognized configuration name")
        return values[name]

    return sysconf


def test_the_record_names_versions_and_command():
    record = environment.describe("float32")
    assert record["precision"] == "float32"
    assert {"python", "numpy", "onnxruntime", "tfproj"} <= record["versions"].keys()


def test_git_commit_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_commit() is None
