//! The sending side: a client of this cluster has connected to an allotted port.
//!
//! The header goes out at once, so that servers may speak first, and payload may follow before the answer. The rule
//! of delivery: a call is tried elsewhere when the answer says that nothing was delivered, or when no payload has been
//! sent; once payload is out and no answer has come, a lost or silent link resets the client, for what may have been
//! delivered is never sent twice, unless a TrafficPolicy says that this does no harm.

mod aim;
mod attempt;
mod early;

use std::{net::SocketAddr, sync::Arc};

use landbridge_model::{AllottedPort, ClusterId, ServiceKey};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};

pub(crate) use self::{
    aim::Aim,
    attempt::{SUSPECT, answer, scope},
};
use self::{
    attempt::{Attempt, Connected, attempt},
    early::Early,
};
use crate::{
    caller::Caller,
    copy::{self, Counters},
    core::Core,
    metrics::{Direction, Open},
    open::{About, Tally},
    pool::Taken,
    route::{Choice, Tried},
    serve::{self, Pod},
    snapshot::{Route, Snapshot},
    spans::CallSpan,
    wire::{self, Header, Refusal},
};

/// Takes a client in. It is refused by a reset where there is no room for it.
pub(crate) fn client(
    core: &Arc<Core>,
    client: TcpStream,
    address: SocketAddr,
    port: AllottedPort,
    route: &Arc<Route>,
) {
    let aim = Aim::new(core, port, route, address);
    let permit = if core.room.is_kept(&client) {
        Err("descriptors run out")
    } else {
        Arc::clone(&core.outbound).try_acquire_owned().map_err(|_| "too many clients")
    };
    let permit = match permit {
        Ok(permit) => permit,
        Err(why) => {
            let reason = Refusal::Overloaded.reason();
            core.metrics.connection(Direction::Outbound, reason);
            core.opened.refused(&aim.about(None), reason, CallSpan::outbound(&core.tracer));
            core.room.refuses(why);
            return copy::reset(client);
        }
    };
    let call = Call { aim, _permit: permit, _open: core.metrics.open(Direction::Outbound) };
    core.tasks.spawn("client", async move {
        let stop = call.aim.core.stop.clone();
        tokio::select! {
            () = call.run(client) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// One client's connection.
struct Call {
    aim: Aim,
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

/// Where a call has been brought.
enum Brought {
    Here(Pod, Server),
    Peer(Connected, Server),
}

impl Brought {
    fn server(&self) -> &Server {
        match self {
            Self::Here(_, server) | Self::Peer(_, server) => server,
        }
    }
}

/// The cluster that a call counts for.
type Server = Taken<(ServiceKey, ClusterId)>;

impl Call {
    async fn run(self, client: TcpStream) {
        copy::prepare(&client);
        let start = Instant::now();
        let mut early = Early::new(Arc::clone(&self.aim.core));
        let mut span = CallSpan::outbound(&self.aim.core.tracer);
        let brought = self.bring(&client, &mut early, start + self.aim.deadline(), &mut span).await;
        let result = brought.as_ref().map_or_else(|reason| *reason, |_| "connected");
        self.aim.core.metrics.connection(Direction::Outbound, result);
        let target = &self.aim.route.target;
        match brought {
            Ok(brought) => {
                let cluster = &brought.server().key().1;
                self.aim.core.metrics.connected_after(cluster.as_str(), start.elapsed());
                self.carry(client, brought, early, span).await;
            }
            Err(reason) => {
                self.aim.core.opened.refused(&self.aim.about(None), reason, span);
                tracing::info!(
                    service = %target.service, port = %target.port, client = %self.aim.client, reason,
                    "a call was not connected"
                );
                copy::reset(client);
            }
        }
    }

    /// Tries one destination after the other.
    ///
    /// # Errors
    /// One word, where none is left or none may be tried any more.
    async fn bring(
        &self,
        client: &TcpStream,
        early: &mut Early,
        deadline: Instant,
        span: &mut CallSpan,
    ) -> Result<Brought, &'static str> {
        let mut tried = Tried::default();
        let mut reason = "no_route";
        for _ in 0..self.aim.tries() {
            let Some((choice, snapshot)) = self.aim.choose(&tried, deadline).await else {
                return Err(reason);
            };
            let header = self.aim.header(&snapshot, span.parent());
            let cluster = match choice {
                Choice::Here => match self.here(&snapshot, &header).await {
                    Ok(pod) => {
                        // What a peer got that could not deliver it, the pod gets from the beginning.
                        early.restart();
                        return Ok(Brought::Here(pod, self.aim.take(&self.aim.core.cluster)));
                    }
                    Err(refusal) => {
                        tried.here();
                        reason = refusal.reason();
                        self.aim.core.cluster.clone()
                    }
                },
                Choice::Link { cluster, link } => {
                    let Some(link) = self.aim.core.links.get(&cluster, link) else {
                        tried.link(link);
                        continue;
                    };
                    let header = wire::encode_header(&header);
                    let server = self.aim.take(&cluster);
                    match attempt(client, &link, &header, early, deadline).await {
                        Attempt::Connected(connected) => {
                            self.aim.succeeded(&server);
                            return Ok(Brought::Peer(connected, server));
                        }
                        Attempt::MaybeDelivered(why) if self.aim.route.call.replay_safe => {
                            reason = why;
                            tried.link(link.id);
                        }
                        Attempt::MaybeDelivered(reason) => return Err(reason),
                        Attempt::ClientGone => return Err("client_gone"),
                        Attempt::NotDelivered(why, scope) => {
                            reason = why;
                            self.aim.failed(&cluster, why, scope);
                            tried.learn(scope, cluster.clone(), link.id);
                        }
                    }
                    cluster
                }
            };
            span.tried(cluster.as_str(), reason);
            self.aim.core.metrics.retried(cluster.as_str(), reason);
        }
        Err(reason)
    }

    /// Brings the call to a pod of this cluster.
    async fn here(&self, snapshot: &Snapshot, header: &Header) -> Result<Pod, Refusal> {
        let (cluster, source) = (self.aim.core.cluster.clone(), header.source.clone());
        serve::connect(&self.aim.core, snapshot, header, &Caller { cluster, source }).await
    }

    async fn carry(&self, mut client: TcpStream, brought: Brought, early: Early, span: CallSpan) {
        let core = &self.aim.core;
        let pod = match &brought {
            Brought::Here(pod, _) => Some(pod.address),
            Brought::Peer(..) => None,
        };
        let about = About { pod, ..self.aim.about(Some(&brought.server().key().1)) };
        let mut open = core.opened.open(about, span);
        let ended = tokio::select! {
            ended = self.join(&mut client, brought, early, open.tally()) => {
                ended.map_err(|error| ("reset", error))
            }
            why = open.cut(self.aim.route.call.idle) => {
                core.metrics.cut(why);
                Err((why, why.to_owned()))
            }
        };
        match ended {
            Ok(()) => open.ends("done"),
            Err((outcome, error)) => {
                open.ends(outcome);
                tracing::debug!(service = %self.aim.route.target.service, client = %self.aim.client, "reset: {error}");
                copy::reset(client);
            }
        }
    }

    /// Joins the client and what it was brought to, until both have ended.
    async fn join(
        &self,
        client: &mut TcpStream,
        brought: Brought,
        early: Early,
        tally: Arc<Tally>,
    ) -> Result<(), String> {
        let core = &self.aim.core;
        match brought {
            Brought::Peer(connected, server) => {
                let cluster = server.key().1.as_str();
                let counters = Counters {
                    sent: core.metrics.bytes(Direction::Outbound, cluster),
                    received: core.metrics.bytes(Direction::Inbound, cluster),
                    tally,
                };
                let Connected { send, recv, load } = connected;
                let ended = copy::both(client, send, recv, early.into_prefix(), &counters).await;
                drop(load);
                core.arrived(ended.map_err(|error| error.to_string())?).await;
                Ok(())
            }
            Brought::Here(pod, _server) => {
                let ended = copy::local(client, &pod.tcp, early.into_prefix(), &tally).await;
                if ended.is_err() {
                    copy::reset(pod.tcp);
                }
                ended.map_err(|error| error.to_string())
            }
        }
    }
}
