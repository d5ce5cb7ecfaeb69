//! `serve`'s hold on jobs: none. It is no supervisor and stops nothing.

use hero_proc_cleanup::{ControlError, Job, JobControl};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Lets a job that has not finished go only if its process is known to be gone.
///
/// A job without a pid is one that hero_proc may start at any moment, or one of a store that records no pids.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Whether hero_proc's processes are seen here under the pids that its rows name. Where they are not, as in another
    /// pid namespace, a pid that isn't found says nothing.
    pub(crate) same_pids: bool,
}

impl JobControl for Processes {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        self.ended(job)
    }

    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        self.ended(job)
    }
}

impl Processes {
    fn ended(&self, job: &Job) -> Result<(), ControlError> {
        let Some(recorded) = job.pid else { return Err("it has no pid by which a process could be looked up".into()) };
        let pid = i32::try_from(recorded).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        let Some(pid) = pid else { return Err(format!("its pid {recorded} is none that could be looked up").into()) };
        match test_kill_process(pid) {
            Err(Errno::SRCH) if self.same_pids => Ok(()),
            Err(Errno::SRCH) => {
                let unknown = "it may be alive where hero_proc runs (serve was started without --same-pids)";
                Err(format!("process {recorded} is not found here: {unknown}").into())
            }
            // Another user's process is alive as well.
            Ok(()) | Err(Errno::PERM) => Err(format!("process {recorded} is still alive").into()),
            Err(error) => Err(format!("process {recorded} could not be looked up: {error}").into()),
        }
    }
}
