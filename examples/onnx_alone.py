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
scale = int(min(height, width) / float(about["crop_ratio"])) / min(image.size)
size = int(image.width * scale), int(image.height * scale)  # then the middle that models see
image = image.resize(size, Image.Resampling[about["interpolation"].upper()])
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
image = image.crop((left, top, left + width, top + height))
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255  # the graph normalizes
logits, *maps = session.run(None, {"images": pixels})
chances = np.exp(logits[0] - logits[0].max()) / np.exp(logits[0] - logits[0].max()).sum()
for index in chances.argsort()[::-1][:5]:
    print(f"{chances[index]:7.2%}  {names[index]}")
if maps:
    Image.fromarray((maps[0][0, 0] * 255).astype(np.uint8)).save("relevance.png")
