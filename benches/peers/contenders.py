"""Visage, and what somebody would write instead: each is started, measured over a window, and stopped."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path

from processes import Peak, cpu_seconds

HERE = Path(__file__).parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, seconds, check):
    end = time.time() + seconds
    while time.time() < end:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"{what}: not after {seconds} s")


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def window(seconds, pids, before, after):
    """Runs `before`, waits, runs `after`; returns wall seconds, CPU seconds and peak MiB by name, and what `after` returned."""
    peak = Peak(list(pids.values()))
    before()
    began, cpu = time.monotonic(), {n: cpu_seconds(p) for n, p in pids.items()}
    time.sleep(seconds)
    wall, used = time.monotonic() - began, {n: cpu_seconds(p) - cpu[n] for n, p in pids.items()}
    counts = after()
    mib = peak.end()
    return wall, used, {n: mib[p] for n, p in pids.items()}, counts


class Visage:
    """`visage serve` and one `visage watch --json`, in processes of their own."""

    name = "visage"

    def __init__(self, options, folder, cameras):
        self.binary, self.folder, self.fps, self.cameras = options.visage, folder, options.fps, cameras
        self.environment = dict(os.environ, VISAGE_MODELS__EMBEDDER=options.embedder, VISAGE_MODELS__DIR=str(options.models))
        self.environment["VISAGE_INFERENCE__RUNTIME_LIBRARY"] = str(options.runtime)
        self.environment["VISAGE_INFERENCE__DETECTOR_SIZE"] = str(options.size)
        self.environment["VISAGE_INFERENCE__MIN_SCORE"] = str(options.min_score)
        self.enrol(options.gallery)

    def client(self, *arguments):
        done = subprocess.run([self.binary, *arguments, "--json"], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"visage {' '.join(arguments)}: {done.stderr or done.stdout}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def serve(self):
        grpc, self.http = free_port(), free_port()
        self.environment["VISAGE_SERVER"] = f"http://127.0.0.1:{grpc}"
        log = open(self.folder / "serve.log", "a")
        self.server = subprocess.Popen(
            [self.binary, "serve", "--data-dir", self.folder / "data", "--listen", f"127.0.0.1:{grpc}", "--http", f"127.0.0.1:{self.http}"],
            env=self.environment, stdout=log, stderr=log)  # fmt: skip
        until("visage serve", 60, lambda: self.server.poll() is not None or self.metrics())
        if self.server.poll() is not None:
            raise SystemExit(f"visage serve ended; see {self.folder}/serve.log")

    def metrics(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def frames(self):
        rows = (line.rsplit(" ", 1) for line in self.metrics().splitlines() if line.startswith("visage_frames_total{"))
        return {row[0].split('"')[1]: int(float(row[1])) for row in rows}

    def enrol(self, gallery):
        self.serve()
        summary = self.client("enroll", "--largest", "--from-dir", str(gallery))[-1]["summary"]
        print(f"visage: enrolled {summary['enrolled']} pictures, refused {summary['refused']}", file=sys.stderr)
        for name, url in self.cameras.items():
            rate = str(self.fps)
            self.client("camera", "add", "--transport", "tcp", "--idle-fps", rate, "--active-fps", rate, name, url)
        stop(self.server)

    def measure(self, warm, seconds):
        self.serve()
        watch = subprocess.Popen([self.binary, "watch", "--json"], env=self.environment, stdout=subprocess.PIPE, text=True)
        events, until_end = [], threading.Event()

        def read():
            for line in watch.stdout:
                if not until_end.is_set():
                    events.append((time.time(), json.loads(line)))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        streaming = lambda: all(c.get("status", {}).get("state") == "CAMERA_STATE_STREAMING" for c in self.client("camera", "list"))  # noqa: E731
        try:
            until("all cameras stream", 60, streaming)
            time.sleep(warm)
            start = {}

            def before():
                start.update(self.frames())
                events.clear()

            pids = {"serve": self.server.pid, "watch": watch.pid}
            wall, cpu, mib, frames = window(seconds, pids, before, self.frames)
        finally:
            until_end.set()
            stop(watch)
            stop(self.server)
            reader.join(5)
        named, latency = {}, []
        for received, event in events:
            if event.get("kind") in ("EVENT_KIND_RECOGNIZED", "EVENT_KIND_CORRECTED") and "match" in event:
                latency.append((received - datetime.fromisoformat(shortened(event["captureTime"])).timestamp()) * 1000)
                one = named.setdefault(event["camera"].split("/")[-1], {})
                one[event["match"]["displayName"]] = one.get(event["match"]["displayName"], 0) + 1
        return {
            "wall_s": wall, "cpu_s": cpu, "rss_mib": mib, "named": named, "messages": len(events), "first_latency_ms": latency,
            "latency_ms": [], "frames": {c: n - start.get(c, 0) for c, n in frames.items()},
        }  # fmt: skip


def shortened(stamp):
    """An RFC 3339 time in UTC with nanoseconds as datetime reads it."""
    whole, _, rest = stamp.rstrip("Z").partition(".")
    return f"{whole}.{(rest + '000000')[:6]}+00:00"


class ByHand:
    """One kind of by_hand.py, in a process of its own."""

    def __init__(self, kind, options, folder, cameras):
        self.name, self.log = kind, folder / f"{kind}.log"
        self.command = [sys.executable, HERE / "by_hand.py", kind, "--people", options.gallery, "--manifest", options.manifest,
            "--models", options.models, "--embedder", options.embedder, "--fps", str(options.fps), "--size", str(options.size),
            "--min-score", str(options.min_score), "--threads", str(options.threads)]  # fmt: skip
        for name, url in cameras.items():
            self.command += ["--camera", f"{name}={url}"]

    def measure(self, warm, seconds):
        with open(self.log, "a") as log:
            process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

        def ask(word):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            return answer()

        def answer():
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name} ended; see {self.log}")
            return json.loads(line)

        try:
            answer()
            time.sleep(warm)
            wall, cpu, mib, counts = window(seconds, {"python": process.pid}, lambda: ask("mark"), lambda: ask("mark"))
        finally:
            stop(process)
        return {"wall_s": wall, "cpu_s": cpu, "rss_mib": mib, **counts}
