"""The shipped model through pawgate and through ONNX Runtime, on the very same input tensors.

Pictures are scaled to 224x224 here and handed to `pawgate classify --resize plain` as PNG, which leaves them as they are; so
the two only differ in how they compute the graph. The verdicts are compared, and the features counted in quantisation steps.

ONNX Runtime computes a convolution in floats where the file does not quantise its output (before an addition), and then rounds
some values the other way, which later layers make larger: its own integers and its own floats (without optimisation) differ too. So
the features of a backbone may be half as far again from ONNX Runtime's than its two ways are from each other.

usage: onnxruntime_check.py PAWGATE [PICTURE...]      (the sample pictures by default)
"""
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


def luma(pixels):
    return (pixels.astype(np.int32) @ np.array([77, 150, 29], np.int32) + 128) >> 8


def sharpness(grey):
    """src/vision/quality.rs."""
    half = grey[0::2, 0::2] + grey[0::2, 1::2] + grey[1::2, 0::2] + grey[1::2, 1::2]
    side = len(half)

    def difference(down, right):
        first, second = (-right, 0) if right < 0 else (0, right)
        upper, lower = half[: side - down, first : side - second], half[down:, second : side - first]
        return ((upper - lower).astype(np.float64) ** 2).mean()

    ways = [(0, 1), (1, 0), (1, 1), (1, -1)]
    return min(np.float32(difference(y, x) / max(difference(4 * y, 4 * x), 16.0)) for y, x in ways)


def mean_of_25(values):
    side = len(values)
    wide = np.pad(values, ((0, 0), (2, 2)), "edge")
    rows = sum(wide[:, at : at + side] for at in range(5))
    tall = np.pad(rows, ((2, 2), (0, 0)), "edge")
    return (sum(tall[at : at + side] for at in range(5)) * 5243 + (1 << 16)) >> 17


def sharpened(pixels, rule):
    """Soft pictures are sharpened: src/vision/sharpen.rs."""
    if rule is None:
        return pixels
    none, full = np.float32(rule["none"]), np.float32(rule["full"])
    share = np.clip((none - sharpness(luma(pixels))) / (none - full), 0, 1)
    if share <= 0:
        return pixels
    lost = luma(pixels) * 8
    detail = np.zeros_like(lost)
    for _ in range(4):
        lost = lost - mean_of_25(mean_of_25(lost))
        detail += lost
    change = (int(np.floor(share * np.float32(256) + np.float32(0.5))) * detail + 1024) // 2048
    return np.clip(pixels + change[..., None], 0, 255).astype(np.uint8)


def adjusted(pixels, preprocess):
    """Dark pictures are brightened after that: src/vision/preprocess.rs."""
    mean = np.float32(luma(pixels).mean())
    pixels = sharpened(pixels, preprocess.get("sharpening"))
    rule = preprocess.get("exposure")
    if rule is None:
        return pixels.astype(np.float32)
    gain = np.clip(np.float32(rule["target"]) / max(mean, np.float32(1)), np.float32(1), np.float32(rule["most"]))
    return np.minimum(np.floor(pixels * gain + np.float32(0.5)), 255).astype(np.float32)


def main():
    pawgate = sys.argv[1]
    pictures = sys.argv[2:] or sorted(str(p) for p in (ROOT / "samples").glob("*.jpg"))
    options = onnxruntime.SessionOptions()
    # Without VNNI, ONNX Runtime's x86 kernels add two products in 16 bits and saturate; this makes them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(MODEL, options)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    in_floats = onnxruntime.InferenceSession(MODEL, options)
    preprocess = json.loads(session.get_modelmeta().custom_metadata_map["pawgate.preprocess"])
    with tempfile.TemporaryDirectory() as folder:
        squares, tensors = [], []
        for index, picture in enumerate(pictures):
            square = Image.open(picture).convert("RGB").resize((224, 224), Image.BILINEAR)
            path = pathlib.Path(folder, f"{index:06}.png")
            square.save(path, compress_level=1)
            squares.append(str(path))
            pixels = adjusted(np.asarray(square), preprocess) / np.float32(255)
            tensors.append(((pixels - MEAN) / STD).transpose(2, 0, 1)[None])
        logits = pathlib.Path(folder, "logits.safetensors")
        command = [pawgate, "classify", "--model", MODEL, "--json", "--resize", "plain", "--logits", logits, *squares]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        assert len(lines) == len(pictures) and all("error" not in json.loads(line) for line in lines)
        ours = load_file(logits)
    run = lambda session: [session.run(["breed", "pet", "embedding"], {"image": tensor}) for tensor in tensors]
    breed, pet, embedding = (np.concatenate(outputs) for outputs in zip(*run(session)))
    floats = np.concatenate([outputs[2] for outputs in run(in_floats)])

    same = (breed.argmax(1) == ours["breed"].argmax(1)).mean()
    print(f"{len(pictures)} pictures: same breed first {same:.2%}")
    near = True
    for name, part in (("ResNet50", slice(0, 2048)), ("MobileNetV2", slice(2048, None))):
        # Features are means over 49 pixels: multiples of a 49th of the pixels' step, which is the smallest value that is not zero.
        values = np.unique(embedding[:, part])
        scale = values[values > 0].min() * PIXELS
        steps = lambda other: np.abs(embedding[:, part] - other[:, part]) / scale
        within = lambda other: (steps(other) <= 1.5).mean()
        found, usual = within(ours["embedding"]), within(floats)
        near &= found >= 0.99 or steps(ours["embedding"]).mean() <= 1.5 * steps(floats).mean()
        print(
            f"{name}: features within one step {found:.2%} (mean difference {steps(ours['embedding']).mean():.3f} steps);"
            f" ONNX Runtime in floats {usual:.2%} ({steps(floats).mean():.3f})"
        )
    print(f"largest difference: breed {np.abs(breed - ours['breed']).max():.3f}, pet {np.abs(pet - ours['pet']).max():.3f}")
    # Breeds of a picture without a pet mean nothing; only what the gate lets through is compared.
    shown = np.array([json.loads(line)["verdict"] == "animal" for line in lines])
    agree = (breed.argmax(1) == ours["breed"].argmax(1))[shown]
    if not near or (shown.any() and agree.mean() < 0.995):
        sys.exit("pawgate and ONNX Runtime disagree on the same file and input")


main()
