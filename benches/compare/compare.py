"""pawgate beside other runtimes: one machine, one run, the same file, the same number of threads.

Ours and theirs alternate in rounds, in turned order every other round, so that a machine that grows warm or busy hits all of
them. A time is the median over the rounds of each round's median; a ratio is the median over the rounds of ours / theirs within
one round, so below 1 pawgate is faster. What is timed is the network alone, on a picture that is ready: pawgate's time
includes quantising its pixels.

Peers: ONNX Runtime on the int8 file that pawgate runs, and tract's own operators on it (in floats, and on one thread whatever was
asked); with --fp32 (what `pawgate-tools build` writes: the same two backbones in floats, without the head) ONNX Runtime and
ncnn on that. Peers use whatever the CPU has, whichever instruction set pawgate is held to; ncnn computes with the settings it
comes with.
"""
import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/pawgate-pets37-int8.onnx"
SHAPE = (1, 3, 224, 224)
# Threads of a peer keep spinning for a while after their last inference; they must not take the next one's time.
PAUSE_S = 0.3


class Pawgate:
    """The binary, held to one instruction set."""

    ours = True

    def __init__(self, binary, isa):
        self.name, self.binary, self.isa = f"pawgate {isa}", binary, isa

    def measure(self, threads, runs):
        command = [self.binary, "bench", "--json", "--model", MODEL, "--runs", str(runs), "--threads", str(threads)]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PAWGATE_ISA": self.isa}
        )
        line = json.loads(done.stdout)
        assert (line["isa"], line["threads"]) == (self.isa, threads), line
        return line["median_ms"], line["min_ms"]


class Tract:
    """tract's own operators on the same file, which they compute in floats on one thread."""

    ours, name = False, "tract int8"
    # It takes ten times as long as the others: a fifth of their runs is as good.
    fewer = 5

    def __init__(self, binary):
        self.binary = binary

    def measure(self, threads, runs):
        command = [self.binary, "bench", "--json", "--floats", "--model", MODEL, "--runs", str(-(-runs // self.fewer))]
        line = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        assert "tract" in line["isa"], line
        return line["median_ms"], line["min_ms"]


class Peer:
    """A runtime in this process; `load(threads)` returns a function that does one inference."""

    ours = False

    def __init__(self, name, load):
        self.name, self.load, self.loaded = name, load, {}

    def measure(self, threads, runs):
        if threads not in self.loaded:
            self.loaded[threads] = self.load(threads)
        infer = self.loaded[threads]
        # As `pawgate bench` does: the first inference allocates what the next ones use again.
        infer()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            infer()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times), min(times)


def skip(name, why):
    print(f"SKIPPED {name}: {why}", file=sys.stderr)


def isas(binary):
    """The instruction sets that the binary says this CPU has, without the specification, which is not meant to be fast."""
    heading = subprocess.run(
        [binary, "bench", "--model", MODEL, "--runs", "1", "--threads", "1"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [isa for isa in heading.split("this CPU has: ")[1].split(")")[0].split(", ") if isa != "scalar"]


def picture():
    """Values as normalised pixels have them; no runtime here is faster or slower for what they show."""
    import numpy

    return numpy.random.default_rng(0).uniform(-2.1, 2.6, SHAPE).astype(numpy.float32)


def onnxruntime_peer(name, file):
    try:
        import onnxruntime

        image = picture()
    except ImportError as error:
        return skip(name, error)

    def load(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda: session.run(None, {name: image})

    return Peer(name, load)


def converter():
    """ncnn's converter. Found without importing its package, which would need torch."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None:
        raise ImportError("No module named 'pnnx'")
    return pathlib.Path(spec.submodule_search_locations[0], "pnnx")


def convert(binary, file, folder):
    """ncnn's two files of an ONNX file, or why there are none."""
    link = folder / "network.onnx"
    link.symlink_to(file.resolve())
    done = subprocess.run(
        [binary, link.name, f"inputshape=[{','.join(map(str, SHAPE))}]"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    param, weights = folder / "network.ncnn.param", folder / "network.ncnn.bin"
    if done.returncode or not (param.exists() and weights.exists()):
        last = (done.stdout.strip().splitlines() or ["it says nothing"])[-1]
        return None, f"its converter fails with {done.returncode}: {last}"
    return (param, weights), None


def ncnn_peer(file, kind, folder):
    name = f"ncnn {kind}"
    try:
        import ncnn

        image, binary = picture(), converter()
    # An extension module that does not fit the machine fails in other ways than by being absent.
    except Exception as error:
        return skip(name, error)
    files, why = convert(binary, file, folder)
    if files is None:
        return skip(name, why)
    lines = [line.split() for line in files[0].read_text().splitlines()[2:] if line.strip()]
    made = [blob for line in lines for blob in line[4 + int(line[2]) :][: int(line[3])]]
    used = {blob for line in lines for blob in line[4:][: int(line[2])]}
    source = next(line[4] for line in lines if line[0] == "Input")
    results = [blob for blob in made if blob not in used]

    def load(threads):
        net = ncnn.Net()
        net.opt.num_threads = threads
        if net.load_param(str(files[0])) or net.load_model(str(files[1])):
            raise RuntimeError("ncnn refuses what its converter wrote")

        def infer():
            extractor = net.create_extractor()
            extractor.input(source, ncnn.Mat(image[0]))
            for blob in results:
                status, _ = extractor.extract(blob)
                if status:
                    raise RuntimeError(f"ncnn cannot compute `{blob}`")

        return infer

    return Peer(name, load)


def usable(peer):
    """The peer, if it can do one inference."""
    if peer is None:
        return None
    try:
        peer.measure(1, 1)
    except Exception as error:
        return skip(peer.name, str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
    return peer


def peers(arguments, folder):
    found = [onnxruntime_peer("onnxruntime int8", MODEL), Tract(arguments.pawgate)]
    if arguments.fp32:
        found.append(onnxruntime_peer("onnxruntime fp32", arguments.fp32))
        found.append(ncnn_peer(arguments.fp32, "fp32", folder))
    else:
        skip("onnxruntime fp32", "no fp32 network given (--fp32)")
        found.append(ncnn_peer(MODEL, "int8", folder))
    return [peer for peer in map(usable, found) if peer]


def measure(contenders, counts, runs, rounds):
    """{threads: {name: [(median, least) of each round]}}"""
    times = {threads: {contender.name: [] for contender in contenders} for threads in counts}
    for index in range(rounds):
        for threads in counts:
            for contender in contenders if index % 2 == 0 else reversed(contenders):
                time.sleep(PAUSE_S)
                times[threads][contender.name].append(contender.measure(threads, runs))
        print(f"round {index + 1} of {rounds} done", file=sys.stderr)
    return times


def evaluate(times, contenders):
    rows = []
    names = [contender.name for contender in contenders if not contender.ours]
    for threads, measured in times.items():
        for contender in contenders:
            medians, least = zip(*measured[contender.name])
            row = {
                "threads": threads,
                "name": contender.name,
                "median_ms": round(statistics.median(medians), 3),
                "min_ms": round(min(least), 3),
                "round_medians_ms": [round(median, 3) for median in medians],
            }
            if contender.ours:
                theirs = {name: [median for median, _ in measured[name]] for name in names}
                row["ratios"] = {
                    name: round(statistics.median(a / b for a, b in zip(medians, theirs[name])), 4) for name in names
                }
            rows.append(row)
    return names, rows


def table(names, rows):
    widths = [max(len(name) + 2, 8) for name in names]
    head = f"{'threads':>7}  {'':<20}  {'median ms':>9}  {'min ms':>8}"
    print(head + "".join(f"  {'/ ' + name:>{width}}" for name, width in zip(names, widths)))
    for row in rows:
        line = f"{row['threads']:>7}  {row['name']:<20}  {row['median_ms']:>9.2f}  {row['min_ms']:>8.2f}"
        ratios = row.get("ratios", {})
        print(line + "".join(f"  {ratios[name]:>{width}.3f}" for name, width in zip(names, widths) if ratios))


def numbers(text):
    counts = [int(part) for part in text.split(",")]
    if not all(1 <= count <= 256 for count in counts):
        raise ValueError(text)
    return counts


def number(text):
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pawgate", type=pathlib.Path, help="the binary to measure")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=numbers, metavar="LIST", help="default: 1, 2 and all cores, where there are as many")
    parser.add_argument("--runs", type=number, default=20, metavar="N", help="inferences of each in one round (%(default)s)")
    parser.add_argument("--rounds", type=number, default=5, metavar="N", help="rounds (%(default)s)")
    parser.add_argument("--isas", metavar="LIST", help="instruction sets; default: all that this CPU has, without scalar")
    parser.add_argument("--fp32", type=pathlib.Path, metavar="FILE", help="the fused network in floats")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result here, too")
    arguments = parser.parse_args()
    arguments.pawgate = arguments.pawgate.resolve()
    counts = arguments.threads or sorted({count for count in (1, 2, cores) if count <= cores})
    if max(counts) > cores:
        print(f"more threads than cores ({cores}): expect noise", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wanted = arguments.isas.split(",") if arguments.isas else isas(arguments.pawgate)
        contenders = [Pawgate(arguments.pawgate, isa) for isa in wanted] + peers(arguments, folder)
        names, rows = evaluate(measure(contenders, counts, arguments.runs, arguments.rounds), contenders)
    table(names, rows)
    if arguments.json:
        result = {"cores": cores, "runs": arguments.runs, "rounds": arguments.rounds, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
