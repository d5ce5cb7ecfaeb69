//! What is kept from pass to pass: the library's history, and what this command adds to it.
//!
//! The file is replaced as a whole, so it is never half of two states. A state that can't be read counts as none: no
//! policy is known then, and the first pass is that of a new policy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hero_proc_cleanup::policy::History;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::place::{Place, resolved};

/// The most bytes of a state's file.
const MOST_BYTES: u64 = 16 << 20;

/// The state of one gateway's retention.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) history: History,
    /// `every` of the policy of the last pass, in milliseconds.
    pub(super) every_ms: Option<i64>,
    /// Why the policy's file, as it was when it was last read, is not in force.
    pub(super) refused: Option<Refused>,
}

/// A policy that was refused while another one is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) at_ms: i64,
    pub(super) reason: String,
}

/// What this command adds to a history.
#[derive(Deserialize)]
struct Added {
    /// The gateway's socket.
    socket: String,
    #[serde(default)]
    every_ms: Option<i64>,
    #[serde(default)]
    refused: Option<Refused>,
}

impl State {
    /// The state at `place` of the gateway that listens on `socket`, and why it counts as none if it does.
    pub(super) fn load(place: &Place, socket: &Path) -> (Self, Option<String>) {
        let none = |why: String| {
            let file = place.file.display();
            (Self::default(), Some(format!("the state {file} {why}; it counts as none, and every policy as new")))
        };
        let text = match read(&place.file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return (Self::default(), None);
            }
            Err(error) => return none(format!("can't be read: {error}")),
        };
        match (History::from_json(&text), serde_json::from_str::<Added>(&text)) {
            (Err(error), _) => none(format!("can't be understood: {error}")),
            (_, Err(error)) => none(format!("can't be understood: {error}")),
            (_, Ok(added)) if added.socket != name(socket) => {
                none(format!("is that of another gateway, {}", added.socket))
            }
            (Ok(history), Ok(added)) => (Self { history, every_ms: added.every_ms, refused: added.refused }, None),
        }
    }

    /// Writes the state to `place`, readable by this user alone. Whoever calls this has the lock.
    pub(super) fn save(&self, place: &Place, socket: &Path) -> io::Result<()> {
        let mut text: Value = serde_json::from_str(&self.history.to_json()).map_err(io::Error::other)?;
        text["socket"] = name(socket).into();
        text["every_ms"] = self.every_ms.into();
        text["refused"] = serde_json::to_value(&self.refused).map_err(io::Error::other)?;
        let text = serde_json::to_vec_pretty(&text).map_err(io::Error::other)?;
        place.make()?;
        // A file that a killed process has left is removed.
        let mut new = place.file.clone().into_os_string();
        new.push(".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, &place.file));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

fn name(socket: &Path) -> String {
    resolved(socket).to_string_lossy().into_owned()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
