"""Judges rendered objects, compose.yaml and the Dockerfile; one fault a line, exit code 1 where there is one."""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings

import yaml

from . import bundle as bundles
from . import compose, dockerfile, pods

# Kinds of operators: their definitions are not part of Kubernetes, so only the rules here look at them.
FOREIGN = {"Certificate", "PrometheusRule", "ServiceMonitor"}
VERSIONS = ("1.30", "1.35")


def judge_rendered(things, given, metrics, schemas=True):
    """Every fault of objects that were rendered together."""
    bundle = bundles.Bundle(things, given, metrics)
    for thing, pod in bundle.pods:
        for rule in pods.RULES:
            yield from (f"{bundles.name(thing)}: {fault} ({rule.__name__})" for fault in rule(thing, pod["spec"]))
    for rule in bundles.RULES:
        yield from (f"{fault} ({rule.__name__})" for fault in rule(bundle))
    if schemas:
        for thing in things:
            yield from (f"{bundles.name(thing)}: {fault}" for fault in misfits(thing))


def misfits(thing):
    """What Kubernetes would refuse: unknown or missing fields, wrong types."""
    import kubernetes_validate

    if thing["kind"] in FOREIGN:
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"Kubernetes {version} knows no such kind: {error.message}"


def settings_refused(program, things, knows_clusters):
    """What the program itself says of the settings."""
    for thing in things:
        for file, text in thing.get("data", {}).items() if thing["kind"] == "ConfigMap" else ():
            if not file.endswith(".toml") or ("store = \"cluster\"" in text and not knows_clusters):
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, file)
                with open(path, "w") as out:
                    out.write(text)
                environment = {"PATH": os.environ["PATH"]}
                told = subprocess.run([program, "serve", "--print-config", "--config", path], env=environment, capture_output=True, text=True)
                if told.returncode:
                    yield f"{bundles.name(thing)}: {program} refuses {file}: {told.stderr.strip()}"


def read(path):
    with open(path) as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(prog="policy", description=__doc__)
    parser.add_argument("--given", required=True, help="Secrets and claims that the operator makes")
    parser.add_argument("--adapter", required=True, help="rules of prometheus-adapter: the metrics that it serves")
    parser.add_argument("--program", help="visage, to read the settings that were rendered")
    parser.add_argument("--compose")
    parser.add_argument("--dockerfile")
    parser.add_argument("rendered", nargs="*")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    given = yaml.safe_load(read(arguments.given))
    metrics = [rule["name"]["as"] for rule in yaml.safe_load(read(arguments.adapter))["rules"]["custom"]]
    clusters = False
    if arguments.program:
        told = subprocess.run([arguments.program, "serve", "--print-config"], capture_output=True, text=True, check=True)
        clusters = any(line.startswith("store = ") for line in told.stdout.splitlines())
        if not clusters:
            print(f"policy: {arguments.program} knows no clusters: their settings are not read by it")
    faults = []
    for path in arguments.rendered:
        things = [thing for thing in yaml.safe_load_all(read(path)) if thing]
        found = list(judge_rendered(things, given, metrics))
        if arguments.program:
            found += settings_refused(arguments.program, things, clusters)
        faults += [f"{os.path.basename(path)}: {fault}" for fault in found]
    if arguments.compose:
        folder = os.path.dirname(os.path.abspath(arguments.compose))
        faults += [f"compose.yaml: {f}" for f in compose.judge(yaml.safe_load(read(arguments.compose)), folder)]
    if arguments.dockerfile:
        root = os.path.abspath(os.path.join(os.path.dirname(arguments.dockerfile), "../.."))
        faults += [f"Dockerfile: {f}" for f in dockerfile.judge(read(arguments.dockerfile), root, read(arguments.dockerfile + ".dockerignore"))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
