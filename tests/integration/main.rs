//! Real components over the embedded Kubernetes API, on real sockets.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`battery`], [`world`] | the Multi-Cluster Services API: the same cases as on real API servers |
//! | [`calls`] | calls over the whole path: headless endpoints of another network, pods of the same one |
//! | [`controller`] | controllers and gateways that answer them; objects that no API would have taken |
//! | [`leaving`] | a member that is removed and comes back, byte for byte |
//! | [`revoked`] | a member that is revoked: how soon it calls and is called no more, and with what it does not come back |
//! | [`life`] | gateways that die: what is withdrawn, how few writes that costs; an address range that is full |
//! | [`membership`] | rotation, revocation and a hub that is away, under load: not one call fails |
//! | [`soak`] | a gateway's day, squeezed: churn of everything under load, nothing stuck, misled or left over |
//! | [`support`] | starts clusters on addresses of their own, waits, shows the state when a wait is in vain |
//! | [`watch`] | `landbridge_api::watch` against malformed objects, pages, 410, and an API that goes and returns |

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../battery/mod.rs"]
mod battery;
mod calls;
mod controller;
mod leaving;
mod life;
mod membership;
mod revoked;
mod soak;
mod support;
mod watch;
mod world;

/// An embedded API for the battery of tokens.
struct Embedded(support::Running);

impl Embedded {
    async fn start() -> Self {
        let [running] = support::start(["hub"]).await;
        Self(running)
    }

    fn client(&self) -> kube::Client {
        self.0.client.clone()
    }
}

battery::battery!(embedded, crate::world::start);
battery::tokens::tokens!(tokens_embedded, crate::Embedded::start);
