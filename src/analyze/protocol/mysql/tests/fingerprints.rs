use super::super::{digest, fingerprint};

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn fingerprints_and_ids_are_those_of_pt_query_digest() {
    let cases = include_str!("../../../../../fixtures/mysql/fingerprints.tsv");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in cases.lines().filter(|l| !l.starts_with('#')) {
        let [statement, expected, id] = line.split('\t').map(unescape).collect::<Vec<_>>().try_into().unwrap();
        let made = fingerprint(&statement);
        if made != expected {
            wrong.push(format!("{statement:?}\n   made {made:?}\n   want {expected:?}"));
        } else if digest(&made) != id {
            wrong.push(format!("{statement:?}: id"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 100);
}

#[test]
fn what_pt_query_digest_misreads_is_read_as_sql() {
    for (statement, expected) in [
        (
            r#"select 'a''b', 'a\\', "x\"y", '' from t"#,
            "select ??, ?, ?, ? from t",
        ),
        ("select 'cut off", "select ?"),
        ("select a--1 from t", "select a? from t"),
        ("select a -- it's\n from t", "select a from t"),
        ("select '5\" disk', \"it's\" from t", "select ?, ? from t"),
        (
            "insert into t values ('),(', now()), (2, now())",
            "insert into t values (?, now())",
        ),
        ("use foo", "use ?"),
        ("select été, ÀB from t", "select été, Àb from t"),
    ] {
        assert_eq!(fingerprint(statement), expected, "{statement}");
    }
}

#[test]
fn no_statement_makes_fingerprints_panic_or_hang() {
    for piece in [
        "(",
        "select ",
        " union select ?",
        "'",
        "/*",
        "in (",
        "--",
        "\\",
        "é'",
        "values (1),(",
        "/*a.b:1/",
        "asc ",
    ] {
        let text = piece.repeat(64 * 1024 / piece.len());
        fingerprint(&text);
        fingerprint(text.trim_end_matches(piece.chars().next_back().unwrap_or(' ')));
    }
    for union in ["select 1 union ", "insert into t values (1,f(1)),"] {
        fingerprint(&union.repeat(4000));
    }
}
