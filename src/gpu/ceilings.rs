//! What the device can do at most, measured: how fast it copies, and how fast it multiplies and adds.

use super::Gpu;
use super::kernel::Kernel;
use super::part::whole;
use super::plan::{Dispatch, Extent, Groups, Step, Work};
use crate::error::Result;

/// Bytes of a copy: more than caches hold, and within any buffer limit.
const COPY_BYTES: u64 = 128 << 20;
/// Bytes that a workgroup of `copy.wgsl` copies.
const COPY_WORKGROUP_BYTES: u64 = 256 * 16;

/// Threads that multiply, on a GPU and where the processor does, rounds of each, and operations of a round.
const THREADS: u32 = 1 << 18;
const SOFTWARE_THREADS: u32 = 1 << 14;
const ROUNDS: u32 = 256;
const FLOPS_PER_ROUND: u32 = 2 * 64;

/// Seconds of work between two waits, at least: what submitting and waiting take is little of it.
const SECONDS: f64 = 0.02;

/// The ceiling is the best of so many.
const RUNS: usize = 5;

impl Gpu {
    /// The best rate of a copy from buffer to buffer, by a command or a kernel, in GB/s of bytes read; it writes as many.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`], and what else the device reported.
    pub async fn copy_gbps(&self) -> Result<f64> {
        use wgpu::BufferUsages as Usage;
        let guard = self.guard();
        let from = self.uncounted("copy", COPY_BYTES, Usage::COPY_SRC | Usage::STORAGE);
        let to = self.uncounted("copy", COPY_BYTES, Usage::COPY_DST | Usage::STORAGE);
        let grid = [(COPY_BYTES / COPY_WORKGROUP_BYTES) as u32, 1, 1];
        let kernel = self.dispatch(&Kernel::copy(), &[&from, &to], grid).await;
        let by_command = async |n: u32| {
            let encode = |encoder: &mut wgpu::CommandEncoder| {
                for _ in 0..n {
                    encoder.copy_buffer_to_buffer(&from, 0, &to, 0, COPY_BYTES);
                }
            };
            self.clocked(&encode).await
        };
        let rates = [best_rate(by_command).await, best_rate(async |n| self.run(&kernel, n).await).await];
        from.destroy();
        to.destroy();
        guard.finish().await?;
        let [by_command, by_kernel] = rates;
        Ok(by_command?.max(by_kernel?) * COPY_BYTES as f64 / 1e9)
    }

    /// The best rate of multiplications and additions in f32, in GFLOP/s.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub async fn gflops(&self) -> Result<f64> {
        let n_threads = if self.is_software() { SOFTWARE_THREADS } else { THREADS };
        let y = self.uncounted("multiply_add", u64::from(n_threads) * 16, wgpu::BufferUsages::STORAGE);
        let kernel = self.dispatch(&Kernel::multiply_add(ROUNDS), &[&y], [n_threads / 64, 1, 1]).await;
        let rate = best_rate(async |n| self.run(&kernel, n).await).await;
        y.destroy();
        Ok(rate? * f64::from(n_threads) * f64::from(ROUNDS) * f64::from(FLOPS_PER_ROUND) / 1e9)
    }

    async fn dispatch(&self, kernel: &Kernel, buffers: &[&wgpu::Buffer], grid: [u32; 3]) -> Dispatch {
        let pipeline = self.pipeline(kernel);
        self.compiled().await;
        let group = Groups::default().bind(self, &pipeline, buffers.iter().copied().map(whole));
        Dispatch { work: Work::default(), pipeline, group, grid: grid.map(Extent::Fixed) }
    }

    /// Seconds that a dispatch takes so many times: by timestamps where there are any, since a browser may tell late that
    /// something is done.
    async fn run(&self, dispatch: &Dispatch, n: u32) -> Result<f64> {
        let passes = [(Step::default(), vec![dispatch; n as usize])];
        let seconds = if self.offer().timestamps { self.time(&passes).await? } else { self.clock(&passes).await? };
        Ok(seconds.iter().sum::<f64>().max(f64::EPSILON))
    }

    /// A buffer that [`Gpu::allocated_bytes`] leaves out: the caller destroys it.
    pub(crate) fn uncounted(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let label = Some(label);
        self.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    }
}

/// How often a second the device does what takes `seconds` so many times.
async fn best_rate(seconds: impl AsyncFn(u32) -> Result<f64>) -> Result<f64> {
    // The first clears buffers and finishes compiling, too.
    seconds(1).await?;
    let mut n = 1;
    while seconds(n).await? < SECONDS && n < 1 << 12 {
        n *= 2;
    }
    let mut fastest = f64::INFINITY;
    for _ in 0..RUNS {
        fastest = fastest.min(seconds(n).await?);
    }
    Ok(f64::from(n) / fastest)
}
