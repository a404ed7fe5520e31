//! The GPU device: options enter, an open device with its limits leaves, and every failure it reports later
//! is kept until somebody asks.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::kernel::{COOPERATIVE_MEMORY, Kernel, Pipeline, Pipelines};
use crate::error::{Error, Result};

/// Which limits to ask the adapter for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LimitChoice {
    /// WebGPU's defaults, which every device has: 128 MiB a binding, 256 MiB a buffer.
    Default,
    /// As large bindings and buffers as the adapter offers: fewer pieces of large matrices.
    #[default]
    Adapter,
}

/// Which optional features to ask the adapter for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FeatureChoice {
    /// None.
    None,
    /// What the engine can use and the adapter offers.
    #[default]
    Auto,
}

/// Which device to open, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GpuOptions {
    /// Part of the adapter's name, driver or backend, in any case; the platform's choice if absent.
    /// Native only: a browser offers one adapter.
    pub adapter: Option<String>,
    /// Which limits to ask for.
    pub limits: LimitChoice,
    /// Which optional features to ask for.
    pub features: FeatureChoice,
    /// Of those, not these: what a smaller device would do.
    pub withheld: wgpu::Features,
    /// Prefer an integrated GPU to a discrete one.
    pub low_power: bool,
    /// Bind at most so many bytes at once, where the device takes more: what a smaller device would do.
    pub max_binding_bytes: Option<u64>,
    /// Browsers only.
    pub web: WebOffer,
}

/// What a device has besides what every device has, as far as kernels can use it.
#[allow(clippy::struct_excessive_bools, reason = "each is a feature of its own")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Offer {
    /// Threads in a subgroup, at least; 1 without subgroups.
    pub subgroup: u32,
    /// f16 in shaders.
    pub f16: bool,
    /// `dot4I8Packed`.
    pub packed_dot: bool,
    /// Cooperative matrices of 16 by 16, f16 times f16 summed in f32, by subgroups of 32; natively alone.
    pub cooperative: bool,
    /// Timestamps at either end of a pass.
    pub timestamps: bool,
}

/// An adapter, before a device is opened on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AdapterAbout {
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal or another.
    pub backend: String,
    /// The driver, and its version.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub is_software: bool,
    /// What kernels can use.
    pub offer: Offer,
    /// The largest binding.
    pub max_binding_bytes: u64,
    /// The largest buffer.
    pub max_buffer_bytes: u64,
}

/// What a browser offers that wgpu does not ask for there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WebOffer {
    /// The device will be requested with subgroups.
    pub subgroups: bool,
    /// The language feature `packed_4x8_integer_dot_product`.
    pub packed_dot: bool,
}

/// What resolves once the pipelines that are being compiled are there; nothing where none is.
pub type Compiling = Box<dyn Fn() -> Option<Pin<Box<dyn Future<Output = ()>>>>>;

/// Where pipelines are compiled while other things go on: see [`Gpu::compile_behind`].
#[derive(Default)]
struct Compiler(Option<Compiling>);

impl fmt::Debug for Compiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "behind" } else { "at once" })
    }
}

/// An open device.
#[derive(Debug)]
pub struct Gpu {
    /// wgpu's device.
    pub device: wgpu::Device,
    /// Its one queue.
    pub queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    fault: Arc<Mutex<Option<Error>>>,
    allocated_bytes: Cell<u64>,
    pipelines: Pipelines,
    compiler: Compiler,
    max_binding_bytes: Option<u64>,
    offer: Offer,
}

/// Optional features that the engine uses where they are offered.
const USEFUL_FEATURES: wgpu::Features =
    wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_F16).union(wgpu::Features::TIMESTAMP_QUERY);

impl Gpu {
    /// Opens the adapter that `options` ask for.
    ///
    /// # Errors
    ///
    /// [`Error::NoWebGpu`] when the browser has no WebGPU, [`Error::NoAdapter`] when no adapter matches or it
    /// refuses the device.
    pub async fn open(options: &GpuOptions) -> Result<Self> {
        let instance = wgpu::Instance::default();
        let adapter = find_adapter(&instance, options).await?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        let mut required_limits = wgpu::Limits::default();
        if options.limits == LimitChoice::Adapter {
            required_limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
            required_limits.max_buffer_size = offered.max_buffer_size;
        }
        let required_features = match options.features {
            FeatureChoice::None => wgpu::Features::empty(),
            FeatureChoice::Auto => (adapter.features() & USEFUL_FEATURES) - options.withheld,
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("helium"),
            required_features,
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let may_cooperate = options.features == FeatureChoice::Auto && options.limits == LimitChoice::Adapter;
        let cooperative = if may_cooperate { open_cooperative(&adapter, descriptor.clone()).await } else { None };
        let (device, queue) = match cooperative {
            Some(opened) => opened,
            None => adapter.request_device(&descriptor).await.map_err(|error| {
                Error::NoAdapter(format!("the adapter {:?} gave no device at WebGPU's limits: {error}", info.name))
            })?,
        };

        let fault = Arc::new(Mutex::new(None));
        let on_error = Arc::clone(&fault);
        device.on_uncaptured_error(Arc::new(move |error| keep_first(&on_error, from_wgpu(error))));
        let on_lost = Arc::clone(&fault);
        device.set_device_lost_callback(move |reason, message| {
            // Destroying the device on purpose, by dropping it, is no fault.
            if reason != wgpu::DeviceLostReason::Destroyed {
                let message = message.trim().trim_end_matches('.');
                keep_first(
                    &on_lost,
                    if message.to_lowercase().contains("out of memory") {
                        out_of_memory()
                    } else {
                        Error::DeviceLost(format!("the GPU device was lost ({message}); load the model again"))
                    },
                );
            }
        });
        let max_binding_bytes = options.max_binding_bytes;
        let offer = match options.features {
            FeatureChoice::None => Offer { subgroup: 1, ..Offer::default() },
            FeatureChoice::Auto => offer(device.features(), &info, options.web),
        };
        Ok(Self {
            device,
            queue,
            info,
            fault,
            allocated_bytes: Cell::new(0),
            pipelines: Pipelines::default(),
            compiler: Compiler::default(),
            max_binding_bytes,
            offer,
        })
    }

    /// The adapters whose name, driver or backend contains `substring`, in any case. Native only: a browser offers one.
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`] where none does.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn list(substring: &str) -> Result<Vec<AdapterAbout>> {
        let instance = wgpu::Instance::default();
        let about = |adapter: wgpu::Adapter| {
            let (info, limits) = (adapter.get_info(), adapter.limits());
            AdapterAbout {
                name: name(&info),
                backend: info.backend.to_string(),
                driver: info.driver_info.clone(),
                is_software: is_software(&info),
                offer: Offer {
                    cooperative: is_cooperative(&adapter),
                    ..offer(adapter.features(), &info, WebOffer::default())
                },
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                max_buffer_bytes: limits.max_buffer_size,
            }
        };
        Ok(matching(&instance, substring).await?.into_iter().map(about).collect())
    }

    /// The adapter as its driver describes it.
    #[must_use]
    pub fn adapter_info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The adapter's name, for people: never empty.
    #[must_use]
    pub fn adapter_name(&self) -> String {
        name(&self.info)
    }

    /// Whether the adapter computes on the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        is_software(&self.info)
    }

    /// The device's limits, with bindings as large as was asked for at most.
    #[must_use]
    pub fn limits(&self) -> wgpu::Limits {
        let mut limits = self.device.limits();
        let binding = &mut limits.max_storage_buffer_binding_size;
        *binding = self.max_binding_bytes.map_or(*binding, |most| most.min(*binding));
        limits
    }

    /// The device's optional features.
    #[must_use]
    pub fn features(&self) -> wgpu::Features {
        self.device.features()
    }

    /// What kernels can use on the device.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// Bytes in all buffers that were made and not destroyed.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes.get()
    }

    /// The pipeline for `kernel`, compiled once.
    #[must_use]
    pub fn pipeline(&self, kernel: &Kernel) -> Rc<Pipeline> {
        self.pipelines.get(&self.device, kernel)
    }

    /// Has `kernel` compiled while other things go on.
    pub fn compile(&self, kernel: &Kernel) {
        self.pipelines.request(&self.device, kernel);
    }

    /// Says how to wait for pipelines that a browser compiles while other things go on. One that is used before is
    /// compiled at once.
    pub fn compile_behind(&mut self, compiling: Compiling) {
        self.compiler = Compiler(Some(compiling));
    }

    /// Whether pipelines are being compiled.
    #[must_use]
    pub fn is_compiling(&self) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        if self.pipelines.is_compiling() {
            return true;
        }
        self.compiling().is_some()
    }

    /// Waits until no pipeline is being compiled.
    pub async fn compiled(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        self.pipelines.wait();
        while let Some(compiling) = self.compiling() {
            compiling.await;
        }
    }

    fn compiling(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        self.compiler.0.as_ref().and_then(|compiling| compiling())
    }

    /// Pipelines compiled so far.
    #[must_use]
    pub fn n_pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// A buffer of `bytes` zeros, rounded up to whole 16 bytes.
    #[must_use]
    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let size = bytes.max(1).next_multiple_of(16);
        self.allocated_bytes.set(self.allocated_bytes.get() + size);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Frees a buffer that was made here, at once: a browser would free it only when it comes to collect garbage.
    pub fn destroy(&self, buffer: &wgpu::Buffer) {
        buffer.destroy();
        self.allocated_bytes.set(self.allocated_bytes.get().saturating_sub(buffer.size()));
    }

    /// A storage buffer of `bytes` zeros that can be written and copied from.
    #[must_use]
    pub fn storage(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        use wgpu::BufferUsages as Usage;
        self.buffer(label, bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// A uniform buffer that holds `value`.
    #[must_use]
    pub fn uniform<T: bytemuck::Pod>(&self, label: &str, value: &T) -> wgpu::Buffer {
        let bytes = bytemuck::bytes_of(value);
        let buffer = self.buffer(label, bytes.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// The first failure that the device reported outside a [`Guard`], if any; it stays.
    ///
    /// # Errors
    ///
    /// That failure.
    pub fn check(&self) -> Result<()> {
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Begins to collect the device's failures instead of reporting them through [`Gpu::check`].
    #[must_use]
    pub fn guard(&self) -> Guard {
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| self.device.push_error_scope(filter));
        Guard { scopes: scopes.into() }
    }

    /// Waits until all submitted work is done.
    ///
    /// # Errors
    ///
    /// What the device reported, [`Error::DeviceLost`] among it.
    pub async fn wait(&self) -> Result<()> {
        self.wait_for(self.mark(None)).await
    }

    /// A mark after all that was submitted so far, the last of it being `submission` where the caller knows.
    #[must_use]
    pub fn mark(&self, submission: Option<wgpu::SubmissionIndex>) -> Mark {
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // The receiver is gone when the caller stopped waiting.
            let _ = sender.send(());
        });
        Mark { submission, receiver }
    }

    /// Waits until all that was submitted before the mark is done.
    ///
    /// # Errors
    ///
    /// As [`Gpu::wait`].
    pub async fn wait_for(&self, mark: Mark) -> Result<()> {
        self.poll(mark.submission)?;
        let done = mark.receiver.await;
        self.check()?;
        done.map_err(|_| lost())
    }

    /// Maps `buffer`, copies its first `len` elements out and unmaps it.
    ///
    /// # Errors
    ///
    /// What the device reported, [`Error::DeviceLost`] among it.
    pub async fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, len: usize) -> Result<Vec<T>> {
        let bytes = (len * size_of::<T>()) as u64;
        self.read_mapped(self.map(buffer, bytes), None).await
    }

    /// Asks for the first `bytes` of `buffer`, once all is done that was submitted before. To ask for several at once is to
    /// get them at once: some browsers answer only every 100 ms.
    #[must_use]
    pub fn map(&self, buffer: &wgpu::Buffer, bytes: u64) -> Mapping {
        let (sender, receiver) = futures_channel::oneshot::channel();
        buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        Mapping { buffer: buffer.clone(), bytes, receiver }
    }

    /// What was asked for; then the buffer is unmapped. Waits for no submission after the given one.
    ///
    /// # Errors
    ///
    /// As [`Gpu::read`].
    pub async fn read_mapped<T: bytemuck::Pod>(
        &self,
        mapping: Mapping,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Result<Vec<T>> {
        let Mapping { buffer, bytes, receiver } = mapping;
        self.poll(submission)?;
        let mapped = receiver.await;
        self.check()?;
        if !matches!(mapped, Ok(Ok(()))) {
            return Err(lost());
        }
        let view = buffer.slice(..bytes).get_mapped_range();
        let copy = view.map(|view| bytemuck::pod_collect_to_vec(&view)).map_err(|_| lost());
        buffer.unmap();
        copy
    }

    /// Natively callbacks come only from a poll, here until a submission is done, or all are; a browser calls them by
    /// itself.
    fn poll(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None }).map_err(|error| {
                self.check().err().unwrap_or_else(|| Error::DeviceLost(format!("waiting for the GPU failed: {error}")))
            })?;
        }
        Ok(())
    }
}

/// Browsers hide the name; some keep the vendor or architecture in the description.
fn name(info: &wgpu::AdapterInfo) -> String {
    [&info.name, &info.driver_info, &info.driver]
        .into_iter()
        .find(|text| !text.is_empty())
        .cloned()
        .unwrap_or_else(|| format!("{} adapter", info.backend))
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = name(info).to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || ["llvmpipe", "lavapipe", "swiftshader", "basic render"].iter().any(|known| name.contains(known))
}

fn offer(features: wgpu::Features, info: &wgpu::AdapterInfo, web: WebOffer) -> Offer {
    let is_web = cfg!(target_arch = "wasm32");
    let has_subgroups = if is_web { web.subgroups } else { features.contains(wgpu::Features::SUBGROUP) };
    // A browser that does not tell the size has at least the least that WebGPU allows.
    let subgroup = if has_subgroups { info.subgroup_min_size.clamp(4, 128) } else { 1 };
    Offer {
        subgroup,
        f16: features.contains(wgpu::Features::SHADER_F16),
        // Naga writes it out where the driver has none.
        packed_dot: web.packed_dot || !is_web,
        cooperative: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// A device with cooperative matrices, if the adapter has those and gives it.
async fn open_cooperative(
    adapter: &wgpu::Adapter,
    mut descriptor: wgpu::DeviceDescriptor<'_>,
) -> Option<(wgpu::Device, wgpu::Queue)> {
    if !is_cooperative(adapter) {
        return None;
    }
    descriptor.required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    descriptor.required_limits.max_compute_workgroup_storage_size = COOPERATIVE_MEMORY;
    // SAFETY: what is experimental is that wgpu does not check where matrices are loaded from and stored to; the one
    // kernel that does so stays within its own workgroup memory.
    descriptor.experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    adapter.request_device(&descriptor).await.ok()
}

/// Whether the adapter has the matrices that `cooperative.wgsl` wants, and the memory.
fn is_cooperative(adapter: &wgpu::Adapter) -> bool {
    use wgpu::{CooperativeScalarType as Scalar, Features};
    let wanted = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP;
    let info = adapter.get_info();
    let is_16x16 = |found: &wgpu::CooperativeMatrixProperties| {
        let sizes = [found.m_size, found.n_size, found.k_size];
        sizes == [16; 3] && (found.ab_type, found.cr_type) == (Scalar::F16, Scalar::F32)
    };
    adapter.features().contains(wanted)
        && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32)
        && adapter.limits().max_compute_workgroup_storage_size >= COOPERATIVE_MEMORY
        && adapter.cooperative_matrix_properties().iter().any(is_16x16)
}

/// What was asked for with [`Gpu::map`].
#[derive(Debug)]
pub struct Mapping {
    buffer: wgpu::Buffer,
    bytes: u64,
    receiver: futures_channel::oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

/// A point in the queue, see [`Gpu::mark`].
#[derive(Debug)]
pub struct Mark {
    submission: Option<wgpu::SubmissionIndex>,
    receiver: futures_channel::oneshot::Receiver<()>,
}

/// Failures of the device since [`Gpu::guard`]. Guards nest: finish the last one first.
#[derive(Debug)]
pub struct Guard {
    scopes: Vec<wgpu::ErrorScopeGuard>,
}

impl Guard {
    /// Ends the collection.
    ///
    /// # Errors
    ///
    /// The first failure, out of memory before others.
    pub async fn finish(self) -> Result<()> {
        self.end().await
    }

    /// Ends the collection at once; what was collected can be waited for later.
    pub fn end(mut self) -> impl Future<Output = Result<()>> + 'static {
        // All scopes end in order, before anything is awaited.
        let mut pending = Vec::new();
        while let Some(scope) = self.scopes.pop() {
            pending.push(scope.pop());
        }
        async move {
            let mut found = None;
            for scope in pending {
                let error = scope.await;
                found = found.or(error);
            }
            found.map_or(Ok(()), |error| Err(from_wgpu(error)))
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Scopes are a stack: the last must go first, and a `Vec` drops its first element first.
        while self.scopes.pop().is_some() {}
    }
}

fn lost() -> Error {
    Error::DeviceLost("the GPU device was lost; load the model again".into())
}

fn keep_first(slot: &Mutex<Option<Error>>, error: Error) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

fn out_of_memory() -> Error {
    let text = "the GPU is out of memory; close other tabs or programs, or choose a smaller file or context";
    Error::OutOfMemory(text.into())
}

fn from_wgpu(error: wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => out_of_memory(),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::Internal(format!("the GPU refused a command: {}", one_line(&description)))
        }
    }
}

/// Messages are one line; wgpu's have several.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(not(target_arch = "wasm32"))]
async fn find_adapter(instance: &wgpu::Instance, options: &GpuOptions) -> Result<wgpu::Adapter> {
    match &options.adapter {
        None => request_adapter(instance, options).await,
        Some(wanted) => Ok(matching(instance, wanted).await?.swap_remove(0)),
    }
}

/// The adapters whose name, driver or backend contains `wanted`, at least one.
#[cfg(not(target_arch = "wasm32"))]
async fn matching(instance: &wgpu::Instance, wanted: &str) -> Result<Vec<wgpu::Adapter>> {
    let text = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        format!("{} ({} {}, {})", info.name, info.driver, info.driver_info, info.backend)
    };
    let all = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let seen: Vec<_> = all.iter().map(text).collect();
    let contains = |adapter: &wgpu::Adapter| text(adapter).to_lowercase().contains(&wanted.to_lowercase());
    let found: Vec<_> = all.into_iter().filter(contains).collect();
    if found.is_empty() {
        let seen = if seen.is_empty() { "none".into() } else { seen.join("; ") };
        return Err(Error::NoAdapter(format!("no adapter matches {wanted:?}; found: {seen}")));
    }
    Ok(found)
}

#[cfg(target_arch = "wasm32")]
async fn find_adapter(instance: &wgpu::Instance, options: &GpuOptions) -> Result<wgpu::Adapter> {
    request_adapter(instance, options).await
}

async fn request_adapter(instance: &wgpu::Instance, options: &GpuOptions) -> Result<wgpu::Adapter> {
    let power_preference =
        if options.low_power { wgpu::PowerPreference::LowPower } else { wgpu::PowerPreference::HighPerformance };
    let wanted = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
    instance.request_adapter(&wanted).await.map_err(|error| {
        let hint = if cfg!(target_arch = "wasm32") {
            "check that this browser has WebGPU and hardware acceleration switched on"
        } else {
            "install a Vulkan, Metal or DirectX 12 driver; on Linux without a GPU, mesa-vulkan-drivers has a software one"
        };
        Error::NoAdapter(format!("no GPU adapter was found; {hint} ({})", one_line(&error.to_string())))
    })
}
