//! Real components over the embedded Kubernetes API, on real sockets.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`calls`] | calls over the whole path: headless endpoints of another network, pods of the same one |
//! | [`controller`] | controllers over two members and a hub: export, import, restarts, an absent hub |
//! | [`headless`] | endpoints of a headless service in the other member: addresses, numbers, restarts, the end |
//! | [`life`] | controllers and gateways that die: who takes over, what is withdrawn, how few writes that costs |
//! | [`support`] | starts clusters on addresses of their own, waits, shows the state when a wait is in vain |
//! | [`watch`] | `landbridge_api::watch` against malformed objects, pages, 410, and an API that goes and returns |

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod controller;
mod headless;
mod leaving;
mod life;
mod support;
mod watch;
