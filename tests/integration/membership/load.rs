//! The calls of a soak: two hundred a second, each over a connection of its own, and every one of them counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::set::{BERLIN, Set};

const A_SECOND: u32 = 200;
const CALLERS: u32 = 8;

#[derive(Default)]
pub(super) struct Load {
    answered: AtomicU64,
    slowest: Mutex<Duration>,
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Calls until `stop`; what is returned ends with the last call.
    pub(super) fn start(
        load: &Arc<Self>,
        set: &Arc<Set>,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(Arc::clone(load).caller(Arc::clone(set), stop.clone()));
        }
        async move {
            while let Some(ended) = callers.join_next().await {
                ended.unwrap();
            }
        }
    }

    async fn caller(self: Arc<Self>, set: Arc<Set>, stop: CancellationToken) {
        let mut pace = interval(Duration::from_secs(1) * CALLERS / A_SECOND);
        // A machine that was busy is not made busier.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        while !stop.is_cancelled() {
            pace.tick().await;
            let call = Instant::now();
            match set.call(BERLIN).await {
                Ok(()) => {
                    self.answered.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    let at = call.duration_since(begun);
                    let why = format!("after {at:.1?}, for {:.1?}: {error}", call.elapsed());
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(why);
                }
            }
            let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
            *slowest = call.elapsed().max(*slowest);
        }
    }

    pub(super) fn told(&self, time: Duration) -> String {
        let answered = self.answered.load(Relaxed);
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).len();
        let slowest = *self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        let a_second = answered / time.as_secs().max(1);
        format!(
            "{answered} calls ({a_second} a second), {failed} failed, the slowest {slowest:.1?}"
        )
    }

    /// Fails where a call has, or where there were hardly any.
    #[track_caller]
    pub(super) fn judge(&self) {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failed.is_empty(), "{} calls failed, such as {}", failed.len(), failed[0]);
        assert!(self.answered.load(Relaxed) > 100, "hardly a call was made");
    }
}
