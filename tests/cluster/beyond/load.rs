//! Calls without a pause from a pod, told apart by when they began: what was failing while something was away?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::stage::{MINUTE, Place, SOON, within};

/// Calls that must be good on end before it is believed that they are again.
const ON_END: usize = 20;
/// A call without an answer ends by then.
const CALL: Duration = Duration::from_secs(2);

/// A loop in the calling pod of a place. It goes on while the API is away, through which it was started.
pub(super) struct Load<'a> {
    place: &'a Place<'a>,
    /// Names its file in the pod.
    what: &'static str,
}

/// One call of it.
#[derive(Clone, Debug)]
struct Call {
    /// Since 1970.
    began: Duration,
    said: String,
}

impl Call {
    fn is_good(&self) -> bool {
        self.said.contains("pod ip")
    }
}

/// Since 1970, as pods tell it.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

impl<'a> Load<'a> {
    /// Begins to call a name or an address, once it answers.
    pub(super) async fn begin(place: &'a Place<'a>, what: &'static str, target: &str) -> Self {
        let call = format!("echo hi | nc -v -w {} -4 {target} 42 2>&1", CALL.as_secs());
        let answers = |said: &str| said.contains("pod ip").then_some(()).ok_or_else(String::new);
        place.says(&call, answers).await;
        let script = format!(
            "(while test ! -e /tmp/{what}.end; do \
                 began=$(date +%s%3N); said=$({call}); echo $began $said; sleep 0.05; \
             done) </dev/null >/tmp/{what} 2>/dev/null &"
        );
        place.sh(&script).await;
        let load = Self { place, what };
        load.is_good_since(now()).await;
        load
    }

    /// Waits until calls that began after a moment were good, many on end.
    pub(super) async fn is_good_since(&self, since: Duration) {
        let what = format!("calls by {} from {} are good", self.what, self.place.cluster.name());
        within(MINUTE, Duration::from_millis(500), what, async || {
            let calls = self.calls().await;
            let last = &calls[calls.len().saturating_sub(ON_END)..];
            let good =
                last.len() == ON_END && last.iter().all(|one| one.is_good() && one.began >= since);
            good.then_some(()).ok_or_else(|| format!("{last:?}"))
        })
        .await;
    }

    /// The calls that failed: by how long after `since` they began, and what was said.
    pub(super) async fn failed_since(&self, since: Duration) -> Vec<(Duration, String)> {
        let calls = self.calls().await;
        assert!(calls.iter().any(|one| one.began >= since), "nobody has called");
        let failed = calls.into_iter().filter(|one| !one.is_good());
        failed.filter_map(|one| Some((one.began.checked_sub(since)?, one.said))).collect()
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.place.sh(&format!("touch /tmp/{}.end", self.what)).await;
    }

    async fn calls(&self) -> Vec<Call> {
        // The API may be just back.
        within(SOON, Duration::from_millis(500), "what calls have said", async || {
            let said = self.place.sh(&format!("cat /tmp/{}; echo whole", self.what)).await;
            let whole = said.strip_suffix("whole\n").ok_or(said.as_str());
            whole.map(|said| said.lines().filter_map(parse).collect()).map_err(str::to_owned)
        })
        .await
    }
}

/// A line that is half written is no call yet.
fn parse(line: &str) -> Option<Call> {
    let (began, said) = line.split_once(' ').unwrap_or((line, ""));
    let began = began.parse().ok().map(Duration::from_millis)?;
    Some(Call { began, said: said.to_owned() })
}

/// Lets time pass: that nothing happens in it is what is looked at.
pub(super) async fn pass(time: Duration) {
    sleep(time).await;
}
