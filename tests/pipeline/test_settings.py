from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.settings import Settings, available

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("files", "cores"), [
    ({}, CORES),
    ({"cpu.max": "max 100000\n"}, CORES),
    ({"cpu.max": "50000 100000\n"}, 1),
    ({"cpu.max": "100000000 100000\n"}, CORES),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
    ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
])
def test_a_containers_share_of_the_processor_bounds_the_threads(files: dict[str, str], cores: int, tmp_path: Path
                                                                ) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available(tmp_path) == cores


def test_threads_can_be_set_by_hand() -> None:
    assert Settings(threads=7).cores == 7
