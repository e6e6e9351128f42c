#!/usr/bin/env python3
"""FaceNet (Inception-ResNet v1) of facenet-pytorch, from PyTorch weights to ONNX.

`visage models pull facenet-vggface2` runs this after it has fetched upstream's weights; by hand:

    export_facenet.py --weights 20180402-114759-vggface2.pt --out facenet-vggface2.onnx
    export_facenet.py --random-weights 7 --out proof.onnx --check      # the proof that the export is faithful

The network's code is imported, never copied: from `--module FILE` (inception_resnet_v1.py of the PyPI package facenet-pytorch) or from
an installed facenet-pytorch. Needs PyTorch 1.13 or newer; `--check` also onnxruntime and numpy.

Input `input`: float32 [batch, 3, 160, 160], RGB, (pixel - 127.5) / 128. Output `embedding`: [batch, 512], unit length.
Exit code: 0 done, 1 failed, 2 wrong command line, 3 something must be installed first.
"""
import argparse
import importlib.util
import inspect
import json
import os
import sys
import types

SIZE = 160
CLASSES = 8631  # identities of VGGFace2: the weights carry their classifier, which the embedding does not use
OPSET = 13
TOLERANCE = 1e-4


def stop(code, text):
    print(f"export_facenet: {text}", file=sys.stderr)
    sys.exit(code)


try:
    import torch
except ImportError as error:
    stop(3, f"PyTorch is missing ({error}); install it: apt-get install python3-torch, or pip install torch")


def network(module):
    """facenet-pytorch's class. Its downloader is replaced: nothing here may reach for the network."""
    if module is None:
        try:
            from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
        except ImportError as error:
            stop(3, f"facenet-pytorch is missing ({error}); pip install --no-deps facenet-pytorch==2.6.0, or name --module")
        return InceptionResnetV1
    for name in ("facenet", "facenet.utils", "facenet.utils.download", "requests", "requests.adapters"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["facenet.utils.download"].download_url_to_file = None
    if not hasattr(sys.modules["requests.adapters"], "HTTPAdapter"):
        sys.modules["requests.adapters"].HTTPAdapter = object
    spec = importlib.util.spec_from_file_location("facenet.inception_resnet_v1", module)
    if spec is None or spec.loader is None:
        stop(1, f"{module} is no Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded.InceptionResnetV1


def trained(build, path):
    """The network with upstream's weights; every tensor must be there, with its name and shape."""
    model = build(classify=True, num_classes=CLASSES)
    only_tensors = {}
    if "weights_only" in inspect.signature(torch.load).parameters:
        only_tensors["weights_only"] = True  # a pickle could run anything
    state = torch.load(path, map_location="cpu", **only_tensors)
    model.load_state_dict(state, strict=True)
    model.classify = False
    return model


def random(build, seed):
    """The same architecture with random weights and random batch statistics, so that folding them is tested too."""
    torch.manual_seed(seed)
    model = build()
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0.0, 0.1)
            torch.nn.init.normal_(layer.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def pattern():
    """((c*H + y)*W + x) * 7919 mod 256, normalised: an input that any program can make without a picture."""
    pixels = torch.arange(3 * SIZE * SIZE).reshape(1, 3, SIZE, SIZE) * 7919 % 256
    return (pixels.float() - 127.5) / 128.0


def export(model, path):
    options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        model,
        torch.zeros(2, 3, SIZE, SIZE),
        path,
        input_names=["input"],
        output_names=["embedding"],
        dynamic_axes={"input": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=OPSET,
        do_constant_folding=True,
        **options,
    )


def difference(model, path):
    """Largest difference between PyTorch and ONNX Runtime over the pattern, noise, and a batch of three."""
    try:
        import onnxruntime
    except ImportError as error:
        stop(3, f"--check needs onnxruntime ({error}); pip install onnxruntime==1.31.1")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(3, 3, SIZE, SIZE, generator=generator) * 2 - 1
    worst = 0.0
    for batch in (pattern(), noise[:1], noise, torch.cat([pattern(), noise])):
        with torch.no_grad():
            expected = model(batch)
        found = torch.from_numpy(session.run(None, {"input": batch.numpy()})[0])
        if found.shape != expected.shape:
            stop(1, f"ONNX Runtime gives {tuple(found.shape)}, PyTorch {tuple(expected.shape)}")
        worst = max(worst, (found - expected).abs().max().item())
    return worst


def main():
    parser = argparse.ArgumentParser(description="Exports facenet-pytorch's Inception-ResNet v1 to ONNX.")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--weights", metavar="FILE", help="upstream's weights (.pt)")
    weights.add_argument("--random-weights", metavar="SEED", type=int, help="random weights instead, for the proof")
    parser.add_argument("--module", metavar="FILE", help="facenet-pytorch's inception_resnet_v1.py [default: the installed package]")
    parser.add_argument("--out", metavar="FILE", required=True, help="the ONNX file to write")
    parser.add_argument("--reference", metavar="FILE", help="write PyTorch's embedding of the test pattern (JSON)")
    parser.add_argument("--check", action="store_true", help=f"compare with ONNX Runtime, fail above {TOLERANCE}")
    args = parser.parse_args()

    build = network(args.module)
    try:
        model = trained(build, args.weights) if args.weights else random(build, args.random_weights)
    except Exception as error:  # torch raises whatever it likes; the first line says what
        stop(1, f"{args.weights} does not hold the weights of this network: {str(error).splitlines()[0]}")
    model.eval()
    part = args.out + ".part"
    try:
        export(model, part)
        if args.check:
            worst = difference(model, part)
            print(f"export_facenet: ONNX Runtime and PyTorch {torch.__version__} differ by at most {worst:.2e}")
            if not worst < TOLERANCE:
                stop(1, f"that is more than {TOLERANCE}")
        os.replace(part, args.out)
    finally:
        if os.path.exists(part):
            os.remove(part)
    if args.reference:
        with torch.no_grad():
            embedding = model(pattern())[0].tolist()
        with open(args.reference, "w", encoding="utf-8") as file:
            json.dump({"input": "(((c*160+y)*160+x)*7919 mod 256 - 127.5) / 128", "embedding": embedding}, file)


main()
