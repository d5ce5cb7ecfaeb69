//! `serve`'s hold on jobs: none. It is no supervisor and stops nothing.

use hero_proc_cleanup::{ControlError, Job, JobControl};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Lets a job go only if no process of it is left.
///
/// The pid that a row records is looked up among the processes that this one sees, so `serve` must run in hero_proc's
/// pid namespace.
#[derive(Debug)]
pub(crate) struct Processes;

impl JobControl for Processes {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        ended(job)
    }

    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        ended(job)
    }
}

fn ended(job: &Job) -> Result<(), ControlError> {
    let Some(recorded) = job.pid else { return Ok(()) };
    let pid = i32::try_from(recorded).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let Some(pid) = pid else { return Err(format!("its pid {recorded} is none that could be looked up").into()) };
    match test_kill_process(pid) {
        Err(Errno::SRCH) => Ok(()),
        // Another user's process is alive as well.
        Ok(()) | Err(Errno::PERM) => Err(format!("process {recorded} is still alive").into()),
        Err(error) => Err(format!("process {recorded} could not be looked up: {error}").into()),
    }
}
