//! Kernels enter, compiled pipelines leave later: threads compile them while other things go on. Native only: a browser
//! has its own way, see [`Gpu::compile_behind`](super::Gpu::compile_behind).

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::kernel::{Kernel, Pipeline};

/// Most threads: drivers gain little by more.
const MAX_THREADS: usize = 8;

/// What was asked for and nobody compiles yet, and the threads that take it to its end.
#[derive(Debug, Default)]
struct Queue {
    kernels: VecDeque<Kernel>,
    n_threads: usize,
}

/// A kernel's label, and its pipeline unless the device refused it.
type Compiled = (String, Option<Pipeline>);

/// Pipelines that are being compiled.
#[derive(Debug)]
pub(super) struct Ahead {
    queue: Arc<Mutex<Queue>>,
    /// The labels of all that did not come back yet.
    under_way: HashSet<String>,
    sender: Sender<Compiled>,
    receiver: Receiver<Compiled>,
    /// All that were started.
    threads: Vec<thread::JoinHandle<()>>,
}

impl Default for Ahead {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { queue: Arc::default(), under_way: HashSet::new(), sender, receiver, threads: Vec::new() }
    }
}

impl Ahead {
    /// Has `kernel` compiled.
    pub(super) fn request(&mut self, device: &wgpu::Device, kernel: Kernel) {
        self.under_way.insert(kernel.label.clone());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.kernels.push_back(kernel);
        if queue.n_threads < thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS) {
            queue.n_threads += 1;
            drop(queue);
            let (device, queue, sender) = (device.clone(), Arc::clone(&self.queue), self.sender.clone());
            self.threads.push(thread::spawn(move || work(&device, &queue, &sender)));
        }
    }

    /// Whether the kernel of that label was asked for and is not there yet.
    pub(super) fn is_under_way(&self, label: &str) -> bool {
        self.under_way.contains(label)
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// What is compiled by now; at least one, if any is under way and it should wait for that.
    pub(super) fn take(&mut self, waits: bool) -> Vec<Pipeline> {
        let mut all = Vec::new();
        // A thread takes the queue to its end, so what is under way comes.
        let first = (waits && self.len() > 0).then(|| self.receiver.recv().ok()).flatten();
        for (label, pipeline) in first.into_iter().chain(self.receiver.try_iter()) {
            self.under_way.remove(&label);
            all.extend(pipeline);
        }
        all
    }
}

impl Drop for Ahead {
    /// No thread outlives the device's owner: drivers do not bear to compile while a process ends.
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).kernels.clear();
        for thread in self.threads.drain(..) {
            // It sent what it had to tell.
            let _ = thread.join();
        }
    }
}

/// Compiles what is in the queue, until that is empty.
fn work(device: &wgpu::Device, queue: &Mutex<Queue>, sender: &Sender<Compiled>) {
    // Who finds it empty no longer counts: what comes after that is another thread's.
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = queue.kernels.pop_front();
        queue.n_threads -= usize::from(kernel.is_none());
        kernel
    };
    while let Some(kernel) = next() {
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| device.push_error_scope(filter));
        // A panic is for whoever needs the pipeline, and compiles it again.
        let pipeline = catch_unwind(AssertUnwindSafe(|| Pipeline::new(device, &kernel))).ok();
        // All scopes end, the last first. Natively what they collected is there at once.
        let is_refused = scopes.into_iter().rev().fold(false, |is_refused, scope| {
            let error = pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
            is_refused || !matches!(error, Poll::Ready(None))
        });
        // Nobody waits any more where the device is gone.
        let _ = sender.send((kernel.label, pipeline.filter(|_| !is_refused)));
    }
}
