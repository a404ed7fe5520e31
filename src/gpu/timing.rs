//! Dispatches enter, how long each took on the device leaves: timestamps at either end of passes, or the clock.

use web_time::Instant;

use super::Gpu;
use super::plan::{Dispatch, Step, encode};
use crate::error::Result;

/// Most passes that are timed at once: WebGPU allows 4096 queries in a set.
const MAX_PASSES: usize = 2048;

impl Gpu {
    /// Runs dispatches, each group in a pass of its own; returns the seconds that each took. Browsers may round them to 0.1 ms. Without timestamps ([`super::device::Offer`]) all are 0.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub async fn time(&self, passes: &[(Step, Vec<&Dispatch>)]) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(passes.len());
        for passes in passes.chunks(MAX_PASSES) {
            seconds.extend(self.time_at_once(passes).await?);
        }
        Ok(seconds)
    }

    async fn time_at_once(&self, passes: &[(Step, Vec<&Dispatch>)]) -> Result<Vec<f64>> {
        use wgpu::BufferUsages as Usage;
        if !self.offer().timestamps {
            return Ok(vec![0.0; passes.len()]);
        }
        let count = 2 * passes.len() as u32;
        let bytes = u64::from(count) * 8;
        let queries = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = self.uncounted("timestamps", bytes, Usage::QUERY_RESOLVE | Usage::COPY_SRC);
        let staging = self.uncounted("timestamps", bytes, Usage::COPY_DST | Usage::MAP_READ);
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timed passes") });
        for ((step, dispatches), first) in passes.iter().zip((0..).step_by(2)) {
            let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                query_set: &queries,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            });
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("timed"), timestamp_writes });
            encode(&mut pass, dispatches.iter().copied(), step);
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = self.read(&staging, count as usize).await?;
        resolved.destroy();
        staging.destroy();
        let period = f64::from(self.queue.get_timestamp_period()) * 1e-9;
        Ok(ticks.chunks_exact(2).map(|ends| ends[1].saturating_sub(ends[0]) as f64 * period).collect())
    }

    /// Seconds that each of `passes` takes by the clock, for devices without timestamps: submitted by itself and waited for.
    /// That takes its time too, which is measured and left out; none is less than nothing.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub(crate) async fn clock(&self, passes: &[(Step, Vec<&Dispatch>)]) -> Result<Vec<f64>> {
        let round_trip = self.round_trip().await?;
        let mut seconds = Vec::with_capacity(passes.len());
        for (step, dispatches) in passes {
            let encode = |encoder: &mut wgpu::CommandEncoder| {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                encode(&mut pass, dispatches.iter().copied(), step);
            };
            seconds.push((self.clocked(&encode).await? - round_trip).max(0.0));
        }
        Ok(seconds)
    }

    /// Seconds until the device has told that it did nothing: the least of a few.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub(crate) async fn round_trip(&self) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            least = least.min(self.clocked(&|_: &mut wgpu::CommandEncoder| ()).await?);
        }
        Ok(least)
    }

    /// Seconds until the device has told that it did what `encode` encodes.
    pub(super) async fn clocked(&self, encode: &impl Fn(&mut wgpu::CommandEncoder)) -> Result<f64> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("clocked") };
        let mut encoder = self.device.create_command_encoder(&descriptor);
        encode(&mut encoder);
        let begin = Instant::now();
        self.queue.submit([encoder.finish()]);
        self.wait().await?;
        Ok(begin.elapsed().as_secs_f64())
    }
}
