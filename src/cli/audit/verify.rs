//! `wardroom audit verify`: is every row of the audit trail there, and as it was written?
//!
//! It reads the store, also beside a running daemon, and changes nothing. It opens bodies to see that they open, and shows nothing of what is in them.

use std::process::ExitCode;

use indicatif::ProgressBar;
use serde_json::Value;
use serde_json::json;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::setting::Setting;
use crate::cli::table::table;
use crate::cli::words::counted;
use crate::cli::words::counted_as;
use crate::store::audit::AuditReport;
use crate::store::chain::Fault;
use crate::store::chain::Misfit;

pub(super) async fn run(setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    let store = match beside::open_read_only(setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let mut bar: Option<ProgressBar> = None;
    let progress = |n_read: u64, n_rows: u64| {
        let n_rows = usize::try_from(n_rows).unwrap_or(usize::MAX);
        bar.get_or_insert_with(|| console.progress(n_rows, "audit rows")).set_position(n_read);
    };
    let report = store.verify_audit(progress).await;
    store.close().await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let report = match report {
        Ok(report) => report,
        Err(error) => return console.fail(69, &anyhow::Error::new(error).context("cannot read the audit trail")),
    };
    if console.json {
        console.out(&serde_json::to_string_pretty(&document(&report))?)?;
    } else {
        for line in lines(&report, console) {
            console.out(&line)?;
        }
    }
    Ok(ExitCode::from(u8::from(!report.is_whole())))
}

const fn word(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::Changed => "changed",
        Misfit::Gap { .. } => "gap",
        Misfit::CutOff { .. } => "cut_off",
        Misfit::OtherEnd => "other_end",
        Misfit::BeyondEnd => "beyond_end",
        Misfit::Body => "body",
    }
}

/// What it means that a row does not fit.
pub(in crate::cli) fn meaning(misfit: Misfit) -> String {
    let rows = |n| counted_as(usize::try_from(n).unwrap_or(usize::MAX), "row", "rows");
    match misfit {
        Misfit::Changed => "it is not as it was written, or not what was written there".to_owned(),
        Misfit::Gap { n_missing } => format!("{} before it in its chain: gone", rows(n_missing)),
        Misfit::CutOff { n_missing } => format!("gone, as is all from it to the end of its chain: {}", rows(n_missing)),
        Misfit::OtherEnd => {
            "it is the last of its chain, but another end is recorded: the record was changed, or the rows were written anew".to_owned()
        }
        Misfit::BeyondEnd => "it stands after the recorded end of its chain: it was put there, or the record was set back or taken out".to_owned(),
        Misfit::Body => "its body does not open: somebody without the keys wrote body and chain anew, or the patient's key was changed".to_owned(),
    }
}

/// The kind that stands in a row: whoever changed it may have written anything there.
fn kind(fault: &Fault) -> Option<String> {
    fault.kind.as_deref().map(|kind| kind.escape_debug().take(40).collect())
}

fn document(report: &AuditReport) -> Value {
    let fault = |fault: &Fault| {
        let missing = match fault.misfit {
            Misfit::Gap { n_missing } | Misfit::CutOff { n_missing } => Some(n_missing),
            Misfit::Changed | Misfit::OtherEnd | Misfit::BeyondEnd | Misfit::Body => None,
        };
        let at = fault.at.map(|at| at.to_string());
        let (what, meaning) = (word(fault.misfit), meaning(fault.misfit));
        json!({ "what": what, "id": fault.id, "lane": fault.lane(), "at": at, "kind": kind(fault), "missing": missing, "meaning": meaning })
    };
    json!({
        "whole": report.is_whole(),
        "chains": report.n_chains,
        "rows": report.n_rows,
        "bodies": { "open": report.n_opened, "purged": report.n_purged, "key_gone": report.n_key_gone },
        "n_faults": report.n_faults,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

fn lines(report: &AuditReport, console: &Console) -> Vec<String> {
    let n_rows = usize::try_from(report.n_rows).unwrap_or(usize::MAX);
    let mut lines = vec![format!("{} in {} read, {} opened", counted(n_rows, "row"), counted(report.n_chains, "chain"), report.n_opened)];
    if report.n_purged > 0 {
        lines.push(format!("{} stayed closed: the patient was purged, and the key with them", report.n_purged));
    }
    if report.n_key_gone > 0 {
        lines.push(format!(
            "{} stayed closed: the patient's row with its key is not there; that alone is called no fault, but it was not purged",
            report.n_key_gone
        ));
    }
    if report.is_whole() {
        lines.push(console.good("the audit trail is whole"));
        return lines;
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "—".to_owned());
    let row = |fault: &Fault| {
        let at = fault.at.map(|at| at.to_string());
        vec![fault.id.to_string(), fault.lane().to_string(), or_dash(at), or_dash(kind(fault)), meaning(fault.misfit)]
    };
    lines.push(String::new());
    lines.extend(table(&["id", "lane", "time", "kind", "what is wrong"], &report.faults.iter().map(row).collect::<Vec<_>>(), console.columns()));
    let n_more = report.n_faults.saturating_sub(report.faults.len() as u64);
    if n_more > 0 {
        lines.push(format!("and {n_more} more"));
    }
    lines.push(String::new());
    lines.push(console.bad("the audit trail is broken: somebody or something changed the store from outside"));
    lines
}

#[cfg(test)]
mod tests {
    use super::document;
    use super::lines;
    use crate::cli::console::Console;
    use crate::store::audit::AuditReport;
    use crate::store::chain::Fault;
    use crate::store::chain::Misfit;
    use crate::time::Timestamp;

    #[test]
    fn the_first_row_that_does_not_fit_is_named_and_what_that_means() {
        let gone = Fault { misfit: Misfit::CutOff { n_missing: 2 }, id: 7 * 1024 + 3, at: None, kind: None };
        let changed = Fault { misfit: Misfit::Changed, id: 1027, at: Some(Timestamp::from_micros(1)), kind: Some("room.\u{1b}[2J".to_owned()) };
        let report = AuditReport { n_chains: 1, n_rows: 6, n_opened: 3, n_purged: 1, n_key_gone: 1, n_faults: 103, faults: vec![changed, gone] };
        let text = lines(&report, &Console::plain());
        let expected = [
            "6 rows in 1 chain read, 3 opened",
            "1 stayed closed: the patient was purged, and the key with them",
            "1 stayed closed: the patient's row with its key is not there; that alone is called no fault, but it was not purged",
            "",
            "id    lane  time                         kind            what is wrong",
            "1027  3     1970-01-01T00:00:00.000001Z  room.\\u{1b}[2J  it is not as it was written, or not what was written there",
            "7171  3     —                            —               gone, as is all from it to the end of its chain: 2 rows",
            "and 101 more",
            "",
            "the audit trail is broken: somebody or something changed the store from outside",
        ];
        assert_eq!(text, expected);
        let json = document(&report);
        assert_eq!((&json["whole"], &json["faults"][0]["what"], &json["faults"][1]["missing"]), (&false.into(), &"changed".into(), &2.into()));
    }
}
