#!/usr/bin/env python3
"""Writes goldens/: small random checkpoints, and the logits that transformers computes from them in float32.

    python3 -m venv /tmp/goldvenv
    /tmp/goldvenv/bin/pip install torch==2.11.0 transformers==5.24.0 gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6
    /tmp/goldvenv/bin/python tests/data/make_goldens.py [NAME]…      # all of them without a name

Each folder of goldens/ is a model as users have them: config.json with one or more .safetensors, or one
model.gguf. Beside it lie

- logits.bin: little-endian float32 [n, vocab_size], row t from ids[0..=t];
- expected.json: n, vocab_size, ids, a note on what is special here, and for choosing a tolerance
  `wrong_rope_diff` and `kv_f16_diff`: by how much the logits move (largest |difference|) with the other
  RoPE pairing, and with keys and values rounded to f16. One folder also has `text` and `text_ids`.

The reference is the saved file, read back and widened to float32; for a GGUF, its weights as the `gguf` package
decodes them. So a difference is the engine's arithmetic, never the quantisation.

Weights are drawn so that attention is peaked and the logits spread: any of the mistakes listed in `mistakes`
then moves some logit by more than VISIBLE, which is asserted, as an engine must not pass by luck. Same seeds,
same weights; the last bits of the logits depend on the machine's matrix product.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGUFWriter
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from make_smollm2 import checkpoint_name, llama_from_gguf, to_pairs, tokenizer_from_gguf
from transformers import AutoModelForCausalLM, HeliumConfig, HeliumForCausalLM, LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).parent / "goldens"
N_IDS = 70  # past 64, the usual workgroup, and no multiple of a tile
VISIBLE = 0.5
MAX_BYTES = 5_000_000


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model; head_dim is free of hidden / heads."""

    vocab: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    layers: int
    theta: float
    eps: float
    tied: bool = False


# ---- Weights ------------------------------------------------------------------------------------------------

# Standard deviation of a product's result for an input of unit variance: scores spread by about 2, logits by 3.
GAIN = {"attn_q": 1.5, "attn_k": 1.4, "attn_v": 1.0, "attn_output": 1.0, "ffn_gate": 1.5, "ffn_up": 1.0,
        "ffn_down": 1.0, "output": 3.0}
EMBEDDING_STD = 0.6


def tensors(shape: Shape) -> dict[str, tuple[tuple[int, ...], float]]:
    """Every tensor under its GGUF name: its shape, and the spread of its weights (0: a norm)."""
    d, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rows_cols = {
        "attn_norm": (d,), "attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q),
        "ffn_norm": (d,), "ffn_gate": (shape.mlp, d), "ffn_up": (shape.mlp, d), "ffn_down": (d, shape.mlp),
    }
    # A tied embedding is the output product too.
    all_of_them = {"token_embd": ((shape.vocab, d), GAIN["output"] / d**0.5 if shape.tied else EMBEDDING_STD)}
    for layer in range(shape.layers):
        for name, dims in rows_cols.items():
            spread = GAIN[name] / dims[1] ** 0.5 if name in GAIN else 0.0
            all_of_them[f"blk.{layer}.{name}"] = (dims, spread)
    all_of_them["output_norm"] = ((d,), 0.0)
    if not shape.tied:
        all_of_them["output"] = ((shape.vocab, d), GAIN["output"] / d**0.5)
    return {f"{name}.weight": drawn for name, drawn in all_of_them.items()}


def draw(rng: np.random.Generator, dims: tuple[int, ...], spread: float) -> np.ndarray:
    if spread == 0.0:
        return rng.uniform(0.6, 1.4, dims).astype(np.float32)
    return rng.normal(0, spread, dims).astype(np.float32)


def draw_ids(rng: np.random.Generator, vocab: int) -> list[int]:
    """Random ids with the ends of the vocabulary, a run of one id, and a passage that comes twice."""
    ids = rng.integers(0, vocab, N_IDS)
    ids[0], ids[20], ids[21] = 1, 0, vocab - 1
    ids[30:34] = ids[29]
    ids[45:57] = ids[5:17]
    return ids.tolist()


# ---- Mistakes, which the logits must show -------------------------------------------------------------------


def forward(
    model, ids: list[int], *, pairs: bool, theta: float, eps: float, turn: int = 1, ahead: int = 0,
    group_by_modulo: bool = False, scale_dim: int = 0, swap_gate: bool = False, kv_f16: bool = False,
) -> torch.Tensor:
    """The same model written out plainly, so that it can be told to err. [len(ids), vocab] float32."""
    cfg, w = model.config, model.state_dict()
    n, heads, kv_heads = len(ids), cfg.num_attention_heads, cfg.num_key_value_heads
    dim = cfg.head_dim
    t = torch.arange(n)
    angle = turn * t[:, None] * theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    cos, sin = angle.cos().float(), angle.sin().float()
    # ahead = 1: a query also sees the next key; -1: only the keys before its own (the first sees itself).
    hidden_from = t[None, :] > (t[:, None] + ahead).clamp(min=0)

    def norm(x, weight):
        return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)

    def rope(x):  # [heads, n, dim]
        a, b = (x[..., 0::2], x[..., 1::2]) if pairs else x.chunk(2, -1)
        a, b = a * cos - b * sin, b * cos + a * sin
        return torch.stack([a, b], -1).flatten(-2) if pairs else torch.cat([a, b], -1)

    def split(x, n_heads):
        return x.view(n, n_heads, dim).transpose(0, 1)

    kv_of = [h % kv_heads if group_by_modulo else h * kv_heads // heads for h in range(heads)]
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(cfg.num_hidden_layers):
        p = {name: w[f"model.layers.{layer}.{name}.weight"] for name in [
            "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]}
        z = norm(x, p["input_layernorm"])
        q = rope(split(z @ p["self_attn.q_proj"].T, heads))
        k = rope(split(z @ p["self_attn.k_proj"].T, kv_heads))
        v = split(z @ p["self_attn.v_proj"].T, kv_heads)
        if kv_f16:
            k, v = k.half().float(), v.half().float()
        scores = q @ k[kv_of].transpose(1, 2) / (scale_dim or dim) ** 0.5
        mixed = scores.masked_fill(hidden_from, -torch.inf).softmax(-1) @ v[kv_of]
        x = x + mixed.transpose(0, 1).reshape(n, -1) @ p["self_attn.o_proj"].T
        z = norm(x, p["post_attention_layernorm"])
        gate, up = z @ p["mlp.gate_proj"].T, z @ p["mlp.up_proj"].T
        if swap_gate:
            gate, up = up, gate
        x = x + (torch.nn.functional.silu(gate) * up) @ p["mlp.down_proj"].T
    return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def mistakes(shape: Shape, pairs: bool) -> dict[str, dict]:
    """What an engine may plausibly get wrong about this shape, as arguments of `forward`."""
    found = {
        "other RoPE pairing": {"pairs": not pairs},
        "RoPE backwards": {"turn": -1},
        "no RoPE": {"turn": 0},
        "theta doubled": {"theta": shape.theta * 2},
        "mask shows the next key": {"ahead": 1},
        "mask hides the own key": {"ahead": -1},
        "gate and up swapped": {"swap_gate": True},
    }
    if 1 < shape.kv_heads < shape.heads:
        found["kv head = h mod kv heads"] = {"group_by_modulo": True}
    if shape.hidden // shape.heads != shape.head_dim:
        found["attention scale from hidden / heads"] = {"scale_dim": shape.hidden // shape.heads}
    if shape.eps > 1e-3:
        found["eps 1e-5"] = {"eps": 1e-5}
    return found


# ---- One golden ---------------------------------------------------------------------------------------------


def write_expected(folder: Path, model, shape: Shape, pairs: bool, ids: list[int], note: str, **more) -> None:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        right = {"pairs": pairs, "theta": shape.theta, "eps": shape.eps}
        twin = (forward(model, ids, **right) - logits).abs().max().item()
        kv_f16 = (forward(model, ids, **right, kv_f16=True) - logits).abs().max().item()
        diffs = {
            name: (forward(model, ids, **{**right, **wrong}) - logits).abs().max().item()
            for name, wrong in mistakes(shape, pairs).items()
        }
    assert logits.dtype == torch.float32 and logits.shape == (len(ids), shape.vocab) and logits.isfinite().all()
    assert twin < 1e-3, f"{folder.name}: `forward` is not this model, differs by {twin}"
    assert 2 < logits.std() < 4.5, f"{folder.name}: logits spread by {logits.std()}"
    for name, diff in diffs.items():
        assert diff > VISIBLE, f"{folder.name}: {name} moves the logits by {diff} only"
    (folder / "logits.bin").write_bytes(logits.numpy().astype("<f4").tobytes())
    expected = {
        "note": note, "n": len(ids), "vocab_size": shape.vocab, "ids": ids,
        "wrong_rope_diff": round(diffs["other RoPE pairing"], 3), "kv_f16_diff": round(kv_f16, 5), **more,
    }
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
    kb = sum(f.stat().st_size for f in folder.iterdir()) / 1000
    least = min(diffs, key=diffs.get)
    print(
        f"| {folder.name} | {kb:.0f} | {logits.std():.2f} | {diffs['other RoPE pairing']:.2f} "
        f"| {diffs[least]:.2f} ({least}) | {kv_f16:.4f} | {twin:.1e} |"
    )


def fresh(name: str) -> Path:
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ---- Checkpoints as transformers saves them -----------------------------------------------------------------


def checkpoint(
    name: str, seed: int, shape: Shape, dtype: torch.dtype, note: str, *, helium: bool = False,
    flat_theta: bool = False, shard_bytes: int = 1 << 30, n_shards: int = 1,
) -> None:
    """Saves a Llama- or Helium-class checkpoint. `flat_theta` respells config.json as before transformers 5."""
    rng = np.random.default_rng(seed)
    folder = fresh(name)
    config = (HeliumConfig if helium else LlamaConfig)(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, max_position_embeddings=256, rms_norm_eps=shape.eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta}, tie_word_embeddings=shape.tied,
        attention_bias=False, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )
    model = (HeliumForCausalLM if helium else LlamaForCausalLM)(config)
    drawn = {checkpoint_name(gguf_name): draw(rng, *how) for gguf_name, how in tensors(shape).items()}
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()}, strict=False)
    assert not unexpected and missing == (["lm_head.weight"] if shape.tied else []), (missing, unexpected)
    model.tie_weights()
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_bytes)
    assert len(list(folder.glob("*.safetensors"))) == n_shards, "choose another shard_bytes"
    (folder / "generation_config.json").unlink(missing_ok=True)
    if flat_theta:
        path = folder / "config.json"
        spelled = json.loads(path.read_text())
        spelled["rope_theta"] = spelled.pop("rope_parameters")["rope_theta"]
        spelled["torch_dtype"] = spelled.pop("dtype")
        path.write_text(json.dumps(spelled, indent=2) + "\n")
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert saved.config.rope_parameters["rope_theta"] == shape.theta
    write_expected(folder, saved, shape, helium, draw_ids(rng, shape.vocab), note)


# ---- GGUF files ---------------------------------------------------------------------------------------------

# Where a block of these types keeps its f16 scale and minimum, and the minimum that centres random quanta:
# minimum / scale = the mean quantum, as sub-block scales and minimums are drawn alike.
K_SCALES = {T.Q2_K: (80, 82, 1.5), T.Q3_K: (108, None, 0), T.Q4_K: (0, 2, 7.5), T.Q5_K: (0, 2, 15.5),
            T.Q6_K: (208, None, 0)}


def k_blocks(rng: np.random.Generator, rows: int, cols: int, kind: T, spread: float) -> np.ndarray:
    """Random valid blocks of a K type, which `gguf` decodes but cannot encode. [rows, bytes of a row]"""
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows, cols // block_len, block_bytes), np.uint8)
    scale_at, min_at, mean_quantum = K_SCALES[kind]
    scale = rng.uniform(0.7, 1.3, raw.shape[:2]) * 2.0**-8

    def decoded() -> np.ndarray:
        for at, value in [(scale_at, scale), (min_at, scale * mean_quantum)]:
            if at is not None:
                raw[:, :, at : at + 2] = value.astype("<f2")[..., None].view(np.uint8)
        return dequantize(raw.reshape(rows, -1), kind)

    scale *= spread / decoded().std()
    assert 0.9 < decoded().std() / spread < 1.1
    return raw.reshape(rows, -1)


# A byte-level vocabulary: 3 special pieces, 256 bytes, 32 merges.
MERGES = (
    "Ġ t|h e|i n|Ġ a|e r|o n|r e|Ġt he|a t|e n|Ġ s|o r|Ġ o|n d|e s|i s|Ġ w|in g|Ġ m|Ġ f|Ġa nd|e d|Ġ l|Ġ c|Ã ©|Î ±|"
    "o u|i t|Ġ h|Ġo f|Ġ in|l i"
).split("|")
TEXT = "The ferry and the gulls: 3,140 of them in 1987, is it? Été à la mer, θάλασσα.\n\n  🙂\tend"


def add_vocabulary(writer: GGUFWriter) -> int:
    """Writes it with BOS wanted before every text; its length."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    special = ["<|unknown|>", "<|begin|>", "<|end|>"]
    pieces = special + letters + [merge.replace(" ", "") for merge in MERGES]
    assert len(set(pieces)) == len(pieces)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * len(special) + [1] * (len(pieces) - len(special)))
    writer.add_token_merges(MERGES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    return len(pieces)


def gguf_file(
    name: str, seed: int, shape: Shape, kinds: T | dict[str, T], note: str, *, vocabulary: bool = False,
    alignment: int = 32,
) -> None:
    """Writes a GGUF as llama.cpp's converter lays it out. `kinds`: one type for all matrices, or one for each."""
    rng = np.random.default_rng(seed)
    folder = fresh(name)
    path = folder / "model.gguf"
    writer = GGUFWriter(path, "llama")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    writer.add_name(name)
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(256)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_freq_base(shape.theta)
    writer.add_rope_dimension_count(shape.head_dim)
    if shape.heads * shape.head_dim != shape.hidden:
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
    if vocabulary:
        assert add_vocabulary(writer) == shape.vocab
    for tensor, (dims, spread) in tensors(shape).items():
        if spread == 0.0:
            writer.add_tensor(tensor, draw(rng, dims, spread))
            continue
        kind = kinds[tensor.removesuffix(".weight")] if isinstance(kinds, dict) else kinds
        if kind in K_SCALES:
            raw = k_blocks(rng, *dims, kind, spread)  # rows are random anyway: no need to permute
        else:
            value = draw(rng, dims, spread)
            if ".attn_q." in tensor or ".attn_k." in tensor:
                value = to_pairs(value, dims[0] // shape.head_dim)
            raw = quantize(value, kind)
        writer.add_tensor(tensor, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model = llama_from_gguf(path)
    more = {}
    if vocabulary:
        tokenizer, prefix = tokenizer_from_gguf(path)
        more = {"text": TEXT, "text_ids": prefix + tokenizer.encode(TEXT).ids}
        assert tokenizer.decode(more["text_ids"]) == TEXT
    # The metadata keeps eps as f32.
    shape = Shape(**{**shape.__dict__, "eps": float(np.float32(shape.eps))})
    write_expected(folder, model, shape, False, draw_ids(rng, shape.vocab), note, **more)


# ---- All of them --------------------------------------------------------------------------------------------

# Every K type, and the 5-bit ones, each in a place where another product or epilogue reads it.
MIXED = {
    "token_embd": T.Q4_K, "output": T.Q6_K,
    "blk.0.attn_q": T.Q2_K, "blk.0.attn_k": T.Q3_K, "blk.0.attn_v": T.Q6_K, "blk.0.attn_output": T.Q5_0,
    "blk.0.ffn_gate": T.Q4_K, "blk.0.ffn_up": T.Q5_K, "blk.0.ffn_down": T.Q5_1,
    "blk.1.attn_q": T.Q4_K, "blk.1.attn_k": T.Q4_K, "blk.1.attn_v": T.Q5_K, "blk.1.attn_output": T.Q3_K,
    "blk.1.ffn_gate": T.Q5_0, "blk.1.ffn_up": T.Q2_K, "blk.1.ffn_down": T.Q6_K,
}

GOLDENS = {
    "llama_bf16": lambda name: checkpoint(
        name, 1, Shape(515, 64, 4, 2, 16, 172, 3, theta=50_000.0, eps=1e-8), torch.bfloat16,
        "Llama class, bf16, one file, theta inside rope_parameters, untied, grouped heads",
    ),
    "llama_f16_gqa": lambda name: checkpoint(
        name, 2, Shape(301, 96, 6, 2, 20, 100, 2, theta=20_000.0, eps=1e-6, tied=True), torch.float16,
        "Llama class, f16, tied, head_dim 20 though hidden / heads is 16, flat rope_theta", flat_theta=True,
    ),
    "helium_bf16": lambda name: checkpoint(
        name, 3, Shape(389, 64, 4, 4, 16, 144, 2, theta=100_000.0, eps=1e-8), torch.bfloat16,
        "Helium class (adjacent RoPE pairs), bf16, as many kv heads as heads, flat rope_theta, as the preview",
        helium=True, flat_theta=True,
    ),
    "helium_f32_gqa": lambda name: checkpoint(
        name, 4, Shape(261, 48, 4, 2, 12, 80, 3, theta=20_000.0, eps=1e-6), torch.float32,
        "Helium class, f32, grouped heads, three shards and an index", helium=True,
        shard_bytes=130_000, n_shards=3,
    ),
    "heads5": lambda name: checkpoint(
        name, 5, Shape(259, 60, 5, 1, 12, 100, 2, theta=10_000.0, eps=0.05), torch.float32,
        "Llama class, f32, 5 heads on 1 kv head, no dimension a power of two, an eps that shows",
    ),
    "gguf_F32": lambda name: gguf_file(
        name, 11, Shape(291, 64, 4, 4, 16, 64, 2, theta=10_000.0, eps=1e-5), T.F32, "all F32, no vocabulary",
    ),
    "gguf_F16": lambda name: gguf_file(
        name, 12, Shape(291, 64, 4, 2, 16, 160, 2, theta=20_000.0, eps=1e-8), T.F16,
        "F16 matrices, a byte-level vocabulary (pre smollm) that wants BOS", vocabulary=True,
    ),
    "gguf_BF16": lambda name: gguf_file(
        name, 13, Shape(291, 80, 5, 1, 24, 96, 2, theta=20_000.0, eps=1e-6), T.BF16,
        "BF16 matrices, key_length 24 with 5 heads, so attention is 120 wide where hidden is 80",
    ),
    "gguf_Q8_0": lambda name: gguf_file(
        name, 14, Shape(291, 96, 3, 3, 32, 160, 2, theta=100_000.0, eps=1e-5, tied=True), T.Q8_0,
        "Q8_0 matrices, tied: no output.weight",
    ),
    "gguf_Q4_0": lambda name: gguf_file(
        name, 15, Shape(515, 96, 6, 2, 16, 160, 2, theta=20_000.0, eps=1e-6), T.Q4_0,
        "Q4_0 matrices, general.alignment 64", alignment=64,
    ),
    "gguf_Q4_1": lambda name: gguf_file(
        name, 16, Shape(291, 64, 2, 1, 32, 160, 2, theta=20_000.0, eps=1e-6), T.Q4_1, "Q4_1 matrices",
    ),
    "gguf_K": lambda name: gguf_file(
        name, 17, Shape(291, 256, 8, 2, 32, 512, 2, theta=20_000.0, eps=1e-6), MIXED,
        "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q5_0 and Q5_1 in one file; Q6_K scales inside the layers are subnormal f16",
    ),
}


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(GOLDENS)
    print("| folder | KB | logits std | other RoPE pairing | least visible mistake | f16 KV | twin |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        GOLDENS[name](name)
    total = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file())
    print(f"\n{total} bytes in all")
    assert total < MAX_BYTES


if __name__ == "__main__":
    main()
