//! What the hub gives its members through links: its Kubernetes API, and the set's authority.
//!
//! ```text
//!  controller ─► listen ─► link to the hub ═════ link of a member ─► serve ─► API, authority
//! ```
//!
//! Each of the two is one address, which stands in the settings of the hub's gateways. A stream is joined to that and to
//! nothing else: what is said over it is TLS from end to end, and who says it is for the other end to judge.

mod listen;
mod serve;
mod target;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use landbridge_model::{ClusterId, Namespace};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::Semaphore,
};

pub use self::target::{NoTarget, Target};
pub(crate) use self::{listen::start, serve::serve};
use crate::{
    copy::{self, Counters, Prefix},
    core::Core,
    metrics::Direction,
    open::Tally,
    room::Room,
    transport::{RecvStream, SendStream},
    wire::HubService,
};

/// Streams of one member at a time. Its controller holds one for each watch and each call in flight, some twenty; and for a
/// moment those of a replica that has gone.
const MOST_OF_PEER: usize = 64;
/// Streams of all members: those of a hundred, over each of the hub's gateways.
const MOST: usize = 2_048;

/// What a gateway has to do with the hub; nothing, by default.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// At the hub: its Kubernetes API, as this gateway reaches it.
    pub api: Option<Target>,
    /// At the hub: the set's authority, as this gateway reaches it. With it there is a door for clusters that join.
    pub authority: Option<Target>,
    /// In a member: the way to the hub.
    pub through: Option<Through>,
}

/// Where the controller of a member finds what the hub gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Through {
    /// The member that is the hub.
    pub cluster: ClusterId,
    /// Where this gateway listens for those who want the hub's API.
    pub api: Option<SocketAddr>,
    /// The same for the authority.
    pub authority: Option<SocketAddr>,
}

/// One listener of a member's gateway.
#[derive(Debug)]
struct Listener {
    service: HubService,
    address: SocketAddr,
    /// Taken when it is served.
    tcp: Mutex<Option<TcpListener>>,
}

/// The hub, as a gateway knows it.
#[derive(Debug)]
pub(crate) struct Access {
    settings: Hub,
    /// The namespace of those who may go through the listeners.
    system: Namespace,
    listeners: Vec<Listener>,
    clients: Arc<Semaphore>,
    /// The streams of members.
    streams: Mutex<BTreeMap<ClusterId, usize>>,
}

impl Access {
    /// Binds the listeners.
    ///
    /// # Errors
    /// The first that cannot be had, and why.
    pub(crate) fn bind(settings: Hub, system: Namespace) -> Result<Self, (SocketAddr, io::Error)> {
        let through = settings.through.as_ref();
        let api = through.and_then(|through| through.api).map(|at| (HubService::Api, at));
        let authority = through.and_then(|through| through.authority);
        let wanted = api.into_iter().chain(authority.map(|at| (HubService::Authority, at)));
        let listeners = wanted
            .map(|(service, at)| listen::bind(service, at).map_err(|error| (at, error)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            settings,
            system,
            listeners,
            clients: Arc::new(Semaphore::new(listen::MOST_CLIENTS)),
            streams: Mutex::default(),
        })
    }

    /// Where the set's authority is, at the hub.
    pub(crate) fn authority(&self) -> Option<&Target> {
        self.settings.authority.as_ref()
    }

    /// Where a stream for something is brought to, at the hub.
    fn target(&self, service: HubService) -> Option<&Target> {
        match service {
            HubService::Api => self.settings.api.as_ref(),
            HubService::Authority => self.settings.authority.as_ref(),
        }
    }

    /// Takes a place for a stream of a member, until what is returned is dropped; none where it has too many.
    fn enter(&self, peer: &ClusterId) -> Option<Place<'_>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = streams.values().sum();
        let own = streams.get(peer).copied().unwrap_or_default();
        if all >= MOST || own >= MOST_OF_PEER {
            return None;
        }
        streams.insert(peer.clone(), own + 1);
        Some(Place { access: self, peer: peer.clone() })
    }

    /// As people see it.
    pub(crate) fn shown(&self) -> Value {
        let through = self.settings.through.as_ref().map(|through| {
            let listening = self.listeners.iter().map(|listener| {
                (listener.service.as_str().to_owned(), listener.address.to_string().into())
            });
            json!({
                "cluster": through.cluster.as_str(),
                "listening": listening.collect::<serde_json::Map<_, _>>(),
                "clients": listen::MOST_CLIENTS - self.clients.available_permits(),
            })
        });
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = streams.iter().map(|(peer, count)| (peer.to_string(), (*count).into()));
        json!({
            "api": self.settings.api.as_ref().map(Target::to_string),
            "authority": self.settings.authority.as_ref().map(Target::to_string),
            "streams": streams.collect::<serde_json::Map<_, _>>(),
            "through": through,
        })
    }

    /// Where this gateway listens for those who want something of the hub; the real port where 0 was asked for.
    #[cfg(test)]
    pub(crate) fn address(&self, service: HubService) -> Option<SocketAddr> {
        let listener = self.listeners.iter().find(|listener| listener.service == service)?;
        Some(listener.address)
    }
}

/// A place for a stream of a member.
#[derive(Debug)]
struct Place<'a> {
    access: &'a Access,
    peer: ClusterId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut streams = self.access.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = streams.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                streams.remove(&self.peer);
            }
        }
    }
}

/// Connects to what a name stands for now: the first of its addresses that accepts.
pub(crate) async fn connect(room: &Room, target: &Target) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((target.host(), target.port())).await? {
        match room.connect(address).await {
            Ok(tcp) => {
                copy::prepare(&tcp);
                return Ok(tcp);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What is told of a stream.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) direction: Direction,
    pub(crate) service: HubService,
    /// The cluster on the other side.
    pub(crate) peer: ClusterId,
    /// Who has connected here, in a member.
    pub(crate) client: Option<SocketAddr>,
    begun: Instant,
}

impl About {
    fn new(
        direction: Direction,
        service: HubService,
        peer: &ClusterId,
        client: Option<SocketAddr>,
    ) -> Self {
        Self { direction, service, peer: peer.clone(), client, begun: Instant::now() }
    }

    /// It was not brought anywhere.
    fn refused(&self, core: &Core, reason: &'static str) {
        core.metrics.hub.stream(self.direction, self.service, reason);
        core.opened.hub(self, None, reason);
    }

    /// Joins a stream and a connection until both have ended, or until something is a reason to part them: `parts` says
    /// which.
    async fn carry(
        &self,
        core: &Core,
        mut tcp: TcpStream,
        (send, recv): (SendStream, RecvStream),
        parts: impl Future<Output = &'static str>,
    ) {
        core.metrics.hub.stream(self.direction, self.service, "connected");
        let _open = core.metrics.hub.open(self.direction, self.service);
        let tally = Arc::<Tally>::default();
        let counters = Counters {
            sent: core.metrics.bytes(Direction::Outbound, self.peer.as_str()),
            received: core.metrics.bytes(Direction::Inbound, self.peer.as_str()),
            tally: Arc::clone(&tally),
        };
        let outcome = tokio::select! {
            ended = copy::both(&mut tcp, send, recv, Prefix::default(), &counters) => match ended {
                Ok(send) => {
                    core.arrived(send).await;
                    "done"
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer, service = self.service.as_str(), "reset: {error}");
                    copy::reset(tcp);
                    "reset"
                }
            },
            why = parts => {
                end(&tcp);
                why
            }
        };
        core.opened.hub(self, Some((&tally, self.begun.elapsed())), outcome);
    }
}

/// Ends a connection so that its other end sees an end and no reset, as far as that is possible.
fn end(tcp: &TcpStream) {
    // What has come and was not read would make a reset of it.
    let _ = copy::read(tcp, usize::MAX);
    let _ = socket2::SockRef::from(tcp).shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_member_takes_all_places_at_the_hub() {
        let system = Namespace::parse("landbridge-system").unwrap();
        let access = Access::bind(Hub::default(), system).unwrap();
        let peer = |name: &str| ClusterId::parse(name).unwrap();
        let of_berlin: Vec<Place<'_>> =
            (0..MOST_OF_PEER + 1).filter_map(|_| access.enter(&peer("berlin"))).collect();
        assert_eq!(of_berlin.len(), MOST_OF_PEER);
        let mut all = Vec::new();
        for number in 0..MOST / MOST_OF_PEER {
            let name = peer(&format!("c{number}"));
            all.extend((0..MOST_OF_PEER).filter_map(|_| access.enter(&name)));
        }
        assert_eq!(of_berlin.len() + all.len(), MOST);
        drop(of_berlin);
        assert!(access.enter(&peer("tokyo")).is_some());
        drop(all);
        assert!(access.streams.lock().unwrap().is_empty());
    }
}
