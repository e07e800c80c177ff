//! Text that cannot steer a terminal or mislead its reader: the one way for everything that people are shown. Process
//! arguments, SQL, host names, file names and what servers answer come from programs that may mean harm.

use std::fmt::{self, Write};

/// Whether a terminal may obey this character, show others in another order or on another line because of it, or not show it
/// at all, so that two different names look the same.
pub fn is_harmful(c: char) -> bool {
    c.is_control() || c > '\u{ac}' && is_invisible(c)
}

/// What has no shape of its own: marks, embeddings, overrides and isolates of direction (Unicode Standard Annex 9); line and
/// paragraph separators; all that is ignored where it is not known (Default_Ignorable_Code_Point in
/// DerivedCoreProperties.txt: zero width spaces and joiners, soft hyphens, fillers, variation selectors, tags); annotations
/// and the controls of hieroglyphs. Joiners are a part of some scripts and emoji, and in a name among Latin letters only
/// mislead: text stays readable with them shown.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Writes text with its harmful characters as `\n`, `\x1b`, `\u{202e}`.
pub fn write(to: &mut impl Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_harmful(*c)) {
        to.write_str(&text[plain..at])?;
        plain = at + c.len_utf8();
        match c {
            '\n' => to.write_str("\\n")?,
            '\r' => to.write_str("\\r")?,
            '\t' => to.write_str("\\t")?,
            c if c.is_control() => write!(to, "\\x{:02x}", c as u32)?,
            c => write!(to, "\\u{{{:x}}}", c as u32)?,
        }
    }
    to.write_str(&text[plain..])
}

/// The same as a text of its own.
pub fn text(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    // Writing to a String cannot fail.
    let _ = write(&mut to, text);
    to
}

/// Text of several lines, whose line ends stay.
pub fn lines(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n');
        let _ = write(&mut to, content.unwrap_or(line));
        to.push_str(if content.is_some() { "\n" } else { "" });
    }
    to
}

/// A JSON document with the harmful characters of its texts as `\u202e`: the same document. Its line ends stay.
pub fn json(document: &str) -> String {
    let mut to = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            // Between texts there are none but line ends. JSON has the code units of UTF-16.
            c if is_harmful(c) && c != '\n' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(to, "\\u{unit:04x}");
                }
            }
            c => to.push(c),
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escape sequences, C1, all that turns the direction of text, separators of lines.
    const HARM: &str = "a\x1b[2Jb\r\n\t\x7f\u{9b}31m\u{202e}c\u{2066}\u{200f}\u{61c}\u{2028}\u{fff9}d";

    #[test]
    fn nothing_harmful_is_left_and_the_rest_stays() {
        assert_eq!(
            text(HARM),
            "a\\x1b[2Jb\\r\\n\\t\\x7f\\x9b31m\\u{202e}c\\u{2066}\\u{200f}\\u{61c}\\u{2028}\\u{fff9}d"
        );
        let harmless = "ünïcode-中文 'q' \\ 👩 e\u{301}";
        assert_eq!(text(harmless), harmless);
        let left: Vec<char> = (0..=char::MAX as u32)
            .filter_map(char::from_u32)
            .filter(|c| is_harmful(*c) && text(&c.to_string()).contains(is_harmful))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn what_has_no_shape_is_shown() {
        let all = "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{180e}\u{3164}\u{fe0f}\u{1d173}\u{e0041}";
        let shown = text(&format!("ad{all}min"));
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(text("ad\u{200b}min"), "ad\\u{200b}min");
        let value = serde_json::json!({ "name": all });
        let document = json(&value.to_string());
        assert!(document.is_ascii(), "{document}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&document).unwrap(), value);
    }

    #[test]
    fn lines_keep_their_ends_only() {
        assert_eq!(lines("a\x1b\nb\r\n"), "a\\x1b\nb\\r\n");
        assert_eq!(lines("a\n\nb"), "a\n\nb");
    }

    #[test]
    fn a_json_document_stays_the_same_document() {
        let value = serde_json::json!({"text": HARM, "more": ["x\u{202e}"]});
        for document in [value.to_string(), format!("{value:#}")] {
            let escaped = json(&document);
            assert!(!escaped.contains(|c| is_harmful(c) && c != '\n'), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
