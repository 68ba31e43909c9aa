//! One question to the set's authority, over HTTP/1.1 over whatever leads there.

use std::{io, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use landbridge_gateway::join::message::{Answer, MAX_BODY, Refused};
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// What the question names as its host: nobody looks it up.
const AUTHORITY: &str = "landbridge-authority";

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// The authority says no.
    #[error("{}{separator}{}", refused.error, refused.remedy, separator = if refused.remedy.is_empty() { "" } else { ": " })]
    Refused { status: u16, refused: Refused },
    /// It says something else.
    #[error(
        "the authority's answer cannot be read ({0}): is the hub's version much older or newer?"
    )]
    Unreadable(String),
    /// What led there was lost.
    #[error("the authority was not reached: {0}")]
    Lost(#[from] io::Error),
    /// Nothing leads there.
    #[error("{0}")]
    Stream(String),
    /// It does not answer.
    #[error("the authority does not answer within {0:?}")]
    Silent(Duration),
}

impl AskError {
    /// Whether asking again may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500,
            Self::Unreadable(_) => false,
            // Who it is does not change by asking again.
            Self::Lost(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Silent(_) | Self::Stream(_) => true,
        }
    }
}

/// Asks, and reads the answer.
///
/// # Errors
/// [`AskError`].
pub(crate) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    question: &impl Serialize,
) -> Result<Answer, AskError> {
    let lost = |error: hyper::Error| AskError::Lost(io::Error::other(error));
    let body = serde_json::to_vec(question).map_err(|error| AskError::Stream(error.to_string()))?;
    let request = Request::post(path)
        .header(HOST, AUTHORITY)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body));
    let request = request.map_err(|error| AskError::Stream(error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        // A server may close once it has answered: what was read counts.
        Ok::<_, AskError>((status, read(response.into_body()).await?))
    };
    // The connection moves the bytes. However it ends, what was answered before counts.
    let mut answered = std::pin::pin!(answered);
    let (status, body) = tokio::select! {
        answered = &mut answered => answered?,
        _ended = connection => answered.await?,
    };
    let unreadable = |error: serde_json::Error| AskError::Unreadable(error.to_string());
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(unreadable);
    }
    let refused = serde_json::from_slice(&body)
        .map_err(|_| AskError::Unreadable(format!("{status} without a reason")))?;
    Err(AskError::Refused { status: status.as_u16(), refused })
}

async fn read(body: Incoming) -> Result<Bytes, AskError> {
    let read = Limited::new(body, MAX_BODY).collect().await;
    read.map(|body| body.to_bytes()).map_err(|error| AskError::Lost(io::Error::other(error)))
}
