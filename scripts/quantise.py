#!/usr/bin/env python3
"""Makes INT8 networks with ONNX Runtime's own tool (static quantisation, QDQ) and measures them beside the float ones.

usage: quantise.py --calibrate DIR[,DIR…] --out OUT [--judge PEOPLE] [--pictures DIR[,DIR…]] [--only MODEL[/SETTING],…] [--runs N]

Needs the packages of quantise-requirements.txt, and the float models (`visage models pull`). Ranges come from the faces (embedders) or pictures
(detector) under the folders of --calibrate, 60 at most. OUT gets models/ID-SETTING.onnx, manifest.toml with an entry for each, and visage.toml, which
names both. Tables: size, SHA-256, speed (one intra-op thread, no spinning, batch 1, float and INT8 run by run in turn; ratios of medians), and

--judge PEOPLE   DIR/PERSON/*.jpg: accuracy by `visage eval pairs PEOPLE --all` of every embedder; not the pictures of --calibrate
--pictures DIR   pictures and clips (two frames a second): what the detector finds at 640 px of the faces that the float one finds at 1600 px

The same packages, pictures and kind of processor give the same files; another kind of processor rounds ranges differently.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches/peers"))
from recognition import Detector, Embedder, session  # noqa: E402

DETECTOR = "retinaface-mnet025"
# Inputs as the server gives them: the detector's for 16:9 and square frames, the embedders' crops.
SHAPES = {DETECTOR: [(360, 640), (640, 640)], "dlib-resnet": [(150, 150)], "mobilefacenet": [(112, 112)]}
METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
MOST = 60
# Activations and weights (u8s8, s8s8), weights' ranges per channel (pc) or per tensor (pt), how ranges are chosen, which part stays float:
# `ends`: the first and last layers; `body`, `stage1`: the detector's backbone, or its first stage, and its heads; `prelu`: the pairs of depthwise
# convolutions that stand for PReLU; `7bit`: weights of seven bits, which cannot overflow on processors without VNNI.
SETTINGS = {
    DETECTOR: ["u8s8-pc-minmax", "u8s8-pt-minmax", "s8s8-pc-minmax", "u8s8-pc-percentile", "u8s8-pc-minmax-ends", "u8s8-pc-percentile-ends",
        "u8s8-pc-minmax-stage1", "u8s8-pc-minmax-body", "u8s8-pc-percentile-body", "u8s8-pc-minmax-body-7bit"],
    "dlib-resnet": ["u8s8-pc-minmax", "u8s8-pc-minmax-7bit", "u8s8-pt-minmax", "s8s8-pc-minmax", "u8s8-pc-entropy", "u8s8-pc-percentile",
        "u8s8-pc-minmax-ends", "u8s8-pc-percentile-ends"],
    "mobilefacenet": ["u8s8-pc-minmax", "u8s8-pt-minmax", "s8s8-pc-minmax", "u8s8-pc-percentile", "u8s8-pc-minmax-ends", "u8s8-pc-percentile-ends",
        "u8s8-pc-percentile-ends-7bit", "u8s8-pc-percentile-prelu"],
}  # fmt: skip


class Reader(CalibrationDataReader):
    def __init__(self, name, data):
        self.name, self.data = name, iter(data)

    def get_next(self):
        sample = next(self.data, None)
        return None if sample is None else {self.name: sample}


def files(folders, endings=(".jpg", ".jpeg", ".png", ".webp")):
    found = sorted(p for folder in folders for p in Path(folder).rglob("*") if p.suffix.lower() in endings)
    if not found:
        raise SystemExit(f"no pictures under {', '.join(map(str, folders))}")
    return found


def samples(model, folders, manifest, models):
    """Network inputs of a batch of one, evenly taken from all pictures; the detector's are squares of 640 px, filled up by mirroring."""
    detector, out = Detector(manifest, models), []
    embedder = None if model == DETECTOR else Embedder(manifest, models, model)
    for picture in files(folders):
        frame = cv2.imread(str(picture))
        if frame is None:
            continue
        if embedder:
            for face in detector.detect(frame):
                out += list(embedder.crops(frame, face)[:, None])
            continue
        scale = 640 / max(frame.shape[:2])
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=kind)[:640, :640]
        height, width = small.shape[:2]
        small = cv2.copyMakeBorder(small, 0, 640 - height, 0, 640 - width, cv2.BORDER_REFLECT)
        out.append(np.ascontiguousarray((small.astype(np.float32) - detector.mean).transpose(2, 0, 1)[None]))
    return out[:: max(1, len(out) // MOST)][:MOST]


def prepared(model, models, out):
    """The graph as the tool wants it: opset 13 or later (scales per channel need it), names, shapes, folded."""
    graph, target = onnx.load(models / f"{model}.onnx"), out / f"{model}.prepared.onnx"
    if graph.opset_import[0].version < 13:
        graph = onnx.version_converter.convert_version(graph, 17)
    for i, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{i}"
    onnx.save(graph, target)
    quant_pre_process(str(target), str(target), skip_symbolic_shape=True)
    return target


def kept_float(graph, parts):
    """Names of nodes that stay float."""
    convs = [n for n in graph.node if n.op_type == "Conv"]
    weights = {i.name: tuple(i.dims) for i in graph.initializer}
    heads = [n.name for n in graph.node if "_head" in n.name]
    kept = set()
    if "ends" in parts:
        kept |= {convs[0].name, *(heads or [convs[-1].name])}
        kept |= {n.name for n in graph.node if n.op_type in ("Sub", "Mul", "MatMul", "LpNormalization")}
    if "body" in parts:
        kept |= {n.name for n in graph.node if not n.name.startswith(("/fpn", "/ssh"))}
    if "stage1" in parts:
        kept |= {n.name for n in graph.node if n.name.startswith("/fx/stage1")} | set(heads)
    if "prelu" in parts:
        pairs = [n for n in convs if weights[n.input[1]][1:] == (1, 1, 1)]
        made = {n.output[0] for n in pairs}
        kept |= {n.name for n in graph.node if n in pairs or n.op_type == "Relu" or n.op_type == "Add" and made & set(n.input)}
    return sorted(kept)


def quantise(source, target, setting, data):
    kind, channels, method, *parts = setting.split("-")
    graph = onnx.load(source).graph
    with contextlib.redirect_stdout(sys.stderr):  # the tool talks on stdout
        quantize_static(
            str(source), str(target), Reader(graph.input[0].name, data), quant_format=QuantFormat.QDQ, per_channel=channels == "pc",
            activation_type=QuantType.QUInt8 if kind == "u8s8" else QuantType.QInt8, weight_type=QuantType.QInt8,
            reduce_range="7bit" in parts, calibrate_method=METHODS[method], nodes_to_exclude=kept_float(graph, parts))  # fmt: skip


def speed(model, float_path, int8_path, data, shape, runs):
    """Medians of a run's thread CPU time (ms), and ratios float / INT8 of CPU and wall time; both take turns, run by run."""
    sessions = [session(float_path, 1), session(int8_path, 1)]
    height, width = shape
    inputs = [np.ascontiguousarray(x[:, :, :height, :width]) for x in data[:10]]
    spent = [[], []]
    for i in range(runs + 10):
        for k in ((0, 1), (1, 0))[i % 2]:
            wall, cpu = time.perf_counter(), time.thread_time()
            sessions[k].run(None, {sessions[k].get_inputs()[0].name: inputs[i % len(inputs)]})
            if i >= 10:
                spent[k].append((time.thread_time() - cpu, time.perf_counter() - wall))
    cpu = [statistics.median(s[0] for s in each) * 1000 for each in spent]
    wall = [statistics.median(s[1] for s in each) * 1000 for each in spent]
    return {"input": f"{width}x{height}", "float_ms": cpu[0], "int8_ms": cpu[1], "cpu_ratio": cpu[0] / cpu[1], "wall_ratio": wall[0] / wall[1]}


def describe(model, name, path, manifest):
    """The float model's manifest entry under another id, for the file at `path`."""
    entries = re.split(r"(?m)^(?=\[\[model\]\]$)", Path(manifest).read_text())
    entry = next(e for e in entries if f'\nid = "{model}"\n' in e)
    head, rest = entry.split("[[model.sources]]", 1)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    for key, value in (("id", name), ("convert", "none"), ("onnx_sha256", sha)):
        head = re.sub(rf"(?m)^{key} = .*$", f'{key} = "{value}"', head)
    head = re.sub(r'(?m)^description = "(.*)"$', r'description = "\1; INT8"', head)
    return f'{head}[[model.sources]]\nfrom = "file:{path}"\nsha256 = ["{sha}"]\n\n' + rest[rest.index("[model.input]") :], sha


def accuracy(visage, out, embedder, people):
    done = subprocess.run([visage, "eval", "pairs", people, "--all", "--config", out / "visage.toml", "--embedder", embedder, "--size", "640", "--json"],
        capture_output=True, text=True)  # fmt: skip
    if done.returncode not in (0, 3):
        raise SystemExit(f"visage eval pairs: {done.stderr or done.stdout}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"accuracy": found["accuracy_mean"], "se": found["accuracy_se"], "eer": found["eer"], "tar_at_far_1e-3": found["tar_at_far"]["0.001"]}


def frames(folders):
    for path in files(folders, (".jpg", ".jpeg", ".png", ".webp", ".mp4")):
        if path.suffix.lower() != ".mp4":
            frame = cv2.imread(str(path))
            if frame is not None:
                yield frame
            continue
        clip = cv2.VideoCapture(str(path))
        step, index = max(1, round(clip.get(cv2.CAP_PROP_FPS) / 2)), 0
        while clip.grab():
            if index % step == 0:
                yield clip.retrieve()[1]
            index += 1


def overlap(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - width * height)


def recall(path, truth, manifest, models):
    """Found above 0.5 and 0.8 of the faces that have 16 px or more in the input, others found above 0.8, and how far landmarks are off."""
    detector = Detector(manifest, models, min_score=0.5)
    detector.session = session(path, 1)
    faces, above, others, off = 0, [0, 0], 0, []
    for frame, known in truth:
        scale, free = min(1.0, 640 / max(frame.shape[:2])), list(known)
        faces += sum((t.box[2] - t.box[0]) * scale >= 16 for t in known)
        for face in detector.detect(frame):
            best = max(free, key=lambda t: overlap(face.box, t.box), default=None)
            if best is None or overlap(face.box, best.box) < 0.4:
                others += face.score > 0.8
                continue
            free = [t for t in free if t is not best]
            if (best.box[2] - best.box[0]) * scale >= 16:
                above[0] += 1
                above[1] += face.score > 0.8
                off.append(np.linalg.norm(face.landmarks - best.landmarks, axis=1).mean() / np.linalg.norm(best.landmarks[0] - best.landmarks[1]))
    return {"faces": faces, "found_0.5": above[0] / faces, "found_0.8": above[1] / faces, "others_0.8": int(others), "landmarks_off": float(np.mean(off))}


def show(row):
    if "sha256" in row:
        print(f"{row['model']}: {row['mib']:.1f} MiB, sha256 {row['sha256']}")
    for s in row.get("speed", []):
        print(f"    {s['input']}: {s['float_ms']:.2f} -> {s['int8_ms']:.2f} ms CPU, ratio {s['cpu_ratio']:.2f} (wall {s['wall_ratio']:.2f})")
    if "accuracy" in row:
        print(f"    {row['model']}: accuracy {row['accuracy']:.2%} +- {row['se']:.2%}, EER {row['eer']:.2%}, TAR at FAR 1e-3 {row['tar_at_far_1e-3']:.2%}")
    if "faces" in row:
        print(f"    {row['model']}: of {row['faces']} faces {row['found_0.5']:.2%} found above 0.5, {row['found_0.8']:.2%} above 0.8; {row['others_0.8']} others "
            f"above 0.8; landmarks off by {row['landmarks_off']:.3f} eye distances")  # fmt: skip
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--pictures")
    parser.add_argument("--only", help="such as dlib-resnet, or dlib-resnet/u8s8-pc-minmax-7bit")
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each network; 0: none")
    parser.add_argument("--visage", type=Path, default=ROOT / "target/release/visage")
    parser.add_argument("--models", type=Path, default=ROOT / ".cache/models")
    parser.add_argument("--manifest", type=Path, default=ROOT / "models/manifest.toml")
    parser.add_argument("--runtime", type=Path, default=ROOT / ".cache/onnxruntime/libonnxruntime.so")
    parser.add_argument("--json", action="store_true", help="one JSON object a model instead of tables")
    options = parser.parse_args()
    say = (lambda row: print(json.dumps(row), flush=True)) if options.json else show
    only = options.only.split(",") if options.only else None
    wanted = {m: [s for s in ss if not only or m in only or f"{m}/{s}" in only] for m, ss in SETTINGS.items()}
    if not any(wanted.values()):
        parser.error("--only: " + ", ".join(f"{m}/{s}" for m, ss in SETTINGS.items() for s in ss))
    out = options.out.resolve()
    (out / "models").mkdir(parents=True, exist_ok=True)
    for path in options.models.resolve().glob("*.onnx"):
        (out / "models" / path.name).unlink(missing_ok=True)
        os.symlink(path, out / "models" / path.name)
    entries, rows = [], []
    for model, settings in wanted.items():
        if not settings:
            continue
        source, data = prepared(model, options.models, out), samples(model, options.calibrate.split(","), options.manifest, options.models)
        for setting in settings:
            name = f"{model}-{setting}"
            path = out / "models" / f"{name}.onnx"
            quantise(source, path, setting, data)
            entry, sha = describe(model, name, path, options.manifest)
            entries.append(entry)
            timed = [speed(model, options.models / f"{model}.onnx", path, data, shape, options.runs) for shape in SHAPES[model] if options.runs]
            rows.append({"model": name, "of": model, "mib": path.stat().st_size / 2**20, "sha256": sha, "speed": timed})
            say(rows[-1])
    (out / "manifest.toml").write_text("".join(entries))
    # As JSON strings, which are TOML strings, too.
    quoted = {k: json.dumps(str(v)) for k, v in (("dir", out / "models"), ("manifest", out / "manifest.toml"), ("library", options.runtime.resolve()))}
    (out / "visage.toml").write_text(
        f"[models]\ndir = {quoted['dir']}\nmanifest = {quoted['manifest']}\n\n[inference]\nruntime_library = {quoted['library']}\n")  # fmt: skip
    if options.judge:
        for model in (m for m in wanted if m != DETECTOR and wanted[m]):
            for name in [model, *(f"{model}-{s}" for s in wanted[model])]:
                say({"model": name, **accuracy(options.visage.resolve(), out, name, options.judge)})
    if options.pictures and wanted[DETECTOR]:
        looked = list(frames(options.pictures.split(",")))
        reference = Detector(options.manifest, options.models, size=1600, min_score=0.6)
        truth = [(frame, reference.detect(frame)) for frame in looked]
        for name in [DETECTOR, *(f"{DETECTOR}-{s}" for s in wanted[DETECTOR])]:
            say({"model": name, **recall(out / "models" / f"{name}.onnx", truth, options.manifest, options.models)})


if __name__ == "__main__":
    main()
