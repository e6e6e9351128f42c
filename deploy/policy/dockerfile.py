"""Rules for the Dockerfile that hadolint does not know: what a container of this project is."""

import fnmatch
import os
import re
import shlex

# Stages that become images.
FINAL = ("cpu", "cuda")


def stages(text):
    """Stages in order: name, base, and the instructions of each as (word, rest)."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    arguments, found = {}, []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        word, rest = (line.split(None, 1) + [""])[:2]
        if word == "ARG" and not found:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], ""), base)
            found.append({"name": name, "base": base, "does": []})
        else:
            found[-1]["does"].append((word, rest.strip()))
    return found


def judge(text, root, ignore):
    """Every fault; `root` is the folder that is built from, `ignore` the text of the .dockerignore."""
    found = stages(text)
    names = {stage["name"] for stage in found} | {"scratch"}
    for stage in found:
        where = f"stage {stage['name'] or stage['base']}"
        if stage["base"] not in names and (":" not in stage["base"] or stage["base"].endswith((":", ":latest"))):
            yield f"{where}: the base {stage['base']} names no version"
        for word, rest in stage["does"]:
            if word == "ADD":
                yield f"{where}: ADD fetches and unpacks; COPY what was checked"
            if word == "COPY" and not rest.startswith("--from="):
                yield from (f"{where}: {fault}" for fault in _copies(rest, root, ignore))
    for name in FINAL:
        stage = next((s for s in found if s["name"] == name), None)
        if not stage:
            yield f"there is no stage {name}"
            continue
        last = dict(stage["does"])
        if stage["base"] != "scratch":
            yield f"stage {name}: brings all of {stage['base']} along; begin from scratch"
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", last.get("USER", "")):
            yield f"stage {name}: USER is no number other than 0, so Kubernetes can't see that it is not root"
        for word in ("ENTRYPOINT", "CMD"):
            if not last.get(word, "").startswith("["):
                yield f"stage {name}: {word} needs a shell, which is not there"
        if any(word == "RUN" for word, _ in stage["does"]):
            yield f"stage {name}: runs a command, and has nothing to run it"


def _copies(rest, root, ignore):
    let_in = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    for source in shlex.split(rest)[:-1]:
        if not os.path.exists(os.path.join(root, source)):
            yield f"copies {source}, which is not there"
        elif not any(source == path or source.startswith(path + "/") or fnmatch.fnmatch(source, path) for path in let_in):
            yield f"copies {source}, which .dockerignore keeps out"
