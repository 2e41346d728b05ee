"""The shipped model through pawgate and through ONNX Runtime, on the very same input tensors.

Pictures are scaled to 224x224 here and handed to `pawgate classify --resize plain` as PNG, which leaves them as they are; so
the two only differ in how they compute the graph. The verdicts are compared, and the features counted in quantisation steps.

ONNX Runtime computes a convolution in floats where the file does not quantise its output (before an addition), and then rounds
some values the other way, which later layers make larger: its own integers and its own floats (without optimisation) differ too. So
the two are compared twice: on the model with those outputs quantised, where nearly all features must agree within a step, and on the
model as it ships, where a backbone's may be half as far again from ONNX Runtime's as its two ways are from each other.

usage: onnxruntime_check.py PAWGATE [PICTURE...]      (the sample pictures by default)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/pawgate-pets37-int8.onnx"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# Of each backbone's last picture.
PIXELS = 7 * 7
PARTS = {"ResNet50": slice(0, 2048), "MobileNetV2": slice(2048, None)}


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


def rounded_before_additions(source, target):
    """The model with every convolution's output quantised before it is added: ONNX Runtime then has an integer form for all of it."""
    model = onnx.load(source)
    graph = model.graph
    convolutions = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    scales = {node.input[0]: node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    activated = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
    graph.initializer.append(onnx.helper.make_tensor("outside/zero_point", onnx.TensorProto.UINT8, [], [128]))
    nodes, added = [], {}
    for node in graph.node:
        if node.op_type == "Add" and convolutions.keys() & set(node.input):
            # A finer step than the sum's would clip; the sum's own is coarse enough for both.
            scale = scales.get(node.output[0]) or scales[activated[node.output[0]]]
            for at, name in enumerate(node.input):
                if name in convolutions:
                    quantised, back = f"{name}/outside/quantised", f"{name}/outside/dequantised"
                    constants = [scale, "outside/zero_point"]
                    nodes.append(onnx.helper.make_node("QuantizeLinear", [name, *constants], [quantised], name=quantised))
                    nodes.append(onnx.helper.make_node("DequantizeLinear", [quantised, *constants], [back], name=back))
                    added[name] = back
                    node.input[at] = back
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    return len(added)


def session(model, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    # Without VNNI, ONNX Runtime's x86 kernels add two products in 16 bits and saturate; this makes them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options)


def run(session, tensors):
    outputs = [session.run(["breed", "pet", "embedding"], {"image": tensor}) for tensor in tensors]
    return [np.concatenate(values) for values in zip(*outputs)]


def steps(theirs, ours, part):
    """Differences of features in steps of the last pictures: features are means over 49 pixels, multiples of a 49th of a step, which
    is the smallest value that is not zero."""
    values = np.unique(theirs[:, part])
    return np.abs(theirs[:, part] - ours[:, part]) / (values[values > 0].min() * PIXELS)


def main():
    pawgate = sys.argv[1]
    pictures = sys.argv[2:] or sorted(str(p) for p in (ROOT / "samples").glob("*.jpg"))
    levels = onnxruntime.GraphOptimizationLevel
    complaints = []
    with tempfile.TemporaryDirectory() as folder:
        integers = str(pathlib.Path(folder, "integers.onnx"))
        added = rounded_before_additions(str(MODEL), integers)
        shipped = session(str(MODEL), levels.ORT_ENABLE_ALL)
        preprocess = json.loads(shipped.get_modelmeta().custom_metadata_map["pawgate.preprocess"])
        squares, tensors = [], []
        for index, picture in enumerate(pictures):
            square = Image.open(picture).convert("RGB").resize((224, 224), Image.BILINEAR)
            path = pathlib.Path(folder, f"{index:06}.png")
            square.save(path, compress_level=1)
            squares.append(str(path))
            pixels = adjusted(np.asarray(square), preprocess) / np.float32(255)
            tensors.append(((pixels - MEAN) / STD).transpose(2, 0, 1)[None])

        def compare(name, model, theirs):
            logits = pathlib.Path(folder, "logits.safetensors")
            command = [pawgate, "classify", "--model", model, "--json", "--resize", "plain", "--logits", logits, *squares]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            assert len(lines) == len(pictures) and all("error" not in json.loads(line) for line in lines)
            ours = load_file(logits)
            breed, pet, _ = theirs
            same = breed.argmax(1) == ours["breed"].argmax(1)
            # Breeds of a picture without a pet mean nothing; only what the gate lets through is compared.
            shown = np.array([json.loads(line)["verdict"] == "animal" for line in lines])
            if shown.any() and same[shown].mean() < 0.995:
                complaints.append(f"{name}: the breeds differ")
            far = [np.abs(breed - ours["breed"]).max(), np.abs(pet - ours["pet"]).max()]
            print(f"{name}, {len(pictures)} pictures: same breed first {same.mean():.2%}; logits differ by {far[0]:.3f} and {far[1]:.3f} at most")
            return ours["embedding"]

        theirs = run(session(integers, levels.ORT_ENABLE_ALL), tensors)
        ours = compare(f"{added} convolutions rounded before their additions", integers, theirs)
        within = np.concatenate([(steps(theirs[2], ours, part) <= 1.5).ravel() for part in PARTS.values()]).mean()
        print(f"  features within one step {within:.3%}")
        # ONNX Runtime's additions round in another order on a CPU without FMA.
        if within < 0.99:
            complaints.append("all in integers: the features differ")

        theirs = run(shipped, tensors)
        ours = compare("the shipped model", str(MODEL), theirs)
        floats = run(session(str(MODEL), levels.ORT_DISABLE_ALL), tensors)[2]
        for name, part in PARTS.items():
            found, usual = steps(theirs[2], ours, part), steps(theirs[2], floats, part)
            print(
                f"  {name}: features within one step {(found <= 1.5).mean():.2%} (mean difference {found.mean():.3f} steps);"
                f" ONNX Runtime in floats {(usual <= 1.5).mean():.2%} ({usual.mean():.3f})"
            )
            if (found <= 1.5).mean() < 0.99 and found.mean() > 1.5 * usual.mean():
                complaints.append(f"the shipped model: {name}'s features differ")
    if complaints:
        sys.exit("pawgate and ONNX Runtime disagree on the same file and input: " + "; ".join(complaints))


main()
