// Chooses the next token from the logits of one position, as `src/sampler.rs` does and with the same draws: logit
// bias, penalties, temperature, top-k, top-p, min-p, draw.
//
// One workgroup. Only the most probable tokens are sorted: those in the first bins of a histogram that together hold
// at most `MOST`. Where the choice depends on others (a nearly flat distribution), it is left to the host: the kernel
// says so instead of choosing. All cuts and draws are made by one thread over what is sorted, mostly some dozens.

override THREADS: u32 = 256u;
override BINS: u32 = 512u;

const MOST = 1024u;
const LOWEST = -30.0;   // e^-30 of the best is beyond what a draw of 24 bits can tell from nothing

// Instead of an id.
const UNDECIDED = 0xffffffffu;
const NONSENSE = 0xfffffffeu;

// In `counts`: the token is in the prompt or the text; the other bits count how often it was generated.
const SEEN = 0x80000000u;

struct Params {
  vocab_size: u32,
  has_penalties: u32,
  top_k: u32,
  temperature: f32,
  top_p: f32,
  min_p: f32,
  repetition: f32,
  presence: f32,
  frequency: f32,
  seed_low: u32,
  seed_high: u32,
  unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<vec4<u32>>;   // [vocab_size] f32, as bits to find NaN among; then anything
@group(0) @binding(2) var<storage, read> biases: array<f32>;         // [vocab_size]
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;   // [vocab_size]
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;      // the first: the next step's token
@group(0) @binding(5) var<storage, read_write> pick: array<u32>;     // id, its log-probability (or the first NaN's id), how many were drawn, room to sort

// In `pick`: how many tokens were chosen before with this seed, which is counted here so that the host need not write
// it; what is sorted, and the same in order, MOST pairs of a weight's logarithm (in order, the weight) and an id. Those
// are not in workgroup memory, which some software adapters take a millisecond to compile for every two numbers of.
const N_DRAWN = 2u;
const UNSORTED = 4u;
const SORTED = UNSORTED + 2u * MOST;

// What is found over all threads.
var<workgroup> values: array<f32, THREADS>;  // the best, then the sums of the normaliser
var<workgroup> best_ids: array<u32, THREADS>;
var<workgroup> largest: array<f32, THREADS>;
var<workgroup> bad_ids: array<u32, THREADS>;
var<workgroup> weight_sums: array<f32, THREADS>;
var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> n_bins: u32;
var<workgroup> n_sorted: atomic<u32>;

fn logit_at(id: u32) -> u32 {
  return logits[id / 4u][id % 4u];
}

// The logit of a token, given as bits, after penalties.
fn penalised(id: u32, bits: u32) -> f32 {
  var logit = bitcast<f32>(bits);
  if params.has_penalties == 0u {
    return logit;
  }
  logit += biases[id];
  let count = counts[id];
  if count != 0u {
    logit = select(logit * params.repetition, logit / params.repetition, logit > 0.0);
    if count != SEEN {
      logit -= params.presence + params.frequency * f32(count & ~SEEN);
    }
  }
  return logit;
}

// NaN or infinite. Compilers may take it that no float is.
fn is_no_number(bits: u32) -> bool {
  return (bits & 0x7f800000u) == 0x7f800000u;
}

fn bin_of(scaled: f32) -> u32 {
  return min(u32(scaled * (f32(BINS) / LOWEST)), BINS - 1u);
}

// `uniform` of src/sampler.rs.
fn pcg(input: u32) -> u32 {
  let state = input * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn uniform_draw() -> f32 {
  let hash = pcg(params.seed_low ^ pcg(params.seed_high ^ pcg(pick[N_DRAWN])));
  return f32(hash >> 8u) / 16777216.0;
}

fn weight_at(place: u32) -> f32 {
  return bitcast<f32>(pick[SORTED + 2u * place]);
}

fn id_at(place: u32) -> u32 {
  return pick[SORTED + 2u * place + 1u];
}

// The choice among the sorted tokens, `n` of the `n_total` that are probable at all, whose weights sum to `total`.
fn choose(n: u32, n_total: u32, total: f32) -> u32 {
  let is_complete = n == n_total;
  let has_top_k = params.top_k > 0u;
  let limit = select(n, min(params.top_k, n), has_top_k);
  let is_cut = has_top_k && params.top_k <= n;
  if !is_complete && has_top_k && !is_cut {
    return UNDECIDED;
  }
  var sum = total;
  if is_cut {
    sum = 0.0;
    for (var i = 0u; i < limit; i++) {
      sum += weight_at(i);
    }
  }
  var mass = 0.0;
  var n_kept = 0u;
  for (; n_kept < limit; n_kept++) {
    let weight = weight_at(n_kept);
    if n_kept > 0u && (mass >= params.top_p * sum || weight < params.min_p) {
      break;
    }
    mass += weight;
  }
  // Where no cut came, tokens that are not sorted are kept too: all of them, or an unknown number.
  let is_open = n_kept == limit && !is_complete && !is_cut;
  if is_open && (params.top_p < 1.0 || params.min_p > 0.0) {
    return UNDECIDED;
  }
  var rest = uniform_draw() * select(mass, sum, is_open);
  for (var i = 0u; i < n_kept; i++) {
    rest -= weight_at(i);
    if rest < 0.0 {
      return id_at(i);
    }
  }
  return select(id_at(n_kept - 1u), UNDECIDED, is_open);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
  // The best, and of equal ones the first; the largest logit before penalties; the first that is no number.
  let n_vecs = (params.vocab_size + 3u) / 4u;
  var best_value = -3.0e38;
  var best_id = params.vocab_size - 1u;
  var largest_here = -3.0e38;
  var bad_id = params.vocab_size;
  for (var at = thread; at < n_vecs; at += THREADS) {
    let four = logits[at];
    for (var id = 4u * at; id < min(4u * at + 4u, params.vocab_size); id++) {
      let bits = four[id % 4u];
      if is_no_number(bits) {
        bad_id = min(bad_id, id);
      }
      largest_here = max(largest_here, bitcast<f32>(bits));
      let value = penalised(id, bits);
      if value > best_value {
        best_value = value;
        best_id = id;
      }
    }
  }
  values[thread] = best_value;
  best_ids[thread] = best_id;
  largest[thread] = largest_here;
  bad_ids[thread] = bad_id;
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if thread < half {
      let other = thread + half;
      let is_better = values[other] > values[thread];
      if is_better || (values[other] == values[thread] && best_ids[other] < best_ids[thread]) {
        values[thread] = values[other];
        best_ids[thread] = best_ids[other];
      }
      largest[thread] = max(largest[thread], largest[other]);
      bad_ids[thread] = min(bad_ids[thread], bad_ids[other]);
    }
  }
  // Of the log-probability's normaliser; and of the weights that are drawn by, with a histogram of their logarithms.
  let is_drawn = params.temperature > 0.0;
  for (var bin = thread; bin < BINS; bin += THREADS) {
    atomicStore(&bins[bin], 0u);
  }
  if thread == 0u {
    atomicStore(&n_sorted, 0u);
  }
  workgroupBarrier();
  let best = best_ids[0];
  let top = penalised(best, logit_at(best));
  var exp_sum = 0.0;
  var weight_sum = 0.0;
  for (var at = thread; at < n_vecs; at += THREADS) {
    let four = logits[at];
    for (var id = 4u * at; id < min(4u * at + 4u, params.vocab_size); id++) {
      let bits = four[id % 4u];
      exp_sum += exp(bitcast<f32>(bits) - largest[0]);
      if is_drawn {
        let scaled = (penalised(id, bits) - top) / params.temperature;
        if scaled >= LOWEST {
          weight_sum += exp(scaled);
          atomicAdd(&bins[bin_of(scaled)], 1u);
        }
      }
    }
  }
  values[thread] = exp_sum;
  weight_sums[thread] = weight_sum;
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if thread < half {
      values[thread] += values[thread + half];
      weight_sums[thread] += weight_sums[thread + half];
    }
  }

  // As many of the first bins as can be sorted, and no more than top-k needs.
  var n_total = 0u;
  if thread == 0u {
    var n = 0u;
    var is_full = false;
    n_bins = 0u;
    for (var bin = 0u; bin < BINS; bin++) {
      let count = atomicLoad(&bins[bin]);
      n_total += count;
      is_full = is_full || n + count > MOST || (params.top_k > 0u && n >= params.top_k);
      if !is_full {
        n += count;
        n_bins = bin + 1u;
      }
    }
  }
  workgroupBarrier();
  if is_drawn {
    for (var at = thread; at < n_vecs; at += THREADS) {
      let four = logits[at];
      for (var id = 4u * at; id < min(4u * at + 4u, params.vocab_size); id++) {
        let scaled = (penalised(id, four[id % 4u]) - top) / params.temperature;
        if scaled >= LOWEST && bin_of(scaled) < n_bins {
          let place = atomicAdd(&n_sorted, 1u);
          if place < MOST {
            pick[UNSORTED + 2u * place] = bitcast<u32>(scaled);
            pick[UNSORTED + 2u * place + 1u] = id;
          }
        }
      }
    }
  }
  storageBarrier();
  workgroupBarrier();

  // Every token goes to the place that is the number of those before it: more probable, or as probable and earlier.
  let n = min(atomicLoad(&n_sorted), MOST);
  for (var at = thread; at < n; at += THREADS) {
    let value = bitcast<f32>(pick[UNSORTED + 2u * at]);
    let id = pick[UNSORTED + 2u * at + 1u];
    var place = 0u;
    for (var other = 0u; other < n; other++) {
      let other_value = bitcast<f32>(pick[UNSORTED + 2u * other]);
      place += u32(other_value > value || (other_value == value && pick[UNSORTED + 2u * other + 1u] < id));
    }
    pick[SORTED + 2u * place] = bitcast<u32>(exp(value));
    pick[SORTED + 2u * place + 1u] = id;
  }
  storageBarrier();

  if thread == 0u {
    var id = best;
    if is_drawn {
      id = UNDECIDED;
      if n > 0u {
        id = choose(n, n_total, weight_sums[0]);
      }
    }
    let first_bad = bad_ids[0];
    if first_bad < params.vocab_size {
      id = NONSENSE;
    }
    // What follows an undecided step is computed in vain, but with an id that exists.
    let next = select(id, best, id >= params.vocab_size);
    if params.has_penalties != 0u {
      counts[next] = (counts[next] | SEEN) + 1u;
    }
    ids[0] = next;
    pick[0] = id;
    let logprob = bitcast<f32>(logit_at(next)) - largest[0] - log(values[0]);
    pick[N_DRAWN] += 1u;
    pick[1] = select(bitcast<u32>(logprob), first_bad, id == NONSENSE);
  }
}
