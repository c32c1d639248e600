"""AdaMSS checkpoints: the clusters, which no file holds, are found again as peft finds them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hosts import stir
from safetensors.torch import load_file
from test_interop import TARGETS, apart, lively, peft, same_text
from torch import nn

from peft_from_scratch import inject, trained
from peft_from_scratch.interop import from_peft_config, load_peft, save_peft
from peft_from_scratch.interop.types.adamss import clusters_of, found_again, k_means
from peft_from_scratch.methods.lowrank.adamss import AdaMSS

pytestmark = pytest.mark.filterwarnings("ignore")
RECORDED = load_file(Path(__file__).parent / "oracles" / "adamss.safetensors")
CLUSTERINGS = [(RECORDED[f"{i}.X"], RECORDED[f"{i}.labels"].long()) for i in range(len(RECORDED) // 2)]
hosts = pytest.mark.parametrize("name", ["bert", "llama", "t5"])  # peft's has no Conv1D
settings = pytest.mark.parametrize(
    "fields",
    [
        dict(r=9, num_subspaces=3, subspace_rank=2),
        dict(r=6, num_subspaces=4, random_seed=7),
        dict(r=9, num_subspaces=3, subspace_rank=4, use_dynamic_rank=True, svd_threshold=0.5),
    ],
)


class KMeans:
    """Scikit-learn's answers, where it has been asked."""

    def __init__(self, n_clusters, **settings):
        assert settings == dict(init="random", n_init=1, max_iter=10, random_state=123456789)
        self.k = n_clusters

    def fit_predict(self, X):
        X = torch.from_numpy(X)
        fits = [
            labels
            for there, labels in CLUSTERINGS
            if there.shape == X.shape and labels.max() < self.k and torch.allclose(there @ there.T, X @ X.T, atol=1e-4)
        ]
        assert len(fits) == 1
        return fits[0].numpy()


@pytest.fixture(autouse=True)
def sklearn(monkeypatch):
    for name in ("sklearn", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sklearn.cluster"].KMeans = KMeans


def test_k_means_is_scikit_learn_s():
    assert len(CLUSTERINGS) > 50
    for X, labels in CLUSTERINGS:
        assert torch.equal(torch.from_numpy(k_means(X.numpy(), int(labels.max()) + 1)), labels)


@hosts
@settings
def test_in_and_out(name, fields, tmp_path):
    torch.manual_seed(0)
    given = peft.AdamssConfig(target_modules=TARGETS[name], **fields)
    theirs = peft.get_peft_model(lively(name), given).eval()
    stir([p for p in theirs.parameters() if p.requires_grad])
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    assert apart(ours, theirs, name) <= 1e-5 and same_text(ours, theirs, name)
    assert apart(ours, lively(name), name) >= 1e-3
    stir(trained(ours).values(), std=0.1, seed=5)
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    assert apart(ours, back, name) <= 1e-5 and same_text(ours, back, name)
    assert apart(ours, theirs, name) >= 1e-5


@hosts
def test_a_config_alone(name, tmp_path):
    given = dict(peft_type="ADAMSS", target_modules=TARGETS[name], r=9, num_subspaces=3, subspace_rank=2)
    ours = from_peft_config(lively(name), given).eval()
    fields = {k: v for k, v in given.items() if k != "peft_type"}
    theirs = peft.get_peft_model(lively(name), peft.AdamssConfig(**fields))
    counts = [sum(p.numel() for p in ps if p.requires_grad) for ps in (trained(ours).values(), theirs.parameters())]
    assert counts[0] == counts[1]
    stir(trained(ours).values())
    save_peft(ours, tmp_path)
    assert apart(ours, peft.PeftModel.from_pretrained(lively(name), tmp_path).eval(), name) <= 1e-5
    with torch.device("meta"):
        plain = lively(name)
    with pytest.raises(ValueError, match="meta device has none"):
        from_peft_config(plain, given)


def test_clusters_that_peft_would_not_find_are_not_written(tmp_path):
    other = lambda b: AdaMSS(b, 9, 3, 2, clusters=torch.arange(b.out_features) * 7 % 3)  # noqa: E731
    with pytest.raises(ValueError, match="finds other clusters in the weight of model.layers.0.self_attn.q_proj"):
        save_peft(inject(lively("llama"), {r".*q_proj": other}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_are_all_equally_far_apart_have_no_clusters():
    with pytest.raises(ValueError, match="take a smaller r"):
        found_again(nn.Linear(12, 9), rank=9, k=3, seed=0)


def test_the_clusters_of_an_adapter():
    given = torch.tensor([2, 0, 1, 1, 2, 0, 0, 2, 1])
    assert torch.equal(clusters_of(AdaMSS(nn.Linear(12, 9), 6, 3, clusters=given)), given)
