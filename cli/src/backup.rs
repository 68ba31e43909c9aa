//! What a set cannot do without, taken from its hub and brought back to one: the root and its key, who is a member and of which
//! generation, who has left. Exports are not in it: each member writes its own again.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`sealed`] | how does it lie in a file, so that nobody reads it without its passphrase? |
//! | [`state`] | which objects are it, and what becomes of them in another hub? |
//! | [`hub`] | reads and writes them |

pub(crate) mod hub;
pub(crate) mod sealed;
pub(crate) mod state;
