//! Files in memory, without reading them. One of the places that need unsafe.
#![allow(unsafe_code, reason = "maps files")]

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

use crate::create::FileId;
use crate::format::Reader;
use crate::open::{self, Input};

/// A fault maps pages around the one that was asked for: 64 KiB (fault_around_bytes of Linux), and on Linux 6.18, as
/// /proc/PID/pagemap shows, all of a large folio of the page cache, which has up to 2 MiB.
const AROUND: usize = 2 << 20;

/// A file, mapped.
pub struct Mapped {
    path: PathBuf,
    id: FileId,
    /// Dropped before the map that it guards.
    #[cfg(unix)]
    region: crate::sigbus::Region,
    map: Mmap,
}

impl Mapped {
    /// Maps the file or pipe of this name. A pipe is copied into a temporary file without a name first.
    pub fn open(path: &Path) -> Result<Self> {
        match open::open(path)? {
            Input::File(file) => Self::map(path, &file),
            Input::Stream(stream) => Self::spool(path, stream),
        }
    }

    /// Maps a regular file, which has this name in messages.
    pub fn map(path: &Path, file: &File) -> Result<Self> {
        let name = open::name(path);
        let len = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
        ensure!(len > 0, "{name} is empty");
        let id = FileId::of(file, path).with_context(|| format!("cannot read {name}"))?;
        // SAFETY: the map is only read. Another process that shortens the file meanwhile does not end this one, see
        // `sigbus`; captures are only ever appended to, and `record` never shortens one.
        let map = unsafe { Mmap::map(file) }.with_context(|| format!("cannot map {name}"))?;
        Ok(Mapped {
            path: path.to_owned(),
            id,
            #[cfg(unix)]
            region: crate::sigbus::Region::guard(map.as_ptr(), map.len()).context("cannot handle SIGBUS")?,
            map,
        })
    }

    /// Maps what comes through a pipe. The index of a capture is at its end, and blocks are read in the order of time: it is
    /// needed as a whole. It goes to a file, because memory should not grow with captures; the file has no name, and so is
    /// gone when this process is.
    pub fn spool(path: &Path, mut stream: impl Read) -> Result<Self> {
        let mut spool = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut stream, &mut file)?;
            Ok(file)
        };
        let file = spool().with_context(|| {
            let folder = std::env::temp_dir();
            format!("cannot copy {} to a file in {}", open::name(path), folder.display())
        })?;
        Self::map(path, &file)
    }

    /// Reads it as a capture file.
    pub fn reader(&self) -> Result<Reader<'_>> {
        let reader = Reader::open(self.bytes());
        self.check_whole()?;
        reader.with_context(|| format!("cannot read {}", self.name()))
    }

    /// Which file it is.
    pub fn id(&self) -> &FileId {
        &self.id
    }

    /// An error if a part of the file was not there when it was read: what was made of it is not to be believed.
    pub fn check_whole(&self) -> Result<()> {
        #[cfg(unix)]
        ensure!(
            !self.region.is_broken(),
            "{} was shortened while it was read, or its disk cannot be read",
            self.name()
        );
        Ok(())
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
        open::name(&self.path)
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
    fn a_file_that_shrinks_while_it_is_mapped_ends_nothing_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let [short, whole] = ["short", "whole"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![7; 100_000]).unwrap();
            path
        });
        let mapped = [&short, &whole].map(|path| Mapped::open(path).unwrap());
        File::options()
            .write(true)
            .open(&short)
            .unwrap()
            .set_len(10_000)
            .unwrap();
        // The page of the new end is there, after it is nothing.
        assert_eq!(mapped[0].bytes()[9_999], 7);
        assert!(mapped[0].check_whole().is_ok());
        std::thread::scope(|scope| {
            for from in [20_000, 50_000, 99_000] {
                let bytes = mapped[0].bytes();
                scope.spawn(move || assert!(bytes[from..].iter().all(|byte| *byte == 0)));
            }
        });
        let error = mapped[0].check_whole().unwrap_err().to_string();
        assert!(error.contains("short was shortened"), "{error}");
        assert!(mapped[1].bytes().iter().all(|byte| *byte == 7) && mapped[1].check_whole().is_ok());
        // What guarded the one guards the next.
        drop(mapped);
        let again = Mapped::open(&short).unwrap();
        assert!(again.check_whole().is_ok() && again.bytes().len() == 10_000);
    }

    #[test]
    fn a_pipe_is_read_as_a_whole() {
        let bytes = vec![7; 100_000];
        let mapped = Mapped::spool(Path::new("pipe"), bytes.as_slice()).unwrap();
        assert_eq!(mapped.bytes(), bytes);
        let error = Mapped::spool(Path::new("-"), &[][..]).err().unwrap();
        assert_eq!(error.to_string(), "standard input is empty");
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
