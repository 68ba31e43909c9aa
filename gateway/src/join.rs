//! How clusters come into a set: what a token says, what the hub keeps of it, and the root that the hub signs with.
//!
//! ```text
//! hub, namespace landbridge-trust                      the new member
//!   Secret landbridge-root         root and its key
//!   Secret landbridge-token-<id>   hash, end, use  ◄── Token: addresses, root's fingerprint, secret
//!   Secret landbridge-left-<cluster>  generation of one that is a member no more
//! ```
//!
//! The namespace is the trust's own: nothing runs there, so that no pod can mount what it holds. The authority of the set,
//! `landbridge authority` in the hub's cluster, reads it, and no other role of ours. Its Secrets are as safe as the hub's
//! API server keeps Secrets: by its roles, and on disk where it encrypts them.

pub mod authority;
mod dial;
mod left;
pub mod message;
pub mod record;
pub mod rotation;
pub mod token;
mod tokens;
pub mod trust;

pub use dial::{DialError, dial};
pub use left::Left;
pub use tokens::{Listed, MAX_TOKENS, StoreError, Tokens};
