//! The report as text, and as one JSON object. The content is made in [`report`](crate::analyze::report).

use std::fmt::Write as _;
use std::io::Write;

use crate::analyze::exchange::Incomplete;
use crate::analyze::output::human::{bytes, count, duration};
use crate::analyze::output::{json as rows, terminal, time};
use crate::analyze::report::aggregate::{Confidence, Unparsed, UnparsedBy};
use crate::analyze::report::sections::{Report, Section};
use crate::analyze::row::CaptureFacts;
use crate::analyze::table::{Columns, Value};
use crate::escape;
use crate::format::record::LossReason;

/// Rows of a section, and damaged places of a file, that the text shows.
const SHOWN: usize = 20;
/// Characters of a cell.
const CELL: usize = 100;

fn bold(text: &str) -> String {
    format!("\x1b[1m{text}\x1b[0m")
}

fn dim(text: &str) -> String {
    format!("\x1b[2m{text}\x1b[0m")
}

/// A reason for incomplete exchanges, as text.
fn in_words(reason: Incomplete) -> &'static str {
    match reason {
        Incomplete::Gap => "gap",
        Incomplete::Truncated => "truncated",
        Incomplete::StartedBefore => "started before capture",
        Incomplete::NoResponse => "without response",
        Incomplete::RequestCut => "request cut off",
        Incomplete::ResponseCut => "response cut off",
        Incomplete::NoRequest => "without request",
        Incomplete::Malformed => "malformed",
        Incomplete::TooMany => "too many waiting",
    }
}

/// `41,192 of 41,233 exchanges measured; 9 gap, 30 truncated, 2 started before capture`.
pub fn confidence(confidence: &Confidence) -> String {
    if confidence.exchanges == 0 {
        return "no exchanges".to_string();
    }
    let mut text = format!(
        "{} of {} exchanges measured",
        count(confidence.measured()),
        count(confidence.exchanges)
    );
    for (n, (reason, number)) in confidence.reasons().into_iter().enumerate() {
        let _ = write!(
            text,
            "{} {} {}",
            if n == 0 { ";" } else { "," },
            count(number),
            in_words(reason)
        );
    }
    text
}

/// `12 connections with 3.40 MiB not parsed: 10 encrypted (TLS), 2 unknown protocol`; `None` when there are none.
fn unparsed(unparsed: &UnparsedBy) -> Option<String> {
    let Unparsed {
        connections,
        bytes: size,
    } = unparsed.total();
    let reason = |(why, counted): (&str, Unparsed)| format!("{} {}", count(counted.connections), escape::text(why));
    let reasons: Vec<String> = unparsed.reasons().into_iter().map(reason).collect();
    (connections > 0).then(|| {
        format!(
            "{} {} with {} not parsed: {}",
            count(connections),
            if connections == 1 { "connection" } else { "connections" },
            bytes(size),
            reasons.join(", ")
        )
    })
}

fn capture_lines(capture: &CaptureFacts) -> Vec<String> {
    if capture.unread {
        // The reason names the file.
        return vec![format!("left out: {}", escape::text(&capture.damage.join("; ")))];
    }
    let header = &capture.header;
    let mut first = escape::text(&capture.path);
    for (before, text) in [
        (": host ", &header.hostname),
        (", kernel ", &header.kernel),
        (", backend ", &header.backend),
    ] {
        if !text.is_empty() {
            let _ = write!(first, "{before}{}", escape::text(text));
        }
    }
    let filters = if header.filters.is_empty() {
        "everything".to_string()
    } else {
        escape::text(&header.filters)
    };
    let _ = write!(first, ", recorded: {filters}");
    let mut second = String::new();
    match capture.first {
        0 => second.push_str("time not known,"),
        first => {
            time::write_readable(&mut second, first);
            second.push_str(" UTC,");
        }
    }
    let ratio = capture.raw_bytes as f64 / capture.file_bytes.max(1) as f64;
    let _ = write!(
        second,
        " {} long, {} events, {} on disk ({ratio:.1}:1), {}",
        capture.span_ns().map_or("?".to_string(), duration),
        count(capture.records),
        bytes(capture.file_bytes),
        if capture.closed_cleanly {
            "closed cleanly"
        } else {
            "not closed: the recorder was cut off"
        }
    );
    let mut lines = vec![first, second];
    let damage = capture.damage.iter().take(SHOWN);
    lines.extend(damage.map(|damage| format!("damaged: {}", escape::text(damage))));
    if capture.damage.len() > SHOWN {
        let more = count((capture.damage.len() - SHOWN) as u64);
        lines.push(format!("damaged: … and {more} more places: --table capture"));
    }
    lines.extend(capture.remarks.iter().map(|remark| escape::text(remark).to_string()));
    lines
}

/// A heading word and its lines, the first beside it.
fn paragraph(to: &mut String, heading: &str, lines: &[String], colour: bool) {
    for (n, line) in lines.iter().enumerate() {
        let heading = format!("{:<12}", if n == 0 { heading } else { "" });
        let heading = if colour && n == 0 { bold(&heading) } else { heading };
        let _ = writeln!(to, "{heading}{line}");
    }
}

fn write_section(to: &mut String, section: &Section, colour: bool) {
    let rows = section.columns.rows();
    if rows == 0 {
        return;
    }
    let title = format!("{} ({})", section.title, count(rows as u64));
    let _ = writeln!(to, "\n{}", if colour { bold(&title) } else { title });
    let shown = Columns {
        columns: section
            .brief
            .iter()
            .map(|n| section.columns.columns[*n].clone())
            .collect(),
    };
    to.push_str(&terminal::lay_out(
        &shown,
        0..rows.min(SHOWN),
        CELL,
        colour.then_some(dim),
    ));
    if rows > SHOWN {
        let _ = writeln!(to, "  … and {} more: {}", count((rows - SHOWN) as u64), section.more);
    }
}

/// Writes the report as text.
pub fn text(report: &Report, colour: bool, to: &mut dyn Write) -> std::io::Result<()> {
    let mut text = String::new();
    let lines: Vec<String> = report.captures.iter().flat_map(capture_lines).collect();
    paragraph(&mut text, "Capture", &lines, colour);
    let mut lines = vec![confidence(&report.confidence)];
    lines.extend(unparsed(&report.unparsed));
    paragraph(&mut text, "Confidence", &lines, colour);
    let totals = &report.totals;
    let traffic = format!(
        "{} connections ({} failed), {} listeners, {} payload, {} processes",
        count(totals.connections),
        count(totals.failed_connects),
        count(totals.listeners),
        bytes(totals.bytes),
        count(totals.processes)
    );
    paragraph(&mut text, "Traffic", &[traffic], colour);
    paragraph(&mut text, "Losses", &[losses(report)], colour);
    for section in &report.sections {
        write_section(&mut text, section, colour);
    }
    to.write_all(text.as_bytes())
}

/// All losses: those that the recorder reported (a table of them follows), and those that the analyzer found in streams.
fn losses(report: &Report) -> String {
    let totals = &report.totals;
    let recorded = report
        .sections
        .iter()
        .any(|section| section.name == "losses" && section.columns.rows() > 0);
    let unread = report.captures.iter().filter(|capture| capture.unread).count();
    let parts = [
        (unread > 0).then(|| format!("{unread} of {} files not read", report.captures.len())),
        recorded.then(|| "as listed below".to_string()),
        (totals.impossible_times > 0).then(|| {
            format!(
                "{} rows with times before 1970 or after 2262, left out",
                count(totals.impossible_times)
            )
        }),
        (totals.lost_bytes > 0).then(|| format!("{} of the payload lost", bytes(totals.lost_bytes))),
        (totals.unread_bytes > 0).then(|| not_kept(totals.unread_bytes, truncated_bytes(report))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "none".to_string();
    }
    parts.join("; ")
}

/// Truncated bytes in the table of losses.
fn truncated_bytes(report: &Report) -> u64 {
    let losses = report.sections.iter().find(|section| section.name == "losses");
    let columns = losses.map(|section| &section.columns);
    let Some((reasons, sizes)) = columns.and_then(|all| Some((all.column("reason")?, all.column("bytes")?))) else {
        return 0;
    };
    let truncated = (0..reasons.len()).filter(|row| reasons.get(*row) == Value::Text(LossReason::Truncated.name()));
    truncated.fold(0, |sum, row| match sizes.get(row) {
        Value::Int(size) => sum.saturating_add(size),
        _ => sum,
    })
}

/// Bytes of the payload that are counted and not kept. Where both ends were recorded, each truncated the same bytes: the
/// records then count more bytes than the payload has.
fn not_kept(unread: u64, truncated: u64) -> String {
    let text = format!(
        "{} of the payload counted and not kept (beyond the snaplen)",
        bytes(unread)
    );
    match truncated > unread {
        true => format!("{text}, {} in the records of both ends together", bytes(truncated)),
        false => text,
    }
}

fn confidence_json(confidence: &Confidence) -> serde_json::Value {
    let reasons: serde_json::Map<String, serde_json::Value> = confidence
        .reasons()
        .into_iter()
        .map(|(reason, count)| (reason.name().to_string(), count.into()))
        .collect();
    serde_json::json!({
        "exchanges": confidence.exchanges,
        "measured": confidence.measured(),
        "incomplete": reasons,
    })
}

fn unparsed_json(unparsed: &UnparsedBy) -> serde_json::Value {
    let counted = |counted: Unparsed| serde_json::json!({"connections": counted.connections, "bytes": counted.bytes});
    let reasons: serde_json::Map<String, serde_json::Value> = unparsed
        .reasons()
        .into_iter()
        .map(|(why, number)| (why.to_string(), counted(number)))
        .collect();
    let total = unparsed.total();
    serde_json::json!({"connections": total.connections, "bytes": total.bytes, "reasons": reasons})
}

/// Writes the report as one JSON object.
pub fn json(report: &Report, to: &mut dyn Write) -> std::io::Result<()> {
    let mut text = String::from("{\n\"capture\": ");
    write_rows(
        &mut text,
        &crate::analyze::report::sections::rows::<crate::analyze::table::capture::Capture>(report.captures.iter()),
    );
    let _ = write!(text, ",\n\"confidence\": {}", confidence_json(&report.confidence));
    for (protocol, confidence) in &report.confidences {
        let _ = write!(text, ",\n\"confidence_{protocol}\": {}", confidence_json(confidence));
    }
    let _ = write!(text, ",\n\"not_parsed\": {}", unparsed_json(&report.unparsed));
    let totals = &report.totals;
    let totals = serde_json::json!({
        "connections": totals.connections,
        "failed_connects": totals.failed_connects,
        "listeners": totals.listeners,
        "bytes": totals.bytes,
        "lost_bytes": totals.lost_bytes,
        "unread_bytes": totals.unread_bytes,
        "processes": totals.processes,
        "impossible_times": totals.impossible_times,
        "files_not_read": report.captures.iter().filter(|capture| capture.unread).count(),
    });
    let _ = write!(text, ",\n\"totals\": {totals}");
    for section in &report.sections {
        let _ = write!(text, ",\n\"{}\": ", section.name);
        write_rows(&mut text, &section.columns);
    }
    text.push_str("\n}\n");
    to.write_all(text.as_bytes())
}

fn write_rows(to: &mut String, columns: &Columns) {
    to.push('[');
    for row in 0..columns.rows() {
        to.push_str(if row == 0 { "\n  " } else { ",\n  " });
        rows::write_object(to, columns, row);
    }
    to.push_str(if columns.rows() == 0 { "]" } else { "\n]" });
}
