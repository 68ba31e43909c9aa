//! Being dialled: each connection is half a link, and waits for the other half.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{net::TcpStream, sync::oneshot};

use super::{
    Acceptor, BACK, Connection, DIALLED, DIALLER, Ends, FORWARD,
    half::{self, Lost, Tie},
    incoming,
    io::{self, Secured, Socket},
    pair::{End, Half, Met, NAME, Pairs},
    shared::Shared,
    stream::{RecvStream, SendStream},
    unreachable,
};
use crate::{
    credentials::InForce,
    tasks::Tasks,
    transport::{ConnectError, HANDSHAKE},
};

/// One that dials.
pub(in crate::transport) struct Incoming {
    pub(super) tcp: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) acceptor: Acceptor,
    pub(super) pairs: Arc<Pairs>,
    pub(super) tasks: Tasks,
}

/// What has come of a handshake.
pub(in crate::transport) enum Shaken {
    /// Somebody who wants to join, and shows no certificate.
    Joins(Box<Secured>),
    /// A link, and what its peer was shown.
    Link(Connection, Arc<InForce>),
    /// Nothing: it waits for its other half, which has the link then; or it has hung up, as probes of load balancers do, and
    /// diallers that have found another way.
    Nothing,
}

/// Why one that dialled is refused: one word, and a sentence.
type Refused = (Option<&'static str>, ConnectError);

impl Incoming {
    pub(in crate::transport) fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// Why it is refused.
    pub(in crate::transport) async fn handshake(
        self,
        shown: Arc<InForce>,
    ) -> Result<Shaken, Refused> {
        let deadline = tokio::time::Instant::now() + HANDSHAKE;
        let slow = || (Some("timeout"), unreachable("the handshake took too long"));
        let Self { tcp, remote, acceptor, pairs, tasks } = self;
        let begun = tokio::time::timeout_at(deadline, begin(tcp, remote, acceptor, shown)).await;
        let (link, half) = match begun.map_err(|_| slow())?? {
            Begun::Half(link, half) => (link, *half),
            Begun::Joins(secured) => return Ok(Shaken::Joins(secured)),
            Begun::Nothing => return Ok(Shaken::Nothing),
        };
        match pairs.meet(&link, half) {
            Met::Both(both) => {
                let shown = both.iter().min_by_key(|half| half.shown.serial);
                let shown = shown.map(|half| Arc::clone(&half.shown));
                let connected = tokio::time::timeout_at(deadline, connect(both, &tasks)).await;
                match connected.map_err(|_| slow())? {
                    Ok(connection) => {
                        Ok(shown.map_or(Shaken::Nothing, |shown| Shaken::Link(connection, shown)))
                    }
                    Err(error) => {
                        tracing::debug!(%remote, "lost before it was a link: {error}");
                        Ok(Shaken::Nothing)
                    }
                }
            }
            Met::Stranger => {
                let why = "its other half is another's".to_owned();
                Err((Some("protocol"), ConnectError::Refused(why)))
            }
            Met::Waits(taken) => {
                let _gone = Leaves { pairs, link };
                match tokio::time::timeout_at(deadline, taken).await {
                    Ok(_) => Ok(Shaken::Nothing),
                    Err(_) => Err((Some("timeout"), unreachable("its other half did not come"))),
                }
            }
        }
    }
}

/// Waits no longer, whatever the reason.
struct Leaves {
    pairs: Arc<Pairs>,
    link: String,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.pairs.leave(&self.link);
    }
}

/// How far one connection alone has come.
enum Begun {
    /// It is known which link it belongs to.
    Half(String, Box<Half>),
    Joins(Box<Secured>),
    Nothing,
}

/// Goes as far as one half alone can: until it is known which link it belongs to.
async fn begin(
    tcp: TcpStream,
    remote: SocketAddr,
    acceptor: Acceptor,
    shown: Arc<InForce>,
) -> Result<Begun, Refused> {
    let tls = match acceptor.0.accept(Socket::new(tcp)).await {
        Ok(tls) => Secured::new(tls),
        Err(error) if has_hung_up(&error) => {
            tracing::debug!(%remote, "hung up before its handshake was done: {error}");
            return Ok(Begun::Nothing);
        }
        Err(error) => return Err((reason(&error), io::lost(&error))),
    };
    if tls.joins() {
        return Ok(Begun::Joins(Box::new(tls)));
    }
    let chain = tls.chain();
    let (heard, lost) = (tls.heard(), Lost(tls.lost()));
    let begun = match tls.protocol() {
        Some(FORWARD) => forward(tls).await,
        Some(BACK) => back(tls).await,
        _ => {
            let why = "it does not say that it speaks HTTP/2 of links".to_owned();
            return Err((Some("protocol"), ConnectError::Refused(why)));
        }
    };
    match begun {
        Ok(None) => Ok(Begun::Nothing),
        Ok(Some((link, end))) if link.len() == NAME => {
            let half = Half { end, chain, remote, heard, lost, shown };
            Ok(Begun::Half(link, Box::new(half)))
        }
        Ok(Some(_)) => {
            let why = "it does not name its link".to_owned();
            Err((Some("protocol"), ConnectError::Refused(why)))
        }
        // Who has a certificate may hang up: the other half may have found another replica, or QUIC may have done.
        Err(error) if error.is_io() => {
            tracing::debug!(%remote, "hung up before its link was known: {error}");
            Ok(Begun::Nothing)
        }
        Err(error) => Err((Some("protocol"), unreachable(&error))),
    }
}

/// The link that a half names, nothing if it names none; no half where the peer has hung up.
type Named = Result<Option<(String, End)>, h2::Error>;

async fn forward(tls: Secured) -> Named {
    let mut connection = half::server(tls).await?;
    let Some(first) = connection.accept().await else { return Ok(None) };
    let (request, respond) = first?;
    let link = match half::asked(&request) {
        (half::TIE, Some(link)) => link.to_owned(),
        _ => String::new(),
    };
    Ok(Some((link, End::Forward { connection, tie: request.into_body(), respond })))
}

async fn back(tls: Secured) -> Named {
    let (requests, mut connection) = half::client(tls).await?;
    let named = async {
        let (_send, response) = half::open(&requests, half::TIE, None).await.ok()?;
        let response = response.await.ok()?;
        let link = response.headers().get(half::LINK)?;
        link.to_str().ok().map(str::to_owned)
    };
    let link = tokio::select! {
        link = named => link,
        ended = &mut connection => return ended.map(|()| None),
    };
    Ok(Some((link.unwrap_or_default(), End::Back { connection, requests })))
}

/// Makes one link of both halves, as the side that was dialled.
async fn connect(both: Box<[Half; 2]>, tasks: &Tasks) -> Result<Connection, ConnectError> {
    let [first, second] = *both;
    let (forward, back) =
        if matches!(first.end, End::Forward { .. }) { (first, second) } else { (second, first) };
    let shared = Arc::new(Shared::new([forward.heard, back.heard]));
    let (sink, incoming) = incoming(DIALLER, None);
    let (End::Forward { connection, tie, mut respond }, End::Back { connection: client, requests }) =
        (forward.end, back.end)
    else {
        return Err(unreachable("both halves are alike"));
    };
    let (tied, ties) = oneshot::channel();
    match half::take(&mut respond, None, false) {
        Ok(send) => {
            let send = SendStream::new(send, 0, Arc::clone(&shared));
            // It is received below.
            let _ = tied.send(Tie { send, recv: RecvStream::accepted(tie) });
        }
        Err(error) => return Err(forward.lost.by(&error)),
    }
    let run = half::run_server(Arc::clone(&shared), connection, sink, Some(ties), forward.lost);
    tasks.spawn("link-over-tcp", run);
    let run = half::run_client(Arc::clone(&shared), client, None, back.lost);
    tasks.spawn("link-over-tcp", run);
    let ends = Ends { shared, requests, side: DIALLED };
    Connection::new(ends, incoming, forward.chain, forward.remote).await
}

fn has_hung_up(error: &Error) -> bool {
    let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof];
    kinds.contains(&error.kind())
}

/// What is wrong with a handshake, as one word; none where that has been counted where it was judged.
fn reason(error: &Error) -> Option<&'static str> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Some("no_certificate"),
        Some(rustls::Error::InvalidCertificate(_)) => None,
        Some(rustls::Error::AlertReceived(_)) => Some("refused_by_peer"),
        Some(_) => Some("protocol"),
        None => Some("transport"),
    }
}
