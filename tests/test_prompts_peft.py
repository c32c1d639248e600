"""Prompts and prefixes against Hugging Face peft, with our numbers in it: forward, gradients, generated text."""

import contextlib
import copy
import warnings

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import record
from transformers import RobertaConfig, RobertaForSequenceClassification, T5Config, T5ForConditionalGeneration

from peft_from_scratch import adapters, inject, trained
from peft_from_scratch.methods.prompts.cartridge import cartridge
from peft_from_scratch.methods.prompts.cpt import cpt, cpt_loss
from peft_from_scratch.methods.prompts.llama_adapter import llama_adapter
from peft_from_scratch.methods.prompts.multitask import multitask_prompt, prompt_tasks
from peft_from_scratch.methods.prompts.p_tuning import p_tuning
from peft_from_scratch.methods.prompts.prefix_tuning import prefix_tuning
from peft_from_scratch.methods.prompts.prompt_tuning import prompt_tuning

peft = pytest.importorskip("peft")
N = 5
TASKS = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}
hosts = pytest.mark.parametrize("name", TASKS)
generating = pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
causal = pytest.mark.parametrize("name", ["gpt2", "llama"])


class Pair:
    """The same host twice; `match(ours, theirs)` pairs our tensors with views of theirs, which get our numbers."""

    def __init__(self, name, targets, config, match, std=0.3):
        plain = host(name)
        self.name, self.base = name, copy.deepcopy(plain)
        self.ours = inject(copy.deepcopy(plain), targets(plain)).eval()
        self.theirs = peft.get_peft_model(plain, config).eval()
        stir(trained(self.ours).values(), std=std)
        adapter = next(a for _, a in adapters(self.ours))
        self.pairs = match(adapter, getattr(self.theirs, "prompt_encoder", {"default": None})["default"])
        with torch.no_grad():
            for mine, other in self.pairs:
                other[: len(mine)].copy_(mine)

    def check(self, method, tol=1e-5, tasks=None):
        given = batch(self.name)
        if self.name in ("gpt2", "llama"):
            given["labels"] = given["labels"].clone()
            given["labels"][:, 0] = -100  # peft has the prompt's last position predict the first token as well
        ours = self.run(self.ours, given, tasks)
        theirs = self.theirs(**given, **({} if tasks is None else {"task_ids": tasks}))
        theirs.loss.backward()
        seen = (ours.logits - theirs.logits[:, -ours.logits.shape[1] :]).abs().max().item()
        loss = (ours.loss - theirs.loss).abs().item()
        grads = max((a.grad - b.grad[: len(a)]).abs().max().item() for a, b in self.pairs if a.requires_grad)
        assert max(seen, loss, grads) <= tol, (seen, loss, grads)
        assert (ours.logits - self.base(**given).logits).abs().max() > 1e-3
        assert all(a.grad.abs().max() > 0 for a, _ in self.pairs if a.requires_grad)
        record(method, "peft 0.21.2", max(seen, grads))

    def run(self, model, given, tasks):
        with contextlib.nullcontext() if tasks is None else prompt_tasks(model, tasks):
            out = model(**given)
            out.loss.backward()
        return out

    def check_generate(self, tasks=None):
        ids = batch(self.name)["input_ids"]
        given = dict(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6)
        with contextlib.nullcontext() if tasks is None else prompt_tasks(self.ours, tasks):
            ours = self.ours.generate(**given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft drops the positions that generate makes, and says so
            theirs = self.theirs.generate(**given, **({} if tasks is None else {"task_ids": tasks}))
        assert torch.equal(ours, theirs)


def prompt_pair(name):
    config = peft.PromptTuningConfig(task_type=TASKS[name], num_virtual_tokens=N)
    return Pair(name, lambda m: prompt_tuning(m, N), config, lambda a, b: [(a.P, b.embedding.weight)])


@hosts
def test_prompt_tuning(name):
    prompt_pair(name).check("Prompt tuning")


@generating
def test_prompt_tuning_generates_the_same(name):
    prompt_pair(name).check_generate()


def test_half_of_pefts_prompt_for_t5_is_dead_and_ours_has_no_such_half():
    pair = prompt_pair("t5")
    weight = pair.theirs.prompt_encoder["default"].embedding.weight
    pair.theirs(**batch("t5")).loss.backward()
    assert len(weight) == 2 * N and weight.grad[N:].abs().max() == 0
    assert sum(p.numel() for p in trained(pair.ours).values()) == N * 24


def test_prompts_from_the_vocabulary_and_a_text_are_its_embeddings():
    table = host("llama").model.embed_tokens.weight
    vocabulary = inject(host("llama"), prompt_tuning(host("llama"), 4, "vocabulary")).model.P
    assert all((row == table).all(1).any() for row in vocabulary)
    text = inject(host("llama"), prompt_tuning(host("llama"), 5, [3, 4])).model.P
    assert torch.equal(text, table[[3, 4, 3, 4, 3]])


def p_tuning_pair(name, lstm):
    config = peft.PromptEncoderConfig(
        task_type=TASKS[name],
        num_virtual_tokens=N,
        encoder_hidden_size=6,
        encoder_reparameterization_type="LSTM" if lstm else "MLP",
        num_transformer_submodules=1,  # or its LSTM also reads vectors for T5's decoder, which nobody uses
    )

    def match(a, b):
        parts = [(a.mlp, b.mlp_head)] + ([(a.lstm, b.lstm_head)] if lstm else [])
        pairs = [pair for x, y in parts for pair in zip(x.parameters(), y.parameters(), strict=True)]
        return [(a.E, b.embedding.weight), *pairs]

    return Pair(name, lambda m: p_tuning(m, N, 6, lstm), config, match)


@hosts
@pytest.mark.parametrize("lstm", [True, False])
def test_p_tuning(name, lstm):
    p_tuning_pair(name, lstm).check("P-tuning")


@generating
def test_p_tuning_generates_the_same(name):
    p_tuning_pair(name, True).check_generate()


def test_what_p_tuning_made_is_a_prompt_tuning():
    model = inject(host("gpt2"), p_tuning(host("gpt2"), N, 6))
    stir(trained(model).values())
    plain = inject(host("gpt2"), prompt_tuning(host("gpt2"), N))
    with torch.no_grad():
        plain.transformer.P.copy_(model.transformer.made())
    assert torch.allclose(plain(**batch("gpt2")).logits, model(**batch("gpt2")).logits, atol=1e-6)


def multitask_pair(name, rank):
    config = peft.MultitaskPromptTuningConfig(
        task_type=TASKS[name], num_virtual_tokens=N, num_tasks=3, num_ranks=rank, num_transformer_submodules=1
    )
    return Pair(
        name,
        lambda m: multitask_prompt(m, 3, N, rank),
        config,
        lambda a, b: [(a.P, b.embedding.weight), (a.U, b.prefix_task_cols), (a.V, b.prefix_task_rows)],
    )


@hosts
@pytest.mark.parametrize("rank", [1, 2])
def test_multitask_prompt_tuning(name, rank):
    multitask_pair(name, rank).check("Multitask prompt tuning", tasks=torch.tensor([2, 0, 1]))


@generating
def test_multitask_prompt_tuning_generates_the_same(name):
    multitask_pair(name, 2).check_generate(tasks=torch.tensor([2, 0, 1]))


T5_SHAPE = dict(d_model=24, num_heads=3, d_kv=10, d_ff=40, vocab_size=61, decoder_start_token_id=0, pad_token_id=0)
CONTEXT, CONTEXT_KINDS = [3, 4, 5, 6, 7, 8], [1, 2, 4, 5, 7, 8]


def cpt_pair(name, **settings):
    config = peft.CPTConfig(
        task_type="CAUSAL_LM",
        cpt_token_ids=CONTEXT,
        cpt_mask=[1] * 6,
        cpt_tokens_type_mask=CONTEXT_KINDS,
        opt_projection_epsilon=0.5,
        opt_projection_format_epsilon=0.2,
        **settings,
    )
    return Pair(
        name,
        lambda m: cpt(m, CONTEXT, CONTEXT_KINDS, epsilon=0.5, format_epsilon=0.2),
        config,
        lambda a, b: [(a.delta, b.delta_embedding.weight), (a.E, b.embedding.weight)],
    )


@causal
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_cpt(name, decay):
    """The projected δ, the frozen answers and the loss over the answers of the context and of the text."""
    pair = cpt_pair(name, opt_weighted_loss_type="decay", opt_loss_decay_factor=decay)
    ids = batch(name)["input_ids"]
    labels = ids.clone()
    labels[0, -2:] = -100
    kinds = torch.tensor([1, 2, 2, 3, 4, 4, 4]).expand(3, -1).clone()
    kinds[1] = torch.tensor([1, 2, 4, 5, 6, 8, 8])
    ours = cpt_loss(pair.ours, ids, labels=labels, kinds=kinds, decay=decay)
    theirs = pair.theirs(input_ids=ids, labels=labels, input_type_mask=kinds.clone())
    ours.backward()
    theirs.loss.backward()
    logits = pair.ours(input_ids=ids).logits
    delta, other = pair.pairs[0]
    found = [(ours - theirs.loss), logits - theirs.logits[:, 6:], delta - other, delta.grad - other.grad]
    worst = max(t.abs().max().item() for t in found)
    assert worst <= 1e-5
    assert delta.grad.abs().max() > 0 and delta.grad[[2, 5]].abs().max() == 0
    record("CPT", "peft 0.21.2", worst)


@causal
def test_cpt_generates_the_same(name):
    cpt_pair(name).check_generate()


def prefix_pair(name, hidden=None):
    config = peft.PrefixTuningConfig(
        task_type=TASKS[name],
        num_virtual_tokens=N,
        prefix_projection=hidden is not None,
        encoder_hidden_size=hidden,
    )

    def match(a, b):
        network = [] if hidden is None else zip(a.network.parameters(), b.transform.parameters(), strict=True)
        return [(a.P, b.embedding.weight), *network]

    return Pair(name, lambda m: prefix_tuning(m, N, hidden), config, match, std=0.7)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("hidden", [None, 6])
def test_prefix_tuning(name, hidden):
    prefix_pair(name, hidden).check("Prefix tuning")


@causal
@pytest.mark.parametrize("hidden", [None, 6])
def test_prefix_tuning_generates_the_same(name, hidden):
    prefix_pair(name, hidden).check_generate()


def t5_prefixes(layers):
    """Ours and theirs on a T5 of so many layers; peft's layer i gets the rows of layer 2 i mod `layers`."""
    torch.manual_seed(0)
    plain = T5ForConditionalGeneration(T5Config(**T5_SHAPE, num_layers=layers)).eval()
    config = peft.PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=N, token_dim=30)
    ours = inject(copy.deepcopy(plain), prefix_tuning(plain, N, std=1.0)).eval()
    theirs = peft.get_peft_model(plain, config).eval()
    return ours, theirs, theirs.prompt_encoder["default"].embedding.weight


def test_prefix_tuning_of_t5():
    """With 3 layers peft's order is another (0, 2, 1), and then all is equal."""
    ours, theirs, flat = t5_prefixes(3)
    mine = ours.decoder.P
    with torch.no_grad():
        flat.copy_(mine.view(N, 3, 60)[:, [0, 2, 1]].flatten(1))
    given = batch("t5")
    out, expected = ours(**given), theirs(**given)
    out.loss.backward()
    expected.loss.backward()
    found = [out.logits - expected.logits, mine.grad.view(N, 3, 60)[:, [0, 2, 1]].flatten(1) - flat.grad]
    assert max(t.abs().max().item() for t in found) <= 1e-5
    assert flat.grad.abs().max() > 0
    ids = dict(input_ids=given["input_ids"], do_sample=False, max_new_tokens=6)
    assert torch.equal(ours.generate(**ids), theirs.generate(**ids))


def test_pefts_prefix_for_t5_leaves_every_second_layer_without_its_own():
    """With an even number of layers half of its rows get no gradient; all of ours do."""
    ours, theirs, flat = t5_prefixes(2)
    ours(**batch("t5")).loss.backward()
    theirs(**batch("t5")).loss.backward()
    assert (flat.grad.view(N, 2, 60).abs().amax((0, 2)) > 0).tolist() == [True, False]
    assert (ours.decoder.P.grad.view(N, 2, 60).abs().amax((0, 2)) > 0).all()


def cartridge_pair(name, frozen):
    config = peft.CartridgeConfig(task_type=TASKS[name], num_virtual_tokens=N, num_frozen_tokens=frozen)

    def match(a, b):
        return [(a.Z, b.trainable_embedding)] + ([(a.sink, b.frozen_embedding)] if frozen else [])

    return Pair(name, lambda m: cartridge(m, N, n_frozen=frozen), config, match)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("frozen", [0, 2])
def test_cartridge(name, frozen):
    cartridge_pair(name, frozen).check("Cartridge")


@causal
def test_cartridge_generates_the_same(name):
    cartridge_pair(name, 1).check_generate()


@causal
@pytest.mark.parametrize("layers", [1, 2])
def test_llama_adapter(name, layers):
    config = peft.AdaptionPromptConfig(adapter_len=N, adapter_layers=layers, task_type="CAUSAL_LM")
    plain = host(name)
    ours = inject(copy.deepcopy(plain), llama_adapter(plain, N, layers, project=name != "gpt2")).eval()
    theirs = peft.get_peft_model(copy.deepcopy(plain), config).eval()
    stir(trained(ours).values(), std=0.7)
    pairs = []
    for site, a in adapters(ours):
        other = theirs.base_model.model.get_submodule(site)
        pairs += [(a.P, other.adaption_prompt), (a.g, other.adaption_gate)]
    assert len(pairs) == 2 * layers
    with torch.no_grad():
        for a, b in pairs:
            b.copy_(a.view_as(b))
    given = batch(name)
    out, expected = ours(**given), theirs(**given)
    out.loss.backward()
    expected.loss.backward()
    seen = (out.logits - expected.logits).abs().max().item()
    grads = max((a.grad - b.grad.view_as(a)).abs().max().item() for a, b in pairs)
    assert max(seen, grads) <= 1e-5, (seen, grads)
    assert (out.logits - plain(**given).logits).abs().max() > 1e-2
    record("LLaMA-Adapter", "peft 0.21.2", max(seen, grads))
    ids = dict(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    greedy = dict(do_sample=False, max_new_tokens=6)
    assert torch.equal(ours.generate(**ids, **greedy), theirs.generate(**ids, **greedy))


def test_with_gpt2_the_paper_projects_what_the_prompt_adds_and_peft_does_not():
    plain, given = host("gpt2"), batch("gpt2")
    outs = []
    for project in (True, False):
        model = inject(copy.deepcopy(plain), llama_adapter(plain, N, project=project))
        stir(trained(model).values(), std=0.7)
        outs.append(model(**given).logits)
    assert (outs[0] - outs[1]).abs().max() > 1e-2


def test_a_roberta_classifier_reads_the_text_and_pefts_reads_the_prompt():
    """`cut = False` is peft's arithmetic, for its checkpoints."""
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, vocab_size=61)
    plain = RobertaForSequenceClassification(RobertaConfig(**shape, max_position_embeddings=32)).eval()
    ours = inject(copy.deepcopy(plain), prompt_tuning(plain, N)).eval()
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=N)
    theirs = peft.get_peft_model(plain, config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(ours.roberta.P)
    ids = torch.randint(3, 61, (3, 7))
    assert (ours(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() > 1e-3
    ours.roberta.cut = False
    assert (ours(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() <= 1e-6
    assert "cut=False" in ours.roberta.extra_repr()
