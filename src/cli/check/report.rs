//! What `check` found: a table for people, JSON for programs, and the exit code.

use serde::Serialize;

use crate::cli::check::EXIT_CONFIGURATION;
use crate::cli::check::EXIT_UNREACHABLE;
use crate::cli::words::counted;
use crate::config::problem::Problem;

/// How one thing stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    Warning,
    Unreachable,
    Wrong,
}

impl State {
    /// The sign, the word and the colour; the colour is never the only carrier of the meaning.
    const fn shown(self) -> (char, &'static str, &'static str) {
        match self {
            Self::Ok => ('✓', "ok", "32"),
            Self::Warning => ('!', "warning", "33"),
            Self::Unreachable => ('✗', "unreachable", "31"),
            Self::Wrong => ('✗', "wrong", "31"),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    state: State,
    subject: String,
    text: String,
    hint: Option<String>,
}

impl Finding {
    pub(super) fn new(state: State, subject: impl Into<String>, text: String) -> Self {
        let (text, hint) = match text.split_once('\n') {
            Some((text, hint)) => (text.to_owned(), Some(hint.trim().trim_start_matches("hint: ").to_owned())),
            None => (text, None),
        };
        Self { state, subject: subject.into(), text, hint }
    }

    pub(super) fn of_problem(state: State, problem: Problem) -> Self {
        let text = if problem.key.is_empty() { problem.rule } else { format!("{}: {}", problem.key, problem.rule) };
        Self { state, subject: problem.origin.to_string(), text, hint: problem.hint }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// 64 when the configuration is wrong, else 69 when something cannot be reached, else 0: warnings stop nobody.
    pub(super) fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.state).max() {
            Some(State::Wrong) => EXIT_CONFIGURATION,
            Some(State::Unreachable) => EXIT_UNREACHABLE,
            Some(State::Ok | State::Warning) | None => 0,
        }
    }

    /// A line for each finding, aligned, and a line that sums up.
    pub(super) fn table(&self, in_colour: bool) -> String {
        let width = |of: fn(&Finding) -> usize| self.findings.iter().map(of).max().unwrap_or(0);
        let state_width = width(|finding| finding.state.shown().1.len());
        let subject_width = width(|finding| finding.subject.chars().count()).min(40);
        let mut lines = Vec::new();
        for finding in &self.findings {
            let (sign, word, colour) = finding.state.shown();
            let state = format!("{sign} {word:state_width$}");
            let state = if in_colour { format!("\u{1b}[{colour}m{state}\u{1b}[0m") } else { state };
            lines.push(format!("{state}  {:subject_width$}  {}", finding.subject, finding.text));
            if let Some(hint) = &finding.hint {
                lines.push(format!("{:indent$}hint: {hint}", "", indent = state_width + subject_width + 6));
            }
        }
        let count = |state: State| self.findings.iter().filter(|finding| finding.state == state).count();
        let (wrong, unreachable, warnings) = (count(State::Wrong), count(State::Unreachable), count(State::Warning));
        lines.push(format!("\n{wrong} wrong, {unreachable} unreachable, {}\n", counted(warnings, "warning")));
        lines.join("\n")
    }
}
