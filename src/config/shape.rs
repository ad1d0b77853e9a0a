//! Holds the raw tree against the JSON Schema that is published: unknown keys, wrong types, unknown words, numbers out of range.
//!
//! The schema that an editor shows is therefore the schema that is enforced. What is wrong is reported and taken out of the tree, so that the rest
//! can still be read and everything that is wrong is said at once.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config::tree::At;
use crate::config::tree::KeyPath;
use crate::config::tree::Node;
use crate::config::tree::Value;
use crate::config::tree::read_variable;

/// What is wrong with the shape: where, and the rule.
pub(super) struct Misfit {
    pub(super) path: KeyPath,
    pub(super) at: At,
    pub(super) rule: String,
}

/// The schema, resolved as one walks down.
#[derive(Clone, Copy)]
struct Shape<'s> {
    root: &'s Json,
    here: &'s Json,
}

impl<'s> Shape<'s> {
    /// Through references, and past the `null` that an absent table may be.
    fn to(self, here: &'s Json) -> Self {
        let mut here = here;
        // A bound instead of a proof that the schema has no circles.
        for _ in 0..8 {
            let referred = here.get("$ref").and_then(Json::as_str).and_then(|name| self.root.pointer(name.trim_start_matches('#')));
            let one_of = here.get("anyOf").or_else(|| here.get("allOf")).and_then(Json::as_array);
            let chosen = one_of.and_then(|choices| choices.iter().find(|choice| choice.get("type").and_then(Json::as_str) != Some("null")));
            match referred.or(chosen) {
                Some(next) => here = next,
                None => break,
            }
        }
        Self { here, ..self }
    }

    fn properties(self) -> Option<&'s serde_json::Map<String, Json>> {
        self.here.get("properties").and_then(Json::as_object)
    }

    /// What stands under a key; the second is whether the key is one of the schema's own.
    fn property(self, key: &str) -> Option<Self> {
        self.properties().and_then(|known| known.get(key)).map(|here| self.to(here)).or_else(|| self.open())
    }

    /// What stands under any key, in a table whose keys are the user's.
    fn open(self) -> Option<Self> {
        self.here.get("additionalProperties").filter(|any| any.is_object()).map(|here| self.to(here))
    }

    fn items(self) -> Option<Self> {
        self.here.get("items").map(|here| self.to(here))
    }

    fn is(self, kind: &str) -> bool {
        match self.here.get("type") {
            Some(Json::String(one)) => one == kind,
            Some(Json::Array(several)) => several.iter().any(|one| one == kind),
            _ => false,
        }
    }

    /// The words allowed here; none when any text is.
    fn words(self) -> Vec<&'s str> {
        let enumerated = |schema: &'s Json| {
            let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
            listed.chain(schema.get("const")).filter_map(Json::as_str).collect::<Vec<_>>()
        };
        let mut words = enumerated(self.here);
        for choice in self.here.get("oneOf").and_then(Json::as_array).into_iter().flatten() {
            words.extend(enumerated(choice));
        }
        words
    }

    /// A key as a variable names it: lower case, but in a table whose keys are the user's (`class_map`), where it counts as it stands.
    fn spelled(self, step: &str) -> String {
        let lower = step.to_lowercase();
        if self.properties().is_some_and(|known| known.contains_key(&lower)) || self.open().is_none() { lower } else { step.to_owned() }
    }

    /// What to say of a key that is not known.
    fn nearest(self, key: &str) -> String {
        let known = self.properties().into_iter().flat_map(serde_json::Map::keys);
        let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, &key.to_lowercase()));
        nearest.map_or_else(|| "unknown key".to_owned(), |nearest| format!("unknown key; the nearest known key is `{nearest}`"))
    }
}

/// Lays environment variables over the tree. `variables` are the names after `WARDROOM_` with their values.
pub(super) fn overlay(tree: &mut Node, schema: &Json, variables: impl IntoIterator<Item = (String, String)>) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    for (name, text) in variables {
        let value = read_variable(&name, &text);
        let at = value.at.clone();
        let steps = name.strip_prefix("WARDROOM_").unwrap_or(&name).split("__");
        let steps: Vec<_> = steps.collect();
        let shape = Shape { root: schema, here: schema };
        let placed = known(shape, &KeyPath::default(), &steps).and_then(|()| place(tree, shape, &KeyPath::default(), &steps, value));
        if let Err((path, rule)) = placed {
            misfits.push(Misfit { path, at, rule });
        }
    }
    misfits
}

/// Whether the schema knows such a key.
fn known(shape: Shape<'_>, path: &KeyPath, steps: &[&str]) -> Result<(), (KeyPath, String)> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    if let Some(items) = shape.items() {
        return match step.parse() {
            Ok(index) => known(items, &path.index(index), rest),
            Err(_) => Err((path.key(step), "is a list: its entries are numbered from 0".to_owned())),
        };
    }
    let key = shape.spelled(step);
    let path = path.key(&key);
    let inner = shape.property(&key).ok_or_else(|| (path.clone(), shape.nearest(&key)))?;
    known(inner, &path, rest)
}

fn place(node: &mut Node, shape: Shape<'_>, path: &KeyPath, steps: &[&str], value: Node) -> Result<(), (KeyPath, String)> {
    let Some((step, rest)) = steps.split_first() else {
        *node = value;
        return Ok(());
    };
    let empty = |at: &At| Node { at: at.clone(), value: Value::Table(BTreeMap::default()) };
    if let (Some(items), Ok(index)) = (shape.items(), step.parse::<usize>()) {
        if !matches!(node.value, Value::List(_)) {
            node.value = Value::List(Vec::new());
        }
        let Value::List(entries) = &mut node.value else { return Ok(()) };
        let next = entries.len();
        if index == next {
            entries.push(empty(&value.at));
        }
        let path = path.index(index);
        let entry = entries.get_mut(index).ok_or_else(|| (path.clone(), format!("leaves a gap: the next entry is number {next}")))?;
        return place(entry, items, &path, rest, value);
    }
    let key = shape.spelled(step);
    let path = path.key(&key);
    let Some(inner) = shape.property(&key) else { return Ok(()) };
    if !matches!(node.value, Value::Table(_)) {
        node.value = Value::Table(BTreeMap::default());
    }
    let Value::Table(entries) = &mut node.value else { return Ok(()) };
    let entry = entries.entry(key).or_insert_with(|| empty(&value.at));
    place(entry, inner, &path, rest, value)
}

/// Checks the tree, and takes out what does not fit.
pub(super) fn check(tree: &mut Node, schema: &Json) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    check_node(tree, Shape { root: schema, here: schema }, &KeyPath::default(), &mut misfits);
    misfits
}

/// Whether the node may stay.
fn check_node(node: &mut Node, shape: Shape<'_>, path: &KeyPath, misfits: &mut Vec<Misfit>) -> bool {
    if shape.is("object") {
        return check_table(node, shape, path, misfits);
    }
    if shape.is("array") {
        let At::Variable { text, .. } = node.at.clone() else { return check_list(node, shape, path, misfits) };
        // `WARDROOM_ROOMS__CLASSES=I,E` is what people write.
        if matches!(node.value, Value::Text(_)) {
            let at = node.at.clone();
            let item = |item: &str| Node { at: at.clone(), value: Value::Text(item.trim().to_owned()) };
            node.value = Value::List(text.split(',').filter(|item| !item.trim().is_empty()).map(item).collect());
        }
        return check_list(node, shape, path, misfits);
    }
    match check_leaf(node, shape) {
        Ok(()) => true,
        Err(rule) => {
            misfits.push(Misfit { path: path.clone(), at: node.at.clone(), rule });
            false
        }
    }
}

fn check_table(node: &mut Node, shape: Shape<'_>, path: &KeyPath, misfits: &mut Vec<Misfit>) -> bool {
    let Value::Table(entries) = &mut node.value else {
        misfits.push(Misfit { path: path.clone(), at: node.at.clone(), rule: format!("must be a table, not {}", node.value.kind()) });
        return false;
    };
    entries.retain(|key, entry| {
        let path = path.key(key);
        let Some(inner) = shape.property(key) else {
            misfits.push(Misfit { path, at: entry.at.clone(), rule: shape.nearest(key) });
            return false;
        };
        check_node(entry, inner, &path, misfits)
    });
    true
}

fn check_list(node: &mut Node, shape: Shape<'_>, path: &KeyPath, misfits: &mut Vec<Misfit>) -> bool {
    let (Value::List(items), Some(inner)) = (&mut node.value, shape.items()) else {
        misfits.push(Misfit { path: path.clone(), at: node.at.clone(), rule: format!("must be a list, not {}", node.value.kind()) });
        return false;
    };
    let mut all_fit = true;
    for (index, item) in items.iter_mut().enumerate() {
        all_fit &= check_node(item, inner, &path.index(index), misfits);
    }
    // A list that lost an entry would shift the numbers of those behind it, so it goes as a whole.
    all_fit
}

fn check_leaf(node: &mut Node, shape: Shape<'_>) -> Result<(), String> {
    let words = shape.words();
    if shape.is("string") || !words.is_empty() {
        match (&mut node.value, &node.at) {
            (Value::Text(_), _) => {}
            (Value::Datetime(text), At::Line(_)) => node.value = Value::Text(std::mem::take(text)),
            // A variable that happens to read as a number is still text where text is wanted.
            (Value::Integer(_) | Value::Boolean(_) | Value::OtherNumber | Value::Datetime(_), At::Variable { text, .. }) => {
                node.value = Value::Text(text.to_string());
            }
            (other, _) => return Err(format!("must be a string, not {}", other.kind())),
        }
        let known = matches!(&node.value, Value::Text(text) if words.is_empty() || words.contains(&text.as_str()));
        return if known { Ok(()) } else { Err(format!("must be one of {}", listed(&words))) };
    }
    if shape.is("boolean") {
        return if matches!(node.value, Value::Boolean(_)) { Ok(()) } else { Err(format!("must be true or false, not {}", node.value.kind())) };
    }
    if shape.is("integer") {
        let Value::Integer(number) = node.value else { return Err(format!("must be an integer, not {}", node.value.kind())) };
        let bound = |name: &str| shape.here.get(name).and_then(Json::as_i64);
        let (least, most) = (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX));
        return if (least..=most).contains(&number) { Ok(()) } else { Err(format!("must be between {least} and {most}")) };
    }
    Ok(())
}

/// Words in backticks, separated by commas.
pub(super) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
