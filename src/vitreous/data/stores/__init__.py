"""Where images and masks are: files, tar shards, tables, zips, arrays, and several together."""

from vitreous.data.stores.arrays import ArrayImages, ArrayMasks
from vitreous.data.stores.files import FileImages, FileMasks, Names
from vitreous.data.stores.joined import NamedImages, concatenate
from vitreous.data.stores.shards import ShardImages, ShardMasks
from vitreous.data.stores.zips import ZipImages

__all__ = [
    "ArrayImages",
    "ArrayMasks",
    "FileImages",
    "FileMasks",
    "NamedImages",
    "Names",
    "ShardImages",
    "ShardMasks",
    "ZipImages",
    "concatenate",
]
