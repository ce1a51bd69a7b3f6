"""Test sets: where each one's images are, which classes count as right, and by which rule."""

from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Convention,
    TestSet,
    TestSetReader,
    find_set,
    read_set,
)

__all__ = ["TEST_SETS", "Convention", "TestSet", "TestSetReader", "find_set", "read_set"]
