//! Knocking at a hub's door: a stream to its authority, for those that have no certificate yet.
//!
//! Nothing of whoever answers is verified here. What goes over the stream has to be TLS of its own, to the authority, whose
//! root is known by the fingerprint in the token: a gateway, and whoever poses as one, carries it and sees none of it.

use std::{fmt, time::Duration};

use landbridge_model::GatewayAddress;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::token::MAX_ADDRESSES;
use crate::transport;

/// How long all addresses may take: with two that are silent there is time left for four more.
const MOST: Duration = Duration::from_secs(30);

/// Why no gateway of the hub could be reached: each address that was tried, and what became of it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub struct DialError {
    /// In the order in which they were tried.
    pub tried: Vec<(GatewayAddress, String)>,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no gateway of the hub can be reached")?;
        for (number, (address, why)) in self.tried.iter().enumerate() {
            let separator = if number == 0 { ": " } else { "; " };
            write!(f, "{separator}{address}: {why}")?;
        }
        Ok(())
    }
}

/// Opens a stream to the authority behind the gateways at these addresses: each in turn, over QUIC first, and over TCP where
/// QUIC has not answered within a second. At most [`MAX_ADDRESSES`] are tried, in half a minute.
///
/// A gateway that has no room, or cannot reach the authority, closes the stream: that is an error of the first read or write.
///
/// # Errors
/// [`DialError`] names each address and what became of it.
pub async fn dial(
    addresses: &[GatewayAddress],
) -> Result<impl AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + use<>, DialError> {
    let deadline = Instant::now() + MOST;
    let mut tried = Vec::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let why = match timeout_at(deadline, transport::knock(address.0)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "there was no time left for it".to_owned(),
        };
        tried.push((*address, why));
    }
    Err(DialError { tried })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_with_what_became_of_it() {
        let address = |text: &str| GatewayAddress(text.parse().unwrap());
        let tried = vec![
            (address("192.0.2.1:4500"), "over QUIC: timed out".to_owned()),
            (address("[2001:db8::1]:4500"), "no route to host".to_owned()),
        ];
        let told = DialError { tried }.to_string();
        assert_eq!(
            told,
            "no gateway of the hub can be reached: 192.0.2.1:4500: over QUIC: timed out; [2001:db8::1]:4500: no route to host"
        );
    }
}
