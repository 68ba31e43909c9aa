//! What becomes of an address once it was dialled: its link is over QUIC wherever UDP passes, and over TCP where it does not.
//!
//! ```text
//!            silent                    QUIC is heard again, or dialled anew
//!  QUIC ───────────────▶ QUIC and TCP ────────────────────────────────────▶ QUIC
//!                             │ QUIC is given up              ▲
//!                             ▼                               │
//!                            TCP ─────────────────────────────┘
//! ```
//!
//! Whatever carries new streams, those that are open go on where they are: a link whose place is taken is closed when it is
//! idle.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use landbridge_model::ClusterId;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Link,
    run::{News, run},
};
use crate::{
    core::Core,
    health::{Backoff, LinkState},
    transport::{Carrier, ConnectError, Connection},
};

/// The waits between tries to get back to QUIC. Each is a few packets; and a firewall that was opened is soon found so.
const BACK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The waits between tries to find TCP beside a link that is silent: the first comes at once.
const BESIDE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// Runs a connection until it has ended, or until its peer is about to go: then another is dialled beside it, which leads
/// to another replica where the address is that of many.
pub(super) async fn hold(
    core: &Arc<Core>,
    connection: Connection,
    cluster: &ClusterId,
    address: SocketAddr,
    token: &CancellationToken,
) -> Result<(), ConnectError> {
    let at = Place { core, cluster, address, token };
    let mut held = Held::begin(&at, connection);
    let Some(mut link) = held.stands().await else { return held.ends().await };
    let mut spare: Option<(Held, Arc<Link>)> = None;
    loop {
        let over = link.connection.carrier();
        match (over, &mut spare) {
            // Nothing is better than this, as long as it is heard.
            (Carrier::Quic, None) => tokio::select! {
                ended = held.ends() => return ended,
                () = is(&link, true) => {
                    let beside = tokio::select! {
                        ended = held.ends() => return ended,
                        () = is(&link, false) => continue,
                        beside = at.beside() => beside,
                    };
                    let mut next = Held::begin(&at, beside);
                    spare = next.stands().await.map(|link| (next, link));
                }
            },
            (Carrier::Quic, Some((held_over_tcp, over_tcp))) => tokio::select! {
                () = is(&link, false) => {
                    tracing::info!(peer = %cluster, %address, "QUIC is heard again: new streams go over it");
                    core.links.retire(over_tcp);
                    spare = None;
                }
                _ = held.ends() => if let Some((next, over_tcp)) = spare.take() {
                    (held, link) = (next, over_tcp);
                },
                _ = held_over_tcp.ends() => spare = None,
            },
            (Carrier::Tcp, _) => {
                let back = tokio::select! {
                    ended = held.ends() => return ended,
                    back = at.back() => back,
                };
                let mut next = Held::begin(&at, back);
                // It stands once the peer has said its first word.
                if let Some(over_quic) = next.stands().await {
                    tracing::info!(peer = %cluster, %address, "QUIC passes again: new streams go over it");
                    core.links.retire(&link);
                    (held, link) = (next, over_quic);
                }
            }
        }
    }
}

/// Waits until a link is silent, or is no longer.
async fn is(link: &Link, silent: bool) {
    let mut state = link.watch();
    let changed = state.wait_for(|state| match silent {
        true => *state == LinkState::Suspect,
        false => matches!(state, LinkState::Healthy | LinkState::Quiet),
    });
    if changed.await.is_err() {
        // One that is gone has ended, which others hear of.
        std::future::pending::<()>().await;
    }
}

/// What is dialled, and by whom.
struct Place<'a> {
    core: &'a Arc<Core>,
    cluster: &'a ClusterId,
    address: SocketAddr,
    token: &'a CancellationToken,
}

impl Place<'_> {
    /// Whoever goes, or is not to dial there any more, stays with what there is.
    async fn rests(&self) {
        if self.core.leaving.is_cancelled() || self.token.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Tries QUIC until it works.
    async fn back(&self) -> Connection {
        let mut backoff = Backoff::between(BACK.0, BACK.1);
        loop {
            tokio::time::sleep(backoff.next(rand::random())).await;
            self.rests().await;
            match self.core.transport.dial_quic(self.address, self.cluster).await {
                Ok(connection) => return connection,
                Err(error) => self.in_vain("QUIC", &error),
            }
        }
    }

    /// Tries TCP until it works.
    async fn beside(&self) -> Connection {
        let mut backoff = Backoff::between(BESIDE.0, BESIDE.1);
        loop {
            self.rests().await;
            match self.core.transport.dial_tcp(self.address, self.cluster).await {
                Ok(connection) => return connection,
                Err(error) => self.in_vain("TCP", &error),
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    fn in_vain(&self, over: &str, error: &ConnectError) {
        tracing::debug!(peer = %self.cluster, address = %self.address, over, "still not connected: {error}");
    }
}

/// A connection that has a task of its own, which goes on when this is dropped.
struct Held {
    going: CancellationToken,
    stands: Option<oneshot::Receiver<Arc<Link>>>,
    ended: oneshot::Receiver<Result<(), ConnectError>>,
}

impl Held {
    fn begin(at: &Place<'_>, connection: Connection) -> Self {
        let (end, ended) = oneshot::channel();
        let (stand, stands) = oneshot::channel();
        let going = CancellationToken::new();
        let news = News { going: going.clone(), stands: Some(stand) };
        let (core, address) = (Arc::clone(at.core), at.address);
        at.core.tasks.spawn("link", async move {
            let result = run(&core, connection, Some(address), news).await;
            // Nobody asks any more once the peer goes.
            let _ = end.send(result);
        });
        Self { going, stands: Some(stands), ended }
    }

    /// Waits until it has become a link; none where it never does. To be asked once.
    async fn stands(&mut self) -> Option<Arc<Link>> {
        self.stands.take()?.await.ok()
    }

    /// Waits until it has ended, or its peer is about to go.
    async fn ends(&mut self) -> Result<(), ConnectError> {
        tokio::select! {
            ended = &mut self.ended => ended.unwrap_or(Ok(())),
            () = self.going.cancelled() => Ok(()),
        }
    }
}
