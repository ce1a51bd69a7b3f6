"""Ten visitors at once on the page: is every answer right, and does memory stay flat?

    python benchmarks/app.py --seconds 60

Starts `vitreous app` with a small random ViT on the loopback. Ten clients upload, turn and attack
their own picture as often as they can; each answer is compared with the library's. Prints answers,
errors, and the server's memory over time.
"""

from __future__ import annotations

import argparse
import base64
import collections
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitreous import load_model, save_model
from vitreous.app.analysis import PerturbationChoice, analyse
from vitreous.data.images import to_uint8

CLIENTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=8, image_size=48, depth=2
    )
    torch.nn.init.normal_(model.net.head.weight, std=0.3)
    visits = [visit(model, k) for k in range(CLIENTS)]
    with tempfile.TemporaryDirectory() as folder:
        path = save_model(model, Path(folder) / "one")
        command = [sys.executable, "-m", "vitreous.cli", "app", str(path), "--port", "7950"]
        # An attack follows signs of gradients, which another number of threads rounds otherwise.
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alone) as server:
            try:
                url = server.stdout.readline().split()[1]
                measure(url, server.pid, visits, seconds)
            finally:
                server.terminate()


def visit(model: Any, k: int) -> tuple[bytes, list[float], np.ndarray]:
    """A picture, what is done to it, and the map that the library gives."""
    pixels = np.random.default_rng(k).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.save(buffer, "PNG")
    angle, epsilon, steps = 90 * (k % 4), 2 * (k % 3), 4
    view = analyse(model, image, ["rollout"], None, PerturbationChoice(angle, epsilon / 255, steps))
    return buffer.getvalue(), [angle, epsilon, steps], to_uint8(view.maps["rollout"])


def measure(url: str, pid: int, visits: list[Any], seconds: float) -> None:
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds

    def client(content: bytes, settings: list[float], expected: np.ndarray) -> None:
        while time.monotonic() < end:
            try:
                shown = ask(url, content, settings).astype(int)
                counts["right" if abs(shown - expected).max() <= 1 else "wrong"] += 1
            except Exception as error:  # every failure is counted by its name
                counts[type(error).__name__] += 1

    threads = [threading.Thread(target=client, args=one) for one in visits]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < end:
        time.sleep(seconds / 12)
        memory.append(resident(pid))
    for thread in threads:
        thread.join()
    print(f"answers: {dict(counts)}")
    print(f"memory of the server (MiB): {memory}")


def ask(url: str, content: bytes, settings: list[float]) -> np.ndarray:
    """Upload a picture and fetch its map, as a browser does."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
    place = post(
        f"{url}gradio_api/upload",
        head + content + b"\r\n--x--\r\n",
        "multipart/form-data; boundary=x",
    )[0]
    file = {"path": place, "meta": {"_type": "gradio.FileData"}}
    data = {"data": [file, 0, ["one"], ["rollout"], *settings, {}]}
    call = f"{url}gradio_api/call/explain"
    event = post(call, json.dumps(data).encode(), "application/json")["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as stream:
        answer = json.loads(stream.read().decode().rpartition("data: ")[2])
    sent = re.findall(r'base64,([^"]+)', answer[4])
    with Image.open(io.BytesIO(base64.b64decode(sent[1]))) as shown:
        return np.asarray(shown)


def post(url: str, data: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


if __name__ == "__main__":
    main()
