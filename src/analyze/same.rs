//! Duplicate inputs: a capture that is given twice is read once, or everything would count twice.

use super::input::Mapped;

/// The files without duplicates, each with the names of its duplicates.
pub fn distinct(files: Vec<Mapped>) -> Vec<(Mapped, Vec<String>)> {
    let mut kept: Vec<(Mapped, Vec<String>)> = Vec::with_capacity(files.len());
    for file in files {
        // Different files of one length mostly differ in their headers.
        match kept.iter_mut().find(|(other, _)| other.bytes() == file.bytes()) {
            Some((_, same)) => same.push(file.name()),
            None => kept.push((file, Vec::new())),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_bytes_are_duplicates() {
        let folder = tempfile::tempdir().unwrap();
        let open = |(name, content): &(&str, &[u8])| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Mapped::open(&path).unwrap()
        };
        let files: [(&str, &[u8]); 6] = [
            ("a", b"one"),
            ("b", b"two"),
            ("c", b"one"),
            ("d", b"one more"),
            ("e", b"two"),
            ("f", b"one"),
        ];
        let kept = distinct(files.iter().map(open).collect());
        let name = |name: &str| {
            std::path::Path::new(name)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_string()
        };
        let names: Vec<(String, Vec<String>)> = kept
            .iter()
            .map(|(file, same)| (name(&file.name()), same.iter().map(|same| name(same)).collect()))
            .collect();
        let expected = [("a", vec!["c", "f"]), ("b", vec!["e"]), ("d", vec![])];
        let expected = expected.map(|(name, same)| (name.to_string(), same.into_iter().map(String::from).collect()));
        assert_eq!(names, expected);
    }
}
