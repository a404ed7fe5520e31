//! Which kernels were found fastest on this machine's devices, kept between runs in a file of the user's cache
//! folder. It saves time only: without it, or without a place for it, a load measures again.

use std::env;
use std::fs;
use std::path::PathBuf;

use helium_webgpu::model::Tuning;

/// What earlier runs found.
pub(crate) fn read() -> Tuning {
    let text = path().and_then(|path| fs::read_to_string(path).ok());
    text.map(|text| Tuning::from_json(&text)).unwrap_or_default()
}

/// Keeps what this run found, if that is anything new.
pub(crate) fn write(tuning: &Tuning, before: &Tuning) {
    let Some(path) = path() else { return };
    if tuning == before {
        return;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&temporary, tuning.to_json()))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // A folder that is full or read-only is no reason to complain, nor to leave half a file behind.
        let _gone = fs::remove_file(&temporary);
    }
}

/// `helium-webgpu/kernels.json` in the platform's cache folder, or in `HELIUM_CACHE`.
fn path() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let ours = || {
        let platform = if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            folder("HOME").map(|home| home.join("Library/Caches"))
        } else {
            folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
        };
        platform.map(|platform| platform.join("helium-webgpu"))
    };
    folder("HELIUM_CACHE").or_else(ours).map(|folder| folder.join("kernels.json"))
}
