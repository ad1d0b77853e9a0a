//! The template of room names: text with placeholders from a fixed list, none of which can name a patient.

use crate::care::policy::NamePart;

/// Every placeholder.
const PLACEHOLDERS: [(&str, NamePart); 7] = [
    ("facility", NamePart::Facility),
    ("unit", NamePart::Unit),
    ("room", NamePart::Room),
    ("bed", NamePart::Bed),
    ("place", NamePart::Place),
    ("code", NamePart::Code),
    ("service", NamePart::Service),
];

/// Reads a template such as `{{ place }} {{ code }}`.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn parse(template: &str) -> Result<Vec<NamePart>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        push_text(&mut parts, text)?;
        let Some((inside, after)) = after.split_once("}}") else {
            return Err("has a `{{` that no `}}` closes".to_owned());
        };
        let name = inside.trim();
        let known = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name);
        let Some((_, part)) = known else {
            let names: Vec<&str> = PLACEHOLDERS.iter().map(|(placeholder, _)| *placeholder).collect();
            return Err(format!("has a placeholder that is none of {}", crate::config::shape::listed(&names)));
        };
        parts.push(part.clone());
        rest = after;
    }
    push_text(&mut parts, rest)?;
    if !parts.contains(&NamePart::Code) {
        return Err("must contain `{{ code }}`, so that no two rooms share a name".to_owned());
    }
    Ok(parts)
}

fn push_text(parts: &mut Vec<NamePart>, text: &str) -> Result<(), String> {
    if text.contains("}}") {
        return Err("has a `}}` that no `{{` opens".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    if !text.is_empty() {
        parts.push(NamePart::Text(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::care::policy::NamePart;

    #[test]
    fn a_template_is_text_and_placeholders() {
        assert_eq!(parse("{{place}} · {{ code }}"), Ok(vec![NamePart::Place, NamePart::Text(" · ".to_owned()), NamePart::Code]));
    }

    #[test]
    fn what_could_name_a_patient_or_cannot_be_read_is_refused() {
        let check = |template, rule: &str| assert_eq!(parse(template), Err(rule.to_owned()), "{template:?}");
        check("{{ family }} {{ code }}", "has a placeholder that is none of `facility`, `unit`, `room`, `bed`, `place`, `code`, `service`");
        check("{{ place", "has a `{{` that no `}}` closes");
        check("place }} {{ code }}", "has a `}}` that no `{{` opens");
        check("{{ place }}", "must contain `{{ code }}`, so that no two rooms share a name");
        check("a\n{{ code }}", "must be one line without control characters");
    }
}
