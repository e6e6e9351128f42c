"""RetinaFace and a face embedder by the Python API of ONNX Runtime, as somebody would write it who reads models/manifest.toml."""

import tomllib
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime as ort


def entry(manifest, model):
    """The manifest's entry of a model."""
    with open(manifest, "rb") as file:
        found = [m for m in tomllib.load(file)["model"] if m["id"] == model]
    if not found:
        raise SystemExit(f"{manifest} has no model {model}")
    return found[0]


def session(path, threads):
    """A session with `threads` intra-op threads, without spinning; 0 leaves ONNX Runtime's defaults as they are."""
    options = ort.SessionOptions()
    if threads > 0:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass
class Face:
    """Box (x1, y1, x2, y2) and five landmarks in pixels of the frame, score 0 to 1."""

    box: np.ndarray
    landmarks: np.ndarray
    score: float


class Detector:
    """RetinaFace on a frame that is scaled so that its longer side is `size` pixels; nothing is enlarged."""

    def __init__(self, manifest, models, model="retinaface-mnet025", size=640, min_score=0.8, threads=1):
        self.spec = entry(manifest, model)
        self.session = session(models / f"{model}.onnx", threads)
        self.input = self.session.get_inputs()[0].name
        self.size, self.min_score = size, min_score
        self.mean = np.array(self.spec["input"]["mean"], np.float32)
        self.priors = {}

    def _priors(self, width, height):
        if (width, height) not in self.priors:
            rows = []
            for stride, sizes in zip(self.spec["detector"]["strides"], self.spec["detector"]["sizes"]):
                ys, xs = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)]
                centres = (np.stack([xs, ys], -1).reshape(-1, 1, 2) + 0.5) * stride
                each = np.broadcast_to(np.array(sizes).reshape(1, -1, 1), (len(centres), len(sizes), 1))
                rows.append(np.concatenate([np.broadcast_to(centres, (len(centres), len(sizes), 2)), each], -1).reshape(-1, 3))
            self.priors[width, height] = np.concatenate(rows).astype(np.float32)
        return self.priors[width, height]

    def detect(self, frame):
        """Faces of a BGR frame, best first."""
        height, width = frame.shape[:2]
        scale = min(1.0, self.size / max(height, width))
        if scale < 1.0:
            frame = cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        return [Face(f.box / scale, f.landmarks / scale, f.score) for f in self.decode(*self.run(frame))]

    def run(self, frame):
        """The network's outputs (loc, conf, landmarks) for a BGR frame that has the input's size, and that size."""
        height, width = frame.shape[:2]
        blob = np.ascontiguousarray((frame.astype(np.float32) - self.mean).transpose(2, 0, 1)[None])
        return self.session.run(None, {self.input: blob}), (width, height)

    def decode(self, outputs, size):
        by_columns = {o.shape[2]: o[0] for o in outputs}
        score = by_columns[2][:, 1]
        kept = np.flatnonzero(score > self.min_score)
        kept = kept[np.argsort(-score[kept], kind="stable")]
        prior, loc, marks = self._priors(*size)[kept], by_columns[4][kept], by_columns[10][kept]
        centre_var, size_var = self.spec["detector"]["variances"]
        centre = prior[:, :2] + centre_var * loc[:, :2] * prior[:, 2:]
        edges = prior[:, 2:] * np.exp(size_var * loc[:, 2:])
        boxes = np.concatenate([centre - edges / 2, centre + edges / 2], 1)
        marks = prior[:, None, :2] + centre_var * marks.reshape(-1, 5, 2) * prior[:, None, 2:]
        as_xywh = np.concatenate([boxes[:, :2], edges], 1)
        best = cv2.dnn.NMSBoxes(as_xywh.tolist(), score[kept].tolist(), 0.0, self.spec["detector"]["nms_iou"])
        return [Face(boxes[i], marks[i], float(score[kept][i])) for i in np.array(best, int).reshape(-1)]


def similarity(source, target):
    """2x3 matrix of the least-squares similarity transform of points to points (Umeyama 1991, two dimensions)."""
    p, q = source - source.mean(0), target - target.mean(0)
    norm = (p**2).sum()
    a, b = (p * q).sum() / norm, (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / norm
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, target.mean(0) - turn @ source.mean(0)])


class Embedder:
    """An embedder of the manifest that crops by landmarks."""

    def __init__(self, manifest, models, model, threads=1):
        self.spec = entry(manifest, model)
        self.session = session(models / f"{model}.onnx", threads)
        self.input = self.session.get_inputs()[0].name
        given = self.spec["input"]
        self.size = (given["width"], given["height"])
        self.mean, self.scale = np.array(given["mean"], np.float32), np.array(given["scale"], np.float32)
        self.template = np.array(self.spec["embedder"]["crop"]["template"])
        self.mirror = self.spec["embedder"].get("mirror", False)
        self.euclidean = self.spec["embedder"]["distance"] == "euclidean"
        self.threshold = self.spec["embedder"]["identification_threshold"]

    def crops(self, frame, face):
        """Network input [1 or 2 (with the mirror image), 3, height, width] of a face of a BGR frame."""
        crop = cv2.warpAffine(frame, similarity(face.landmarks, self.template), self.size, flags=cv2.INTER_LINEAR)
        rgb = (crop[:, :, ::-1].astype(np.float32) - self.mean) * self.scale
        both = [rgb, rgb[:, ::-1]] if self.mirror else [rgb]
        return np.ascontiguousarray(np.stack(both).transpose(0, 3, 1, 2))

    def embed(self, frame, face):
        """The embedding; of unit length if the model's distance is cosine."""
        vector = self.session.run(None, {self.input: self.crops(frame, face)})[0].mean(0)
        return vector if self.euclidean else vector / np.linalg.norm(vector)

    def similarities(self, vector, gallery):
        """Similarities as the manifest's thresholds mean them: one minus the distance, or the cosine."""
        return 1.0 - np.linalg.norm(gallery - vector, axis=1) if self.euclidean else gallery @ vector


class Gallery:
    """Embeddings of the largest face of every picture of DIR/PERSON/*, held in memory."""

    def __init__(self, folder, detector, embedder):
        self.embedder, self.names, vectors = embedder, [], []
        for picture in sorted(p for p in folder.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
            frame = cv2.imread(str(picture))
            faces = detector.detect(frame) if frame is not None else []
            if faces:
                largest = max(faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))
                self.names.append(picture.parent.name)
                vectors.append(embedder.embed(frame, largest))
        if not vectors:
            raise SystemExit(f"no face was found in the pictures of {folder}/PERSON/")
        self.vectors = np.stack(vectors)

    def name(self, vector):
        """The nearest person, or None where nobody reaches the model's threshold."""
        found = self.embedder.similarities(vector, self.vectors)
        best = int(found.argmax())
        return self.names[best] if found[best] >= self.embedder.threshold else None
