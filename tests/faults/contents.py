"""Contents of bad files, by name: what a table of cases cannot hold as text."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import cast

import numpy as np
import safetensors.torch
import scipy.io
import torch
from PIL import Image

from faults.bench import coco
from helpers import tiny_vit

CONTENTS: dict[str, Callable[[], bytes]] = {}


def content(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Make a content available by the name of its function."""
    CONTENTS[make.__name__] = make
    return make


def image(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@content
def empty() -> bytes:
    return b""


@content
def zeros() -> bytes:
    return bytes(4096)


@content
def noise() -> bytes:
    return np.random.default_rng(0).bytes(4096)


@content
def no_neuroids() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((12, 0), np.float32))
    return file.getvalue()


@content
def zip_of_no_utf8() -> bytes:
    """A name that is said to be UTF-8, and is not, in the directory of the archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("é.png", b"x")
    raw = bytearray(file.getvalue())
    raw[raw.rfind("é".encode())] = 0x80
    return bytes(raw)


@content
def photo() -> bytes:
    ramp = np.linspace(30, 220, 40).astype(np.uint8)
    return image(np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, -1), "PNG")


@content
def jpeg() -> bytes:
    return image(np.full((40, 40, 3), 120, np.uint8), "JPEG")


@content
def cut_jpeg() -> bytes:
    return jpeg()[:200]


@content
def nan_tiff() -> bytes:
    return image(np.full((40, 40), np.nan, np.float32), "TIFF")


@content
def good_mask() -> bytes:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 255
    return image(mask, "PNG")


@content
def black_mask() -> bytes:
    return image(np.zeros((40, 40), np.uint8), "PNG")


@content
def other_size_mask() -> bytes:
    return image(np.full((20, 20), 255, np.uint8), "PNG")


@content
def bomb_png() -> bytes:
    """A PNG of 60 000 × 60 000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def array(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


@content
def good_npy() -> bytes:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    return array(mask)


@content
def huge_npy() -> bytes:
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (4000000, 4000000), }"
    text = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@content
def pickled_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


@content
def nan_npy() -> bytes:
    return array(np.full((40, 40), np.nan))


@content
def three_dimensions_npy() -> bytes:
    return array(np.zeros((3, 40, 40), np.uint8))


@content
def texts_npy() -> bytes:
    return array(np.full((40, 40), "a"))


@content
def cut_npy() -> bytes:
    return good_npy()[:-400]


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, ("ran", os.O_CREAT)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@content
def malicious_pt() -> bytes:
    return saved({"model": Malicious()})


@content
def malicious_pickle() -> bytes:
    return pickle.dumps(Malicious())


@content
def list_pt() -> bytes:
    return saved([1, 2])


@content
def empty_state_pt() -> bytes:
    return saved({})


@content
def other_state_pt() -> bytes:
    return saved({"state_dict": {"x": torch.zeros(3)}})


@content
def nested_pt() -> bytes:
    return saved({"state_dict": {"a": {"b": 3}}})


@content
def cut_pt() -> bytes:
    return saved({"x": torch.zeros(1000)})[:900]


def tensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@content
def endless_header_safetensors() -> bytes:
    return struct.pack("<Q", 2**62) + b"{}"


@content
def no_json_safetensors() -> bytes:
    return tensors(b"no json")


@content
def outside_safetensors() -> bytes:
    return tensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**40]}})


@content
def negative_safetensors() -> bytes:
    return tensors({"x": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16))


@content
def other_names_safetensors() -> bytes:
    return tensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(16))


@content
def nan_safetensors() -> bytes:
    """The weights of the workplace's model, of which one tensor holds NaN."""
    state = tiny_vit(num_classes=2).net.state_dict()
    return safetensors.torch.save({**state, "norm.bias": state["norm.bias"] * torch.nan})


@content
def no_tensors_safetensors() -> bytes:
    return tensors({})


@content
def alias_bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    names = [f"*a{i}" for i in range(30)]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([names[i]] * 10)}]" for i in range(29)]
    return "\n".join(lines).encode()


@content
def deep_yaml() -> bytes:
    return b"model: " + b"[" * 3000 + b"]" * 3000


@content
def deep_json() -> bytes:
    return b"[" * 200_000 + b"]" * 200_000


@content
def deep_object_json() -> bytes:
    # Python 3.14 reads some ten thousands.
    return b'{"a":' * 200_000 + b"1" + b"}" * 200_000


@content
def long_number_json() -> bytes:
    return b'{"records": ' + b"9" * 5000 + b"}"


@content
def endless_share() -> bytes:
    """A share of 400 digits: a whole number to JSON, and too large for a float."""
    share = b"9" * 400
    return b'[{"index": 1, "label": "a", "files": {}, "foreground_before": ' + share + b"}]"


@content
def endless_name_csv() -> bytes:
    return b"path,label\n" + b"x" * 300 + b".png,class_0\n"


@content
def long_field_csv() -> bytes:
    return b"path,label\n" + b"x" * 200_000 + b",class_0\n"


@content
def coco_json() -> bytes:
    return json.dumps(coco(["class_0/0.png"])).encode()


@content
def mat_set() -> bytes:
    """Images and a matrix as the set of 92 images has them."""
    images = np.empty((1, 3), dtype=[("image", object)])
    for index in range(3):
        images[0, index] = (np.full((8, 8, 3), 50 * index, np.uint8),)
    matrices = np.empty((1, 1), dtype=[("RDM", object), ("name", object)])
    matrices[0, 0] = (1 - np.eye(3), "hIT")
    file = io.BytesIO()
    scipy.io.savemat(file, {"stimuli_92objs": images, "rdms": matrices})
    return file.getvalue()


@content
def zip_with_parents() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil.png", jpeg())
    return file.getvalue()


def contents_of(spec: dict[str, object]) -> bytes:
    """The bytes that an input of a table describes: by one of its keys."""
    if "make" in spec:
        return CONTENTS[str(spec["make"])]()
    if "hex" in spec:
        return bytes.fromhex(str(spec["hex"]))
    if "lines" in spec:
        return "".join(f"{line}\n" for line in cast(list[str], spec["lines"])).encode()
    if "row" in spec:
        return json.dumps(spec["row"]).encode() + b"\n"
    if "json" in spec:
        return json.dumps(spec["json"]).encode()
    for key in ("latin-1", "utf-16", "utf-8-sig"):
        if key in spec:
            return str(spec[key]).encode(key)
    return str(spec["text"]).encode()
