//! What the two halves of a link over TCP have in common: whether it stands, by what it ended, and when it was heard.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::transport::{CloseReason, ConnectError};

/// What is known of both halves.
#[derive(Debug)]
pub(super) struct Shared {
    /// By what it was closed, the first cause.
    by: OnceLock<ConnectError>,
    /// Why this side closes it, which is yet to be said.
    reason: OnceLock<CloseReason>,
    /// Cancelled when it is closed.
    closed: CancellationToken,
    /// Cancelled when the peer has been told why, or need not be.
    said: CancellationToken,
    /// How often each half was heard.
    heard: [Arc<AtomicU64>; 2],
    /// What was counted when both had last been heard, and how often that was.
    both: Mutex<([u64; 2], u64)>,
    /// Microseconds, smoothed; 0 before it was measured.
    round_trip: AtomicU64,
    /// How often the peer has answered since the link was made.
    answers: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(heard: [Arc<AtomicU64>; 2]) -> Self {
        Self {
            by: OnceLock::new(),
            reason: OnceLock::new(),
            closed: CancellationToken::new(),
            said: CancellationToken::new(),
            heard,
            both: Mutex::default(),
            round_trip: AtomicU64::new(0),
            answers: watch::Sender::new(0),
        }
    }

    /// This side closes it.
    pub(super) fn close(&self, reason: CloseReason) {
        let text = reason.parts().1;
        let by = ConnectError::Unreachable(format!("closed here: {text}"));
        if self.by.set(by).is_ok() {
            let _ = self.reason.set(reason);
        }
        self.closed.cancel();
    }

    /// It was lost, or closed by the peer.
    pub(super) fn lost(&self, by: ConnectError) {
        let _ = self.by.set(by);
        self.closed.cancel();
    }

    /// By what it was closed, if it is.
    pub(super) fn closed_by(&self) -> Option<ConnectError> {
        if self.closed.is_cancelled() { self.by.get().cloned() } else { None }
    }

    /// What is to be said to the peer, where this side has closed it.
    pub(super) fn to_say(&self) -> Option<CloseReason> {
        self.reason.get().copied()
    }

    /// The peer has been told why.
    pub(super) fn is_said(&self) {
        self.said.cancel();
    }

    /// Waits until the peer has been told why.
    pub(super) async fn was_said(&self) {
        self.said.cancelled().await;
    }

    /// Waits until it is closed.
    pub(super) async fn ended(&self) {
        self.closed.cancelled().await;
    }

    /// A number that changes whenever both halves have been heard: one that is dead makes the whole link useless.
    pub(super) fn heard(&self) -> u64 {
        let now = [0, 1].map(|half: usize| self.heard[half].load(Ordering::Relaxed));
        let mut both = self.both.lock().unwrap_or_else(PoisonError::into_inner);
        if now[0] != both.0[0] && now[1] != both.0[1] {
            *both = (now, both.1 + 1);
        }
        both.1
    }

    /// The peer has answered after so long.
    pub(super) fn measured(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.round_trip.load(Ordering::Relaxed);
        // RFC 6298 section 2: an eighth of what is new.
        let now = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.round_trip.store(now, Ordering::Relaxed);
        self.answers.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    /// Waits until the peer has answered to something that is asked after now: each half may just be waiting for one.
    pub(super) async fn answered(&self) {
        let mut answers = self.answers.subscribe();
        let first = *answers.borrow();
        let _ = answers.wait_for(|count| count.wrapping_sub(first) >= 4).await;
    }
}
