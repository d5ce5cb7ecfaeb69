//! The host's retention: what a policy says is due is done on a tick of its own. Without a policy nothing goes.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use hero_proc_cleanup::policy::{Side, Step};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::children::lock;
use crate::server::Server;

/// From tick to tick.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ticks for ever, off the scheduler's thread: a call blocks.
pub(crate) async fn run(server: Arc<Server>) {
    let mut interval = interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let server = Arc::clone(&server);
        if spawn_blocking(move || server.retain()).await.is_err() {
            tracing::error!("retention has ended: its thread panicked");
            return;
        }
    }
}

impl Server {
    // running a policy: begin
    fn retain(&self) {
        let Some(retention) = &mut *lock(&self.retention) else { return };
        loop {
            match retention.next(Utc::now()) {
                Step::Call(due) => {
                    let (method, params) = (due.method(Side::HeroProc), due.params(Side::HeroProc));
                    let answer =
                        hero_proc_cleanup::call(method, &params, self.path.as_path(), &self.cleanup, Utc::now());
                    retention.answered(Utc::now(), answer);
                }
                Step::NeedsConfirmation(preview) => tracing::warn!(?preview, "more than half of all jobs would go"),
                Step::Ended(pass) => tracing::info!(?pass, "a pass has ended"),
                _ => return,
            }
        }
    }
    // running a policy: end
}
