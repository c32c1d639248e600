"""Transforms: FOURIERFT, WAVEFT, C3A."""

from ...layers import weight_of
from ...methods.transform.c3a import C3A
from ...methods.transform.fourierft import FourierFT
from ...methods.transform.waveft import WaveFT
from ...targets import Factory
from ..kind import Kind, Link, Links, plainly


def fourierft(config: dict) -> Factory:
    start = "zero" if config["init_weights"] else "normal"
    return lambda base: FourierFT(base, config["n_frequency"], config["scaling"], config["random_loc_seed"], start)


FOURIERFT = Kind(
    "FOURIERFT",
    (FourierFT,),
    {"n_frequency": 1000, "scaling": 150.0, "random_loc_seed": 777, "init_weights": False},
    plainly({"fourierft_spectrum": "c"}),
    lambda a: {"n_frequency": a.n, "scaling": a.alpha, "random_loc_seed": a.seed},
    fourierft,
    patterns={"n_frequency": "n_frequency_pattern"},
    bias_only="fourierft_only",
    conv1d=True,
)


def waveft(config: dict) -> Factory:
    family = config["wavelet_family"].lower().replace("haar", "db1")
    if not family.removeprefix("db").isdigit():
        raise ValueError(
            f"WAVEFT: wavelet_family={config['wavelet_family']!r}: this package has Daubechies' db1 to db10"
        )
    order = int(family.removeprefix("db")) if config["use_idwt"] else 0
    return lambda base: WaveFT(base, config["n_frequency"], config["scaling"], order, config["random_loc_seed"])


WAVEFT = Kind(
    "WAVEFT",
    (WaveFT,),
    {"n_frequency": 2592, "scaling": 25.0, "wavelet_family": "db1", "use_idwt": True, "random_loc_seed": 777},
    plainly({"waveft_spectrum": "c"}),
    lambda a: {
        "n_frequency": a.n, "scaling": a.alpha, "wavelet_family": f"db{a.order or 1}", "use_idwt": a.order > 0,
        "random_loc_seed": a.seed,
    },
    waveft,
    patterns={"n_frequency": "n_frequency_pattern"},
    harmless=("init_weights",),
    refused=("proportional_parameters",),
    bias_only="waveft_only",
    conv1d=True,
)  # fmt: skip

C3A_STARTS = {
    "gaussian": "gaussian",
    "kaiming_uniform": "kaiming",
    "xavier_uniform": "xavier",
    True: "zero",
    False: "xavier",
}


def c3a_tensors(a: C3A) -> Links:
    """peft divides the change by d_in; where we do not, its kernel is d_in times ours."""
    d_in = 1 if a.divide else weight_of(a.base).shape[1]
    return {"c3a_kernel": Link(a.w, lambda t: t * d_in, lambda t: t / d_in)}


C3A_KIND = Kind(
    "C3A",
    (C3A,),
    {"block_size": 256, "init_weights": "xavier_uniform"},
    c3a_tensors,
    lambda a: {"block_size": a.block},
    lambda config: lambda base: C3A(base, config["block_size"], C3A_STARTS[config["init_weights"]], divide=True),
    patterns={"block_size": "block_size_pattern"},
    bias_only="c3a_only",
)

KINDS = (FOURIERFT, WAVEFT, C3A_KIND)
