"""What cannot be: refused at once, with the value and the remedy."""

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from moiety.prompts import (
    GateTraining,
    MopsConfig,
    add_expert,
    drop_expert,
    join_adapters,
    pretrain_gate,
    read_requests,
    sum_adapters,
)
from moiety.prompts.base import check_numbers, read_folder
from moiety.prompts.network import check_length
from tests.prompts.conftest import (
    CONFIGS,
    choose,
    get_model,
    label_from,
    make_base,
    make_rows,
    score,
    tune,
)
from tests.prompts.test_adapters import load


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"gate_mode": "loud"}, "gate_mode='loud'; choose one of"),
        ({"num_experts": 0}, "num_experts=0; choose a whole number of at least 1"),
        ({"num_experts": "three"}, "num_experts='three'; choose a whole number"),
        ({"top_k": 9}, "top_k=9 of num_experts=8"),
        ({"top_k": 1, "gate_mode": "none"}, "has no gate"),
        ({"gate_temperature": float("nan")}, "gate_temperature=nan"),
        ({"prompt_init": "text"}, "give a text"),
        ({"init_text": "one"}, "give a text"),
        ({"expert_names": ["one"]}, "expert_names has 1 entries, but num_experts=8"),
        ({"injection": "token", "prompt_space": "kv"}, "use prompt_space='hidden'"),
        ({"num_experts": True}, "num_experts=True is a bool; give an int"),
        ({"gate_layer": "1"}, "gate_layer='1' is a str; give an int or None"),
        ({"top_k": 1.5}, "top_k=1.5 is a float"),
        ({"train_gate": "no"}, "train_gate='no' is a str; give a bool"),
        ({"injection_layers": 2}, "injection_layers=2; give a list of int"),
        ({"expert_names": "abcdefgh"}, "expert_names='abcdefgh'; give a list of str"),
        ({"prompt_init": "text", "init_text": 3}, "init_text=3; give a list of str"),
        ({"base_means": [float("nan")]}, "not finite"),
        ({"task_type": "SEQ_CLS"}, "task_type='SEQ_CLS', but .* choose 'CAUSAL_LM'"),
        ({"gate_context": 9}, "gate_context=9 is not read with"),
        ({"gate_temperature": 2.0, "gate_mode": "oracle"}, "gate_temperature=2.0 is not read with"),
        ({"tokenizer_name_or_path": "here"}, "tokenizer_name_or_path='here' is not read with"),
    ],
)
def test_choices(choice, words):
    with pytest.raises(ValueError, match=words):
        MopsConfig(**choice)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"gate_layer": 3}, "gate_layer=3, but the model has 3 blocks; choose from 1 to 2"),
        ({"injection_layers": [0]}, "from the gate's layer 1 to 2"),
        ({"injection_layers": [2, 1]}, "rising order"),
        ({"injection_layers": []}, "rising order"),
        ({"injection": "token", "injection_layers": [2]}, "leave them out"),
        ({"target_modules": ["q_proj"]}, "say those, and leave target_modules out"),
        ({"base_means": [1.0]}, "base_means has 1 numbers, but embeddings of this model give 16"),
        (
            {"prompt_init": "text", "init_text": "x", "tokenizer_name_or_path": "/nowhere"},
            "tokenizer_name_or_path='/nowhere' does not open",
        ),
    ],
)
def test_layers(choice, words):
    with pytest.raises(ValueError, match=words):
        get_model(make_base(), choose(**choice))


def test_models():
    bloom = transformers.BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=60)
    with pytest.raises(ValueError, match="type 'bloom'; choose one of llama"):
        get_model(transformers.AutoModelForCausalLM.from_config(bloom), choose())
    with pytest.raises(ValueError, match="type 'bloom'; choose one of llama"):
        check_length(transformers.AutoModelForCausalLM.from_config(bloom), 8)
    with pytest.raises(ValueError, match="give the causal language model"):
        get_model(transformers.AutoModel.from_config(CONFIGS["llama"]()), choose(task_type=None))


def test_a_folder_of_another_base(tmp_path):
    tune(make_base("llama")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"made for a model \['llama', 3, 16\]"):
        load(make_base("gpt2"), tmp_path)
    load(make_base("llama", dtype=torch.bfloat16), tmp_path)  # the same, rounded
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    with pytest.raises(ValueError, match="made for another model of this shape"):
        load(other, tmp_path)


def test_folders_that_hold_no_sound_model(tmp_path):
    """An adapter is told from a model, and numbers that are none are named."""
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter; name the folder of the language"):
        read_folder(tmp_path, "sdpa")
    model = make_base()
    check_numbers(model, "here")
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"here: model\.layers\.2\.mlp\.up_proj\.weight has"):
        check_numbers(model, "here")


def test_folders_whose_files_do_not_fit(tmp_path):
    """Cut files, lost tokenizers and numbers that a configuration asks for are told in one line."""
    make_base().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no tokenizer that opens \(.*save that of the"):
        read_folder(tmp_path, "sdpa")
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, told = file.read_bytes(), config.read_text()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"holds no language model that opens \(.*anew"):
        read_folder(tmp_path, "sdpa")
    file.write_bytes(whole)
    config.write_text(told.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, "a"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="b").save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match=r"has no numbers for model\.layers\.3\."):
        read_folder(tmp_path, "sdpa")
    config.write_text('{"model_type": "bloom"}')
    with pytest.raises(ValueError, match="type 'bloom'; choose one of llama"):
        read_folder(tmp_path, "sdpa")


def test_rows():
    model, ids = tune(make_base()), make_rows()
    with pytest.raises(ValueError, match="row 0 of the batch has no instruction"):
        model(input_ids=ids, labels=ids)
    mask = torch.ones(2, 9)
    mask[1] = 0
    with pytest.raises(ValueError, match="row 1 of the batch has no instruction"):
        model(input_ids=ids, attention_mask=mask)
    with pytest.raises(ValueError, match=r"adapter_names has \['other'\]"):
        model(input_ids=ids, adapter_names=["default", "other"])
    short = tune(make_base(), gate_pooling="prefix", gate_context=20)
    with pytest.raises(ValueError, match="no row is longer than gate_context=20"):
        short(input_ids=ids, labels=ids)
    oracle = tune(make_base(), gate_mode="oracle")
    with pytest.raises(ValueError, match="say expert_ids="):
        oracle(input_ids=ids)
    with pytest.raises(ValueError, match=r"expert_ids=\[0, 3\]; choose whole numbers from 0 to 2"):
        oracle(input_ids=ids, expert_ids=[0, 3])
    with pytest.raises(ValueError, match=r"expert_ids=\[0\.5, 1\.0\]; choose whole numbers"):
        oracle(input_ids=ids, expert_ids=[0.5, 1.0])
    with pytest.raises(ValueError, match="expert_ids is read with gate_mode='oracle' alone"):
        model(input_ids=ids, expert_ids=[0, 1])
    with pytest.raises(ValueError, match=r"labels have shape \[2\], but tokens \[2, 9\]"):
        model(input_ids=ids, labels=torch.zeros(2, dtype=torch.int64))


def test_merging_and_attention_changed_afterwards():
    model, ids = tune(make_base()), make_rows()
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="cannot be merged into weights"):
            merge()
    model.get_base_model().set_attn_implementation("eager")
    with pytest.raises(ValueError, match="knows no prompts; set it to 'mops_sdpa'"):
        score(model, ids)


def test_experts_and_gates():
    model = tune(make_base())
    with pytest.raises(ValueError, match="no expert 3; choose from 0 to 2"):
        drop_expert(model, 3)
    with pytest.raises(ValueError, match="no adapter 'other'"):
        add_expert(model, "other")
    with pytest.raises(TypeError, match="has no mixture of prompts"):
        add_expert(make_base())
    model.add_adapter("second", choose(prompts_per_expert=5))
    with pytest.raises(ValueError, match="prompts_per_expert=5, not 2"):
        join_adapters(model, "default", "second")
    z = torch.zeros(4, 16)
    with pytest.raises(ValueError, match="all requests have one label"):
        pretrain_gate(model, z, torch.zeros(4))
    with pytest.raises(ValueError, match="3 labels of 4 requests"):
        pretrain_gate(model, z, torch.zeros(3))
    with pytest.raises(ValueError, match="labels_N is a list; number the skills"):
        pretrain_gate(model, z, ["a", "b", "a", "b"])
    for wrong in (torch.tensor([0.5, 1, 2, 3]), torch.tensor([-1, 0, 1, 2])):
        with pytest.raises(ValueError, match="not whole numbers of at least 0"):
            pretrain_gate(model, z, wrong)
    with pytest.raises(ValueError, match=r"z_ND has shape \[4, 7\], but the gate reads \[N, 16\]"):
        pretrain_gate(model, z[:, :7], torch.arange(4))
    for wrong in ({"held_out": 1.0}, {"steps": -1}, {"batch": 0}, {"lr": float("inf")}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*; choose"):
            pretrain_gate(model, z, torch.arange(4), training=GateTraining(**wrong))
    with pytest.raises(ValueError, match="no batch of requests"):
        read_requests(model, [])
    with pytest.raises(ValueError, match="are not all finite"):
        sum_adapters(model, ["default"], [float("nan")], "sum")
    with pytest.raises(ValueError, match="what the gate reads of request 2 is not finite"):
        pretrain_gate(model, z.index_fill(0, torch.tensor([2]), torch.nan), torch.arange(4))
    bare = tune(make_base(), gate_mode="none")
    with pytest.raises(ValueError, match="no gate"):
        pretrain_gate(bare, z, torch.arange(4))
    only = tune(make_base(), num_experts=1)
    with pytest.raises(ValueError, match="this is the only expert"):
        drop_expert(only, 0)
    assert label_from(make_rows(), 2).shape == (2, 9)


@pytest.mark.parametrize("form", [{}, {"injection": "token"}, {"gate_mode": "none"}], ids=str)
@pytest.mark.parametrize("lost", [True, False])
def test_a_folder_has_the_tensors_that_its_choices_ask_for(form, lost, tmp_path):
    """PEFT would warn and go on with first values in place of any that is missing."""
    tune(make_base(), **form).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    whole = load_file(file)
    for name in whole:
        spare = name.replace(".layers.1.", ".layers.0.").replace(".layers.2.", ".layers.0.")
        more = {} if lost else {spare: whole[name].clone()}
        save_file({n: t for n, t in whole.items() if not lost or n != name} | more, file)
        with pytest.raises(ValueError, match=r"its adapter_model file (lacks|has) .*mops_"):
            load(make_base(), tmp_path)
    embedding = "base_model.model.model.embed_tokens.weight"  # PEFT's own may lie beside them
    save_file({**whole, embedding: make_base().get_input_embeddings().weight.detach()}, file)
    load(make_base(), tmp_path)


@pytest.mark.parametrize("ending", ["mops_prompts", "mops_gate.out.weight"])
def test_a_folder_whose_numbers_were_spoilt(ending, tmp_path):
    """PEFT would load it, and every answer would be none."""
    tune(make_base()).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(one for one in tensors if one.endswith(ending))
    tensors[name].view(-1)[-1] = torch.nan
    save_file(tensors, file)
    with pytest.raises(ValueError, match=f"{ending} in its adapter_model file .* not finite"):
        load(make_base(), tmp_path)
