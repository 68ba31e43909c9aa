//! A watch on its way to an HTTP client: events as they come, bookmarks from time to time, and an
//! end at the deadline.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::answer::{Style, error_event};
use crate::handler::Body;
use crate::request::Query;
use crate::store::Watch;

/// How long a watch lasts that asks for no timeout; kube-apiserver's least.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// How often kube-apiserver sends bookmarks, and how long before the end it sends a last one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Events put into one chunk: enough to make a relist of thousands few writes, at 2 kB each
/// still a small buffer.
const CHUNK: usize = 128;

struct Feed {
    watch: Watch,
    style: Style,
    end: Instant,
    bookmark: Option<Instant>,
    over: bool,
}

/// The events of a watch as a body that never fails; errors are events.
pub(crate) fn events(watch: Watch, style: Style, query: &Query) -> Body {
    let now = Instant::now();
    let end = now + query.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let bookmark = query.bookmarks.then(|| next_bookmark(now, end));
    let feed = Feed { watch, style, end, bookmark, over: false };
    let chunks = unfold(feed, async |mut feed| {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))), feed))
    });
    StreamBody::new(chunks).boxed_unsync()
}

impl Feed {
    /// The next chunk; `None` when the watch is over.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        let event = tokio::select! {
            event = self.watch.next() => event,
            () = sleep_until(self.bookmark.unwrap_or(self.end)), if self.bookmark.is_some() => {
                let now = Instant::now();
                self.bookmark = Some(next_bookmark(now, self.end)).filter(|next| *next > now);
                return Some(self.style.bookmark(self.watch.version(), Timestamp::now()));
            }
            () = sleep_until(self.end) => return None,
        };
        let (now, mut chunk, mut next) = (Timestamp::now(), Vec::new(), event.map(Some));
        for told in 1.. {
            match next {
                Ok(Some(event)) => chunk.extend(self.style.event(event.kind, &event.object, now)),
                Ok(None) => break,
                Err(error) => {
                    self.over = true;
                    chunk.extend(error_event(&error));
                    break;
                }
            }
            if told == CHUNK {
                break;
            }
            next = self.watch.try_next();
        }
        Some(chunk)
    }
}

/// When to send the next bookmark; at `now` when no more is due before the end.
fn next_bookmark(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(now);
    (now + BOOKMARK_EVERY).min(last).max(now)
}
