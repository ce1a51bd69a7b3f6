"""Test sets: where each one's pictures are, which classes count as right, and by which rule."""

from vitreous.data.test_sets.base import (
    TEST_SETS,
    Convention,
    Reader,
    TestSet,
    find_set,
    read_set,
)

__all__ = ["TEST_SETS", "Convention", "Reader", "TestSet", "find_set", "read_set"]
