//! Calls of `job.cleanup_by_tag` as a host makes them, their params, and what the host does when it is to stop a job.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use hero_proc_cleanup::{ControlError, Guard, Host, Job, JobControl, Report, RpcError, StoreRef};
use serde::Deserializer;
use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::server::METHOD;

/// Params for everything that is codescaler's.
pub(crate) fn all() -> Value {
    json!({ "tags": ["codescaler"] })
}

/// The same, and the params of the object `more`.
pub(crate) fn all_with(more: Value) -> Value {
    let (mut params, Value::Object(more)) = (all(), more) else { panic!("no object") };
    params.as_object_mut().unwrap().extend(more);
    params
}

/// Params for a look at everything that is codescaler's.
pub(crate) fn dry_run() -> Value {
    all_with(json!({ "dry_run": true }))
}

/// Params for everything that is codescaler's, bound to the plan `token`.
pub(crate) fn bound(token: &str) -> Value {
    all_with(json!({ "expect_plan": token }))
}

/// The last part of a plan, which names the params and the set: plans that differ only in their moment share it.
#[track_caller]
pub(crate) fn digest(plan: &str) -> &str {
    plan.rsplit_once('.').unwrap().1
}

/// A host that can stop no jobs.
pub(crate) fn host() -> Host {
    Host::new(Guard::codescaler())
}

/// A call of [`host`], now.
pub(crate) fn call<'s, 'de>(
    store: impl Into<StoreRef<'s>>,
    params: impl Deserializer<'de>,
) -> Result<Report, RpcError> {
    call_as(store, &host(), params)
}

/// A call of `host`, now.
pub(crate) fn call_as<'s, 'de>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    params: impl Deserializer<'de>,
) -> Result<Report, RpcError> {
    call_at(store, host, params, Utc::now())
}

/// A call of `host` at `now`.
pub(crate) fn call_at<'s, 'de>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    params: impl Deserializer<'de>,
    now: DateTime<Utc>,
) -> Result<Report, RpcError> {
    call_for_json(store, host, params, now).map(|report| serde_json::from_value(report).unwrap())
}

/// A call of `host` at `now`, with the report as it is answered: the one place in these tests that names the library's
/// function.
pub(crate) fn call_for_json<'s, 'de>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    params: impl Deserializer<'de>,
    now: DateTime<Utc>,
) -> Result<Value, RpcError> {
    let result = hero_proc_cleanup::call(METHOD, params, store, host, now)?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

/// A call for everything that is codescaler's. Whatever comes of it, the sums hold, an error changes nothing and tells
/// nothing of the store, and the file is sound.
pub(crate) fn checked(sample: &Sample) -> Result<Report, RpcError> {
    let before = sample.dump();
    let outcome = call(sample, all());
    match &outcome {
        Ok(report) => {
            assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum());
            assert_eq!((report.jobs_deleted, report.actions_deleted), (report.jobs_planned, report.actions_planned));
        }
        Err(error) => {
            assert!(sample.dump() == before, "{error:?}");
            assert!(!error.message.contains("DELETE") && !error.message.contains("hero_proc.db"), "{error:?}");
        }
    }
    assert_eq!(sample.one::<String>("PRAGMA integrity_check"), "ok");
    outcome
}

type Stop = Box<dyn Fn(&Job) -> Result<(), ControlError> + Send + Sync>;
type Hear = Box<dyn Fn(&Report) -> Result<(), ControlError> + Send + Sync>;
type Refuse = Box<dyn Fn(&Job) -> bool + Send + Sync>;

/// A host's control that does what a test says, and writes down what it was called with.
pub(crate) struct Control {
    stop: Stop,
    hear: Hear,
    refuse: Refuse,
    pub(crate) stopped: Mutex<Vec<Job>>,
    pub(crate) heard: Mutex<Vec<Report>>,
}

impl Control {
    /// To which every job is as good as stopped.
    pub(crate) fn willing() -> Arc<Self> {
        Self::new(|_| Ok(()))
    }

    /// To which every job is as good as stopped, but for those that it refuses to stop.
    pub(crate) fn refusing(refuse: impl Fn(&Job) -> bool + Send + Sync + 'static) -> Arc<Self> {
        let (stop, hear): (Stop, Hear) = (Box::new(|_| Ok(())), Box::new(|_| Ok(())));
        let refuse = Box::new(refuse);
        Arc::new(Self { stop, hear, refuse, stopped: Mutex::default(), heard: Mutex::default() })
    }

    /// That stops jobs by `stop`.
    pub(crate) fn new(stop: impl Fn(&Job) -> Result<(), ControlError> + Send + Sync + 'static) -> Arc<Self> {
        Self::hearing(stop, |_| Ok(()))
    }

    /// The same, and does `hear` when it is told what was deleted.
    pub(crate) fn hearing(
        stop: impl Fn(&Job) -> Result<(), ControlError> + Send + Sync + 'static,
        hear: impl Fn(&Report) -> Result<(), ControlError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (stop, hear, refuse) = (Box::new(stop), Box::new(hear), Box::new(|_: &Job| false));
        Arc::new(Self { stop, hear, refuse, stopped: Mutex::default(), heard: Mutex::default() })
    }

    pub(crate) fn host(self: &Arc<Self>) -> Host {
        let mut host = host();
        host.control = Some(Arc::clone(self) as Arc<dyn JobControl>);
        host
    }

    /// Ids of the jobs that it was to stop.
    pub(crate) fn stopped(&self) -> Vec<i64> {
        self.stopped.lock().unwrap().iter().map(|job| job.id).collect()
    }
}

impl JobControl for Control {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        self.stopped.lock().unwrap().push(job.clone());
        (self.stop)(job)
    }

    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        if (self.refuse)(job) { Err("refused".into()) } else { Ok(()) }
    }

    fn deleted(&self, report: &Report) -> Result<(), ControlError> {
        self.heard.lock().unwrap().push(report.clone());
        (self.hear)(report)
    }
}
