//! Deleted text, which is overwritten if the host wants it so: what SQLite itself has deleted. Copies of it that SQLite has
//! left in the unused part of a page when it moved rows, as in an index that becomes smaller, stay until a VACUUM.

use std::fs;
use std::path::Path;

use hero_proc_cleanup::Host;
use rusqlite::Connection;

use crate::support::call::{all, call_as, host};
use crate::support::sample::{Sample, column};

fn securely() -> Host {
    let mut host = host();
    host.secure_delete = true;
    host
}

/// Jobs with a secret in small and in large rows, of which all go, and their notes by a foreign key.
fn sample(journal: &str) -> Sample {
    let sample = Sample::empty();
    sample.execute(
        r#"CREATE TABLE notes (job REFERENCES jobs ON DELETE CASCADE, text);
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
           INSERT INTO jobs (action, spec_json, stderr, phase, tags)
           SELECT 'indexed', '{"env":"secret-spec"}', 'secret-error' || hex(zeroblob(20000 * (i % 2))), 'done',
                  '["codescaler"]'
           FROM n;
           INSERT INTO notes SELECT id, 'secret-note' FROM jobs;
           INSERT INTO actions (name, spec_json)
           VALUES ('indexed', '{"tags":["codescaler"],"script":"secret-script"}');"#,
    );
    sample.execute("VACUUM");
    sample.journal(journal);
    sample
}

/// How often the secret stands in the store's files.
fn secrets(store: &Path) -> usize {
    let files = ["", "-wal", "-journal"].map(|suffix| fs::read(format!("{}{suffix}", store.display())));
    let count = |bytes: Vec<u8>| bytes.windows(7).filter(|window| *window == b"secret-").count();
    files.into_iter().filter_map(Result::ok).map(count).sum()
}

#[test]
fn deleted_text_is_overwritten_if_the_host_wants_it() {
    for journal in ["wal", "delete"] {
        let [kept, overwritten] = [host(), securely()].map(|host| {
            let sample = sample(journal);
            assert!(secrets(&sample.path) > 600);
            let report = call_as(&sample, &host, all()).unwrap();
            assert_eq!((report.jobs_deleted, report.actions_deleted), (200, 1), "{journal}");
            secrets(&sample.path)
        });
        assert!(kept > 0 && overwritten == 0, "{journal}: {kept} and {overwritten}");
    }
}

/// A connection that the host has lent is set back to what it was.
#[test]
fn a_lent_connection_keeps_its_setting() {
    for setting in ["off", "on", "fast"] {
        for host in [host(), securely()] {
            let sample = sample("delete");
            let mut connection = sample.open();
            let of = |connection: &Connection| column::<i64>(connection, "PRAGMA secure_delete");
            let before = column::<i64>(&connection, &format!("PRAGMA secure_delete = {setting}"));
            assert_eq!(call_as(&mut connection, &host, all()).unwrap().jobs_deleted, 200);
            assert_eq!(of(&connection), before, "{setting}");
            if host.secure_delete {
                assert_eq!(secrets(&sample.path), 0, "{setting}");
            }
        }
    }
}
