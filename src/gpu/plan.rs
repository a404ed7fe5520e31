//! A plan: dispatches recorded once with their bind groups, replayed for every step. What changes between
//! steps is a small uniform and the size of some grids.

use std::rc::Rc;

use super::kernel::Pipeline;

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

    fn resolve(self, step: &Step) -> u32 {
        match self {
            Self::Fixed(n) => n,
            Self::Tokens { each, block } => (step.n_tokens * each).div_ceil(block),
            Self::Slices => step.n_slices(),
            Self::TokensIfSliced if step.n_slices() > 1 => step.n_tokens,
            Self::TokensIfSliced => 0,
        }
    }
}

/// One recorded dispatch.
#[derive(Debug)]
pub struct Dispatch {
    /// The kernel.
    pub pipeline: Rc<Pipeline>,
    /// Its bind groups, in order.
    pub groups: Vec<wgpu::BindGroup>,
    /// Its workgroups along x, y and z.
    pub grid: [Extent; 3],
}

/// Dispatches in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The dispatches.
    pub dispatches: Vec<Dispatch>,
}

impl Plan {
    /// Encodes the dispatches that are not empty in `step`; returns how many there were.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step) -> usize {
        let mut n_dispatches = 0;
        for dispatch in &self.dispatches {
            let [x, y, z] = dispatch.grid.map(|extent| extent.resolve(step));
            if x == 0 || y == 0 || z == 0 {
                continue;
            }
            pass.set_pipeline(&dispatch.pipeline.compiled);
            for (group, index) in dispatch.groups.iter().zip(0..) {
                pass.set_bind_group(index, group, &[]);
            }
            pass.dispatch_workgroups(x, y, z);
            n_dispatches += 1;
        }
        n_dispatches
    }
}
