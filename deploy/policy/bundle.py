"""Rules for objects that are rendered together: what one names must be there, or be declared as given."""

import re
import tomllib

from .pods import containers, pod_of

# Of what Kubernetes puts something behind the name, or makes labels and host names of it.
LONGEST = {"CronJob": 52, "StatefulSet": 52, "Service": 63, "Job": 63, "Deployment": 63, "Pod": 63}
OURS = ("server", "ingest", "api")


class Bundle:
    """Objects of one rendering, what the operator gives, and the metrics that an adapter serves."""

    def __init__(self, things, given=None, metrics=()):
        self.things = things
        self.given = given or {}
        self.metrics = set(metrics)
        self.pods = [(thing, pod_of(thing)) for thing in things if pod_of(thing)]

    def of(self, *kinds):
        return [thing for thing in self.things if thing["kind"] in kinds]

    def names(self, kind):
        return {thing["metadata"]["name"] for thing in self.of(kind)}


def name(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def hook(thing):
    return thing["metadata"].get("annotations", {}).get("helm.sh/hook", "")


def selects(labels, pod):
    own = pod["metadata"].get("labels", {})
    return all(own.get(key) == value for key, value in (labels or {}).items())


def secrets_of(thing):
    """Names of the Secrets that an object needs."""
    pod = pod_of(thing)
    if pod:
        spec = pod["spec"]
        yield from (v["secret"]["secretName"] for v in spec.get("volumes", []) if "secret" in v)
        yield from (s["name"] for s in spec.get("imagePullSecrets", []))
        for c in containers(spec):
            yield from (s["secretRef"]["name"] for s in c.get("envFrom", []) if "secretRef" in s)
            sources = (v.get("valueFrom", {}) for v in c.get("env", []))
            yield from (s["secretKeyRef"]["name"] for s in sources if "secretKeyRef" in s)
    if thing["kind"] == "ServiceMonitor":
        for endpoint in thing["spec"]["endpoints"]:
            if "authorization" in endpoint:
                yield endpoint["authorization"]["credentials"]["name"]
            if "ca" in endpoint.get("tlsConfig", {}):
                yield endpoint["tlsConfig"]["ca"]["secret"]["name"]


def known_secrets(bundle):
    known = bundle.names("Secret") | set(bundle.given.get("secrets", []))
    known |= {c["spec"]["secretName"] for c in bundle.of("Certificate")}
    for thing in bundle.things:
        for secret in secrets_of(thing):
            if secret not in known:
                yield f"{name(thing)}: the Secret {secret!r} is neither made nor given"


def known_config(bundle):
    made = bundle.names("ConfigMap")
    for thing, pod in bundle.pods:
        for volume in pod["spec"].get("volumes", []):
            wanted = volume.get("configMap", {}).get("name")
            if wanted and wanted not in made:
                yield f"{name(thing)}: the ConfigMap {wanted!r} is not made"


def known_claims(bundle):
    known = bundle.names("PersistentVolumeClaim") | set(bundle.given.get("claims", []))
    for owner in bundle.of("StatefulSet"):
        for claim in owner["spec"].get("volumeClaimTemplates", []):
            known.add(f"{claim['metadata']['name']}-{owner['metadata']['name']}-0")
    for thing, pod in bundle.pods:
        for volume in pod["spec"].get("volumes", []):
            wanted = volume.get("persistentVolumeClaim", {}).get("claimName")
            if wanted and wanted not in known:
                yield f"{name(thing)}: the claim {wanted!r} is neither made nor given"


def known_accounts(bundle):
    for thing, pod in bundle.pods:
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default" and account not in bundle.names("ServiceAccount"):
            yield f"{name(thing)}: the account {account!r} is not made"


def hooks_find_theirs(bundle):
    """A hook before an upgrade runs while nothing else of the upgrade is there yet."""
    early = {name(t): int(t["metadata"]["annotations"].get("helm.sh/hook-weight", "0")) for t in bundle.things if "pre-" in hook(t)}
    for thing, pod in bundle.pods:
        if name(thing) not in early:
            continue
        wanted = {f"ConfigMap/{v['configMap']['name']}" for v in pod["spec"].get("volumes", []) if "configMap" in v}
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default":
            wanted.add(f"ServiceAccount/{account}")
        for other in sorted(wanted):
            if early.get(other, early[name(thing)]) >= early[name(thing)]:
                yield f"{name(thing)}: runs before {other} is made"


def selectors(bundle):
    for thing, pod in bundle.pods:
        own = thing["spec"].get("selector", {}).get("matchLabels")
        if own is not None and not selects(own, pod):
            yield f"{name(thing)}: does not select its own pods"
    for thing in bundle.of("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = thing["spec"]
        labels = spec.get("podSelector", spec.get("selector", {}))
        labels = labels.get("matchLabels", labels)
        if not labels or not any(selects(labels, pod) for _, pod in bundle.pods):
            yield f"{name(thing)}: selects no pod"


def service_ports(bundle):
    for thing in bundle.of("Service"):
        spec = thing["spec"]
        for _, pod in bundle.pods:
            if not selects(spec["selector"], pod):
                continue
            there = {p.get("name") for c in pod["spec"]["containers"] for p in c.get("ports", [])}
            for port in spec["ports"]:
                if isinstance(port["targetPort"], str) and port["targetPort"] not in there:
                    yield f"{name(thing)}: port {port['targetPort']} is not there"


def governing_services(bundle):
    services = {s["metadata"]["name"]: s["spec"] for s in bundle.of("Service")}
    for thing in bundle.of("StatefulSet"):
        service = services.get(thing["spec"]["serviceName"])
        if not service or service.get("clusterIP") != "None" or not selects(service["selector"], thing["spec"]["template"]):
            yield f"{name(thing)}: no headless Service {thing['spec']['serviceName']} gives its pods names"


def scaled(bundle):
    there = {name(thing): thing for thing in bundle.things}
    for thing in bundle.of("HorizontalPodAutoscaler"):
        spec = thing["spec"]
        target = there.get(f"{spec['scaleTargetRef']['kind']}/{spec['scaleTargetRef']['name']}")
        if not target:
            yield f"{name(thing)}: scales nothing"
        elif "replicas" in target["spec"]:
            yield f"{name(target)}: sets replicas, which {name(thing)} sets, too"
        for metric in spec["metrics"]:
            wanted = metric.get("pods", {}).get("metric", {}).get("name")
            if wanted and wanted not in bundle.metrics:
                yield f"{name(thing)}: nobody serves the metric {wanted}"


def evictable(bundle):
    """Several pods of one kind: a drain takes them one after the other."""
    if not bundle.of("PodDisruptionBudget"):
        return
    for thing in bundle.of("Deployment", "StatefulSet"):
        part = thing["metadata"]["labels"].get("app.kubernetes.io/component")
        budgets = [b["spec"]["selector"]["matchLabels"] for b in bundle.of("PodDisruptionBudget")]
        if part in OURS and not any(selects(labels, thing["spec"]["template"]) for labels in budgets):
            yield f"{name(thing)}: has no PodDisruptionBudget"


def fenced(bundle):
    """Where there are network policies, each pod that stays or comes again has one for both directions."""
    policies = [p["spec"] for p in bundle.of("NetworkPolicy")]
    if not policies:
        return
    for thing in bundle.of("Deployment", "StatefulSet", "CronJob"):
        own = [p for p in policies if selects(p["podSelector"]["matchLabels"], pod_of(thing))]
        if {"Ingress", "Egress"} - {kind for p in own for kind in p["policyTypes"]}:
            yield f"{name(thing)}: no network policy for both directions"


def labelled(bundle):
    for thing in bundle.things:
        labels = thing["metadata"].get("labels", {})
        missing = [k for k in ("name", "instance", "managed-by") if not labels.get(f"app.kubernetes.io/{k}")]
        if missing:
            yield f"{name(thing)}: has no label {', '.join(missing)}"


def names_fit(bundle):
    for thing in bundle.things:
        own, longest = thing["metadata"]["name"], LONGEST.get(thing["kind"], 253)
        if len(own) > longest or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", own):
            yield f"{name(thing)}: the name has more than {longest} characters, or others than a-z, 0-9 and -"
    seen = [name(thing) for thing in bundle.things]
    for twice in sorted({one for one in seen if seen.count(one) > 1}):
        yield f"{twice}: is made twice"


def accounts_without_token(bundle):
    for thing in bundle.of("ServiceAccount"):
        if thing.get("automountServiceAccountToken") is not False:
            yield f"{name(thing)}: hands out its token"


def no_rights(bundle):
    for thing in bundle.of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{name(thing)}: Visage needs no rights in Kubernetes"


def settings_are_toml(bundle):
    for thing in bundle.of("ConfigMap"):
        for file, text in thing.get("data", {}).items():
            if not file.endswith(".toml"):
                continue
            try:
                tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                yield f"{name(thing)}: {file}: {error}"
            if re.search(r"(?m)^(api_key|key|password|token) *= *\"..", text):
                yield f"{name(thing)}: {file} holds a secret"


RULES = [
    known_secrets, known_config, known_claims, known_accounts, hooks_find_theirs, selectors, service_ports, governing_services,
    scaled, evictable, fenced, labelled, names_fit, accounts_without_token, no_rights, settings_are_toml,
]
