//! Addresses of kernel variables, from /proc/kallsyms.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// `struct pages` of bpf/maps.h: where the kernel keeps its pages. None when that cannot be known.
pub fn pages() -> Option<[u64; 4]> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    match find(
        BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms").ok()?),
        ["vmemmap_base", "page_offset_base"],
    )? {
        Some([map, memory]) => Some([map, memory, 0, 0]),
        // Without CONFIG_RANDOMIZE_MEMORY both are constants (Documentation/arch/x86/x86_64/mm.rst), which differ under
        // five levels of page tables. Which of them the kernel uses does not show where the processor knows both.
        None if std::fs::read_to_string("/proc/cpuinfo").ok()?.contains(" la57 ") => None,
        None => Some([0, 0, 0xffff_ea00_0000_0000, 0xffff_8880_0000_0000]),
    }
}

/// Looks for variables (not functions) by name; stops at the last one. `Some(None)` when one is not there; None when the
/// kernel hides its addresses.
fn find<const N: usize>(mut lines: impl BufRead, names: [&str; N]) -> Option<Option<[u64; N]>> {
    let mut found = [0; N];
    let mut line = Vec::new();
    let mut hidden = true;
    while lines.read_until(b'\n', &mut line).ok()? > 0 {
        let text = line.trim_ascii_end();
        hidden &= text.starts_with(b"0000000000000000");
        if let Some(at) = names.iter().position(|name| text.ends_with(name.as_bytes())) {
            let text = str::from_utf8(text).ok()?;
            let mut fields = text.split_ascii_whitespace();
            if let (Some(address), Some("d" | "D" | "b" | "B" | "r" | "R"), Some(name)) =
                (fields.next(), fields.next(), fields.next())
                && name == names[at]
            {
                found[at] = u64::from_str_radix(address, 16).ok()?;
            }
            if found.iter().all(|address| *address != 0) {
                return Some(Some(found));
            }
        }
        line.clear();
    }
    if hidden { None } else { Some(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_by_their_whole_name() {
        let text = "ffffffff81000000 T _text\nffffffff82000008 d not_vmemmap_base\nffffffff82000010 D vmemmap_base\n\
                    ffffffff82000018 T page_offset_base\nffffffff82000020 D page_offset_base\n";
        let found = find(text.as_bytes(), ["vmemmap_base", "page_offset_base"]);
        assert_eq!(found, Some(Some([0xffff_ffff_8200_0010, 0xffff_ffff_8200_0020])));
    }

    #[test]
    fn hidden_addresses_are_not_missing_ones() {
        let text = "0000000000000000 D vmemmap_base\n0000000000000000 D page_offset_base\n";
        assert_eq!(find(text.as_bytes(), ["vmemmap_base", "page_offset_base"]), None);
        let text = "ffffffff81000000 T _text\n";
        assert_eq!(find(text.as_bytes(), ["vmemmap_base", "page_offset_base"]), Some(None));
    }
}
