//! Standard output and standard error, for people and for machines.
//!
//! Standard output is the result, standard error is everything else. Colour stands only on a terminal and never carries a meaning alone.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::care::change::EventType;
use crate::store::rows::Disposition;

/// How the command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    /// One JSON document instead of text.
    pub json: bool,
    colour: bool,
    error_colour: bool,
    /// How wide the terminal is, where standard output is one.
    columns: Option<usize>,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Standard output took no more. It is nothing that a command could do something about; its exit code is 69, or 0 where whoever read it has seen enough.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written\nhint: see that there is space where it goes")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether nobody reads it any more.
    pub fn is_unread(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Console {
    /// The console of this process.
    pub fn of_process(json: bool) -> Self {
        let is_terminal = !json && io::stdout().is_terminal();
        let size = is_terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self { json, colour: is_terminal, error_colour: io::stderr().is_terminal(), columns }
    }

    /// One that never paints.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { json: false, colour: false, error_colour: false, columns: None }
    }

    /// How many columns a line of the result has room for; nothing where it may be a program that reads it.
    pub const fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// A line of the result.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn out(&self, line: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        Ok(writeln!(out, "{line}").and_then(|()| out.flush()).map_err(OutputError::from)?)
    }

    /// A line of everything else.
    pub fn tell(&self, line: &str) {
        // There is nobody left to tell when this fails.
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// Says why the command cannot go on, and gives the exit code.
    ///
    /// # Errors
    /// None; it has the type of a command's result.
    pub fn fail(&self, code: u8, error: &anyhow::Error) -> anyhow::Result<ExitCode> {
        let label = if self.error_colour { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        let mut text = String::new();
        let mut hints = String::new();
        for (n, cause) in error.chain().enumerate() {
            let cause = cause.to_string();
            // What to do comes after all that went wrong.
            let (what, hint) = cause.split_once("\nhint:").unwrap_or((&cause, ""));
            text.push_str(if n > 0 { ": " } else { "" });
            text.push_str(what);
            if !hint.is_empty() {
                hints.push_str("\nhint:");
                hints.push_str(hint);
            }
        }
        self.tell(&format!("{label}: {text}{hints}"));
        Ok(ExitCode::from(code))
    }

    /// A bar on standard error while there is a terminal to show it on.
    pub fn progress(&self, n: usize, of_what: &'static str) -> ProgressBar {
        if !self.error_colour || n < 50 {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(u64::try_from(n).unwrap_or(0)).with_message(of_what);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// What stands out.
    pub fn bold(&self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    /// What stands back.
    pub fn dim(&self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// What went well.
    pub fn good(&self, text: &str) -> String {
        self.paint(GREEN, text)
    }

    /// What did not.
    pub fn bad(&self, text: &str) -> String {
        self.paint(RED, text)
    }

    /// A disposition in its colour.
    pub fn paint_disposition(&self, disposition: Disposition) -> String {
        let colour = match disposition {
            Disposition::Applied => GREEN,
            Disposition::Noop | Disposition::Duplicate => DIM,
            Disposition::Quarantined => YELLOW,
            Disposition::Rejected => RED,
        };
        self.paint(colour, disposition.as_str())
    }

    /// An event's type in its colour, padded.
    pub fn paint_event(&self, event_type: EventType) -> String {
        let colour = match event_type {
            EventType::Opened | EventType::Reopened | EventType::Released => GREEN,
            EventType::Closing | EventType::Held | EventType::Merged | EventType::Rehomed => YELLOW,
            EventType::Closed | EventType::Cancelled | EventType::Purged => RED,
            EventType::Updated | EventType::MembersChanged | EventType::Snapshot => CYAN,
        };
        self.paint(colour, &format!("{:<21}", event_type.as_str()))
    }
}
