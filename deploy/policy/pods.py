"""Rules for one pod: what Kubernetes calls the restricted profile, and more."""

import re

# Kinds of volumes that the restricted profile allows and the chart needs.
VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
SECRET_WORDS = re.compile(r"(PASSWORD|TOKEN|SECRET|CREDENTIAL|API_KEY|STORAGE__KEY)", re.I)
PINNED = re.compile(r"^[^\s:@]+(:\d+/[^\s:@]+)?(:(?P<tag>[\w][\w.-]*)|@sha256:[0-9a-f]{64})(@sha256:[0-9a-f]{64})?$")


def pod_of(thing):
    """The pod template of an object, or None: {"metadata", "spec"}."""
    kind = thing["kind"]
    if kind == "Pod":
        return {"metadata": thing["metadata"], "spec": thing["spec"]}
    if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        return thing["spec"]["template"]
    if kind == "CronJob":
        return thing["spec"]["jobTemplate"]["spec"]["template"]
    return None


def containers(spec):
    """All containers of a pod, those that run before the others among them."""
    return spec.get("initContainers", []) + spec.get("containers", [])


def non_root(thing, spec):
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or not context.get("runAsGroup"):
        yield "the pod does not say runAsNonRoot with a user and a group that are not 0"
    for c in containers(spec):
        own = c.get("securityContext", {})
        if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is not True:
            yield f"container {c['name']} may run as root"


def seccomp(thing, spec):
    if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod's seccomp profile is not RuntimeDefault"
    for c in containers(spec):
        if c.get("securityContext", {}).get("seccompProfile", {}).get("type", "RuntimeDefault") != "RuntimeDefault":
            yield f"container {c['name']} has another seccomp profile than RuntimeDefault"


def capabilities(thing, spec):
    for c in containers(spec):
        own = c.get("securityContext", {}).get("capabilities", {})
        if own.get("drop") != ["ALL"] or own.get("add"):
            yield f"container {c['name']} does not drop all capabilities, or adds some"


def escalation(thing, spec):
    for c in containers(spec):
        own = c.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"container {c['name']} may gain privileges"


def read_only_root(thing, spec):
    for c in containers(spec):
        if c.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"container {c['name']} can write its root"


def limits(thing, spec):
    for c in containers(spec):
        resources = c.get("resources", {})
        for side in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if not resources.get(side, {}).get(what):
                    yield f"container {c['name']} has no {side}.{what}"


def probes(thing, spec):
    if thing["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
        return
    for c in spec.get("containers", []):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if not c.get(probe):
                yield f"container {c['name']} has no {probe}"
        live, ready = (c.get(p, {}).get("httpGet", {}).get("path") for p in ("livenessProbe", "readinessProbe"))
        if live and live == ready:
            yield f"container {c['name']}: a server that is not ready would be restarted, both probes ask {live}"


def pinned(thing, spec):
    for c in containers(spec):
        found = PINNED.match(c["image"])
        if not found or found["tag"] == "latest":
            yield f"container {c['name']}: the image {c['image']} names no version"


def no_account_token(thing, spec):
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token of its service account"


def no_service_links(thing, spec):
    if spec.get("enableServiceLinks") is not False:
        yield "the pod gets a variable for each Service, and names such as VISAGE_… look like settings"


def own_namespaces(thing, spec):
    for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(key):
            yield f"the pod says {key}"
    for c in containers(spec):
        if any(port.get("hostPort") for port in c.get("ports", [])):
            yield f"container {c['name']} takes a port of the host"


def volumes(thing, spec):
    claims = {c["metadata"]["name"] for c in thing["spec"].get("volumeClaimTemplates", [])}
    names = claims.copy()
    for volume in spec.get("volumes", []):
        names.add(volume["name"])
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed: {', '.join(kinds - VOLUMES)}"
        if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
            yield f"volume {volume['name']} can fill the node: no sizeLimit"
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"volume {volume['name']} can be read by every user"
    mounted = {m["name"] for c in containers(spec) for m in c.get("volumeMounts", [])}
    for name in mounted - names:
        yield f"volume {name} is mounted and is not there"
    for name in names - mounted:
        yield f"volume {name} is there and nobody mounts it"


def no_secret_in_env(thing, spec):
    for c in containers(spec):
        for variable in c.get("env", []):
            if SECRET_WORDS.search(variable["name"]) and variable.get("value"):
                yield f"container {c['name']}: {variable['name']} stands in the clear; take it from a Secret"


def named_ports(thing, spec):
    for c in containers(spec):
        named = {port["name"] for port in c.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = c.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in named:
                yield f"container {c['name']}: the {probe} asks port {port}, which is not there"


RULES = [
    non_root, seccomp, capabilities, escalation, read_only_root, limits, probes, pinned, no_account_token,
    no_service_links, own_namespaces, volumes, no_secret_in_env, named_ports,
]
