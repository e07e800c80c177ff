//! One comparison of a column with a literal, with its types checked.

use regex_lite::Regex;

use crate::analyze::table::{Kind, Value};
use crate::pods::select::glob;
use crate::units;

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Matches,
    MatchesNot,
}

impl Operator {
    /// The operator with this spelling.
    pub fn parse(text: &str) -> Option<Operator> {
        Some(match text {
            "=" | "==" => Operator::Equal,
            "!=" | "<>" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::AtMost,
            ">" => Operator::Greater,
            ">=" => Operator::AtLeast,
            "~" | "=~" => Operator::Matches,
            "!~" => Operator::MatchesNot,
            _ => return None,
        })
    }

    fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
            Operator::Less => left < right,
            Operator::AtMost => left <= right,
            Operator::Greater => left > right,
            Operator::AtLeast => left >= right,
            Operator::Matches | Operator::MatchesNot => false,
        }
    }
}

/// A comparison.
#[derive(Debug, Clone)]
pub enum Test {
    Int(Operator, u64),
    Float(Operator, f64),
    Flag(bool),
    Text(Operator, String),
    Regex(bool, Regex),
    /// `*` matches any characters.
    Glob(String),
    OneOf(Vec<Test>),
    IsNull(bool),
}

impl Test {
    /// Checks the types; `Err` describes what does not fit.
    pub fn new(name: &str, kind: Kind, operator: Operator, literal: &str) -> Result<Test, String> {
        let ordered = !matches!(operator, Operator::Matches | Operator::MatchesNot);
        if !ordered {
            if kind != Kind::Text {
                return Err(format!("~ is for text, and {name} is a {}", kind.describe()));
            }
            let regex =
                Regex::new(literal).map_err(|error| format!("{literal:?} is not a regular expression: {error}"))?;
            return Ok(Test::Regex(operator == Operator::Matches, regex));
        }
        let number = |text: &str| text.replace('_', "").parse::<f64>().ok().filter(|n| n.is_finite());
        let int = |value: Result<u64, String>| value.map(|value| Test::Int(operator, value));
        match kind {
            Kind::Text => Ok(Test::Text(operator, literal.to_string())),
            Kind::Flag => {
                let flag = match literal {
                    "true" | "yes" => true,
                    "false" | "no" => false,
                    _ => return Err(format!("{name} is true or false, not {literal:?}")),
                };
                match operator {
                    Operator::Equal => Ok(Test::Flag(flag)),
                    Operator::NotEqual => Ok(Test::Flag(!flag)),
                    _ => Err(format!("{name} is true or false, and has no order")),
                }
            }
            Kind::Time => int(units::parse_time(literal)),
            Kind::Nanos => int(units::parse_nanoseconds(literal, 1)),
            Kind::Micros => int(units::parse_nanoseconds(literal, 1_000).map(|ns| ns / 1000)),
            Kind::Bytes => int(units::parse_size(literal)),
            Kind::Count | Kind::Number => int(units::parse_count(literal)),
            Kind::Float | Kind::Ratio => {
                let value = match literal.strip_suffix('%') {
                    Some(percent) if kind == Kind::Ratio => number(percent).map(|percent| percent / 100.0),
                    _ => number(literal),
                };
                value
                    .map(|value| Test::Float(operator, value))
                    .ok_or_else(|| format!("{literal:?} is not a number"))
            }
        }
    }

    /// Whether a value passes; `None` (unknown) for null, except in [`Test::IsNull`].
    pub fn holds(&self, value: Value<'_>) -> Option<bool> {
        match (self, value) {
            (Test::IsNull(expected), value) => Some((value == Value::Null) == *expected),
            (_, Value::Null) => None,
            (Test::OneOf(tests), value) => Some(tests.iter().any(|test| test.holds(value) == Some(true))),
            (Test::Int(operator, literal), Value::Int(value)) => Some(operator.holds(&value, literal)),
            (Test::Float(operator, literal), Value::Float(value)) => Some(operator.holds(&value, literal)),
            (Test::Flag(literal), Value::Flag(value)) => Some(value == *literal),
            (Test::Text(operator, literal), Value::Text(value)) => Some(operator.holds(value, literal.as_str())),
            (Test::Regex(expected, regex), Value::Text(value)) => Some(regex.is_match(value) == *expected),
            (Test::Glob(pattern), Value::Text(value)) => Some(glob(pattern, value)),
            // `Test::new` has checked the types.
            _ => Some(false),
        }
    }
}
