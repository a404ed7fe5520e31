//! A plan: dispatches recorded once with their bind groups, replayed for every step. What changes between
//! steps is where they find a small uniform, and the size of some grids.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::kernel::Pipeline;
use super::part::Part;
use super::{BINDING_ALIGNMENT, Gpu};

/// The uniform that every kernel of a step reads: `Step` in the shaders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Step {
    /// Position in the context of the step's first token.
    pub pos: u32,
    /// Tokens in the step.
    pub n_tokens: u32,
    /// The row of x that is the step's first token.
    pub first_token: u32,
    /// Cached positions per slice of the attention.
    pub slice_len: u32,
}

impl Step {
    /// Which of the steps in a buffer it is, 256 bytes apart: a single token's is at its position, so that nothing need be
    /// written while decoding, and any other is the last.
    #[must_use]
    pub fn slot(&self, last: u32) -> u32 {
        if self.n_tokens == 1 { self.pos } else { last }
    }

    /// Slices that attention makes of the cache in this step.
    #[must_use]
    pub fn n_slices(&self) -> u32 {
        (self.pos + self.n_tokens).div_ceil(self.slice_len.max(1))
    }
}

/// The number of workgroups along one axis of a grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// The same for every step.
    Fixed(u32),
    /// Blocks of `block` rows, of which every token has `each`.
    Tokens {
        /// Rows a token has.
        each: u32,
        /// Rows a workgroup takes.
        block: u32,
    },
    /// One a slice of the attention.
    Slices,
    /// One a token, and none where attention has one slice.
    TokensIfSliced,
}

impl Extent {
    /// One a token.
    pub const TOKENS: Self = Self::Tokens { each: 1, block: 1 };

    /// How many that are in `step`.
    #[must_use]
    pub fn resolve(self, step: &Step) -> u32 {
        match self {
            Self::Fixed(n) => n,
            Self::Tokens { each, block } => (step.n_tokens * each).div_ceil(block),
            Self::Slices => step.n_slices(),
            Self::TokensIfSliced if step.n_slices() > 1 => step.n_tokens,
            Self::TokensIfSliced => 0,
        }
    }
}

/// What a dispatch reads from memory and computes at least, for the traffic and arithmetic of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Which of the things that its kernel can do.
    pub role: &'static str,
    /// Bytes read in any step.
    pub bytes: u64,
    /// Bytes read for every position in the cache.
    pub bytes_per_position: u64,
    /// Floating-point operations for every token.
    pub flops_per_token: u64,
    /// Floating-point operations for every token and every position that it sees.
    pub flops_per_sight: u64,
}

impl Work {
    /// Bytes read in `step`.
    #[must_use]
    pub fn bytes(&self, step: &Step) -> u64 {
        self.bytes + self.bytes_per_position * u64::from(step.pos + step.n_tokens)
    }

    /// Floating-point operations in `step`.
    #[must_use]
    pub fn flops(&self, step: &Step) -> u64 {
        let (pos, n) = (u64::from(step.pos), u64::from(step.n_tokens));
        self.flops_per_token * n + self.flops_per_sight * (n * pos + n * (n + 1) / 2)
    }
}

/// Most bindings of a kernel whose offsets change: the step, the parameters, and four of storage, which WebGPU allows.
const MAX_OFFSETS: usize = 6;

/// What a dispatch is bound to.
#[derive(Clone, Debug)]
pub struct Bound {
    group: wgpu::BindGroup,
    offsets: [u32; MAX_OFFSETS],
    n_offsets: usize,
    /// Of a dispatch that reads its step from a buffer of many: that of longer steps.
    last_slot: Option<u32>,
}

/// Bind groups. What wgpu does for a dispatch grows with the number of those that there are, since a processor's caches
/// hold few: layers share one, and have other offsets, as far as their matrices share a buffer.
#[derive(Debug, Default)]
pub struct Groups {
    made: HashMap<(String, Vec<Part>), wgpu::BindGroup>,
}

impl Groups {
    /// Binds parts of buffers to a kernel, in the order of its bindings.
    ///
    /// # Panics
    ///
    /// When more of them than six may have other offsets: kernels do not.
    pub fn bind<P: Borrow<Part>>(
        &mut self,
        gpu: &Gpu,
        pipeline: &Pipeline,
        parts: impl IntoIterator<Item = P>,
    ) -> Bound {
        let mut parts: Vec<Part> = parts.into_iter().map(|part| part.borrow().clone()).collect();
        let (mut offsets, mut n_offsets) = ([0; MAX_OFFSETS], 0);
        for (part, is_dynamic) in parts.iter_mut().zip(pipeline.have_offsets()) {
            if is_dynamic {
                offsets[n_offsets] = std::mem::take(&mut part.offset) as u32;
                n_offsets += 1;
            }
        }
        let made = self.made.entry((pipeline.label.clone(), parts));
        let group = match made {
            Entry::Occupied(group) => group.get().clone(),
            Entry::Vacant(place) => {
                let group = pipeline.bind(gpu, place.key().1.iter().map(Part::binding));
                place.insert(group).clone()
            }
        };
        Bound { group, offsets, n_offsets, last_slot: None }
    }
}

/// One recorded dispatch.
#[derive(Debug)]
pub struct Dispatch {
    /// What it reads and computes.
    pub work: Work,
    /// The kernel.
    pub pipeline: Rc<Pipeline>,
    /// Its buffers.
    pub group: Bound,
    /// Its workgroups along x, y and z.
    pub grid: [Extent; 3],
}

/// Dispatches in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The dispatches.
    pub dispatches: Vec<Dispatch>,
    /// What can be read between them.
    pub taps: Vec<Tap>,
}

/// An activation, and when it is there.
#[derive(Debug)]
pub struct Tap {
    /// What it is called.
    pub name: String,
    /// How many dispatches come before.
    pub n_dispatches: usize,
    /// `[n_tokens, stride]` f32, of which the first `width` of a row are it.
    pub buffer: wgpu::Buffer,
    /// Its numbers for a token.
    pub width: usize,
    /// Numbers from one token to the next.
    pub stride: usize,
}

impl Dispatch {
    /// The kernel's label with its role.
    #[must_use]
    pub fn label(&self) -> String {
        let (label, role) = (&self.pipeline.label, self.work.role);
        if role.is_empty() { label.clone() } else { format!("{label} {role}") }
    }

    /// Its workgroups in `step`; none where there is nothing to do.
    #[must_use]
    pub fn workgroups(&self, step: &Step) -> Option<[u32; 3]> {
        let grid = self.grid.map(|extent| extent.resolve(step));
        grid.iter().all(|n| *n > 0).then_some(grid)
    }

    /// Encodes its first workgroup.
    pub fn encode_one(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.compiled);
        self.encode_grid(pass, [1; 3], &self.group.offsets);
    }

    fn encode_grid(&self, pass: &mut wgpu::ComputePass<'_>, [x, y, z]: [u32; 3], offsets: &[u32; MAX_OFFSETS]) {
        pass.set_bind_group(0, &self.group.group, &offsets[..self.group.n_offsets]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Encodes those of the dispatches that are not empty in `step`; returns how many there were.
pub fn encode<'a>(
    pass: &mut wgpu::ComputePass<'_>,
    dispatches: impl IntoIterator<Item = &'a Dispatch>,
    step: &Step,
) -> usize {
    let mut n_dispatches = 0;
    // Neighbours that share it, as products of software adapters do, have it set once.
    let mut last: Option<&Rc<Pipeline>> = None;
    for dispatch in dispatches {
        let Some(grid) = dispatch.workgroups(step) else { continue };
        if !last.replace(&dispatch.pipeline).is_some_and(|last| Rc::ptr_eq(last, &dispatch.pipeline)) {
            pass.set_pipeline(&dispatch.pipeline.compiled);
        }
        let mut offsets = dispatch.group.offsets;
        if let Some(last) = dispatch.group.last_slot {
            offsets[0] = step.slot(last) * BINDING_ALIGNMENT as u32;
        }
        dispatch.encode_grid(pass, grid, &offsets);
        n_dispatches += 1;
    }
    n_dispatches
}

impl Plan {
    /// Encodes the dispatches that are not empty in `step`; returns how many there were.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step) -> usize {
        encode(pass, &self.dispatches, step)
    }

    /// Has all dispatches find their step in a buffer of many, whose last is for those of several tokens: see [`Step::slot`].
    pub fn set_slots(&mut self, last: u32) {
        for dispatch in self.dispatches.iter_mut().filter(|dispatch| dispatch.pipeline.has_step()) {
            dispatch.group.last_slot = Some(last);
        }
    }

    /// Notes that what was recorded so far computes an activation, in rows of `width` that are `stride` apart.
    pub fn add_tap(&mut self, name: String, buffer: &wgpu::Buffer, width: usize, stride: usize) {
        self.taps.push(Tap { name, n_dispatches: self.dispatches.len(), buffer: buffer.clone(), width, stride });
    }

    /// The activation of that name.
    #[must_use]
    pub fn tap(&self, name: &str) -> Option<&Tap> {
        self.taps.iter().find(|tap| tap.name == name)
    }
}
