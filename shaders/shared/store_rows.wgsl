// The end of rows.wgsl and rows_i8.wgsl: all that a thread computed, to its epilogue. SwiftShader goes through both sides
// of an `if`, for every pair, but leaves out a loop of no rounds: so the epilogue is chosen by those.

// [TOKENS, PAIRS]
var<private> results: array<vec2f, 32>;

fn store_rows(first_token: u32, first_pair: u32) {
  let n_tokens = min(TOKENS, step.n_tokens - first_token);
  let n_pairs = min(PAIRS, max(params.n_pairs, first_pair) - first_pair);
  for (var is_due = epilogue() == QKV; is_due; is_due = false) {
    for (var t = 0u; t < n_tokens; t++) {
      for (var pair = 0u; pair < n_pairs; pair++) {
        store_qkv(first_token + t, first_pair + pair, results[t * PAIRS + pair]);
      }
    }
  }
  for (var is_due = epilogue() == GATE_UP; is_due; is_due = false) {
    for (var t = 0u; t < n_tokens; t++) {
      for (var pair = 0u; pair < n_pairs; pair++) {
        store_gate_up(first_token + t, first_pair + pair, results[t * PAIRS + pair]);
      }
    }
  }
  for (var is_due = epilogue() < GATE_UP; is_due; is_due = false) {
    for (var t = 0u; t < n_tokens; t++) {
      for (var pair = 0u; pair < n_pairs; pair++) {
        store_plain(first_token + t, first_pair + pair, results[t * PAIRS + pair]);
      }
    }
  }
}
