//! `--where`: `status >= 500 and path ~ "/api" and total_ns > 10ms`.
//!
//! `and`, `or`, `not`, brackets; `=`, `!=`, `<`, `<=`, `>`, `>=`; `~` and `!~` for regular expressions found anywhere in
//! a text; `in (…)`; `is null`, `is not null`; a true-or-false column may be written alone. Durations, sizes and times are
//! written with their units.
//!
//! Null is an unknown value, and logic has three values, as in SQL: a comparison with null is unknown, `not` of unknown is
//! unknown, `and` and `or` are unknown where the unknown side decides. A row passes where the whole expression is true. So
//! `status != 200` and `not status = 200` are equivalent, and neither selects requests without a response;
//! `status != 200 or status is null` does.

use std::fmt;

use super::test::{Operator, Test};
use crate::analyze::column::unknown_column;
use crate::analyze::table::{Kind, Spec, Value};
use crate::escape;

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    pub message: String,
    /// The expression.
    pub text: String,
    /// The range of the wrong part, in bytes.
    pub at: std::ops::Range<usize>,
    /// The error is a column that the table does not have.
    pub unknown_column: bool,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |range| escape::text(self.text.get(range).unwrap_or_default()).chars().count();
        write!(
            f,
            "{}\n    {}\n    {}{}",
            escape::text(&self.message),
            escape::text(&self.text),
            " ".repeat(width(0..self.at.start)),
            "^".repeat(width(self.at.clone()).max(1))
        )
    }
}

impl std::error::Error for QueryError {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Operator(Operator),
    Not,
    Open,
    Close,
    Comma,
}

type Positioned = (Token, std::ops::Range<usize>);

/// Brackets and negations that may be nested.
const MAX_DEPTH: usize = 64;

fn tokens(text: &str) -> Result<Vec<Positioned>, QueryError> {
    let fail = |message: &str, at: std::ops::Range<usize>| QueryError {
        message: message.to_string(),
        text: text.to_string(),
        at,
        unknown_column: false,
    };
    let mut found = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '"' | '\'' => {
                let mut quoted = String::new();
                loop {
                    match rest.next() {
                        None => return Err(fail("a quotation mark is missing", start..text.len())),
                        Some((_, end)) if end == c => break,
                        // A backslash keeps its meaning in regular expressions; only quotes need it here.
                        Some((_, '\\')) if rest.peek().is_some_and(|(_, next)| *next == c) => {
                            quoted.push(c);
                            rest.next();
                        }
                        Some((_, other)) => quoted.push(other),
                    }
                }
                Token::Quoted(quoted)
            }
            '=' | '!' | '<' | '>' | '~' | '&' | '|' => {
                let mut operator = c.to_string();
                while let Some((_, next)) = rest.next_if(|(_, next)| "=<>~&|".contains(*next)) {
                    operator.push(next);
                }
                let end = start + operator.len();
                match operator.as_str() {
                    "!" => Token::Not,
                    "&&" => Token::Word("and".into()),
                    "||" => Token::Word("or".into()),
                    operator => match Operator::parse(operator) {
                        Some(operator) => Token::Operator(operator),
                        None => return Err(fail("no such operator", start..end)),
                    },
                }
            }
            c => {
                let mut word = c.to_string();
                while let Some((_, next)) = rest.next_if(|(_, c)| !c.is_whitespace() && !"()\"',=!<>~&|".contains(*c)) {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        let end = rest.peek().map_or(text.len(), |(at, _)| *at);
        found.push((token, start..end));
    }
    Ok(found)
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Test(usize, Test),
}

/// An expression over the columns of one table.
#[derive(Debug, Clone)]
pub struct Expression {
    pub(super) root: Node,
}

struct Parser<'a> {
    text: &'a str,
    table: &'a str,
    specs: &'a [Spec],
    tokens: std::iter::Peekable<std::vec::IntoIter<Positioned>>,
    depth: usize,
}

impl Expression {
    /// Reads an expression over these columns of the table of this name.
    pub fn parse(text: &str, table: &str, specs: &[Spec]) -> Result<Expression, QueryError> {
        let tokens = tokens(text)?.into_iter().peekable();
        let mut parser = Parser {
            text,
            table,
            specs,
            tokens,
            depth: 0,
        };
        let root = parser.any()?;
        match parser.tokens.next() {
            None => Ok(Expression { root }),
            Some((_, at)) => Err(parser.fail("expected and, or, or the end", at)),
        }
    }

    /// A test of the column with this number.
    pub fn test(column: usize, test: Test) -> Expression {
        Expression {
            root: Node::Test(column, test),
        }
    }

    /// Passes what passes all of these; everything without any.
    pub fn all(expressions: impl IntoIterator<Item = Expression>) -> Expression {
        Expression {
            root: Node::And(expressions.into_iter().map(|one| one.root).collect()),
        }
    }

    /// Passes what passes any of these; nothing without any.
    pub fn any(expressions: impl IntoIterator<Item = Expression>) -> Expression {
        Expression {
            root: Node::Or(expressions.into_iter().map(|one| one.root).collect()),
        }
    }

    /// Whether it tests the column with this number.
    pub fn uses(&self, column: usize) -> bool {
        fn uses(node: &Node, column: usize) -> bool {
            match node {
                Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(|node| uses(node, column)),
                Node::Not(node) => uses(node, column),
                Node::Test(of, _) => *of == column,
            }
        }
        uses(&self.root, column)
    }

    /// Whether a row passes; `holds` applies a test to the column with a number.
    pub fn matches(&self, holds: &mut impl FnMut(usize, &Test) -> Option<bool>) -> bool {
        /// `None` is unknown. `decides` ends an `and` (false) or an `or` (true), regardless of the others.
        fn joined(nodes: &[Node], decides: bool, holds: &mut impl FnMut(usize, &Test) -> Option<bool>) -> Option<bool> {
            let mut all = Some(!decides);
            for node in nodes {
                match value(node, holds) {
                    Some(one) if one == decides => return Some(decides),
                    Some(_) => {}
                    None => all = None,
                }
            }
            all
        }
        fn value(node: &Node, holds: &mut impl FnMut(usize, &Test) -> Option<bool>) -> Option<bool> {
            match node {
                Node::And(nodes) => joined(nodes, false, holds),
                Node::Or(nodes) => joined(nodes, true, holds),
                Node::Not(node) => value(node, holds).map(|one| !one),
                Node::Test(column, test) => holds(*column, test),
            }
        }
        value(&self.root, holds) == Some(true)
    }

    /// Whether a row of values passes.
    pub fn matches_values<'v>(&self, get: impl Fn(usize) -> Value<'v>) -> bool {
        self.matches(&mut |column, test| test.holds(get(column)))
    }
}

impl Parser<'_> {
    fn fail(&self, message: impl Into<String>, at: std::ops::Range<usize>) -> QueryError {
        QueryError {
            message: message.into(),
            text: self.text.to_string(),
            at,
            unknown_column: false,
        }
    }

    fn end(&self) -> std::ops::Range<usize> {
        self.text.len()..self.text.len()
    }

    /// Where the next token is, or the end.
    fn next_at(&mut self) -> std::ops::Range<usize> {
        let end = self.end();
        self.tokens.peek().map_or(end, |(_, at)| at.clone())
    }

    fn word(&mut self, expected: &str) -> bool {
        self.tokens
            .next_if(|(token, _)| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(expected)))
            .is_some()
    }

    fn any(&mut self) -> Result<Node, QueryError> {
        let mut nodes = vec![self.all()?];
        while self.word("or") {
            nodes.push(self.all()?);
        }
        Ok(Node::Or(nodes))
    }

    fn all(&mut self) -> Result<Node, QueryError> {
        let mut nodes = vec![self.one()?];
        while self.word("and") {
            nodes.push(self.one()?);
        }
        Ok(Node::And(nodes))
    }

    fn one(&mut self) -> Result<Node, QueryError> {
        let (token, at) = self
            .tokens
            .next()
            .ok_or_else(|| self.fail("expected a column", self.end()))?;
        let negated = matches!(&token, Token::Not) || matches!(&token, Token::Word(w) if w.eq_ignore_ascii_case("not"));
        if negated || token == Token::Open {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.fail("too deeply nested", at));
            }
            let node = match negated {
                true => Node::Not(Box::new(self.one()?)),
                false => {
                    let node = self.any()?;
                    match self.tokens.next() {
                        Some((Token::Close, _)) => node,
                        Some((_, at)) => return Err(self.fail("expected )", at)),
                        None => return Err(self.fail("this bracket is not closed", at)),
                    }
                }
            };
            self.depth -= 1;
            return Ok(node);
        }
        match token {
            Token::Word(name) => self.comparison(&name, at),
            _ => Err(self.fail("expected a column", at)),
        }
    }

    fn comparison(&mut self, name: &str, at: std::ops::Range<usize>) -> Result<Node, QueryError> {
        let Some(column) = Spec::find(name, self.specs) else {
            let mut error = self.fail(unknown_column(name, self.table, self.specs), at);
            error.unknown_column = true;
            return Err(error);
        };
        let kind = self.specs[column].kind;
        if self.word("is") {
            let negated = self.word("not");
            return match self.word("null") {
                true => Ok(Node::Test(column, Test::IsNull(!negated))),
                false => {
                    let at = self.next_at();
                    Err(self.fail("expected null", at))
                }
            };
        }
        if self.word("in") {
            return self.list(name, column, kind);
        }
        match self.tokens.next_if(|(token, _)| matches!(token, Token::Operator(_))) {
            Some((Token::Operator(operator), _)) => {
                let (literal, at) = self.literal()?;
                let test = Test::new(name, kind, operator, &literal).map_err(|message| self.fail(message, at))?;
                Ok(Node::Test(column, test))
            }
            _ if kind == Kind::Flag => Ok(Node::Test(column, Test::Flag(true))),
            _ => {
                let at = self.tokens.peek().map_or(at, |(_, at)| at.clone());
                Err(self.fail(
                    format!("expected a comparison for {name}: =, !=, <, <=, >, >=, ~, !~, in, is"),
                    at,
                ))
            }
        }
    }

    fn list(&mut self, name: &str, column: usize, kind: Kind) -> Result<Node, QueryError> {
        match self.tokens.next() {
            Some((Token::Open, _)) => {}
            Some((_, at)) => return Err(self.fail("expected (", at)),
            None => return Err(self.fail("expected (", self.end())),
        }
        let mut tests = Vec::new();
        loop {
            let (literal, at) = self.literal()?;
            tests.push(Test::new(name, kind, Operator::Equal, &literal).map_err(|message| self.fail(message, at))?);
            match self.tokens.next() {
                Some((Token::Comma, _)) => {}
                Some((Token::Close, _)) => return Ok(Node::Test(column, Test::OneOf(tests))),
                Some((_, at)) => return Err(self.fail("expected , or )", at)),
                None => return Err(self.fail("expected )", self.end())),
            }
        }
    }

    fn literal(&mut self) -> Result<(String, std::ops::Range<usize>), QueryError> {
        match self.tokens.next() {
            Some((Token::Word(text) | Token::Quoted(text), at)) => Ok((text, at)),
            Some((_, at)) => Err(self.fail("expected a value", at)),
            None => Err(self.fail("expected a value", self.end())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::catalog::TableName;
    use crate::analyze::protocol::http1::Http;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Expression, QueryError> {
        Expression::parse(text, "http", &TableName::of::<Http>().specs())
    }

    /// A row of which only these columns are known.
    fn matches(text: &str, row: &[(&str, Value<'static>)]) -> bool {
        let specs = TableName::of::<Http>().specs();
        parse(text).unwrap().matches_values(|column| {
            row.iter()
                .find(|(name, _)| *name == specs[column].name)
                .map_or(Value::Null, |(_, value)| *value)
        })
    }

    #[test]
    fn expressions_pick_rows() {
        let row = &[
            ("status", Value::Int(503)),
            ("path", Value::Text("/api/users")),
            ("method", Value::Text("GET")),
            ("total_ns", Value::Int(12_000_000)),
            ("complete", Value::Flag(true)),
            ("start", Value::Int(1_769_860_800_000_000_000)),
            ("response_bytes", Value::Int(2048)),
        ];
        for yes in [
            "status >= 500 and path ~ \"/api\" and total_ns > 10ms",
            "status>=500&&path~'^/api'",
            "method = GET",
            "method in (POST, GET)",
            "status in (502,503)",
            "not status < 500",
            "! (status < 500 or method = POST)",
            "complete",
            "complete = true and not complete = no",
            "query is null and path is not null",
            "response_bytes = 2KiB",
            "start >= 2026-01-31T12:00:00Z and start < \"2026-01-31 12:00:01\"",
            "path !~ admin",
            "status < 500 or status > 502 and method != POST",
        ] {
            assert!(matches(yes, row), "{yes}");
        }
        for no in [
            "status < 500",
            "query = x",
            "query != x",
            "method = get",
            "complete = false",
            "total_ns > 0.1s",
        ] {
            assert!(!matches(no, row), "{no}");
        }
    }

    #[test]
    fn a_comparison_with_null_is_neither_true_nor_false() {
        // A request without a response.
        let row = &[("method", Value::Text("GET")), ("complete", Value::Flag(false))];
        for unknown in [
            "status = 200",
            "status != 200",
            "not status = 200",
            "not status != 200",
            "not (status = 200 and method = GET)",
            "not (status = 200 or method = POST)",
            "status in (200, 404)",
            "not status in (200, 404)",
            "query ~ x",
            "query !~ x",
            "not query ~ x",
            "status > 0 or complete",
        ] {
            assert!(!matches(unknown, row), "{unknown}");
        }
        for yes in [
            "status is null",
            "not status is not null",
            "status != 200 or status is null",
            "status = 200 or method = GET",
            "not (status = 200 and method = POST)",
            "not (status = 200 and complete)",
        ] {
            assert!(matches(yes, row), "{yes}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        let shown = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            shown("statuss >= 500"),
            "table http has no column statuss; did you mean status?\n    statuss >= 500\n    ^^^^^^^"
        );
        assert_eq!(
            shown("status >= 500 and total_ns > fast"),
            "\"fast\" is not a duration; examples: 500us, 10ms, 1.5s, 2m, 1h30m\n    \
             status >= 500 and total_ns > fast\n                                 ^^^^"
        );
        assert_eq!(
            shown("path = '\u{202e}x\n' and statuss = 5"),
            "table http has no column statuss; did you mean status?\n    \
             path = '\\u{202e}x\\n' and statuss = 5\n                             ^^^^^^^"
        );
        assert_eq!(
            shown("status ~ 5"),
            "~ is for text, and status is a u32\n    status ~ 5\n             ^"
        );
        assert!(shown("path ~ \"(\"").starts_with("\"(\" is not a regular expression"));
        assert!(shown("(status = 1").starts_with("this bracket is not closed"));
        assert!(shown("status").starts_with("expected a comparison for status"));
        assert!(shown("status = 1 status").starts_with("expected and, or, or the end"));
        assert!(shown("").starts_with("expected a column"));
        assert!(shown("path = \"x").starts_with("a quotation mark is missing"));
        assert!(shown(&"(".repeat(100)).starts_with("too deeply nested"));
        assert!(shown("flavour = 1").contains("it has start, client_ip"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            if let Err(error) = parse(&text) {
                let _ = error.to_string();
            }
        }

        #[test]
        fn any_words_are_read_or_refused(
            words in proptest::collection::vec(
                prop_oneof![
                    Just("status"), Just("path"), Just("and"), Just("or"), Just("not"), Just("("), Just(")"), Just("="),
                    Just("~"), Just("5"), Just("in"), Just(","), Just("is"), Just("null"), Just("'é"), Just("!"),
                ],
                0..20,
            ),
        ) {
            let _ = parse(&words.join(" ")).map_err(|error| error.to_string());
        }
    }
}
