//! Every kernel and variant against its twin in [`crate::reference`], at awkward sizes.

mod attention;
mod embed;
mod products;
mod sample;
mod weights;

use crate::gpu::POISON;
use crate::reference::Bounded;
use crate::{Case, Outcome};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = products::cases();
    cases.extend(embed::cases());
    cases.extend(attention::cases());
    cases.extend(sample::cases());
    cases
}

/// What a word of a buffer must be after a dispatch.
#[derive(Clone, Copy)]
enum Want {
    /// These bits: nobody may have written it.
    Kept(u32),
    /// An f32.
    Float(Bounded),
    /// A pair of f16.
    Halves([Bounded; 2]),
}

/// `len` words that nobody may write.
fn untouched(len: usize) -> Vec<Want> {
    vec![Want::Kept(POISON); len]
}

/// Compares a buffer with what it must hold, and its guard. `place` says what a word is. WGSL lets a result too small
/// for a normal f32 become 0.
fn check(what: &str, found: &[u32], wanted: &[Want], place: impl Fn(usize) -> String) -> Outcome {
    if found.len() < wanted.len() {
        return Err(format!("{what}: {} words were read, expected {}", found.len(), wanted.len()));
    }
    let guard = std::iter::repeat(&Want::Kept(POISON));
    let mut n_off = 0;
    let mut worst: Option<(f64, usize, String)> = None;
    let mut note = |severity: f64, at: usize, message: String| {
        n_off += 1;
        if worst.as_ref().is_none_or(|(least, ..)| severity > *least) {
            worst = Some((severity, at, message));
        }
    };
    for (at, (found, want)) in found.iter().zip(wanted.iter().chain(guard)).enumerate() {
        let mut near = |found: f64, want: &Bounded| {
            let difference = (found - want.value).abs();
            // What is not a number is worse than any number.
            if found.is_nan() {
                note(f64::MAX, at, format!("is not a number, expected {:e}", want.value));
            } else if difference > want.error + f64::from(f32::MIN_POSITIVE) {
                let (value, error) = (want.value, want.error);
                let message = format!("is {found:e}, expected {value:e} ± {error:.1e}, off by {difference:.1e}");
                note(difference / error.max(f64::MIN_POSITIVE), at, message);
            }
        };
        match want {
            Want::Kept(bits) if found == bits => {}
            Want::Kept(bits) => {
                let message = format!("was written: it is {found:#010x}, expected {bits:#010x} as before");
                note(f64::INFINITY, at, message);
            }
            Want::Float(want) => near(f64::from(f32::from_bits(*found)), want),
            Want::Halves([low, high]) => {
                near(half(*found as u16), low);
                near(half((*found >> 16) as u16), high);
            }
        }
    }
    match worst {
        None => Ok(()),
        Some((_, at, message)) => {
            let place = if at < wanted.len() { place(at) } else { format!("the guard at {at}") };
            Err(format!("{what}: {place} {message} ({n_off} of {} are wrong)", found.len()))
        }
    }
}

fn half(bits: u16) -> f64 {
    half::f16::from_bits(bits).to_f64()
}
