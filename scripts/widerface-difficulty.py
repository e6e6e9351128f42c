#!/usr/bin/env python3
"""Exports which faces of WIDER FACE count as easy, medium and hard, for `visage eval widerface --difficulty`.

usage: widerface-difficulty.py FOLDER > difficulty.txt

FOLDER holds the official wider_easy_val.mat, wider_medium_val.mat and wider_hard_val.mat (eval_tools.zip, ground_truth/). Needs SciPy.
Each line is `SETTING EVENT/PICTURE i j ...`, faces counted from 1 in the order of wider_face_val_bbx_gt.txt.
"""

import pathlib
import sys

from scipy.io import loadmat


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for setting in ("easy", "medium", "hard"):
        path = pathlib.Path(sys.argv[1]) / f"wider_{setting}_val.mat"
        if not path.is_file():
            sys.exit(f"{path} is missing: it comes with WIDER FACE's eval_tools.zip")
        mat = loadmat(path)
        for event, files, lists in zip(mat["event_list"], mat["file_list"], mat["gt_list"]):
            for file, faces in zip(files[0], lists[0]):
                name = f"{event[0][0]}/{file[0][0]}"
                print(setting, name, *(int(face) for face in faces[0].flatten()))


if __name__ == "__main__":
    main()
