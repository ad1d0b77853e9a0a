//! The staff directory by messages, on the daemon: who joins and who leaves at once, what survives a power cut, and how master files are answered.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::peer::Peer;

const A01: &str = "MSH|^~\\&|EMR|GHH|WR|GHH|20261121080500||ADT^A01^ADT_A01|S1|P|2.5.1\rEVN|A01|20261121080500\r\
                   PID|1||100045^^^GHH^MR||FARROW^JENS||19561020|M\r\
                   PV1|1|I|4N^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^L^^^EI||D888^Hadley^Nell^^^^^^GHH^L^^^EI||||||||||V1045^^^GHH^VN\r";

fn master_file(control_id: &str, mfi_3: &str, mfe: &str, stf: &str) -> String {
    format!(
        "MSH|^~\\&|HR|GHH|WR|GHH|20261121090500||MFN^M02^MFN_M02|{control_id}|P|2.5.1\rMFI|STF^Staff^HL70175|DIR|{mfi_3}|||AL\r\
         MFE|{mfe}|CWE\rSTF|{stf}\r"
    )
}

fn has(room: &Value, user: &str) -> bool {
    room["members"].as_array().is_some_and(|members| members.iter().any(|member| member["user"] == user))
}

/// The answer without its header, a line for each segment.
async fn ask(peer: &mut Peer, message: &str) -> Vec<String> {
    peer.send(message).await;
    let answer = String::from_utf8(peer.receive().await.unwrap()).unwrap();
    answer.trim_end_matches(['\r', '\u{1c}']).split('\r').skip(1).map(str::to_owned).collect()
}

/// MFA without the time in MFA-3.
fn timeless(line: &str) -> String {
    let mut fields: Vec<&str> = line.split('|').collect();
    if line.starts_with("MFA") {
        fields[3] = "";
    }
    fields.join("|")
}

#[tokio::test]
async fn staff_join_and_leave_by_messages_and_a_power_cut_forgets_neither() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    ask(&mut peer, A01).await;
    daemon.room_is("V1045", "opened without the unknown doctor", |room| has(room, "lgarcia") && !has(room, "nhadley")).await;

    let added = master_file("S2", "UPD", "MAD|r1|20261121090500|nhadley", "nhadley|D888^^^GHH^EI|Hadley^Nell||||A");
    let answer = ask(&mut peer, &added).await;
    assert_eq!(
        answer.iter().map(|line| timeless(line)).collect::<Vec<_>>(),
        ["MSA|AA|S2", "MFI|STF^Staff^HL70175|DIR|UPD|||AL", "MFA|MAD|r1||S|nhadley|CWE"]
    );
    let event = daemon.room_is("V1045", "joined by the doctor", |room| has(room, "nhadley")).await;
    assert_eq!(event["data"]["cause"]["kind"], "directory");

    // The same again is a duplicate, answered alike.
    assert_eq!(ask(&mut peer, &added).await.len(), 3);

    let left = "MSH|^~\\&|HR|GHH|WR|GHH|20261121120000||PMU^B06^PMU_B04|S3|P|2.5.1\rEVN|B06|20261121120000\rSTF|lgarcia|D100^^^GHH^EI\r";
    assert_eq!(ask(&mut peer, left).await, ["MSA|AA|S3"]);
    // Whatever the daemon had got to, the next one goes on from what was acknowledged.
    daemon.restart().await;
    daemon.room_is("V1045", "left by the doctor who was dismissed", |room| !has(room, "lgarcia") && has(room, "nhadley")).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let another = A01.replace("V1045", "V1046").replace("100045", "100046").replace("|S1|", "|S4|");
    ask(&mut peer, &another).await;
    daemon.room_is("V1046", "opened with the doctor of the messages alone", |room| has(room, "nhadley") && !has(room, "lgarcia")).await;
}

#[tokio::test]
async fn a_replacement_by_hardly_anybody_waits_and_removes_nobody() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    ask(&mut peer, A01).await;
    let whole = master_file("S2", "REP", "MAD|r1|20261121090500|mchen", "mchen|D200^^^GHH^EI|Chen^Mei||||A");
    let answer = ask(&mut peer, &whole).await;
    assert_eq!(answer[0], "MSA|AA|S2");
    assert_eq!(timeless(&answer[2]), "MFA|MAD|r1||U|mchen|CWE");
    daemon.says("a replacement of all staff leaves out more than a fifth of them").await;
    assert!(daemon.log().iter().all(|line| !line.contains("mchen") && !line.contains("Chen")), "no staff in the log");
    daemon.room_is("V1045", "as it was", |room| has(room, "lgarcia")).await;
}

#[tokio::test]
async fn files_that_are_refused_are_a_reason_and_a_metric_until_they_are_right() {
    let daemon = Daemon::start("").await;
    let soon = Duration::from_secs(30);
    let look = async || {
        let (status, body) = daemon.get("/readyz").await;
        let report: Value = serde_json::from_str(&body).unwrap();
        let reason = report["reasons"].as_array().unwrap().iter().find(|reason| reason["part"] == "directory").cloned();
        (status, reason)
    };
    let refused = async |what: &str, remedy: &str| {
        let is_told = async || {
            let (status, reason) = look().await;
            let reason = reason.filter(|reason| reason["what"].as_str().unwrap().contains(what))?;
            Some((status, reason["do"].as_str().unwrap().to_owned()))
        };
        let (status, told) = eventually(&format!("a reason says: {what}"), soon, is_told).await;
        assert_eq!((status, told.as_str()), (503, remedy));
        daemon.says(what).await;
        eventually("the metric says so too", soon, async || daemon.get("/metrics").await.1.contains("wardroom_directory_refused 1").then_some(()))
            .await;
    };
    let fine = async || {
        eventually("nothing is wrong any more", soon, async || look().await.1.is_none().then_some(())).await;
        eventually("the metric says so too", soon, async || daemon.get("/metrics").await.1.contains("wardroom_directory_refused 0").then_some(()))
            .await;
    };
    let (staff, aside) = (daemon.path("staff.csv"), daemon.path("aside.csv"));
    let whole = fs::read_to_string(&staff).unwrap();

    let few: Vec<&str> = whole.lines().take(2).collect();
    fs::write(&staff, few.join("\n")).unwrap();
    refused("more than a fifth", "put the file right; if that is meant, restart wardroom").await;
    fs::write(&staff, format!("{whole}a b,,,,\n")).unwrap();
    refused("lines that cannot be used: 1; the first: ", "put the file right; it is read again by itself").await;
    fs::write(&staff, &whole).unwrap();
    fine().await;

    // The same file that goes and comes back has the same stamps.
    fs::rename(&staff, &aside).unwrap();
    refused("staff.csv cannot be read: No such file", "put the file right; it is read again by itself").await;
    fs::rename(&aside, &staff).unwrap();
    fine().await;
}
