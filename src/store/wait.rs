//! Waiting for locks of others, in which a cancel is heard.
//!
//! SQLite's own wait (`busy_timeout`) hears no interrupt before it ends. A busy handler is called between two attempts, on
//! the thread of the statement that waits. A handler is a plain function, so its state is kept for each thread, and belongs
//! to the connection that was last given to [`for_locks`]. Only one connection of a call waits.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::host::Cancel;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How a thread waits.
struct Wait {
    /// The longest wait of one statement.
    most: Duration,
    since: Instant,
    cancel: Cancel,
}

thread_local! {
    static WAIT: RefCell<Option<Wait>> = const { RefCell::new(None) };
}

/// Lets each statement of `connection` wait for locks for up to `most`, unless `cancel` ends that.
pub(super) fn for_locks(connection: &mut Connection, most: Duration, cancel: &Cancel) -> rusqlite::Result<()> {
    if most.is_zero() {
        return connection.busy_timeout(most);
    }
    WAIT.set(Some(Wait { most, since: Instant::now(), cancel: cancel.clone() }));
    connection.busy_handler(Some(again))
}

/// Lets each further statement of the connection that was last given to [`for_locks`] wait for up to `most`.
pub(super) fn up_to(most: Duration) {
    WAIT.with_borrow_mut(|wait| wait.iter_mut().for_each(|wait| wait.most = most));
}

/// Waits a little, and says whether the statement is to be tried again; it has been tried `waits` times after the first.
fn again(waits: i32) -> bool {
    let pause = WAIT.with_borrow_mut(|wait| {
        let wait = wait.as_mut()?;
        if waits == 0 {
            wait.since = Instant::now();
        }
        let left = wait.most.checked_sub(wait.since.elapsed()).filter(|left| !left.is_zero())?;
        let pause = Duration::from_millis(1 << waits.clamp(0, 6)).min(LONGEST_PAUSE);
        (!wait.cancel.is_cancelled()).then(|| pause.min(left))
    });
    pause.is_some_and(|pause| {
        thread::sleep(pause);
        true
    })
}
