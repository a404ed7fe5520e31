//! A file that appears under its name when it is whole, and not at all if it never is: what was there before stays
//! until then. Native only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Files that are being written, for [`discard_unfinished`].
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    /// As it was given.
    name: PathBuf,
    /// Where that leads, if it is a link.
    path: PathBuf,
    /// Where it is written meanwhile; `None` for a pipe or a device, which is written to as it is.
    temporary: Option<PathBuf>,
    file: BufWriter<File>,
}

impl NewFile {
    /// Begins the file `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be written.
    pub fn create(name: &Path) -> Result<Self> {
        let path = target(name);
        let existing = fs::metadata(&path).ok();
        if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(Error::Io(format!("{} is a folder; give the name of the file to write", name.display())));
        }
        let (temporary, opened) = if existing.is_none_or(|existing| existing.is_file()) {
            let mut file_name = path.file_name().unwrap_or_default().to_owned();
            file_name.push(format!(".{}.tmp", std::process::id()));
            let temporary = path.with_file_name(file_name);
            let opened = OpenOptions::new().write(true).create_new(true).open(&temporary);
            (Some(temporary), opened)
        } else {
            (None, OpenOptions::new().write(true).open(&path))
        };
        let file = opened.map_err(|error| unwritable(name, &error))?;
        unfinished().extend(temporary.clone());
        Ok(Self { name: name.to_owned(), path, temporary, file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.name, &error))
    }

    /// Puts the file, which is whole, where it belongs.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when that fails.
    pub fn keep(mut self) -> Result<()> {
        let flushed = self.file.flush();
        let kept = match &self.temporary {
            Some(temporary) => {
                flushed.and_then(|()| self.file.get_ref().sync_all()).and_then(|()| fs::rename(temporary, &self.path))
            }
            None => flushed,
        };
        kept.map_err(|error| unwritable(&self.name, &error))?;
        self.forget();
        Ok(())
    }

    /// Takes it from those that are unfinished; returns what it was written to.
    fn forget(&mut self) -> Option<PathBuf> {
        let temporary = self.temporary.take()?;
        unfinished().retain(|path| *path != temporary);
        Some(temporary)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.forget() {
            // What failed before matters more than this.
            let _gone = fs::remove_file(temporary);
        }
    }
}

/// Removes what is not whole yet, for a process that ends in the midst of it.
pub fn discard_unfinished() {
    for path in unfinished().drain(..) {
        let _gone = fs::remove_file(path);
    }
}

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a link leads, also where nothing is there yet.
fn target(path: &Path) -> PathBuf {
    let link = || Some(path.parent()?.join(fs::read_link(path).ok()?));
    path.canonicalize().ok().or_else(link).unwrap_or_else(|| path.to_owned())
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
    match folder {
        Some(folder) => {
            Error::Io(format!("{} cannot be written: there is no folder {}", path.display(), folder.display()))
        }
        None => Error::Io(format!("{} cannot be written: {error}", path.display())),
    }
}
