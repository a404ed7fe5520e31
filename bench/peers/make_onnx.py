"""A Llama-class GGUF file with tied embeddings -> a folder that transformers.js loads with dtype 'q4'.

    python3 -m venv venv && venv/bin/pip install onnx==1.23.2 gguf==0.19.0 numpy==2.4.6
    venv/bin/python make_onnx.py SmolLM2-135M-Instruct.Q4_1.gguf SmolLM2-135M

Activations and the cache are f32, since software adapters have no shader-f16. Layers have the file's shapes and bits, not
its values: MatMulNBits takes no minimum a block, so they are quantised anew, and the model is a little worse. That is of
no consequence for how fast it is. The embedding is f32, the output projection the file's own Q8_0.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
BLOCK = 32

source, folder = sys.argv[1:]
folder = Path(folder)
reader = gguf.GGUFReader(source)
meta = {key: field.contents() for key, field in reader.fields.items()}
tensors = {tensor.name: tensor for tensor in reader.tensors}
n_layers, hidden, n_heads, n_kv_heads, mlp, context, theta, eps, head_dim = (
    meta[f"llama.{key}"]
    for key in (
        "block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length",
        "context_length", "rope.freq_base", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
    )
)
vocab = meta["tokenizer.ggml.tokens"]
if "output.weight" in tensors or tensors["token_embd.weight"].tensor_type != gguf.GGMLQuantizationType.Q8_0:
    sys.exit(f"{source}: expected tied embeddings in Q8_0")


def weight(name):
    tensor = tensors[name]
    return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape([*map(int, reversed(tensor.shape))])


def half_apart(rows, heads):
    """GGUF has the two rows that rotate together side by side, GroupQueryAttention half a head apart."""
    return rows.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


nodes, constants = [], []


def constant(name, array):
    constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def node(op, inputs, outputs, domain="", **attributes):
    outputs = [outputs] if isinstance(outputs, str) else outputs
    nodes.append(helper.make_node(op, inputs, outputs, name=f"/{outputs[0]}", domain=domain, **attributes))
    return outputs[0]


def product(x, w, name):
    """Rows in blocks of 32: integers 0 to 15 that stand for -8 to 7, with a scale."""
    n_rows, cols = w.shape
    blocks = w.reshape(-1, BLOCK)
    scales = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(1)] / -8
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    q = (np.rint(blocks * inverse[:, None]).clip(-8, 7) + 8).astype(np.uint8)
    packed = (q[:, 0::2] | q[:, 1::2] << 4).reshape(n_rows, cols // BLOCK, BLOCK // 2)
    inputs = [x, constant(f"{name}.q", packed), constant(f"{name}.scales", scales.astype(np.float32))]
    return node("MatMulNBits", inputs, name, MICROSOFT, K=cols, N=n_rows, bits=4, block_size=BLOCK, accuracy_level=0)


def value(name, shape, kind=TensorProto.FLOAT):
    """transformers.js goes by the names of the dimensions."""
    return helper.make_tensor_value_info(name, kind, shape)


def add_and_norm(x, y, norm, out, total):
    """`total` = x + y where anybody needs it, `out` its norm."""
    outputs = [out, "", "", total] if total else [out]
    node("SkipSimplifiedLayerNormalization", [x, y, norm], outputs, MICROSOFT, epsilon=eps)
    return out


inputs = [
    value("input_ids", ["batch_size", "sequence_length"], TensorProto.INT64),
    value("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64),
    value("num_logits_to_keep", [], TensorProto.INT64),
]
outputs = [value("logits", ["batch_size", "n_logits", len(vocab)])]

zero, one = constant("zero", np.array([0], np.int64)), constant("one", np.array([1], np.int64))
node("ReduceSum", ["attention_mask", one], "n_seen", keepdims=0)
node("Cast", [node("Sub", ["n_seen", one], "last_seen")], "seqlens_k", to=TensorProto.INT32)
node("Shape", ["attention_mask"], "mask_shape")
node("Gather", ["mask_shape", constant("second", np.array(1, np.int64))], "n_total_64", axis=0)
node("Cast", ["n_total_64"], "n_total", to=TensorProto.INT32)
angles = np.outer(np.arange(context), theta ** (-np.arange(0, head_dim, 2) / head_dim))
rope = [constant("cos", np.cos(angles).astype(np.float32)), constant("sin", np.sin(angles).astype(np.float32))]

x = node("Gather", [constant("embedding", weight("token_embd.weight")), "input_ids"], "embedded", axis=0)
first_norm = constant("0.norm", weight("blk.0.attn_norm.weight"))
normed = node("SimplifiedLayerNormalization", [x, first_norm], "0.normed", axis=-1, epsilon=eps, stash_type=1)
for i in range(n_layers):
    w = lambda name, i=i: weight(f"blk.{i}.{name}.weight")
    q = product(normed, half_apart(w("attn_q"), n_heads), f"{i}.q")
    k = product(normed, half_apart(w("attn_k"), n_kv_heads), f"{i}.k")
    v = product(normed, w("attn_v"), f"{i}.v")
    past, present = ([f"{when}.{i}.{what}" for what in ("key", "value")] for when in ("past_key_values", "present"))
    inputs += [value(name, ["batch_size", n_kv_heads, "past_sequence_length", head_dim]) for name in past]
    outputs += [value(name, ["batch_size", n_kv_heads, "total_sequence_length", head_dim]) for name in present]
    attention = node(
        "GroupQueryAttention", [q, k, v, *past, "seqlens_k", "n_total", *rope], [f"{i}.attention", *present], MICROSOFT,
        num_heads=n_heads, kv_num_heads=n_kv_heads, scale=head_dim**-0.5, local_window_size=-1, do_rotary=1, rotary_interleaved=0,
    )
    out = product(attention, w("attn_output"), f"{i}.o")
    normed = add_and_norm(x, out, constant(f"{i}.ffn_norm", w("ffn_norm")), f"{i}.ffn_normed", f"{i}.middle")
    gate, up = product(normed, w("ffn_gate"), f"{i}.gate"), product(normed, w("ffn_up"), f"{i}.up")
    silu = node("Mul", [gate, node("Sigmoid", [gate], f"{i}.sigmoid")], f"{i}.silu")
    down = product(node("Mul", [silu, up], f"{i}.gated"), w("ffn_down"), f"{i}.down")
    is_last = i + 1 == n_layers
    norm = constant(f"{i + 1}.norm", weight("output_norm.weight" if is_last else f"blk.{i + 1}.attn_norm.weight"))
    normed = add_and_norm(f"{i}.middle", down, norm, f"{i + 1}.normed", None if is_last else f"{i}.out")
    x = f"{i}.out"

# The logits of the last positions alone; of all where 0 are asked for.
node("Neg", ["num_logits_to_keep"], "minus_kept")
node("Slice", [normed, node("Unsqueeze", ["minus_kept", zero], "from"), constant("end", np.array([2**63 - 1], np.int64)), one], "kept")
head = np.asarray(tensors["token_embd.weight"].data).view(np.uint8).reshape(len(vocab), hidden // BLOCK, 2 + BLOCK)
scales = head[..., :2].copy().view(np.float16).astype(np.float32).reshape(-1)
node(
    "MatMulNBits", ["kept", constant("head.q", head[..., 2:] ^ 0x80), constant("head.scales", scales)], "logits", MICROSOFT,
    K=hidden, N=len(vocab), bits=8, block_size=BLOCK, accuracy_level=0,
)

graph = helper.make_graph(nodes, "model", inputs, outputs, constants)
opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
(folder / "onnx").mkdir(parents=True, exist_ok=True)
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "onnx" / "model_q4.onnx")


def save(name, content):
    (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1))


bos, eos, unknown, pad = (meta[f"tokenizer.ggml.{which}_token_id"] for which in ("bos", "eos", "unknown", "padding"))
control = [i for i, kind in enumerate(meta["tokenizer.ggml.token_type"]) if kind == gguf.TokenType.CONTROL]
byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
save("tokenizer.json", {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None, "decoder": byte_level,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
    "added_tokens": [
        {"id": i, "content": vocab[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i in control
    ],
    "model": {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(vocab)},
        "merges": [merge.split(" ") for merge in meta["tokenizer.ggml.merges"]],
    },
})
save("tokenizer_config.json", {
    "bos_token": vocab[bos], "eos_token": vocab[eos], "unk_token": vocab[unknown], "pad_token": vocab[pad],
    "add_prefix_space": False, "clean_up_tokenization_spaces": False, "model_max_length": context, "tokenizer_class": "GPT2Tokenizer",
})
save("config.json", {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(vocab), "hidden_size": hidden,
    "intermediate_size": mlp, "num_hidden_layers": n_layers, "num_attention_heads": n_heads, "num_key_value_heads": n_kv_heads,
    "head_dim": head_dim, "hidden_act": "silu", "max_position_embeddings": context, "rms_norm_eps": eps, "rope_theta": theta,
    "tie_word_embeddings": True, "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad,
})
save("generation_config.json", {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad})
