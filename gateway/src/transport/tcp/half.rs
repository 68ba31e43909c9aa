//! One TCP connection of a link: HTTP/2, whose client side opens streams and whose server side takes them.
//!
//! ```text
//!  dialler ══ TCP, TLS "landbridge-h2" ═══════▶ dialled     streams of the dialler
//!  dialler ══ TCP, TLS "landbridge-h2-back" ══▶ dialled     the dialled one is the client: its streams
//! ```
//!
//! Each stream is a CONNECT whose authority says what it is for. The first one ties the two connections together; it stays
//! open, and the code of its reset tells why the link is closed (RFC 9113 section 7: unknown codes trigger nothing).

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    time::{Duration, Instant},
};

use h2::{Ping, PingPong, Reason, RecvStream as Body, client, server};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    io::Secured,
    shared::Shared,
    stream::{Chunk, RecvStream, SendStream, stream_error},
};
use crate::{
    health::KEEP_ALIVE,
    transport::{
        CONNECTION_WINDOW, CloseReason, ConnectError, IDLE, MAX_STREAMS, STREAM_WINDOW, StreamError,
    },
};

/// What streams are for, as their authority says.
pub(super) const TIE: &str = "tie.landbridge";
pub(super) const STREAM: &str = "stream.landbridge";
pub(super) const CONTROL: &str = "control.landbridge";
pub(super) const DATAGRAMS: &str = "datagrams.landbridge";
/// Names the link that a connection belongs to.
pub(super) const LINK: &str = "landbridge-link";

/// With its nine bytes before it a frame fills four TLS records.
const FRAME: u32 = (64 << 10) - 9;
/// What a stream may hold that the socket has not taken: it is as much as one read brings, four times.
const SEND_BUFFER: usize = 256 << 10;
/// What the headers of one request may have: one name and an id are all that they say.
const HEADERS: u32 = 2 << 10;
/// The tie, the control stream and the datagrams, beside the streams.
const OTHERS: u32 = 3;
/// Streams that a peer may have given up before they were looked at: whoever was away for a moment finds all at once that
/// was given up meanwhile.
const GIVEN_UP: usize = 4_096;
/// Streams that were reset here and may still be sent to.
const RESET: usize = 4_096;
/// How long frames may still come of those.
const RESET_FOR: Duration = Duration::from_secs(10);
/// Small frames that may wait to be read: datagrams of UDP are small frames.
const SMALL_FRAMES: usize = 16 << 20;
/// What a close has to be said, and the peer to hang up.
const CLOSING: Duration = Duration::from_millis(250);
/// The codes of resets that tell why a link is closed: this, and the number of the reason.
const CLOSED: u32 = 0x4c42_0000;

type Client = client::Connection<Secured, Chunk>;
type Server = server::Connection<Secured, Chunk>;
/// What opens streams.
pub(super) type Requests = client::SendRequest<Chunk>;

macro_rules! set {
    ($builder:expr) => {
        $builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS + OTHERS)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(GIVEN_UP)
            .max_concurrent_reset_streams(RESET)
            .reset_stream_duration(RESET_FOR)
            // It counts for as long as the link lasts, and links last for a day.
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES)
    };
}

/// Begins as the side that opens streams.
pub(super) async fn client(tls: Secured) -> Result<(Requests, Client), h2::Error> {
    let mut builder = client::Builder::new();
    set!(builder).enable_push(false).handshake(tls).await
}

/// Begins as the side that takes them.
pub(super) async fn server(tls: Secured) -> Result<Server, h2::Error> {
    let mut builder = server::Builder::new();
    set!(builder).handshake(tls).await
}

/// Opens a stream; waits while the peer allows no more.
pub(super) async fn open(
    requests: &Requests,
    kind: &'static str,
    link: Option<&str>,
) -> Result<(h2::SendStream<Chunk>, client::ResponseFuture), StreamError> {
    let failed = |error: h2::Error| stream_error(&error);
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from_static(kind);
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(link).ok()) {
        request.headers_mut().insert(LINK, link);
    }
    let mut requests = requests.clone().ready().await.map_err(failed)?;
    let (response, send) = requests.send_request(request, false).map_err(failed)?;
    poll_fn(|cx| requests.poll_ready(cx)).await.map_err(failed)?;
    Ok((send, response))
}

/// What a request is for, and the link that it names.
pub(super) fn asked(request: &Request<Body>) -> (&str, Option<&str>) {
    let kind = match request.method() {
        &Method::CONNECT => request.uri().authority().map_or("", |authority| authority.as_str()),
        _ => "",
    };
    (kind, request.headers().get(LINK).and_then(|link| link.to_str().ok()))
}

/// Takes a stream.
pub(super) fn take(
    respond: &mut server::SendResponse<Chunk>,
    link: Option<&str>,
    ends: bool,
) -> Result<h2::SendStream<Chunk>, h2::Error> {
    let mut response = Response::new(());
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    respond.send_response(response, ends)
}

/// Refuses one.
pub(super) fn refuse(respond: &mut server::SendResponse<Chunk>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // One that has gone meanwhile needs no answer.
    let _ = respond.send_response(response, true);
}

/// The stream that ties a connection to its link.
#[derive(Debug)]
pub(super) struct Tie {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

/// Where the streams go that a peer opens.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) streams: mpsc::Sender<(SendStream, RecvStream)>,
    pub(super) control: Option<oneshot::Sender<RecvStream>>,
    pub(super) datagrams: Option<oneshot::Sender<RecvStream>>,
    /// Tells the numbers of both directions apart.
    pub(super) side: u64,
    /// The link, where the peer is yet to hear which it is.
    pub(super) link: Option<String>,
    /// Streams whose other half is of no use, which stay open all the same.
    pub(super) held: Vec<SendStream>,
}

impl Incoming {
    fn take(
        &mut self,
        shared: &Arc<Shared>,
        request: Request<Body>,
        mut respond: server::SendResponse<Chunk>,
    ) {
        let once = match asked(&request).0 {
            TIE if self.link.is_some() => {
                // One that has gone meanwhile needs no answer.
                let _ = take(&mut respond, self.link.take().as_deref(), true);
                return;
            }
            STREAM => None,
            CONTROL if self.control.is_some() => Some(&mut self.control),
            DATAGRAMS if self.datagrams.is_some() => Some(&mut self.datagrams),
            other => {
                tracing::debug!("a stream of an unknown kind is refused: {other:?}");
                return refuse(&mut respond, StatusCode::NOT_FOUND);
            }
        };
        // One that was given up meanwhile is nobody's loss.
        let Ok(send) = take(&mut respond, None, false) else { return };
        let number = number(send.stream_id(), self.side);
        let send = SendStream::new(send, number, Arc::clone(shared));
        let recv = RecvStream::accepted(request.into_body());
        match once {
            Some(once) => {
                self.held.push(send);
                if let Some(once) = once.take() {
                    // Whoever waits for it may have gone with the link.
                    let _ = once.send(recv);
                }
            }
            None => {
                if let Err(error) = self.streams.try_send((send, recv)) {
                    let (send, _) = error.into_inner();
                    tracing::debug!("a stream is refused: too many wait to be looked at");
                    send.reset(Reason::REFUSED_STREAM);
                }
            }
        }
    }
}

/// A stream's number on its link: those of the two connections are told apart by the last bit.
pub(super) fn number(id: h2::StreamId, side: u64) -> u64 {
    u64::from(id.as_u32()) << 1 | side
}

/// Runs the side that opens streams until the link is closed.
pub(super) async fn run_client(
    shared: Arc<Shared>,
    mut connection: Client,
    tie: Option<oneshot::Receiver<Tie>>,
    lost: Lost,
) {
    let pings = connection.ping_pong();
    let driven = async {
        match (&mut connection).await {
            Ok(()) => hung_up(),
            Err(error) => lost.by(&error),
        }
    };
    let tie = live(&shared, driven, pings, tie).await;
    say(&shared, tie, connection).await;
}

/// Runs the side that takes streams until the link is closed.
pub(super) async fn run_server(
    shared: Arc<Shared>,
    mut connection: Server,
    mut incoming: Incoming,
    tie: Option<oneshot::Receiver<Tie>>,
    lost: Lost,
) {
    let pings = connection.ping_pong();
    let driven = async {
        loop {
            match connection.accept().await {
                Some(Ok((request, respond))) => incoming.take(&shared, request, respond),
                Some(Err(error)) => return lost.by(&error),
                None => return hung_up(),
            }
        }
    };
    let tie = live(&shared, driven, pings, tie).await;
    drop(incoming);
    say(&shared, tie, async move { while let Some(Ok(_)) = connection.accept().await {} }).await;
}

fn hung_up() -> ConnectError {
    ConnectError::Unreachable("the peer has hung up".to_owned())
}

/// Tells by what a connection was lost.
#[derive(Debug)]
pub(super) struct Lost(pub(super) Arc<std::sync::OnceLock<ConnectError>>);

impl Lost {
    pub(super) fn by(&self, error: &h2::Error) -> ConnectError {
        let below = self.0.get().cloned();
        below.unwrap_or_else(|| ConnectError::Unreachable(error.to_string()))
    }
}

/// Waits until the link is closed by anything.
async fn live(
    shared: &Shared,
    driven: impl Future<Output = ConnectError>,
    pings: Option<PingPong>,
    tied: Option<oneshot::Receiver<Tie>>,
) -> Option<Tie> {
    let mut tie = None;
    let told = async {
        tie = match tied {
            Some(tied) => tied.await.ok(),
            None => None,
        };
        match &mut tie {
            Some(tie) => told(tie.recv.ends().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // What the peer says comes before its hanging up.
        biased;
        by = told => shared.lost(by),
        by = driven => shared.lost(by),
        by = beat(shared, pings) => shared.lost(by),
        () = shared.ended() => {}
    }
    tie
}

/// What the end of the tie tells.
fn told(code: Option<Reason>) -> ConnectError {
    let reason = code.and_then(|code| u32::from(code).checked_sub(CLOSED));
    match reason.and_then(CloseReason::of) {
        Some(reason) => ConnectError::Refused(format!("closed by peer: {}", reason.parts().1)),
        None => hung_up(),
    }
}

/// Says why the link is closed, if it is for this side to say, and waits for the peer to hang up. The connection on which it
/// is not said stands still meanwhile: a peer that finds it gone would have heard nothing else.
async fn say(shared: &Shared, tie: Option<Tie>, connection: impl Future) {
    let Some(reason) = shared.to_say() else { return };
    let said = async {
        match tie {
            Some(tie) => {
                tie.send.reset(Reason::from(CLOSED + reason.parts().0));
                connection.await;
                shared.is_said();
            }
            None => shared.was_said().await,
        }
    };
    // A peer that is gone does not answer, and it need not.
    let _ = tokio::time::timeout(CLOSING, said).await;
}

/// Says each 100 ms that this side is there, and hears whether the other one is; ends when it was silent for too long.
async fn beat(shared: &Shared, pings: Option<PingPong>) -> ConnectError {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let mut tick = interval(KEEP_ALIVE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    let mut silent = Duration::ZERO;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if asked.is_some() {
                    // The time that this process did not run is not counted.
                    silent += KEEP_ALIVE;
                    if silent >= IDLE {
                        return ConnectError::Unreachable("timed out".to_owned());
                    }
                } else if pings.send_ping(Ping::opaque()).is_ok() {
                    asked = Some(Instant::now());
                }
            }
            pong = poll_fn(|cx| pings.poll_pong(cx)), if asked.is_some() => {
                if pong.is_err() {
                    // What drives the connection says why.
                    return std::future::pending().await;
                }
                if let Some(asked) = asked.take() {
                    shared.measured(asked.elapsed());
                }
                silent = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_the_ties_reset_tells_why_a_link_is_closed() {
        let code = |code: u32| told(Some(Reason::from(code))).to_string();
        assert_eq!(code(CLOSED + 1), "refused by the peer: closed by peer: not listed");
        assert_eq!(code(CLOSED + 999), "the peer has hung up");
        assert_eq!(code(8), "the peer has hung up");
        assert_eq!(told(None).to_string(), "the peer has hung up");
    }
}
