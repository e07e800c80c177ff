//! Files in memory, without reading them: one of the three places that need unsafe.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

/// A fault maps pages around the one that was asked for: 64 KiB (fault_around_bytes of Linux), and since Linux 6.18 all of a
/// large folio of the page cache ("mm/filemap: map entire large folio faultaround"), which has up to 2 MiB.
const AROUND: usize = 2 << 20;

/// A file, mapped.
pub struct Mapped {
    pub path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let length = file
            .metadata()
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(length.is_file(), "{} is not a regular file", path.display());
        ensure!(length.len() > 0, "{} is empty", path.display());
        // SAFETY: the map is only read. Another process that shortens the file meanwhile would end this one with
        // SIGBUS; captures are only ever appended to, and `record` never shortens one.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
        Ok(Mapped {
            path: path.to_owned(),
            map,
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// These bytes are not needed any more: their pages count no longer as memory of this process. Who reads them all
    /// the same gets them from the file again.
    pub fn release(&self, range: Range<usize>) {
        let end = range.end.saturating_add(AROUND).min(self.map.len());
        let start = range.start.saturating_sub(AROUND).min(end);
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file, shared with it and only read: what is dropped comes back unchanged. Where
            // the advice is refused, only the count of memory is higher.
            let _ = unsafe { self.map.unchecked_advise_range(advice, start, end - start) };
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}
