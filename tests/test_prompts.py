"""The contract of prompts and prefixes: each method around each host's body; padding, `generate`, labels, errors."""

import contextlib
import copy

import pytest
import torch
import transformers
from contract import count
from hosts import batch, host, stir
from test_contract import digest
from transformers import (
    LlamaForSequenceClassification,
)

from peft_from_scratch import (
    LoRA,
    Replaced,
    adapter_state,
    adapters,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.methods.prompts.cartridge import Cartridge, cartridge, distill_loss
from peft_from_scratch.methods.prompts.cpt import CPT, answer_weights, cpt, cpt_loss
from peft_from_scratch.methods.prompts.llama_adapter import LlamaAdapter, llama_adapter
from peft_from_scratch.methods.prompts.multitask import MultitaskPrompt, multitask_prompt, prompt_tasks
from peft_from_scratch.methods.prompts.p_tuning import MLP_COUNT, PTuning, p_tuning
from peft_from_scratch.methods.prompts.prefix_tuning import PrefixTuning, prefix_tuning
from peft_from_scratch.methods.prompts.prompt_tuning import PromptTuning, prompt_tuning
from peft_from_scratch.methods.prompts.soft import with_prompt_positions

ALL, CACHED, CAUSAL = ("bert", "gpt2", "llama", "t5"), ("bert", "gpt2", "llama"), ("gpt2", "llama")
KINDS = [1, 2, 2, 3, 4]
METHODS = {
    "prompt, random": (lambda m: prompt_tuning(m, 5), ALL, count("Prompt tuning"), {}),
    "prompt, vocabulary": (lambda m: prompt_tuning(m, 5, "vocabulary"), ALL, count("Prompt tuning"), {}),
    "prompt, text": (lambda m: prompt_tuning(m, 5, [7, 8, 9]), ALL, count("Prompt tuning"), {}),
    "P-tuning, LSTM": (lambda m: p_tuning(m, 5, 6), ALL, count("P-tuning"), dict(hidden=6, layers=2)),
    "P-tuning, MLP": (lambda m: p_tuning(m, 5, 6, lstm=False), ALL, MLP_COUNT, dict(hidden=6)),
    "multitask": (lambda m: multitask_prompt(m, 3, 5), ALL, count("Multitask prompt tuning"), dict(n_tasks=3, rank=1)),
    "multitask, rank 2": (
        lambda m: multitask_prompt(m, 3, 5, 2),
        ALL,
        count("Multitask prompt tuning"),
        dict(n_tasks=3, rank=2),
    ),
    "CPT": (lambda m: cpt(m, [7, 8, 9, 10, 11], KINDS, 0.5), CAUSAL, count("CPT"), {}),
    "prefix": (lambda m: prefix_tuning(m, 5, std=1), ALL, count("Prefix tuning"), {}),
    "prefix, projected": (lambda m: prefix_tuning(m, 5, hidden=6), ALL, None, {}),
    "prefix, from text": (lambda m: prefix_tuning(m, 5, text=range(7, 13)), CACHED, count("Prefix tuning"), {}),
    "cartridge": (lambda m: cartridge(m, 5, text=range(7, 13)), CACHED, count("Cartridge"), dict(n_frozen=1)),
    "LLaMA-Adapter": (lambda m: llama_adapter(m, 5, 1), CAUSAL, count("LLaMA-Adapter"), dict(n_layers=1)),
    "LLaMA-Adapter, all layers": (lambda m: llama_adapter(m, 5), CAUSAL, count("LLaMA-Adapter"), dict(n_layers=2)),
}
CELLS = [(method, name) for method, (_, hosts, *_) in METHODS.items() for name in hosts]
cells = pytest.mark.parametrize(("method", "name"), CELLS)
causal = pytest.mark.parametrize(("method", "name"), [c for c in CELLS if c[1] in CAUSAL])
GREEDY = dict(do_sample=False, max_new_tokens=5, min_new_tokens=5)


def made(method, name, dtype=torch.float32, seed=0):
    model = host(name).to(dtype)
    torch.manual_seed(seed)
    return inject(model, METHODS[method][0](model)).eval()


def frozen_host(name):
    """Frozen as inject leaves it: where a gradient is wanted torch takes other kernels, which round otherwise."""
    return host(name).requires_grad_(False)


def told(model):
    """The task of the rows where the method needs one."""
    users = any(isinstance(a, MultitaskPrompt) for _, a in adapters(model))
    return prompt_tasks(model, 1) if users else contextlib.nullcontext()


def logits(model, given):
    with told(model):
        return model(**given).logits


@cells
def test_starts_as_declared(method, name):
    """Only LLaMA-Adapter, with its gate, begins as the base."""
    given = batch(name)
    same = torch.equal(logits(made(method, name), given), host(name)(**given).logits)
    assert same == method.startswith("LLaMA")


@cells
def test_output_and_labels_have_the_length_of_the_text(method, name):
    given = batch(name)
    with told(model := made(method, name)):
        out, base = model(**given), host(name)(**given)
    assert out.logits.shape == base.logits.shape
    assert out.loss.isfinite()
    if name in CAUSAL:
        targets = given["labels"][:, 1:].flatten()
        expected = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), targets)
        assert torch.allclose(out.loss, expected)


@cells
def test_count_equals_the_formula(method, name):
    expression, numbers = METHODS[method][2:]
    if expression is None:
        pytest.skip("does not apply: the card counts P itself, not the network that makes it")
    width, heads, head_dim = {"llama": (32, 2, 8), "t5": (24, 3, 10)}.get(name, (24, 3, 8))
    numbers = dict(width=width, kv_heads=heads, head_dim=head_dim, layers=2, n_tokens=5) | numbers
    assert sum(p.numel() for p in trained(made(method, name)).values()) == eval(expression, {}, numbers)


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_moves_what_trains_and_nothing_else(method, name, dtype):
    model, given = made(method, name, dtype), batch(name)
    before, frozen = adapter_state(model), digest(model)
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-2)
    model.train()
    for _ in range(3):
        with prompt_tasks(model, torch.arange(3)) if "multitask" in method else contextlib.nullcontext():
            loss = model(**given).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    moved = {k for k, t in adapter_state(model).items() if not torch.equal(before[k], t)}
    assert moved == set(trained(model))
    assert digest(model) == frozen
    assert logits(model.eval(), given).dtype == dtype


@cells
def test_saved_and_loaded_is_bit_equal(method, name, tmp_path):
    model, given = made(method, name), batch(name)
    stir(trained(model).values())
    again = made(method, name, seed=9)
    load_adapter(again, save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(logits(again, given), logits(model, given))


@cells
def test_remove_is_exact_and_merge_is_refused(method, name):
    model, given = made(method, name), batch(name)
    stir(trained(model).values())
    base = frozen_host(name)(**given).logits
    assert not torch.equal(logits(model, given), base)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    model = remove(model)
    assert not list(adapters(model)) and torch.equal(model(**given).logits, base)


@cells
def test_a_deep_copy_is_independent(method, name):
    model, given = made(method, name), batch(name)
    y = logits(model, given)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin, given), y)
    stir(trained(twin).values())
    assert torch.equal(logits(model, given), y) and not torch.equal(logits(twin, given), y)


@cells
def test_a_second_set_and_none(method, name):
    model, given = made(method, name), batch(name)
    stir(trained(model).values())
    first, base = logits(model, given), frozen_host(name)(**given).logits
    model = inject(model, prompt_tuning(model, 3), name="second")
    second = model(**given).logits
    assert not torch.allclose(first, second) and not torch.allclose(second, base)
    assert torch.equal(logits(switch(model, "default"), given), first)
    assert torch.equal(switch(model, None)(**given).logits, base)


@cells
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(method, name, reentrant):
    model, given = made(method, name), batch(name)
    stir(trained(model).values())
    for m in model.modules():  # without dropout, so that the two runs are alike; BERT and T5 have some
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
        if hasattr(m, "dropout") and isinstance(m.dropout, float):
            m.dropout = 0.0
    model.train()
    with told(model):
        plain = torch.autograd.grad(model(**given).loss, list(trained(model).values()), allow_unused=True)
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if method.startswith(("prefix", "cartridge")):
            with pytest.raises(ValueError, match="turn checkpointing off"):
                model(**given)
            return
        if method.startswith("LLaMA") and reentrant:
            model.enable_input_require_grads()
        model(**given).loss.backward()
    for g, p in zip(plain, trained(model).values(), strict=True):
        assert (g is None and p.grad is None) or torch.allclose(g, p.grad, atol=1e-7)


@cells
def test_generate_equals_one_forward_after_the_other(method, name):
    """With a cache, without one, and by hand, where the whole text goes through the model for each new token."""
    if name == "bert":
        pytest.skip("does not apply: BERT does not generate")
    model, ids = made(method, name), batch(name, 2)["input_ids"]
    stir(trained(model).values(), std=1.0)
    with told(model):
        cached = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **GREEDY)
        assert torch.equal(cached, model.generate(input_ids=ids, use_cache=False, **GREEDY))
        if name == "t5":
            text = torch.zeros(2, 1, dtype=torch.long)
            step = lambda: model(input_ids=ids, decoder_input_ids=text)  # noqa: E731
        else:
            text = ids
            step = lambda: model(input_ids=text)  # noqa: E731
        for _ in range(5):
            scores = step().logits[:, -1]
            if (eos := model.generation_config.eos_token_id) < scores.shape[1]:
                scores[:, eos] = -torch.inf  # as min_new_tokens has it
            text = torch.cat([text, scores.argmax(-1, keepdim=True)], 1)
    assert torch.equal(cached, text)


@causal
def test_padding_on_either_side_changes_nothing(method, name):
    model, ids = made(method, name), batch(name, 1, 6)["input_ids"]
    stir(trained(model).values(), std=0.5)
    pad, one = torch.zeros(1, 2, dtype=torch.long), torch.ones_like(ids)
    alone = logits(model, dict(input_ids=ids))
    left = dict(input_ids=torch.cat([pad, ids], 1), attention_mask=torch.cat([pad, one], 1))
    right = dict(input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([one, pad], 1))
    assert torch.allclose(logits(model, right)[:, :6], alone, atol=1e-5)
    if method.startswith("LLaMA"):  # this one leaves positions to the host, which counts padding unless it is told
        left["position_ids"] = torch.tensor([[0, 0, 0, 1, 2, 3, 4, 5]])
    assert torch.allclose(logits(model, left)[:, 2:], alone, atol=1e-5)
    with told(model):
        text = model.generate(input_ids=ids, **GREEDY)[:, 6:]
        assert torch.equal(
            model.generate(**{k: left[k] for k in ("input_ids", "attention_mask")}, **GREEDY)[:, 8:], text
        )


@pytest.mark.compiled
@causal
def test_compiles_in_one_graph(method, name):
    model, ids = made(method, name), batch(name)["input_ids"]
    stir(trained(model).values())
    if "LSTM" in method:
        pytest.skip("does not apply: torch.compile does not trace an LSTM")
    torch._dynamo.reset()
    with told(model):
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert (compiled(input_ids=ids).logits - model(input_ids=ids).logits).abs().max() <= 1e-6


def test_beams_and_several_answers_keep_their_task():
    """Generation repeats each row; its task goes with it."""
    model, ids = made("multitask", "llama"), batch("llama", 2)["input_ids"]
    stir(trained(model).values(), std=1.0)
    beams = dict(GREEDY, num_beams=3, num_return_sequences=2)
    with prompt_tasks(model, torch.tensor([2, 0])):
        both = model.generate(input_ids=ids, **beams)
    for row, task in ((0, 2), (1, 0)):
        with prompt_tasks(model, task):
            alone = model.generate(input_ids=ids[row : row + 1], **beams)
        assert torch.equal(both[2 * row : 2 * row + 2], alone)


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("method", ["prompt", "CPT", "prefix", "cartridge"])
def test_a_start_from_text_is_the_model_that_has_read_it(method, name):
    text, ids = torch.tensor([7, 8, 9, 10, 11]), batch(name)["input_ids"]
    plain = host(name)
    read = plain(input_ids=torch.cat([text.expand(3, -1), ids], 1)).logits[:, 5:]
    targets = {
        "prompt": lambda: prompt_tuning(plain, 5, text.tolist()),
        "CPT": lambda: cpt(plain, text.tolist()),
        "prefix": lambda: prefix_tuning(plain, 5, text=text.tolist()),
        "cartridge": lambda: cartridge(plain, 5, text=text.tolist()),
    }[method]()
    model = inject(plain, targets)
    assert (model(input_ids=ids).logits - read).abs().max() <= 5e-6


@pytest.mark.parametrize("method", ["prompt, random", "prefix", "cartridge"])
def test_positions_that_are_given_are_moved_along(method):
    model, ids = made(method, "gpt2"), batch("gpt2")["input_ids"]
    y = logits(model, dict(input_ids=ids))
    for positions in (torch.arange(7)[None], torch.arange(7).expand(3, 7)):
        assert torch.equal(logits(model, dict(input_ids=ids, position_ids=positions)), y)


@pytest.mark.parametrize("method", ["prompt, random", "prefix"])
def test_token_types_belong_to_the_text(method):
    model, given = made(method, "bert"), batch("bert")
    types = torch.ones_like(given["input_ids"])
    assert torch.equal(logits(model, given | dict(token_type_ids=0 * types)), logits(model, given))
    assert not torch.allclose(logits(model, given | dict(token_type_ids=types)), logits(model, given))


@pytest.mark.parametrize("method", ["prompt, random", "prefix"])
def test_embeddings_in_place_of_ids(method):
    model, given = made(method, "llama"), batch("llama")
    x = model.get_input_embeddings()(given["input_ids"])
    assert torch.equal(logits(model, dict(inputs_embeds=x)), logits(model, dict(input_ids=given["input_ids"])))


def test_hidden_states_are_cut_and_can_be_had_whole():
    model, given = made("prompt, random", "llama"), batch("llama")
    assert {h.shape[1] for h in model(**given, output_hidden_states=True).hidden_states} == {7}
    with with_prompt_positions(model):
        assert model(input_ids=given["input_ids"]).logits.shape[1] == 12
    assert model(input_ids=given["input_ids"]).logits.shape[1] == 7


def test_a_classifier_finds_the_last_token_of_padded_rows():
    """It looks for it in input_ids, whose length is that of what the body returns."""
    torch.manual_seed(0)
    plain = LlamaForSequenceClassification(host("llama").config).eval()
    model = inject(plain, {**prompt_tuning(plain, 5), "score": Replaced})
    assert set(trained(model)) == {"model.P", "score.trained.weight"}
    ids = batch("llama", 1)["input_ids"]
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], 1)
    out = model(input_ids=padded, attention_mask=(padded > 0).long()).logits
    assert torch.allclose(out, model(input_ids=ids).logits, atol=1e-6)


def test_lora_inside_a_prompted_body():
    plain = host("gpt2")
    model = inject(plain, {**prompt_tuning(plain, 5), r".*\.c_attn": LoRA})
    model(**batch("gpt2")).loss.backward()
    assert model.transformer.P.grad.abs().max() > 0 and len(trained(model)) == 5
    assert not list(adapters(remove(model)))


def test_what_the_network_made_is_the_prefix():
    model = made("prefix, projected", "llama")
    flat = inject(host("llama"), prefix_tuning(host("llama"), 5)).eval()
    with torch.no_grad():
        flat.model.P.copy_(model.model.rows())
    assert torch.allclose(logits(flat, batch("llama")), logits(model, batch("llama")), atol=1e-6)


def test_rows_of_different_tasks_see_different_prompts():
    model, given = made("multitask", "llama"), batch("llama")
    stir(trained(model).values())
    with prompt_tasks(model, torch.tensor([0, 1, 2])):
        mixed = model(**given).logits
    for row in range(3):
        with prompt_tasks(model, row):
            assert torch.allclose(model(**given).logits[row], mixed[row], atol=1e-6)
    model.model.average_tasks()
    u, v = model.model.U, model.model.V
    assert torch.equal(u[0], u[2]) and torch.equal(v[0], v[1])


def test_cpt_stays_in_its_balls_and_leaves_answers_alone():
    model, ids = made("CPT", "llama"), batch("llama")["input_ids"]
    optimizer = torch.optim.SGD(trained(model).values(), lr=100.0)
    for _ in range(2):
        cpt_loss(model, ids).backward()
        optimizer.step()
    model.model.project()
    length, unit = model.model.delta.norm(dim=1), (32 / 2048) ** 0.5
    expected = unit * torch.tensor([0.1, 0.5, 0.5, 0.1, 0.0])
    assert torch.allclose(length, expected, atol=1e-6)
    before = model.model.delta.clone()
    model.model.project()
    assert torch.equal(model.model.delta, before)


def test_older_answers_weigh_less():
    """Two answers of the context (kinds 4 and 8) and the text's (12); other tokens are no answers."""
    weights = answer_weights(torch.tensor([[1, 4, 4, 6, 8, 9, 12, 12], [1, 4, 4, 6, 8, 9, 10, 0]]), 0.5)
    assert weights.tolist() == [[1, 0.25, 0.25, 1, 0.5, 1, 1, 1], [1, 0.5, 0.5, 1, 1, 1, 1, 1]]


def test_distillation_is_the_divergence_from_the_teacher():
    student, teacher = torch.randn(2, 3, 11, requires_grad=True), torch.randn(2, 3, 11)
    p, q = teacher.softmax(-1), student.softmax(-1)
    assert torch.allclose(distill_loss(student, teacher), (p * (p / q).log()).sum(-1).mean(), atol=1e-6)
    assert distill_loss(teacher, teacher).abs() < 1e-6


def test_a_cartridge_learns_to_stand_for_a_text():
    """From the cache of the first tokens, three steps of distillation bring it nearer to the model that read all."""
    plain, ids = host("llama"), batch("llama")["input_ids"]
    text = torch.arange(1, 13)
    with torch.no_grad():
        teacher = plain(input_ids=torch.cat([text.expand(3, -1), ids], 1)).logits[:, 12:]
    model = inject(plain, cartridge(plain, 4, text.tolist()))
    sink = model.model.sink.clone()
    optimizer = torch.optim.Adam(trained(model).values(), lr=0.03)
    losses = []
    for _ in range(8):
        loss = distill_loss(model(input_ids=ids).logits, teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0] and torch.equal(model.model.sink, sink)


def test_the_gate_moves_first():
    model = made("LLaMA-Adapter", "llama")
    model(**batch("llama")).loss.backward()
    adapter = next(a for _, a in adapters(model))
    assert adapter.g.grad.abs() > 0 and adapter.P.grad.abs().max() == 0


def test_a_file_of_the_other_arithmetic_is_refused(tmp_path):
    plain = host("gpt2")
    model = inject(host("gpt2"), llama_adapter(plain, 5, project=False))
    path = save_adapter(model, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="project=False"):
        load_adapter(inject(host("gpt2"), llama_adapter(plain, 5)), path)


MASK_4D = dict(attention_mask=torch.ones(3, 1, 7, 7))
ERRORS = [
    (lambda m: prompt_tuning(m, 0), "n_tokens must be at least 1"),
    (lambda m: prefix_tuning(m, 0), "n_tokens must be at least 1"),
    (lambda m: cartridge(m, 0), "n_tokens must be at least 1"),
    (lambda m: inject(m, llama_adapter(m, 0)), "n_tokens must be at least 1"),
    (lambda m: inject(m, prompt_tuning(m, 5, "words")), "start must be 'random', 'vocabulary' or the token ids"),
    (lambda m: inject(m, prompt_tuning(m, 5, [])), "start must be"),
    (lambda m: inject(m, p_tuning(m, 5, 0)), "hidden and layers must be at least 1"),
    (lambda m: inject(m, p_tuning(m, 5, layers=0)), "hidden and layers must be at least 1"),
    (lambda m: inject(m, multitask_prompt(m, 0)), "n_tasks and rank must be at least 1"),
    (lambda m: inject(m, multitask_prompt(m, 2, rank=0)), "n_tasks and rank must be at least 1"),
    (lambda m: inject(m, cpt(m, [1, 2], [1])), "2 tokens need as many kinds"),
    (lambda m: inject(m, cpt(m, [1, 2], epsilon=0.0)), "epsilons above 0"),
    (lambda m: cpt(host("t5"), [1, 2]), "decoder-only"),
    (lambda m: cpt_loss(m, torch.ones(1, 2, dtype=torch.long)), "no CPT prompt"),
    (lambda m: inject(m, prefix_tuning(m, 5, hidden=0)), "hidden must be at least 1"),
    (lambda m: inject(m, prefix_tuning(m, 2, hidden=3, text=[1, 2])), "goes without the network"),
    (lambda m: prefix_tuning(m, 5, text=[1, 2]), "the text has 2 tokens, fewer than n_tokens=5"),
    (lambda m: prefix_tuning(host("t5"), 1, text=[1, 2]), "without a separate encoder"),
    (lambda m: inject(m, cartridge(m, 5, n_frozen=5)), "n_frozen must be from 0 to n_tokens - 1 = 4"),
    (lambda m: llama_adapter(m, 5, 3), "n_layers must be from 1 to the model's 2, not 3"),
    (lambda m: llama_adapter(host("bert")), "no attention in this model has"),
    (lambda m: llama_adapter(host("t5")), "decoder-only model"),
    (lambda m: prompt_tasks(m, 0).__enter__(), "no multitask prompt"),
    (lambda m: prompt_tasks(made("multitask", "gpt2"), 3).__enter__(), "whole numbers from 0 to 2"),
    (lambda m: prompt_tasks(made("multitask", "gpt2"), torch.rand(2)).__enter__(), "whole numbers from 0 to 2"),
    (lambda m: made("multitask", "gpt2")(**batch("gpt2")), "needs the task of each row"),
    (lambda m: made("prompt, random", "gpt2")(**batch("gpt2") | MASK_4D), r"attention_mask as \(rows, length\)"),
    (lambda m: made("prefix", "gpt2")(**batch("gpt2") | MASK_4D), r"attention_mask as \(rows, length\)"),
    (lambda m: made("prompt, random", "gpt2")(**batch("gpt2", length=28)), "end at 33, the model at position 32"),
    (lambda m: made("prefix", "bert")(**batch("bert", length=28)), "end at 33, the model at position 32"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_bad_input_gets_a_clear_sentence(case):
    act, words = ERRORS[case]
    with pytest.raises(ValueError, match=words):
        act(host("gpt2"))


def test_ids_that_do_not_fit_the_batch():
    model = made("multitask", "gpt2")
    with (
        prompt_tasks(model, torch.tensor([0, 1])),
        pytest.raises(ValueError, match="2 task ids do not fit a batch of 3"),
    ):
        model(**batch("gpt2"))


def test_a_cache_of_fixed_size_is_refused():
    for method in ("prompt, random", "prefix"):
        with pytest.raises(ValueError, match="leave `cache_implementation` out"):
            made(method, "llama").generate(batch("llama")["input_ids"], cache_implementation="static", **GREEDY)


def test_an_attention_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="no attention that LLaMA-Adapter knows"):
        LlamaAdapter(torch.nn.Linear(3, 4))


def test_each_page_is_its_class():
    """The class takes the body itself, for those who write their own targets."""
    body = host("llama").model
    for adapter in (PromptTuning(body, 2), PTuning(body, 2, 3), MultitaskPrompt(body, 2, 2), CPT(body, [1, 2])):
        out = adapter(input_ids=torch.tensor([[1, 2, 3]])) if not isinstance(adapter, MultitaskPrompt) else None
        assert out is None or out.last_hidden_state.shape == (1, 3, 32)
    for adapter in (PrefixTuning(body, 2), Cartridge(body, 2)):
        assert adapter(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state.shape == (1, 3, 32)


SMALL = dict(num_hidden_layers=2, num_attention_heads=4, vocab_size=61, pad_token_id=0)
ROTARY = SMALL | dict(hidden_size=32, num_key_value_heads=2, intermediate_size=40)
OTHERS = {
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**ROTARY, sliding_window=6)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**ROTARY)),
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=61, pad_token_id=0)
    ),
    "opt": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(**SMALL, hidden_size=32, ffn_dim=40, word_embed_proj_dim=32)
    ),
    "neox": lambda: transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(**SMALL, hidden_size=32, intermediate_size=40)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("prefix", [False, True])
def test_other_decoders(name, prefix):
    """Biases, ALiBi, a sliding window, a body inside another: a start from text is the model that has read it."""
    torch.manual_seed(0)
    plain, text, ids = OTHERS[name]().eval(), torch.arange(7, 12), torch.randint(1, 61, (2, 7))
    read = plain(input_ids=torch.cat([text.expand(2, -1), ids], 1)).logits[:, 5:]
    start = text.tolist()
    model = inject(plain, prefix_tuning(plain, 5, text=start) if prefix else prompt_tuning(plain, 5, start))
    assert (model(input_ids=ids).logits - read).abs().max() <= 5e-6
    given = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert torch.equal(model.generate(**given, **GREEDY), model.generate(**given, use_cache=False, **GREEDY))


@pytest.mark.parametrize("prefix", [False, True])
def test_bart(prefix):
    """Its encoder and decoder lie in `model.model`, and its padding is masked for the decoder too."""
    shape = {f"{part}_{k}": v for part in ("encoder", "decoder") for k, v in
             dict(layers=2, attention_heads=4, ffn_dim=40).items()}  # fmt: skip
    config = transformers.BartConfig(d_model=32, vocab_size=61, max_position_embeddings=64, **shape)
    plain = transformers.BartForConditionalGeneration(config).eval()
    model = inject(plain, prefix_tuning(plain, 5, std=1.0) if prefix else prompt_tuning(plain, 5))
    ids, decoder = torch.randint(3, 61, (2, 7)), torch.randint(3, 61, (2, 4))
    pad = torch.ones(2, 2, dtype=torch.long)
    padded = dict(
        input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([torch.ones_like(ids), torch.zeros_like(pad)], 1)
    )
    alone = model(input_ids=ids, decoder_input_ids=decoder).logits
    assert torch.allclose(model(**padded, decoder_input_ids=decoder).logits, alone, atol=1e-6)
    assert list(trained(model)) == ["model.decoder.P" if prefix else "model.encoder.P"]


def test_roberta_counts_its_positions_from_two():
    shape = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=40, vocab_size=61)
    config = transformers.RobertaConfig(**shape, max_position_embeddings=16)
    plain = transformers.RobertaForTokenClassification(config).eval()
    model = inject(plain, prompt_tuning(plain, 5))
    ids, pad = torch.randint(3, 61, (2, 7)), torch.ones(2, 2, dtype=torch.long)
    alone = model(input_ids=ids).logits
    left = dict(
        input_ids=torch.cat([pad, ids], 1), attention_mask=torch.cat([torch.zeros_like(pad), torch.ones_like(ids)], 1)
    )
    assert torch.allclose(model(**left).logits[:, 2:], alone, atol=1e-6)
    assert torch.equal(model(input_ids=ids, position_ids=torch.arange(2, 9)[None]).logits, alone)
    with pytest.raises(ValueError, match="end at 17, the model at position 16"):
        model(input_ids=torch.randint(3, 61, (2, 10)))


@pytest.mark.parametrize("prefix", [False, True])
def test_a_body_without_a_head_is_wrapped_as_a_whole(prefix):
    body, ids = host("bert").bert, batch("bert")["input_ids"]
    model = inject(body, prefix_tuning(body, 5, std=1.0) if prefix else prompt_tuning(body, 5)).eval()
    assert set(trained(model)) == {"P"} and model(input_ids=ids).last_hidden_state.shape == (3, 7, 24)
    assert remove(model) is body


def test_a_prefix_beside_lora_and_from_an_adapted_model():
    plain = inject(host("llama"), {r".*\.q_proj": LoRA})
    model = inject(plain, prefix_tuning(plain, 5, text=range(7, 12)), name="prefix")
    assert model(**batch("llama")).loss.isfinite() and set(trained(model)) == {"model.P"}
