"""The allocator's settings are accepted where they exist."""

from __future__ import annotations

import platform

from thumbnet.training.allocator import keep_freed_memory


def test_glibc_takes_the_settings_and_others_are_left_alone() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
