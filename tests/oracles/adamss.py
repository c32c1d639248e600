"""Which cluster scikit-learn puts each output in for peft's AdaMSS, recorded: this script writes adamss.safetensors.

Needs scikit-learn beside this project's own packages:
    pip install --target /some/folder scikit-learn==1.9.1
    PYTHONPATH=/some/folder:tests python tests/oracles/adamss.py

Inputs and labels of every k-means that peft 0.21.2 runs on the tiny hosts of test_interop_adamss.py, and of random
matrices of many shapes. The versions are in the file's header.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import peft
import sklearn.cluster
import torch
from safetensors.torch import save_file
from test_interop import TARGETS, lively

SETTINGS = {"plain": dict(r=9, num_subspaces=3, subspace_rank=2), "seeded": dict(r=6, num_subspaces=4, random_seed=7)}
found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}


class Recorded(sklearn.cluster.KMeans):
    def fit_predict(self, X, *args, **kw):
        labels = super().fit_predict(X, *args, **kw)
        found.setdefault(X.tobytes() + bytes([self.n_clusters]), (X.copy(), labels))
        return labels


if __name__ == "__main__":
    sklearn.cluster.KMeans = Recorded
    for settings in SETTINGS.values():
        for name in ("bert", "llama", "t5"):
            peft.get_peft_model(lively(name), peft.AdamssConfig(target_modules=TARGETS[name], **settings))
    for seed in range(30):
        draw = np.random.RandomState(seed)
        n, d = int(draw.randint(8, 150)), int(draw.randint(2, 7))
        X = np.linalg.qr(draw.randn(n, d))[0].astype(np.float32)
        Recorded(int(draw.randint(1, 8)), init="random", n_init=1, max_iter=10, random_state=123456789).fit_predict(X)
    tensors = {}
    for i, (X, labels) in enumerate(found.values()):
        tensors |= {f"{i}.X": torch.from_numpy(X), f"{i}.labels": torch.from_numpy(labels.astype(np.uint8))}
    versions = {name: version(name) for name in ("scikit-learn", "peft", "torch", "numpy")}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata=versions)
    print(len(found), "clusterings", versions)
