//! Which processes there are, and which of them were started by others, as /proc shows.

use std::collections::{BTreeSet, HashMap};

use super::identity::Identity;
use super::procfs;

/// The numbers of all processes.
pub fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// These processes and everything below them, as far as it still runs.
pub fn with_descendants(roots: impl IntoIterator<Item = Identity>) -> BTreeSet<Identity> {
    let living: BTreeSet<Identity> = roots.into_iter().filter(Identity::lives).collect();
    if living.is_empty() {
        return living;
    }
    let numbers: Vec<u32> = living.iter().map(|process| process.pid).collect();
    let below = descendants(&numbers, &parents()).into_iter();
    let below = below.filter(|pid| !numbers.contains(pid)).filter_map(Identity::of);
    living.iter().copied().chain(below).collect()
}

/// The parent of each process, kernel threads included.
fn parents() -> HashMap<u32, u32> {
    pids()
        .into_iter()
        .filter_map(|pid| {
            let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, procfs::stat(&text)?.ppid))
        })
        .collect()
}

/// The roots and everything below them; `parents` has each process's parent.
fn descendants(roots: &[u32], parents: &HashMap<u32, u32>) -> BTreeSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = BTreeSet::new();
    let mut todo = roots.to_vec();
    while let Some(pid) = todo.pop() {
        if found.insert(pid) {
            todo.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_taken_whatever_order_they_are_listed_in() {
        let parents = HashMap::from([(2, 1), (5, 9), (9, 7), (7, 2), (8, 1), (1, 0)]);
        assert_eq!(descendants(&[7], &parents), BTreeSet::from([5, 7, 9]));
        let circle = HashMap::from([(2, 3), (3, 2)]);
        assert_eq!(
            descendants(&[2], &circle),
            BTreeSet::from([2, 3]),
            "a torn reading of /proc must not hang"
        );
    }
}
