"""Rules for compose.yaml: the same walls as in the cluster, and that what it names in this repository is there."""

import os
import re

from .pods import PINNED

SECRET_WORDS = re.compile(r"PASSWORD|TOKEN|SECRET|API_KEY|STORAGE__KEY", re.I)


def _source(volume):
    return volume["source"] if isinstance(volume, dict) else volume.split(":")[0]


def _is_path(source):
    return source.startswith((".", "/"))


def pinned(name, service, document, folder):
    if "build" in service:
        build = service["build"]
        for path in (build.get("context", "."), os.path.join(build.get("context", "."), build.get("dockerfile", "Dockerfile"))):
            if not os.path.exists(os.path.join(folder, path)):
                yield f"builds from {path}, which is not there"
    elif "image" not in service:
        yield "has neither an image nor a build"
    else:
        found = PINNED.match(service["image"])
        if not found or found["tag"] == "latest":
            yield f"the image {service['image']} names no version"


def walls(name, service, document, folder):
    if service.get("read_only") is not True:
        yield "can write its root: read_only is not true"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "does not drop all capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges: no-new-privileges:true is not in security_opt"
    if str(service.get("user", "0")).split(":")[0] in ("0", "root"):
        yield "runs as root: name a user"
    if service.get("privileged") or service.get("network_mode") == "host" or service.get("pid") == "host":
        yield "is not kept apart from the host"


def limits(name, service, document, folder):
    if not service.get("mem_limit") or not service.get("cpus") or not service.get("pids_limit"):
        yield "has no mem_limit, cpus or pids_limit"


def healthy(name, service, document, folder):
    test = service.get("healthcheck", {}).get("test")
    if not test:
        yield "has no healthcheck"
    elif "build" in service and test[0] != "CMD":
        yield "its healthcheck needs a shell, which the image has not"
    if service.get("restart") not in ("unless-stopped", "always"):
        yield "is not started again: restart"


def ports(name, service, document, folder):
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"port {port} is open to other machines"


def mounts(name, service, document, folder):
    for volume in service.get("volumes", []):
        source = _source(volume)
        if _is_path(source):
            if not os.path.exists(os.path.join(folder, source)):
                yield f"mounts {source}, which is not there"
            if not str(volume).endswith(":ro"):
                yield f"can write {source} of this repository"
            if "docker.sock" in source:
                yield "has the engine's socket"
        elif source not in document.get("volumes", {}):
            yield f"the volume {source} is not declared"


def named(name, service, document, folder):
    for other in service.get("depends_on", {}):
        if other not in document["services"]:
            yield f"waits for {other}, which is not there"
    for network in service.get("networks", []):
        if network not in document.get("networks", {}):
            yield f"the network {network} is not declared"


def no_secret_in_env(name, service, document, folder):
    for key, value in service.get("environment", {}).items():
        if SECRET_WORDS.search(key) and value and not str(value).startswith("${"):
            yield f"{key} stands in the clear; take it from the environment"


RULES = [pinned, walls, limits, healthy, ports, mounts, named, no_secret_in_env]


def judge(document, folder):
    """Every fault of a compose file; `folder` is where it lies."""
    for name, service in document["services"].items():
        for rule in RULES:
            for fault in rule(name, service, document, folder):
                yield f"services.{name}: {fault}"
