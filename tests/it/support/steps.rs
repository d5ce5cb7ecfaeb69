//! The steps of a cleanup, what is to be done when one begins, and what the library logs meanwhile.
//!
//! The library opens a span for each step on the thread that runs it; a subscriber acts when one begins.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Once;

use hero_proc_cleanup::{Host, Report, RpcError};
use serde::Deserializer;
use tracing::Event;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::call::call_as;
use crate::support::sample::Sample;

type Act = Box<dyn FnOnce()>;

thread_local! {
    /// The steps that have begun on this thread.
    static STEPS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    /// What is to be done when a step of this name begins, the first time.
    static WHEN: RefCell<Option<(&'static str, Act)>> = const { RefCell::new(None) };
    /// What has been logged on this thread, a line each.
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Sees every step of every thread. There is one for the whole process: subscribers of single threads, coming and going,
/// may miss spans.
struct Steps;

impl<S: tracing::Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Steps {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let step = attributes.metadata().name();
        STEPS.with_borrow_mut(|steps| steps.push(step));
        act_at(step);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if context.span(&id).is_some_and(|span| span.name() == "delete") {
            act_at("deleted");
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LOG.with_borrow_mut(|log| log.push(line.0));
    }
}

fn act_at(step: &str) {
    if let Some((_, act)) = WHEN.with_borrow_mut(|when| when.take_if(|(name, _)| *name == step)) {
        act();
    }
}

/// The level of an event and its fields, as `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

/// Does `act` when the step `name` begins on this thread, or when "delete" has ended if it is "deleted", and writes the
/// steps down from here on.
pub(crate) fn when(name: &'static str, act: impl FnOnce() + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Steps)).unwrap());
    STEPS.take();
    LOG.take();
    WHEN.set(Some((name, Box::new(act))));
}

/// A call of `host` during which `act` is done, once, when `step` begins.
#[track_caller]
pub(crate) fn interrupted<'de>(
    sample: &Sample,
    step: &'static str,
    act: impl FnOnce() + 'static,
    host: &Host,
    params: impl Deserializer<'de>,
) -> Result<Report, RpcError> {
    when(step, act);
    let outcome = call_as(sample, host, params);
    assert!(has_happened(), "the step {step} has begun");
    outcome
}

/// Another connection, opened now, that executes `sql`.
pub(crate) fn executes(sample: &Sample, sql: &'static str) -> impl FnOnce() + 'static {
    let other = sample.open();
    move || other.execute_batch(sql).unwrap()
}

/// The steps that have begun since [`when`], which are forgotten now.
pub(crate) fn begun() -> Vec<&'static str> {
    STEPS.take()
}

/// What has been logged since [`when`], which is forgotten now.
pub(crate) fn logged() -> Vec<String> {
    LOG.take()
}

/// Whether what was to be done has been done.
pub(crate) fn has_happened() -> bool {
    WHEN.take().is_none()
}
