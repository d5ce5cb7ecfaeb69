//! The answers in memory: those that are made, and that nobody has taken yet.
//!
//! Nothing waits for room, so that nobody holds up the others by not reading: a call for which there is none is refused
//! before it begins. Calls that run already go on; the number of calls that may run at once bounds their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::value::RawValue;

use crate::method::Params;
use crate::rpc::RpcError;

/// The bytes of answers from which on no large call begins.
const MOST_LARGE: usize = 128 << 20;
/// The bytes of answers from which on no call begins. Only many usual calls get from the first bound to this one.
const MOST: usize = 256 << 20;

/// How much a call asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Usual,
    /// One of a batch, or one with longer lists than usual.
    Large,
}

impl Size {
    pub(super) fn of(params: Option<&RawValue>) -> Self {
        if params.is_some_and(|params| Params::ask_for_long_lists(params.get())) { Self::Large } else { Self::Usual }
    }
}

/// What the answers to all requests take up.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<AtomicUsize>);

impl Answers {
    /// For the answer to one request.
    pub(super) fn room(&self) -> Arc<Room> {
        Arc::new(Room { all: self.clone(), own: AtomicUsize::new(0) })
    }
}

/// What the answer to one request takes up, until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    all: Answers,
    own: AtomicUsize,
}

impl Room {
    /// Whether there is room for the answer to one more call.
    pub(super) fn admit(&self, size: Size) -> Result<(), RpcError> {
        let most = match size {
            Size::Usual => MOST,
            Size::Large => MOST_LARGE,
        };
        if self.all.0.load(Ordering::Relaxed) < most {
            return Ok(());
        }
        Err(RpcError::busy("too many answers wait to be read: nothing was deleted"))
    }

    pub(super) fn take(&self, bytes: usize) {
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.own.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}
