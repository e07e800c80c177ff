//! Generates COLUMNS.md from the tables: a column is documented once, at the code that fills it.

use std::fmt::Write;

use super::TableName;

/// The text of COLUMNS.md.
pub fn columns_md() -> String {
    let mut text = String::from(
        "# Tables and columns\n\n\
         Made from the code (`cargo test columns_md` checks it; `MDF_UPDATE=1` rewrites it). Names are stable: later\n\
         versions add columns, and neither rename nor drop them.\n\n\
         Times are UTC with nanoseconds; durations are whole nanoseconds (`_ns`) or microseconds (`_us`); addresses are\n\
         text. A value that is not known is null, never 0 or empty, and so is a time before 1970 or after 2262, which is\n\
         counted. In CSV null is an empty field, and texts are as captured: a spreadsheet may take one that begins with\n\
         `=`, `+`, `-` or `@` for a formula, so import fields as text. In JSON times are RFC 3339 text. A terminal shows\n\
         the columns marked with a dot unless `--columns` says otherwise; options take their names and their headings\n\
         (`p95_ns`, `p95`).\n",
    );
    for table in TableName::all() {
        let _ = write!(text, "\n## {}\n\n{}\n\n", table.name(), table.about());
        text.push_str("| column | type | | meaning |\n|---|---|---|---|\n");
        for (spec, brief) in table.specs_and_brief() {
            let dot = if brief { "•" } else { "" };
            let doc = spec.doc.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {dot} | {doc} |", spec.name, spec.kind.describe());
        }
    }
    text
}

/// All tables with their columns, for a terminal.
pub fn columns_text() -> String {
    let mut text = String::new();
    for table in TableName::all() {
        let _ = writeln!(text, "{}: {}", table.name(), table.about());
        for spec in table.specs() {
            let _ = writeln!(text, "  {:<20} {:<20} {}", spec.name, spec.kind.describe(), spec.doc);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::protocol::http1::Http;
    use crate::analyze::protocol::mysql::Mysql;
    use crate::analyze::table::Kind;

    #[test]
    fn columns_md_matches_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/analyze/table/COLUMNS.md");
        if std::env::var_os("MDF_UPDATE").is_some() {
            std::fs::write(path, columns_md()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == columns_md(),
            "COLUMNS.md is out of date: run MDF_UPDATE=1 cargo test columns_md"
        );
    }

    /// The names that users rely on.
    #[test]
    fn promised_columns_exist() {
        let promised = [
            (
                TableName::of::<Http>(),
                "start client_ip client_port server_ip server_port method path query host version status request_bytes \
                 response_bytes ttfb_ns total_ns network_ns side client_pid client_comm client_cgroup client_container \
                 client_pod client_namespace server_pid server_comm server_cgroup server_container server_pod \
                 server_namespace complete incomplete_reason",
            ),
            (
                TableName::of::<Mysql>(),
                "start client_ip client_port server_ip server_port request_bytes response_bytes ttfb_ns total_ns \
                 network_ns side client_pid server_pid client_workload server_workload user database server_version \
                 command statement fingerprint digest status error_code sqlstate error_message rows affected_rows \
                 warnings no_index_used complete incomplete_reason",
            ),
            (
                TableName::Connections,
                "client_ip client_port server_ip server_port open close role state connect_ns bytes_sent \
                 bytes_received retransmits srtt_us protocol why",
            ),
            (
                TableName::Processes,
                "start exit pid ppid uid comm exe argv exit_code signal cgroup container pod namespace",
            ),
            (
                TableName::summary_of::<Http>(),
                "method endpoint host service count errors p50_ns client_pod server_pod server_container",
            ),
            (
                TableName::summary_of::<Mysql>(),
                "digest command fingerprint service count errors p50_ns client_pod server_pod server_container",
            ),
            (
                TableName::Services,
                "caller callee protocol requests errors p50_ns client_pod server_pod server_container",
            ),
        ];
        for (table, names) in promised {
            let specs = table.specs();
            for name in names.split_whitespace() {
                assert!(
                    specs.iter().any(|spec| spec.name == name),
                    "{} has no column {name}",
                    table.name()
                );
            }
        }
    }

    #[test]
    fn aggregate_tables_name_the_ends_as_the_tables_that_they_aggregate() {
        let has = |table: TableName, name: &str| table.specs().iter().any(|spec| spec.name == name);
        for table in TableName::all().into_iter().filter(|table| table.is_aggregate()) {
            let ends = &table.specs()[table.own_specs().len()..];
            assert_eq!((ends[0].name, ends[7].name), ("client_namespace", "server_container"));
            for end in ends {
                for counted in TableName::exchanges().chain([TableName::Connections]) {
                    assert!(has(counted, end.name), "{} has no {}", counted.name(), end.name);
                }
            }
        }
    }

    /// Each is copied alone into the metadata of a Parquet file.
    #[test]
    fn documentation_of_a_column_refers_to_no_other_line() {
        for table in TableName::all() {
            for spec in table.specs() {
                let doc = spec.doc;
                let column = format!("{}.{}: {doc}", table.name(), spec.name);
                assert!(!doc.is_empty(), "{column}");
                for start in ["its ", "of ", "that ", "the same "] {
                    assert!(!doc.starts_with(start), "{column}");
                }
                for phrase in ["that pod", "that container", "that interval", "in the same way"] {
                    assert!(!doc.contains(phrase), "{column}");
                }
                let unit = match spec.kind {
                    Kind::Nanos => " ns",
                    Kind::Micros => " µs",
                    Kind::Bytes => "bytes",
                    Kind::Ratio => "from 0 to 1",
                    _ => "",
                };
                assert!(doc.contains(unit), "no unit: {column}");
            }
        }
    }

    #[test]
    fn column_names_are_used_once() {
        for table in TableName::all() {
            let mut names: Vec<_> = table.specs().iter().map(|spec| spec.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{}", table.name());
        }
    }
}
