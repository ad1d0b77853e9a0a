//! The raw configuration: TOML as a tree in which every value knows the line or the environment variable it came from.
//!
//! It knows nothing of which keys there are. Nothing here has a `Debug`: a value may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// One step of a key path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The path of a key from the root: `feeds[0].ack_mode`.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The path of a key at the root.
    pub(super) fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// The path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The path of an entry of the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    let dot = if position == 0 { "" } else { "." };
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Where a value stands.
#[derive(Clone)]
pub(super) enum At {
    /// On this line of the file.
    Line(usize),
    /// In this environment variable.
    Variable {
        /// Its name.
        name: Arc<str>,
        /// What it holds, as it stands.
        text: Arc<str>,
    },
}

/// A value.
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Datetime(String),
    /// A float, or an integer beyond 64 bits: nothing here is ever one.
    OtherNumber,
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// A value and where it stands.
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

/// What keeps a text from being TOML.
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads a whole file.
pub(super) fn read(text: &str) -> (Node, Vec<SyntaxError>) {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.into_iter().map(|error| SyntaxError {
        line: error.span().map_or(1, |span| lines.number(span.start)),
        // Only the message: the whole error quotes the line, which may hold a secret.
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    });
    (Node { at: At::Line(1), value: of_table(table.get_ref(), &|offset| At::Line(lines.number(offset))) }, errors.collect())
}

/// Reads the value of an environment variable: TOML, else the text as it stands.
pub(super) fn read_variable(name: &str, text: &str) -> Node {
    let at = At::Variable { name: name.into(), text: text.into() };
    let value = DeValue::parse(text).map_or_else(|_| Value::Text(text.to_owned()), |value| of_value(value.get_ref(), &|_| at.clone()));
    Node { at, value }
}

fn of_table(table: &DeTable<'_>, at: &impl Fn(usize) -> At) -> Value {
    let entry = |(key, value): (&Spanned<toml::de::DeString<'_>>, &Spanned<DeValue<'_>>)| {
        // A value is looked for where its key stands: that is the line a person searches.
        (key.get_ref().to_string(), Node { at: at(key.span().start), value: of_value(value.get_ref(), at) })
    };
    Value::Table(table.iter().map(entry).collect())
}

fn of_value(value: &DeValue<'_>, at: &impl Fn(usize) -> At) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::OtherNumber, Value::Integer),
        DeValue::Float(_) => Value::OtherNumber,
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(value.to_string()),
        DeValue::Array(values) => {
            Value::List(values.iter().map(|item| Node { at: at(item.span().start), value: of_value(item.get_ref(), at) }).collect())
        }
        DeValue::Table(table) => of_table(table, at),
    }
}

impl Node {
    /// Where the value at a path stands, or the nearest thing above it that is there.
    pub(super) fn locate(&self, path: &KeyPath) -> &At {
        let mut node = self;
        for step in &path.0 {
            let next = match (&node.value, step) {
                (Value::Table(entries), Step::Key(key)) => entries.get(key),
                (Value::List(items), Step::Index(index)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        &node.at
    }

    /// Whether anything stands at a path.
    pub(super) fn has(&self, path: &KeyPath) -> bool {
        path.0
            .iter()
            .try_fold(self, |node, step| match (&node.value, step) {
                (Value::Table(entries), Step::Key(key)) => entries.get(key),
                (Value::List(items), Step::Index(index)) => items.get(*index),
                _ => None,
            })
            .is_some()
    }

    /// The same as JSON, for serde.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Text(text) | Value::Datetime(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Boolean(value) => (*value).into(),
            Value::OtherNumber => serde_json::Value::Null,
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(entries) => entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
        }
    }
}

impl Value {
    /// What it is, in words.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date or time",
            Self::OtherNumber => "another number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)).collect())
    }

    fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
