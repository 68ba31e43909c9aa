//! What becomes of members after they have joined: they leave, are removed or revoked, are drained and come back.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`parting`] | what does the hub have of a member, and in which order does it go? |
//! | [`hub`] | takes it away there |
//! | [`leaving`], [`member`] | how does a member go of its own accord? |
//! | [`shown`] | what are people and programs told? |

pub(crate) mod hub;
pub(crate) mod leaving;
pub(crate) mod member;
pub(crate) mod parting;
pub(crate) mod shown;
