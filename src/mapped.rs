//! Files in memory, without reading them: one of the three places that need unsafe.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

/// A fault maps pages around the one that was asked for: 64 KiB (fault_around_bytes of Linux), and on Linux 6.18, as
/// /proc/PID/pagemap shows, all of a large folio of the page cache, which has up to 2 MiB.
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes of a file that are mapped into this process (proc_pid_smaps(5)).
    fn resident(path: &Path) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap()));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    #[test]
    fn released_pages_count_no_longer_and_come_back_the_same() {
        const BLOCK: usize = 129_531;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("file");
        let mut file = File::create(&path).unwrap();
        (0..64).for_each(|_| file.write_all(&[7; BLOCK]).unwrap());
        let mapped = Mapped::open(&path).unwrap();
        let blocks = || (0..64).map(|number| number * BLOCK..(number + 1) * BLOCK);
        let read = |range: &Range<usize>| {
            mapped.bytes()[range.clone()]
                .iter()
                .map(|byte| u64::from(*byte))
                .sum::<u64>()
        };
        for range in blocks() {
            assert_eq!(read(&range), 7 * BLOCK as u64);
            mapped.release(range);
        }
        assert_eq!(resident(&path), 0);
        assert!(blocks().all(|range| read(&range) == 7 * BLOCK as u64));
        assert!(resident(&path) > 0);
    }
}
