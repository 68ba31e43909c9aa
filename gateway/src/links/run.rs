//! The life of one connection, from the first word of both sides to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Link;
use crate::{
    core::Core,
    serve,
    transport::{CloseReason, ConnectError, Connection, RecvStream, SendStream, StreamError},
    udp,
    wire::{self, Control},
};

/// How long the other side may take for its first word. It has nothing to wait for.
const HELLO: Duration = Duration::from_secs(3);

/// Who hears of a connection what.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Cancelled when its peer says that it is about to go.
    pub(super) going: CancellationToken,
    /// Gets the link once there is one.
    pub(super) stands: Option<oneshot::Sender<Arc<Link>>>,
}

/// Runs a connection until it is closed.
///
/// # Errors
/// Why it never became a link: until the peer has said its first word, it may yet refuse this side's certificate.
pub(super) async fn run(
    core: &Arc<Core>,
    connection: Connection,
    dialled: Option<SocketAddr>,
    news: News,
) -> Result<(), ConnectError> {
    let (control, theirs, spoken) = tokio::select! {
        said = hello(&connection) => said?,
        () = core.stop.cancelled() => return Ok(()),
    };
    let Some(link) = core.links.add(connection, dialled, spoken, news.going) else {
        return Err(ConnectError::Refused("there are more connections than needed".to_owned()));
    };
    // The peer may have been taken off the list since its certificate was judged.
    let listed = core.snapshots.load().peers.get(&link.peer().cluster).map(|peer| peer.generation);
    if listed != Some(link.peer().generation) {
        link.connection.close(CloseReason::NotListed);
    }
    let address = link.connection.remote_address();
    let over = link.connection.carrier().as_str();
    tracing::info!(peer = %link.peer(), %address, over, dialled = link.dialled.is_some(), "a link stands");
    if let Some(stands) = news.stands {
        // Whoever dialled may have ended meanwhile.
        let _ = stands.send(Arc::clone(&link));
    }
    let receive = udp::receive(Arc::clone(core), Arc::clone(&link), link.connection.datagrams());
    core.tasks.spawn("datagrams", receive);
    let ended = live(core, &link, control, theirs).await;
    core.links.remove(&link);
    tracing::info!(peer = %link.peer(), %address, "a link has ended: {ended}");
    Ok(())
}

/// Says the first word and waits for the peer's, which tells the versions of headers that it reads.
async fn hello(connection: &Connection) -> Result<(SendStream, RecvStream, Vec<u8>), ConnectError> {
    let said = tokio::time::timeout(HELLO, async {
        let mut control = connection.open_control().await?;
        let hello = Control::Hello { spoken: wire::SPOKEN.to_vec() };
        control.write_all(&wire::encode_control(&hello)).await?;
        let mut theirs = connection.accept_control().await?;
        match next(&mut theirs).await? {
            Control::Hello { spoken } if spoken.contains(&wire::VERSION) => {
                Ok((control, theirs, spoken))
            }
            _ => Err(StreamError::Reset),
        }
    });
    match said.await {
        Ok(Ok(streams)) => Ok(streams),
        Ok(Err(error)) => Err(closed(connection, &error.to_string())),
        Err(_) => Err(closed(connection, "the peer has said nothing")),
    }
}

/// What became of a connection whose peer said nothing sensible.
fn closed(connection: &Connection, otherwise: &str) -> ConnectError {
    let reason = connection.close_reason();
    connection.close(CloseReason::Protocol);
    reason.unwrap_or_else(|| ConnectError::Unreachable(otherwise.to_owned()))
}

async fn live(
    core: &Arc<Core>,
    link: &Arc<Link>,
    mut control: SendStream,
    theirs: RecvStream,
) -> ConnectError {
    let listening = listen(core, link, theirs);
    tokio::pin!(listening);
    let (mut heard, mut told) = (false, false);
    loop {
        let goes = async {
            tokio::select! {
                () = core.leaving.cancelled() => {}
                () = link.retired.cancelled() => {}
            }
        };
        tokio::select! {
            stream = link.connection.accept() => match stream {
                Ok((send, recv)) => serve::stream(core, link, send, recv),
                Err(_) => return link.connection.closed().await,
            },
            () = &mut listening, if !heard => heard = true,
            () = goes, if !told => {
                told = true;
                // A peer that does not hear it is told on every stream.
                let _ = control.write_all(&wire::encode_control(&Control::Draining)).await;
            }
            () = core.stop.cancelled() => {
                link.connection.close(CloseReason::Going);
                return link.connection.closed().await;
            }
        }
    }
}

/// Hears what the peer has to say until it says no more.
async fn listen(core: &Core, link: &Link, mut theirs: RecvStream) {
    while let Ok(message) = next(&mut theirs).await {
        match message {
            Control::Draining => {
                tracing::info!(peer = %link.peer(), "the peer is about to go");
                core.links.goes(link);
            }
            Control::Hello { .. } | Control::Unknown(_) => {}
        }
    }
}

async fn next(stream: &mut RecvStream) -> Result<Control, StreamError> {
    let mut prefix = [0; 3];
    stream.read_exact(&mut prefix).await?;
    let length = usize::from(u16::from_be_bytes([prefix[1], prefix[2]]));
    if length > wire::MAX_CONTROL {
        return Err(StreamError::Reset);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    wire::decode_control(prefix[0], &body).map_err(|_| StreamError::Reset)
}
