"""The shipped model through pawgate and through ONNX Runtime, on the very same input tensors.

Pictures are scaled to 224x224 here and handed to `pawgate classify --resize plain` as PNG, which leaves them as they are; so
the two only differ in how they compute the graph. The verdicts are compared, and the features counted in quantisation steps.

usage: onnxruntime_check.py PAWGATE [PICTURE...]      (the sample pictures by default)
"""
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
from PIL import Image
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/pawgate-pets37-int8.onnx"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# Of each backbone's last picture.
PIXELS = 7 * 7


def exposed(pixels, rule):
    """Dark pictures are brightened: src/vision/preprocess.rs."""
    if rule is None:
        return pixels.astype(np.float32)
    luma = (pixels.astype(np.uint16) @ np.array([77, 150, 29], np.uint16) + 128) >> 8
    gain = np.clip(rule["target"] / max(luma.mean(), 1), 1, rule["most"]).astype(np.float32)
    return np.minimum(np.floor(pixels * gain + np.float32(0.5)), 255).astype(np.float32)


def main():
    pawgate = sys.argv[1]
    pictures = sys.argv[2:] or sorted(str(p) for p in (ROOT / "samples").glob("*.jpg"))
    options = onnxruntime.SessionOptions()
    # Without VNNI, ONNX Runtime's x86 kernels add two products in 16 bits and saturate; this makes them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(MODEL, options)
    exposure = json.loads(session.get_modelmeta().custom_metadata_map["pawgate.preprocess"]).get("exposure")
    with tempfile.TemporaryDirectory() as folder:
        squares, tensors = [], []
        for index, picture in enumerate(pictures):
            square = Image.open(picture).convert("RGB").resize((224, 224), Image.BILINEAR)
            path = pathlib.Path(folder, f"{index:06}.png")
            square.save(path, compress_level=1)
            squares.append(str(path))
            pixels = exposed(np.asarray(square), exposure) / np.float32(255)
            tensors.append(((pixels - MEAN) / STD).transpose(2, 0, 1)[None])
        logits = pathlib.Path(folder, "logits.safetensors")
        command = [pawgate, "classify", "--model", MODEL, "--json", "--resize", "plain", "--logits", logits, *squares]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        assert len(lines) == len(pictures) and all("error" not in json.loads(line) for line in lines)
        ours = load_file(logits)
    theirs = [session.run(["breed", "pet", "embedding"], {"image": tensor}) for tensor in tensors]
    breed, pet, embedding = (np.concatenate(outputs) for outputs in zip(*theirs))

    same = (breed.argmax(1) == ours["breed"].argmax(1)).mean()
    # Features are means over 49 pixels: multiples of a 49th of the pixels' step, which is the smallest value that is not zero.
    steps = collections.Counter()
    for part in (slice(0, 2048), slice(2048, None)):
        values = np.unique(embedding[:, part])
        scale = values[values > 0].min() * PIXELS
        steps.update(np.abs(np.rint((embedding[:, part] - ours["embedding"][:, part]) / scale)).astype(int).ravel().tolist())
    total = sum(steps.values())
    within = (steps[0] + steps[1]) / total
    print(f"{len(pictures)} pictures: same breed first {same:.2%}; features within one step {within:.3%}")
    print("features by difference in steps:", {k: f"{v / total:.3%}" for k, v in sorted(steps.items())[:6]})
    print(f"largest difference: breed {np.abs(breed - ours['breed']).max():.3f}, pet {np.abs(pet - ours['pet']).max():.3f}")
    # Breeds of a picture without a pet mean nothing; only what the gate lets through is compared.
    shown = np.array([json.loads(line)["verdict"] == "animal" for line in lines])
    agree = (breed.argmax(1) == ours["breed"].argmax(1))[shown]
    # ONNX Runtime's additions round in another order on a CPU without FMA.
    if within < 0.99 or (shown.any() and agree.mean() < 0.995):
        sys.exit("pawgate and ONNX Runtime disagree on the same file and input")


main()
