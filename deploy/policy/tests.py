"""Each rule must find what it is for: `python3 -m unittest policy.tests`, from the folder deploy. A rule without a broken sample fails, too."""

import copy
import os
import tempfile
import unittest

from . import bundle, compose, dockerfile, pods
from .__main__ import judge_rendered

LABELS = {"app.kubernetes.io/name": "visage", "app.kubernetes.io/instance": "v", "app.kubernetes.io/component": "ingest", "app.kubernetes.io/managed-by": "Helm"}
PICK = {"app.kubernetes.io/component": "ingest"}


def meta(name, **more):
    return {"name": name, "labels": dict(LABELS), **more}


def probe(path):
    return {"httpGet": {"path": path, "port": "http"}}


def pod():
    amounts = {"cpu": "1", "memory": "1Gi"}
    return {
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            "serviceAccountName": "visage",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "visage",
                "image": "registry.example:5000/visage:0.1.0",
                "env": [{"name": "VISAGE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}}}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "securityContext": {
                    "runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                },
                "resources": {"requests": dict(amounts), "limits": dict(amounts)},
                "startupProbe": probe("/healthz"), "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
                "volumeMounts": [{"name": "config", "mountPath": "/etc/visage"}, {"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "visage"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}],
        },
    }


def sample():
    """Objects without a fault, by kind."""
    stateful = {
        "replicas": 2, "serviceName": "names", "selector": {"matchLabels": PICK}, "template": pod(),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }
    early = {"annotations": {"helm.sh/hook": "pre-upgrade", "helm.sh/hook-weight": "-5"}}
    earlier = {"annotations": {"helm.sh/hook": "pre-upgrade", "helm.sh/hook-weight": "-10"}}
    job = {"template": pod()}
    job["template"]["spec"].update(serviceAccountName="default", restartPolicy="Never")
    job["template"]["spec"]["volumes"] = [
        {"name": "config", "configMap": {"name": "early"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-visage-0"}},
    ]
    things = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("visage"), "spec": stateful},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("early", **early), "spec": job},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("early", **earlier), "data": {}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("visage"), "data": {"visage.toml": "[server]\nlisten = \"0.0.0.0:1\"\n"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("visage"), "automountServiceAccountToken": False},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta("names"), "spec": {"clusterIP": "None", "selector": PICK, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta("visage"), "spec": {"maxUnavailable": 1, "selector": {"matchLabels": PICK}}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta("visage"), "spec": {"podSelector": {"matchLabels": PICK}, "policyTypes": ["Ingress", "Egress"]}},
    ]
    return {(thing["kind"] + "/" + thing["metadata"]["name"]): copy.deepcopy(thing) for thing in things}


def scale(things):
    del things["StatefulSet/visage"]["spec"]["replicas"]
    metric = {"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1"}}}
    target = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "visage"}
    things["hpa"] = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta("visage"),
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric]},
    }
    return things["hpa"]["spec"]


def of(key, path, value):
    """A change of one object: `value` at `a.b.0.c`; None takes it out."""
    def change(things):
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        at = things[key]
        for step in way:
            at = at[step]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return change


def put(path, value):
    """A change of the pod of the StatefulSet."""
    return of("StatefulSet/visage", "spec.template.spec." + path, value)


C = "containers.0."
BROKEN = [
    ("non_root", put("securityContext.runAsNonRoot", False)), ("non_root", put("securityContext.runAsUser", 0)), ("non_root", put(C + "securityContext.runAsUser", 0)),
    ("seccomp", put("securityContext.seccompProfile.type", "Unconfined")), ("seccomp", put(C + "securityContext.seccompProfile", {"type": "Unconfined"})),
    ("capabilities", put(C + "securityContext.capabilities.drop", ["NET_RAW"])), ("capabilities", put(C + "securityContext.capabilities.add", ["SYS_ADMIN"])),
    ("escalation", put(C + "securityContext.allowPrivilegeEscalation", None)), ("escalation", put(C + "securityContext.privileged", True)),
    ("read_only_root", put(C + "securityContext.readOnlyRootFilesystem", False)),
    ("limits", put(C + "resources.limits.memory", None)), ("limits", put(C + "resources.requests.cpu", None)),
    ("probes", put(C + "livenessProbe", None)), ("probes", put(C + "livenessProbe.httpGet.path", "/readyz")),
    ("pinned", put(C + "image", "visage:latest")), ("pinned", put(C + "image", "visage")), ("pinned", put(C + "image", "registry.example:5000/visage")),
    ("no_account_token", put("automountServiceAccountToken", None)), ("no_service_links", put("enableServiceLinks", True)),
    ("own_namespaces", put("hostNetwork", True)), ("own_namespaces", put(C + "ports.0.hostPort", 80)),
    ("volumes", put("volumes.0", {"name": "config", "hostPath": {"path": "/"}})), ("volumes", put("volumes.1.emptyDir", {})),
    ("volumes", put("volumes.0", {"name": "config", "secret": {"secretName": "token", "defaultMode": 0o444}})), ("volumes", put(C + "volumeMounts.0.name", "nothing")),
    ("no_secret_in_env", put(C + "env.0", {"name": "VISAGE_STORAGE__KEY", "value": "abc"})), ("named_ports", put(C + "livenessProbe.httpGet.port", "web")),
    ("known_secrets", put(C + "env.0.valueFrom.secretKeyRef.name", "slip")), ("known_secrets", put("imagePullSecrets", [{"name": "slip"}])),
    ("known_config", put("volumes.0.configMap.name", "slip")), ("known_accounts", put("serviceAccountName", "slip")),
    ("known_claims", of("Job/early", "spec.template.spec.volumes.2.persistentVolumeClaim.claimName", "slip")),
    ("hooks_find_theirs", of("Job/early", "spec.template.spec.volumes.0.configMap.name", "visage")), ("hooks_find_theirs", of("Job/early", "spec.template.spec.serviceAccountName", "visage")),
    ("selectors", of("StatefulSet/visage", "spec.selector.matchLabels", {"a": "b"})), ("selectors", of("Service/names", "spec.selector", {"a": "b"})),
    ("service_ports", of("Service/names", "spec.ports.0.targetPort", "web")), ("governing_services", of("StatefulSet/visage", "spec.serviceName", "slip")),
    ("scaled", lambda things: scale(things)["scaleTargetRef"].update(name="slip")), ("scaled", lambda things: scale(things)["metrics"][0]["pods"]["metric"].update(name="slip")),
    ("scaled", lambda things: (scale(things), things["StatefulSet/visage"]["spec"].update(replicas=1))),
    ("evictable", of("PodDisruptionBudget/visage", "spec.selector.matchLabels", {"a": "b"})), ("fenced", of("NetworkPolicy/visage", "spec.policyTypes", ["Ingress"])),
    ("names_fit", of("Service/names", "metadata.name", "n" * 64)), ("names_fit", of("Service/names", "metadata.name", "Names")),
    ("names_fit", lambda things: things.update(twice=copy.deepcopy(things["Service/names"]))),
    ("labelled", of("Service/names", "metadata.labels", {})), ("accounts_without_token", of("ServiceAccount/visage", "automountServiceAccountToken", True)),
    ("no_rights", lambda things: things.update(role={"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta("r"), "rules": []})),
    ("settings_are_toml", of("ConfigMap/visage", "data", {"visage.toml": "[server\n"})), ("settings_are_toml", of("ConfigMap/visage", "data", {"visage.toml": "api_key = \"abc\"\n"})),
]


class Rendered(unittest.TestCase):
    given = {"secrets": ["token"]}

    def faults(self, things, schemas=False):
        return list(judge_rendered(list(things.values()), self.given, ["queue"], schemas))

    def test_the_sample_has_no_fault(self):
        self.assertEqual(self.faults(sample(), schemas=True), [])
        things = sample()
        scale(things)
        self.assertEqual(self.faults(things, schemas=True), [])

    def test_each_rule_finds_what_it_is_for(self):
        for rule, change in BROKEN:
            things = sample()
            change(things)
            found = self.faults(things)
            self.assertTrue(any(fault.endswith(f"({rule})") for fault in found), f"{rule}: {found}")

    def test_no_rule_is_without_a_broken_sample(self):
        self.assertEqual({rule.__name__ for rule in pods.RULES + bundle.RULES}, {rule for rule, _ in BROKEN})

    def test_kubernetes_refuses_misspelt_fields_and_wrong_types(self):
        for change in (put(C + "readOnly", True), put(C + "ports.0.containerPort", "many"), of("Service/names", "spec.typ", "ClusterIP")):
            things = sample()
            change(things)
            self.assertTrue(any("Kubernetes 1.35" in fault for fault in self.faults(things, schemas=True)))


class Compose(unittest.TestCase):
    good = {
        "services": {"a": {
            "image": "a:1", "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "user": "1:1", "mem_limit": "1g", "cpus": 1, "pids_limit": 9,
            "restart": "always", "healthcheck": {"test": ["CMD", "a"]}, "ports": ["127.0.0.1:1:1"], "volumes": ["v:/v", "./file:/f:ro"], "networks": ["n"], "environment": {"TOKEN": "${T:?}"},
        }},
        "volumes": {"v": {}}, "networks": {"n": {}},
    }
    broken = [
        ("pinned", {"image": "a:latest"}), ("pinned", {"build": {"context": "nowhere"}}), ("walls", {"read_only": False}), ("walls", {"cap_drop": []}), ("walls", {"security_opt": []}),
        ("walls", {"user": "root"}), ("walls", {"privileged": True}), ("limits", {"mem_limit": None}), ("healthy", {"healthcheck": {}}), ("healthy", {"restart": "no"}),
        ("ports", {"ports": ["8080:8080"]}), ("mounts", {"volumes": ["./file:/f"]}), ("mounts", {"volumes": ["./nowhere:/f:ro"]}), ("mounts", {"volumes": ["w:/w"]}),
        ("named", {"depends_on": {"b": {}}}), ("named", {"networks": ["m"]}), ("no_secret_in_env", {"environment": {"API_KEY": "abc"}}),
    ]

    def test_each_rule_finds_what_it_is_for(self):
        with tempfile.TemporaryDirectory() as folder:
            open(os.path.join(folder, "file"), "w").close()
            self.assertEqual(list(compose.judge(self.good, folder)), [])
            for rule, change in self.broken:
                document = copy.deepcopy(self.good)
                service = document["services"]["a"]
                service.update(change)
                found = [f for r in compose.RULES if r.__name__ == rule for f in r("a", service, document, folder)]
                self.assertTrue(found, f"{rule}: {change}")
        self.assertEqual({rule.__name__ for rule in compose.RULES}, {rule for rule, _ in self.broken})


class Dockerfile(unittest.TestCase):
    good = 'ARG V=1\nFROM a:${V} AS full\nCOPY src/x y\n' + "".join(
        f'FROM scratch AS {name}\nCOPY --from=full / /\nUSER 1:1\nENTRYPOINT ["/a"]\nCMD ["b"]\n' for name in ("cuda", "cpu")
    )
    broken = [
        ("ARG V=1", "ARG V="), ("ARG V=1", "ARG V=latest"), ("COPY src/x y", "ADD src/x y"), ("COPY src/x y", "COPY src/z y"), ("COPY src/x y", "COPY other y"),
        ("USER 1:1", "USER visage"), ("USER 1:1", "USER 0:0"), ('CMD ["b"]', "CMD b"), ("FROM scratch AS cpu", "FROM full AS cpu"), ("FROM scratch AS cpu", "FROM scratch AS x"),
        ('CMD ["b"]', 'CMD ["b"]\nRUN c'),
    ]

    def test_each_fault_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "src"))
            for file in ("src/x", "other"):
                open(os.path.join(folder, file), "w").close()
            self.assertEqual(list(dockerfile.judge(self.good, folder, "*\n!src\n")), [])
            for old, new in self.broken:
                self.assertTrue(list(dockerfile.judge(self.good.replace(old, new), folder, "*\n!src\n")), new)


if __name__ == "__main__":
    unittest.main()
