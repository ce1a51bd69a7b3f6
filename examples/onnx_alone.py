"""Run an exported graph without Vitreous and without torch: what does it say of a picture, and why?

vitreous export runs/guided --format onnx-relevance --out guided.onnx
python examples/onnx_alone.py guided.onnx cat.jpg        # needs onnxruntime, numpy and Pillow
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
names, (height, width) = json.loads(about["class_names"]), json.loads(about["size"])
image = Image.open(sys.argv[2]).convert("RGB")
short = round(min(image.size) * float(about["crop_ratio"]))  # the middle square that models see
left, top = (image.width - short) // 2, (image.height - short) // 2
image = image.resize(
    (width, height), Image.Resampling.BICUBIC, (left, top, left + short, top + short)
)
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255  # the graph normalizes
logits, *maps = session.run(None, {"images": pixels})
chances = np.exp(logits[0] - logits[0].max()) / np.exp(logits[0] - logits[0].max()).sum()
for index in chances.argsort()[::-1][:5]:
    print(f"{chances[index]:7.2%}  {names[index]}")
if maps:
    Image.fromarray((maps[0][0, 0] * 255).astype(np.uint8)).save("relevance.png")
